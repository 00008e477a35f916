"""A gateway in processes of its own, as `dujiang serve` starts it, with everything a test may want to know of it."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import sqlite3
import sys
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any

import psutil
import yaml

from dujiang.clock import SECOND, SystemClock
from dujiang.vendors.http_client import HttpClient, HttpResponse, Origin, Timeouts

BODY = json.dumps({"model": "assistant", "messages": [{"role": "user", "content": "hello"}], "max_tokens": 12}).encode()
STREAM = json.dumps({**json.loads(BODY), "stream": True, "model": "slow"}).encode()
TIMEOUTS = Timeouts(5 * SECOND, 30 * SECOND, 30 * SECOND, 60 * SECOND)


class ServingProcess:
    """A running `dujiang serve`."""

    def __init__(self, process: asyncio.subprocess.Process, folder: Path, config: Path, port: int) -> None:
        self.process = process
        self.folder = folder
        self.config = config
        self.port = port
        self.log: list[dict[str, Any]] = []
        self.origin = Origin(f"http://127.0.0.1:{port}")
        self.client = HttpClient(SystemClock())

    def workers(self) -> list[psutil.Process]:
        """Return the worker processes of a supervisor."""
        found = psutil.Process(self.process.pid).children()
        return [one for one in found if "dujiang.server.worker_process" in " ".join(_command_line(one))]

    def worker_of(self, response: HttpResponse) -> int | None:
        """Return the process id of the worker at the other end of an answer's connection."""
        local = response._connection.transport.get_extra_info("sockname")[1]
        for worker in self.workers():
            if any(one.raddr and one.raddr[1] == local for one in worker.net_connections(kind="tcp")):
                return worker.pid
        return None

    async def call(self, key: str, body: bytes = BODY, client: HttpClient | None = None) -> tuple[int, bytes]:
        """Send a call and return status and body."""
        response = await self.begin(key, body, client)
        return response.status, await response.whole()

    async def begin(self, key: str, body: bytes = BODY, client: HttpClient | None = None) -> HttpResponse:
        """Send a call and return the answer when its head is there."""
        head = (
            f"POST /v1/chat/completions HTTP/1.1\r\nhost: gateway\r\nauthorization: Bearer {key}\r\n"
            f"content-type: application/json\r\ncontent-length: {len(body)}\r\n\r\n"
        )
        return await (client or self.client).send(self.origin, (head.encode(), b"", body), TIMEOUTS)

    def write_config(self, config: Mapping[str, Any]) -> None:
        """Replace the configuration at once, as editors do."""
        draft = self.config.with_suffix(".draft")
        draft.write_text(yaml.safe_dump(dict(config)))
        draft.replace(self.config)

    def records(self) -> list[dict[str, Any]]:
        """Return the records that are written."""
        with contextlib.closing(sqlite3.connect(self.folder / "dujiang.db")) as database:
            database.row_factory = sqlite3.Row
            rows = database.execute("SELECT * FROM records ORDER BY at").fetchall()
        return [dict(row) | json.loads(row["detail"]) for row in rows]

    async def logged(self, event: str, within_s: float = 10) -> dict[str, Any]:
        """Wait for a line of the log."""
        async with asyncio.timeout(within_s):
            while True:
                for line in self.log:
                    if event in line.get("event", ""):
                        return line
                await asyncio.sleep(0.01)

    async def stop(self, within_s: float = 20) -> int:
        """Send SIGTERM and return the exit code."""
        if self.process.returncode is None:
            self.process.send_signal(signal.SIGTERM)
        async with asyncio.timeout(within_s):
            return await self.process.wait()


@contextlib.asynccontextmanager
async def serving_process(config: Mapping[str, Any], folder: Path) -> AsyncIterator[ServingProcess]:
    """Serve a configuration in processes of its own; at the end none of them is left."""
    path = folder / "dujiang.yaml"
    path.write_text(yaml.safe_dump(dict(config)))
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "dujiang", "serve", "--config", str(path),
        cwd=folder, stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.PIPE, env={**os.environ, "LANG": "C"},
    )  # fmt: skip
    assert process.stderr is not None
    log: list[dict[str, Any]] = []
    port: asyncio.Future[int] = asyncio.get_running_loop().create_future()
    reading = asyncio.get_running_loop().create_task(_read(process.stderr, log, port))
    children: list[psutil.Process] = []
    try:
        async with asyncio.timeout(20):
            serving = ServingProcess(process, folder, path, await port)
            serving.log = log
            while not await _answers(serving, config.get("server", {}).get("workers", 1)):
                await asyncio.sleep(0.02)
        yield serving
        if process.returncode is None:
            children = psutil.Process(process.pid).children(recursive=True)
        assert await serving.stop() in (0, -signal.SIGKILL), log
        serving.client.close()
    finally:
        if process.returncode is None:
            children = psutil.Process(process.pid).children(recursive=True)
            process.kill()
            await process.wait()
        for child in children:
            with contextlib.suppress(psutil.NoSuchProcess):
                child.kill()
        reading.cancel()
        await asyncio.gather(reading, return_exceptions=True)


async def _answers(serving: ServingProcess, workers: int) -> bool:
    """Return whether every worker serves."""
    if workers > 1:
        listening = [
            worker.pid
            for worker in serving.workers()
            if any(one.status == psutil.CONN_LISTEN for one in worker.net_connections(kind="tcp"))
        ]
        return len(listening) == workers
    try:
        _, writer = await asyncio.open_connection("127.0.0.1", serving.port)
    except OSError:
        return False
    writer.close()
    return True


async def _read(stream: asyncio.StreamReader, log: list[dict[str, Any]], port: asyncio.Future[int]) -> None:
    while line := (await stream.readline()).decode():
        if line.startswith("Dujiang listens on ") and not port.done():
            port.set_result(int(line.split(":")[2].split("/")[0]))
        with contextlib.suppress(json.JSONDecodeError):
            log.append(json.loads(line))
            continue
        log.append({"event": line.rstrip()})


def _command_line(process: psutil.Process) -> list[str]:
    with contextlib.suppress(psutil.NoSuchProcess, psutil.ZombieProcess):
        return process.cmdline()
    return []
