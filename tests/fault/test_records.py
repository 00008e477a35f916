"""Every way a call can end leaves one record that tells whose doing it was and where its time went."""

from __future__ import annotations

import asyncio
import io
import json
import logging
import sqlite3

import httpx
import pytest
from tests.gateways import (
    KEY,
    VENDOR_KEY,
    ManualClock,
    RunningGateway,
    gateway_before_vendor,
    gateway_config,
    raw_vendor,
    read_request,
    running_gateway,
    simulated_vendor,
    until,
)

HELLO = [{"role": "user", "content": "Where does the river divide?"}]
ASKED = {"model": "assistant", "messages": HELLO}
MS = 1_000_000


async def chat(gateway: RunningGateway, headers=None, **change) -> httpx.Response:
    async with httpx.AsyncClient(timeout=10) as client:
        return await client.post(
            f"{gateway.openai_url}/chat/completions",
            json=ASKED | change,
            headers={**gateway.headers, **(headers or {})},
        )


class LeavingClient:
    """A client that calls and can leave."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    @classmethod
    async def call(cls, gateway: RunningGateway, *, part: float = 1, **change) -> LeavingClient:
        """Send a call, or only the first part of its body."""
        reader, writer = await asyncio.open_connection("127.0.0.1", gateway.port)
        body = json.dumps(ASKED | change).encode()
        head = (
            f"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\nx-api-key: {KEY}\r\ncontent-length: {len(body)}\r\n\r\n"
        )
        writer.write(head.encode() + body[: round(len(body) * part)])
        return cls(reader, writer)

    def leave(self) -> None:
        self.writer.transport.abort()


async def ended(gateway: RunningGateway):
    """Return the only record once nothing is under way."""
    await gateway.at_rest()
    return await gateway.record()


# --- where the time went ----------------------------------------------------------------------------------


async def test_the_time_of_a_call_is_where_it_was_spent():
    spec = {"first_token_s": 0.06, "tokens_per_s": 200, "output_tokens": 12}
    async with gateway_before_vendor(vendor_spec=spec) as (gateway, _):
        await chat(gateway)
        await chat(gateway, stream=True)
        whole, stream = await gateway.records()
    # Twelve tokens at 200 a second, the first after 60 ms.
    for record in (whole, stream):
        spent = record.durations
        assert record.outcome == "ok"
        assert spent.tenant_queue == spent.vendor_queue == 0
        assert spent.own < 30 * MS
        assert spent.slow_client < 30 * MS
    assert whole.durations.vendor_first_byte >= 110 * MS
    assert whole.durations.vendor_stream == 0
    assert 55 * MS <= stream.durations.vendor_first_byte < 100 * MS
    assert stream.durations.vendor_stream >= 45 * MS
    assert stream.stamps.first_client_write < stream.stamps.last_vendor_byte
    assert whole.durations.connect > 0


async def test_waiting_is_booked_to_the_side_whose_limit_it_was():
    spec = {"first_token_s": 0.05, "tokens_per_s": 0}
    one = [{"dimension": "concurrency", "value": 1}]
    for side in ({"limits": one, "plan": {"wait_at_limit": "5s"}}, {"vendor_limits": one}):
        async with gateway_before_vendor(vendor_spec=spec, **side) as (gateway, _):
            answers = await asyncio.gather(*[chat(gateway) for _ in range(3)])
            records = sorted(await gateway.records(), key=lambda record: record.wall_ns)
        assert [answer.status_code for answer in answers] == [200] * 3
        by_tenant = "limits" in side
        for position, record in enumerate(records):
            own, other = record.durations.tenant_queue, record.durations.vendor_queue
            if not by_tenant:
                own, other = other, own
            assert other < MS
            assert position * 45 * MS <= own < position * 45 * MS + 60 * MS
        waited = {record.waited_for for record in records}
        name = "tenant shop concurrency" if by_tenant else "vendor:vendor acme/main concurrency"
        assert waited == {None, name}
        assert any(int(answer.headers["x-dujiang-queue-ms"]) >= 45 for answer in answers)


async def test_a_call_is_described_without_its_text():
    async with gateway_before_vendor() as (gateway, _):
        headers = {"x-dujiang-tags": "team=search,env=prod", "x-dujiang-priority": "interactive"}
        await chat(gateway, headers, user="Ann Example", metadata={"ticket": "7"}, max_completion_tokens=5)
        await chat(gateway, stream=True, user="Ann Example", max_completion_tokens=5)
        await chat(gateway, user="Bob", max_completion_tokens=5, messages=[{**HELLO[0], "content": "WHERE  does"}])
        first, again, other = await gateway.records()
    assert first.tags == {"ticket": "7", "team": "search", "env": "prod"}
    assert (first.tenant, first.project, first.key) == ("shop", "default", "shop/default/dev")
    assert (first.priority, first.model, first.vendor_model) == ("interactive", "assistant", "m")
    assert (first.deployment, first.vendor_request_id) == ("acme/main/m", "req_000000010000000000000001")
    assert len({first.fingerprint, again.fingerprint, other.fingerprint}) == 3
    assert first.normalised_fingerprint == again.normalised_fingerprint != other.normalised_fingerprint
    assert first.end_user == again.end_user != other.end_user
    assert "Ann" not in first.end_user
    assert first.reserved_tokens == first.estimated_input_tokens + 5
    assert (first.output_tokens, first.usage_source) == (5, "vendor")
    assert 100 < first.request_bytes < 400
    assert first.answer_bytes > 300


# --- refused before any vendor ----------------------------------------------------------------------------


async def test_a_tenants_own_limit_refuses_exactly_until_there_is_room():
    clock = ManualClock()
    limits = [
        {"dimension": "requests", "window": "60s", "value": 2},
        {"dimension": "tokens", "window": "10m", "value": 60},
    ]
    async with gateway_before_vendor(clock=clock, limits=limits) as (gateway, vendor):
        ask = {"max_completion_tokens": 5, "messages": [{"role": "user", "content": "hi"}]}
        assert (await chat(gateway, **ask)).status_code == 200
        clock.advance_ms(10_500)
        assert (await chat(gateway, **ask)).status_code == 200
        refused = await chat(gateway, **ask)
        assert refused.status_code == 429
        assert (refused.headers["retry-after-ms"], refused.headers["retry-after"]) == ("49500", "50")
        assert refused.headers["x-ratelimit-remaining-requests"] == "0"
        clock.advance_ms(49_499)
        early = await chat(gateway, **ask)
        assert (early.status_code, early.headers["retry-after-ms"], early.headers["retry-after"]) == (429, "1", "1")
        clock.advance_ms(1)
        assert (await chat(gateway, **ask)).status_code == 200
        records = await gateway.records()
        sent = vendor.statistics()["requests"]["sent"]
    assert sent == 3
    for record in records:
        if record.status == 429:
            assert (record.outcome, record.owner, record.error) == ("refused", "tenant", "rate_limit_exceeded")
            assert record.attempts == ()
            assert record.deployment is None
            assert record.usage_source == "none"


async def test_a_token_limit_and_a_day_limit_say_exactly_when_as_well():
    clock = ManualClock()
    for window in ("10m", "day"):
        in_ms = 600_000 if window == "10m" else 86_400_000 - clock.wall() // MS % 86_400_000
        limits = [{"dimension": "tokens", "window": window, "value": 51}]
        async with gateway_before_vendor(clock=clock, limits=limits, vendor_spec={"output_tokens": 25}) as (gateway, _):
            ask = {"max_completion_tokens": 25, "messages": [{"role": "user", "content": "hi"}]}
            assert (await chat(gateway, **ask)).status_code == 200
            refused = await chat(gateway, **ask)
            assert refused.status_code == 429
            assert int(refused.headers["retry-after-ms"]) == in_ms
            assert refused.json()["error"]["type"] == "tokens"
            clock.advance_ms(in_ms - 1)
            assert (await chat(gateway, **ask)).status_code == 429
            clock.advance_ms(1)
            assert (await chat(gateway, **ask)).status_code == 200


async def test_a_call_larger_than_a_limit_is_told_that_waiting_is_no_use():
    limits = [{"dimension": "tokens", "window": "60s", "value": 10}]
    async with gateway_before_vendor(limits=limits) as (gateway, _):
        answer = await chat(gateway, max_completion_tokens=500)
        record = await gateway.record()
    assert answer.status_code == 429
    assert answer.headers["x-should-retry"] == "false"
    assert "retry-after" not in answer.headers
    assert (record.outcome, record.owner) == ("refused", "tenant")


async def test_a_full_queue_refuses_and_those_in_it_are_served():
    release = asyncio.Event()

    async def held(reader, writer):
        while True:
            await read_request(reader)
            await release.wait()
            writer.write(b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 2\r\n\r\n{}")

    limits = [{"dimension": "concurrency", "value": 1}]
    async with raw_vendor(held) as url:
        config = gateway_config(url, vendor_limits=limits, queue={"max_calls": 1})
        async with running_gateway(config) as gateway, asyncio.TaskGroup() as group:
            served = [group.create_task(chat(gateway))]
            await until(lambda: gateway.gateway.admission.held == 1)
            served.append(group.create_task(chat(gateway)))
            await until(lambda: gateway.gateway.admission.waiting == 1)
            refused = await chat(gateway)
            release.set()
            await asyncio.wait(served)
            records = await gateway.records()
    assert [task.result().status_code for task in served] == [200, 200]
    assert (refused.status_code, refused.json()["error"]["code"]) == (503, "overloaded")
    assert int(refused.headers["retry-after-ms"]) >= 1
    (record,) = [record for record in records if record.status == 503]
    assert (record.outcome, record.owner, record.attempts) == ("refused", "gateway", ())


async def test_a_deadline_that_passes_in_the_queue_is_told_at_once_and_booked():
    async def silent(reader, writer):
        await reader.read()

    limits = [{"dimension": "concurrency", "value": 1}]
    async with raw_vendor(silent) as url:
        config = gateway_config(url, vendor_limits=limits, vendor={"timeouts": {"first_byte": "400ms"}})
        async with running_gateway(config) as gateway:
            holder = await LeavingClient.call(gateway)
            await until(lambda: gateway.gateway.admission.held == 1)
            gateway.gateway.admission._lanes.clear()
            # The queue expects the slot sooner than it comes.
            (meter,) = [m for m in gateway.gateway.book.meters() if m.name == "vendor acme/main concurrency"]
            meter._hold_ns = 10 * MS
            refused = await chat(gateway, headers={"x-dujiang-deadline-ms": "120"})
            holder.leave()
            await gateway.at_rest()
            record = next(one for one in await gateway.records() if one.status == 503)
    assert refused.status_code == 503
    assert "deadline passed while the call waited" in refused.json()["error"]["message"]
    assert (record.outcome, record.owner) == ("refused", "gateway")
    assert record.durations.vendor_queue >= 115 * MS
    assert record.waited_for == "vendor:vendor acme/main concurrency"


# --- cancelled --------------------------------------------------------------------------------------------


async def test_cancelled_while_the_body_comes():
    async with gateway_before_vendor() as (gateway, vendor):
        client = await LeavingClient.call(gateway, part=0.5)
        await until(lambda: gateway.gateway.pipeline.in_flight == 1)
        client.leave()
        record = await ended(gateway)
        sent = vendor.statistics()["requests"]["sent"]
    assert (record.outcome, record.owner, record.status, record.model) == ("cancelled", "caller", 499, None)
    assert record.durations.slow_client > 0
    assert sent == 0


@pytest.mark.parametrize("stream", [False, True])
async def test_cancelled_before_the_first_byte_while_the_vendor_works_on(stream):
    spec = {"first_token_s": 0.08, "tokens_per_s": 0}
    limits = [{"dimension": "tokens", "window": "60s", "value": 10_000}, {"dimension": "concurrency", "value": 3}]
    async with gateway_before_vendor(vendor_spec=spec, limits=limits, vendor_limits=limits) as (gateway, vendor):
        client = await LeavingClient.call(gateway, stream=stream)
        await until(lambda: vendor.statistics()["requests"]["in_flight"] == 1)
        client.leave()
        await until(lambda: gateway.gateway.pipeline.relay.draining == 1)
        # The slot is held as long as the vendor holds it.
        held = gateway.meter_use("vendor acme/main", "concurrency")
        record = await ended(gateway)
        used, after = gateway.meter_use("tenant shop", "tokens"), gateway.meter_use("vendor acme/main", "concurrency")
    assert (held, after) == (1, 0)
    assert (record.outcome, record.owner, record.status) == ("cancelled", "caller", 499)
    assert (record.input_tokens, record.output_tokens, record.usage_source) == (7, 12, "vendor")
    assert used == 19
    assert record.wall_ns >= 75 * MS
    assert vendor.statistics()["requests"]["finished"] == 1


async def test_cancelled_in_the_middle_of_a_stream_is_counted_to_its_end():
    spec = {"first_token_s": 0.002, "tokens_per_s": 200, "output_tokens": 20}
    limits = [{"dimension": "tokens", "window": "60s", "value": 10_000}]
    async with gateway_before_vendor(vendor_spec=spec, limits=limits) as (gateway, vendor):
        client = await LeavingClient.call(gateway, stream=True)
        await client.reader.readuntil(b'"finish_reason":null')
        client.leave()
        record = await ended(gateway)
        used = gateway.meter_use("tenant shop", "tokens")
    assert (record.outcome, record.owner, record.output_tokens) == ("cancelled", "caller", 20)
    assert used == 27
    assert record.stamps.first_client_write is not None
    assert vendor.statistics()["requests"]["finished"] == 1


async def test_cancelled_at_a_vendor_whose_work_ends_with_the_connection():
    spec = {"first_token_s": 0.002, "tokens_per_s": 100, "output_tokens": 50, "on_disconnect": "stop"}
    async with gateway_before_vendor(vendor_spec=spec, profile="vllm") as (gateway, vendor):
        client = await LeavingClient.call(gateway, stream=True)
        await client.reader.readuntil(b'"finish_reason":null')
        client.leave()
        record = await ended(gateway)
        await until(lambda: vendor.statistics()["requests"]["in_flight"] == 0)
    assert (record.outcome, record.usage_source, record.status) == ("cancelled", "counted", 499)
    assert 0 < record.output_tokens < 40
    assert vendor.statistics()["requests"]["abandoned"] == 1


# --- the end of a gateway ---------------------------------------------------------------------------------


async def test_a_gateway_that_ends_lets_calls_end_and_writes_every_record(tmp_path):
    database = tmp_path / "dujiang.db"
    spec = {"first_token_s": 0.01, "tokens_per_s": 100, "output_tokens": 20}
    async with simulated_vendor(**spec) as (_, url):
        config = gateway_config(url) | {"storage": {"url": f"sqlite:///{database}", "flush_interval": "60s"}}
        async with running_gateway(config) as gateway:
            async with httpx.AsyncClient(headers=gateway.headers, timeout=10) as client:
                path = f"{gateway.openai_url}/chat/completions"
                for _ in range(5):
                    await client.post(path, json=ASKED | {"model": "none"})
                stream = asyncio.get_running_loop().create_task(client.post(path, json=ASKED | {"stream": True}))
                kept = await asyncio.open_connection("127.0.0.1", gateway.port)
                await until(lambda: gateway.gateway.admission.held == 1)
                gateway.worker.stop()
                await until(lambda: gateway.gateway.pipeline.draining)
                assert await kept[0].read() == b""
                kept[1].close()
                with pytest.raises((httpx.ConnectError, httpx.RemoteProtocolError, httpx.ReadError)):
                    async with httpx.AsyncClient() as late:
                        await late.get(f"{gateway.base_url}/livez")
                answer = await stream
                assert answer.text.endswith("data: [DONE]\n\n")
                assert answer.status_code == 200
    with sqlite3.connect(database) as connection:
        rows = connection.execute("SELECT outcome, count(*) FROM records GROUP BY outcome ORDER BY outcome").fetchall()
    connection.close()
    assert rows == [("ok", 1), ("refused", 5)]


# --- secrets ----------------------------------------------------------------------------------------------


async def test_no_log_no_error_and_no_record_holds_a_key_or_a_prompt(capfdbinary, monkeypatch):
    from dujiang.server.logs import JsonFormatter

    prompt = "the-prompt-nobody-may-see"
    written = io.StringIO()
    handler = logging.StreamHandler(written)
    handler.setFormatter(JsonFormatter())
    root = logging.getLogger()
    level = root.level
    root.addHandler(handler)
    root.setLevel("DEBUG")
    told = []
    messages = [{"role": "user", "content": prompt}]
    faults = [
        "error,requests=2,status=500",
        "storm,requests=5,retry_after=1ms",
        "cut,requests=7",
        "revoked,requests=9-",
    ]
    try:
        async with gateway_before_vendor(
            vendor_spec={"faults": faults}, telemetry={"log_calls": True, "log_level": "debug"}
        ) as (gateway, _):
            for change in (
                {},
                {"temperature": 99},
                {"model": "nothing"},
                {"stream": True},
                {"n": prompt},
                {"stream": True, "tools": [{"type": prompt}]},
                {"metadata": {"simulate_output_tokens": "odd"}, "user": prompt},
            ):
                told.append((await chat(gateway, messages=messages, **change)).text)
            for headers in ({"authorization": "Bearer wrong-key-4711-secret"}, {"x-dujiang-priority": "odd"}):
                told.append((await chat(gateway, headers, messages=messages)).text)

            def fail(*_arguments):
                raise RuntimeError(f"a bug that quotes {prompt} and {KEY}")

            monkeypatch.setattr("dujiang.gateway.pipeline.decode_call", fail)
            broken = await chat(gateway, messages=messages)
            assert broken.status_code == 500
            told.append(broken.text)
            monkeypatch.undo()
            for _ in range(3):
                told.append((await chat(gateway, messages=messages, stream=True)).text)
            records = await gateway.records()
            stored = [json.dumps(gateway.gateway.store.record(record.request_id), default=str) for record in records]
    finally:
        root.removeHandler(handler)
        root.setLevel(level)
    output = b"".join(capfdbinary.readouterr()).decode()
    assert output.count('"event":"call"') == len(records) == len(told)
    assert "a call failed inside the gateway" in written.getvalue()
    refusals = [text for text in told if '"error"' in text]
    assert len(refusals) >= 7
    for place in (output, written.getvalue(), *stored):
        for secret in (prompt, KEY, VENDOR_KEY, "wrong-key-4711-secret"):
            assert secret not in place
    for text in refusals:
        for secret in (KEY, VENDOR_KEY, "wrong-key-4711-secret"):
            assert secret not in text


async def test_every_moment_of_a_call_to_a_slow_vendor_and_a_slow_reader_is_in_one_part():
    """Sends big pieces to a reader that takes them slowly: the vendor is held back, and the time is the reader's."""

    async def big(reader, writer):
        await read_request(reader)
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n")
        event = b'data: {"choices":[{"index":0,"delta":{"content":"' + b"x" * 32_000 + b'"}}]}\n\n'
        for _ in range(600):
            writer.write(b"%x\r\n%b\r\n" % (len(event), event))
            await writer.drain()
        last = b'data: {"choices":[],"usage":{"prompt_tokens":3,"completion_tokens":600}}\n\ndata: [DONE]\n\n'
        writer.write(b"%x\r\n%b\r\n0\r\n\r\n" % (len(last), last))
        await writer.drain()

    async with raw_vendor(big) as url, running_gateway(gateway_config(url)) as gateway:
        client = await LeavingClient.call(gateway, stream=True)
        client.writer.transport.pause_reading()
        await asyncio.sleep(0.25)
        client.writer.transport.resume_reading()
        async with asyncio.timeout(10):
            while not (await client.reader.read(1 << 20)).endswith(b"0\r\n\r\n"):
                pass
        client.leave()
        record = await ended(gateway)
    assert (record.outcome, record.output_tokens) == ("ok", 600)
    assert record.durations.slow_client >= 150 * MS
    assert record.answer_bytes > 600 * 32_000
