"""One HTTP/1.1 connection to a vendor: an asyncio protocol around the httptools parser.

It carries one request at a time. A reader that is slow makes it stop reading from the socket, so its buffer is
bounded. One timer per connection, not per call, watches all phases: it is re-armed when it fires too early.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, cast

import httptools

from dujiang.clock import SECOND, Clock, Instant
from dujiang.vendors.transport_errors import (
    ConnectionBroken,
    FirstByteTimeout,
    MalformedResponse,
    ReadTimeout,
    TransportError,
)

_BUFFER_HIGH = 256 * 1024
_BUFFER_LOW = 64 * 1024
_HEAD_BYTES_MAX = 256 * 1024


class Timeouts:
    """How long each phase may take, in nanoseconds."""

    __slots__ = ("between_bytes_ns", "connect_ns", "first_byte_ns", "total_ns")

    def __init__(self, connect_ns: int, first_byte_ns: int, between_bytes_ns: int, total_ns: int) -> None:
        self.connect_ns = connect_ns
        self.first_byte_ns = first_byte_ns
        self.between_bytes_ns = between_bytes_ns
        self.total_ns = total_ns


class HttpConnection(asyncio.Protocol):
    """A connection that is idle, or in the middle of one exchange."""

    def __init__(self, clock: Clock, idle_ns: int) -> None:
        self.transport: asyncio.Transport = cast("asyncio.Transport", None)
        self.used = 0
        """Exchanges begun on this connection."""
        self._clock = clock
        self._idle_ns = idle_ns
        self._loop = asyncio.get_running_loop()
        self._parser: Any = None
        self._timer: asyncio.TimerHandle | None = None
        self._timer_at = 0
        self._deadline = 0
        self._waiter: asyncio.Future[None] | None = None
        self._closed = False
        self._write_paused = False
        self._timeouts: Timeouts | None = None
        self._reset()

    def _reset(self) -> None:
        self.status = 0
        self.headers: list[tuple[bytes, bytes]] = []
        self.first_byte_at: Instant | None = None
        self._head_done = False
        self._done = False
        self._error: TransportError | None = None
        self._body: list[bytes] = []
        self._buffered = 0
        self._head_bytes = 0
        self._paused = False
        self._wants_all = False
        self._sink: Callable[[bytes], bool] | None = None
        self._all_limit = 0
        self._total_at = 0

    # What the client calls.

    def start(self, pieces: tuple[bytes, ...], timeouts: Timeouts) -> None:
        """Send a request; the answer is awaited with `head`, `whole` and `read`."""
        self._reset()
        self.used += 1
        self._parser = httptools.HttpResponseParser(self)
        self._timeouts = timeouts
        now = self._clock.now()
        self._total_at = now + timeouts.total_ns
        self._watch(min(now + timeouts.first_byte_ns, self._total_at))
        self.transport.write(b"".join(pieces) if len(pieces[-1]) < 65536 else pieces[0])
        if len(pieces[-1]) >= 65536:
            for piece in pieces[1:]:
                self.transport.write(piece)

    async def head(self) -> None:
        """Wait for status and headers; raises TransportError."""
        while not self._head_done:
            await self._wait()

    async def whole(self, limit: int) -> bytes:
        """Wait for the complete body of at most `limit` bytes; raises TransportError."""
        self._wants_all = True
        self._all_limit = limit
        if self._paused:
            self._resume()
        while not self._done:
            await self._wait()
        body = b"".join(self._body)
        self._body.clear()
        return body

    async def read(self) -> bytes:
        """Wait for the next piece of the body; empty at its end; raises TransportError."""
        while not self._body:
            if self._done:
                return b""
            await self._wait()
        piece = self._body[0] if len(self._body) == 1 else b"".join(self._body)
        self._body.clear()
        self._buffered = 0
        if self._paused:
            self._resume()
        return piece

    async def relay(self, sink: Callable[[bytes], bool]) -> None:
        """Give every piece of the body to `sink` as it comes, until its end; raises TransportError.

        Nobody is woken for a piece. When `sink` returns False, nothing more is read until `resume`.
        """
        self._sink = sink
        try:
            self._feed_sink()
            while not self._done:
                await self._wait()
        finally:
            self._sink = None
            # Whoever reads the rest, without a sink, must not wait for what nobody reads from the socket.
            self.resume()

    def resume(self) -> None:
        """Read on, after a sink had enough for a while."""
        if self._paused:
            self._resume()

    @property
    def reusable(self) -> bool:
        """Return whether the exchange is complete and the connection fit for another."""
        return self._done and not self._closed and self._keep_alive

    @property
    def is_open(self) -> bool:
        """Return whether the other side has not closed it."""
        return not self._closed and not self.transport.is_closing()

    def park(self) -> None:
        """Become idle; an idle connection closes itself after a while."""
        if self._paused:
            self._paused = False
            self.transport.resume_reading()
        self._watch(self._clock.now() + self._idle_ns)

    def abort(self) -> None:
        """Drop the connection, whatever it is doing."""
        self._closed = True
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self.transport is not None:
            self.transport.abort()

    async def _wait(self) -> None:
        if self._error is not None:
            raise self._error
        self._waiter = self._loop.create_future()
        try:
            await self._waiter
        finally:
            self._waiter = None
        if self._error is not None:
            raise self._error

    def _notify(self) -> None:
        waiter = self._waiter
        if waiter is not None and not waiter.done():
            waiter.set_result(None)

    def _fail(self, error: TransportError) -> None:
        if self._error is None and not self._done:
            self._error = error
            self._notify()

    def _break(self, message: str) -> None:
        """Go no further with this connection; an answer that was complete before stays one."""
        self._fail(MalformedResponse(message, sent=True))
        self.abort()

    # The one timer.

    def _watch(self, deadline: int) -> None:
        self._deadline = deadline
        if self._timer is None or deadline < self._timer_at:
            if self._timer is not None:
                self._timer.cancel()
            self._arm(deadline)

    def _arm(self, deadline: int) -> None:
        self._timer_at = deadline
        delay_s = max(deadline - self._clock.now(), 0) / SECOND + 0.0005
        self._timer = self._loop.call_later(delay_s, self._on_timer)

    def _on_timer(self) -> None:
        self._timer = None
        if self._closed:
            return
        if self._clock.now() < self._deadline:
            self._arm(self._deadline)
            return
        if self._done or self.used == 0:
            self.abort()
            return
        if self._paused:
            # We are the slow one, not the vendor; only the limit on the whole answer holds.
            now = self._clock.now()
            if now < self._total_at:
                self._watch(self._total_at)
                return
        error = FirstByteTimeout if self.first_byte_at is None else ReadTimeout
        self._fail(error("the vendor did not answer in time", sent=True))
        self.abort()

    # What asyncio calls.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        if self._parser is None or self._done:
            # Bytes nobody asked for: whatever they are, the next answer must not begin with them.
            self.abort()
            return
        now = self._clock.now()
        if self.first_byte_at is None:
            self.first_byte_at = now
        timeouts = self._timeouts
        if timeouts is not None:
            self._watch(min(now + timeouts.between_bytes_ns, self._total_at))
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError as error:
            self._break(f"not an HTTP response: {type(error).__name__}")
        except httptools.HttpParserUpgrade:
            self._break("the vendor wants another protocol")
        if not self._head_done:
            # The parser keeps a line that does not end to itself; all that comes before a head is complete counts.
            self._head_bytes += len(data)
            if self._head_bytes > _HEAD_BYTES_MAX:
                self._break("the head of the answer is larger than allowed")
        if self._sink is not None:
            self._feed_sink()
            if self._done:
                self._notify()
        elif self._done or (self._head_done and not self._wants_all):
            self._notify()

    def eof_received(self) -> bool:
        parser = self._parser
        if parser is not None and self._head_done and not self._done and not self._framed:
            # A body without a length ends with the connection.
            self._done = True
            self._closed = True
            self._notify()
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        self._closed = True
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if not self._done:
            self._fail(ConnectionBroken("the vendor closed the connection", sent=True))

        # What httptools calls.
        # The parser calls back into this object: let neither keep the other.
        self._parser = None

    def on_message_begin(self) -> None:
        if self._done:
            raise ValueError("a second answer to one request")

    def on_header(self, name: bytes, value: bytes) -> None:
        self.headers.append((name.lower(), value))

    def on_headers_complete(self) -> None:
        self.status = self._parser.get_status_code()
        if 100 <= self.status < 200:
            return
        self._keep_alive = self._parser.should_keep_alive()
        names = {name for name, _ in self.headers}
        self._framed = b"content-length" in names or b"transfer-encoding" in names
        self._head_done = True

    def on_body(self, body: bytes) -> None:
        self._body.append(body)
        self._buffered += len(body)
        if self._wants_all:
            if self._buffered > self._all_limit:
                self._fail(MalformedResponse("the answer is larger than allowed", sent=True))
                self.abort()
        elif self._buffered > _BUFFER_HIGH and not self._paused:
            self._paused = True
            self.transport.pause_reading()

    def on_message_complete(self) -> None:
        if 100 <= self.status < 200:
            # An interim answer: the real one follows.
            self.headers = []
            return
        self._done = True

    def _feed_sink(self) -> None:
        sink, pieces = self._sink, self._body
        if not pieces or sink is None:
            return
        piece = pieces[0] if len(pieces) == 1 else b"".join(pieces)
        pieces.clear()
        self._buffered = 0
        if sink(piece):
            self.resume()
        elif not self._paused and not self._closed:
            self._paused = True
            self.transport.pause_reading()

    def _resume(self) -> None:
        self._paused = False
        if not self._closed:
            now = self._clock.now()
            assert self._timeouts is not None
            self._watch(min(now + self._timeouts.between_bytes_ns, self._total_at))
            self.transport.resume_reading()

    _keep_alive = False
    _framed = False
