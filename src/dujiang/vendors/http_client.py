"""The one way out: an HTTP/1.1 client with keep-alive pools per origin, TLS, proxies and no redirects.

It exists because the outbound client decides what a proxied call costs. Its interface is small on purpose:
`send` returns an `HttpResponse`, which must be read to its end or closed.
"""

from __future__ import annotations

import asyncio
import base64
import ssl
from collections import deque
from collections.abc import Callable
from urllib.parse import unquote, urlsplit

from dujiang.clock import SECOND, Clock, Instant
from dujiang.vendors.http_connection import HttpConnection, Timeouts
from dujiang.vendors.transport_errors import ConnectFailed, ConnectionBroken, ConnectTimeout, TransportError

_IDLE_NS = 50 * SECOND
_ANSWER_BYTES_MAX = 64 * 1024 * 1024


class Origin:
    """Where a vendor is, and how it is reached."""

    __slots__ = (
        "absolute_prefix",
        "authority",
        "host",
        "max_connections",
        "port",
        "proxy",
        "proxy_authorization",
        "retired",
        "tls",
    )

    def __init__(
        self, base_url: str, *, proxy: str | None = None, ca_file: str | None = None, max_connections: int = 1000
    ) -> None:
        parts = urlsplit(base_url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ValueError(f"{base_url!r} is no http:// or https:// address")
        self.host = parts.hostname
        self.max_connections = max_connections
        self.port = parts.port or (443 if parts.scheme == "https" else 80)
        self.tls = ssl.create_default_context(cafile=ca_file) if parts.scheme == "https" else None
        self.authority = parts.netloc.rpartition("@")[2]
        self.proxy: tuple[str, int] | None = None
        self.proxy_authorization = b""
        self.absolute_prefix = b""
        self.retired = False
        """Whether a newer configuration has another in its place: what ends here is not kept for later."""
        if proxy is not None:
            self._use_proxy(proxy, parts.scheme)

    def _use_proxy(self, proxy: str, scheme: str) -> None:
        parts = urlsplit(proxy)
        if not parts.hostname:
            raise ValueError(f"{proxy!r} names no proxy host")
        self.proxy = (parts.hostname, parts.port or 3128)
        if parts.username:
            secret = f"{unquote(parts.username)}:{unquote(parts.password or '')}".encode()
            self.proxy_authorization = b"proxy-authorization: Basic " + base64.b64encode(secret) + b"\r\n"
        if scheme == "http":
            self.absolute_prefix = f"http://{self.authority}".encode()


class HttpResponse:
    """A vendor's answer, on its way: first `head`, then `read` until it is empty, or `whole`; or `close`."""

    __slots__ = ("_connection", "_pool", "_request", "_timeouts")

    def __init__(self, pool: _Pool, connection: HttpConnection, request: tuple[bytes, ...], timeouts: Timeouts) -> None:
        self._pool: _Pool | None = pool
        self._connection = connection
        self._request: tuple[bytes, ...] | None = request
        self._timeouts = timeouts
        connection.start(request, timeouts)

    @property
    def status(self) -> int:
        return self._connection.status

    @property
    def headers(self) -> list[tuple[bytes, bytes]]:
        """Return the headers, names in lower case."""
        return self._connection.headers

    @property
    def first_byte_at(self) -> Instant | None:
        return self._connection.first_byte_at

    async def head(self) -> None:
        """Wait for status and headers; raises TransportError.

        A kept-alive connection that the vendor closes before the first byte of an answer was closed for
        idleness, not for the request; the request then goes once over a new one.
        """
        try:
            await self._connection.head()
        except ConnectionBroken:
            pool, request, connection = self._pool, self._request, self._connection
            if connection.used == 1 or connection.first_byte_at is not None or pool is None or request is None:
                self.close()
                raise
            self._pool = None
            pool.give_back(connection)
            self._connection = await pool.connect(self._timeouts)
            self._pool, self._request = pool, None
            self._connection.start(request, self._timeouts)
            await self.head()
        except TransportError:
            self.close()
            raise

    async def read(self) -> bytes:
        """Return the next piece of the body, empty at its end; raises TransportError."""
        try:
            piece = await self._connection.read()
        except TransportError:
            self.close()
            raise
        if not piece:
            self.close()
        return piece

    async def relay(self, sink: Callable[[bytes], bool]) -> None:
        """Give every piece of the body to `sink` as it comes; see `HttpConnection.relay`. Raises TransportError."""
        try:
            await self._connection.relay(sink)
        except TransportError:
            self.close()
            raise
        self.close()

    def resume(self) -> None:
        """Read on, after a sink had enough for a while."""
        self._connection.resume()

    async def whole(self) -> bytes:
        """Return the complete body; raises TransportError."""
        try:
            body = await self._connection.whole(_ANSWER_BYTES_MAX)
        except TransportError:
            self.close()
            raise
        self.close()
        return body

    def close(self) -> None:
        """Give the connection back when it is fit for another call, else drop it. Harmless when repeated."""
        pool, self._pool = self._pool, None
        if pool is not None:
            pool.give_back(self._connection)


class _Pool:
    """The connections to one origin."""

    def __init__(self, origin: Origin, clock: Clock) -> None:
        self.origin = origin
        self.idle: list[HttpConnection] = []
        self.open = 0
        self._clock = clock
        self._max = origin.max_connections
        self._waiting: deque[asyncio.Future[None]] = deque()

    def take_idle(self) -> HttpConnection | None:
        """Return the idle connection that was used last, for its warmth; None if there is none."""
        while self.idle:
            connection = self.idle.pop()
            if connection.is_open:
                return connection
            self._forget(connection)
        return None

    async def connect(self, timeouts: Timeouts) -> HttpConnection:
        """Open a connection; raises ConnectFailed or ConnectTimeout."""
        try:
            async with asyncio.timeout(timeouts.connect_ns / SECOND):
                while self.open >= self._max:
                    await self._wait_for_room()
                    if (connection := self.take_idle()) is not None:
                        return connection
                self.open += 1
                try:
                    return await self._dial()
                except BaseException:
                    self._left()
                    raise
        except TimeoutError as error:
            raise ConnectTimeout("no connection in time", sent=False) from error
        except (OSError, ssl.SSLError, UnicodeError) as error:
            raise ConnectFailed(f"no connection: {type(error).__name__}", sent=False) from error

    def give_back(self, connection: HttpConnection) -> None:
        """Keep a connection for the next call if it is fit for one."""
        if connection.reusable and connection.is_open and not self.origin.retired:
            connection.park()
            self.idle.append(connection)
            self._wake()
        else:
            connection.abort()
            self._left()

    def close(self) -> None:
        """Drop all idle connections."""
        while self.idle:
            self.idle.pop().abort()
            self._left()

    def _forget(self, connection: HttpConnection) -> None:
        connection.abort()
        self._left()

    def _left(self) -> None:
        self.open -= 1
        self._wake()

    def _wake(self) -> None:
        while self._waiting:
            waiter = self._waiting.popleft()
            if not waiter.done():
                waiter.set_result(None)
                return

    async def _wait_for_room(self) -> None:
        waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append(waiter)
        try:
            await waiter
        except asyncio.CancelledError:
            if waiter.done() and not waiter.cancelled():
                self._wake()
            raise

    async def _dial(self) -> HttpConnection:
        loop = asyncio.get_running_loop()
        origin = self.origin

        def make() -> HttpConnection:
            return HttpConnection(self._clock, _IDLE_NS)

        if origin.proxy is not None:
            return await self._dial_through_proxy(loop, origin.proxy, make())
        _, connection = await loop.create_connection(
            make,
            origin.host,
            origin.port,
            ssl=origin.tls,
            server_hostname=origin.host if origin.tls else None,
        )
        return connection

    async def _dial_through_proxy(
        self, loop: asyncio.AbstractEventLoop, proxy: tuple[str, int], connection: HttpConnection
    ) -> HttpConnection:
        origin = self.origin
        if origin.tls is None:
            await loop.create_connection(lambda: connection, *proxy)
            return connection
        reader_tunnel = _Tunnel()
        transport, _ = await loop.create_connection(lambda: reader_tunnel, *proxy)
        host = f"[{origin.host}]" if ":" in origin.host else origin.host
        target = f"{host}:{origin.port}".encode()
        transport.write(
            b"CONNECT " + target + b" HTTP/1.1\r\nhost: " + target + b"\r\n" + origin.proxy_authorization + b"\r\n"
        )
        try:
            await reader_tunnel.established
            secured = await loop.start_tls(transport, connection, origin.tls, server_hostname=origin.host)
        except BaseException:
            transport.abort()
            raise
        assert secured is not None
        connection.connection_made(secured)
        return connection


class _Tunnel(asyncio.Protocol):
    """Waits for a proxy to say that the tunnel stands."""

    def __init__(self) -> None:
        self.established: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._head = b""

    def data_received(self, data: bytes) -> None:
        self._head += data
        if len(self._head) > 16384:
            self._refuse("the proxy's answer is too long")
        elif b"\r\n\r\n" in self._head and not self.established.done():
            status = self._head.split(b"\r\n", 1)[0].split(b" ")
            if len(status) > 1 and status[1].startswith(b"2"):
                self.established.set_result(None)
            else:
                self._refuse("the proxy refused the tunnel")

    def connection_lost(self, exc: Exception | None) -> None:
        self._refuse("the proxy closed the connection")

    def _refuse(self, message: str) -> None:
        if not self.established.done():
            self.established.set_exception(ConnectFailed(message, sent=False))


class HttpClient:
    """Sends requests to vendors over pooled connections."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._pools: dict[Origin, _Pool] = {}

    def connections(self) -> int:
        """Return how many connections are open, idle ones included."""
        return sum(pool.open for pool in self._pools.values())

    def retire_origin(self, origin: Origin) -> None:
        """Drop an origin's idle connections; a call still under way ends on its own."""
        origin.retired = True
        for one, pool in list(self._pools.items()):
            if one.retired:
                pool.close()
                if not pool.open:
                    del self._pools[one]

    def _pool(self, origin: Origin) -> _Pool:
        pool = self._pools.get(origin)
        if pool is None:
            pool = self._pools[origin] = _Pool(origin, self._clock)
        return pool

    def take_idle(self, origin: Origin) -> HttpConnection | None:
        """Return an idle connection, if there is one; `begin` uses it, `connect` makes another."""
        return self._pool(origin).take_idle()

    async def connect(self, origin: Origin, timeouts: Timeouts) -> HttpConnection:
        """Open a connection; raises ConnectFailed or ConnectTimeout."""
        return await self._pool(origin).connect(timeouts)

    def begin(
        self, origin: Origin, connection: HttpConnection, request: tuple[bytes, ...], timeouts: Timeouts
    ) -> HttpResponse:
        """Send a request over a connection; the answer is awaited on what is returned."""
        return HttpResponse(self._pool(origin), connection, request, timeouts)

    async def send(self, origin: Origin, request: tuple[bytes, ...], timeouts: Timeouts) -> HttpResponse:
        """Take or open a connection, send a request and wait for the head of its answer; raises TransportError."""
        connection = self.take_idle(origin) or await self.connect(origin, timeouts)
        response = self.begin(origin, connection, request, timeouts)
        try:
            await response.head()
        except BaseException:
            response.close()
            raise
        return response

    def close(self) -> None:
        """Drop all idle connections."""
        for pool in self._pools.values():
            pool.close()


__all__ = ["HttpClient", "HttpResponse", "Origin", "Timeouts"]
