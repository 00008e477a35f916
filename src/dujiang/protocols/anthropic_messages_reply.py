"""Anthropic messages: answers, whole and streamed.

Source: Anthropic's SDK types (`Message`, `RawMessageStreamEvent`).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal

import msgspec

from dujiang.errors import VendorFailed
from dujiang.protocols import sse
from dujiang.protocols.anthropic_messages import tool_id
from dujiang.protocols.conversation import (
    ArgumentsDelta,
    Finish,
    Finished,
    Reasoning,
    ReasoningDelta,
    Refusal,
    RefusalDelta,
    Reply,
    Started,
    StreamEvent,
    Text,
    TextDelta,
    ToolStarted,
    ToolUse,
)
from dujiang.protocols.token_counts import TokenCounts, TokenUsage, token_usage
from dujiang.terms import Dialect

_FINISHES = {
    "max_tokens": Finish.LENGTH,
    "model_context_window_exceeded": Finish.LENGTH,
    "tool_use": Finish.TOOL_CALLS,
    "refusal": Finish.CONTENT_FILTER,
}
_STOP_REASONS = {
    Finish.STOP: "end_turn",
    Finish.LENGTH: "max_tokens",
    Finish.TOOL_CALLS: "tool_use",
    Finish.CONTENT_FILTER: "refusal",
}


class _Block(msgspec.Struct):
    type: str = ""
    text: str = ""
    thinking: str = ""
    id: str = ""
    name: str = ""
    input: dict[str, object] | None = None


class _Message(msgspec.Struct):
    content: list[_Block] | None = None
    stop_reason: str | None = None
    stop_sequence: str | None = None
    usage: TokenCounts | None = None


class _Delta(msgspec.Struct):
    type: str = ""
    text: str = ""
    thinking: str = ""
    partial_json: str = ""
    stop_reason: str | None = None
    stop_sequence: str | None = None


class _Event(msgspec.Struct):
    type: str = ""
    message: _Message | None = None
    content_block: _Block | None = None
    delta: _Delta | None = None
    usage: TokenCounts | None = None


_MESSAGE_DECODER = msgspec.json.Decoder(_Message, strict=False)
_EVENT_DECODER = msgspec.json.Decoder(_Event, strict=False)


def _json(value: dict[str, object] | None) -> str:
    return msgspec.json.encode(value or {}).decode()


def decode_reply(body: bytes) -> Reply:
    """Read a whole answer; raises VendorFailed when it is none."""
    try:
        message = _MESSAGE_DECODER.decode(body)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise VendorFailed("The vendor's answer is not a message.") from error
    if message.content is None:
        raise VendorFailed("The vendor's answer is a message without content.")
    parts: list[Text | Refusal | Reasoning | ToolUse] = []
    for block in message.content:
        match block.type:
            case "text":
                parts.append(Text(block.text))
            case "thinking":
                parts.append(Reasoning(block.thinking))
            case "tool_use":
                parts.append(ToolUse(block.id, block.name, _json(block.input)))
            case _:
                pass  # redacted thoughts, and server tools, which no translated request can ask for
    usage = None if message.usage is None else token_usage(message.usage, Dialect.MESSAGES)
    finish = _FINISHES.get(message.stop_reason or "", Finish.STOP)
    return Reply(parts, finish, usage, message.stop_sequence)


def encode_reply(reply: Reply, *, model: str, reply_id: str) -> bytes:
    """Write a whole answer.

    Raises VendorFailed when the arguments of a finished tool call are no JSON object: this dialect cannot carry
    them. A call that was cut short by the limit of the output is left out.
    """
    content: list[dict[str, object]] = []
    for part in reply.parts:
        match part:
            case Text() | Refusal():
                content.append({"type": "text", "text": part.text})
            case Reasoning():
                content.append({"type": "thinking", "thinking": part.text, "signature": ""})
            case ToolUse():
                arguments = _arguments(part)
                if arguments is not None:
                    block = {"type": "tool_use", "id": tool_id(part.id), "name": part.name, "input": arguments}
                    content.append(block)
                elif reply.finish is not Finish.LENGTH:
                    raise VendorFailed("The vendor's tool call has arguments that are no JSON object.")
    refused = any(isinstance(part, Refusal) for part in reply.parts)
    stop_reason, stop_sequence = _stop(reply.finish, reply.stop_sequence, refused=refused)
    message = {
        **_message_head(model, reply_id),
        "content": content,
        "stop_reason": stop_reason,
        "stop_sequence": stop_sequence,
        "usage": _encoded_usage(reply.usage or TokenUsage()),
    }
    return msgspec.json.encode(message)


def _arguments(use: ToolUse) -> dict[str, object] | None:
    try:
        arguments = msgspec.json.decode(use.arguments or "{}")
    except (msgspec.MsgspecError, RecursionError):
        return None
    return arguments if isinstance(arguments, dict) else None


def _message_head(model: str, reply_id: str) -> dict[str, object]:
    return {"id": reply_id, "type": "message", "role": "assistant", "model": model}


def _stop(finish: Finish, stop_sequence: str | None, *, refused: bool) -> tuple[str, str | None]:
    if finish is Finish.STOP and stop_sequence is not None:
        return "stop_sequence", stop_sequence
    return ("refusal" if refused and finish is Finish.STOP else _STOP_REASONS[finish]), None


def _encoded_usage(usage: TokenUsage) -> dict[str, object]:
    return {
        "input_tokens": usage.input - usage.cached - usage.cache_written,
        "cache_creation_input_tokens": usage.cache_written,
        "cache_read_input_tokens": usage.cached,
        "output_tokens": usage.output,
    }


class StreamDecoder:
    """Read the events of one messages stream."""

    def __init__(self) -> None:
        self._counts = TokenCounts()
        self._finish = Finish.STOP
        self._stop_sequence: str | None = None
        self._input: dict[str, object] | None = None

    def read(self, event: sse.Event) -> Iterator[StreamEvent]:
        """Yield what an event says; raises VendorFailed when it is none of this dialect's."""
        try:
            said = _EVENT_DECODER.decode(event.data)
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
            raise VendorFailed("The vendor's stream holds an event that is not of a message.") from error
        match said.type:
            case "message_start":
                if said.message is not None and said.message.usage is not None:
                    self._counts.update(said.message.usage)
                yield Started(token_usage(self._counts, Dialect.MESSAGES))
            case "content_block_start" if said.content_block is not None:
                yield from self._read_block(said.content_block)
            case "content_block_delta" if said.delta is not None:
                yield from self._read_delta(said.delta)
            case "content_block_stop" if self._input:
                yield ArgumentsDelta(_json(self._input))
                self._input = None
            case "message_delta":
                if said.usage is not None:
                    self._counts.update(said.usage)
                if said.delta is not None:
                    self._finish = _FINISHES.get(said.delta.stop_reason or "", Finish.STOP)
                    self._stop_sequence = said.delta.stop_sequence
            case "message_stop":
                yield Finished(self._finish, token_usage(self._counts, Dialect.MESSAGES), self._stop_sequence)
            case _:
                pass  # pings, ends of blocks, and what may be added to the dialect

    def finish(self) -> Iterator[StreamEvent]:
        """Yield nothing: a messages stream says itself that it has ended."""
        return iter(())

    def _read_block(self, block: _Block) -> Iterator[StreamEvent]:
        self._input = None
        match block.type:
            case "text" if block.text:
                yield TextDelta(block.text)
            case "thinking" if block.thinking:
                yield ReasoningDelta(block.thinking)
            case "tool_use":
                self._input = block.input  # whole at the start at some vendors; deltas replace it
                yield ToolStarted(block.id, block.name)
            case _:
                pass

    def _read_delta(self, delta: _Delta) -> Iterator[StreamEvent]:
        match delta.type:
            case "text_delta" if delta.text:
                yield TextDelta(delta.text)
            case "thinking_delta" if delta.thinking:
                yield ReasoningDelta(delta.thinking)
            case "input_json_delta" if delta.partial_json:
                self._input = None
                yield ArgumentsDelta(delta.partial_json)
            case _:
                pass


_Kind = Literal["text", "thinking", "tool_use"]


class StreamEncoder:
    """Write one messages stream: `message_start`, one block after the other, `message_delta`, `message_stop`.

    The counts of the input are nought at the start where the vendor tells them only at the end; the
    `message_delta` then brings them.
    """

    def __init__(self, *, model: str, reply_id: str) -> None:
        self._head = _message_head(model, reply_id)
        self._open: _Kind | None = None
        self._index = -1
        self._refused = False

    def write(self, event: StreamEvent) -> bytes:
        match event:
            case Started():
                usage = _encoded_usage(event.usage or TokenUsage())
                message = {**self._head, "content": [], "stop_reason": None, "stop_sequence": None, "usage": usage}
                return _event("message_start", {"message": message})
            case TextDelta() | RefusalDelta():
                self._refused = self._refused or isinstance(event, RefusalDelta)
                out = self._enter("text", {"type": "text", "text": ""})
                return out + self._delta({"type": "text_delta", "text": event.text})
            case ReasoningDelta():
                out = self._enter("thinking", {"type": "thinking", "thinking": "", "signature": ""})
                return out + self._delta({"type": "thinking_delta", "thinking": event.text})
            case ToolStarted():
                block = {"type": "tool_use", "id": tool_id(event.id), "name": event.name, "input": {}}
                return self._leave() + self._enter("tool_use", block)
            case ArgumentsDelta():
                return self._delta({"type": "input_json_delta", "partial_json": event.text})
            case Finished():
                return self._leave() + self._end(event)

    def _enter(self, kind: _Kind, block: dict[str, object]) -> bytes:
        if self._open == kind:
            return b""
        out = self._leave()
        self._open = kind
        self._index += 1
        return out + _event("content_block_start", {"index": self._index, "content_block": block})

    def _leave(self) -> bytes:
        if self._open is None:
            return b""
        self._open = None
        return _event("content_block_stop", {"index": self._index})

    def _delta(self, delta: dict[str, object]) -> bytes:
        return _event("content_block_delta", {"index": self._index, "delta": delta})

    def _end(self, event: Finished) -> bytes:
        stop_reason, stop_sequence = _stop(event.finish, event.stop_sequence, refused=self._refused)
        delta = {"stop_reason": stop_reason, "stop_sequence": stop_sequence}
        usage = _encoded_usage(event.usage or TokenUsage())
        return _event("message_delta", {"delta": delta, "usage": usage}) + _event("message_stop", {})


def _event(name: str, members: dict[str, object]) -> bytes:
    return sse.encode(name, msgspec.json.encode({"type": name, **members}))
