"""One serving process: a gateway behind its door, with reload on SIGHUP or a changed file, and drain on SIGTERM."""

from __future__ import annotations

import asyncio
import logging
import signal
import socket
import sys
from collections.abc import Callable
from pathlib import Path

from dujiang.admission.meters import Cell
from dujiang.config import Config, ConfigInvalid, load_config
from dujiang.server.app import Gateway
from dujiang.server.http_protocol import HttpServerProtocol
from dujiang.server.logs import set_up_logs

log = logging.getLogger("dujiang.server")

_FILE_LOOK_S = 1.0


class Worker:
    """Serves on a socket until it is told to stop."""

    def __init__(
        self,
        config: Config,
        config_path: Path | None,
        *,
        cell_for: Callable[[str], Cell] | None = None,
        number: int = 0,
        count: int = 1,
    ) -> None:
        self.config_path = config_path
        self.gateway = Gateway(config, cell_for=cell_for, worker=number, workers=count)
        self._watches_file = count == 1 and config.server.reload and config_path is not None
        self._stopping = asyncio.Event()

    async def serve(self, listener: socket.socket, ready: Callable[[], None] | None = None) -> None:
        """Serve until `stop` or SIGTERM; every record is written when this returns."""
        gateway = self.gateway
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self.stop)
        loop.add_signal_handler(signal.SIGHUP, self.reload)
        gateway.start()
        door = gateway.door
        server = await loop.create_server(lambda: HttpServerProtocol(door), sock=listener, backlog=2048)
        watching = loop.create_task(self._watch_file()) if self._watches_file else None
        if ready is not None:
            ready()
        try:
            await self._stopping.wait()
            log.info("draining")
            server.close()
            await gateway.drain(gateway.config.server.drain_timeout)
        finally:
            if watching is not None:
                watching.cancel()
            await door.close()
            await gateway.close()
        log.info("stopped")

    def stop(self) -> None:
        """Begin to drain; `serve` returns when that is done."""
        self._stopping.set()

    def reload(self) -> bool:
        """Load the configuration again; a bad one is refused, logged, and the old one stays."""
        if self.config_path is None:
            return False
        try:
            self.gateway.reload(load_config(self.config_path))
        except (ConfigInvalid, ValueError, OSError) as error:
            log.error("the new configuration is refused; the old one stays", extra={"problems": str(error).split("\n")})
            return False
        log.info("configuration reloaded")
        return True

    async def _watch_file(self) -> None:
        seen = file_state(self.config_path)
        while True:
            await asyncio.sleep(_FILE_LOOK_S)
            state = file_state(self.config_path)
            if state != seen:
                seen = state
                self.reload()


def file_state(path: Path | None) -> tuple[int, int] | None:
    """Return what changes when a file is written."""
    try:
        stat = path.stat() if path is not None else None
    except OSError:
        return None
    return (stat.st_mtime_ns, stat.st_size) if stat else None


def listen(host: str, port: int, *, shared: bool) -> socket.socket:
    """Return a listening socket; `shared` lets further processes listen on the same address."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    if shared:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    try:
        listener.bind((host, port))
    except OSError:
        listener.close()
        raise
    listener.set_inheritable(True)
    return listener


def run_worker(
    config: Config,
    config_path: Path | None,
    listener: socket.socket,
    *,
    cell_for: Callable[[str], Cell] | None = None,
    number: int = 0,
    count: int = 1,
    ready: Callable[[], None] | None = None,
    attach: Callable[[Gateway], None] | None = None,
) -> None:
    """Serve in this process until SIGTERM."""
    set_up_logs(config.telemetry.log_level)

    async def main() -> None:
        worker = Worker(config, config_path, cell_for=cell_for, number=number, count=count)
        if attach is not None:
            attach(worker.gateway)
        await worker.serve(listener, ready)

    if sys.platform == "win32":
        asyncio.run(main())
        return
    import uvloop

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(main())
