"""Clients that mean harm or know no better: each is answered rightly within a bound, and nothing is left behind."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import random
import re
import struct
from pathlib import Path

import psutil
import pytest
from tests.gateways import (
    KEY,
    RunningGateway,
    gateway_before_vendor,
    gateway_config,
    raw_vendor,
    running_gateway,
    until,
)

CHAT = b'{"model":"assistant","messages":[{"role":"user","content":"hi"}]}'
BRIEF = {"header_timeout": "150ms", "body_timeout": "150ms", "keep_alive": "300ms", "write_timeout": "200ms"}
ROUTES = ["/v1/chat/completions", "/v1/responses", "/v1/messages", "/v1/messages/count_tokens", "/v1/embeddings"]


class Reply:
    """One answer as it came over the socket."""

    def __init__(self, status: int, headers: dict[bytes, bytes], body: bytes) -> None:
        self.status = status
        self.headers = headers
        self.body = body

    @property
    def error(self):
        return json.loads(self.body)["error"]


class Wire:
    """A raw connection to the gateway."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    async def send(self, *pieces: bytes) -> None:
        """Send bytes; a gateway that has hung up already is no error."""
        for piece in pieces:
            self.writer.write(piece)
            with contextlib.suppress(ConnectionError):
                await self.writer.drain()

    async def reply(self, within_s: float = 5.0, *, bodiless: bool = False) -> Reply:
        """Read one answer."""
        async with asyncio.timeout(within_s):
            head = await self.reader.readuntil(b"\r\n\r\n")
            status_line, *lines = head[:-4].split(b"\r\n")
            headers = {}
            for line in lines:
                name, _, value = line.partition(b": ")
                headers[name] = value
            body = b""
            if headers.get(b"transfer-encoding") == b"chunked":
                while size := int(await self.reader.readuntil(b"\r\n"), 16):
                    body += (await self.reader.readexactly(size + 2))[:-2]
                await self.reader.readexactly(2)
            elif not bodiless:
                body = await self.reader.readexactly(int(headers[b"content-length"]))
            return Reply(int(status_line.split()[1]), headers, body)

    async def rest(self, within_s: float = 5.0) -> bytes:
        """Read until the gateway hangs up; fails when it does not in time."""
        async with asyncio.timeout(within_s):
            try:
                return await self.reader.read()
            except ConnectionError:
                return b""

    async def close(self) -> None:
        self.writer.transport.abort()
        with contextlib.suppress(Exception):
            await self.writer.wait_closed()


@contextlib.asynccontextmanager
async def wire(gateway: RunningGateway, *pieces: bytes):
    """Connect and send."""
    connection = Wire(*await asyncio.open_connection("127.0.0.1", gateway.port, limit=1 << 22))
    try:
        await connection.send(*pieces)
        yield connection
    finally:
        await connection.close()


def post(path: str = ROUTES[0], body: bytes = CHAT, *headers: str, key: str | None = KEY, length: int | None = None):
    """Return the bytes of a request."""
    lines = [f"POST {path} HTTP/1.1", "host: x", *headers]
    if key is not None:
        lines.append(f"authorization: Bearer {key}")
    if not any(header.lower().startswith(("content-length", "transfer-encoding")) for header in headers):
        lines.append(f"content-length: {len(body) if length is None else length}")
    return "\r\n".join(lines).encode("latin-1") + b"\r\n\r\n" + body


@contextlib.asynccontextmanager
async def besieged(**config):
    """A gateway that must, after whatever was done to it, serve as before and have nothing left over."""
    async with gateway_before_vendor(**config) as (gateway, vendor):
        yield gateway, vendor
        await serves(gateway)
        await gateway.at_rest()
        await until(lambda: gateway.connections() == 0)


async def serves(gateway: RunningGateway) -> None:
    """Check that the gateway lives, and answers a call."""
    async with wire(gateway, b"GET /livez HTTP/1.1\r\nhost: x\r\n\r\n") as other:
        assert (await other.reply()).status == 200
        await other.send(post())
        assert (await other.reply()).status == 200


async def ask(gateway: RunningGateway, request: bytes) -> Reply:
    """Send one request over a connection of its own and return the answer."""
    async with wire(gateway, request) as connection:
        return await connection.reply()


# --- keys and routes --------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", ROUTES)
async def test_without_a_right_key_no_route_answers_even_before_the_body_came(path):
    async with besieged() as (gateway, vendor):
        for key in (None, "", "wrong", "\xff\xfe", KEY[:-1], KEY + "x", "x" * 20_000):
            async with wire(gateway, post(path, b"", key=key, length=10_000_000)) as connection:
                reply = await connection.reply()
                assert reply.status == 401
                assert (key or "no such") not in reply.body.decode()
                assert reply.headers[b"connection"] == b"close"
                assert await connection.rest() == b""
        assert vendor.statistics()["requests"]["sent"] == 0


async def test_pages_need_their_key_and_unknown_addresses_and_methods_are_told():
    async with besieged() as (gateway, _):
        for path in ("/v1/models", "/v1/models/assistant", "/v1/limits", "/v1/usage"):
            assert (await ask(gateway, f"GET {path} HTTP/1.1\r\nhost: x\r\n\r\n".encode())).status == 401
        tenant = f"GET /admin/status HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {KEY}\r\n\r\n".encode()
        assert (await ask(gateway, tenant)).status == 403
        for path in ("/", "/v1", "/v1/chat/completions/x", "/%00", "/..%2f..%2fetc/passwd", "/\xe9"):
            reply = await ask(gateway, f"GET {path} HTTP/1.1\r\nhost: x\r\n\r\n".encode("latin-1"))
            assert reply.status in (400, 404)
        for method, path in (("GET", ROUTES[0]), ("DELETE", ROUTES[2]), ("POST", "/livez"), ("PATCH", "/v1/models")):
            reply = await ask(gateway, f"{method} {path} HTTP/1.1\r\nhost: x\r\ncontent-length: 0\r\n\r\n".encode())
            assert reply.status == 405
            assert reply.headers[b"allow"] == (b"POST" if path in ROUTES else b"GET")
        async with wire(gateway, b"HEAD /livez HTTP/1.1\r\nhost: x\r\n\r\n") as connection:
            reply = await connection.reply(bodiless=True)
            assert reply.status == 200
            await connection.send(b"GET /livez HTTP/1.1\r\nhost: x\r\n\r\n")
            assert (await connection.reply()).body == b'{"status":"live"}'


async def test_a_page_that_fails_is_a_500_and_its_connection_ends(monkeypatch):
    async with besieged() as (gateway, _):

        async def fail(*_arguments):
            raise RuntimeError("a bug")

        monkeypatch.setattr(gateway.gateway.pages, "_usage_since", fail)
        request = f"GET /v1/usage HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {KEY}\r\n\r\n".encode()
        async with wire(gateway, request) as connection:
            reply = await connection.reply()
            assert (reply.status, reply.error["code"]) == (500, "internal_error")
            assert "bug" not in reply.error["message"]
            assert await connection.rest() == b""


# --- bodies -----------------------------------------------------------------------------------------------

BAD_BODIES = {
    "empty": b"",
    "no json": b"hello",
    "cut off": CHAT[:-9],
    "two values": CHAT + b"{}",
    "array": b"[" + CHAT + b"]",
    "null": b"null",
    "number": b"1e999999",
    "comment": b"{/* */}",
    "nul byte": CHAT.replace(b"hi", b"h\x00i"),
    "nul after": CHAT + b"\x00",
    "bad utf-8": CHAT.replace(b"hi", b"h\xff\xfei"),
    "overlong utf-8": CHAT.replace(b"hi", b"h\xc0\xafi"),
    "surrogate utf-8": CHAT.replace(b"hi", b"h\xed\xa0\x80i"),
    "utf-16": CHAT.decode().encode("utf-16"),
    "byte order mark": b"\xef\xbb\xbf" + CHAT,
    "no model": b'{"messages":[]}',
    "model is null": b'{"model":null,"messages":[]}',
    "model is a list": b'{"model":["assistant"],"messages":[]}',
    "model is half a character": b'{"model":"\\ud800","messages":[]}',
    "model is empty": b'{"model":"","messages":[]}',
    "stream is text": CHAT[:-1] + b',"stream":"true"}',
    "deep arrays": CHAT[:-1] + b',"x":' + b"[" * 200_000 + b"]" * 200_000 + b"}",
    "deep unclosed": CHAT[:-1] + b',"x":' + b"[" * 1_000_000,
    "deep objects": CHAT[:-1] + b',"x":' + b'{"a":' * 5_000 + b"1" + b"}" * 5_000 + b"}",
    "metadata is a list": CHAT[:-1] + b',"metadata":[]}',
    "huge number": CHAT[:-1] + b',"max_tokens":' + b"9" * 5_000 + b"}",
    "negative": CHAT[:-1] + b',"max_tokens":-5}',
    "compressed": b"\x1f\x8b\x08\x00\x00\x00\x00\x00\x02\xff",
}


@pytest.mark.parametrize("path", ROUTES)
async def test_bodies_that_are_no_requests_are_refused_with_400(path):
    async with besieged() as (gateway, vendor):
        for name, body in BAD_BODIES.items():
            reply = await ask(gateway, post(path, body))
            assert reply.status == 400, (name, reply.status, reply.body)
            assert reply.error["message"], name
            assert len(reply.body) < 1000, name
        # What only the vendor can judge, it refused as well.
        assert vendor.statistics()["tokens"]["output"] == 0
        records = await gateway.records()
    assert {(one.outcome, one.owner, one.status) for one in records[: len(BAD_BODIES)]} == {("refused", "caller", 400)}


async def test_brackets_in_strings_are_no_nesting_and_the_deepest_allowed_passes():
    async with besieged() as (gateway, _):
        text = CHAT.replace(b"hi", b'[{\\"' * 50_000)
        assert (await ask(gateway, post(body=text))).status == 200
        allowed = CHAT[:-1] + b',"x":' + b"[" * 127 + b"]" * 127 + b"}"
        assert (await ask(gateway, post(body=allowed))).status == 200
        refused = CHAT[:-1] + b',"x":' + b"[" * 128 + b"]" * 128 + b"}"
        assert (await ask(gateway, post(body=refused))).status == 400


async def test_a_model_name_of_any_kind_is_only_looked_up():
    async with besieged() as (gateway, _):
        for name in ("\u0000", "x" * 100_000, "../../etc/passwd", "{model}", "\u202e", "a\r\nx-evil: 1", "💥" * 500):
            reply = await ask(gateway, post(body=json.dumps({"model": name, "messages": []}).encode()))
            assert reply.status == 404
            assert len(reply.body) < 2_000
            assert b"x-evil" not in reply.headers
        # Ever new names must not grow the gateway.
        assert len(gateway.gateway.pipeline.catalogue._entitlements) <= 1


async def test_header_values_of_any_kind_are_refused_or_ignored():
    async with besieged() as (gateway, _):
        for header in ("x-dujiang-priority: urgent", "x-dujiang-deadline-ms: -1", "x-dujiang-deadline-ms: 9e9"):
            reply = await ask(gateway, post(ROUTES[0], CHAT, header))
            assert reply.status == 400
            assert reply.error["param"] == header.partition(":")[0]
        for header in (
            "x-dujiang-tags: " + "=,=" * 500,
            "x-dujiang-tags: \xff=\xfe",
            "service-tier: x",
            "x-dujiang-cache: ?",
        ):
            assert (await ask(gateway, post(ROUTES[0], CHAT, header))).status == 200
        # A header that goes along to the vendor cannot bring a line of its own.
        reply = await ask(gateway, post(ROUTES[0], CHAT, "traceparent: 00-\xff"))
        assert reply.status == 200


@pytest.mark.parametrize("path", ROUTES)
async def test_too_large_a_body_is_refused_declared_or_not(path):
    async with besieged(server={"max_body": "64KiB"}) as (gateway, vendor):
        declared = await ask(gateway, post(path, b"", length=70_000))
        piece = b"2000\r\n" + b"x" * 0x2000 + b"\r\n"
        async with wire(gateway, post(path, b"", "transfer-encoding: chunked"), *[piece] * 9) as connection:
            chunked = await connection.reply()
            await connection.send(*[piece] * 100)
            assert await connection.rest() == b""
        exact = await ask(gateway, post(path, b" " * 65_536))
        assert vendor.statistics()["requests"]["sent"] == 0
    for reply in (declared, chunked):
        assert reply.status == 413
        assert reply.headers[b"connection"] == b"close"
        assert "65536 bytes" in reply.error["message"]
    assert exact.status == 400


# --- framing ----------------------------------------------------------------------------------------------

SMUGGLED = (
    b"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\nx-api-key: " + KEY.encode() + b"\r\ncontent-length: 0\r\n\r\n"
)


def framed(*headers: str, body: bytes = CHAT) -> bytes:
    """Return a chat call whose framing is what the headers say."""
    lines = ["POST /v1/chat/completions HTTP/1.1", "host: x", f"x-api-key: {KEY}", *headers]
    return "\r\n".join(lines).encode("latin-1") + b"\r\n\r\n" + body


SMUGGLED = framed("content-length: 0", body=b"")
CHUNKED = b"%x\r\n%b\r\n0\r\n\r\n" % (len(CHAT), CHAT)
BAD_FRAMING = {
    "two lengths": framed(f"content-length: {len(CHAT)}", f"content-length: {len(CHAT)}"),
    "two different lengths": framed(f"content-length: {len(CHAT)}", "content-length: 3"),
    "a list of lengths": framed(f"content-length: {len(CHAT)}, {len(CHAT)}"),
    "negative length": framed("content-length: -1"),
    "signed length": framed(f"content-length: +{len(CHAT)}"),
    "hexadecimal length": framed("content-length: 0x10"),
    "no number": framed("content-length: many"),
    "empty length": framed("content-length: "),
    "enormous length": framed("content-length: " + "9" * 40),
    "length with a space": framed("content-length: 1 0"),
    "length and chunks": framed("content-length: 5", "transfer-encoding: chunked", body=CHUNKED + SMUGGLED),
    "chunks and length": framed("transfer-encoding: chunked", "content-length: 5", body=CHUNKED + SMUGGLED),
    "chunked twice": framed("transfer-encoding: chunked", "transfer-encoding: identity", body=CHUNKED),
    "chunked not last": framed("transfer-encoding: chunked, identity", body=CHUNKED),
    "unknown coding": framed("transfer-encoding: xchunked", body=CHUNKED),
    "name with a space": framed("transfer-encoding : chunked", body=CHUNKED),
    "name with a tab": framed("content-length\t: 3"),
    "folded header": framed("x-a: 1\r\n 2", f"content-length: {len(CHAT)}"),
    "folded length": framed("content-length:\r\n 3"),
    "nul in a header": framed("x-a: b\x00c", f"content-length: {len(CHAT)}"),
    "nul in a name": framed("x\x00a: bc", f"content-length: {len(CHAT)}"),
    "bare cr in a header": framed("x-a: b\rcontent-length: 3", f"content-length: {len(CHAT)}"),
    "no colon": framed("nonsense", f"content-length: {len(CHAT)}"),
    "two hosts": framed("host: y", f"content-length: {len(CHAT)}"),
    "no host": b"GET /livez HTTP/1.1\r\n\r\n",
    "bad chunk size": framed("transfer-encoding: chunked", body=b"zz\r\nab\r\n0\r\n\r\n"),
    "negative chunk size": framed("transfer-encoding: chunked", body=b"-1\r\nab\r\n0\r\n\r\n"),
    "enormous chunk size": framed("transfer-encoding: chunked", body=b"f" * 17 + b"\r\nab\r\n0\r\n\r\n"),
    "chunk of wrong length": framed("transfer-encoding: chunked", body=b"3\r\nabcdef\r\n0\r\n\r\n"),
    "chunk with bare lf": framed("transfer-encoding: chunked", body=b"3\nabc\n0\n\n"),
    "bad method": b"GE T /livez HTTP/1.1\r\nhost: x\r\n\r\n",
    "bad version": b"GET /livez HTTP/7.9\r\nhost: x\r\n\r\n",
    "no version": b"GET /livez\r\n\r\n",
    "tls hello": bytes.fromhex("16030100c8010000c40303") + b"\x00" * 200,
    "http/2 preface": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    "nul in the address": b"GET /liv\x00ez HTTP/1.1\r\nhost: x\r\n\r\n",
    "space in the address": b"GET /liv ez HTTP/1.1\r\nhost: x\r\n\r\n",
}


async def test_bad_framing_is_refused_and_smuggles_nothing():
    async with besieged(server=BRIEF) as (gateway, vendor):
        for name, request in BAD_FRAMING.items():
            async with wire(gateway, request) as connection:
                reply = await connection.reply()
                assert reply.status == 400, (name, reply.status, reply.body)
                assert reply.headers[b"connection"] == b"close", name
                assert b"x-request-id" in reply.headers, name
                assert reply.error["code"] == "bad_request", name
                assert await connection.rest() == b"", f"{name}: one answer, then the end"
        assert vendor.statistics()["requests"]["sent"] == 0


async def test_chunked_bodies_and_trailers_are_read_as_one_request():
    async with besieged() as (gateway, vendor):
        pieces = [b"%x;name=value\r\n%b\r\n" % (1, CHAT[i : i + 1]) for i in range(len(CHAT))]
        whole = b"".join(pieces) + b"0\r\nx-trailer: 1\r\n\r\n"
        async with wire(gateway, framed("transfer-encoding: chunked", body=whole)) as connection:
            assert (await connection.reply()).status == 200
            await connection.send(post())
            assert (await connection.reply()).status == 200
        assert vendor.statistics()["requests"]["sent"] == 2


async def test_trailers_change_nothing_and_do_not_pile_up():
    request = framed("transfer-encoding: chunked", body=CHUNKED[:-2])
    async with besieged() as (gateway, _):
        before = psutil.Process().memory_info().rss
        odd = b"x-dujiang-priority: none\r\nhost: y\r\nauthorization: none\r\n"
        async with wire(gateway, request + odd) as connection:
            for number in range(200):
                await connection.send(b"".join(b"x-%d-%d: %b\r\n" % (number, i, b"y" * 900) for i in range(100)))
            await connection.send(b"\r\n")
            assert (await connection.reply()).status == 200
        # 18 MB of trailers went by.
        assert psutil.Process().memory_info().rss - before < 9 * 1024 * 1024


async def test_an_old_client_gets_a_stream_that_ends_with_the_connection():
    body = CHAT[:-1] + b',"stream":true}'
    request = post(body=body).replace(b"HTTP/1.1", b"HTTP/1.0")
    async with besieged() as (gateway, _):
        async with wire(gateway, request) as connection:
            head, _, events = (await connection.rest()).partition(b"\r\n\r\n")
    assert b"transfer-encoding" not in head
    assert events.startswith(b"data: {")
    assert events.endswith(b"data: [DONE]\n\n")


async def test_expect_100_continue_is_answered_only_for_a_body_that_is_wanted():
    async with besieged() as (gateway, _):
        async with wire(gateway, post(ROUTES[0], b"", "expect: 100-continue", length=len(CHAT))) as connection:
            assert await connection.reader.readuntil(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
            await connection.send(CHAT)
            assert (await connection.reply()).status == 200
        refused = post(ROUTES[0], b"", "expect: 100-continue", key="wrong", length=len(CHAT))
        async with wire(gateway, refused) as connection:
            assert (await connection.reply()).status == 401


async def test_an_offer_to_upgrade_is_not_taken():
    headers = ["connection: upgrade, http2-settings", "upgrade: h2c", "http2-settings: AAMAAABkAARAAAAAAAIAAAAA"]
    async with besieged() as (gateway, _):
        assert (await ask(gateway, post(ROUTES[0], CHAT, *headers))).status == 200
        socket_ = ["connection: upgrade", "upgrade: websocket", "sec-websocket-key: x", "sec-websocket-version: 13"]
        request = "\r\n".join(["GET /livez HTTP/1.1", "host: x", *socket_]).encode() + b"\r\n\r\n"
        assert (await ask(gateway, request)).status == 200
        assert (await ask(gateway, b"CONNECT x:443 HTTP/1.1\r\nhost: x:443\r\n\r\n")).status == 400
        # What follows an offer is read as what it is: here the next request.
        async with wire(gateway, post(ROUTES[0], CHAT, *headers), request, post()) as connection:
            assert [(await connection.reply()).status for _ in range(3)] == [200, 200, 200]


# --- slowness ---------------------------------------------------------------------------------------------


async def test_a_slow_head_a_slow_body_and_silence_are_ended_in_time():
    async with besieged(server=BRIEF) as (gateway, _):
        clock = asyncio.get_running_loop().time

        async def dribble(connection: Wire, data: bytes) -> None:
            for index in range(len(data)):
                await connection.send(data[index : index + 1])
                await asyncio.sleep(0.03)

        async with wire(gateway) as silent:
            began = clock()
            assert await silent.rest() == b""
            assert 0.1 < clock() - began < 1.5
        async with wire(gateway, b"POST /v1/chat") as slow_head, asyncio.TaskGroup() as group:
            # Every byte in time, but never a whole head.
            task = group.create_task(dribble(slow_head, b"x" * 100))
            began = clock()
            reply = await slow_head.reply()
            assert (reply.status, reply.error["code"]) == (408, "request_timeout")
            assert clock() - began < 1.5
            task.cancel()
        async with wire(gateway, post(ROUTES[0], CHAT[:5], length=len(CHAT))) as slow_body:
            reply = await slow_body.reply()
            assert (reply.status, reply.error["code"]) == (408, "request_timeout")
            assert reply.headers[b"connection"] == b"close"
            await slow_body.rest()
        (record, *_) = [one for one in await gateway.records() if one.status == 408]
        assert (record.outcome, record.owner) == ("refused", "caller")
        assert record.durations.slow_client >= 100_000_000
        # The connection of an answered call is kept for a while, and no longer.
        async with wire(gateway, post()) as kept:
            await kept.reply()
            began = clock()
            assert await kept.rest() == b""
            assert 0.2 < clock() - began < 1.5


async def test_a_body_that_comes_slowly_but_steadily_is_taken():
    async with besieged(server=BRIEF) as (gateway, _):
        async with wire(gateway, post(ROUTES[0], b"", length=len(CHAT))) as connection:
            for start in range(0, len(CHAT), 8):
                await connection.send(CHAT[start : start + 8])
                await asyncio.sleep(0.03)
            assert (await connection.reply()).status == 200


async def test_a_reader_that_does_not_read_is_waited_for_in_bounded_memory_then_cut_off():
    written = 0

    async def endless(reader, writer):
        nonlocal written
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n")
        event = b'data: {"choices":[{"delta":{"content":"' + b"x" * 8000 + b'"}}]}\n\n'
        chunk = b"%x\r\n%b\r\n" % (len(event), event)
        while True:
            writer.write(chunk)
            await writer.drain()
            written += len(chunk)

    async with raw_vendor(endless) as url:
        config = gateway_config(url, server=BRIEF, vendor={"timeouts": {"total": "2s"}})
        async with running_gateway(config) as gateway:
            async with wire(gateway, post(body=CHAT[:-1] + b',"stream":true}')) as connection:
                connection.writer.transport.pause_reading()
                await until(lambda: gateway.connections() == 0)
                at_cut = written
            await gateway.at_rest()
            (record,) = await gateway.records()
    # Buffers of sockets and transports on the way, never the stream.
    assert at_cut < 32 * 1024 * 1024
    assert record.outcome == "cancelled"
    assert record.durations.slow_client >= 150_000_000


async def test_answers_nobody_reads_stop_the_requests_behind_them():
    """Pipelines calls with large answers and reads none of them."""
    async with besieged(
        server={"write_timeout": "300ms"}, vendor_spec={"output_tokens": 20_000, "tokens_per_s": 0}
    ) as (gateway, vendor):
        request = post(body=CHAT)
        async with wire(gateway) as connection:
            connection.writer.transport.pause_reading()
            before = psutil.Process().memory_info().rss
            for _ in range(200):
                connection.writer.write(request)
            await until(lambda: gateway.connections() == 0, 10)
            grown = psutil.Process().memory_info().rss - before
        assert vendor.statistics()["requests"]["sent"] < 200
        assert grown < 60 * 1024 * 1024


# --- numbers ----------------------------------------------------------------------------------------------


async def test_a_flood_of_headers_is_refused_with_431():
    async with besieged(server={"max_header": "8KiB"}) as (gateway, _):
        floods = [
            post(ROUTES[0], CHAT, *[f"x-{number}: 1" for number in range(5_000)]),
            post(ROUTES[0], CHAT, "x-long: " + "y" * 100_000),
            post("/v1/models?" + "z" * 100_000, b""),
            b"POST /" + b"a" * 100_000,
            b"POST / HTTP/1.1\r\nhost: x\r\n" + b"b" * 100_000,
        ]
        for flood in floods:
            async with wire(gateway, flood) as connection:
                reply = await connection.reply()
                assert reply.status == 431
                assert reply.error["code"] == "headers_too_large"
                assert reply.headers[b"connection"] == b"close"


async def test_pipelined_calls_are_answered_in_order():
    async with besieged(vendor_spec={"first_token_s": "0.004/0.012"}) as (gateway, vendor):
        names = [f"none-{number}" if number % 3 else "assistant" for number in range(20)]
        calls = [
            post(body=json.dumps({"model": name, "messages": [{"role": "user", "content": "x"}]}).encode())
            for name in names
        ]
        async with wire(gateway, b"".join(calls)) as connection:
            for name in names:
                reply = await connection.reply()
                if name == "assistant":
                    assert reply.status == 200
                else:
                    assert reply.status == 404
                    assert f"'{name}'" in reply.error["message"]
        assert vendor.statistics()["requests"]["in_flight_peak"] == 1


async def test_a_client_that_pipelines_and_leaves_leaves_nothing():
    async with besieged() as (gateway, vendor):
        async with wire(gateway, post() * 10) as connection:
            await connection.reply()
        await gateway.at_rest()
        sent = vendor.statistics()["requests"]["sent"]
        assert sent < 10
        records = await gateway.records()
        assert len(records) == sent
        assert records[0].outcome == "ok"


async def test_more_connections_than_allowed_are_told_so_and_room_comes_back():
    async with besieged(server={"max_connections": 20}) as (gateway, _):
        async with contextlib.AsyncExitStack() as stack:
            for _ in range(20):
                await stack.enter_async_context(wire(gateway))
            await until(lambda: gateway.connections() == 20)
            for _ in range(10):
                async with wire(gateway, post()) as connection:
                    reply = await connection.reply()
                    assert (reply.status, reply.error["code"]) == (503, "overloaded")
        await until(lambda: gateway.connections() == 0)


async def test_half_closed_and_reset_connections_leave_nothing():
    async with besieged(vendor_spec={"first_token_s": 0.05}) as (gateway, vendor):
        for piece in (b"", b"POST /v1", post(ROUTES[0], CHAT[:9], length=len(CHAT)), post()):
            async with wire(gateway, piece) as connection:
                await asyncio.sleep(0.01)
                connection.writer.write_eof()
                answer = await connection.rest()
                assert answer == b"" or answer.startswith(b"HTTP/1.1 ")
            async with wire(gateway, piece) as connection:
                socket_ = connection.writer.get_extra_info("socket")
                socket_.setsockopt(1, 13, struct.pack("ii", 1, 0))  # close with a reset
        await gateway.at_rest()
        assert vendor.statistics()["requests"]["in_flight"] == 0


async def test_garbage_of_every_kind_ends_in_a_bounded_time():
    seed = 20_260_731
    source = random.Random(seed)
    tokens = [b"POST ", b"GET ", b"/v1/chat/completions", b" HTTP/1.1", b"\r\n", b"\n", b"host: x", b": ", b"\x00",
              b"content-length: 5", b"transfer-encoding: chunked", b"5\r\nhello\r\n", b"0\r\n\r\n", CHAT, b"\xff" * 9,
              b"authorization: Bearer " + KEY.encode(), b"expect: 100-continue", b"connection: close"]  # fmt: skip
    async with besieged(server=BRIEF) as (gateway, _):

        async def throw(blob: bytes, cut: int) -> None:
            async with wire(gateway, blob[:cut], blob[cut:]) as connection:
                answer = await connection.rest(5)
                assert answer == b"" or answer.startswith(b"HTTP/1.1 "), (seed, blob)

        for _ in range(15):
            async with asyncio.TaskGroup() as group:
                for _ in range(20):
                    if source.random() < 0.3:
                        blob = source.randbytes(source.randint(1, 600))
                    else:
                        blob = b"".join(source.choices(tokens, k=source.randint(1, 14)))
                    group.create_task(throw(blob, source.randint(0, len(blob))))


async def test_memory_stays_bounded_under_a_flood_of_bodies():
    async with besieged(server={"max_body": "1MiB"}) as (gateway, _):
        process = psutil.Process()
        filler = b"x" * 65_536

        async def flood(key: str, *headers: str) -> None:
            async with wire(gateway, post(ROUTES[0], b"", *headers, key=key, length=1 << 40)) as connection:
                if headers:
                    await connection.send(*[b"10000\r\n" + filler + b"\r\n"] * 64)
                else:
                    await connection.send(*[filler] * 64)
                reply = await connection.reply()
                assert reply.status in (401, 413)

        async def wave() -> None:
            async with asyncio.TaskGroup() as group:
                for _ in range(8):
                    group.create_task(flood("wrong"))
                    group.create_task(flood("wrong", "transfer-encoding: chunked"))
                    group.create_task(flood(KEY))
                    group.create_task(flood(KEY, "transfer-encoding: chunked"))

        await wave()
        before = process.memory_info().rss
        for _ in range(3):
            await wave()
        # 384 MiB went by.
        assert process.memory_info().rss - before < 48 * 1024 * 1024


# --- a corpus ---------------------------------------------------------------------------------------------


def corpus() -> list[bytes]:
    """Return the requests of a folder of Markdown files with ```http blocks, such as llhttp's tests are."""
    folder = os.environ.get("DUJIANG_HTTP_CORPUS")
    requests: list[bytes] = []
    for path in sorted(Path(folder).glob("*.md")) if folder else ():
        for block in re.findall(r"```http\n(.*?)```", path.read_text("utf-8"), re.DOTALL):
            text = block.removesuffix("\n").replace("\\\n", "").replace("\n", "\r\n")
            text = re.sub(
                r"\\([rntf0])", lambda match: {"r": "\r", "n": "\n", "t": "\t", "f": "\f", "0": "\0"}[match[1]], text
            )
            text = re.sub(r"\\x([0-9a-fA-F]{2})", lambda match: chr(int(match[1], 16)), text)
            requests.append(text.encode("latin-1", "replace"))
    return requests


@pytest.mark.skipif(not corpus(), reason="DUJIANG_HTTP_CORPUS names no folder of Markdown files with http blocks")
async def test_a_corpus_of_odd_requests_ends_in_a_bounded_time():
    async with besieged(server=BRIEF) as (gateway, _):

        async def throw(request: bytes) -> None:
            async with wire(gateway, request) as connection:
                answer = await connection.rest(5)
                assert answer == b"" or answer.startswith(b"HTTP/1.1 "), request

        for request in corpus():
            async with asyncio.TaskGroup() as group:
                for form in (request, request.replace(b"/url", b"/livez"), request + b"\r\n\r\n"):
                    group.create_task(throw(form))
