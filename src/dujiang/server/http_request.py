"""One request as the pipeline sees it: its head, its body as it comes, and the way back to whoever sent it."""

from __future__ import annotations

import asyncio
import http
import itertools
import secrets
from collections.abc import Callable
from typing import TYPE_CHECKING

from dujiang.clock import Instant
from dujiang.errors import BodyTooLarge
from dujiang.terms import Operation, RequestId

if TYPE_CHECKING:
    from dujiang.server.http_protocol import HttpServerProtocol

STATUS_LINES = {status.value: f"HTTP/1.1 {status.value} {status.phrase}\r\n".encode() for status in http.HTTPStatus} | {
    529: b"HTTP/1.1 529 Overloaded\r\n",
    499: b"HTTP/1.1 499 Client Closed Request\r\n",
}

_ids = itertools.count()
_id_prefix = secrets.token_hex(4)


def new_request_id(wall_ns: int) -> RequestId:
    """Return an id that is unique, sorts by time and tells nothing about anybody."""
    return RequestId(f"req_{wall_ns // 1_000_000:011x}{_id_prefix}{next(_ids) & 0xFFFFFF:06x}")


class HttpRequest:
    """One request: its head is there, its body comes or has come; and the way back to whoever sent it."""

    __slots__ = (
        "_complete",
        "_connection",
        "_expects_continue",
        "_pieces",
        "_size",
        "_waiter",
        "accepted_at",
        "begun",
        "failure",
        "headers",
        "keep_alive",
        "method",
        "operation",
        "query",
        "request_id",
        "takes_chunks",
        "url",
    )

    def __init__(self, connection: HttpServerProtocol, headers: dict[bytes, bytes]) -> None:
        self._connection = connection
        self.headers = headers
        self.accepted_at: Instant = connection.door.clock.now()
        self.request_id = new_request_id(connection.door.clock.wall())
        self.method = b""
        self.url = b""
        self.query = b""
        self.operation = Operation.CHAT
        self.keep_alive = True
        self.takes_chunks = True
        """Whether the client knows chunked bodies; one of HTTP/1.0 reads a stream until the connection ends."""
        self.begun = False
        self.failure: Exception | None = None
        self._pieces: list[bytes] = []
        self._size = 0
        self._complete = False
        self._expects_continue = False
        self._waiter: asyncio.Future[None] | None = None

    async def body(self) -> bytes:
        """Return the whole body; raises BodyTooLarge, RequestTimeout, InvalidRequest."""
        if not self._complete or self.failure is not None:
            self._check_head()
            if self._expects_continue and not self._complete:
                self._write(b"HTTP/1.1 100 Continue\r\n\r\n")
            while not self._complete and self.failure is None:
                self._waiter = asyncio.get_running_loop().create_future()
                await self._waiter
            if self.failure is not None:
                raise self.failure
        return self._pieces[0] if len(self._pieces) == 1 else b"".join(self._pieces)

    @property
    def is_complete(self) -> bool:
        """Return whether the whole request has come."""
        return self._complete

    def add(self, piece: bytes) -> None:
        """Take a piece of the body; past the bound, nothing more is kept."""
        self._size += len(piece)
        if self._size > self._connection.door.bounds.max_body:
            self._pieces.clear()
            self.fail(self._too_large())
        else:
            self._pieces.append(piece)

    def complete(self) -> None:
        """Take note that the whole body has come."""
        self._complete = True
        self._notify()

    def fail(self, error: Exception) -> None:
        """Say that the body will not come, or not be taken."""
        self.failure = self.failure or error
        self._notify()

    def _notify(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    def _check_head(self) -> None:
        if int(self.headers.get(b"content-length", b"0")) > self._connection.door.bounds.max_body:
            raise self._too_large()
        self._expects_continue = self.headers.get(b"expect", b"").lower() == b"100-continue"

    def _too_large(self) -> BodyTooLarge:
        return BodyTooLarge(f"The request body is larger than {self._connection.door.bounds.max_body} bytes.")

    # The way back.

    async def answer(self, status: int, lines: bytes, body: bytes) -> None:
        """Send a whole answer at once, with these header lines."""
        connection = self._connection
        shown = b"" if self.method == b"HEAD" else body
        self._write(b"%b%bcontent-length: %d\r\n\r\n%b" % (self._head(status), lines, len(body), shown))
        if connection.write_paused is not None:
            # Whoever does not read his answer gets no other.
            await connection.write_paused
        connection.finished(self)

    async def start(self, status: int, lines: bytes) -> None:
        """Begin a streamed answer with these header lines."""
        if not self.takes_chunks:
            self.keep_alive = False
        framing = b"transfer-encoding: chunked\r\n\r\n" if self.takes_chunks else b"\r\n"
        self._write(self._head(status) + lines + framing)

    def write(self, piece: bytes) -> bool:
        """Send the next piece of a streamed answer; False: no more, please, until `when_ready` calls."""
        self._write(b"%x\r\n%b\r\n" % (len(piece), piece) if self.takes_chunks else piece)
        return self._connection.write_paused is None

    def when_ready(self, callback: Callable[[], None]) -> None:
        """Have the callback called once the client has taken what was sent."""
        self._connection.on_ready = callback

    async def finish(self) -> None:
        """End a streamed answer."""
        if self.takes_chunks:
            self._write(b"0\r\n\r\n")
        self._connection.finished(self)

    def _write(self, data: bytes) -> None:
        transport = self._connection.transport
        # Between the end of a connection and that of its call there is a moment; uvloop raises then, asyncio does not.
        if not transport.is_closing():
            transport.write(data)

    def _head(self, status: int) -> bytes:
        door = self._connection.door
        self.begun = True
        if not self._complete or door.closing:
            self.keep_alive = False
        head = (STATUS_LINES.get(status) or b"HTTP/1.1 %d \r\n" % status) + door.date_line()
        return head if self.keep_alive else head + b"connection: close\r\n"
