"""The official OpenAI SDK against a whole gateway over loopback: only its base URL and key are changed."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
import struct

import httpx
import openai
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
TOOLS = [
    {"type": "function", "function": {"name": name, "description": name, "parameters": CITY}}
    for name in ("weather", "tide")
]
SIMULATE = {"forward_headers": ["x-simulate-*"]}
"""Lets a test tell the simulated vendor what to answer."""

clients = pytest.mark.parametrize("kind", [openai.OpenAI, openai.AsyncOpenAI], ids=["sync", "async"])
vendors = pytest.mark.parametrize("protocol", ["openai", "anthropic"], ids=["same-dialect", "cross-dialect"])


class Forecast(pydantic.BaseModel):
    city: str
    days: int


@contextlib.asynccontextmanager
async def sdk(kind=openai.AsyncOpenAI, *, api_key=KEY, max_retries=0, protocol="openai", **config):
    """Yield the SDK's client before a gateway, and the gateway with its vendor."""
    config.setdefault("vendor", SIMULATE)
    config.setdefault("vendor_spec", {"dialects": [protocol]})
    async with gateway_before_vendor(protocol=protocol, **config) as (gateway, vendor):
        calls = SdkCalls(kind(base_url=gateway.openai_url, api_key=api_key, max_retries=max_retries, timeout=10))
        try:
            yield calls, gateway, vendor
        finally:
            await calls.close()


# --- chat -------------------------------------------------------------------------------------------------


@clients
@vendors
async def test_chat_is_answered_whole(kind, protocol):
    async with sdk(kind, protocol=protocol) as (calls, gateway, vendor):
        answer = await calls.call(calls.client.chat.completions.create, model="assistant", messages=HELLO)
        record = await gateway.record()
    assert len(answer.choices[0].message.content.split()) == 12
    assert answer.choices[0].finish_reason == "stop"
    assert answer.usage.completion_tokens == 12 == record.output_tokens
    assert answer.usage.prompt_tokens == record.input_tokens == 7
    assert vendor.statistics()["tokens"] == {"input": 7, "cached": 0, "output": 12}


@clients
@vendors
@pytest.mark.parametrize("asks_for_usage", [False, True])
async def test_chat_is_streamed_and_counted_whether_or_not_the_client_asked(kind, protocol, asks_for_usage):
    options = {"stream_options": {"include_usage": True}} if asks_for_usage else {}
    async with sdk(kind, protocol=protocol) as (calls, gateway, _):
        stream = await calls.call(
            calls.client.chat.completions.create, model="assistant", messages=HELLO, stream=True, **options
        )
        chunks = await calls.items(stream)
        record = await gateway.record()
    text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)
    assert len(text.split()) == 12
    assert [c.choices[0].finish_reason for c in chunks if c.choices and c.choices[0].finish_reason] == ["stop"]
    usages = [chunk.usage for chunk in chunks if chunk.usage is not None]
    assert [usage.completion_tokens for usage in usages] == ([12] if asks_for_usage else [])
    assert all(chunk.choices for chunk in chunks) is not asks_for_usage
    assert (record.output_tokens, record.input_tokens, record.usage_source) == (12, 7, "vendor")


@clients
@vendors
@pytest.mark.parametrize("stream", [False, True])
async def test_several_tools_are_called_at_once(kind, protocol, stream):
    asked = {"model": "assistant", "messages": HELLO, "tools": TOOLS, "tool_choice": "required"}
    async with sdk(kind, protocol=protocol) as (calls, _, _):
        completions = calls.client.chat.completions
        headers = {"x-simulate-parallel-tools": "2"}
        if stream:
            chunks = await calls.items(
                await calls.call(completions.create, **asked, stream=True, extra_headers=headers)
            )
            called = gathered_tools(chunks)
            finish = [c.choices[0].finish_reason for c in chunks if c.choices][-1]
        else:
            answer = await calls.call(completions.create, **asked, extra_headers=headers)
            tools = answer.choices[0].message.tool_calls
            called = [(tool.id, tool.function.name, tool.function.arguments) for tool in tools]
            finish = answer.choices[0].finish_reason
        # The results go back the same way.
        turn = [
            {"id": id_, "type": "function", "function": {"name": name, "arguments": arguments}}
            for id_, name, arguments in called
        ]
        results = [{"role": "tool", "tool_call_id": id_, "content": "fine"} for id_, _, _ in called]
        history = [*HELLO, {"role": "assistant", "tool_calls": turn}, *results]
        after = await calls.call(completions.create, model="assistant", messages=history, tools=TOOLS)
    assert [name for _, name, _ in called] == ["weather", "tide"]
    assert len({id_ for id_, _, _ in called}) == 2
    assert finish == "tool_calls"
    for _, _, arguments in called:
        assert Forecast.model_validate_json(arguments).days in range(2, 6)
    assert after.choices[0].finish_reason == "stop"


def gathered_tools(chunks):
    """Put the fragments of a stream's tool calls together, as (id, name, arguments)."""
    tools = {}
    for chunk in chunks:
        for part in (chunk.choices[0].delta.tool_calls or []) if chunk.choices else []:
            tool = tools.setdefault(part.index, ["", "", ""])
            tool[0] += part.id or ""
            tool[1] += part.function.name or ""
            tool[2] += part.function.arguments or ""
    return [tuple(tool) for _, tool in sorted(tools.items())]


@clients
@vendors
async def test_structured_output_is_parsed(kind, protocol):
    async with sdk(kind, protocol=protocol) as (calls, _, _):
        parse = calls.client.chat.completions.parse
        answer = await calls.call(parse, model="assistant", messages=HELLO, response_format=Forecast)
    assert isinstance(answer.choices[0].message.parsed, Forecast)


# --- responses --------------------------------------------------------------------------------------------

RESPONSES_VENDORS = {
    "openai": {"profile": "openai", "vendor_spec": {"dialects": ["openai"]}},
    "chat-only": {"profile": "generic", "vendor_spec": {"dialects": ["openai"]}},
    "anthropic": {"protocol": "anthropic", "vendor_spec": {"dialects": ["anthropic"]}},
}
responses_vendors = pytest.mark.parametrize("vendor", RESPONSES_VENDORS)


@clients
@responses_vendors
async def test_a_response_is_answered_whole(kind, vendor):
    async with sdk(kind, **RESPONSES_VENDORS[vendor]) as (calls, gateway, _):
        answer = await calls.call(calls.client.responses.create, model="assistant", input="Where?")
        record = await gateway.record()
    assert len(answer.output_text.split()) == 12
    assert answer.status == "completed"
    assert answer.usage.output_tokens == 12 == record.output_tokens
    assert (record.operation, record.outcome) == ("responses", "ok")


@clients
@responses_vendors
async def test_a_response_is_streamed(kind, vendor):
    async with sdk(kind, **RESPONSES_VENDORS[vendor]) as (calls, gateway, _):
        create = calls.client.responses.create
        events = await calls.items(await calls.call(create, model="assistant", input="Where?", stream=True))
        record = await gateway.record()
    text = "".join(event.delta for event in events if event.type == "response.output_text.delta")
    assert len(text.split()) == 12
    assert (events[0].type, events[-1].type) == ("response.created", "response.completed")
    assert events[-1].response.output_text == text
    assert events[-1].response.usage.output_tokens == 12 == record.output_tokens
    assert [event.sequence_number for event in events] == list(range(len(events)))


@responses_vendors
async def test_a_response_calls_tools_and_is_parsed(vendor):
    tools = [{"type": "function", "name": "weather", "parameters": CITY, "strict": True}]
    async with sdk(**RESPONSES_VENDORS[vendor]) as (calls, _, _):
        responses = calls.client.responses
        called = await responses.create(model="assistant", input="Where?", tools=tools, tool_choice="required")
        parsed = await responses.parse(model="assistant", input="Where?", text_format=Forecast)
    (item,) = called.output
    assert (item.type, item.name) == ("function_call", "weather")
    Forecast.model_validate_json(item.arguments)
    assert isinstance(parsed.output_parsed, Forecast)


async def test_stored_state_is_relayed_to_a_vendor_that_keeps_it():
    async with sdk(**RESPONSES_VENDORS["openai"]) as (calls, _, _):
        responses = calls.client.responses
        first = await responses.create(model="assistant", input="Where?", store=True)
        then = await responses.create(model="assistant", input="And then?", previous_response_id=first.id)
        unknown = await refusal(
            responses.create(model="assistant", input="And then?", previous_response_id="resp_0"),
            openai.BadRequestError,
        )
    assert then.previous_response_id == first.id
    # The vendor knew the first turn: it counted it.
    assert then.usage.input_tokens == first.usage.total_tokens + 3
    assert (unknown.code, unknown.param) == ("previous_response_not_found", "previous_response_id")


@pytest.mark.parametrize("vendor", ["chat-only", "anthropic"])
async def test_state_that_no_vendor_keeps_is_refused_by_name(vendor):
    async with sdk(**RESPONSES_VENDORS[vendor]) as (calls, gateway, vendor_):
        error = await refusal(
            calls.client.responses.create(model="assistant", input="And?", previous_response_id="resp_1"),
            openai.BadRequestError,
        )
        record = await gateway.record()
    assert error.param == "previous_response_id"
    assert (record.outcome, record.owner) == ("refused", "caller")
    assert vendor_.statistics()["requests"]["sent"] == 0


# --- embeddings, models -----------------------------------------------------------------------------------


@clients
async def test_embeddings_come_as_floats_and_as_base64(kind):
    async with sdk(kind) as (calls, gateway, _):
        create = calls.client.embeddings.create
        asked = {"model": "assistant", "input": ["river", "weir"], "dimensions": 8}
        floats = await calls.call(create, **asked, encoding_format="float")
        packed = await calls.call(create, **asked, encoding_format="base64")
        unpacked = await calls.call(create, **asked)
        records = await gateway.records()
    assert [len(one.embedding) for one in floats.data] == [8, 8]
    decoded = struct.unpack("<8f", base64.b64decode(packed.data[0].embedding))
    assert decoded == pytest.approx(floats.data[0].embedding, abs=1e-6)
    # Unasked, the SDK sends for base64 and unpacks it itself.
    assert list(unpacked.data[1].embedding) == pytest.approx(floats.data[1].embedding, abs=1e-6)
    assert {(one.operation, one.input_tokens, one.output_tokens) for one in records} == {("embeddings", 3, 0)}


async def test_embeddings_of_a_vendor_without_them_are_refused():
    async with sdk(protocol="anthropic") as (calls, _, _):
        error = await refusal(calls.client.embeddings.create(model="assistant", input="river"), openai.BadRequestError)
    assert error.param == "model"


@clients
async def test_models_are_listed_and_retrieved(kind):
    models = {
        name: {"deployments": [{"vendor": "acme", "credential": "main", "model": "m"}]}
        for name in ("assistant", "org/x")
    }
    models["assistant"]["aliases"] = ["helper"]
    async with sdk(kind, models=models) as (calls, _, _):
        listed = (
            [model.id for model in await calls.items(await calls.call(calls.client.models.list))]
            if (kind is openai.OpenAI)
            else [model.id async for model in calls.client.models.list()]
        )
        one = await calls.call(calls.client.models.retrieve, "helper")
        slashed = await calls.call(calls.client.models.retrieve, "org/x")
        with pytest.raises(openai.NotFoundError) as caught:
            await calls.call(calls.client.models.retrieve, "helpr")
    assert listed == ["assistant", "helper", "org/x"]
    assert (one.id, one.object, slashed.id) == ("helper", "model", "org/x")
    assert "helper" in caught.value.message


# --- bytes ------------------------------------------------------------------------------------------------


async def test_unknown_fields_reach_the_vendor_and_its_bytes_reach_the_client():
    """Compares what passes with what a vendor got and sent, byte by byte."""
    got = []
    answer = (
        b'{ "id":"x" ,"choices":[ {"message":{"content":"\\u00e9 \xc3\xa9"}}],'
        b'"later": 1e400, "usage":{"prompt_tokens":3,"completion_tokens":2} }\n'
    )
    async with canned_vendor(got, answer) as url:
        async with running_gateway(gateway_config(url)) as gateway, httpx.AsyncClient() as client:
            body = (
                b'{"model": "assistant","messages":[{"role":"user","content":"h\\u00e9 \xc3\xa9"}],\n'
                b' "wish": {"a":[1, 2.50,"\\/"]},"n":1}'
            )
            response = await client.post(
                f"{gateway.openai_url}/chat/completions", content=body, headers=gateway.headers
            )
            record = await gateway.record()
    assert response.content == answer
    assert response.headers["content-type"] == "application/json"
    (head, sent) = got[0]
    assert json.loads(sent) == json.loads(body) | {"model": "m"}
    for piece in (b'"h\\u00e9 \xc3\xa9"', b'{"a":[1, 2.50,"\\/"]}'):
        assert piece in sent
    assert b"authorization: Bearer sk-vendor" in head
    assert KEY.encode() not in head + sent
    assert (record.input_tokens, record.output_tokens) == (3, 2)


async def test_a_body_for_a_model_of_the_same_name_is_not_touched():
    got = []
    async with canned_vendor(got, b'{"usage":{"prompt_tokens":1,"completion_tokens":1}}') as url:
        async with running_gateway(gateway_config(url, model="assistant")) as gateway, httpx.AsyncClient() as client:
            body = b'{ "messages":[ ] , "model":"assistant", "x":  1 }'
            await client.post(f"{gateway.openai_url}/chat/completions", content=body, headers=gateway.headers)
    assert got[0][1] == body


async def test_stream_chunks_are_unchanged_but_for_the_usage_chunk_nobody_asked_for():
    chunks = [
        b'data: {"choices": [{"delta":{"content":"a"}}] , "usage":null}\n\n',
        b": a comment\n\n",
        b'data: {"choices":[{"delta":{"content":"\\"usage\\":{"}}],"odd":[1,2]}\r\n\r\n',
        b'data: {"choices":[],"usage":{"prompt_tokens":4,"completion_tokens":2}}\n\n',
        b"data: [DONE]\n\n",
    ]
    for asked in (False, True):
        got = []
        async with canned_vendor(got, b"".join(chunks), b"text/event-stream") as url:
            async with running_gateway(gateway_config(url)) as gateway, httpx.AsyncClient() as client:
                body = {"model": "assistant", "messages": [], "stream": True}
                if asked:
                    body["stream_options"] = {"include_usage": True, "include_obfuscation": False}
                response = await client.post(
                    f"{gateway.openai_url}/chat/completions", json=body, headers=gateway.headers
                )
                record = await gateway.record()
        passed = chunks if asked else [*chunks[:3], chunks[4]]
        assert response.content == b"".join(passed)
        assert response.headers["content-type"] == "text/event-stream"
        options = json.loads(got[0][1])["stream_options"]
        assert options == ({"include_usage": True, "include_obfuscation": False} if asked else {"include_usage": True})
        assert (record.input_tokens, record.output_tokens, record.usage_source) == (4, 2, "vendor")


# --- headers ----------------------------------------------------------------------------------------------

TRACE = ("x-request-id", "x-dujiang-queue-ms", "x-dujiang-vendor-ms", "x-dujiang-overhead-ms", "x-dujiang-attempts")


async def test_every_answer_tells_its_id_its_limits_and_where_the_time_went():
    limits = [
        {"dimension": "requests", "window": "60s", "value": 100},
        {"dimension": "requests", "window": "day", "value": 1000},
        {"dimension": "tokens", "window": "60s", "value": 5000},
        {"dimension": "concurrency", "value": 4},
    ]
    async with sdk(limits=limits) as (calls, gateway, _):
        completions = calls.client.chat.completions.with_raw_response
        whole = await completions.create(model="assistant", messages=HELLO)
        bad = await refusal(calls.client.chat.completions.create(model="none", messages=HELLO), openai.NotFoundError)
        records = await gateway.records()
        async with httpx.AsyncClient() as client:
            body = {"model": "assistant", "messages": HELLO, "stream": True}
            stream = await client.post(f"{gateway.openai_url}/chat/completions", json=body, headers=gateway.headers)
            others = [await client.get(f"{gateway.base_url}{path}") for path in ("/livez", "/nowhere", "/v1/models")]
    for headers in (whole.headers, stream.headers):
        for name in (*TRACE, "x-dujiang-cache", "x-dujiang-deployment"):
            assert name in headers
        assert headers["x-ratelimit-limit-requests"] == "100"
        assert headers["x-ratelimit-limit-concurrency"] == "4"
        assert headers["x-dujiang-deployment"] == "acme/main/m"
        assert headers["x-dujiang-attempts"] == "1"
        assert headers["x-ratelimit-reset-requests"].endswith("s")
    assert whole.headers["x-ratelimit-remaining-requests"] == "99"
    assert stream.headers["x-ratelimit-remaining-requests"] == "98"
    # 7 + 12 tokens were used and settled before the headers went out.
    assert whole.headers["x-ratelimit-remaining-tokens"] == str(5000 - 19)
    assert float(whole.headers["x-dujiang-vendor-ms"]) >= 8
    assert all(name in bad.response.headers for name in TRACE)
    assert [one.request_id for one in records] == [whole.headers["x-request-id"], bad.response.headers["x-request-id"]]
    assert all(other.headers["x-request-id"].startswith("req_") for other in others)


# --- errors -----------------------------------------------------------------------------------------------


async def refusal(coroutine, kind):
    """Return the error a call must end with."""
    with pytest.raises(kind) as caught:
        await coroutine
    assert type(caught.value) is kind
    return caught.value


@clients
async def test_a_wrong_or_missing_key_is_an_authentication_error(kind):
    for key in ("dj-wrong", "x" * 300):
        async with sdk(kind, api_key=key) as (calls, gateway, _):
            with pytest.raises(openai.AuthenticationError) as caught:
                await calls.call(calls.client.chat.completions.create, model="assistant", messages=HELLO)
            record = await gateway.record()
        assert caught.value.code == "invalid_api_key"
        assert caught.value.type == "invalid_request_error"
        assert key not in str(caught.value.body)
        assert (record.outcome, record.owner, record.tenant, record.status) == ("refused", "caller", None, 401)


async def test_a_model_that_is_not_allowed_is_a_permission_error():
    models = {
        name: {"deployments": [{"vendor": "acme", "credential": "main", "model": "m"}]}
        for name in ("assistant", "other")
    }
    async with sdk(models=models, plan={"models": ["other"]}) as (calls, gateway, _):
        error = await refusal(
            calls.client.chat.completions.create(model="assistant", messages=HELLO), openai.PermissionDeniedError
        )
        record = await gateway.record()
    assert (error.code, error.param) == ("permission_denied", "model")
    assert (record.outcome, record.owner) == ("refused", "tenant")


@clients
async def test_an_unknown_model_is_not_found_with_the_nearest_names(kind):
    async with sdk(kind) as (calls, gateway, _):
        with pytest.raises(openai.NotFoundError) as caught:
            await calls.call(calls.client.chat.completions.create, model="asistant", messages=HELLO)
        record = await gateway.record()
    assert (caught.value.code, caught.value.param) == ("model_not_found", "model")
    assert "did you mean assistant?" in caught.value.message
    assert (record.outcome, record.owner, record.model) == ("refused", "caller", "asistant")


@pytest.mark.parametrize(
    ("change", "param"),
    [
        ({"temperature": 9}, "temperature"),
        ({"messages": [{"role": "nobody", "content": "x"}]}, "messages[0].role"),
        ({"extra_body": {"stream": "yes"}}, "stream"),
        ({"extra_body": {"n": 1.5}}, "n"),
    ],
)
async def test_a_bad_request_names_its_field_whoever_finds_it(change, param):
    async with sdk() as (calls, gateway, vendor):
        asked = {"model": "assistant", "messages": HELLO} | change
        error = await refusal(calls.client.chat.completions.create(**asked), openai.BadRequestError)
        record = await gateway.record()
    assert error.param == param
    assert error.type == "invalid_request_error"
    assert record.owner == "caller"
    assert record.status == 400
    assert record.outcome == "refused"
    assert vendor.statistics()["tokens"]["output"] == 0


async def test_too_large_a_body_is_refused_with_413():
    async with sdk(server={"max_body": "4KiB"}) as (calls, gateway, _):
        long = [{"role": "user", "content": "x" * 5000}]
        error = await refusal(
            calls.client.chat.completions.create(model="assistant", messages=long), openai.APIStatusError
        )
        record = await gateway.record()
    assert (error.status_code, error.code) == (413, "request_too_large")
    assert (record.outcome, record.owner) == ("refused", "caller")


@clients
async def test_a_rate_limit_says_when_to_come_back_and_the_sdk_does(kind):
    limits = [{"dimension": "requests", "window": "400ms", "value": 1}]
    async with sdk(kind, limits=limits) as (calls, gateway, _):
        create = calls.client.chat.completions.create
        clock = asyncio.get_running_loop().time
        began = clock()
        await calls.call(create, model="assistant", messages=HELLO)
        with pytest.raises(openai.RateLimitError) as caught:
            await calls.call(create, model="assistant", messages=HELLO)
        patient = SdkCalls(calls.client.with_options(max_retries=1))
        await patient.call(patient.client.chat.completions.create, model="assistant", messages=HELLO)
        took_s = clock() - began
        records = await gateway.records()
    headers = caught.value.response.headers
    assert 0 < int(headers["retry-after-ms"]) <= 400
    assert headers["retry-after"] == "1"
    assert headers["x-ratelimit-remaining-requests"] == "0"
    assert (caught.value.code, caught.value.type) == ("rate_limit_exceeded", "requests")
    assert 0.4 <= took_s < 1.0
    assert [one.outcome for one in records] == ["ok", "refused", "refused", "ok"]
    assert [one.owner for one in records if one.outcome == "refused"] == ["tenant", "tenant"]


async def test_a_deadline_that_cannot_be_met_is_an_overload_error():
    limits = [{"dimension": "requests", "window": "60s", "value": 1}]
    async with sdk(vendor_limits=limits) as (calls, gateway, vendor):
        create = calls.client.chat.completions.create
        await create(model="assistant", messages=HELLO)
        error = await refusal(
            create(model="assistant", messages=HELLO, extra_headers={"x-dujiang-deadline-ms": "500"}),
            openai.InternalServerError,
        )
        _, record = await gateway.records()
    assert (error.status_code, error.code) == (503, "overloaded")
    assert 59_000 < int(error.response.headers["retry-after-ms"]) <= 60_050
    assert (record.outcome, record.owner, record.status) == ("refused", "gateway", 503)
    assert record.waited_for is None
    assert vendor.statistics()["requests"]["sent"] == 1
