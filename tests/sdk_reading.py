"""Answers as the official SDKs read them: strictly typed, then gathered by the SDKs' own accumulators."""

from __future__ import annotations

import json
from dataclasses import dataclass, field

from anthropic.lib.streaming._messages import accumulate_event
from anthropic.types import Message, RawMessageStreamEvent
from openai._types import omit
from openai.lib.streaming.chat import ChatCompletionStreamState
from openai.lib.streaming.responses._responses import ResponseStreamState
from openai.types.chat import ChatCompletion, ChatCompletionChunk
from openai.types.responses import Response, ResponseStreamEvent
from pydantic import TypeAdapter

from dujiang.protocols.sse import Decoder
from dujiang.terms import Dialect

_RESPONSE_EVENTS: TypeAdapter[object] = TypeAdapter(ResponseStreamEvent)
_MESSAGE_EVENTS: TypeAdapter[object] = TypeAdapter(RawMessageStreamEvent)


@dataclass
class Answer:
    """What an answer says, in the order a dialect keeps it: ("text", …), ("reasoning", …), ("tool", id, name, {…})."""

    parts: list[tuple[object, ...]] = field(default_factory=list)
    finish: str | None = None
    input_tokens: int | None = None
    output_tokens: int | None = None
    cached_tokens: int | None = None
    reasoning_tokens: int | None = None
    model: str = ""
    id: str = ""

    def of(self, kind: str) -> list[tuple[object, ...]]:
        return [part for part in self.parts if part[0] == kind]

    def text(self, kind: str = "text") -> str:
        return "".join(str(part[1]) for part in self.of(kind))


def read_reply(body: bytes, dialect: Dialect) -> Answer:
    """Read a whole answer with the types of the official SDK."""
    if dialect is Dialect.CHAT:
        return _chat(ChatCompletion.model_validate_json(body, strict=True))
    if dialect is Dialect.RESPONSES:
        return _response(Response.model_validate_json(body, strict=True))
    return _message(Message.model_validate_json(body, strict=True))


def read_stream(stream: bytes, dialect: Dialect) -> Answer:
    """Read a stream to its proper end; fails when it has none, or is out of order."""
    decoder = Decoder()
    events = decoder.feed(stream)
    assert not decoder.finish(), "a stream ends with a blank line"
    if dialect is Dialect.CHAT:
        return _chat_stream([event.data for event in events])
    assert all(json.loads(event.data)["type"] == event.event for event in events)
    if dialect is Dialect.RESPONSES:
        return _response_stream([event.data for event in events])
    return _message_stream([event.data for event in events])


def _chat(completion: ChatCompletion) -> Answer:
    choice = completion.choices[0]
    message, usage = choice.message, completion.usage
    answer = Answer(finish=choice.finish_reason, model=completion.model, id=completion.id)
    reasoning = getattr(message, "reasoning_content", None)
    if reasoning:
        answer.parts.append(("reasoning", reasoning))
    if message.content:
        answer.parts.append(("text", message.content))
    if message.refusal:
        answer.parts.append(("refusal", message.refusal))
    for call in message.tool_calls or ():
        assert call.type == "function"
        answer.parts.append(("tool", call.id, call.function.name, json.loads(call.function.arguments)))
    if usage is not None:
        assert usage.total_tokens == usage.prompt_tokens + usage.completion_tokens
        answer.input_tokens, answer.output_tokens = usage.prompt_tokens, usage.completion_tokens
        if usage.prompt_tokens_details:
            answer.cached_tokens = usage.prompt_tokens_details.cached_tokens
        if usage.completion_tokens_details:
            answer.reasoning_tokens = usage.completion_tokens_details.reasoning_tokens
    return answer


def _chat_stream(datas: list[bytes]) -> Answer:
    assert datas[-1] == b"[DONE]"
    chunks = [ChatCompletionChunk.model_validate_json(data, strict=True) for data in datas[:-1]]
    assert chunks[0].choices[0].delta.role == "assistant"
    state = ChatCompletionStreamState()
    reasoning = ""
    for chunk in chunks:
        list(state.handle_chunk(chunk))
        for choice in chunk.choices:
            reasoning += getattr(choice.delta, "reasoning_content", None) or ""
    snapshot = state.current_completion_snapshot
    body = snapshot.model_dump(mode="json", warnings="none")
    for key in ("reasoning_content", "parsed", "content"):
        body["choices"][0]["message"].setdefault(key, None)
    body["choices"][0]["message"]["reasoning_content"] = reasoning or None
    answer = _chat(ChatCompletion.model_validate(body))
    usages = [chunk.usage for chunk in chunks if chunk.usage is not None]
    assert len(usages) <= 1
    assert all(chunk.choices == [] for chunk in chunks if chunk.usage is not None)
    return answer


def _response(response: Response) -> Answer:
    answer = Answer(model=str(response.model), id=response.id)
    for item in response.output:
        if item.type == "message":
            for part in item.content:
                if part.type == "output_text":
                    answer.parts.append(("text", part.text))
                else:
                    answer.parts.append(("refusal", part.refusal))
        elif item.type == "reasoning":
            answer.parts.append(("reasoning", "\n\n".join(summary.text for summary in item.summary)))
        else:
            assert item.type == "function_call"
            answer.parts.append(("tool", item.call_id, item.name, json.loads(item.arguments)))
    ids = [item.id for item in response.output]
    assert len(set(ids)) == len(ids)
    answer.finish = str(response.status)
    if response.incomplete_details is not None:
        answer.finish = str(response.incomplete_details.reason)
    if response.usage is not None:
        usage = response.usage
        assert usage.total_tokens == usage.input_tokens + usage.output_tokens
        answer.input_tokens, answer.output_tokens = usage.input_tokens, usage.output_tokens
        answer.cached_tokens = usage.input_tokens_details.cached_tokens
        answer.reasoning_tokens = usage.output_tokens_details.reasoning_tokens
    return answer


def _response_stream(datas: list[bytes]) -> Answer:
    events = [_RESPONSE_EVENTS.validate_json(data, strict=True) for data in datas]
    assert [event.sequence_number for event in events] == list(range(len(events)))  # type: ignore[attr-defined]
    assert [event.type for event in events[:2]] == ["response.created", "response.in_progress"]  # type: ignore[attr-defined]
    last = events[-1]
    assert last.type in {"response.completed", "response.incomplete"}  # type: ignore[attr-defined]
    state = ResponseStreamState(input_tools=omit, text_format=omit)
    deltas = {"response.output_text.delta": "", "response.function_call_arguments.delta": ""}
    for event in events:
        state.handle_event(event)  # type: ignore[arg-type]
        if event.type in deltas:  # type: ignore[attr-defined]
            deltas[event.type] += event.delta  # type: ignore[attr-defined]
    answer = _response(last.response)  # type: ignore[attr-defined]
    assert deltas["response.output_text.delta"] == answer.text()
    done = [event.item.id for event in events if event.type == "response.output_item.done"]  # type: ignore[attr-defined]
    assert done == [item.id for item in last.response.output]  # type: ignore[attr-defined]
    return answer


def _message(message: Message) -> Answer:
    answer = Answer(finish=message.stop_reason, model=str(message.model), id=message.id)
    for block in message.content:
        if block.type == "text":
            answer.parts.append(("text", block.text))
        elif block.type == "thinking":
            answer.parts.append(("reasoning", block.thinking))
        else:
            assert block.type == "tool_use"
            answer.parts.append(("tool", block.id, block.name, block.input))
    usage = message.usage
    answer.cached_tokens = usage.cache_read_input_tokens or 0
    answer.input_tokens = usage.input_tokens + answer.cached_tokens + (usage.cache_creation_input_tokens or 0)
    answer.output_tokens = usage.output_tokens
    return answer


def _message_stream(datas: list[bytes]) -> Answer:
    events = [_MESSAGE_EVENTS.validate_json(data, strict=True) for data in datas]
    types = [event.type for event in events]  # type: ignore[attr-defined]
    assert types[0] == "message_start"
    assert types[-2:] == ["message_delta", "message_stop"]
    snapshot = None
    buffers: dict[int, bytes] = {}
    opened: int | None = None
    for event in events:
        if event.type == "content_block_start":  # type: ignore[attr-defined]
            assert opened is None
            opened = event.index  # type: ignore[attr-defined]
        elif event.type == "content_block_delta":  # type: ignore[attr-defined]
            assert opened == event.index  # type: ignore[attr-defined]
        elif event.type == "content_block_stop":  # type: ignore[attr-defined]
            assert opened == event.index  # type: ignore[attr-defined]
            opened = None
        snapshot = accumulate_event(event=event, current_snapshot=snapshot, json_bufs=buffers)  # type: ignore[arg-type]
    assert opened is None
    assert snapshot is not None
    return _message(Message.model_validate(snapshot.model_dump(mode="json", warnings="none")))
