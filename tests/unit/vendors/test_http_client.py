"""The way out against a scripted server: every phase, every framing, every way to be cut off."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import socket
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable

import pytest
import trustme

from dujiang.clock import MILLISECOND, SECOND, SystemClock
from dujiang.vendors.http_client import HttpClient, HttpResponse, Origin, Timeouts
from dujiang.vendors.transport_errors import (
    ConnectFailed,
    ConnectionBroken,
    ConnectTimeout,
    FirstByteTimeout,
    MalformedResponse,
    ReadTimeout,
)

PATIENT = Timeouts(5 * SECOND, 5 * SECOND, 5 * SECOND, 10 * SECOND)
OK = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok"
Script = Callable[["Peer"], Awaitable[None]]


class Peer:
    """One accepted connection, as a script sees it."""

    def __init__(self, number: int, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.number = number
        """How many connections came before it."""
        self.reader = reader
        self.writer = writer

    async def request(self) -> bytes:
        """Read one request, its body included; empty when the client has closed."""
        try:
            head = await self.reader.readuntil(b"\r\n\r\n")
        except asyncio.IncompleteReadError:
            return b""
        length = next(
            (int(line[15:]) for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:")), 0
        )
        return head + await self.reader.readexactly(length)

    async def send(self, data: bytes) -> None:
        self.writer.write(data)
        await self.writer.drain()

    def hang_up(self) -> None:
        self.writer.transport.abort()


class Server:
    """A server that does what its script says with every connection."""

    def __init__(self, script: Script) -> None:
        self.script = script
        self.connections = 0
        self.port = 0
        self.problems: list[BaseException] = []
        self._tasks: set[asyncio.Task[None] | None] = set()

    async def accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        peer = Peer(self.connections, reader, writer)
        self.connections += 1
        self._tasks.add(asyncio.current_task())
        try:
            await self.script(peer)
        except (ConnectionError, asyncio.CancelledError, ssl.SSLError):
            pass
        except BaseException as problem:
            # uvloop's word for a connection that is gone.
            if "is closed" not in str(problem):
                self.problems.append(problem)
        finally:
            writer.transport.abort()

    async def stop(self) -> None:
        for task in self._tasks:
            if task is not None:
                task.cancel()
        await asyncio.gather(*(task for task in self._tasks if task is not None), return_exceptions=True)
        assert not self.problems, self.problems


@contextlib.asynccontextmanager
async def serving(
    script: Script, *, tls: ssl.SSLContext | None = None, host: str = "127.0.0.1"
) -> AsyncIterator[Server]:
    server = Server(script)
    listening = await asyncio.start_server(server.accept, host, 0, ssl=tls, limit=1 << 24)
    server.port = listening.sockets[0].getsockname()[1]
    try:
        yield server
    finally:
        listening.close()
        await server.stop()


def origin_of(server: Server, **options) -> Origin:
    return Origin(f"http://127.0.0.1:{server.port}", **options)


def request(body: bytes = b"{}") -> tuple[bytes, ...]:
    return (b"POST /v1/x HTTP/1.1\r\nhost: x\r\n", b"content-length: %d\r\n\r\n" % len(body), body)


def answering(*answers: bytes) -> Script:
    """Answer the requests on each connection one after the other, then close it."""

    async def script(peer: Peer) -> None:
        for answer in answers:
            if not await peer.request():
                return
            await peer.send(answer)

    return script


async def for_ever(peer: Peer) -> None:
    while await peer.request():
        await peer.send(OK)


async def whole(client: HttpClient, origin: Origin, timeouts: Timeouts = PATIENT) -> tuple[int, bytes]:
    response = await client.send(origin, request(), timeouts)
    return response.status, await response.whole()


async def pieces(response: HttpResponse) -> bytes:
    body = b""
    while piece := await response.read():
        body += piece
    return body


@pytest.fixture(name="client")
async def _client() -> AsyncIterator[HttpClient]:
    client = HttpClient(SystemClock())
    yield client
    client.close()
    await asyncio.sleep(0)


def nothing_held(client: HttpClient) -> None:
    """Assert that every open connection is idle, and that the count is right."""
    for pool in client._pools.values():
        assert pool.open == len(pool.idle) >= 0


async def test_connections_are_used_again(client: HttpClient) -> None:
    async with serving(for_ever) as server:
        origin = origin_of(server)
        for _ in range(5):
            assert await whole(client, origin) == (200, b"ok")
        assert (server.connections, client.connections()) == (1, 1)
        nothing_held(client)


async def test_a_body_that_was_not_read_to_its_end_ends_the_connection(client: HttpClient) -> None:
    async with serving(answering(b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nhalf")) as server:
        response = await client.send(origin_of(server), request(), PATIENT)
        assert await response.read() == b"half"
        response.close()
        response.close()
        assert client.connections() == 0


@pytest.mark.parametrize(
    ("answer", "body"),
    [
        (b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhello", b"hello"),
        (b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n", b""),
        (b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n", b"hello"),
        (
            b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n1;x=y\r\nh\r\n4\r\nello\r\n0\r\nt: u\r\n\r\n",
            b"hello",
        ),
        (b"HTTP/1.1 200 OK\r\nconnection: close\r\n\r\nhello", b"hello"),
        (b"HTTP/1.0 200 OK\r\n\r\nhello", b"hello"),
        (b"HTTP/1.1 204 No Content\r\n\r\n", b""),
        (b"HTTP/1.1 302 Found\r\nlocation: http://127.0.0.1:1/\r\ncontent-length: 0\r\n\r\n", b""),
    ],
)
@pytest.mark.parametrize("size", [1, 7, 10_000])
@pytest.mark.parametrize("at_once", [True, False])
async def test_every_framing_in_pieces_of_every_size(client, answer, body, size, at_once) -> None:
    async def script(peer: Peer) -> None:
        await peer.request()
        for start in range(0, len(answer), size):
            await peer.send(answer[start : start + size])
            await asyncio.sleep(0)

    async with serving(script) as server, asyncio.timeout(5):
        response = await client.send(origin_of(server), request(), PATIENT)
        assert response.status == int(answer.split()[1])
        assert (await response.whole() if at_once else await pieces(response)) == body
        assert server.connections == 1


@pytest.mark.parametrize("pause", [False, True])
@pytest.mark.parametrize(
    "interim", [b"HTTP/1.1 100 Continue\r\n\r\n", b"HTTP/1.1 103 Early Hints\r\nlink: </a>\r\n\r\n" * 3]
)
async def test_interim_answers_are_passed_over(client: HttpClient, interim: bytes, pause: bool) -> None:
    async def script(peer: Peer) -> None:
        while await peer.request():
            await peer.send(interim if pause else interim + OK)
            if pause:
                await asyncio.sleep(0.01)
                await peer.send(OK)

    async with serving(script) as server, asyncio.timeout(5):
        for _ in range(2):
            response = await client.send(origin_of(server), request(), PATIENT)
            assert response.status == 200
            assert response.headers == [(b"content-length", b"2")]
            assert await response.whole() == b"ok"


@pytest.mark.parametrize(
    "answer",
    [
        b"nonsense\r\n\r\n",
        b"HTTP/1.1 abc OK\r\n\r\n",
        b"\x00" * 100,
        b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\ncontent-length: 6\r\n\r\nhello!",
        b"HTTP/1.1 200 OK\r\ncontent-length: -5\r\n\r\nhello",
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nxyz\r\nhello\r\n",
        b"HTTP/1.1 101 Switching Protocols\r\nupgrade: websocket\r\nconnection: upgrade\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nbad header\r\n\r\n",
    ],
)
async def test_what_is_no_answer_is_an_error_at_once(client: HttpClient, answer: bytes) -> None:
    async def script(peer: Peer) -> None:
        await peer.request()
        await peer.send(answer)
        await asyncio.sleep(5)

    async with serving(script) as server, asyncio.timeout(2):
        with pytest.raises(MalformedResponse) as failure:
            await whole(client, origin_of(server))
        assert failure.value.sent
        nothing_held(client)


@pytest.mark.parametrize(
    "extra", [b"XX", b"HTTP/1.1 500 Oops\r\ncontent-length: 3\r\n\r\nbad", b"\r\n\r\nHTTP/1.1 500 "]
)
@pytest.mark.parametrize(
    "framing", [b"content-length: 2\r\n\r\nok", b"transfer-encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n"]
)
async def test_bytes_after_an_answer_are_not_taken_for_the_next_one(client, extra, framing) -> None:
    async def script(peer: Peer) -> None:
        await peer.request()
        await peer.send(b"HTTP/1.1 200 OK\r\n" + framing + (extra if peer.number == 0 else b""))
        await peer.request()
        await peer.send(b"HTTP/1.1 200 OK\r\n" + framing)

    async with serving(script) as server, asyncio.timeout(5):
        assert await whole(client, origin_of(server)) == (200, b"ok")
        assert await whole(client, origin_of(server)) == (200, b"ok")
        nothing_held(client)


@pytest.mark.parametrize(
    "flood",
    [
        [b"x: " + b"y" * 60_000 + b"\r\n"],
        [b"x" * 60_000],
        [b"x: ", *[b"y" * 60_000] * 100],
        [b"a: b\r\n" * 10_000],
    ],
)
async def test_endless_headers_are_cut_off(client: HttpClient, flood: list[bytes]) -> None:
    sent = 0

    async def script(peer: Peer) -> None:
        nonlocal sent
        await peer.request()
        await peer.send(b"HTTP/1.1 200 OK\r\n")
        while sent < 20_000_000:
            for piece in flood:
                await peer.send(piece)
                sent += len(piece)

    async with serving(script) as server, asyncio.timeout(5):
        with pytest.raises(MalformedResponse):
            await client.send(origin_of(server), request(), PATIENT)
        nothing_held(client)
    assert sent < 10_000_000


@pytest.mark.parametrize("when", ["head", "body", "chunk"])
@pytest.mark.parametrize("reset", [True, False])
async def test_a_vendor_that_closes_in_the_middle_is_broken(client: HttpClient, when: str, reset: bool) -> None:
    async def script(peer: Peer) -> None:
        await peer.request()
        await peer.send(
            {
                "head": b"HTTP/1.1 200 OK\r\nconte",
                "body": b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nhalf",
                "chunk": b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n4\r\nhalf\r\n",
            }[when]
        )
        await asyncio.sleep(0.01)
        if reset:
            peer.hang_up()

    async with serving(script) as server, asyncio.timeout(5):
        with pytest.raises(ConnectionBroken):
            await whole(client, origin_of(server))
        assert server.connections == 1
        nothing_held(client)


async def test_a_connection_that_went_stale_is_replaced_once(client: HttpClient) -> None:
    async def script(peer: Peer) -> None:
        await peer.request()
        await peer.send(OK)
        # The client sends again before it can know that we are going.
        await peer.request()

    async with serving(script) as server, asyncio.timeout(5):
        origin = origin_of(server)
        assert await whole(client, origin) == (200, b"ok")
        assert await whole(client, origin) == (200, b"ok")
        assert server.connections == 2
        nothing_held(client)


async def test_a_fresh_connection_that_breaks_is_not_tried_again(client: HttpClient) -> None:
    async def script(peer: Peer) -> None:
        await peer.request()

    async with serving(script) as server, asyncio.timeout(5):
        with pytest.raises(ConnectionBroken):
            await whole(client, origin_of(server))
        assert server.connections == 1
        nothing_held(client)


async def test_a_used_connection_that_breaks_after_the_first_byte_is_not_tried_again(client: HttpClient) -> None:
    async def script(peer: Peer) -> None:
        await peer.request()
        await peer.send(OK)
        await peer.request()
        await peer.send(b"HTTP/1.1 2")

    async with serving(script) as server, asyncio.timeout(5):
        origin = origin_of(server)
        assert await whole(client, origin) == (200, b"ok")
        with pytest.raises(ConnectionBroken):
            await whole(client, origin)
        assert server.connections == 1
        nothing_held(client)


async def test_stale_twice_is_an_error(client: HttpClient) -> None:
    async def script(peer: Peer) -> None:
        await peer.request()
        if peer.number == 0:
            await peer.send(OK)
            await peer.request()

    async with serving(script) as server, asyncio.timeout(5):
        origin = origin_of(server)
        await whole(client, origin)
        with pytest.raises(ConnectionBroken):
            await whole(client, origin)
        assert server.connections == 2
        nothing_held(client)


async def silent(peer: Peer) -> None:
    await peer.request()
    await asyncio.sleep(10)


async def test_silence_before_the_first_byte_times_out(client: HttpClient) -> None:
    async with serving(silent) as server, asyncio.timeout(5):
        with pytest.raises(FirstByteTimeout) as failure:
            await whole(client, origin_of(server), Timeouts(SECOND, 50 * MILLISECOND, 5 * SECOND, 10 * SECOND))
        assert failure.value.sent
        assert failure.value.timed_out
        nothing_held(client)


async def test_silence_in_the_middle_times_out_however_long_the_first_byte_may_take(client: HttpClient) -> None:
    async def script(peer: Peer) -> None:
        await peer.request()
        await peer.send(b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nhalf")
        await asyncio.sleep(10)

    async with serving(script) as server, asyncio.timeout(2):
        response = await client.send(
            origin_of(server), request(), Timeouts(SECOND, 60 * SECOND, 50 * MILLISECOND, 600 * SECOND)
        )
        assert await response.read() == b"half"
        with pytest.raises(ReadTimeout):
            await response.read()
        nothing_held(client)


async def test_an_answer_that_drips_for_ever_ends_at_the_limit_of_the_whole(client: HttpClient) -> None:
    async def script(peer: Peer) -> None:
        await peer.request()
        await peer.send(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n")
        while True:
            await peer.send(b"1\r\nx\r\n")
            await asyncio.sleep(0.01)

    async with serving(script) as server, asyncio.timeout(5):
        with pytest.raises(ReadTimeout):
            await whole(client, origin_of(server), Timeouts(SECOND, SECOND, SECOND, 150 * MILLISECOND))
        nothing_held(client)


async def test_nobody_there(client: HttpClient) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        origin = Origin(f"http://127.0.0.1:{taken.getsockname()[1]}")
        with pytest.raises(ConnectFailed) as failure:
            await whole(client, origin)
    assert not failure.value.sent
    assert not failure.value.timed_out
    for host in ("no-such-host.invalid", "a..b", "x" * 70):
        with pytest.raises(ConnectFailed):
            await whole(client, Origin(f"http://{host}:81"))
    nothing_held(client)


async def test_a_connection_that_does_not_come_about_in_time(client: HttpClient) -> None:
    # A listener whose queue is full takes no further connection.
    with socket.socket() as full:
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        address = full.getsockname()
        crowd = [socket.socket() for _ in range(4)]
        try:
            for one in crowd:
                one.setblocking(False)
                one.connect_ex(address)
            with pytest.raises(ConnectTimeout) as failure:
                await whole(client, Origin(f"http://127.0.0.1:{address[1]}"), Timeouts(100 * MILLISECOND, 1, 1, 1))
        finally:
            for one in crowd:
                one.close()
    assert not failure.value.sent
    assert failure.value.timed_out
    nothing_held(client)


async def test_a_slow_reader_makes_the_vendor_wait(client: HttpClient) -> None:
    total = 30_000_000
    sent = 0

    async def script(peer: Peer) -> None:
        nonlocal sent
        await peer.request()
        await peer.send(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n" % total)
        peer.writer.transport.set_write_buffer_limits(high=65536)
        while sent < total:
            await peer.send(b"x" * 100_000)
            sent += 100_000
        await peer.request()

    async with serving(script) as server, asyncio.timeout(10):
        response = await client.send(origin_of(server), request(), PATIENT)
        before = -1
        while before != sent:
            before = sent
            await asyncio.sleep(0.05)
        assert sent < total / 2
        assert response._connection._buffered < 2_000_000
        assert len(await pieces(response)) == total
        nothing_held(client)


async def test_a_reader_who_sleeps_is_not_blamed_on_the_vendor(client: HttpClient) -> None:
    total = 3_000_000

    async def script(peer: Peer) -> None:
        await peer.request()
        await peer.send(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n" % total + b"x" * total)
        await peer.request()

    async with serving(script) as server, asyncio.timeout(5):
        response = await client.send(
            origin_of(server), request(), Timeouts(SECOND, SECOND, 50 * MILLISECOND, 10 * SECOND)
        )
        await asyncio.sleep(0.2)
        assert len(await pieces(response)) == total


async def test_a_whole_answer_is_bounded(client: HttpClient, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dujiang.vendors.http_client._ANSWER_BYTES_MAX", 1_000_000)
    sent = 0

    async def script(peer: Peer) -> None:
        nonlocal sent
        await peer.request()
        await peer.send(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n")
        while sent < 50_000_000:
            await peer.send(b"186a0\r\n" + b"x" * 100_000 + b"\r\n")
            sent += 100_000

    async with serving(script) as server, asyncio.timeout(5):
        with pytest.raises(MalformedResponse, match="larger"):
            await whole(client, origin_of(server))
        nothing_held(client)
    assert sent < 20_000_000


async def test_a_large_request_arrives_whole(client: HttpClient) -> None:
    body = bytes(range(256)) * 40_000
    received = b""

    async def script(peer: Peer) -> None:
        nonlocal received
        received = await peer.request()
        await peer.send(OK)

    async with serving(script) as server, asyncio.timeout(10):
        response = await client.send(origin_of(server), request(body), PATIENT)
        assert await response.whole() == b"ok"
    assert received.endswith(b"\r\n\r\n" + body)


async def test_no_more_connections_than_allowed_and_the_rest_wait_their_turn(client: HttpClient) -> None:
    open_now = most = 0

    async def script(peer: Peer) -> None:
        nonlocal open_now, most
        while await peer.request():
            open_now += 1
            most = max(most, open_now)
            await asyncio.sleep(0.005)
            open_now -= 1
            await peer.send(OK)

    async with serving(script) as server, asyncio.timeout(5):
        origin = origin_of(server, max_connections=3)
        answers = await asyncio.gather(*(whole(client, origin) for _ in range(20)))
        assert answers == [(200, b"ok")] * 20
        assert most == 3
        assert server.connections == 3
        assert client.connections() == 3
        nothing_held(client)


async def test_waiting_for_a_connection_counts_as_connecting(client: HttpClient) -> None:
    async with serving(silent) as server, asyncio.timeout(5):
        origin = origin_of(server, max_connections=1)
        first = asyncio.ensure_future(whole(client, origin))
        await asyncio.sleep(0.02)
        with pytest.raises(ConnectTimeout) as failure:
            await whole(client, origin, Timeouts(50 * MILLISECOND, SECOND, SECOND, SECOND))
        assert not failure.value.sent
        first.cancel()
        await asyncio.gather(first, return_exceptions=True)
        assert client.connections() == 0


@pytest.mark.parametrize("turns", [*range(12), 20, 40])
@pytest.mark.parametrize("room", [1, 10])
async def test_cancelled_at_any_await_leaves_the_counts_right(client: HttpClient, turns: int, room: int) -> None:
    async def script(peer: Peer) -> None:
        while await peer.request():
            await peer.send(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n")
            await asyncio.sleep(0.001)
            await peer.send(b"ok")

    async def call(origin: Origin) -> bytes:
        response = await client.send(origin, request(), PATIENT)
        try:
            return await response.whole()
        finally:
            response.close()

    async with serving(script) as server, asyncio.timeout(5):
        origin = origin_of(server, max_connections=room)
        calls = [asyncio.ensure_future(call(origin)) for _ in range(6)]
        for _ in range(turns):
            await asyncio.sleep(0.0003)
        for one in calls[::2]:
            one.cancel()
        results = await asyncio.gather(*calls, return_exceptions=True)
        for index, result in enumerate(results):
            assert result == b"ok" or (index % 2 == 0 and isinstance(result, asyncio.CancelledError))
        nothing_held(client)
        assert client.connections() <= room
        assert await call(origin) == b"ok"


async def test_idle_connections_are_dropped_and_a_call_under_way_ends_when_an_origin_is_retired(client) -> None:
    release = asyncio.Event()

    async def script(peer: Peer) -> None:
        while await peer.request():
            await peer.send(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n")
            await release.wait()
            await peer.send(b"ok")

    async with serving(script) as server, asyncio.timeout(5):
        origin = origin_of(server)
        response = await client.send(origin, request(), PATIENT)
        connecting = asyncio.ensure_future(whole(client, origin))
        await asyncio.sleep(0)
        client.retire_origin(origin)
        release.set()
        assert await response.whole() == b"ok"
        assert await connecting == (200, b"ok")
        # Nothing is kept for an origin that is not in use any more.
        assert client.connections() == 0
        nothing_held(client)
        client.retire_origin(origin_of(server))
        assert not client._pools


async def test_an_idle_connection_the_vendor_closed_is_not_used(client: HttpClient) -> None:
    async with serving(answering(OK)) as server, asyncio.timeout(5):
        origin = origin_of(server)
        assert await whole(client, origin) == (200, b"ok")
        await asyncio.sleep(0.02)
        assert client.take_idle(origin) is None
        assert client.connections() == 0


async def test_a_connection_idle_for_long_closes_itself(client: HttpClient, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dujiang.vendors.http_client._IDLE_NS", 30 * MILLISECOND)
    async with serving(for_ever) as server, asyncio.timeout(5):
        origin = origin_of(server)
        # The timer of the exchange is long; being idle must shorten it.
        await whole(client, origin)
        await asyncio.sleep(0.1)
        assert client.take_idle(origin) is None
        assert client.connections() == 0


class Sink:
    """Takes pieces, and has enough after every one when it is slow."""

    def __init__(self, response: HttpResponse, *, slow: bool) -> None:
        self.response = response
        self.slow = slow
        self.taken = b""
        self._later: asyncio.TimerHandle | None = None

    def take(self, piece: bytes) -> bool:
        self.taken += piece
        if self.slow:
            self._later = asyncio.get_running_loop().call_later(0.001, self.response.resume)
        return not self.slow


def streaming(total: int) -> Script:
    async def script(peer: Peer) -> None:
        while await peer.request():
            await peer.send(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n" % total)
            for start in range(0, total, 100_000):
                await peer.send(b"x" * min(100_000, total - start))

    return script


@pytest.mark.parametrize("slow", [False, True])
@pytest.mark.parametrize("total", [5, 250_000, 3_000_000])
@pytest.mark.parametrize("hesitates_s", [0, 0.05])
async def test_a_relayed_body_arrives_whole_and_the_connection_is_used_again(
    client: HttpClient, slow: bool, total: int, hesitates_s: float
) -> None:
    async with serving(streaming(total)) as server, asyncio.timeout(5):
        for _ in range(2):
            response = await client.send(origin_of(server), request(), PATIENT)
            # Meanwhile the buffer may have filled up.
            await asyncio.sleep(hesitates_s)
            sink = Sink(response, slow=slow)
            await response.relay(sink.take)
            assert len(sink.taken) == total
            nothing_held(client)


async def test_a_relay_with_a_sink_that_has_enough_makes_the_vendor_wait(client: HttpClient) -> None:
    sent = 0

    async def script(peer: Peer) -> None:
        nonlocal sent
        await peer.request()
        await peer.send(b"HTTP/1.1 200 OK\r\ncontent-length: 30000000\r\n\r\n")
        while sent < 30_000_000:
            await peer.send(b"x" * 100_000)
            sent += 100_000
        await peer.request()

    async with serving(script) as server, asyncio.timeout(5):
        response = await client.send(origin_of(server), request(), PATIENT)
        taken = 0

        def take(piece: bytes) -> bool:
            nonlocal taken
            taken += len(piece)
            return False

        relaying = asyncio.ensure_future(response.relay(take))
        before = -1
        while before != sent:
            before = sent
            await asyncio.sleep(0.05)
        assert taken < 1_000_000
        assert sent < 20_000_000
        # The caller has gone; the rest of the answer is read without him.
        relaying.cancel()
        with pytest.raises(asyncio.CancelledError):
            await relaying
        assert taken + len(await pieces(response)) == 30_000_000
        nothing_held(client)


async def test_an_answer_nobody_read_does_not_stop_the_connections_next_one(client: HttpClient) -> None:
    async with serving(streaming(300_000)) as server, asyncio.timeout(5):
        response = await client.send(origin_of(server), request(), PATIENT)
        await asyncio.sleep(0.05)
        response.close()
        body = (await whole(client, origin_of(server)))[1]
        assert len(body) == 300_000
        nothing_held(client)


# TLS


@pytest.fixture(name="authority", scope="module")
def _authority() -> trustme.CA:
    return trustme.CA()


def server_tls(authority: trustme.CA, name: str = "127.0.0.1") -> ssl.SSLContext:
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert(name).configure_cert(context)
    return context


@pytest.fixture(name="ca_file", scope="module")
def _ca_file(authority: trustme.CA, tmp_path_factory: pytest.TempPathFactory) -> str:
    path = tmp_path_factory.mktemp("tls") / "ca.pem"
    authority.cert_pem.write_to_path(str(path))
    return str(path)


async def test_tls_with_an_authority_of_ones_own(client: HttpClient, authority: trustme.CA, ca_file: str) -> None:
    async with serving(for_ever, tls=server_tls(authority)) as server, asyncio.timeout(5):
        origin = Origin(f"https://127.0.0.1:{server.port}", ca_file=ca_file)
        for _ in range(3):
            assert await whole(client, origin) == (200, b"ok")
        assert server.connections == 1
        nothing_held(client)


async def test_tls_refuses_an_unknown_authority_and_another_name(client, authority, ca_file) -> None:
    async with serving(for_ever, tls=server_tls(trustme.CA())) as server, asyncio.timeout(5):
        with pytest.raises(ConnectFailed) as failure:
            await whole(client, Origin(f"https://127.0.0.1:{server.port}", ca_file=ca_file))
        assert not failure.value.sent
    async with serving(for_ever, tls=server_tls(authority, "elsewhere.test")) as server, asyncio.timeout(5):
        with pytest.raises(ConnectFailed):
            await whole(client, Origin(f"https://127.0.0.1:{server.port}", ca_file=ca_file))
    nothing_held(client)


async def test_tls_to_a_server_that_speaks_none(client: HttpClient, ca_file: str) -> None:
    async def script(peer: Peer) -> None:
        await peer.send(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        await asyncio.sleep(1)

    async with serving(script) as server, asyncio.timeout(5):
        with pytest.raises(ConnectFailed):
            await whole(client, Origin(f"https://127.0.0.1:{server.port}", ca_file=ca_file))
    nothing_held(client)


async def test_backpressure_under_tls(client: HttpClient, authority: trustme.CA, ca_file: str) -> None:
    total = 20_000_000
    sent = 0

    async def script(peer: Peer) -> None:
        nonlocal sent
        await peer.request()
        await peer.send(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n" % total)
        while sent < total:
            await peer.send(b"x" * 100_000)
            sent += 100_000
        await peer.request()

    async with serving(script, tls=server_tls(authority)) as server, asyncio.timeout(15):
        origin = Origin(f"https://127.0.0.1:{server.port}", ca_file=ca_file)
        response = await client.send(origin, request(), PATIENT)
        before = -1
        while before != sent:
            before = sent
            await asyncio.sleep(0.1)
        assert sent < total * 0.8
        assert response._connection._buffered < 2_000_000
        assert len(await pieces(response)) == total


# Proxies


class Proxy:
    """An HTTP proxy: absolute requests are answered, tunnels are dug."""

    def __init__(self, answer: bytes = b"HTTP/1.1 200 Connection established\r\n\r\n", forward: bool = True) -> None:
        self.heads: list[bytes] = []
        self.answer = answer
        self.forward = forward

    async def script(self, peer: Peer) -> None:
        head = await peer.request()
        self.heads.append(head)
        if not head.startswith(b"CONNECT"):
            await peer.send(OK)
            await for_ever(peer)
            return
        await peer.send(self.answer)
        if not self.forward:
            await asyncio.sleep(1)
            return
        host, _, port = head.split()[1].decode().rpartition(":")
        reader, writer = await asyncio.open_connection(host.strip("[]"), int(port))

        async def carry(source: asyncio.StreamReader, target: asyncio.StreamWriter) -> None:
            while data := await source.read(65536):
                target.write(data)
                await target.drain()
            target.close()

        try:
            await asyncio.gather(carry(peer.reader, writer), carry(reader, peer.writer))
        finally:
            writer.transport.abort()


async def test_a_plain_address_goes_through_the_proxy_in_absolute_form(client: HttpClient) -> None:
    proxy = Proxy()
    async with serving(proxy.script) as server, asyncio.timeout(5):
        origin = Origin("http://vendor.test:8080/v1", proxy=f"http://user%40home:pa%3Ass@127.0.0.1:{server.port}")
        assert origin.absolute_prefix == b"http://vendor.test:8080"
        credentials = base64.b64encode(b"user@home:pa:ss")
        assert origin.proxy_authorization == b"proxy-authorization: Basic " + credentials + b"\r\n"
        assert await whole(client, origin) == (200, b"ok")
        assert await whole(client, origin) == (200, b"ok")
        assert server.connections == 1


async def test_a_tls_address_goes_through_a_tunnel(client: HttpClient, authority: trustme.CA, ca_file: str) -> None:
    proxy = Proxy()
    seen: list[bytes] = []

    async def vendor(peer: Peer) -> None:
        while head := await peer.request():
            seen.append(head)
            await peer.send(OK)

    async with serving(vendor, tls=server_tls(authority)) as server, serving(proxy.script) as between:
        async with asyncio.timeout(5):
            origin = Origin(
                f"https://127.0.0.1:{server.port}",
                ca_file=ca_file,
                proxy=f"http://user:secret@127.0.0.1:{between.port}",
            )
            for _ in range(3):
                assert await whole(client, origin) == (200, b"ok")
            assert len(proxy.heads) == between.connections == 1
            credentials = base64.b64encode(b"user:secret")
            assert b"\r\nproxy-authorization: Basic " + credentials + b"\r\n" in proxy.heads[0]
            assert proxy.heads[0].startswith(b"CONNECT 127.0.0.1:%d HTTP/1.1\r\n" % server.port)
            assert all(b"proxy" not in head.lower() for head in seen)
            nothing_held(client)


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 407 Proxy Authentication Required\r\ncontent-length: 0\r\n\r\n",
        b"HTTP/1.1 502 Bad Gateway\r\n\r\n",
        b"garbage\r\n\r\n",
        b"x" * 20_000,
        b"",
    ],
)
async def test_a_proxy_that_refuses_is_a_failed_connection(client: HttpClient, ca_file: str, answer: bytes) -> None:
    proxy = Proxy(answer, forward=False)
    async with serving(proxy.script) as between, asyncio.timeout(5):
        origin = Origin("https://vendor.test", ca_file=ca_file, proxy=f"http://127.0.0.1:{between.port}")
        with pytest.raises(ConnectFailed) as failure:
            await whole(client, origin, Timeouts(200 * MILLISECOND, SECOND, SECOND, SECOND))
        assert not failure.value.sent
        nothing_held(client)
        assert client.connections() == 0


# Addresses


def _has_ipv6() -> bool:
    try:
        with socket.socket(socket.AF_INET6) as one:
            one.bind(("::1", 0))
    except OSError:
        return False
    return True


@pytest.mark.skipif(not _has_ipv6(), reason="no IPv6 on this machine")
async def test_ipv6(client: HttpClient, authority: trustme.CA, ca_file: str) -> None:
    async with serving(for_ever, host="::1") as server, asyncio.timeout(5):
        origin = Origin(f"http://[::1]:{server.port}/v1")
        assert origin.authority == f"[::1]:{server.port}"
        assert await whole(client, origin) == (200, b"ok")
    proxy = Proxy()
    async with serving(for_ever, host="::1", tls=server_tls(authority, "::1")) as server:
        async with serving(proxy.script) as between, asyncio.timeout(5):
            proxy_url = f"http://127.0.0.1:{between.port}"
            origin = Origin(f"https://[::1]:{server.port}", ca_file=ca_file, proxy=proxy_url)
            assert await whole(client, origin) == (200, b"ok")
            assert proxy.heads[0].startswith(b"CONNECT [::1]:%d " % server.port)


@pytest.mark.parametrize("address", ["ftp://x", "vendor.test", "http://", "https:///v1"])
def test_an_address_that_is_none(address: str) -> None:
    with pytest.raises(ValueError, match="address"):
        Origin(address)


def test_ports_are_those_of_the_scheme() -> None:
    assert Origin("http://vendor.test/v1").port == 80
    assert Origin("https://vendor.test/v1").port == 443
    assert Origin("https://vendor.test:444/v1").authority == "vendor.test:444"
