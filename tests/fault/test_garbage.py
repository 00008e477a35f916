"""What a call and a connection leave behind goes at once, by reference counts: the collector hardly ever runs here."""

from __future__ import annotations

import asyncio
import gc
import json
from collections import Counter
from collections.abc import Iterator

import pytest
from tests.gateways import KEY, RunningGateway, gateway_before_vendor

ROUNDS = 30


@pytest.fixture
def no_collector() -> Iterator[None]:
    """Keep the collector from running in between: what it would have to find is what is asked for."""
    gc.disable()
    yield
    gc.set_debug(0)
    gc.garbage.clear()
    gc.unfreeze()
    gc.enable()


def garbage() -> dict[str, int]:
    """Return how many of our objects only the collector can free, by kind."""
    gc.set_debug(gc.DEBUG_SAVEALL)
    gc.collect()
    gc.set_debug(0)
    kinds = Counter(f"{type(one).__module__}.{type(one).__qualname__}" for one in gc.garbage)
    gc.garbage.clear()
    return {kind: count for kind, count in kinds.items() if kind.startswith(("dujiang.", "httptools."))}


def request(path: str, **fields: object) -> bytes:
    call = {"model": "assistant", "messages": [{"role": "user", "content": "hi"}], "max_tokens": 20, **fields}
    body = json.dumps(call).encode()
    head = f"POST {path} HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {KEY}\r\ncontent-length: {len(body)}\r\n\r\n"
    return head.encode() + body


async def exchange(gateway: RunningGateway, sent: bytes, *, leave_early: bool = False) -> None:
    """Send a request over a connection of its own, read the answer to its end, or leave after its head, and close."""
    reader, writer = await asyncio.open_connection("127.0.0.1", gateway.port)
    writer.write(sent)
    head = (await reader.readuntil(b"\r\n\r\n")).lower()
    if not leave_early:
        if b"chunked" in head:
            await reader.readuntil(b"0\r\n\r\n")
        else:
            await reader.readexactly(int(head.split(b"content-length: ")[1].split(b"\r\n")[0]))
    writer.close()
    await writer.wait_closed()


@pytest.mark.parametrize(
    ("sent", "leave_early"),
    [
        pytest.param(request("/v1/chat/completions"), False, id="call"),
        pytest.param(request("/v1/chat/completions", stream=True), False, id="stream"),
        pytest.param(request("/v1/messages", stream=True), False, id="translated stream"),
        pytest.param(request("/v1/chat/completions", stream=True), True, id="stream that is left"),
        pytest.param(request("/v1/chat/completions", messages=7), False, id="call the vendor refuses"),
        pytest.param(request("/v1/chat/completions", model="none"), False, id="call the gateway refuses"),
        pytest.param(b"GET /readyz HTTP/1.1\r\nhost: x\r\n\r\n", False, id="page"),
        pytest.param(b"NONSENSE\r\n\r\n", False, id="no HTTP"),
    ],
)
async def test_what_is_over_is_gone_without_the_collector(no_collector: None, sent: bytes, leave_early: bool) -> None:
    async with gateway_before_vendor() as (gateway, _):
        for _ in range(3):
            await exchange(gateway, sent, leave_early=leave_early)
        await gateway.at_rest()
        await gateway.records()
        # What was made before, by other tests too, is not looked at.
        gc.freeze()
        for _ in range(ROUNDS):
            await exchange(gateway, sent, leave_early=leave_early)
        await gateway.at_rest()
        await gateway.records()
        await asyncio.sleep(0.05)
        left = {kind: count for kind, count in garbage().items() if count >= ROUNDS}
    assert left == {}
