"""What a vendor says a call used: read from whole answers and from streams that pass by.

`StreamUsage` and `UsageChunkFilter` stand on the hot path of a byte-faithful relay. Decoding an event into a
narrow struct costs about as much as two substring searches in it, so that is what is done, event by event.
"""

from __future__ import annotations

import re

import msgspec

from dujiang.protocols.token_counts import TokenCounts, token_usage
from dujiang.terms import Dialect, Usage

DEFAULT_EVENT_LIMIT_BYTES = 8 * 1024 * 1024


class _Reply(msgspec.Struct):
    usage: TokenCounts | None = None


def usage_of_reply(body: bytes, dialect: Dialect) -> Usage | None:
    """Return what a complete JSON answer says it used, or `None` when it does not say (or is no JSON)."""
    try:
        reply = msgspec.json.decode(body, type=_Reply, strict=False)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return None
    return None if reply.usage is None else _usage(reply.usage, dialect)


def _usage(counts: TokenCounts, dialect: Dialect) -> Usage | None:
    usage = token_usage(counts, dialect)
    return None if usage is None else usage.as_usage()


class _Function(msgspec.Struct, gc=False):
    arguments: str | None = None


class _ToolCall(msgspec.Struct, gc=False):
    function: _Function | None = None


class _ChatDelta(msgspec.Struct, gc=False):
    content: str | list[object] | None = None  # Mistral sends its reasoning as a list
    reasoning_content: str | None = None
    reasoning: str | None = None
    refusal: str | None = None
    tool_calls: list[_ToolCall] | None = None


class _Choice(msgspec.Struct, gc=False):
    delta: _ChatDelta | None = None
    finish_reason: str | None = None
    usage: TokenCounts | None = None  # Moonshot


class _Bearer(msgspec.Struct, gc=False):
    """An object inside an event that bears the usage: a response, a message, Groq's own member."""

    usage: TokenCounts | None = None


class _ChatChunk(msgspec.Struct, gc=False):
    choices: list[_Choice] | None = None
    usage: TokenCounts | None = None
    x_groq: _Bearer | None = None
    error: object = None
    error_code: int | str | None = None  # Qianfan
    code: int | str | None = None  # DashScope, iFlytek


class _ResponseEvent(msgspec.Struct, gc=False):
    type: str = ""
    delta: str | None = None
    response: _Bearer | None = None


class _MessageDelta(msgspec.Struct, gc=False):
    text: str | None = None
    thinking: str | None = None
    partial_json: str | None = None
    stop_reason: str | None = None


class _MessageEvent(msgspec.Struct, gc=False):
    type: str = ""
    delta: _MessageDelta | None = None
    message: _Bearer | None = None
    usage: TokenCounts | None = None


_CHAT_DECODER = msgspec.json.Decoder(_ChatChunk, strict=False)
_RESPONSE_DECODER = msgspec.json.Decoder(_ResponseEvent, strict=False)
_MESSAGE_DECODER = msgspec.json.Decoder(_MessageEvent, strict=False)
_RESPONSE_ENDS = frozenset({"response.completed", "response.incomplete", "response.failed"})


class StreamUsage:
    """Read the usage, the end and the error of one vendor stream from the bytes that pass by.

    `usage` is what the vendor has said so far; `usage_is_final` tells whether that was its last word. A
    stream that breaks earlier is settled by what was really sent: `partial_output_chars` and
    `partial_output_bytes` (text, reasoning, refusals and tool arguments). A line longer than `limit_bytes`
    is passed over unread.
    """

    def __init__(self, dialect: Dialect, limit_bytes: int = DEFAULT_EVENT_LIMIT_BYTES) -> None:
        self.dialect = dialect
        self.usage: Usage | None = None
        self.usage_is_final = False
        self.finished = False
        """Whether the stream came to its proper end: `[DONE]`, a terminal response event, `message_stop`."""
        self.error: bytes | None = None
        """The data of the error event that the vendor sent in the stream, if it did."""
        self.events = 0
        """Events with data seen so far."""
        self.output_bytes = 0
        """Bytes of the stream seen so far, framing included."""
        self.partial_output_chars = 0
        """Characters of output seen so far."""
        self.partial_output_bytes = 0
        """What the output seen so far takes in UTF-8."""
        self._limit_bytes = limit_bytes
        self._rest: list[bytes] = []  # an unfinished line
        self._rest_bytes = 0
        self._counts = TokenCounts()
        match dialect:
            case Dialect.RESPONSES:
                self._read = StreamUsage._read_response_event
            case Dialect.MESSAGES:
                self._read = StreamUsage._read_message_event
            case _:
                self._read = StreamUsage._read_chat_chunk

    def feed(self, chunk: bytes) -> None:
        """Take the next bytes of the stream, cut anywhere."""
        self.output_bytes += len(chunk)
        if not self._rest and chunk.startswith(b"data:") and chunk.find(b"\n") == len(chunk) - 2:
            self.take(chunk[5:-2])  # one line and its end: one whole event, which is the common case
            return
        if self._rest or not chunk.endswith(b"\n"):
            chunk = self._whole_lines(chunk)
        for line in chunk.split(b"\n"):
            if line.startswith(b"data:"):
                self.take(line[5:])

    def finish(self) -> None:
        """Take note that the vendor closed the stream; a last line without its line end counts."""
        if self._rest:
            line = self._whole_lines(b"\n")
            if line.startswith(b"data:"):
                self.take(line[5:])

    def _whole_lines(self, chunk: bytes) -> bytes:
        """Return the lines that this chunk completes, and hold back the unfinished one."""
        end = chunk.rfind(b"\n") + 1
        if end == 0:
            self._rest_bytes += len(chunk)
            if self._rest_bytes <= self._limit_bytes:
                self._rest.append(chunk)
            else:
                self._rest = [b":"]  # too long to be kept: what is left of the line is read as a comment
            return b""
        self._rest.append(chunk[:end])
        lines = b"".join(self._rest)
        rest = chunk[end:]
        self._rest = [rest] if rest else []
        self._rest_bytes = len(rest)
        return lines

    def take(self, data: bytes) -> None:
        """Take the data of one event, for those who parse the stream themselves."""
        self.events += 1
        try:
            self._read(self, data)
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
            if data.strip() == b"[DONE]":
                self.finished = True

    def _count(self, text: str) -> None:
        self.partial_output_chars += len(text)
        self.partial_output_bytes += len(text) if text.isascii() else len(text.encode())

    def _read_chat_chunk(self, data: bytes) -> None:
        chunk = _CHAT_DECODER.decode(data)
        said = chunk.usage
        ended = not chunk.choices
        for choice in chunk.choices or ():
            ended = ended or choice.finish_reason is not None
            said = said or choice.usage
            delta = choice.delta
            if delta is not None:
                text = delta.content or delta.reasoning_content or delta.reasoning or delta.refusal
                if isinstance(text, str):
                    self._count(text)
                for call in delta.tool_calls or ():
                    if call.function is not None and call.function.arguments:
                        self._count(call.function.arguments)
        if said is None and chunk.x_groq is not None:
            said = chunk.x_groq.usage
        if said is not None and (usage := _usage(said, self.dialect)) is not None:
            # Some vendors send a running count with every chunk: only the one at the end is the last word.
            self.usage = usage
            self.usage_is_final = ended
        if _holds_error(chunk):
            self.error = data.strip()

    def _read_response_event(self, data: bytes) -> None:
        event = _RESPONSE_DECODER.decode(data)
        if event.delta is not None:
            if not event.type.endswith(".audio.delta"):
                self._count(event.delta)
        elif event.type in _RESPONSE_ENDS:
            self.finished = self.usage_is_final = True
            if event.response is not None and event.response.usage is not None:
                self.usage = _usage(event.response.usage, self.dialect)
        if event.type in {"error", "response.failed"}:
            self.error = data.strip()

    def _read_message_event(self, data: bytes) -> None:
        event = _MESSAGE_DECODER.decode(data)
        if event.type == "content_block_delta" and event.delta is not None:
            self._count(event.delta.text or event.delta.thinking or event.delta.partial_json or "")
        elif event.type == "message_start" and event.message is not None:
            self._add_counts(event.message.usage)
        elif event.type == "message_delta":
            self._add_counts(event.usage)
            self.usage_is_final = event.delta is not None and event.delta.stop_reason is not None
        elif event.type == "message_stop":
            self.finished = True
        elif event.type == "error":
            self.error = data.strip()

    def _add_counts(self, counts: TokenCounts | None) -> None:
        """Take over Anthropic's counts: they are cumulative, a later one replaces the one before."""
        if counts is None:
            return
        self._counts.update(counts)
        self.usage = _usage(self._counts, self.dialect)


def _holds_error(chunk: _ChatChunk) -> bool:
    """Tell an error from iFlytek's chunks, which all carry a code."""
    return bool(chunk.error) or chunk.error_code is not None or (bool(chunk.code) and chunk.choices is None)


class UsageChunkFilter:
    """Take the usage-only chunk out of a chat stream whose client did not ask for it, and nothing else.

    The gateway asks every vendor for usage (`stream_options.include_usage`); the answer is a chunk with
    `"choices":[]` and a usage object before `[DONE]`. All other bytes pass as they are. An event that has
    not ended is held back, up to `limit_bytes`: a longer one cannot be the usage chunk.
    """

    def __init__(self, limit_bytes: int = 64 * 1024) -> None:
        self._limit_bytes = limit_bytes
        self._held: list[bytes] = []
        self._held_bytes = 0
        self._in_long_event = False

    def feed(self, chunk: bytes) -> bytes:
        """Return what of the stream so far can go on to the client (it may be empty)."""
        if not self._held and not self._in_long_event and chunk.endswith(_EVENT_ENDS):
            return _without_usage_chunk(chunk)
        self._held.append(chunk)
        self._held_bytes += len(chunk)
        if b"\n" not in chunk and self._held_bytes <= self._limit_bytes:
            return b""
        held = b"".join(self._held)
        ends = list(_EVENT_END.finditer(held))
        out = b""
        if self._in_long_event and ends:
            self._in_long_event = False
            out, held = held[: ends[0].end()], held[ends[0].end() :]
            ends = list(_EVENT_END.finditer(held))
        if ends:
            out += _without_usage_chunk(held[: ends[-1].end()])
            held = held[ends[-1].end() :]
        if self._in_long_event or len(held) > self._limit_bytes:
            keep = 3  # the beginning of an event end may be among the last bytes
            self._in_long_event = True
            out, held = out + held[:-keep], held[-keep:]
        self._held = [held] if held else []
        self._held_bytes = len(held)
        return out

    def finish(self) -> bytes:
        """Return what is still held back when the vendor has closed the stream."""
        held = b"".join(self._held)
        self._held = []
        self._held_bytes = 0
        return held if self._in_long_event else _without_usage_chunk(held)


_EVENT_ENDS = (b"\n\n", b"\n\r\n")
_EVENT_END = re.compile(rb"\n\r?\n")
_EVENT = re.compile(rb".*?(?:\n\r?\n|\Z)", re.DOTALL)


def _without_usage_chunk(events: bytes) -> bytes:
    """Return whole events without the one that holds nothing but usage."""
    if b'"usage":{' not in events and b'"usage": {' not in events:
        return events
    return b"".join(event for event in _EVENT.findall(events) if not _is_usage_chunk(event))


def _is_usage_chunk(event: bytes) -> bool:
    data = b"".join(line[5:].strip() for line in event.splitlines() if line.startswith(b"data:"))
    if b'"usage"' not in data:
        return False
    try:
        chunk = _CHAT_DECODER.decode(data)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return False
    return chunk.choices == [] and chunk.usage is not None and not _holds_error(chunk)
