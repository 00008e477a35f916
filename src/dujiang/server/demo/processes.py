"""The two servers of the demo as processes of their own: started, awaited until ready, always stopped."""

from __future__ import annotations

import asyncio
import signal
import socket
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

COMMAND = (sys.executable, "-m", "dujiang")
START_WITHIN_S = 20.0
STOP_WITHIN_S = 3.0
_LOG_SHOWN = 1500


class ChildFailed(Exception):
    """A server of the demo does not run although it should; carries its name and the end of its output."""

    def __init__(self, name: str, log: str) -> None:
        super().__init__(f"{name} does not run:\n{log}")
        self.name = name
        self.log = log


@dataclass(frozen=True, slots=True)
class Address:
    """Where a server of the demo listens."""

    host: str
    port: int

    @property
    def url(self) -> str:
        """Return the root of its URLs."""
        return f"http://{self.host}:{self.port}"


def free_address() -> Address:
    """Return a loopback address nobody listens on at the moment."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return Address("127.0.0.1", probe.getsockname()[1])


@asynccontextmanager
async def running(
    name: str, arguments: list[str], address: Address, ready_path: str, log: Path, env: Mapping[str, str]
) -> AsyncIterator[None]:
    """Run `dujiang ARGUMENTS` while the block lasts; it is entered when `ready_path` answers 200.

    Raises ChildFailed when the process stays silent for 20 s, or ends before the block does.
    """
    with log.open("wb") as output:
        # A session of its own: a Ctrl-C in the terminal is ours alone, and we stop the child in order.
        process = await asyncio.create_subprocess_exec(
            *COMMAND,
            *arguments,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            env=env,
            start_new_session=True,
        )
    try:
        if not await _ready(process, address, ready_path):
            raise ChildFailed(name, await _last_words(log))
        try:
            yield
        except Exception as error:
            if await _has_ended(process):
                raise ChildFailed(name, await _last_words(log)) from error
            raise
        if await _has_ended(process):
            raise ChildFailed(name, await _last_words(log))
    finally:
        await _stop(process)


async def _ready(process: asyncio.subprocess.Process, address: Address, path: str) -> bool:
    """Return whether the process answers in time."""
    try:
        async with asyncio.timeout(START_WITHIN_S):
            while process.returncode is None:
                try:
                    await get(address, path)
                    return True
                except (OSError, EOFError, ValueError):
                    await asyncio.sleep(0.05)
    except TimeoutError:
        pass
    return False


async def _has_ended(process: asyncio.subprocess.Process) -> bool:
    try:
        # The news of an end takes a moment to arrive.
        async with asyncio.timeout(0.05):
            await process.wait()
    except TimeoutError:
        return False
    return True


async def _last_words(log: Path) -> str:
    words = await asyncio.to_thread(log.read_text, "utf-8", "replace")
    return words[-_LOG_SHOWN:]


async def _stop(process: asyncio.subprocess.Process) -> None:
    """Stop a child by its id: politely, then not; a second Ctrl-C leaves none behind either."""
    if process.returncode is not None:
        return
    process.send_signal(signal.SIGTERM)
    try:
        async with asyncio.timeout(STOP_WITHIN_S):
            await process.wait()
    except (TimeoutError, asyncio.CancelledError) as stopped:
        process.kill()
        await process.wait()
        if isinstance(stopped, asyncio.CancelledError):
            raise


async def get(address: Address, path: str) -> bytes:
    """Return the body at a path of a local server, over a connection of its own.

    Raises OSError or EOFError when nobody answers, ValueError when the status is not 200.
    """
    reader, writer = await asyncio.open_connection(address.host, address.port)
    try:
        # HTTP/1.0: one answer, neither chunked nor kept alive.
        writer.write(f"GET {path} HTTP/1.0\r\nhost: {address.host}\r\n\r\n".encode())
        await writer.drain()
        head = await reader.readuntil(b"\r\n\r\n")
        body = await reader.read()
    finally:
        writer.close()
    status_line = head.partition(b"\r\n")[0]
    if status_line.split()[1:2] != [b"200"]:
        raise ValueError(f"{path} answered {status_line!r}")
    return body
