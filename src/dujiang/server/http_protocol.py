"""The door at the level of bytes: an HTTP/1.1 server protocol around the httptools parser, with every bound in place.

A head must come in time and stay small, a body may not pause for ever, a client must read what it asked for, and
a client that goes away cancels the call it made at once. It hands requests on without a framework between:
that costs 15 µs less a call than uvicorn's ASGI cycle, which is as much as all policies together.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Awaitable, Callable
from email.utils import formatdate
from typing import Any, cast

import httptools
import msgspec

from dujiang.clock import SECOND, Clock
from dujiang.config.schema import ServerSection
from dujiang.errors import InvalidRequest, RequestTimeout
from dujiang.server.http_request import STATUS_LINES, HttpRequest, new_request_id

_LINE_MAX = 32
"""Requests that may wait behind one another on a connection."""
_DISCARD_S = 2.0
_IDLE, _HEAD, _BODY, _BUSY = range(4)

log = logging.getLogger("dujiang.server")

Handler = Callable[[HttpRequest], Awaitable[None]]


class ServerDoor:
    """What all connections share: who handles requests, the bounds, and the connections themselves."""

    def __init__(self, handler: Handler, bounds: ServerSection, clock: Clock) -> None:
        self.handler = handler
        self.bounds = bounds
        self.clock = clock
        self.connections: set[HttpServerProtocol] = set()
        self.tasks: set[asyncio.Task[None]] = set()
        self.closing = False
        self._date_second = 0
        self._date_line = b""

    def date_line(self) -> bytes:
        """Return the date header, made once a second."""
        second = self.clock.wall() // SECOND
        if second != self._date_second:
            self._date_second = second
            self._date_line = f"date: {formatdate(second, usegmt=True)}\r\n".encode()
        return self._date_line

    def close_idle(self) -> None:
        """Close connections that wait for a request, now and from now on."""
        self.closing = True
        for connection in list(self.connections):
            connection.close_if_idle()

    async def close(self) -> None:
        """Drop every connection; calls still under way are cancelled."""
        for connection in list(self.connections):
            connection.transport.abort()
        while self.tasks:
            await asyncio.wait(self.tasks)


class HttpServerProtocol(asyncio.Protocol):
    """One client connection; requests on it are handled one after the other."""

    def __init__(self, door: ServerDoor) -> None:
        self.door = door
        self.transport: asyncio.Transport = cast("asyncio.Transport", None)
        self.write_paused: asyncio.Future[None] | None = None
        self.on_ready: Callable[[], None] | None = None
        self._loop = asyncio.get_running_loop()
        self._parser: Any = httptools.HttpRequestParser(self)
        self._headers: dict[bytes, bytes] = {}
        self._url = b""
        self._incoming: HttpRequest | None = None
        self._current: HttpRequest | None = None
        self._task: asyncio.Task[None] | None = None
        self._line: deque[HttpRequest] = deque()
        self._phase = _IDLE
        self._deadline = 0
        self._watch_at = 0
        self._head_bytes = 0
        self._head_size = 0
        self._watch: asyncio.TimerHandle | None = None
        self._write_watch: asyncio.TimerHandle | None = None
        self._refused = False

    # What asyncio calls.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)
        door = self.door
        door.connections.add(self)
        self._expect(_IDLE, door.bounds.header_timeout)
        if len(door.connections) > door.bounds.max_connections or door.closing:
            self._refuse(503, "overloaded", "Too many connections are open.")

    def connection_lost(self, exc: Exception | None) -> None:
        self.door.connections.discard(self)
        for timer in (self._watch, self._write_watch):
            if timer is not None:
                timer.cancel()
        self._watch = self._write_watch = None
        self._line.clear()
        if self._incoming is not None:
            self._incoming.fail(RequestTimeout("The connection was closed before the whole body came."))
        if self._task is not None:
            self._task.cancel()
        self.resume_writing()
        # The parser calls back into this object: let neither keep the other.
        self._parser = None

    def data_received(self, data: bytes) -> None:
        if self._refused:
            return
        before = self._phase
        if before == _IDLE:
            self._head_bytes = len(data)
        elif before == _HEAD:
            self._head_bytes += len(data)
        try:
            self._feed(data)
        except httptools.HttpParserError:
            self._refuse(400, "bad_request", "This is not a valid HTTP/1.1 request.")
            return
        # A request that came whole in one packet, as most do, is never waited for.
        if self._phase == _HEAD:
            if self._head_bytes > self.door.bounds.max_header:
                self._refuse_head()
            elif before != _HEAD:
                self._expect(_HEAD, self.door.bounds.header_timeout)
        elif self._phase == _BODY:
            self._expect(_BODY, self.door.bounds.body_timeout)

    def _feed(self, data: bytes) -> None:
        while True:
            try:
                self._parser.feed_data(data)
            except httptools.HttpParserUpgrade as upgrade:
                if self._refused or self._parser.get_method() == b"CONNECT":
                    raise httptools.HttpParserInvalidMethodError from None
                data = self._without_offer() + data[upgrade.args[0] :]
            else:
                return

    def _without_offer(self) -> bytes:
        """Return the head of a request that offers another protocol (h2c, websocket), without the offer.

        Nobody need take such an offer, but the parser stops at it before the body.
        """
        method = self._parser.get_method()
        keep_alive = b"close" not in self._headers.get(b"connection", b"").lower()
        self._headers[b"connection"] = b"keep-alive" if keep_alive else b"close"
        lines = [b"%b: %b\r\n" % header for header in self._headers.items() if header[0] != b"upgrade"]
        self._parser = httptools.HttpRequestParser(self)
        return b"%b %b HTTP/1.1\r\n%b\r\n" % (method, self._url, b"".join(lines))

    def eof_received(self) -> bool:
        return False

    def pause_writing(self) -> None:
        self.write_paused = self._loop.create_future()
        self._write_watch = self._loop.call_later(self.door.bounds.write_timeout / SECOND, self.transport.abort)

    def resume_writing(self) -> None:
        waiter, self.write_paused = self.write_paused, None
        if waiter is not None and not waiter.done():
            waiter.set_result(None)
        callback, self.on_ready = self.on_ready, None
        if callback is not None and not self.transport.is_closing():
            callback()
        if self._write_watch is not None:
            self._write_watch.cancel()
            self._write_watch = None

    # What httptools calls.

    def on_message_begin(self) -> None:
        self._url = b""
        self._headers = {}
        self._head_size = 0
        self._phase = _HEAD

    def on_url(self, url: bytes) -> None:
        self._url += url

    def on_header(self, name: bytes, value: bytes) -> None:
        if self._phase != _HEAD:
            return  # trailers: nobody asked for them, and they must not change the head
        name = name.lower()
        if name == b"host" and name in self._headers:
            raise ValueError("two Host headers")
        self._head_size += len(name) + len(value) + 4
        self._headers[name] = value

    def on_headers_complete(self) -> None:
        # Bytes were counted by packets; what came along of a body or of the next request is taken off again here.
        self._head_bytes = len(self._url) + self._head_size
        if self._head_bytes > self.door.bounds.max_header:
            self._refuse_head()
            return
        parser = self._parser
        if parser.should_upgrade():
            return  # `_without_offer` has the head read again
        request = self._incoming = HttpRequest(self, self._headers)
        request.method = parser.get_method()
        request.url, _, request.query = self._url.partition(b"?")
        request.keep_alive = parser.should_keep_alive()
        request.takes_chunks = parser.get_http_version() != "1.0"
        self._phase = _BODY
        if b"host" not in self._headers and request.takes_chunks:
            self._refuse(400, "bad_request", "The request has no Host header.")
        elif self._current is None:
            self._start(request)
        elif len(self._line) < _LINE_MAX:
            self._line.append(request)
            self.transport.pause_reading()
        else:
            self._refuse(400, "bad_request", "Too many requests wait behind one another on this connection.")

    def on_body(self, body: bytes) -> None:
        if self._incoming is not None and not self._refused:
            self._incoming.add(body)

    def on_message_complete(self) -> None:
        request, self._incoming = self._incoming, None
        if request is not None:
            self._phase = _BUSY
            request.complete()

    # Requests, one after the other.

    def finished(self, request: HttpRequest) -> None:
        """Take note that an answer has been written."""
        if not request.keep_alive:
            self._refused = True
            if request.is_complete:
                self.transport.close()
            else:
                self._discard()

    def close_if_idle(self) -> None:
        """Close unless a request is being read or answered."""
        if self._phase == _IDLE:
            self.transport.close()

    def _start(self, request: HttpRequest) -> None:
        self._current = request
        self._task = task = self._loop.create_task(self._handle(request))
        self.door.tasks.add(task)

    async def _handle(self, request: HttpRequest) -> None:
        task = self._task
        try:
            await self.door.handler(request)
        except asyncio.CancelledError:
            # The connection is gone; whoever handled the request has cleared up on the way out.
            pass
        except Exception:
            log.exception("a request failed inside the gateway", extra={"request_id": request.request_id})
            self._current = None if not request.begun else request
            self._refuse(500, "internal_error", "Something went wrong inside the gateway.")
        finally:
            if task is not None:
                self.door.tasks.discard(task)
            self._task = self._current = None
            self._next()

    def _next(self) -> None:
        if self._refused or self.transport.is_closing():
            return
        if self._line:
            request = self._line.popleft()
            if not self._line:
                self.transport.resume_reading()
            self._start(request)
        elif self._phase == _BUSY:
            self._expect(_IDLE, self.door.bounds.keep_alive)
            if self.door.closing:
                self.transport.close()

    # Time.

    def _expect(self, phase: int, timeout_ns: int) -> None:
        """Enter a phase that must end in time. One timer serves all phases; it re-arms itself."""
        self._phase = phase
        self._deadline = self.door.clock.now() + timeout_ns
        if self._watch is None or self._deadline < self._watch_at:
            if self._watch is not None:
                self._watch.cancel()
            self._watch_at = self._deadline
            self._watch = self._loop.call_later(timeout_ns / SECOND, self._on_watch)

    def _on_watch(self) -> None:
        self._watch = None
        if self.transport.is_closing() or self._phase == _BUSY:
            return
        now = self.door.clock.now()
        if now < self._deadline:
            self._watch_at = self._deadline
            self._watch = self._loop.call_later((self._deadline - now) / SECOND + 0.001, self._on_watch)
        elif self._phase == _IDLE:
            self.transport.close()
        elif self._phase == _HEAD:
            self._refuse(408, "request_timeout", "The request head did not arrive in time.")
        elif self._incoming is not None:
            self._incoming.fail(RequestTimeout())

    # Refusals at the level of HTTP.

    def _refuse_head(self) -> None:
        most = self.door.bounds.max_header
        self._refuse(431, "headers_too_large", f"The request head is larger than {most} bytes.")

    def _refuse(self, status: int, code: str, message: str) -> None:
        """Answer what is no proper request, and close; a call that is being answered is cut off."""
        if self._refused or self.transport.is_closing():
            return
        self._refused = True
        current = self._current
        if current is not None:
            if current is self._incoming and not current.begun:
                failure = InvalidRequest(message)
                failure.status, failure.code = status, code
                current.fail(failure)
            else:
                self.transport.abort()
            return
        error = {"message": message, "type": "invalid_request_error", "param": None, "code": code}
        body = msgspec.json.encode({"error": error})
        head = (
            b"content-type: application/json\r\nx-request-id: %b\r\ncontent-length: %d\r\nconnection: close\r\n\r\n"
            % (
                new_request_id(self.door.clock.wall()).encode(),
                len(body),
            )
        )
        self.transport.write(STATUS_LINES[status] + self.door.date_line() + head + body)
        self._discard()

    def _discard(self) -> None:
        """Close so that the answer is still read: say that we are done, and throw away what comes for a moment."""
        self._refused = True
        if self._watch is not None:
            self._watch.cancel()
        try:
            self.transport.write_eof()
        except (OSError, RuntimeError, NotImplementedError):
            self.transport.close()
            return
        self._watch = self._loop.call_later(_DISCARD_S, self.transport.abort)
