"""OpenAI responses: the writing of streams. Source: OpenAI's OpenAPI document (`ResponseStreamEvent`)."""

from __future__ import annotations

from typing import Literal

import msgspec

from dujiang.protocols import sse
from dujiang.protocols.conversation import (
    ArgumentsDelta,
    Finished,
    ReasoningDelta,
    RefusalDelta,
    Started,
    StreamEvent,
    TextDelta,
    ToolStarted,
)
from dujiang.protocols.openai_responses_reply import (
    INCOMPLETE_REASONS,
    call_item,
    item_id,
    message_item,
    reasoning_item,
    refusal_part,
    response_object,
    text_part,
)

_Kind = Literal["text", "refusal", "reasoning", "call"]


class _OpenItem(msgspec.Struct):
    """The item that is being written; a message holds one part, a new kind of part is a new message."""

    kind: _Kind
    id: str
    call_id: str = ""
    name: str = ""
    pieces: list[str] = []

    @property
    def text(self) -> str:
        return "".join(self.pieces)

    def part(self, text: str) -> dict[str, object]:
        return refusal_part(text) if self.kind == "refusal" else text_part(text)

    def item(self, status: str) -> dict[str, object]:
        """Return the item as it stands: empty while it is in progress, whole afterwards."""
        begun = status != "in_progress"
        match self.kind:
            case "text" | "refusal":
                return message_item(self.id, status, [self.part(self.text)] if begun else [])
            case "reasoning":
                return reasoning_item(self.id, [self.text] if begun else [])
            case "call":
                return call_item(self.id, status, self.call_id, self.name, self.text if begun else "")


class StreamEncoder:
    """Write one responses stream, every event numbered.

    `response.created`, `response.in_progress`; for each item its `added`, the deltas and the `done` of its parts
    and its own `done`; `response.completed` or `response.incomplete` with the whole answer.
    """

    def __init__(self, *, model: str, reply_id: str, created: int) -> None:
        self.sequence = 0
        """The `sequence_number` of the next event."""
        self._model = model
        self._reply_id = reply_id
        self._created = created
        self._output: list[dict[str, object]] = []
        self._open: _OpenItem | None = None

    def write(self, event: StreamEvent) -> bytes:
        match event:
            case Started():
                response = self._response(None)
                created = self._event("response.created", response=response)
                return created + self._event("response.in_progress", response=response)
            case TextDelta():
                return self._text_delta("text", "response.output_text.delta", event.text, logprobs=[])
            case RefusalDelta():
                return self._text_delta("refusal", "response.refusal.delta", event.text)
            case ReasoningDelta():
                out, item = self._enter("reasoning", "rs")
                item.pieces.append(event.text)
                name = "response.reasoning_summary_text.delta"
                return out + self._item_event(name, item, summary_index=0, delta=event.text)
            case ToolStarted():
                out = self._leave("completed")
                return out + self._enter("call", "fc", call_id=event.id, name=event.name)[0]
            case ArgumentsDelta():
                out, item = self._enter("call", "fc")
                item.pieces.append(event.text)
                return out + self._item_event("response.function_call_arguments.delta", item, delta=event.text)
            case Finished():
                complete = event.finish not in INCOMPLETE_REASONS
                out = self._leave("completed" if complete else "incomplete")
                name = "response.completed" if complete else "response.incomplete"
                return out + self._event(name, response=self._response(event))

    def _text_delta(self, kind: Literal["text", "refusal"], name: str, text: str, **more: object) -> bytes:
        out, item = self._enter(kind, "msg")
        item.pieces.append(text)
        return out + self._item_event(name, item, content_index=0, delta=text, **more)

    def _enter(self, kind: _Kind, prefix: str, call_id: str = "", name: str = "") -> tuple[bytes, _OpenItem]:
        """Return the open item if it is of this kind, else a new one and the events that begin it."""
        if self._open is not None and self._open.kind == kind:
            return b"", self._open
        out = self._leave("completed")
        identity = item_id(prefix, self._reply_id, len(self._output))
        item = self._open = _OpenItem(kind, identity, call_id, name, [])
        out += self._event("response.output_item.added", output_index=len(self._output), item=item.item("in_progress"))
        if kind in {"text", "refusal"}:
            out += self._item_event("response.content_part.added", item, content_index=0, part=item.part(""))
        elif kind == "reasoning":
            part = {"type": "summary_text", "text": ""}
            out += self._item_event("response.reasoning_summary_part.added", item, summary_index=0, part=part)
        return out, item

    def _leave(self, status: Literal["completed", "incomplete"]) -> bytes:
        """Return the events that end the open item, if there is one."""
        item = self._open
        if item is None:
            return b""
        if item.kind == "call" and not item.pieces:
            item.pieces.append("{}")
        out = self._part_done(item)
        whole = item.item(status)
        out += self._event("response.output_item.done", output_index=len(self._output), item=whole)
        self._output.append(whole)
        self._open = None
        return out

    def _part_done(self, item: _OpenItem) -> bytes:
        text = item.text
        match item.kind:
            case "text":
                done = self._item_event("response.output_text.done", item, content_index=0, text=text, logprobs=[])
            case "refusal":
                done = self._item_event("response.refusal.done", item, content_index=0, refusal=text)
            case "reasoning":
                name, part = "response.reasoning_summary_text.done", {"type": "summary_text", "text": text}
                done = self._item_event(name, item, summary_index=0, text=text)
                name = "response.reasoning_summary_part.done"
                return done + self._item_event(name, item, summary_index=0, part=part)
            case "call":
                name = "response.function_call_arguments.done"
                return self._item_event(name, item, name=item.name, arguments=text)
        return done + self._item_event("response.content_part.done", item, content_index=0, part=item.part(text))

    def _response(self, end: Finished | None) -> dict[str, object]:
        return response_object(
            model=self._model, reply_id=self._reply_id, created=self._created, output=self._output, end=end
        )

    def _item_event(self, kind: str, item: _OpenItem, /, **members: object) -> bytes:
        return self._event(kind, item_id=item.id, output_index=len(self._output), **members)

    def _event(self, kind: str, /, **members: object) -> bytes:
        event = {"type": kind, "sequence_number": self.sequence, **members}
        self.sequence += 1
        return sse.encode(kind, msgspec.json.encode(event))
