"""Answers in another dialect, from vendors' streams as they really look, with their habits and their faults."""

from __future__ import annotations

import json
from typing import Any

import pytest
from tests.sdk_reading import read_reply, read_stream

from dujiang.errors import VendorFailed
from dujiang.protocols.sse import Decoder, encode
from dujiang.protocols.translation import StreamTranslator, translate_reply
from dujiang.terms import Dialect, Usage

CHAT, RESPONSES, MESSAGES = Dialect.CHAT, Dialect.RESPONSES, Dialect.MESSAGES


def translator(source: Dialect, target: Dialect, include_usage: bool = True) -> StreamTranslator:
    return StreamTranslator(source, target, model="asked", reply_id="resp_1", created=9, include_usage=include_usage)


def whole(body: object, source: Dialect, target: Dialect) -> bytes:
    given = body if isinstance(body, bytes) else json.dumps(body).encode()
    return translate_reply(given, source, target, model="asked", reply_id="resp_1", created=9)


def chat_stream(*deltas: dict[str, Any], finish: str | None = "stop", usage: object = None, done: bool = True) -> bytes:
    head = {"id": "c", "object": "chat.completion.chunk", "created": 1, "model": "v"}
    out = b""
    for delta in deltas:
        choice = {"index": 0, "delta": delta, "finish_reason": None}
        out += encode(None, json.dumps({**head, "choices": [choice], "usage": None}).encode())
    if finish is not None:
        out += encode(
            None, json.dumps({**head, "choices": [{"index": 0, "delta": {}, "finish_reason": finish}]}).encode()
        )
    if usage is not None:
        out += encode(None, json.dumps({**head, "choices": [], "usage": usage}).encode())
    return out + (b"data: [DONE]\n\n" if done else b"")


def named(*events: dict[str, Any]) -> bytes:
    return b"".join(encode(event["type"], json.dumps(event).encode()) for event in events)


ANTHROPIC_STREAM = named(
    {
        "type": "message_start",
        "message": {
            "id": "msg_1",
            "type": "message",
            "role": "assistant",
            "model": "claude",
            "content": [],
            "stop_reason": None,
            "stop_sequence": None,
            "usage": {
                "input_tokens": 10,
                "cache_read_input_tokens": 90,
                "cache_creation_input_tokens": 5,
                "output_tokens": 1,
            },
        },
    },
    {"type": "content_block_start", "index": 0, "content_block": {"type": "thinking", "thinking": "", "signature": ""}},
    {"type": "content_block_delta", "index": 0, "delta": {"type": "thinking_delta", "thinking": "Let me see."}},
    {"type": "content_block_delta", "index": 0, "delta": {"type": "signature_delta", "signature": "EqQB"}},
    {"type": "content_block_stop", "index": 0},
    {"type": "ping"},
    {"type": "content_block_start", "index": 1, "content_block": {"type": "text", "text": ""}},
    {"type": "content_block_delta", "index": 1, "delta": {"type": "text_delta", "text": "I look"}},
    {"type": "content_block_delta", "index": 1, "delta": {"type": "text_delta", "text": " it up."}},
    {"type": "content_block_stop", "index": 1},
    {
        "type": "content_block_start",
        "index": 2,
        "content_block": {"type": "tool_use", "id": "toolu_1", "name": "weather", "input": {}},
    },
    {"type": "content_block_delta", "index": 2, "delta": {"type": "input_json_delta", "partial_json": ""}},
    {"type": "content_block_delta", "index": 2, "delta": {"type": "input_json_delta", "partial_json": '{"city": "Ber'}},
    {"type": "content_block_delta", "index": 2, "delta": {"type": "input_json_delta", "partial_json": 'lin"}'}},
    {"type": "content_block_stop", "index": 2},
    {
        "type": "content_block_start",
        "index": 3,
        "content_block": {"type": "tool_use", "id": "toolu_2", "name": "time", "input": {}},
    },
    {"type": "content_block_stop", "index": 3},
    {
        "type": "message_delta",
        "delta": {"stop_reason": "tool_use", "stop_sequence": None},
        "usage": {"output_tokens": 77},
    },
    {"type": "message_stop"},
)
ANTHROPIC_PARTS = [
    ("reasoning", "Let me see."),
    ("text", "I look it up."),
    ("tool", "toolu_1", "weather", {"city": "Berlin"}),
    ("tool", "toolu_2", "time", {}),
]


@pytest.mark.parametrize(("target", "finish"), [(CHAT, "tool_calls"), (RESPONSES, "completed")])
def test_an_anthropic_stream(target: Dialect, finish: str) -> None:
    stream = translator(MESSAGES, target)
    answer = read_stream(stream.feed(ANTHROPIC_STREAM) + stream.finish(), target)
    assert answer.parts == ANTHROPIC_PARTS
    assert answer.finish == finish
    assert (answer.input_tokens, answer.cached_tokens, answer.output_tokens) == (105, 90, 77)
    assert stream.usage == Usage(input_tokens=105, cached_tokens=90, output_tokens=77)
    assert stream.finished


OPENAI_DELTAS = (
    {"role": "assistant", "content": "", "refusal": None},
    {"content": "I look"},
    {"content": " it up."},
    {
        "tool_calls": [
            {"index": 0, "id": "call_1", "type": "function", "function": {"name": "weather", "arguments": ""}}
        ]
    },
    {"tool_calls": [{"index": 0, "function": {"arguments": '{"city": "Ber'}}]},
    {"tool_calls": [{"index": 0, "function": {"arguments": 'lin"}'}}]},
    {"tool_calls": [{"index": 1, "id": "call_2", "type": "function", "function": {"name": "time", "arguments": "{}"}}]},
)
OPENAI_USAGE = {
    "prompt_tokens": 20,
    "completion_tokens": 9,
    "total_tokens": 29,
    "prompt_tokens_details": {"cached_tokens": 8},
    "completion_tokens_details": {"reasoning_tokens": 4},
}
OPENAI_PARTS = [
    ("text", "I look it up."),
    ("tool", "call_1", "weather", {"city": "Berlin"}),
    ("tool", "call_2", "time", {}),
]


@pytest.mark.parametrize(("target", "finish"), [(MESSAGES, "tool_use"), (RESPONSES, "completed")])
def test_an_openai_chat_stream(target: Dialect, finish: str) -> None:
    stream = translator(CHAT, target)
    given = chat_stream(*OPENAI_DELTAS, finish="tool_calls", usage=OPENAI_USAGE)
    answer = read_stream(stream.feed(given) + stream.finish(), target)
    assert answer.parts == OPENAI_PARTS
    assert answer.finish == finish
    assert (answer.input_tokens, answer.cached_tokens, answer.output_tokens) == (20, 8, 9)
    if target is RESPONSES:
        assert answer.reasoning_tokens == 4


RESPONSES_STREAM = named(
    {"type": "response.created", "sequence_number": 0, "response": {"id": "r", "status": "in_progress", "output": []}},
    {
        "type": "response.in_progress",
        "sequence_number": 1,
        "response": {"id": "r", "status": "in_progress", "output": []},
    },
    {"type": "response.output_item.added", "output_index": 0, "item": {"type": "reasoning", "id": "rs", "summary": []}},
    {"type": "response.reasoning_summary_part.added", "summary_index": 0, "part": {"type": "summary_text", "text": ""}},
    {"type": "response.reasoning_summary_text.delta", "summary_index": 0, "delta": "One."},
    {"type": "response.reasoning_summary_part.added", "summary_index": 1, "part": {"type": "summary_text", "text": ""}},
    {"type": "response.reasoning_summary_text.delta", "summary_index": 1, "delta": "Two."},
    {"type": "response.output_item.added", "output_index": 1, "item": {"type": "message", "id": "msg", "content": []}},
    {"type": "response.content_part.added", "content_index": 0, "part": {"type": "output_text", "text": ""}},
    {"type": "response.output_text.delta", "content_index": 0, "delta": "I look it up."},
    {"type": "response.output_text.done", "content_index": 0, "text": "I look it up."},
    {
        "type": "response.output_item.added",
        "output_index": 2,
        "item": {"type": "function_call", "id": "fc", "call_id": "call_1", "name": "weather", "arguments": ""},
    },
    {"type": "response.function_call_arguments.delta", "output_index": 2, "delta": '{"city":'},
    {"type": "response.function_call_arguments.delta", "output_index": 2, "delta": '"Berlin"}'},
    {"type": "response.function_call_arguments.done", "output_index": 2, "arguments": '{"city":"Berlin"}'},
    {
        "type": "response.output_item.added",
        "output_index": 3,
        "item": {"type": "function_call", "id": "fc2", "call_id": "call_2", "name": "time", "arguments": ""},
    },
    {"type": "response.function_call_arguments.done", "output_index": 3, "arguments": '{"zone":"CET"}'},
    {
        "type": "response.completed",
        "response": {
            "id": "r",
            "status": "completed",
            "output": [],
            "usage": {
                "input_tokens": 20,
                "input_tokens_details": {"cached_tokens": 8},
                "output_tokens": 9,
                "output_tokens_details": {"reasoning_tokens": 4},
                "total_tokens": 29,
            },
        },
    },
)


@pytest.mark.parametrize(("target", "finish"), [(MESSAGES, "tool_use"), (CHAT, "tool_calls")])
def test_an_openai_responses_stream(target: Dialect, finish: str) -> None:
    stream = translator(RESPONSES, target)
    answer = read_stream(stream.feed(RESPONSES_STREAM) + stream.finish(), target)
    assert answer.parts == [
        ("reasoning", "One.\n\nTwo."),
        ("text", "I look it up."),
        ("tool", "call_1", "weather", {"city": "Berlin"}),
        ("tool", "call_2", "time", {"zone": "CET"}),
    ]
    assert answer.finish == finish
    assert (answer.input_tokens, answer.cached_tokens, answer.output_tokens) == (20, 8, 9)


@pytest.mark.parametrize("deltas", [[], ['{"a":', "1}"]], ids=["only at the start", "also in deltas"])
def test_a_tool_input_that_comes_whole_at_the_start(deltas: list[str]) -> None:
    block = {"type": "tool_use", "id": "t", "name": "f", "input": {"a": 1}}
    given = named(
        {"type": "message_start", "message": {"usage": {"input_tokens": 1, "output_tokens": 1}}},
        {"type": "content_block_start", "index": 0, "content_block": block},
        *(
            {"type": "content_block_delta", "index": 0, "delta": {"type": "input_json_delta", "partial_json": text}}
            for text in deltas
        ),
        {"type": "content_block_stop", "index": 0},
        {"type": "message_delta", "delta": {"stop_reason": "tool_use"}, "usage": {"output_tokens": 2}},
        {"type": "message_stop"},
    )
    stream = translator(MESSAGES, CHAT)
    assert read_stream(stream.feed(given) + stream.finish(), CHAT).parts == [("tool", "t", "f", {"a": 1})]


def test_the_usage_chunk_is_sent_only_to_those_who_asked() -> None:
    stream = translator(MESSAGES, CHAT, include_usage=False)
    out = stream.feed(ANTHROPIC_STREAM) + stream.finish()
    assert read_stream(out, CHAT).input_tokens is None
    assert b'"choices":[]' not in out
    assert stream.usage == Usage(input_tokens=105, cached_tokens=90, output_tokens=77)


# The habits of vendors who speak chat.


def parts_of(given: bytes, target: Dialect = MESSAGES) -> list[tuple[object, ...]]:
    stream = translator(CHAT, target)
    return read_stream(stream.feed(given) + stream.finish(), target).parts


def call(arguments: object = "", **more: Any) -> dict[str, Any]:
    name = {"name": more.pop("name")} if "name" in more else {}
    return {"tool_calls": [{**more, "function": {**name, "arguments": arguments}}]}


@pytest.mark.parametrize(
    "deltas",
    [
        [call("{}", index=0, id="a", name="f"), call("{}", index=1, id="b", name="f")],
        [call("{}", id="a", name="f"), call("{}", id="b", name="f")],
        [call("{}", index=0, id="a", name="f"), call("{}", index=0, id="b", name="f")],
        [
            call("{", index=0, id="a", name="f"),
            call("}", index=0, id="a", name="f"),
            call("{}", index=1, id="b", name="f"),
        ],
        [call("", index=0, id="a", name="f"), call("{}", index=0, id=""), call("{}", index=1, id="b", name="f")],
        [call({}, index=0, id="a", name="f"), call({}, index=1, id="b", name="f")],
        [call("", index=0, id="a", name="f"), call(None, index=1, id="b", name="f")],
        [{"tool_calls": [{"index": n, "id": "ab"[n], "function": {"name": "f", "arguments": "{}"}} for n in (0, 1)]}],
    ],
    ids=["usual", "no index", "one index", "repeats", "empty id", "objects", "no arguments", "one chunk"],
)
@pytest.mark.parametrize("target", [MESSAGES, RESPONSES])
def test_ways_to_stream_two_calls(deltas: list[dict[str, Any]], target: Dialect) -> None:
    assert parts_of(chat_stream(*deltas, finish="tool_calls"), target) == [
        ("tool", "a", "f", {}),
        ("tool", "b", "f", {}),
    ]


def test_calls_without_ids_get_their_own() -> None:
    deltas = [call("{}", index=0, name="f"), call("{}", index=1, name="f")]
    ids = [part[1] for part in parts_of(chat_stream(*deltas, finish="tool_calls"))]
    assert ids == ["call_resp_1_0", "call_resp_1_1"]


def test_ids_that_anthropics_clients_would_send_back_in_vain_are_made_fit() -> None:
    given = chat_stream(call("{}", index=0, id="functions.f:0", name="f"), finish="tool_calls")
    assert parts_of(given) == [("tool", "functions_f_0", "f", {})]


def test_a_stop_with_calls_is_a_call_of_tools() -> None:
    stream = translator(CHAT, MESSAGES)
    out = stream.feed(chat_stream(call("{}", index=0, id="a", name="f"), finish="stop")) + stream.finish()
    assert read_stream(out, MESSAGES).finish == "tool_use"


@pytest.mark.parametrize(
    "delta",
    [
        {"reasoning_content": "hm"},
        {"reasoning": "hm"},
        {"content": [{"type": "thinking", "thinking": [{"type": "text", "text": "hm"}]}]},
    ],
    ids=["deepseek", "openrouter", "mistral"],
)
def test_thoughts(delta: dict[str, Any]) -> None:
    given = chat_stream({"role": "assistant", "content": None}, delta, {"content": "Yes"})
    for target in (MESSAGES, RESPONSES):
        assert parts_of(given, target) == [("reasoning", "hm"), ("text", "Yes")]


def test_a_vendor_that_closes_without_done_has_finished_if_it_gave_a_reason() -> None:
    stream = translator(CHAT, MESSAGES)
    out = stream.feed(chat_stream({"content": "x"}, done=False))
    assert not stream.finished
    out += stream.finish()
    assert read_stream(out, MESSAGES).parts == [("text", "x")]
    assert stream.finished


def test_comments_and_chunks_before_the_first_choice_are_passed_over() -> None:
    prompt_filter = encode(None, b'{"id":"","object":"","choices":[],"prompt_filter_results":[]}')
    given = b": OPENROUTER PROCESSING\n\n" + prompt_filter + chat_stream({"content": "x"})
    assert parts_of(given) == [("text", "x")]


def test_other_choices_are_passed_over() -> None:
    other = encode(None, b'{"choices":[{"index":1,"delta":{"content":"other"},"finish_reason":"length"}]}')
    stream = translator(CHAT, MESSAGES)
    answer = read_stream(stream.feed(other + chat_stream({"content": "x"})) + stream.finish(), MESSAGES)
    assert (answer.parts, answer.finish) == ([("text", "x")], "end_turn")


def test_a_refusal() -> None:
    given = chat_stream({"refusal": "I can"}, {"refusal": "not."})
    stream = translator(CHAT, MESSAGES)
    answer = read_stream(stream.feed(given) + stream.finish(), MESSAGES)
    assert (answer.parts, answer.finish) == ([("text", "I cannot.")], "refusal")
    stream = translator(CHAT, RESPONSES)
    answer = read_stream(stream.feed(given) + stream.finish(), RESPONSES)
    assert answer.parts == [("refusal", "I cannot.")]


@pytest.mark.parametrize(
    ("reason", "in_messages", "in_responses"),
    [
        ("stop", "end_turn", "completed"),
        ("length", "max_tokens", "max_output_tokens"),
        ("content_filter", "refusal", "content_filter"),
        ("sensitive", "refusal", "content_filter"),
        ("insufficient_system_resource", "max_tokens", "max_output_tokens"),
        ("eos", "end_turn", "completed"),
    ],
)
def test_reasons_to_stop_from_chat(reason: str, in_messages: str, in_responses: str) -> None:
    for target, expected in [(MESSAGES, in_messages), (RESPONSES, in_responses)]:
        stream = translator(CHAT, target)
        out = stream.feed(chat_stream({"content": "x"}, finish=reason)) + stream.finish()
        assert read_stream(out, target).finish == expected


@pytest.mark.parametrize(
    ("reason", "in_chat", "in_responses"),
    [
        ("end_turn", "stop", "completed"),
        ("stop_sequence", "stop", "completed"),
        ("pause_turn", "stop", "completed"),
        ("max_tokens", "length", "max_output_tokens"),
        ("model_context_window_exceeded", "length", "max_output_tokens"),
        ("refusal", "content_filter", "content_filter"),
        ("tool_use", "tool_calls", "completed"),
    ],
)
def test_reasons_to_stop_from_messages(reason: str, in_chat: str, in_responses: str) -> None:
    body = {
        "content": [{"type": "text", "text": "x"}],
        "stop_reason": reason,
        "stop_sequence": "END" if reason == "stop_sequence" else None,
        "usage": {"input_tokens": 1, "output_tokens": 1},
    }
    assert read_reply(whole(body, MESSAGES, CHAT), CHAT).finish == in_chat
    assert read_reply(whole(body, MESSAGES, RESPONSES), RESPONSES).finish == in_responses


# Faults.


@pytest.mark.parametrize("target", [CHAT, RESPONSES])
def test_a_vendors_error_event_becomes_one_of_the_callers_dialect(target: Dialect) -> None:
    error = {"type": "error", "error": {"type": "overloaded_error", "message": "Overloaded, key sk-abc123456"}}
    cut = ANTHROPIC_STREAM.index(b"event: message_delta")
    stream = translator(MESSAGES, target)
    out = (
        stream.feed(ANTHROPIC_STREAM[:cut] + named(error))
        + stream.feed(named({"type": "message_stop"}))
        + stream.finish()
    )
    last = Decoder().feed(out)[-1]
    spoken = json.loads(last.data)
    message = spoken["error"]["message"] if target is CHAT else spoken["message"]
    assert message == "Overloaded, key [removed]"
    if target is RESPONSES:
        assert last.event == "error"
        assert spoken["sequence_number"] == stream.sequence > 5
    assert stream.error == json.dumps(error).encode()
    assert isinstance(stream.failure, VendorFailed)
    assert not stream.finished
    assert stream.usage == Usage(input_tokens=105, cached_tokens=90, output_tokens=1)


@pytest.mark.parametrize(
    "error",
    [
        {
            "type": "response.failed",
            "response": {"status": "failed", "error": {"code": "server_error", "message": "boom"}},
        },
        {"type": "error", "code": "server_error", "message": "boom", "param": None, "sequence_number": 4},
    ],
)
def test_a_response_that_fails(error: dict[str, Any]) -> None:
    stream = translator(RESPONSES, MESSAGES)
    out = stream.feed(RESPONSES_STREAM.split(b"event: response.output_item.added")[0] + named(error))
    last = Decoder().feed(out)[-1]
    assert last.event == "error"
    assert json.loads(last.data)["error"]["message"] == "boom"


def test_a_chunk_that_is_no_json_fails_after_what_came_before() -> None:
    given = chat_stream({"content": "x"}, finish=None, done=False)
    stream = translator(CHAT, MESSAGES)
    out = stream.feed(given + b'data: {"choi\n\n' + chat_stream({"content": "y"}))
    events = Decoder().feed(out)
    assert [event.event for event in events] == ["message_start", "content_block_start", "content_block_delta", "error"]
    assert stream.finish() == b""


def test_a_call_that_had_ended_does_not_go_on() -> None:
    deltas = [call("{", index=0, id="a", name="f"), call("{", index=1, id="b", name="g"), call("}", index=0)]
    stream = translator(CHAT, MESSAGES)
    stream.feed(chat_stream(*deltas, finish="tool_calls"))
    assert isinstance(stream.failure, VendorFailed)


def test_an_event_without_end_is_not_kept() -> None:
    stream = translator(CHAT, MESSAGES)
    out = b"".join(stream.feed(b"data: " + b"x" * 1_000_000) for _ in range(9))
    assert b"event: error" in out
    assert isinstance(stream.failure, VendorFailed)


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"<html>",
        b"\xff",
        b"[]",
        b"{}",
        b'{"choices":[]}',
        b'{"choices":[{"message":null}]}',
        b'{"status":"failed","output":[]}',
        b"[" * 9999,
    ],
)
@pytest.mark.parametrize("source", [CHAT, RESPONSES, MESSAGES])
def test_an_answer_that_is_none_is_the_vendors_failure(body: bytes, source: Dialect) -> None:
    for target in {CHAT, RESPONSES, MESSAGES} - {source}:
        with pytest.raises(VendorFailed):
            whole(body, source, target)


def completion(finish: str, arguments: str) -> dict[str, Any]:
    calls = [{"id": "a", "type": "function", "function": {"name": "f", "arguments": arguments}}]
    message = {"role": "assistant", "content": "x", "tool_calls": calls}
    return {"choices": [{"index": 0, "message": message, "finish_reason": finish}]}


def test_arguments_that_are_no_object_never_become_an_empty_call() -> None:
    with pytest.raises(VendorFailed):
        whole(completion("tool_calls", '{"a'), CHAT, MESSAGES)
    answer = read_reply(whole(completion("length", '{"a'), CHAT, MESSAGES), MESSAGES)
    assert (answer.parts, answer.finish) == ([("text", "x")], "max_tokens")


def test_a_whole_answer_from_chat_with_all_it_can_hold() -> None:
    body = completion("tool_calls", '{"a": 1}')
    body["choices"][0]["message"]["reasoning_content"] = "hm"
    body["usage"] = OPENAI_USAGE
    expected = [("reasoning", "hm"), ("text", "x"), ("tool", "a", "f", {"a": 1})]
    for target, finish in [(MESSAGES, "tool_use"), (RESPONSES, "completed")]:
        answer = read_reply(whole(body, CHAT, target), target)
        assert (answer.parts, answer.finish) == (expected, finish)
        assert (answer.input_tokens, answer.output_tokens, answer.cached_tokens) == (20, 9, 8)
        assert (answer.model, answer.id) == ("asked", "resp_1")
