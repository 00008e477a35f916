"""OpenAI chat completions: answers, whole and streamed.

Source: OpenAI's OpenAPI document (`ChatCompletion`, `ChatCompletionChunk`); `reasoning_content` is DeepSeek's
addition, which the vendors that show their models' thoughts have taken up.
"""

from __future__ import annotations

from collections.abc import Iterator

import msgspec

from dujiang.errors import VendorFailed
from dujiang.protocols import sse
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
    with_tool_finish,
)
from dujiang.protocols.openai_chat import encoded_tool_call
from dujiang.protocols.token_counts import TokenCounts, TokenUsage, token_usage
from dujiang.terms import Dialect

_FINISHES = {
    "length": Finish.LENGTH,
    "model_context_window_exceeded": Finish.LENGTH,  # Zhipu
    "insufficient_system_resource": Finish.LENGTH,  # DeepSeek: cut short
    "tool_calls": Finish.TOOL_CALLS,
    "function_call": Finish.TOOL_CALLS,
    "content_filter": Finish.CONTENT_FILTER,
    "sensitive": Finish.CONTENT_FILTER,  # Zhipu
}


class _Function(msgspec.Struct):
    name: str | None = None
    arguments: str | dict[str, object] | None = None  # an object at some vendors

    @property
    def arguments_text(self) -> str:
        if isinstance(self.arguments, dict):
            return msgspec.json.encode(self.arguments).decode()
        return self.arguments or ""


class _ToolCall(msgspec.Struct):
    id: str | None = None
    index: int | None = None
    function: _Function | None = None


class _Content(msgspec.Struct):
    """A message, or what a chunk adds to it."""

    content: str | list[dict[str, object]] | None = None
    reasoning_content: str | None = None
    reasoning: str | None = None
    refusal: str | None = None
    tool_calls: list[_ToolCall] | None = None

    def texts(self) -> Iterator[tuple[bool, str]]:
        """Return the pieces of text in order, each with whether it is a thought."""
        if thought := self.reasoning_content or self.reasoning:
            yield True, thought
        if isinstance(self.content, str):
            yield False, self.content
        for part in self.content if isinstance(self.content, list) else ():  # Mistral
            if part.get("type") == "thinking":
                thoughts = part.get("thinking")
                for thought in thoughts if isinstance(thoughts, list) else ():
                    yield True, str(thought.get("text", "")) if isinstance(thought, dict) else ""
            elif isinstance(text := part.get("text"), str):
                yield False, text


class _Choice(msgspec.Struct):
    index: int | None = None
    message: _Content | None = None
    delta: _Content | None = None
    finish_reason: str | None = None
    usage: TokenCounts | None = None


class _Completion(msgspec.Struct):
    choices: list[_Choice] | None = None
    usage: TokenCounts | None = None


_DECODER = msgspec.json.Decoder(_Completion, strict=False)


def _decode(data: bytes) -> _Completion:
    try:
        return _DECODER.decode(data)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise VendorFailed("The vendor's answer is not a chat completion.") from error


def _usage(counts: TokenCounts | None) -> TokenUsage | None:
    return None if counts is None else token_usage(counts, Dialect.CHAT)


def decode_reply(body: bytes, reply_id: str) -> Reply:
    """Read a whole answer (its first choice); raises VendorFailed when it is none."""
    completion = _decode(body)
    choice = completion.choices[0] if completion.choices else None
    if choice is None or choice.message is None:
        raise VendorFailed("The vendor's answer is a chat completion without a message.")
    message = choice.message
    parts: list[Text | Refusal | Reasoning | ToolUse] = [
        Reasoning(text) if is_thought else Text(text) for is_thought, text in message.texts() if text
    ]
    if message.refusal:
        parts.append(Refusal(message.refusal))
    for index, call in enumerate(message.tool_calls or ()):
        if call.function is not None:
            call_id = call.id or f"call_{reply_id}_{index}"
            parts.append(ToolUse(call_id, call.function.name or "", call.function.arguments_text or "{}"))
    finish = _FINISHES.get(choice.finish_reason or "", Finish.STOP)
    finish = with_tool_finish(finish, called_tools=any(isinstance(part, ToolUse) for part in parts))
    return Reply(parts, finish, _usage(completion.usage or choice.usage))


def encode_reply(reply: Reply, *, model: str, reply_id: str, created: int) -> bytes:
    """Write a whole answer."""
    texts = [part.text for part in reply.parts if isinstance(part, Text)]
    refusals = [part.text for part in reply.parts if isinstance(part, Refusal)]
    thoughts = [part.text for part in reply.parts if isinstance(part, Reasoning)]
    uses = [part for part in reply.parts if isinstance(part, ToolUse)]
    message: dict[str, object] = {
        "role": "assistant",
        "content": "".join(texts) if texts or not (uses or refusals) else None,
        "refusal": "".join(refusals) or None,
    }
    if thoughts:
        message["reasoning_content"] = "\n\n".join(thoughts)
    if uses:
        message["tool_calls"] = [encoded_tool_call(use) for use in uses]
    choice = {"index": 0, "message": message, "logprobs": None, "finish_reason": reply.finish.value}
    completion: dict[str, object] = {
        "id": reply_id,
        "object": "chat.completion",
        "created": created,
        "model": model,
        "choices": [choice],
    }
    if reply.usage is not None:
        completion["usage"] = _encoded_usage(reply.usage)
    return msgspec.json.encode(completion)


def _encoded_usage(usage: TokenUsage) -> dict[str, object]:
    return {
        "prompt_tokens": usage.input,
        "completion_tokens": usage.output,
        "total_tokens": usage.total,
        "prompt_tokens_details": {"cached_tokens": usage.cached, "audio_tokens": 0},
        "completion_tokens_details": {"reasoning_tokens": usage.reasoning, "audio_tokens": 0},
    }


class StreamDecoder:
    """Read the events of one chat stream; the end is reported when the vendor has told the usage or closed."""

    def __init__(self, reply_id: str) -> None:
        self._reply_id = reply_id
        self._started = False
        self._finish_reason: str | None = None
        self._usage: TokenUsage | None = None
        self._ended = False
        self._calls = 0
        self._call: tuple[int | None, str | None] | None = None

    def read(self, event: sse.Event) -> Iterator[StreamEvent]:
        """Yield what an event says; raises VendorFailed when it is no chunk."""
        if event.data.strip() == b"[DONE]":
            yield from self.finish()
            return
        chunk = _decode(event.data)
        if chunk.choices is None:
            return
        if not self._started:
            self._started = True
            yield Started()
        self._usage = _usage(chunk.usage) or self._usage
        for choice in chunk.choices:
            if choice.index:
                continue
            if choice.delta is not None:
                yield from self._read_delta(choice.delta)
            self._finish_reason = choice.finish_reason or self._finish_reason
            self._usage = _usage(choice.usage) or self._usage

    def finish(self) -> Iterator[StreamEvent]:
        """Yield the end, if the vendor has said why it stopped."""
        if self._ended or self._finish_reason is None:
            return
        self._ended = True
        finish = _FINISHES.get(self._finish_reason, Finish.STOP)
        yield Finished(with_tool_finish(finish, called_tools=self._calls > 0), self._usage)

    def _read_delta(self, delta: _Content) -> Iterator[StreamEvent]:
        for is_thought, text in delta.texts():
            if text:
                self._call = None
                yield ReasoningDelta(text) if is_thought else TextDelta(text)
        if delta.refusal:
            self._call = None
            yield RefusalDelta(delta.refusal)
        for call in delta.tool_calls or ():
            yield from self._read_call(call)

    def _read_call(self, call: _ToolCall) -> Iterator[StreamEvent]:
        function = call.function or _Function()
        if self._begins(call, function):
            self._call = (call.index, call.id)
            call_id = call.id or f"call_{self._reply_id}_{self._calls}"
            self._calls += 1
            yield ToolStarted(call_id, function.name or "")
        elif self._call is None or (call.index is not None and call.index != self._call[0]):
            raise VendorFailed("The vendor's stream goes back to a tool call that had ended.")
        if function.arguments_text:
            yield ArgumentsDelta(function.arguments_text)

    def _begins(self, call: _ToolCall, function: _Function) -> bool:
        """Tell a new call from more of the last: some vendors repeat the id, some the index, with every piece."""
        if not function.name:
            return False
        if self._call is None:
            return True
        index, call_id = self._call
        return call.index != index or call.id not in {None, "", call_id}


class StreamEncoder:
    """Write one chat stream: the role, deltas, the finish reason, usage where it was asked for, `[DONE]`."""

    def __init__(self, *, model: str, reply_id: str, created: int, include_usage: bool) -> None:
        self._head = {"id": reply_id, "object": "chat.completion.chunk", "created": created, "model": model}
        self._include_usage = include_usage
        self._calls = 0
        self._awaits_arguments = False

    def write(self, event: StreamEvent) -> bytes:
        match event:
            case Started():
                return self._chunk({"role": "assistant", "content": "", "refusal": None})
            case TextDelta():
                return self._end_call() + self._chunk({"content": event.text})
            case RefusalDelta():
                return self._end_call() + self._chunk({"refusal": event.text})
            case ReasoningDelta():
                return self._end_call() + self._chunk({"reasoning_content": event.text})
            case ToolStarted():
                out = self._end_call()
                function = {"name": event.name, "arguments": ""}
                call = {"index": self._calls, "id": event.id, "type": "function", "function": function}
                self._calls += 1
                self._awaits_arguments = True
                return out + self._chunk({"tool_calls": [call]})
            case ArgumentsDelta():
                self._awaits_arguments = False
                return self._arguments(event.text)
            case Finished():
                return self._end_call() + self._end(event)

    def _end_call(self) -> bytes:
        """Give a call that has ended without arguments the empty object, so that they are JSON."""
        if not self._awaits_arguments:
            return b""
        self._awaits_arguments = False
        return self._arguments("{}")

    def _arguments(self, text: str) -> bytes:
        return self._chunk({"tool_calls": [{"index": self._calls - 1, "function": {"arguments": text}}]})

    def _end(self, event: Finished) -> bytes:
        out = self._chunk({}, event.finish.value)
        if self._include_usage:
            usage = _encoded_usage(event.usage or TokenUsage())
            out += sse.encode(None, msgspec.json.encode({**self._head, "choices": [], "usage": usage}))
        return out + sse.encode(None, b"[DONE]")

    def _chunk(self, delta: dict[str, object], finish_reason: str | None = None) -> bytes:
        choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish_reason}
        return sse.encode(None, msgspec.json.encode({**self._head, "choices": [choice]}))
