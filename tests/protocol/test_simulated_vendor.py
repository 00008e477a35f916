"""The simulated vendor over loopback, met by the official SDKs: every operation, refusal and fault."""

from __future__ import annotations

import asyncio
import contextlib
import json
import math

import anthropic
import httpx
import openai
import pydantic
import pytest
from tests.simulated import serving

from dujiang.simulation.spec import VendorSpec

AT_ONCE = {"first_token_s": 0, "tokens_per_s": 0, "output_tokens": 12}
HELLO = [{"role": "user", "content": "Where does the river divide?"}]
WEATHER = {
    "type": "object",
    "properties": {
        "city": {"type": "string", "minLength": 3},
        "unit": {"enum": ["celsius", "kelvin"]},
        "days": {"type": "integer", "minimum": 2, "maximum": 5},
    },
    "required": ["city", "unit", "days"],
    "additionalProperties": False,
}


class HandClock:
    """A clock that stands still until it is moved."""

    def __init__(self):
        self.at = 0

    def now(self):
        return self.at

    def wall(self):
        return 1_700_000_000_000_000_000 + self.at

    def advance(self, seconds):
        self.at += round(seconds * 1e9)


def spec(**settings):
    return VendorSpec.build(AT_ONCE | settings)


@contextlib.asynccontextmanager
async def openai_client(clock=None, **settings):
    async with serving(spec(**settings), clock) as (vendor, url):
        async with openai.AsyncOpenAI(base_url=f"{url}/v1", api_key="sk-one", max_retries=0) as client:
            yield client, vendor


@contextlib.asynccontextmanager
async def anthropic_client(clock=None, **settings):
    async with serving(spec(**settings), clock) as (vendor, url):
        async with anthropic.AsyncAnthropic(base_url=url, api_key="sk-one", max_retries=0) as client:
            yield client, vendor


def check_weather(arguments):
    assert set(arguments) == {"city", "unit", "days"}
    assert len(arguments["city"]) >= 3
    assert arguments["unit"] in ("celsius", "kelvin")
    assert 2 <= arguments["days"] <= 5


# --- OpenAI: chat -----------------------------------------------------------------------------------------


async def test_chat_is_answered_the_same_each_time_with_exact_usage():
    async with openai_client() as (client, vendor):
        first = await client.chat.completions.create(model="m", messages=HELLO)
        again = await client.chat.completions.create(model="m", messages=HELLO)
        short = await client.chat.completions.create(model="m", messages=HELLO, max_completion_tokens=5)
    assert first.choices[0].message.content == again.choices[0].message.content
    assert first.id != again.id
    assert first.choices[0].finish_reason == "stop"
    assert first.usage.prompt_tokens == math.ceil(len(HELLO[0]["content"]) / 4)
    assert first.usage.completion_tokens == 12 == len(first.choices[0].message.content.split())
    assert short.choices[0].finish_reason == "length"
    assert short.usage.completion_tokens == 5
    assert vendor.statistics()["tokens"] == {"input": 21, "cached": 0, "output": 29}


async def test_a_chat_stream_has_one_delta_for_each_token_and_usage_when_asked():
    async with openai_client() as (client, _):
        whole = await client.chat.completions.create(model="m", messages=HELLO)
        body = {"model": "m", "messages": HELLO, "stream": True, "stream_options": {"include_usage": True}}
        chunks = [chunk async for chunk in await client.chat.completions.create(**body, seed=1)]
        plain = [c async for c in await client.chat.completions.create(model="m", messages=HELLO, stream=True)]
    deltas = [c.choices[0].delta.content for c in chunks if c.choices and c.choices[0].delta.content]
    assert len(deltas) == 12 == chunks[-1].usage.completion_tokens
    assert chunks[-1].choices == []
    assert chunks[-2].choices[0].finish_reason == "stop"
    assert chunks[0].choices[0].delta.role == "assistant"
    assert len({c.id for c in chunks}) == 1
    assert all(c.usage is None for c in plain)
    assert plain[-1].choices[0].finish_reason == "stop"
    assert whole.usage.completion_tokens == 12


@pytest.mark.parametrize("stream", [False, True])
async def test_tools_are_called_with_arguments_that_fit_their_schema(stream):
    tools = [{"type": "function", "function": {"name": n, "parameters": WEATHER}} for n in ("weather", "tide")]
    body = {"model": "m", "messages": HELLO, "tools": tools}
    async with openai_client() as (client, _):
        silent = await client.chat.completions.create(**body)
        assert silent.choices[0].finish_reason == "stop"

        async def calls(headers, **choice):
            if not stream:
                r = await client.chat.completions.create(**body, **choice, extra_headers=headers)
                assert r.choices[0].finish_reason == "tool_calls"
                assert r.choices[0].message.content is None
                return [(c.id, c.function.name, c.function.arguments) for c in r.choices[0].message.tool_calls]
            async with client.chat.completions.stream(**body, **choice, extra_headers=headers) as events:
                final = await events.get_final_completion()
            assert final.choices[0].finish_reason == "tool_calls"
            return [(c.id, c.function.name, c.function.arguments) for c in final.choices[0].message.tool_calls]

        forced = await calls({}, tool_choice={"type": "function", "function": {"name": "tide"}})
        required = await calls({}, tool_choice="required")
        both = await calls({"x-simulate-parallel-tools": "2"})
        named = await calls({"x-simulate-tool": "tide"})
    assert [name for _, name, _ in forced] == ["tide"] == [name for _, name, _ in named]
    assert [name for _, name, _ in required] == ["weather"]
    assert [name for _, name, _ in both] == ["weather", "tide"]
    assert len({call_id for call_id, _, _ in both}) == 2
    for _, _, arguments in [*forced, *required, *both, *named]:
        check_weather(json.loads(arguments))


class Gate(pydantic.BaseModel):
    name: str
    opening_cm: int = pydantic.Field(ge=5, le=90)


class Weir(pydantic.BaseModel):
    river: str
    gates: list[Gate]
    built: int | None
    upstream: Weir | None


async def test_structured_answers_satisfy_their_schema():
    async with openai_client() as (client, _):
        chat = await client.chat.completions.parse(model="m", messages=HELLO, response_format=Weir)
        response = await client.responses.parse(model="m", input="Which weir?", text_format=Weir)
        loose = await client.chat.completions.create(model="m", messages=HELLO, response_format={"type": "json_object"})
    assert isinstance(chat.choices[0].message.parsed, Weir)
    assert isinstance(response.output_parsed, Weir)
    assert 5 <= response.output_parsed.gates[0].opening_cm <= 90
    assert isinstance(json.loads(loose.choices[0].message.content), dict)


async def test_choices_logprobs_and_audio_have_their_shape():
    async with openai_client() as (client, _):
        many = await client.chat.completions.create(
            model="m", messages=HELLO, n=3, logprobs=True, top_logprobs=2, max_tokens=4
        )
        chunks = [c async for c in await client.chat.completions.create(model="m", messages=HELLO, n=2, stream=True)]
        audio = await client.chat.completions.create(
            model="m", messages=HELLO, modalities=["text", "audio"], audio={"voice": "alloy", "format": "pcm16"}
        )
    assert [c.index for c in many.choices] == [0, 1, 2]
    assert len({c.message.content for c in many.choices}) == 3
    assert many.usage.completion_tokens == 12
    for choice in many.choices:
        assert "".join(t.token for t in choice.logprobs.content) == choice.message.content
        assert all(len(t.top_logprobs) == 2 and t.logprob < 0 for t in choice.logprobs.content)
    ends = [c.choices[0].index for c in chunks if c.choices[0].finish_reason]
    assert sorted(ends) == [0, 1]
    assert audio.choices[0].message.audio.transcript
    assert audio.choices[0].message.content is None


async def test_a_client_can_demand_token_counts():
    async with openai_client() as (client, _):
        headers = {"x-simulate-input-tokens": "5000", "x-simulate-output-tokens": "33"}
        told = await client.chat.completions.create(model="m", messages=HELLO, extra_headers=headers)
        meta = await client.chat.completions.create(
            model="m", messages=HELLO, metadata={"simulate_output_tokens": "21"}, max_tokens=500
        )
        cached = await client.chat.completions.create(
            model="m", messages=HELLO, extra_headers={"x-simulate-cached-tokens": "3"}
        )
    assert (told.usage.prompt_tokens, told.usage.completion_tokens) == (5000, 33)
    assert meta.usage.completion_tokens == 21
    assert meta.choices[0].finish_reason == "stop"
    assert cached.usage.prompt_tokens_details.cached_tokens == 3


# --- OpenAI: the other operations -------------------------------------------------------------------------


async def test_embeddings_are_unit_vectors_in_either_encoding():
    async with openai_client() as (client, _):
        packed = await client.embeddings.create(model="e", input=["river", "weir", "river"])  # SDK: base64
        plain = await client.embeddings.create(model="e", input="river", encoding_format="float", dimensions=64)
        tokens = await client.embeddings.create(model="e", input=[[1, 2, 3], [4, 5]], dimensions=8)
    vectors = [d.embedding for d in packed.data]
    assert [len(v) for v in vectors] == [1536] * 3
    assert vectors[0] == vectors[2] != vectors[1]
    assert math.isclose(sum(x * x for x in vectors[0]), 1, rel_tol=1e-5)
    assert len(plain.data[0].embedding) == 64
    assert (packed.usage.prompt_tokens, tokens.usage.prompt_tokens) == (2 + 1 + 2, 5)


async def test_responses_are_stored_and_continued():
    async with openai_client() as (client, _):
        first = await client.responses.create(model="m", input="Where does the river divide?")
        fetched = await client.responses.retrieve(first.id)
        second = await client.responses.create(model="m", input="And then?", previous_response_id=first.id)
        unstored = await client.responses.create(model="m", input="Hello", store=False)
        with pytest.raises(openai.NotFoundError):
            await client.responses.retrieve(unstored.id)
        await client.responses.delete(first.id)
        with pytest.raises(openai.BadRequestError, match="not found") as lost:
            await client.responses.create(model="m", input="And then?", previous_response_id=first.id)
    assert first.output_text == fetched.output_text
    assert first.usage.output_tokens == 12
    assert second.usage.input_tokens == first.usage.total_tokens + 3
    assert lost.value.code == "previous_response_not_found"
    assert lost.value.param == "previous_response_id"


async def test_a_response_stream_tells_the_whole_story_in_order():
    async with openai_client() as (client, _):
        async with client.responses.stream(model="m", input="Where?", max_output_tokens=40) as stream:
            events = [event async for event in stream]
            final = await stream.get_final_response()
        cut = [e async for e in await client.responses.create(model="m", input="x", stream=True, max_output_tokens=3)]
    kinds = [e.type for e in events]
    assert kinds[:4] == ["response.created", "response.in_progress", "response.output_item.added",
                         "response.content_part.added"]  # fmt: skip
    assert kinds[-4:] == ["response.output_text.done", "response.content_part.done", "response.output_item.done",
                          "response.completed"]  # fmt: skip
    assert [e.sequence_number for e in events] == list(range(len(events)))
    deltas = [e.delta for e in events if e.type == "response.output_text.delta"]
    assert "".join(deltas) == final.output_text
    assert len(deltas) == final.usage.output_tokens == 12
    assert cut[-1].type == "response.incomplete"
    assert cut[-1].response.incomplete_details.reason == "max_output_tokens"


async def test_a_response_calls_functions_in_a_stream():
    tools = [{"type": "function", "name": "weather", "parameters": WEATHER, "strict": True}]
    async with openai_client() as (client, _):
        async with client.responses.stream(model="m", input="Rain?", tools=tools, tool_choice="required") as stream:
            events = [e async for e in stream]
            final = await stream.get_final_response()
    (call,) = final.output
    assert call.type == "function_call"
    assert call.name == "weather"
    check_weather(json.loads(call.arguments))
    deltas = "".join(e.delta for e in events if e.type == "response.function_call_arguments.delta")
    assert deltas == call.arguments


async def test_models_are_listed_in_both_dialects_and_others_refused():
    async with serving(spec(models=["small", "large"])) as (_, url):
        async with openai.AsyncOpenAI(base_url=f"{url}/v1", api_key="k", max_retries=0) as client:
            assert [m.id async for m in client.models.list()] == ["small", "large"]
            assert (await client.models.retrieve("large")).id == "large"
            with pytest.raises(openai.NotFoundError) as unknown:
                await client.chat.completions.create(model="huge", messages=HELLO)
        async with anthropic.AsyncAnthropic(base_url=url, api_key="k", max_retries=0) as client:
            assert [m.id async for m in client.models.list()] == ["small", "large"]
            with pytest.raises(anthropic.NotFoundError):
                await client.messages.create(model="huge", messages=HELLO, max_tokens=5)
    assert unknown.value.code == "model_not_found"
    assert unknown.value.param == "model"


# --- Anthropic --------------------------------------------------------------------------------------------


async def test_messages_whole_and_streamed():
    async with anthropic_client() as (client, _):
        whole = await client.messages.create(model="c", max_tokens=50, messages=HELLO, system="Be brief.")
        short = await client.messages.create(model="c", max_tokens=5, messages=HELLO)
        async with client.messages.stream(model="c", max_tokens=50, messages=HELLO) as stream:
            events = [e async for e in stream]
            final = await stream.get_final_message()
        counted = await client.messages.count_tokens(model="c", messages=HELLO, system="Be brief.")
    assert whole.stop_reason == "end_turn"
    assert whole.usage.output_tokens == 12
    assert whole.usage.input_tokens == counted.input_tokens == math.ceil((28 + 9) / 4)
    assert short.stop_reason == "max_tokens"
    assert short.usage.output_tokens == 5
    raw = [e.type for e in events if e.type not in ("text", "ping")]
    assert raw[:2] == ["message_start", "content_block_start"]
    assert raw[-3:] == ["content_block_stop", "message_delta", "message_stop"]
    assert sum(e.type == "content_block_delta" for e in events) == 12 == final.usage.output_tokens
    assert final.content[0].text == "".join(e.text for e in events if e.type == "text")


@pytest.mark.parametrize("stream", [False, True])
async def test_messages_call_tools(stream):
    tools = [{"name": n, "input_schema": WEATHER} for n in ("weather", "tide")]
    body = {"model": "c", "max_tokens": 500, "messages": HELLO, "tools": tools}
    two = {"x-simulate-parallel-tools": "2"}
    async with anthropic_client() as (client, _):
        if stream:
            async with client.messages.stream(**body, tool_choice={"type": "any"}, extra_headers=two) as events:
                message = await events.get_final_message()
        else:
            message = await client.messages.create(**body, tool_choice={"type": "any"}, extra_headers=two)
        forced = await client.messages.create(**body, tool_choice={"type": "tool", "name": "tide"})
        none = await client.messages.create(**body, tool_choice={"type": "none"})
    assert message.stop_reason == "tool_use"
    assert [block.name for block in message.content] == ["weather", "tide"]
    for block in [*message.content, *forced.content]:
        check_weather(block.input)
    assert forced.content[0].name == "tide"
    assert none.content[0].type == "text"


async def test_messages_answer_in_a_schema():
    async with anthropic_client() as (client, _):
        message = await client.messages.create(
            model="c",
            max_tokens=500,
            messages=HELLO,
            output_config={"format": {"type": "json_schema", "schema": WEATHER}},
        )
    check_weather(json.loads(message.content[0].text))


async def test_cached_input_is_told_apart_and_costs_no_input_quota():
    async with anthropic_client(limits=["input_tokens/60s=100000"]) as (client, vendor):
        headers = {"x-simulate-input-tokens": "1000", "x-simulate-cached-tokens": "900"}
        message = await client.messages.create(model="c", max_tokens=5, messages=HELLO, extra_headers=headers)
    assert (message.usage.input_tokens, message.usage.cache_read_input_tokens) == (100, 900)
    assert vendor.statistics()["limits"][0]["used"] == 100


# --- Refusals ---------------------------------------------------------------------------------------------


async def test_the_retry_after_of_a_sliding_limit_is_exact_to_the_millisecond():
    clock = HandClock()
    async with openai_client(clock, limits=["requests/60s=2:sliding"]) as (client, vendor):

        async def ask():
            return await client.chat.completions.with_raw_response.create(model="m", messages=HELLO)

        head = (await ask()).headers
        clock.advance(10)
        await ask()
        clock.advance(0.25)
        with pytest.raises(openai.RateLimitError) as refused:
            await ask()
        headers = refused.value.response.headers
        clock.advance(49.749)
        with pytest.raises(openai.RateLimitError):
            await ask()
        clock.advance(0.001)
        await ask()
    assert head["x-ratelimit-limit-requests"] == "2"
    assert head["x-ratelimit-remaining-requests"] == "1"
    assert head["x-ratelimit-reset-requests"] == "1m0s"
    assert headers["retry-after-ms"] == "49750"
    assert headers["retry-after"] == "50"
    assert refused.value.code == "rate_limit_exceeded"
    assert refused.value.type == "requests"
    facts = vendor.statistics()
    assert facts["requests"]["accepted"] == 3
    assert facts["refused_by_limit"] == {"requests/60s": 2}
    assert facts["errors"] == {"429 rate_limit_exceeded": 2}
    assert facts["limits"][0]["violations"] == 0


async def test_token_limits_announce_and_refuse_in_anthropics_words():
    clock = HandClock()
    limits = ["input_tokens/60s=10000:bucket", "output_tokens/60s=8000:bucket,charge=generated"]
    async with anthropic_client(clock, limits=limits) as (client, _):
        headers = {"x-simulate-input-tokens": "6000"}
        body = {"model": "c", "max_tokens": 50, "messages": HELLO, "extra_headers": headers}
        first = await client.messages.with_raw_response.create(**body)
        with pytest.raises(anthropic.RateLimitError) as refused:
            await client.messages.create(**body)
        error = refused.value.response.json()
        wait = int(refused.value.response.headers["retry-after"])
        clock.advance(wait)
        await client.messages.create(**body)
    assert first.headers["anthropic-ratelimit-input-tokens-limit"] == "10000"
    assert first.headers["anthropic-ratelimit-input-tokens-remaining"] == "4000"
    assert first.headers["anthropic-ratelimit-input-tokens-reset"] == "2023-11-14T22:13:56Z"
    assert "retry-after-ms" not in refused.value.response.headers
    assert wait == 12  # 2,000 of 10,000 a minute
    assert error["error"]["type"] == "rate_limit_error"
    assert error["request_id"] == refused.value.response.headers["request-id"]


async def test_a_request_larger_than_its_limit_is_told_so_and_no_time_to_retry():
    async with openai_client(limits=["tokens/60s=100"]) as (client, _):
        with pytest.raises(openai.RateLimitError, match="too large") as refused:
            await client.chat.completions.create(model="m", messages=HELLO, max_tokens=200)
    assert "retry-after" not in refused.value.response.headers
    assert refused.value.type == "tokens"


async def test_concurrency_is_held_until_the_last_byte():
    async with openai_client(limits=["concurrency=2"], first_token_s=0.15) as (client, vendor):

        async def ask():
            return await client.chat.completions.create(model="m", messages=HELLO)

        outcomes = await asyncio.gather(*[ask() for _ in range(4)], return_exceptions=True)
        await ask()
    refused = [o for o in outcomes if isinstance(o, openai.RateLimitError)]
    assert len(refused) == 2
    assert "oncurren" in refused[0].message
    assert "retry-after" not in refused[0].response.headers
    assert vendor.statistics()["requests"]["in_flight_peak"] == 2


@pytest.mark.parametrize(("policy", "held"), [("continue", 1), ("stop", 0)])
async def test_a_client_that_leaves_may_leave_its_slot_behind(policy, held):
    async with openai_client(limits=["concurrency=1"], first_token_s=60, on_disconnect=policy) as (client, vendor):
        with pytest.raises(openai.APITimeoutError):
            await client.chat.completions.create(model="m", messages=HELLO, timeout=0.1)
        for _ in range(20):
            await asyncio.sleep(0.01)
            if vendor.statistics()["requests"]["in_flight"] == held:
                break
        facts = vendor.statistics()
    assert facts["requests"]["in_flight"] == held
    assert facts["requests"]["abandoned"] == 1 - held
    assert facts["limits"][0]["used"] == held


async def test_every_key_has_its_own_account_unless_shared():
    for shared, refused in ((False, 0), (True, 1)):
        async with serving(spec(keys=["a", "b"], limits=["requests/60s=1"], shared_account=shared)) as (vendor, url):
            async with httpx.AsyncClient() as http:
                for key in ("a", "b", "c"):
                    await http.post(f"{url}/v1/chat/completions", json={"model": "m", "messages": HELLO},
                                    headers={"authorization": f"Bearer {key}"})  # fmt: skip
        facts = vendor.statistics()
        assert facts["requests"]["refused"] == refused
        assert facts["errors"]["401 invalid_api_key"] == 1


async def test_wrong_keys_and_wrong_requests_have_the_sdks_own_errors():
    async with serving(spec(keys=["right"])) as (_, url):
        async with openai.AsyncOpenAI(base_url=f"{url}/v1", api_key="wrong", max_retries=0) as client:
            with pytest.raises(openai.AuthenticationError) as unknown:
                await client.chat.completions.create(model="m", messages=HELLO)
        async with anthropic.AsyncAnthropic(base_url=url, api_key="wrong", max_retries=0) as client:
            with pytest.raises(anthropic.AuthenticationError) as unknown_too:
                await client.messages.create(model="m", messages=HELLO, max_tokens=5)
        async with openai.AsyncOpenAI(base_url=f"{url}/v1", api_key="right", max_retries=0) as client:
            for path, body, param in WRONG:
                with pytest.raises(openai.BadRequestError) as wrong:
                    await client.post(path, body=body, cast_to=object)
                assert wrong.value.param == param, (path, body, wrong.value.message)
        async with anthropic.AsyncAnthropic(base_url=url, api_key="right", max_retries=0) as client:
            with pytest.raises(anthropic.BadRequestError, match="max_tokens"):
                await client.post("/v1/messages", body={"model": "m", "messages": HELLO}, cast_to=object)
    assert unknown.value.code == "invalid_api_key"
    assert unknown_too.value.response.json()["error"]["type"] == "authentication_error"


WRONG = [
    ("/chat/completions", {"messages": HELLO}, "model"),
    ("/chat/completions", {"model": "m"}, "messages"),
    ("/chat/completions", {"model": "m", "messages": []}, "messages"),
    ("/chat/completions", {"model": "m", "messages": "hello"}, "messages"),
    ("/chat/completions", {"model": "m", "messages": [{"role": "user"}]}, "messages[0].content"),
    ("/chat/completions", {"model": "m", "messages": [{"role": "pilot", "content": "x"}]}, "messages[0].role"),
    ("/chat/completions", {"model": "m", "messages": HELLO, "max_tokens": "9"}, "max_tokens"),
    ("/chat/completions", {"model": "m", "messages": HELLO, "max_tokens": True}, "max_tokens"),
    ("/chat/completions", {"model": "m", "messages": HELLO, "temperature": 3}, "temperature"),
    ("/chat/completions", {"model": "m", "messages": HELLO, "n": 0}, "n"),
    ("/chat/completions", {"model": "m", "messages": HELLO, "stream_options": {}}, "stream_options"),
    ("/chat/completions", {"model": "m", "messages": HELLO, "tool_choice": "required"}, "tool_choice"),
    ("/chat/completions", {"model": "m", "messages": HELLO, "response_format": {"type": "x"}}, "response_format.type"),
    ("/embeddings", {"model": "m"}, "input"),
    ("/embeddings", {"model": "m", "input": [""]}, "input[0]"),
    ("/responses", {"model": "m"}, "input"),
    ("/responses", {"model": "m", "input": ["x"]}, "input[0]"),
]


async def test_bodies_that_are_no_json_objects_and_unknown_addresses():
    async with serving(spec()) as (_, url), httpx.AsyncClient() as http:
        key = {"authorization": "Bearer k"}
        chat = f"{url}/v1/chat/completions"
        deep = b'{"model": "m", "messages": [{"role": "user", "content": ' + b"[" * 700 + b"]" * 700 + b"}]}"
        for content in (deep, b"[" * 50_000, b"{", b"[]", b'{"model": "\xff"}', b""):
            answer = await http.post(chat, content=content, headers=key)
            assert answer.status_code == 400, content
            assert answer.json()["error"]["type"] == "invalid_request_error"
        assert (await http.get(chat, headers=key)).status_code == 405
        assert (await http.get(f"{url}/v1/nothing", headers=key)).json()["error"]["code"] == "unknown_url"
        assert (await http.post(chat, json={})).status_code == 401
        assert (await http.get(f"{url}/simulated/nothing")).status_code == 404


# --- Faults -----------------------------------------------------------------------------------------------


async def test_scripted_errors_strike_the_requests_they_name():
    faults = ["storm,requests=1,retry_after=2s", "storm,requests=2,code=insufficient_quota", "error,requests=3",
              "error,status=503,requests=4", "error,status=529,requests=5"]  # fmt: skip
    async with openai_client(faults=faults, limits=["requests/60s=1"]) as (client, vendor):
        seen = []
        for _ in range(5):
            with pytest.raises(openai.APIStatusError) as failed:
                await client.chat.completions.create(model="m", messages=HELLO)
            seen.append((failed.value.status_code, failed.value.code))
            if len(seen) == 1:
                assert failed.value.response.headers["retry-after-ms"] == "2000"
        await client.chat.completions.create(model="m", messages=HELLO)  # the limit was not touched
    assert seen == [(429, "rate_limit_exceeded"), (429, "insufficient_quota"), (500, None),
                    (503, "server_is_overloaded"), (529, "server_is_overloaded")]  # fmt: skip
    assert vendor.statistics()["faults"] == {"storm": 2, "error": 3}


async def test_overload_is_529_in_anthropics_words_also_within_a_stream():
    faults = ["error,status=529,requests=1", "error,status=529,requests=2,chunks=4"]
    async with anthropic_client(faults=faults) as (client, _):
        with pytest.raises(anthropic.APIStatusError) as overloaded:
            await client.messages.create(model="c", max_tokens=20, messages=HELLO)
        texts = []
        with pytest.raises(anthropic.APIStatusError, match="overloaded_error"):
            async with client.messages.stream(model="c", max_tokens=20, messages=HELLO) as stream:
                async for event in stream:
                    if event.type == "text":
                        texts.append(event.text)
    assert overloaded.value.status_code == 529
    assert overloaded.value.response.json()["error"]["type"] == "overloaded_error"
    assert len(texts) == 4


async def test_a_cut_stream_ends_without_an_end():
    async with serving(spec(faults=["cut,chunks=3"], limits=["concurrency=1"])) as (vendor, url):
        async with httpx.AsyncClient(headers={"authorization": "Bearer k"}) as http:
            received = b""
            with pytest.raises(httpx.RemoteProtocolError):
                body = {"model": "m", "messages": HELLO, "stream": True}
                async with http.stream("POST", f"{url}/v1/chat/completions", json=body) as answer:
                    async for part in answer.aiter_bytes():
                        received += part
            with pytest.raises(httpx.RemoteProtocolError):
                await http.post(f"{url}/v1/chat/completions", json={"model": "m", "messages": HELLO})
        facts = vendor.statistics()
    assert received.count(b"data: ") == 1 + 3  # the role, then three tokens
    assert b"[DONE]" not in received
    assert facts["requests"]["in_flight"] == 0
    assert facts["requests"]["broken"] == 2


async def test_malformed_answers_are_not_json():
    async with openai_client(faults=["malformed,chunks=2"]) as (client, _):
        with pytest.raises(json.JSONDecodeError):
            await client.chat.completions.create(model="m", messages=HELLO)
        with pytest.raises(json.JSONDecodeError):
            async for _ in await client.chat.completions.create(model="m", messages=HELLO, stream=True):
                pass


async def test_a_hanging_vendor_says_nothing():
    async with openai_client(faults=["hang,requests=1"], limits=["concurrency=1"]) as (client, vendor):
        with pytest.raises(openai.APITimeoutError):
            await client.chat.completions.create(model="m", messages=HELLO, timeout=0.1)
        for _ in range(50):
            await asyncio.sleep(0.01)
            if not vendor.statistics()["requests"]["in_flight"]:
                break
        await client.chat.completions.create(model="m", messages=HELLO)


async def test_keys_are_revoked_and_limits_cut_in_silence_at_their_time():
    clock = HandClock()
    faults = ["revoked,from=20s,until=30s", "limit_cut,from=60s,factor=0.5"]
    async with openai_client(clock, faults=faults, limits=["requests/10s=4:sliding"]) as (client, _):

        async def outcome():
            try:
                r = await client.chat.completions.with_raw_response.create(model="m", messages=HELLO)
            except openai.APIStatusError as error:
                return error.status_code
            return int(r.headers["x-ratelimit-remaining-requests"])

        assert await outcome() == 3
        clock.advance(25)
        assert await outcome() == 401
        clock.advance(10)
        assert await outcome() == 3
        clock.advance(30)
        assert [await outcome() for _ in range(3)] == [3, 2, 429]


# --- The address of the judge -----------------------------------------------------------------------------


async def test_statistics_and_reset_over_http_and_time_runs_faster_when_told():
    clock = HandClock()
    settings = {"limits": ["requests/60s=2"], "time_scale": 60, "starts_at": "2024-01-01T00:00:00Z"}
    async with serving(spec(**settings), clock) as (_, url), httpx.AsyncClient() as http:
        body = {"model": "m", "messages": HELLO}
        answers = []
        for _ in range(3):
            answers.append(await http.post(f"{url}/v1/chat/completions", json=body, headers={"x-api-key": "k"}))
            clock.advance(0.25)
        facts = (await http.get(f"{url}/simulated/statistics")).json()
        assert (await http.post(f"{url}/simulated/reset")).json() == {"reset": True}
        empty = (await http.get(f"{url}/simulated/statistics")).json()
    assert [a.status_code for a in answers] == [200, 200, 429]
    assert answers[2].headers["retry-after-ms"] == "500"
    assert answers[0].headers["x-ratelimit-reset-requests"] == "1s"
    assert answers[0].json()["created"] == 1704067200
    assert facts["elapsed_s"] == 45.0
    assert len(facts["timeline"]["accepted"]) == 46
    assert sum(facts["timeline"]["accepted"]) == 2
    assert facts["limits"][0]["used_share"] == 1.0
    assert empty["requests"]["sent"] == 0


async def test_many_streams_at_once_are_all_whole():
    settings = {"tokens_per_s": 400, "first_token_s": {"mean": 0.02, "p95": 0.05}, "limits": ["concurrency=100"]}
    async with openai_client(**settings) as (client, vendor):

        async def ask(i):
            body = {"model": "m", "messages": [{"role": "user", "content": f"stream {i}"}], "stream": True}
            return [c async for c in await client.chat.completions.create(**body)]

        streams = await asyncio.gather(*[ask(i) for i in range(100)])
    assert all(chunks[-1].choices[0].finish_reason == "stop" for chunks in streams)
    assert all(len(chunks) == 14 for chunks in streams)
    assert vendor.statistics()["tokens"]["output"] == 1200
