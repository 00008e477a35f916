"""A thousand clients that vanish at random moments leave no slot, no task and no connection behind."""

from __future__ import annotations

import asyncio
import contextlib
import random
import socket
import struct
from pathlib import Path

import psutil
import pytest
import yaml
from tests.gateways import KEY, gateway_before_vendor, until

import dujiang.vendors.profiles

SEED = 20_261_121
CLIENTS = 1_000
VENDOR_AT_ONCE = 24
TENANT = [
    {"dimension": "requests", "window": "10m", "value": 100_000},
    {"dimension": "tokens", "window": "10m", "value": 100_000_000},
    {"dimension": "concurrency", "value": 400},
]
AT_VENDOR = [
    {"dimension": "requests", "window": "10m", "value": 100_000},
    {"dimension": "concurrency", "value": VENDOR_AT_ONCE},
]


def request(number: int, stream: bool) -> bytes:
    body = '{"model":"assistant","stream":%s,"messages":[{"role":"user","content":"call %d"}]}'
    text = (body % ("true" if stream else "false", number)).encode()
    head = f"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\nx-api-key: {KEY}\r\ncontent-length: {len(text)}\r\n\r\n"
    return head.encode() + text


async def vanish(port: int, number: int, source: random.Random) -> bool:
    """Call, and hang up at a random moment; return whether the answer had come to its end before."""
    stream, stays, reset = source.random() < 0.5, source.random() < 0.1, source.random() < 0.5
    cut = source.randint(1, 150) if source.random() < 0.1 else None
    start_s, patience_s = source.uniform(0, 1.5), source.choice([0, source.uniform(0, 0.02), source.uniform(0, 0.3)])
    await asyncio.sleep(start_s)
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        writer.write(request(number, stream)[:cut])
        end = b"[DONE]\n\n\r\n0\r\n\r\n" if stream else b"}"
        if cut is None and stays:
            answer = b""
            while not answer.endswith(end):
                piece = await reader.read(65536)
                assert piece, answer
                answer += piece
            assert answer.startswith(b"HTTP/1.1 200 OK"), answer
            return True
        await asyncio.sleep(patience_s)
        if reset:
            connection: socket.socket = writer.get_extra_info("socket")
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        return False
    finally:
        writer.transport.abort()
        with contextlib.suppress(Exception):
            await writer.wait_closed()


@pytest.mark.parametrize("frees", [False, True], ids=["vendor-goes-on", "vendor-stops"])
async def test_a_storm_of_cancelled_calls_leaves_nothing(frees, tmp_path):
    data = Path(dujiang.vendors.profiles.__file__).parent / "profile_data" / "simulated.yaml"
    profile = tmp_path / "storm.yaml"
    habits = {**yaml.safe_load(data.read_text("utf-8")), "name": "storm", "disconnect_frees": frees}
    profile.write_text(yaml.safe_dump(habits))
    spec = {
        "first_token_s": "0.02/0.05",
        "tokens_per_s": 1000,
        "output_tokens": 12,
        # The vendor frees a slot when it has noticed that its client is gone: later than the client knows.
        "limits": ["requests/10m=100000", f"concurrency={VENDOR_AT_ONCE if not frees else 4 * VENDOR_AT_ONCE}"],
        "on_disconnect": "stop" if frees else "continue",
    }
    config = {"profile": str(profile), "limits": TENANT, "vendor_limits": AT_VENDOR, "plan": {"wait_at_limit": "5s"}}
    source = random.Random(SEED)
    async with gateway_before_vendor(vendor_spec=spec, **config) as (gateway, vendor):
        tasks_before, files_before = len(asyncio.all_tasks()), psutil.Process().num_fds()
        sources = [random.Random(source.random()) for _ in range(CLIENTS)]
        ends = await asyncio.gather(*[vanish(gateway.port, i, one) for i, one in enumerate(sources)])
        await gateway.at_rest()
        await until(lambda: gateway.connections() == 0)
        await until(lambda: vendor.statistics()["requests"]["in_flight"] == 0)
        records = await gateway.records()
        client = gateway.gateway.client

        assert len(asyncio.all_tasks()) == tasks_before, f"seed {SEED}"
        assert client.connections() == sum(len(pool.idle) for pool in client._pools.values()) <= 4 * VENDOR_AT_ONCE
        assert psutil.Process().num_fds() <= files_before + 2 * client.connections() + 4
        assert gateway.meter_use("tenant shop", "concurrency") == 0
        assert gateway.meter_use("vendor acme/main", "concurrency") == 0

        saw = vendor.statistics()
        sent = [
            record for record in records if record.attempts or (record.outcome == "cancelled" and record.deployment)
        ]
        counted = gateway.meter_use("tenant shop", "requests")
        assert saw["requests"]["refused"] == 0
        # Whoever stayed was answered; others' answers may have come to their end before they left.
        assert sum(ends) <= sum(record.outcome == "ok" for record in records)
        outcomes = {record.outcome for record in records}
        assert outcomes <= {"ok", "cancelled", "refused"}
        assert len([record for record in records if record.outcome == "cancelled"]) > CLIENTS / 3
        used = sum(record.input_tokens + record.output_tokens for record in records)
        assert gateway.meter_use("tenant shop", "tokens") == used
        if frees:
            # A request that was cut off on its way may never have reached the vendor.
            assert saw["requests"]["accepted"] <= counted <= saw["requests"]["accepted"] + len(sent) // 4
        else:
            assert counted == saw["requests"]["accepted"] == gateway.meter_use("vendor acme/main", "requests")
            assert used == saw["tokens"]["input"] + saw["tokens"]["output"]
            assert {record.usage_source for record in records} <= {"vendor", "none"}


async def test_a_client_that_leaves_while_it_waits_gives_its_place_to_the_next():
    spec = {"first_token_s": 0.1}
    limits = [{"dimension": "concurrency", "value": 1}]
    async with gateway_before_vendor(vendor_spec=spec, vendor_limits=limits) as (gateway, vendor):
        writers = []
        for number in range(6):
            _, writer = await asyncio.open_connection("127.0.0.1", gateway.port)
            writer.write(request(number, False))
            writers.append(writer)
            await until(lambda count=number: gateway.gateway.admission.waiting == count)
        for writer in writers[1:5]:
            writer.transport.abort()
        await until(lambda: gateway.gateway.admission.waiting == 1)
        await until(lambda: gateway.gateway.admission.waiting == 0)
        await gateway.at_rest()
        records = await gateway.records()
        writers[0].transport.abort()
        writers[5].transport.abort()
    assert sorted(record.outcome for record in records) == ["cancelled"] * 4 + ["ok"] * 2
    assert vendor.statistics()["requests"]["sent"] == 2
    cancelled = [record for record in records if record.outcome == "cancelled"]
    assert all((one.owner, one.status, one.usage_source) == ("caller", 499, "none") for one in cancelled)
    assert all(one.durations.vendor_queue > 0 and one.input_tokens == one.output_tokens == 0 for one in cancelled)
