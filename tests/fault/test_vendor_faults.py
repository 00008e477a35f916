"""Vendors that refuse, break down, fall silent or break off: what the caller gets, and what is counted."""

from __future__ import annotations

import asyncio
import json

import httpx
import openai
import pytest
from tests.gateways import (
    KEY,
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
LIMITS = [
    {"dimension": "requests", "window": "60s", "value": 1000},
    {"dimension": "tokens", "window": "60s", "value": 100_000},
    {"dimension": "concurrency", "value": 10},
]
TIMEOUTS = {"timeouts": {"connect": "200ms", "first_byte": "150ms", "between_bytes": "150ms", "total": "2s"}}
ROUTES = {
    "chat": ("/v1/chat/completions", ASKED),
    "responses": ("/v1/responses", {"model": "assistant", "input": "Where?"}),
    "messages": ("/v1/messages", {**ASKED, "max_tokens": 50}),
}


@pytest.fixture(autouse=True)
def _short_backoff(monkeypatch):
    """Breakdowns are tried again at once here: how long a call waits before is not what these tests are about."""
    monkeypatch.setattr("dujiang.gateway.pipeline.backoff_s", lambda attempts: 0.002 * attempts)


async def post(gateway: RunningGateway, dialect: str = "chat", headers=None, **change) -> httpx.Response:
    path, body = ROUTES[dialect]
    async with httpx.AsyncClient(timeout=10) as client:
        return await client.post(
            gateway.base_url + path, json=body | change, headers={**gateway.headers, **(headers or {})}
        )


def events(response: httpx.Response) -> list[dict]:
    """Return the JSON of a stream's events, `[DONE]` left out."""
    lines = [line[6:] for line in response.text.split("\n") if line.startswith("data: ")]
    return [json.loads(line) for line in lines if line != "[DONE]"]


def sdk(gateway: RunningGateway) -> openai.AsyncOpenAI:
    return openai.AsyncOpenAI(base_url=gateway.openai_url, api_key=KEY, max_retries=0, timeout=10)


# --- refusals: tried again, elsewhere or later ------------------------------------------------------------


async def test_a_storm_of_429_is_waited_out_by_the_vendors_hint_and_no_caller_notices():
    spec = {"faults": ["storm,requests=1-3,retry_after=120ms"]}
    async with gateway_before_vendor(vendor_spec=spec, limits=LIMITS, vendor_limits=LIMITS) as (gateway, vendor):
        clock = asyncio.get_running_loop().time
        began = clock()
        answers = await asyncio.gather(*[post(gateway) for _ in range(6)])
        took_s = clock() - began
        records = await gateway.records()
        used = [gateway.meter_use("tenant shop", name) for name in ("requests", "tokens", "concurrency")]
        vendor_used = gateway.meter_use("vendor acme/main", "requests")
    assert [answer.status_code for answer in answers] == [200] * 6
    assert 0.12 <= took_s < 2
    assert all(record.outcome == "ok" and record.owner == "vendor" for record in records)
    attempts = [[attempt.outcome for attempt in record.attempts] for record in records]
    assert sum(outcomes.count("rate") for outcomes in attempts) == 3
    assert all(outcomes[-1] == "ok" for outcomes in attempts)
    waited = [record for record in records if len(record.attempts) > 1]
    assert all(record.durations.vendor_queue >= 100_000_000 for record in waited)
    # Refused calls cost the tenant nothing, and at this vendor nothing either.
    assert used == [6, 6 * 19, 0]
    assert vendor_used == 6
    assert vendor.statistics()["requests"]["refused"] == 3


async def test_a_storm_longer_than_the_deadline_ends_in_an_honest_refusal():
    spec = {"faults": ["storm,retry_after=30s"]}
    async with gateway_before_vendor(vendor_spec=spec) as (gateway, vendor):
        answer = await post(gateway, headers={"x-dujiang-deadline-ms": "300"})
        again = await post(gateway, headers={"x-dujiang-deadline-ms": "300"})
        first, second = await gateway.records()
    assert (answer.status_code, again.status_code) == (503, 503)
    assert 29_000 < int(again.headers["retry-after-ms"]) <= 30_000
    assert (first.outcome, first.owner, len(first.attempts)) == ("refused", "gateway", 1)
    assert (second.outcome, second.owner, len(second.attempts)) == ("refused", "gateway", 0)
    assert vendor.statistics()["requests"]["sent"] == 1


@pytest.mark.parametrize("status", [500, 502, 503, 529])
async def test_a_breakdown_is_tried_again_and_then_told(status):
    async with gateway_before_vendor(vendor_spec={"faults": [f"error,requests=1,status={status}"]}) as (gateway, _):
        config_pause = await post(gateway, headers={"x-dujiang-deadline-ms": "5000"})
        record = await gateway.record()
    assert config_pause.status_code == 200
    assert [attempt.status for attempt in record.attempts] == [status, 200]


@pytest.mark.parametrize("dialect", list(ROUTES))
async def test_a_vendor_that_keeps_breaking_down_is_a_502_that_should_not_be_repeated(dialect):
    spec = {"faults": ["error,status=500"]}
    async with gateway_before_vendor(vendor_spec=spec, limits=LIMITS, profile="openai") as (gateway, vendor):
        answer = await post(gateway, dialect)
        record = await gateway.record()
        used = gateway.meter_use("tenant shop", "tokens")
    assert answer.status_code == 502
    assert answer.headers["x-should-retry"] == "false"
    error = answer.json()["error"]
    assert "Simulated" not in error["message"]
    if dialect == "messages":
        assert (error["type"], error["details"]["error_code"]) == ("api_error", "upstream_error")
    else:
        assert (error["type"], error["code"]) == ("server_error", "upstream_error")
    assert (record.outcome, record.owner, record.status) == ("failed", "vendor", 502)
    assert len(record.attempts) == vendor.statistics()["requests"]["failed"] == 3
    assert used == 0


async def test_a_revoked_key_is_our_502_and_names_no_key():
    async with gateway_before_vendor(vendor_spec={"faults": ["revoked"]}) as (gateway, vendor):
        answer = await post(gateway)
        record = await gateway.record()
    assert answer.status_code == 502
    assert answer.json()["error"]["code"] == "upstream_error"
    assert "sk-" not in answer.text
    assert (record.outcome, record.owner) == ("failed", "vendor")
    assert [attempt.outcome for attempt in record.attempts] == ["key"]
    assert vendor.statistics()["requests"]["sent"] == 1


async def test_an_account_without_money_is_not_asked_again():
    spec = {"faults": ["error,status=429,code=insufficient_quota"]}
    async with gateway_before_vendor(vendor_spec=spec, profile="openai") as (gateway, vendor):
        answer = await post(gateway)
        again = await post(gateway, headers={"x-dujiang-deadline-ms": "200"})
        record, _ = await gateway.records()
    assert (answer.status_code, again.status_code) == (502, 503)
    assert [attempt.outcome for attempt in record.attempts] == ["money"]
    assert vendor.statistics()["requests"]["sent"] == 1


@pytest.mark.parametrize("stream", [False, True])
async def test_what_the_vendor_calls_invalid_is_the_callers_400_with_its_field(stream):
    async with gateway_before_vendor(limits=LIMITS) as (gateway, vendor):
        answer = await post(gateway, temperature=9, stream=stream)
        record = await gateway.record()
        used = [gateway.meter_use("tenant shop", "tokens"), gateway.meter_use("tenant shop", "concurrency")]
    assert answer.status_code == 400
    assert answer.headers["content-type"] == "application/json"
    error = answer.json()["error"]
    assert (error["param"], error["code"], error["type"]) == ("temperature", "invalid_value", "invalid_request_error")
    assert "x-should-retry" not in answer.headers
    assert (record.outcome, record.owner, record.status) == ("refused", "caller", 400)
    assert [attempt.outcome for attempt in record.attempts] == ["invalid"]
    assert used == [0, 0]
    assert vendor.statistics()["requests"]["sent"] == 1


# --- silence ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("stream", [False, True])
async def test_silence_before_the_first_byte_is_a_504_and_counts_as_work_done(stream):
    spec = {"faults": ["hang"]}
    config = {"vendor": TIMEOUTS, "limits": LIMITS, "vendor_limits": LIMITS}
    async with gateway_before_vendor(vendor_spec=spec, **config) as (gateway, vendor):
        answer = await post(gateway, stream=stream, max_tokens=40)
        record = await gateway.record()
        tenant = gateway.meter_use("tenant shop", "tokens")
        at_vendor = gateway.meter_use("vendor acme/main", "requests")
        await until(lambda: vendor.statistics()["requests"]["in_flight"] == 0)
    assert answer.status_code == 504
    assert answer.json()["error"]["code"] == "upstream_timeout"
    assert (record.outcome, record.owner) == ("failed", "vendor")
    assert len(record.attempts) == 3
    assert all(140_000_000 < attempt.wall_ns < 400_000_000 for attempt in record.attempts)
    assert record.durations.vendor_first_byte >= 3 * 140_000_000
    assert tenant == 0
    # The vendor may have worked on each of them.
    assert at_vendor == 3


async def test_silence_in_the_middle_of_a_stream_ends_it_with_an_error_event():
    async def stall(reader, writer):
        await read_request(reader)
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n")
        event = b'data: {"choices":[{"index":0,"delta":{"content":"river "}}]}\n\n'
        writer.write(b"%x\r\n%b\r\n" % (len(event), event))
        await writer.drain()
        await reader.read()

    async with raw_vendor(stall) as url, running_gateway(gateway_config(url, vendor=TIMEOUTS)) as gateway:
        answer = await post(gateway, stream=True)
        record = await gateway.record()
    first, last = events(answer)
    assert first["choices"][0]["delta"]["content"] == "river "
    assert last["error"]["code"] == "upstream_timeout"
    assert "[DONE]" not in answer.text
    assert (record.outcome, record.owner, record.error) == ("broken", "vendor", "upstream_timeout")
    assert record.durations.vendor_stream >= 140_000_000


async def test_a_vendor_nobody_listens_at_is_a_502_and_was_never_charged():
    async with raw_vendor(read_request) as url:
        pass
    config = gateway_config(url, vendor=TIMEOUTS, limits=LIMITS, vendor_limits=LIMITS)
    async with running_gateway(config) as gateway:
        answer = await post(gateway)
        record = await gateway.record()
        at_vendor = gateway.meter_use("vendor acme/main", "requests")
        connections = gateway.gateway.client.connections()
    assert answer.status_code == 502
    assert (record.outcome, record.owner) == ("failed", "vendor")
    assert at_vendor == 0
    assert connections == 0


# --- breaking off -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("dialect", list(ROUTES))
@pytest.mark.parametrize("protocol", ["openai", "anthropic"])
@pytest.mark.parametrize("usage", [False, True])
async def test_a_stream_cut_by_the_vendor_ends_with_an_error_event_and_is_settled_by_what_came(
    dialect, protocol, usage
):
    spec = {"faults": ["cut,chunks=7"], "dialects": [protocol], "output_tokens": 40}
    config = {"protocol": protocol, "limits": LIMITS}
    options = {"stream_options": {"include_usage": True}} if usage and dialect == "chat" else {}
    async with gateway_before_vendor(vendor_spec=spec, **config) as (gateway, _):
        answer = await post(gateway, dialect, stream=True, **options)
        record = await gateway.record()
        used = gateway.meter_use("tenant shop", "tokens")
        held = gateway.meter_use("tenant shop", "concurrency")
    assert answer.status_code == 200
    assert "[DONE]" not in answer.text
    *before, last = events(answer)
    assert len(before) >= 7
    if dialect == "responses":
        assert last["type"] == "error"
        assert last["code"] == "upstream_error"
        assert last["sequence_number"] == before[-1]["sequence_number"] + 1
    else:
        assert last["error"]["message"]
    assert sum("error" in event or event.get("type") == "error" for event in before) == 0
    assert (record.outcome, record.owner, record.status) == ("broken", "vendor", 200)
    assert record.usage_source == "counted"
    assert 7 <= record.output_tokens <= 20
    assert used == record.input_tokens + record.output_tokens
    assert held == 0


async def test_the_sdk_raises_when_a_stream_breaks():
    async with gateway_before_vendor(vendor_spec={"faults": ["cut,chunks=5"]}) as (gateway, _):
        async with sdk(gateway) as client:
            stream = await client.chat.completions.create(**ASKED, stream=True)
            got = []
            with pytest.raises(openai.APIError) as caught:
                async for chunk in stream:
                    got.append(chunk.choices[0].delta.content)
    assert len([text for text in got if text]) == 5
    assert caught.value.code == "upstream_error"


@pytest.mark.parametrize("dialect", list(ROUTES))
@pytest.mark.parametrize("protocol", ["openai", "anthropic"])
async def test_an_error_inside_a_stream_is_told_in_our_words(dialect, protocol):
    spec = {"faults": ["error,chunks=4,status=500,code=org-4711x9"], "dialects": [protocol]}
    async with gateway_before_vendor(vendor_spec=spec, protocol=protocol, profile="generic") as (gateway, _):
        answer = await post(gateway, dialect, stream=True)
        record = await gateway.record()
    assert answer.status_code == 200
    assert "org-4711x9" not in answer.text
    found = events(answer)
    assert sum("error" in event or event.get("type") == "error" for event in found) == 1
    assert "error" in found[-1] or found[-1]["type"] == "error"
    assert "[DONE]" not in answer.text
    assert (record.outcome, record.owner) == ("broken", "vendor")


@pytest.mark.parametrize("dialect", list(ROUTES))
@pytest.mark.parametrize("protocol", ["openai", "anthropic"])
async def test_a_stream_that_ends_in_broken_json_is_broken(dialect, protocol):
    spec = {"faults": ["malformed,chunks=4"], "dialects": [protocol]}
    async with gateway_before_vendor(vendor_spec=spec, protocol=protocol, limits=LIMITS) as (gateway, _):
        answer = await post(gateway, dialect, stream=True)
        record = await gateway.record()
        held = gateway.meter_use("tenant shop", "concurrency")
    assert "[DONE]" not in answer.text
    assert answer.text.count("upstream_error") == 1
    assert (record.outcome, record.owner, record.usage_source) == ("broken", "vendor", "counted")
    assert held == 0


@pytest.mark.parametrize("fault", ["malformed,requests=1", "cut,requests=1"])
@pytest.mark.parametrize("protocol", ["openai", "anthropic"])
async def test_a_whole_answer_that_is_broken_is_tried_again(fault, protocol):
    spec = {"faults": [fault], "dialects": [protocol]}
    async with gateway_before_vendor(vendor_spec=spec, protocol=protocol, limits=LIMITS) as (gateway, _):
        answer = await post(gateway)
        record = await gateway.record()
        used = gateway.meter_use("tenant shop", "requests")
    assert answer.status_code == 200
    assert [attempt.outcome for attempt in record.attempts] == ["failed", "ok"]
    assert used == 1


async def test_a_whole_answer_that_stays_broken_is_a_502():
    async with gateway_before_vendor(vendor_spec={"faults": ["malformed"]}) as (gateway, vendor):
        answer = await post(gateway)
        record = await gateway.record()
    assert answer.status_code == 502
    assert (record.outcome, len(record.attempts)) == ("failed", 3)
    assert vendor.statistics()["requests"]["sent"] == 3


@pytest.mark.parametrize("ending", ["close", "reset", "extra"])
async def test_a_stream_that_is_complete_is_complete_whatever_becomes_of_its_connection(ending):
    async def answer(reader, writer):
        await read_request(reader)
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n")
        body = (
            b'data: {"choices":[{"index":0,"delta":{"content":"river"},"finish_reason":"stop"}]}\n\n'
            b'data: {"choices":[],"usage":{"prompt_tokens":5,"completion_tokens":1}}\n\n'
            b"data: [DONE]\n\n"
        )
        writer.write(b"%x\r\n%b\r\n" % (len(body), body))
        if ending == "extra":
            writer.write(b"0\r\n\r\nHTTP/1.1 200 OK\r\ncontent-length: 6\r\n\r\nextra!")
        await writer.drain()
        await asyncio.sleep(0.01)
        if ending == "reset":
            writer.transport.abort()

    async with raw_vendor(answer) as url, running_gateway(gateway_config(url)) as gateway:
        for _ in range(2):
            response = await post(gateway, stream=True)
            assert response.text.endswith("data: [DONE]\n\n")
            assert "error" not in response.text
            assert "extra!" not in response.text
        for record in await gateway.records():
            assert (record.outcome, record.input_tokens, record.output_tokens) == ("ok", 5, 1)


async def test_half_an_event_is_never_shown():
    async def answer(reader, writer):
        await read_request(reader)
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ncontent-length: 99999\r\n\r\n")
        writer.write(b'data: {"choices":[{"index":0,"delta":{"content":"river"}}]}\n\n')
        await writer.drain()
        await asyncio.sleep(0.01)
        writer.write(b'data: {"choices":[{"index":0,"delta":{"con')
        await writer.drain()

    for options in ({}, {"stream_options": {"include_usage": True}}):
        async with raw_vendor(answer) as url, running_gateway(gateway_config(url)) as gateway:
            response = await post(gateway, stream=True, **options)
        first, last = events(response)
        assert first["choices"][0]["delta"]["content"] == "river"
        assert last["error"]["code"] == "upstream_error"


@pytest.mark.parametrize(
    "answer",
    [
        b"garbage\r\n\r\n",
        b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\ncontent-length: 6\r\n\r\nhello!",
        b"HTTP/1.1 200 OK\r\n" + b"x-a: b\r\n" * 100_000 + b"\r\n",
        b"HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: h2c\r\n\r\n",
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n",
        b"HTTP/1.1 200 OK\r\ncontent-type: text/html\r\ncontent-length: 15\r\n\r\n<html>hi</html>",
        b"HTTP/1.1 302 Found\r\nlocation: http://127.0.0.1:1/\r\ncontent-length: 0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ncontent-length: 0\r\n\r\n",
        b"HTTP/1.1 204 No Content\r\n\r\n",
        b"",
    ],
    ids=["garbage", "lengths", "headers", "upgrade", "chunks", "html", "redirect", "empty", "no-content", "nothing"],
)
@pytest.mark.parametrize("stream", [False, True])
async def test_a_vendor_that_does_not_speak_http_or_json_is_a_502(answer, stream):
    async def speak(reader, writer):
        await read_request(reader)
        writer.write(answer)
        await writer.drain()

    async with raw_vendor(speak) as url, running_gateway(gateway_config(url, vendor=TIMEOUTS)) as gateway:
        response = await post(gateway, stream=stream)
        record = await gateway.record()
        assert gateway.gateway.client.connections() <= 1
    assert response.status_code == 502, response.text
    assert (record.outcome, record.owner) == ("failed", "vendor")
    assert "html" not in response.text


# --- elsewhere --------------------------------------------------------------------------------------------


def two_vendors(first_url: str, second_url: str) -> dict:
    config = gateway_config(first_url, vendor=TIMEOUTS, limits=LIMITS)
    spare = {**config["vendors"]["acme"], "base_url": f"{second_url}/v1"}
    config["vendors"]["spare"] = spare
    config["models"]["assistant"]["deployments"].append({"vendor": "spare", "credential": "main", "model": "n"})
    return config


@pytest.mark.parametrize(
    "fault",
    ["storm,retry_after=60s", "error,status=500", "error,status=529", "hang", "revoked", "cut,chunks=0", "malformed"],
)
async def test_what_one_vendor_cannot_answer_another_does_before_the_first_byte(fault):
    async with simulated_vendor(faults=[fault]) as (bad, bad_url), simulated_vendor() as (good, good_url):
        async with running_gateway(two_vendors(bad_url, good_url)) as gateway:
            response = await post(gateway)
            record = await gateway.record()
            used = gateway.meter_use("tenant shop", "requests")
        assert response.status_code == 200, response.text
        assert response.headers["x-dujiang-deployment"] == "spare/main/n"
        assert response.json()["model"] == "n"
        assert [attempt.deployment for attempt in record.attempts][-1] == "spare/main/n"
        assert record.deployment == "spare/main/n"
        assert record.attempts[0].deployment == "acme/main/m"
        assert used == 1
        assert good.statistics()["requests"]["finished"] == 1
        assert bad.statistics()["requests"]["finished"] == 0


async def test_a_stream_whose_first_event_is_an_error_is_tried_elsewhere():
    async def refuse(reader, writer):
        await read_request(reader)
        body = b'data: {"error":{"message":"no","type":"server_error","code":"server_is_overloaded"}}\n\n'
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n")
        writer.write(b"content-length: %d\r\n\r\n%b" % (len(body), body))
        await writer.drain()

    async with raw_vendor(refuse) as bad_url, simulated_vendor() as (_, good_url):
        async with running_gateway(two_vendors(bad_url, good_url)) as gateway:
            response = await post(gateway, stream=True)
            record = await gateway.record()
    assert response.text.endswith("data: [DONE]\n\n")
    assert [attempt.outcome for attempt in record.attempts][-1] == "ok"
    assert record.deployment == "spare/main/n"


async def test_a_full_vendor_is_passed_over_without_a_refusal():
    async with simulated_vendor(limits=["concurrency=1"], first_token_s=0.05) as (first, first_url):
        async with simulated_vendor(first_token_s=0.05) as (second, second_url):
            config = two_vendors(first_url, second_url)
            credential = config["vendors"]["acme"]["credentials"][0]
            config["vendors"]["acme"]["credentials"] = [
                {**credential, "limits": [{"dimension": "concurrency", "value": 1}]}
            ]
            async with running_gateway(config) as gateway:
                answers = await asyncio.gather(*[post(gateway) for _ in range(4)])
            assert [answer.status_code for answer in answers] == [200] * 4
            assert first.statistics()["requests"]["finished"] == 1
            assert second.statistics()["requests"]["finished"] == 3
            assert first.statistics()["requests"]["refused"] == 0


# --- streams longer than reserved -------------------------------------------------------------------------


async def test_a_stream_that_runs_longer_than_reserved_is_counted_while_it_runs():
    spec = {"output_tokens": 900, "tokens_per_s": 3000}
    async with gateway_before_vendor(vendor_spec=spec, limits=LIMITS) as (gateway, _):
        async with sdk(gateway) as client:
            stream = await client.chat.completions.create(**ASKED, stream=True)
            seen = 0
            highest = 0
            async for chunk in stream:
                seen += bool(chunk.choices and chunk.choices[0].delta.content)
                if seen == 800:
                    highest = gateway.meter_use("tenant shop", "tokens")
        record = await gateway.record()
        settled = gateway.meter_use("tenant shop", "tokens")
    assert record.estimated_output_tokens < 300
    assert highest >= 700
    assert record.extended_tokens >= 400
    assert settled == record.input_tokens + 900
