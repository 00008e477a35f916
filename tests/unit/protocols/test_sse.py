"""The event-stream parser against the rules of the standard and the habits of vendors."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dujiang.protocols.sse import Decoder, Event, encode


def events_of(stream: bytes) -> list[Event]:
    decoder = Decoder()
    return decoder.feed(stream) + decoder.finish()


@pytest.mark.parametrize("end", [b"\n", b"\r\n", b"\r"])
def test_all_line_ends(end: bytes) -> None:
    lines = [
        b"event: ping",
        b"data: one",
        b"data:two",
        b"",
        b": comment",
        b"data",
        b"",
        b"data:  x",
        b"",
        b"",
    ]
    assert events_of(end.join(lines)) == [
        Event("ping", b"one\ntwo"),
        Event(None, b""),
        Event(None, b" x"),
    ]


def test_the_name_does_not_outlive_its_event_and_no_event_is_made_without_data() -> None:
    assert events_of(b"event: a\n\ndata: x\n\nid: 7\nretry: 10\n\n") == [Event(None, b"x")]


def test_a_byte_order_mark_is_read_over_only_at_the_start() -> None:
    assert events_of(b"\xef\xbb\xbfdata: x\n\n") == [Event(None, b"x")]
    assert events_of(b"data: x\n\n\xef\xbb\xbfdata: y\n\n") == [Event(None, b"x")]


def test_an_event_without_its_last_blank_line_counts_at_the_end() -> None:
    decoder = Decoder()
    assert decoder.feed(b"data: [DONE]") == []
    assert decoder.finish() == [Event(None, b"[DONE]")]
    assert decoder.finish() == []


def test_the_buffer_is_bounded_for_one_long_line_and_for_many_lines() -> None:
    decoder = Decoder(limit_bytes=100)
    decoder.feed(b"data: " + b"x" * 90)
    with pytest.raises(ValueError, match="100 bytes"):
        decoder.feed(b"x" * 10)
    decoder = Decoder(limit_bytes=100)
    with pytest.raises(ValueError, match="100 bytes"):
        decoder.feed(b"data: 123456789\n" * 11)
    assert len(Decoder(limit_bytes=100).feed(b"data: 123456789\n\n" * 50)) == 50


STREAM = (
    b"\xef\xbb\xbf: hi\r\nevent: a\rdata: 1\r\n\r\ndata: \xe4\xbd\xa0\n\ndata: l1\r\ndata: l2\n\r\n"
    b"event: e\ndata: z\n\n"
)


@given(st.lists(st.integers(0, len(STREAM)), max_size=30))
def test_chunk_boundaries_never_matter(cuts: list[int]) -> None:
    edges = [0, *sorted(cuts), len(STREAM)]
    decoder = Decoder()
    got = [event for a, b in pairwise(edges) for event in decoder.feed(STREAM[a:b])]
    assert got == events_of(STREAM)
    assert len(got) == 4


def test_byte_by_byte() -> None:
    decoder = Decoder()
    got = [event for i in range(len(STREAM)) for event in decoder.feed(STREAM[i : i + 1])]
    assert got == events_of(STREAM)


@given(
    st.none() | st.from_regex(r"[a-z._]{1,20}", fullmatch=True),
    st.binary(max_size=60).filter(lambda b: b"\r" not in b),
)
def test_what_is_encoded_is_decoded(name: str | None, data: bytes) -> None:
    assert events_of(encode(name, data)) == [Event(name, data)]
