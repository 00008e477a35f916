"""Translation between dialects: nothing is lost, and where a stream is cut never matters."""

from __future__ import annotations

import itertools
import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.sdk_reading import Answer, read_reply, read_stream

from dujiang.protocols import (
    anthropic_messages_reply,
    openai_chat_reply,
    openai_responses_reply,
    openai_responses_stream,
)
from dujiang.protocols.conversation import (
    ArgumentsDelta,
    Finish,
    Finished,
    Reasoning,
    ReasoningDelta,
    Reply,
    Started,
    StreamEvent,
    Text,
    TextDelta,
    ToolStarted,
    ToolUse,
    with_tool_finish,
)
from dujiang.protocols.token_counts import TokenUsage
from dujiang.protocols.translation import StreamTranslator, translate_reply, translate_request
from dujiang.terms import Dialect, Usage

WIRE = (Dialect.CHAT, Dialect.RESPONSES, Dialect.MESSAGES)
PAIRS = list(itertools.permutations(WIRE, 2))
FINISHES: dict[Dialect, dict[Finish, str]] = {
    Dialect.CHAT: {finish: finish.value for finish in Finish},
    Dialect.RESPONSES: {
        Finish.STOP: "completed",
        Finish.TOOL_CALLS: "completed",
        Finish.LENGTH: "max_output_tokens",
        Finish.CONTENT_FILTER: "content_filter",
    },
    Dialect.MESSAGES: {
        Finish.STOP: "end_turn",
        Finish.TOOL_CALLS: "tool_use",
        Finish.LENGTH: "max_tokens",
        Finish.CONTENT_FILTER: "refusal",
    },
}

texts = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=12)
objects = st.dictionaries(texts, st.integers(-9, 9) | texts | st.none() | st.lists(st.booleans()), max_size=3)


@st.composite
def replies(draw: st.DrawFn) -> Reply:
    """Draw an answer: no two texts or thoughts beside one another, since dialects may join these."""
    kinds = draw(st.lists(st.sampled_from(["text", "reasoning", "tool"]), max_size=6))
    parts: list[Any] = []
    for index, (kind, _) in enumerate(itertools.groupby(kinds)):
        if kind == "text":
            parts.append(Text(draw(texts)))
        elif kind == "reasoning":
            parts.append(Reasoning(draw(texts)))
        else:
            for call in range(draw(st.integers(1, 3))):
                arguments = json.dumps(draw(objects), ensure_ascii=draw(st.booleans()))
                parts.append(ToolUse(f"call_{index}_{call}", draw(st.sampled_from(["f", "g"])), arguments))
    given_tokens = draw(st.integers(0, 1000))
    output = draw(st.integers(0, 1000))
    cached = draw(st.integers(0, given_tokens))
    usage = TokenUsage(given_tokens, output, cached, 0, draw(st.integers(0, output)))
    called = any(isinstance(part, ToolUse) for part in parts)
    finish = with_tool_finish(
        draw(st.sampled_from([Finish.STOP, Finish.LENGTH, Finish.CONTENT_FILTER])), called_tools=called
    )
    return Reply(parts, finish, usage)


def encoded(reply: Reply, dialect: Dialect) -> bytes:
    if dialect is Dialect.CHAT:
        return openai_chat_reply.encode_reply(reply, model="v", reply_id="v_1", created=7)
    if dialect is Dialect.RESPONSES:
        return openai_responses_reply.encode_reply(reply, model="v", reply_id="v_1", created=7)
    return anthropic_messages_reply.encode_reply(reply, model="v", reply_id="v_1")


def events_of(reply: Reply, pieces: int) -> list[StreamEvent]:
    events: list[StreamEvent] = [Started()]
    for part in reply.parts:
        if isinstance(part, ToolUse):
            events.append(ToolStarted(part.id, part.name))
            text, kind = part.arguments, ArgumentsDelta
        else:
            text, kind = part.text, ReasoningDelta if isinstance(part, Reasoning) else TextDelta
        step = max(len(text) // pieces, 1)
        events.extend(kind(text[i : i + step]) for i in range(0, len(text), step))
    return [*events, Finished(reply.finish, reply.usage)]


def streamed(reply: Reply, dialect: Dialect, pieces: int = 3) -> bytes:
    encoder: Any
    if dialect is Dialect.CHAT:
        encoder = openai_chat_reply.StreamEncoder(model="v", reply_id="v_1", created=7, include_usage=True)
    elif dialect is Dialect.RESPONSES:
        encoder = openai_responses_stream.StreamEncoder(model="v", reply_id="v_1", created=7)
    else:
        encoder = anthropic_messages_reply.StreamEncoder(model="v", reply_id="v_1")
    return b"".join(encoder.write(event) for event in events_of(reply, pieces))


def check(answer: Answer, reply: Reply, target: Dialect) -> None:
    """Compare what an SDK reads with what was said."""
    said: list[tuple[object, ...]] = []
    for part in reply.parts:
        if isinstance(part, ToolUse):
            said.append(("tool", part.id, part.name, json.loads(part.arguments)))
        else:
            said.append(("reasoning" if isinstance(part, Reasoning) else "text", part.text))
    expected = Answer(said)
    assert answer.of("tool") == expected.of("tool")
    assert answer.text() == expected.text()
    assert answer.text("reasoning").replace("\n\n", "") == expected.text("reasoning").replace("\n\n", "")
    assert answer.finish == FINISHES[target][reply.finish]
    usage = reply.usage
    assert usage is not None
    assert (answer.input_tokens, answer.output_tokens, answer.cached_tokens) == (
        usage.input,
        usage.output,
        usage.cached,
    )
    assert answer.model == "asked"
    assert answer.id == "resp_1"


@pytest.mark.parametrize(("source", "target"), PAIRS)
@settings(max_examples=60)
@given(reply=replies())
def test_whole_answers(source: Dialect, target: Dialect, reply: Reply) -> None:
    body = translate_reply(encoded(reply, source), source, target, model="asked", reply_id="resp_1", created=9)
    answer = read_reply(body, target)
    check(answer, reply, target)
    if Dialect.CHAT not in (source, target):  # chat keeps no order among texts, thoughts and calls
        assert [part[0] for part in answer.parts] == [
            {Text: "text", Reasoning: "reasoning", ToolUse: "tool"}[type(part)] for part in reply.parts
        ]


def translator(source: Dialect, target: Dialect) -> StreamTranslator:
    return StreamTranslator(source, target, model="asked", reply_id="resp_1", created=9, include_usage=True)


@pytest.mark.parametrize(("source", "target"), PAIRS)
@settings(max_examples=60)
@given(reply=replies(), pieces=st.integers(1, 4), cuts=st.lists(st.integers(0, 5000), max_size=12))
def test_streams_and_their_cuts(source: Dialect, target: Dialect, reply: Reply, pieces: int, cuts: list[int]) -> None:
    stream = streamed(reply, source, pieces)
    whole = translator(source, target)
    out = whole.feed(stream) + whole.finish()
    check(read_stream(out, target), reply, target)
    assert whole.finished
    assert whole.failure is None
    usage = reply.usage
    assert usage is not None
    assert whole.usage == Usage(input_tokens=usage.input, output_tokens=usage.output, cached_tokens=usage.cached)
    edges = [0, *sorted(min(cut, len(stream)) for cut in cuts), len(stream)]
    cut = translator(source, target)
    assert b"".join(cut.feed(stream[a:b]) for a, b in itertools.pairwise(edges)) + cut.finish() == out


@pytest.mark.parametrize(("source", "target"), PAIRS)
def test_byte_by_byte(source: Dialect, target: Dialect) -> None:
    reply = Reply(
        [Reasoning("hm 你"), Text("Hello\n“你”"), ToolUse("a", "f", '{"x": "\\u4f60"}'), ToolUse("b", "g", "{}")],
        Finish.TOOL_CALLS,
        TokenUsage(10, 5, 4, 0, 2),
    )
    stream = streamed(reply, source)
    whole, bytewise = translator(source, target), translator(source, target)
    expected = whole.feed(stream) + whole.finish()
    got = b"".join(bytewise.feed(stream[i : i + 1]) for i in range(len(stream))) + bytewise.finish()
    assert got == expected
    assert bytewise.counted.partial_output_chars == whole.counted.partial_output_chars > 20


@pytest.mark.parametrize(("source", "target"), PAIRS)
@settings(max_examples=60)
@given(reply=replies(), end=st.integers(0, 100))
def test_a_stream_cut_short_never_ends_as_if_all_was_well(
    source: Dialect, target: Dialect, reply: Reply, end: int
) -> None:
    stream = streamed(reply, source)
    end_mark = b'"finish_reason":"' if source is Dialect.CHAT else b"\n\n"  # chat is complete with its reason
    whole = stream.rstrip().rindex(end_mark)
    broken = translator(source, target)
    out = broken.feed(stream[: whole * end // 100]) + broken.finish()
    assert not broken.finished
    assert broken.failure is not None
    assert b'"error"' in out or b"event: error" in out
    assert b"[DONE]" not in out
    assert b"event: message_stop" not in out
    assert b"event: response.completed" not in out


@given(st.binary(max_size=200), st.sampled_from(PAIRS))
def test_garbage_ends_in_an_error_event(garbage: bytes, pair: tuple[Dialect, Dialect]) -> None:
    broken = translator(*pair)
    out = broken.feed(garbage) + broken.feed(b"\n\n") + broken.finish()
    assert not broken.finished
    assert b"error" in out


# Requests: chat → messages or responses → chat.

user_parts = st.one_of(
    texts.map(lambda text: {"type": "text", "text": text}),
    st.just({"type": "image_url", "image_url": {"url": "https://example.com/a.png"}}),
    st.just({"type": "image_url", "image_url": {"url": "data:image/png;base64,iVBORw0KGgo="}}),
)
users = (texts | st.lists(user_parts, min_size=1, max_size=3)).map(lambda content: {"role": "user", "content": content})


@st.composite
def turns(draw: st.DrawFn) -> list[dict[str, Any]]:
    """Draw one turn: a user's message, perhaps calls of tools with their results, an answer."""
    turn = [draw(users)]
    calls = draw(st.integers(0, 2))
    if calls:
        uses = [
            {"id": f"c{n}", "type": "function", "function": {"name": "f", "arguments": json.dumps(draw(objects))}}
            for n in range(calls)
        ]
        turn.append({"role": "assistant", "content": draw(st.none() | texts), "tool_calls": uses})
        turn += [{"role": "tool", "tool_call_id": f"c{n}", "content": draw(texts)} for n in range(calls)]
    turn.append({"role": "assistant", "content": draw(texts)})
    return turn


@st.composite
def chat_requests(draw: st.DrawFn) -> dict[str, Any]:
    messages = [{"role": "system", "content": text} for text in draw(st.lists(texts, max_size=1))]
    for turn in draw(st.lists(turns(), max_size=3)):
        messages += turn
    messages.append(draw(users))
    request: dict[str, Any] = {"messages": messages}
    if draw(st.booleans()):
        schema = {"type": "object", "properties": {"a": {"type": "integer"}}}
        request["tools"] = [
            {"type": "function", "function": {"name": name, "description": "d", "parameters": schema}} for name in "fg"
        ]
        choices = ["auto", "none", "required", {"type": "function", "function": {"name": "g"}}]
        request["tool_choice"] = draw(st.sampled_from(choices))
        if request["tool_choice"] != "none" and draw(st.booleans()):
            request["parallel_tool_calls"] = False
    optional = {
        "temperature": st.floats(0, 1),
        "top_p": st.floats(0, 1),
        "max_completion_tokens": st.integers(1, 10_000),
        "reasoning_effort": st.sampled_from(["low", "medium", "high"]),
        "user": texts,
        "stream": st.just(True),
    }
    for name, values in optional.items():
        if draw(st.booleans()):
            request[name] = draw(values)
    if draw(st.booleans()):
        schema = {"type": "object", "properties": {}}
        form = {"name": "answer", "schema": schema, "strict": True}
        request["response_format"] = {"type": "json_schema", "json_schema": form}
    return request


def normal(request: dict[str, Any]) -> dict[str, Any]:
    """Return a chat request in one spelling."""
    request = json.loads(json.dumps(request))
    request.pop("model", None)
    request.pop("stream_options", None)
    for message in request["messages"]:
        for call in message.get("tool_calls", ()):
            call["function"]["arguments"] = json.loads(call["function"]["arguments"])
        if isinstance(message["content"], list):
            for part in message["content"]:
                part.get("image_url", {}).pop("detail", None)
            if len(message["content"]) == 1 and message["content"][0]["type"] == "text":
                message["content"] = message["content"][0]["text"]
    for tool in request.get("tools", ()):
        tool["function"].pop("strict", None)
    return request


@pytest.mark.parametrize("through", [Dialect.MESSAGES, Dialect.RESPONSES])
@given(request=chat_requests(), stop=st.lists(texts, max_size=3))
def test_a_chat_request_survives_another_dialect(through: Dialect, request: dict[str, Any], stop: list[str]) -> None:
    if through is Dialect.MESSAGES:
        request.setdefault("max_completion_tokens", 4096)  # what that dialect must be told
        if stop:
            request["stop"] = stop
    body = json.dumps({"model": "m", **request}).encode()
    there = translate_request(body, Dialect.CHAT, through, model="x")
    back = translate_request(there, through, Dialect.CHAT, model="m")
    assert normal(json.loads(back)) == normal(request)


@given(request=chat_requests())
def test_the_long_way_round(request: dict[str, Any]) -> None:
    request.setdefault("max_completion_tokens", 4096)
    body = json.dumps({"model": "m", **request}).encode()
    for source, target in itertools.pairwise(
        [Dialect.CHAT, Dialect.RESPONSES, Dialect.MESSAGES, Dialect.RESPONSES, Dialect.MESSAGES, Dialect.CHAT]
    ):
        body = translate_request(body, source, target, model="m")
    assert normal(json.loads(body)) == normal(request)
