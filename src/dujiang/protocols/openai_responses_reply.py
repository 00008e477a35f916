"""OpenAI responses: answers, whole, and the reading of streams.

Source: OpenAI's OpenAPI document (`Response`, `ResponseStreamEvent`). `openai_responses_stream.py` writes streams.
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
from dujiang.protocols.token_counts import TokenCounts, TokenUsage, token_usage
from dujiang.terms import Dialect

_INCOMPLETE = {"content_filter": Finish.CONTENT_FILTER}
INCOMPLETE_REASONS = {Finish.LENGTH: "max_output_tokens", Finish.CONTENT_FILTER: "content_filter"}


class _Piece(msgspec.Struct):
    type: str = ""
    text: str = ""
    refusal: str = ""


class _Item(msgspec.Struct):
    type: str = ""
    content: list[_Piece] | None = None
    summary: list[_Piece] | None = None
    call_id: str = ""
    name: str = ""
    arguments: str = ""


class _IncompleteDetails(msgspec.Struct):
    reason: str | None = None


class _Response(msgspec.Struct):
    status: str | None = None
    output: list[_Item] | None = None
    incomplete_details: _IncompleteDetails | None = None
    usage: TokenCounts | None = None


class _Event(msgspec.Struct):
    type: str = ""
    delta: str | None = None
    arguments: str | None = None
    output_index: int | None = None
    summary_index: int | None = None
    item: _Item | None = None
    response: _Response | None = None


_RESPONSE_DECODER = msgspec.json.Decoder(_Response, strict=False)
_EVENT_DECODER = msgspec.json.Decoder(_Event, strict=False)


def decode_reply(body: bytes) -> Reply:
    """Read a whole answer; raises VendorFailed when it is none, or one that has failed."""
    try:
        response = _RESPONSE_DECODER.decode(body)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise VendorFailed("The vendor's answer is not a response.") from error
    if response.output is None or response.status not in {None, "completed", "incomplete"}:
        raise VendorFailed("The vendor's answer is a response that was not completed.")
    parts = [part for item in response.output for part in _parts(item)]
    called_tools = any(isinstance(part, ToolUse) for part in parts)
    finish = with_tool_finish(_finish(response), called_tools=called_tools)
    return Reply(parts, finish, _usage(response))


def _parts(item: _Item) -> Iterator[Text | Refusal | Reasoning | ToolUse]:
    match item.type:
        case "message":
            for piece in item.content or ():
                if piece.type == "refusal":
                    yield Refusal(piece.refusal)
                elif piece.type == "output_text":
                    yield Text(piece.text)
        case "reasoning":
            thoughts = [piece.text for piece in item.summary or item.content or () if piece.text]
            if thoughts:
                yield Reasoning("\n\n".join(thoughts))
        case "function_call":
            yield ToolUse(item.call_id, item.name, item.arguments or "{}")
        case _:
            pass  # built-in tools, which no translated request can ask for


def _finish(response: _Response) -> Finish:
    if response.status != "incomplete":
        return Finish.STOP
    reason = response.incomplete_details.reason if response.incomplete_details else None
    return _INCOMPLETE.get(reason or "", Finish.LENGTH)


def _usage(response: _Response) -> TokenUsage | None:
    return None if response.usage is None else token_usage(response.usage, Dialect.RESPONSES)


def item_id(kind: str, reply_id: str, index: int) -> str:
    """Return the id of an item of an answer: `msg_…`, `fc_…`, `rs_…`."""
    return f"{kind}_{reply_id.rpartition('_')[2]}_{index}"


def encode_reply(reply: Reply, *, model: str, reply_id: str, created: int) -> bytes:
    """Write a whole answer; texts and refusals that follow one another are one message."""
    response = response_object(
        model=model, reply_id=reply_id, created=created, output=_items(reply, reply_id), end=reply
    )
    return msgspec.json.encode(response)


def _items(reply: Reply, reply_id: str) -> list[dict[str, object]]:
    status = "incomplete" if reply.finish in INCOMPLETE_REASONS else "completed"
    items: list[dict[str, object]] = []
    contents: list[dict[str, object]] | None = None
    for part in reply.parts:
        index = len(items)
        if isinstance(part, Text | Refusal):
            if contents is None:
                contents = []
                items.append(message_item(item_id("msg", reply_id, index), status, contents))
            contents.append(text_part(part.text) if isinstance(part, Text) else refusal_part(part.text))
            continue
        contents = None
        if isinstance(part, Reasoning):
            items.append(reasoning_item(item_id("rs", reply_id, index), [part.text]))
        else:
            items.append(call_item(item_id("fc", reply_id, index), status, part.id, part.name, part.arguments))
    return items


def text_part(text: str) -> dict[str, object]:
    return {"type": "output_text", "text": text, "annotations": [], "logprobs": []}


def refusal_part(text: str) -> dict[str, object]:
    return {"type": "refusal", "refusal": text}


def message_item(identity: str, status: str, contents: list[dict[str, object]]) -> dict[str, object]:
    return {"id": identity, "type": "message", "role": "assistant", "status": status, "content": contents}


def reasoning_item(identity: str, thoughts: list[str]) -> dict[str, object]:
    summary = [{"type": "summary_text", "text": thought} for thought in thoughts]
    return {"id": identity, "type": "reasoning", "summary": summary}


def call_item(identity: str, status: str, call_id: str, name: str, arguments: str) -> dict[str, object]:
    call = {"call_id": call_id, "name": name, "arguments": arguments}
    return {"id": identity, "type": "function_call", "status": status, **call}


def response_object(
    *, model: str, reply_id: str, created: int, output: list[dict[str, object]], end: Reply | Finished | None
) -> dict[str, object]:
    """Return a response: in progress while it has no `end`, else completed or incomplete with its usage.

    What a response repeats of its request (tools, sampling) is given as that dialect's defaults.
    """
    reason = None if end is None else INCOMPLETE_REASONS.get(end.finish)
    status = "in_progress" if end is None else "completed" if reason is None else "incomplete"
    usage = None if end is None else _encoded_usage(end.usage or TokenUsage())
    return {
        "id": reply_id,
        "object": "response",
        "created_at": created,
        "status": status,
        "background": False,
        "error": None,
        "incomplete_details": None if reason is None else {"reason": reason},
        "instructions": None,
        "max_output_tokens": None,
        "metadata": {},
        "model": model,
        "output": output,
        "parallel_tool_calls": True,
        "previous_response_id": None,
        "reasoning": {"effort": None, "summary": None},
        "store": False,
        "temperature": None,
        "text": {"format": {"type": "text"}},
        "tool_choice": "auto",
        "tools": [],
        "top_p": None,
        "truncation": "disabled",
        "usage": usage,
    }


def _encoded_usage(usage: TokenUsage) -> dict[str, object]:
    return {
        "input_tokens": usage.input,
        "input_tokens_details": {"cached_tokens": usage.cached, "cache_write_tokens": usage.cache_written},
        "output_tokens": usage.output,
        "output_tokens_details": {"reasoning_tokens": usage.reasoning},
        "total_tokens": usage.total,
    }


class StreamDecoder:
    """Read the events of one responses stream."""

    def __init__(self) -> None:
        self._called_tools = False
        self._awaits_arguments = False

    def read(self, event: sse.Event) -> Iterator[StreamEvent]:
        """Yield what an event says; raises VendorFailed when it is none of this dialect's."""
        if event.data.strip() == b"[DONE]":
            return  # some vendors carry the habit over from chat
        try:
            said = _EVENT_DECODER.decode(event.data)
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
            raise VendorFailed("The vendor's stream holds an event that is not of a response.") from error
        match said.type:
            case "response.created":
                yield Started()
            case "response.output_item.added" if said.item is not None and said.item.type == "function_call":
                self._called_tools = self._awaits_arguments = True
                yield ToolStarted(said.item.call_id, said.item.name)
            case "response.output_text.delta" if said.delta:
                yield TextDelta(said.delta)
            case "response.refusal.delta" if said.delta:
                yield RefusalDelta(said.delta)
            case "response.reasoning_summary_text.delta" | "response.reasoning_text.delta" if said.delta:
                yield ReasoningDelta(said.delta)
            case "response.reasoning_summary_part.added" if said.summary_index:
                yield ReasoningDelta("\n\n")
            case "response.function_call_arguments.delta" if said.delta:
                self._awaits_arguments = False
                yield ArgumentsDelta(said.delta)
            case "response.function_call_arguments.done" if self._awaits_arguments and said.arguments:
                self._awaits_arguments = False  # a vendor that sends them only whole
                yield ArgumentsDelta(said.arguments)
            case "response.completed" | "response.incomplete" if said.response is not None:
                finish = with_tool_finish(_finish(said.response), called_tools=self._called_tools)
                yield Finished(finish, _usage(said.response))
            case _:
                pass  # what repeats the deltas, what only tells the state, and what may be added

    def finish(self) -> Iterator[StreamEvent]:
        """Yield nothing: a responses stream says itself that it has ended."""
        return iter(())
