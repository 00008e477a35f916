"""Usage, end and error, read from answers and from streams cut anywhere."""

import json
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dujiang.protocols.sse import encode
from dujiang.protocols.usage import StreamUsage, UsageChunkFilter, usage_of_reply
from dujiang.terms import Dialect, Usage


def data(*chunks: object, name: str | None = None) -> bytes:
    return b"".join(encode(name, c if isinstance(c, bytes) else json.dumps(c).encode()) for c in chunks)


def delta(text: str | None, **more: object) -> dict[str, object]:
    choice = {"index": 0, "delta": {"content": text}, "finish_reason": None}
    return {"id": "c1", "object": "chat.completion.chunk", "choices": [choice], **more}


CHAT_USAGE = {
    "prompt_tokens": 11,
    "completion_tokens": 7,
    "total_tokens": 18,
    "prompt_tokens_details": {"cached_tokens": 4, "audio_tokens": 0},
}
USAGE_CHUNK = {"id": "c1", "object": "chat.completion.chunk", "choices": [], "usage": CHAT_USAGE}
CHAT_STREAM = data(delta("He\n"), delta("你好", usage=None), delta('say "usage":{ [DONE]'), USAGE_CHUNK, b"[DONE]")

MESSAGE_START = {
    "type": "message_start",
    "message": {
        "id": "m",
        "type": "message",
        "usage": {
            "input_tokens": 5,
            "cache_read_input_tokens": 20,
            "cache_creation_input_tokens": 3,
            "output_tokens": 1,
        },
    },
}
MESSAGES_STREAM = b"".join(
    data(event, name=event["type"])
    for event in [
        MESSAGE_START,
        {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}},
        {"type": "ping"},
        {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "Hello “你”"}},
        {
            "type": "content_block_delta",
            "index": 1,
            "delta": {"type": "input_json_delta", "partial_json": '{"a"'},
        },
        {"type": "content_block_stop", "index": 0},
        {"type": "message_delta", "delta": {"stop_reason": "end_turn"}, "usage": {"output_tokens": 42}},
        {"type": "message_stop"},
    ]
)
RESPONSES_STREAM = b"".join(
    data(event, name=event["type"])
    for event in [
        {
            "type": "response.created",
            "response": {"id": "r", "status": "in_progress", "error": None, "usage": None},
        },
        {"type": "response.output_text.delta", "delta": "Hi ", "item_id": "m"},
        {"type": "response.output_text.delta", "delta": "you", "item_id": "m"},
        {"type": "response.output_text.done", "text": "Hi you", "item_id": "m"},
        {
            "type": "response.completed",
            "response": {
                "id": "r",
                "output": [{"content": [{"text": "Hi you"}]}],
                "usage": {
                    "input_tokens": 9,
                    "output_tokens": 2,
                    "input_tokens_details": {"cached_tokens": 8},
                },
            },
        },
    ]
)
STREAMS = {Dialect.CHAT: CHAT_STREAM, Dialect.MESSAGES: MESSAGES_STREAM, Dialect.RESPONSES: RESPONSES_STREAM}


def state(usage: StreamUsage) -> tuple[object, ...]:
    return (
        usage.usage,
        usage.usage_is_final,
        usage.finished,
        usage.error,
        usage.output_bytes,
        usage.events,
        usage.partial_output_chars,
        usage.partial_output_bytes,
    )


def read(stream: bytes, dialect: Dialect) -> StreamUsage:
    usage = StreamUsage(dialect)
    usage.feed(stream)
    usage.finish()
    return usage


@pytest.mark.parametrize(
    ("body", "dialect", "expected"),
    [
        ({"usage": CHAT_USAGE}, Dialect.CHAT, Usage(input_tokens=11, output_tokens=7, cached_tokens=4)),
        (
            {"usage": {"prompt_tokens": 10, "completion_tokens": 1, "prompt_cache_hit_tokens": 6}},
            Dialect.CHAT,
            Usage(input_tokens=10, output_tokens=1, cached_tokens=6),
        ),
        (
            {"usage": {"total_tokens": 10, "completion_tokens": 4}},
            Dialect.CHAT,
            Usage(input_tokens=6, output_tokens=4),
        ),
        ({"usage": {"prompt_tokens": 8, "total_tokens": 8}}, Dialect.EMBEDDINGS, Usage(input_tokens=8)),
        (
            {"usage": {"prompt_tokens": "8", "completion_tokens": 2.0}},
            Dialect.CHAT,
            Usage(input_tokens=8, output_tokens=2),
        ),
        ({"usage": {"prompt_tokens": -8, "completion_tokens": -2}}, Dialect.CHAT, Usage()),
        (
            MESSAGE_START["message"],
            Dialect.MESSAGES,
            Usage(input_tokens=28, output_tokens=1, cached_tokens=20),
        ),
        (
            {"usage": {"input_tokens": 9, "output_tokens": 2, "input_tokens_details": {"cached_tokens": 8}}},
            Dialect.RESPONSES,
            Usage(input_tokens=9, output_tokens=2, cached_tokens=8),
        ),
        ({"usage": None}, Dialect.CHAT, None),
        ({"usage": {}}, Dialect.CHAT, None),
        ({}, Dialect.CHAT, None),
        ([], Dialect.CHAT, None),
    ],
)
def test_usage_of_a_whole_answer(body: object, dialect: Dialect, expected: Usage | None) -> None:
    assert usage_of_reply(json.dumps(body).encode(), dialect) == expected


@pytest.mark.parametrize(
    "body", [b"", b"<html>", b'{"usage":', b'{"usage":{"prompt_tokens":"many"}}', b"\xff", b"[" * 10_000]
)
def test_garbage_has_no_usage(body: bytes) -> None:
    assert usage_of_reply(body, Dialect.CHAT) is None


@pytest.mark.parametrize(
    ("dialect", "usage", "events", "text"),
    [
        (
            Dialect.CHAT,
            Usage(input_tokens=11, output_tokens=7, cached_tokens=4),
            5,
            'He\n你好say "usage":{ [DONE]',
        ),
        (Dialect.MESSAGES, Usage(input_tokens=28, output_tokens=42, cached_tokens=20), 8, 'Hello “你”{"a"'),
        (Dialect.RESPONSES, Usage(input_tokens=9, output_tokens=2, cached_tokens=8), 5, "Hi you"),
    ],
)
def test_a_whole_stream(dialect: Dialect, usage: Usage, events: int, text: str) -> None:
    seen = read(STREAMS[dialect], dialect)
    assert state(seen) == (
        usage,
        True,
        True,
        None,
        len(STREAMS[dialect]),
        events,
        len(text),
        len(text.encode()),
    )


@pytest.mark.parametrize("dialect", STREAMS)
@pytest.mark.parametrize("crlf", [False, True])
def test_byte_by_byte_is_as_whole(dialect: Dialect, crlf: bool) -> None:
    stream = STREAMS[dialect].replace(b"\n", b"\r\n") if crlf else STREAMS[dialect]
    usage = StreamUsage(dialect)
    for i in range(len(stream)):
        usage.feed(stream[i : i + 1])
    usage.finish()
    assert state(usage) == state(read(stream, dialect))
    assert usage.finished


@given(st.sampled_from(sorted(STREAMS)), st.lists(st.integers(0, 2000), max_size=20))
def test_chunk_boundaries_never_matter(dialect: Dialect, cuts: list[int]) -> None:
    stream = STREAMS[dialect]
    edges = [0, *sorted(min(cut, len(stream)) for cut in cuts), len(stream)]
    usage = StreamUsage(dialect)
    for a, b in pairwise(edges):
        usage.feed(stream[a:b])
    usage.finish()
    assert state(usage) == state(read(stream, dialect))


def test_a_broken_chat_stream_tells_what_was_sent() -> None:
    usage = StreamUsage(Dialect.CHAT)
    usage.feed(data(delta("Hello "), delta("world")) + b'data: {"choices":[{"delta":{"content":"never arr')
    usage.finish()
    assert (usage.usage, usage.finished, usage.events, usage.partial_output_chars) == (None, False, 3, 11)


def test_a_broken_messages_stream_has_its_input_and_no_last_word() -> None:
    usage = StreamUsage(Dialect.MESSAGES)
    usage.feed(MESSAGES_STREAM.partition(b"event: message_delta")[0])
    assert usage.usage == Usage(input_tokens=28, output_tokens=1, cached_tokens=20)
    assert not usage.usage_is_final
    assert not usage.finished
    assert usage.partial_output_chars == 13


@pytest.mark.parametrize(("at_start", "at_end"), [(30, 0), (0, 30), (30, 30)])
def test_vendors_that_tell_the_input_of_a_message_only_once(at_start: int, at_end: int) -> None:
    events = [
        {"type": "message_start", "message": {"usage": {"input_tokens": at_start, "output_tokens": 0}}},
        {
            "type": "message_delta",
            "delta": {"stop_reason": "end_turn"},
            "usage": {"input_tokens": at_end, "output_tokens": 4},
        },
    ]
    usage = read(b"".join(data(event, name=event["type"]) for event in events), Dialect.MESSAGES)
    assert usage.usage == Usage(input_tokens=30, output_tokens=4)
    assert usage.usage_is_final


def test_a_running_count_is_final_only_with_the_finish_reason() -> None:
    usage = StreamUsage(Dialect.CHAT)
    usage.feed(data(delta("a", usage={"prompt_tokens": 3, "completion_tokens": 1})))
    assert usage.usage == Usage(input_tokens=3, output_tokens=1)
    assert not usage.usage_is_final
    last = delta("b", usage={"prompt_tokens": 3, "completion_tokens": 2})
    last["choices"][0]["finish_reason"] = "stop"  # type: ignore[index]
    usage.feed(data(last))
    assert usage.usage == Usage(input_tokens=3, output_tokens=2)
    assert usage.usage_is_final


@pytest.mark.parametrize(
    "chunk",
    [
        {"choices": [{"delta": {}, "finish_reason": "stop", "usage": {"prompt_tokens": 3, "completion_tokens": 2}}]},
        {
            "choices": [{"delta": {}, "finish_reason": "stop"}],
            "x_groq": {"usage": {"prompt_tokens": 3, "completion_tokens": 2}},
        },
    ],
    ids=["moonshot", "groq"],
)
def test_usage_in_unusual_places(chunk: object) -> None:
    assert read(data(chunk), Dialect.CHAT).usage == Usage(input_tokens=3, output_tokens=2)


@pytest.mark.parametrize(
    ("dialect", "event", "is_error"),
    [
        (Dialect.CHAT, {"error": {"message": "boom", "type": "server_error"}}, True),
        (Dialect.CHAT, {"choices": [], "error": None}, False),
        (Dialect.CHAT, {"error_code": 18, "error_msg": "Open api qps request limit reached"}, True),
        (Dialect.CHAT, {"code": "Throttling", "message": "slow down"}, True),
        (Dialect.CHAT, {"code": 0, "message": "Success", "choices": []}, False),
        (
            Dialect.MESSAGES,
            {"type": "error", "error": {"type": "overloaded_error", "message": "Overloaded"}},
            True,
        ),
        (
            Dialect.RESPONSES,
            {"type": "error", "code": "server_error", "message": "x", "sequence_number": 3},
            True,
        ),
        (
            Dialect.RESPONSES,
            {"type": "response.failed", "response": {"status": "failed", "usage": None}},
            True,
        ),
        (Dialect.RESPONSES, {"type": "response.created", "response": {"error": None}}, False),
    ],
)
@pytest.mark.parametrize("compact", [True, False])
def test_an_error_in_the_stream(dialect: Dialect, event: object, is_error: bool, compact: bool) -> None:
    text = json.dumps(event, separators=(",", ":") if compact else None).encode()
    assert read(data(text), dialect).error == (text if is_error else None)


def test_a_line_past_the_limit_is_passed_over_and_its_middle_is_not_taken_for_a_line() -> None:
    usage = StreamUsage(Dialect.CHAT, limit_bytes=1000)
    usage.feed(b"data: " + b"x" * 2000)
    usage.feed(b"data: [DONE]")
    usage.feed(b"data: [DONE]\n\n")
    assert not usage.finished
    usage.feed(b"data: [DONE]\n\n")
    assert usage.finished


def test_long_streams_are_digested_in_blocks() -> None:
    usage = StreamUsage(Dialect.CHAT)
    for _ in range(1000):
        usage.feed(data(delta("ab\\é")))
    assert usage.partial_output_chars == 4000
    assert usage.partial_output_bytes == 5000
    assert usage.events == 1000


def test_a_lone_surrogate_does_not_break_the_count() -> None:
    usage = read(b'data: {"choices":[{"delta":{"content":"a\\ud83d"}}]}\n\n' + CHAT_STREAM, Dialect.CHAT)
    assert usage.events == 6
    assert usage.finished


# The filter.


def filtered(stream: bytes, cuts: list[int]) -> bytes:
    edges = [0, *sorted(min(cut, len(stream)) for cut in cuts), len(stream)]
    chunks = UsageChunkFilter()
    return b"".join(chunks.feed(stream[a:b]) for a, b in pairwise(edges)) + chunks.finish()


WITHOUT = data(delta("He\n"), delta("你好", usage=None), delta('say "usage":{ [DONE]')) + b"data: [DONE]\n\n"


@given(st.lists(st.integers(0, 2000), max_size=30), st.booleans(), st.booleans())
def test_the_filter_takes_the_usage_chunk_and_nothing_else(cuts: list[int], crlf: bool, compact: bool) -> None:
    stream, expected = CHAT_STREAM, WITHOUT
    if crlf:
        stream, expected = stream.replace(b"\n", b"\r\n"), expected.replace(b"\n", b"\r\n")
    if compact:
        stream = stream.replace(b'"usage": {', b'"usage":{').replace(b'"choices": []', b'"choices":[]')
    assert filtered(stream, cuts) == expected
    assert filtered(stream, list(range(len(stream)))) == expected


def test_the_filter_passes_whole_chunks_as_the_same_object() -> None:
    chunk = data(delta("x"))
    assert UsageChunkFilter().feed(chunk) is chunk


@pytest.mark.parametrize(
    "stream",
    [
        data(delta("a", usage=CHAT_USAGE)),
        data({"choices": [], "usage": None, "prompt_filter_results": []}),
        data({"choices": [], "usage": CHAT_USAGE, "error": {"message": "boom"}}),
        b'data: not json "usage":{\n\n',
        b": keep-alive\n\ndata: {unfinished",
        b"data: [DONE]",
    ],
)
def test_the_filter_leaves_everything_else(stream: bytes) -> None:
    assert filtered(stream, []) == stream
    assert filtered(stream, list(range(len(stream)))) == stream


def test_the_filter_takes_a_usage_chunk_that_ends_the_stream_without_a_blank_line() -> None:
    assert filtered(data(delta("a")) + data(USAGE_CHUNK).rstrip(), []) == data(delta("a"))


@given(st.lists(st.integers(0, 400_000), max_size=8))
def test_the_filter_lets_a_long_event_go_and_finds_its_place_again(cuts: list[int]) -> None:
    long_event = data(delta("x" * 100_000))
    stream = long_event + data(USAGE_CHUNK) + long_event + data(USAGE_CHUNK, b"[DONE]")
    assert filtered(stream, cuts) == long_event + long_event + data(b"[DONE]")


def test_the_filter_takes_a_usage_chunk_in_pieces_after_a_long_event() -> None:
    chunks = UsageChunkFilter(limit_bytes=1000)
    usage = data(USAGE_CHUNK)
    pieces = [
        data(delta("x" * 3000))[:2000],
        data(delta("x" * 3000))[2000:] + usage[:50],
        usage[50:],
        b"data: [DONE]\n\n",
    ]
    out = b"".join(chunks.feed(piece) for piece in pieces) + chunks.finish()
    assert out == data(delta("x" * 3000), b"[DONE]")


def test_the_filter_holds_back_a_bounded_amount() -> None:
    chunks = UsageChunkFilter(limit_bytes=1000)
    sent = sum(len(chunks.feed(b"y" * 100)) for _ in range(100))
    assert 10_000 - sent <= 1000
