"""The official Anthropic SDK against a whole gateway over loopback: only its base URL and key are changed."""

from __future__ import annotations

import asyncio
import contextlib
import json

import anthropic
import httpx
import pydantic
import pytest
from tests.gateways import KEY, SdkCalls, canned_vendor, gateway_before_vendor, gateway_config, running_gateway

HELLO = [{"role": "user", "content": "Where does the river divide?"}]
CITY = {
    "type": "object",
    "properties": {"city": {"type": "string", "minLength": 3}, "days": {"type": "integer", "minimum": 2, "maximum": 5}},
    "required": ["city", "days"],
    "additionalProperties": False,
}
TOOLS = [{"name": name, "description": name, "input_schema": CITY} for name in ("weather", "tide")]
SIMULATE = {"forward_headers": ["x-simulate-*", "anthropic-*"]}

clients = pytest.mark.parametrize("kind", [anthropic.Anthropic, anthropic.AsyncAnthropic], ids=["sync", "async"])
vendors = pytest.mark.parametrize("protocol", ["anthropic", "openai"], ids=["same-dialect", "cross-dialect"])


class Forecast(pydantic.BaseModel):
    city: str
    days: int


@contextlib.asynccontextmanager
async def sdk(kind=anthropic.AsyncAnthropic, *, api_key=KEY, max_retries=0, protocol="anthropic", **config):
    """Yield the SDK's client before a gateway, and the gateway with its vendor."""
    config.setdefault("vendor", SIMULATE)
    config.setdefault("vendor_spec", {"dialects": [protocol]})
    async with gateway_before_vendor(protocol=protocol, **config) as (gateway, vendor):
        calls = SdkCalls(kind(base_url=gateway.base_url, api_key=api_key, max_retries=max_retries, timeout=10))
        try:
            yield calls, gateway, vendor
        finally:
            await calls.close()


async def refusal(coroutine, kind):
    """Return the error a call must end with."""
    with pytest.raises(kind) as caught:
        await coroutine
    assert type(caught.value) is kind
    return caught.value


@clients
@vendors
async def test_a_message_is_answered_whole(kind, protocol):
    async with sdk(kind, protocol=protocol) as (calls, gateway, _):
        create = calls.client.messages.create
        answer = await calls.call(create, model="assistant", messages=HELLO, max_tokens=100, system="Be brief")
        short = await calls.call(create, model="assistant", messages=HELLO, max_tokens=5)
        first, _ = await gateway.records()
    assert len(answer.content[0].text.split()) == 12
    assert (answer.stop_reason, short.stop_reason) == ("end_turn", "max_tokens")
    assert answer.usage.output_tokens == 12 == first.output_tokens
    assert answer.usage.input_tokens == first.input_tokens == 9
    assert (first.operation, first.dialect, first.outcome) == ("messages", "messages", "ok")


@clients
@vendors
async def test_a_message_is_streamed_in_anthropics_own_events(kind, protocol):
    async with sdk(kind, protocol=protocol) as (calls, gateway, _):
        create = calls.client.messages.create
        stream = await calls.call(create, model="assistant", messages=HELLO, max_tokens=100, stream=True)
        events = await calls.items(stream)
        record = await gateway.record()
    kinds = [event.type for event in events if event.type != "ping"]
    assert kinds[:2] == ["message_start", "content_block_start"]
    assert kinds[-3:] == ["content_block_stop", "message_delta", "message_stop"]
    text = "".join(event.delta.text for event in events if event.type == "content_block_delta")
    assert len(text.split()) == 12
    assert events[-2].usage.output_tokens == 12 == record.output_tokens
    assert (record.input_tokens, record.usage_source) == (7, "vendor")


@vendors
async def test_the_stream_helper_gathers_the_message(protocol):
    async with sdk(protocol=protocol) as (calls, _, _):
        async with calls.client.messages.stream(model="assistant", messages=HELLO, max_tokens=100) as stream:
            text = "".join([piece async for piece in stream.text_stream])
            message = await stream.get_final_message()
    assert message.content[0].text == text
    assert message.stop_reason == "end_turn"


@clients
@vendors
@pytest.mark.parametrize("stream", [False, True])
async def test_several_tools_are_called_at_once(kind, protocol, stream):
    asked = {"model": "assistant", "messages": HELLO, "max_tokens": 500, "tools": TOOLS, "tool_choice": {"type": "any"}}
    headers = {"x-simulate-parallel-tools": "2"}
    async with sdk(kind, protocol=protocol) as (calls, _, _):
        messages = calls.client.messages
        if stream:
            events = await calls.items(await calls.call(messages.create, **asked, stream=True, extra_headers=headers))
            blocks = [e.content_block for e in events if e.type == "content_block_start"]
            called = [(one.id, one.name, json.loads(arguments(events, i))) for i, one in enumerate(blocks)]
            reason = next(event.delta.stop_reason for event in events if event.type == "message_delta")
        else:
            answer = await calls.call(messages.create, **asked, extra_headers=headers)
            called = [(block.id, block.name, block.input) for block in answer.content]
            reason = answer.stop_reason
        turn = [{"type": "tool_use", "id": id_, "name": name, "input": input_} for id_, name, input_ in called]
        results = [{"type": "tool_result", "tool_use_id": id_, "content": "fine"} for id_, _, _ in called]
        history = [*HELLO, {"role": "assistant", "content": turn}, {"role": "user", "content": results}]
        after = await calls.call(messages.create, model="assistant", messages=history, max_tokens=100, tools=TOOLS)
    assert [name for _, name, _ in called] == ["weather", "tide"]
    assert len({id_ for id_, _, _ in called}) == 2
    assert reason == "tool_use"
    for _, _, input_ in called:
        assert Forecast.model_validate(input_).days in range(2, 6)
    assert after.stop_reason == "end_turn"


def arguments(events, index):
    """Return the JSON that a stream sent for one of its tool calls."""
    return "".join(e.delta.partial_json for e in events if e.type == "content_block_delta" and e.index == index)


@clients
@vendors
async def test_structured_output_is_parsed(kind, protocol):
    async with sdk(kind, protocol=protocol) as (calls, _, _):
        answer = await calls.call(
            calls.client.messages.parse, model="assistant", messages=HELLO, max_tokens=500, output_format=Forecast
        )
    assert isinstance(answer.parsed_output, Forecast)


@clients
async def test_tokens_are_counted_by_the_vendor(kind):
    async with sdk(kind) as (calls, gateway, _):
        count = await calls.call(calls.client.messages.count_tokens, model="assistant", messages=HELLO)
        record = await gateway.record()
    assert count.input_tokens == 7
    assert (record.operation, record.outcome, record.output_tokens) == ("count_tokens", "ok", 0)


async def test_tokens_are_estimated_for_a_vendor_that_does_not_count():
    async with sdk(protocol="openai") as (calls, gateway, vendor):
        raw = await calls.client.messages.with_raw_response.count_tokens(model="assistant", messages=HELLO)
        record = await gateway.record()
    assert (await raw.parse()).input_tokens > 0
    assert raw.headers["x-dujiang-estimated"] == "true"
    assert (record.outcome, record.status) == ("ok", 200)
    assert vendor.statistics()["requests"]["sent"] == 0


@clients
async def test_models_are_listed_and_retrieved(kind):
    async with sdk(kind) as (calls, _, _):
        if kind is anthropic.Anthropic:
            listed = await calls.items(await calls.call(calls.client.models.list))
        else:
            listed = [model async for model in calls.client.models.list()]
        one = await calls.call(calls.client.models.retrieve, "assistant")
        with pytest.raises(anthropic.NotFoundError):
            await calls.call(calls.client.models.retrieve, "nothing-like-it")
    assert [model.id for model in listed] == ["assistant"] == [one.id]
    assert one.type == "model"


async def test_same_dialect_bytes_are_not_touched():
    events = (
        b"event: message_start\n"
        b'data: {"type":"message_start","message":{"usage":{"input_tokens": 5,"output_tokens":1}}}\n\n'
        b"event: ping\ndata: {}\n\n: note\n\n"
        b'event: odd_new_event\ndata: {"type":"odd_new_event", "x":[ ]}\n\n'
        b"event: message_delta\n"
        b'data: {"type":"message_delta","delta":{"stop_reason":"end_turn"},"usage":{"output_tokens":9}}\n\n'
        b'event: message_stop\ndata: {"type":"message_stop"}\n\n'
    )
    got = []
    async with canned_vendor(got, events, b"text/event-stream; charset=utf-8") as url:
        config = gateway_config(url, protocol="anthropic", vendor={"forward_headers": ["anthropic-beta"]})
        async with running_gateway(config) as gateway, httpx.AsyncClient() as client:
            body = b'{"model":"assistant","max_tokens":9,"messages":[ ],"stream":true,"new": {"thing" : 1.0}}'
            headers = {"x-api-key": KEY, "anthropic-beta": "odd-2030", "anthropic-version": "2023-06-01"}
            response = await client.post(f"{gateway.base_url}/v1/messages", content=body, headers=headers)
            record = await gateway.record()
    head, sent = got[0]
    assert response.content == events
    assert json.loads(sent) == json.loads(body) | {"model": "m"}
    assert b'{"thing" : 1.0}' in sent
    assert b"anthropic-beta: odd-2030" in head
    assert b"x-api-key: sk-vendor" in head
    assert KEY.encode() not in head
    assert (record.input_tokens, record.output_tokens) == (5, 9)


async def test_every_answer_carries_anthropics_own_limit_headers():
    limits = [
        {"dimension": "requests", "window": "60s", "value": 100},
        {"dimension": "input_tokens", "window": "60s", "value": 5000},
        {"dimension": "output_tokens", "window": "60s", "value": 6000},
    ]
    async with sdk(limits=limits) as (calls, _, _):
        raw = await calls.client.messages.with_raw_response.create(model="assistant", messages=HELLO, max_tokens=50)
    assert raw.headers["anthropic-ratelimit-requests-limit"] == "100"
    assert raw.headers["anthropic-ratelimit-requests-remaining"] == "99"
    assert raw.headers["anthropic-ratelimit-input-tokens-remaining"] == str(5000 - 7)
    assert raw.headers["anthropic-ratelimit-output-tokens-remaining"] == str(6000 - 12)
    assert raw.headers["anthropic-ratelimit-requests-reset"].endswith("Z")
    assert raw.headers["x-request-id"] == raw.headers["request-id"]


# --- errors -----------------------------------------------------------------------------------------------


@clients
async def test_a_wrong_key_is_an_authentication_error(kind):
    async with sdk(kind, api_key="dj-wrong-key") as (calls, _, _):
        with pytest.raises(anthropic.AuthenticationError) as caught:
            await calls.call(calls.client.messages.create, model="assistant", messages=HELLO, max_tokens=9)
    assert caught.value.body["error"]["type"] == "authentication_error"
    assert caught.value.body["request_id"] == caught.value.response.headers["x-request-id"]


@clients
async def test_an_unknown_model_is_not_found_with_the_nearest_names(kind):
    async with sdk(kind) as (calls, _, _):
        with pytest.raises(anthropic.NotFoundError) as caught:
            await calls.call(calls.client.messages.create, model="asistant", messages=HELLO, max_tokens=9)
    assert caught.value.body["error"]["type"] == "not_found_error"
    assert "did you mean assistant?" in caught.value.body["error"]["message"]


async def test_a_model_that_is_not_allowed_is_a_permission_error():
    models = {
        name: {"deployments": [{"vendor": "acme", "credential": "main", "model": "m"}]}
        for name in ("assistant", "other")
    }
    async with sdk(models=models, plan={"models": ["other"]}) as (calls, _, _):
        error = await refusal(
            calls.client.messages.create(model="assistant", messages=HELLO, max_tokens=9),
            anthropic.PermissionDeniedError,
        )
    assert error.body["error"]["type"] == "permission_error"


@vendors
async def test_a_bad_request_names_its_field_whoever_finds_it(protocol):
    async with sdk(protocol=protocol) as (calls, gateway, _):
        create = calls.client.messages.create
        asked = {"model": "assistant", "messages": HELLO}
        by_vendor = await refusal(
            create(**asked, max_tokens=9, extra_body={"temperature": 7}), anthropic.BadRequestError
        )
        by_gateway = await refusal(
            create(**asked, max_tokens=9, extra_body={"max_tokens": "nine"}),
            anthropic.BadRequestError,
        )
        records = await gateway.records()
    assert "temperature" in by_vendor.body["error"]["message"]
    assert "max_tokens" in by_gateway.body["error"]["message"]
    assert by_vendor.body["error"]["type"] == by_gateway.body["error"]["type"] == "invalid_request_error"
    assert [record.owner for record in records] == ["caller", "caller"]


async def test_too_large_a_body_is_refused_with_413():
    async with sdk(server={"max_body": "4KiB"}) as (calls, _, _):
        long = [{"role": "user", "content": "x" * 5000}]
        error = await refusal(
            calls.client.messages.create(model="assistant", messages=long, max_tokens=9),
            anthropic.RequestTooLargeError,
        )
    assert error.body["error"]["type"] == "request_too_large"


@clients
async def test_a_rate_limit_says_when_to_come_back_and_the_sdk_does(kind):
    limits = [{"dimension": "requests", "window": "300ms", "value": 1}]
    async with sdk(kind, limits=limits) as (calls, _, _):
        asked = {"model": "assistant", "messages": HELLO, "max_tokens": 9}
        clock = asyncio.get_running_loop().time
        began = clock()
        await calls.call(calls.client.messages.create, **asked)
        with pytest.raises(anthropic.RateLimitError) as caught:
            await calls.call(calls.client.messages.create, **asked)
        patient = SdkCalls(calls.client.with_options(max_retries=1))
        await patient.call(patient.client.messages.create, **asked)
        took_s = clock() - began
    assert 0 < int(caught.value.response.headers["retry-after-ms"]) <= 300
    assert caught.value.body["error"]["type"] == "rate_limit_error"
    assert 0.3 <= took_s < 0.9


async def test_a_deadline_that_cannot_be_met_is_an_overload_error():
    limits = [{"dimension": "requests", "window": "60s", "value": 1}]
    async with sdk(vendor_limits=limits) as (calls, _, vendor):
        asked = {"model": "assistant", "messages": HELLO, "max_tokens": 9}
        await calls.client.messages.create(**asked)
        error = await refusal(
            calls.client.messages.create(**asked, extra_headers={"x-dujiang-deadline-ms": "500"}),
            anthropic.OverloadedError,
        )
    assert error.status_code == 529
    assert error.body["error"]["type"] == "overloaded_error"
    assert 59_000 < int(error.response.headers["retry-after-ms"]) <= 60_050
    assert vendor.statistics()["requests"]["sent"] == 1


@vendors
async def test_a_stream_that_breaks_ends_with_anthropics_error_event(protocol):
    spec = {"dialects": [protocol], "faults": ["cut,chunks=5"]}
    async with sdk(protocol=protocol, vendor_spec=spec) as (calls, gateway, _):
        stream = await calls.client.messages.create(model="assistant", messages=HELLO, max_tokens=50, stream=True)
        texts = []
        with pytest.raises(anthropic.APIStatusError) as caught:
            async for event in stream:
                if event.type == "content_block_delta":
                    texts.append(event.delta.text)
        record = await gateway.record()
    assert caught.value.body["error"]["type"] == "api_error"
    assert len(texts) == 5
    assert (record.outcome, record.owner, record.usage_source) == ("broken", "vendor", "counted")
    assert 1 <= record.output_tokens <= 12
