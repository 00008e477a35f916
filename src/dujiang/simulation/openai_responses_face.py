"""`/v1/responses` as OpenAI speaks it, with the last answers kept in memory."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping
from typing import Any

import msgspec

from dujiang.simulation.exchange import Answer, Ask, Json, Piece, Refused, Tool
from dujiang.simulation.requests import cached_input, choose_tools, count_input, demanded_output, field, within

_encode = msgspec.json.encode
_MOST_STORED = 1_000


class Responses:
    """Responses, whole or streamed as numbered events; the last thousand that ask for it are stored."""

    dialect = "openai"
    id_prefix = "resp_"

    def __init__(self) -> None:
        self._stored: OrderedDict[str, Json] = OrderedDict()

    def decode(self, body: Json, headers: Mapping[bytes, bytes]) -> Ask:
        model = field(body, "model", "string", required=True)
        given = body.get("input")
        if not isinstance(given, (str, list)):
            code = "missing_required_parameter" if given is None else "invalid_type"
            raise Refused(400, "'input' is required: a string or an array of items.", code=code, param="input")
        for i, item in enumerate(given if isinstance(given, list) else ()):
            if not isinstance(item, dict):
                raise Refused(400, f"Invalid type for 'input[{i}]': expected an object.", code="invalid_type",
                              param=f"input[{i}]")  # fmt: skip
        for name in ("background", "conversation", "prompt"):
            if body.get(name):
                raise Refused(400, f"This simulated vendor knows no '{name}'; leave it out.", param=name)
        most = field(body, "max_output_tokens", "integer")
        within(most, 1, 10**9, "max_output_tokens")
        within(field(body, "temperature", "number"), 0, 2, "temperature")
        within(field(body, "top_p", "number"), 0, 1, "top_p")
        tokens = count_input(headers, [body.get("instructions"), given], field(body, "tools", "array"))
        previous = field(body, "previous_response_id", "string")
        if previous is not None:
            told = b"x-simulate-input-tokens" in headers
            tokens += 0 if told else self.retrieve(previous, "previous_response_id")["usage"]["total_tokens"]
        return Ask(
            body,
            model,
            bool(field(body, "stream", "boolean")),
            tokens,
            cached_tokens=cached_input(headers, tokens),
            max_tokens=most,
            output_tokens=demanded_output(headers, body),
            tools_called=choose_tools(body, headers, _tools(body), "name"),
            answer_schema=_answer_schema(body),
        )

    def whole(self, answer: Answer) -> bytes:
        return _encode(self._finished(answer))

    def opening(self, answer: Answer) -> bytes:
        response = _response(answer, "in_progress", [])
        return _event(answer, "response.created", response=response) + _event(
            answer, "response.in_progress", response=response
        )

    def delta(self, answer: Answer, first: int, end: int) -> bytes:
        return b"".join(
            (_call_events if piece.tool is not None else _text_events)(answer, piece)
            for piece in answer.pieces[first:end]
        )

    def closing(self, answer: Answer) -> bytes:
        response = self._finished(answer)
        return _event(answer, f"response.{response['status']}", response=response)

    def broken(self, error: Json) -> bytes:
        event = {"type": "error", "code": error["code"], "message": error["message"], "param": error["param"]}
        return b"event: error\ndata: " + _encode({**event, "sequence_number": 0}) + b"\n\n"

    def retrieve(self, response_id: str, param: str | None = None) -> Json:
        """Return a stored response; raises Refused (400 where a parameter names it, else 404)."""
        stored = self._stored.get(response_id)
        if stored is not None:
            return stored
        if param is not None:
            raise Refused(400, f"Previous response with id '{response_id}' not found.",
                          code="previous_response_not_found", param=param)  # fmt: skip
        raise Refused(404, f"Response with id '{response_id}' not found.", param="id")

    def delete(self, response_id: str) -> Json:
        """Forget a stored response; raises Refused (404)."""
        self.retrieve(response_id)
        del self._stored[response_id]
        return {"id": response_id, "object": "response", "deleted": True}

    def _finished(self, answer: Answer) -> Json:
        status = "incomplete" if answer.cut_short[0] else "completed"
        parts = answer.parts()
        output = [_item(answer, i, tool, text, status) for i, (tool, text) in enumerate(parts)]
        response = _response(answer, status, output)
        if answer.ask.body.get("store") is not False:
            self._stored[answer.id] = response
            while len(self._stored) > _MOST_STORED:
                self._stored.popitem(last=False)
        return response


def _tools(body: Json) -> list[Tool]:
    tools: list[Tool] = []
    for i, tool in enumerate(field(body, "tools", "array") or ()):
        if not isinstance(tool, dict):
            raise Refused(400, f"Invalid type for 'tools[{i}]': expected an object.", code="invalid_type",
                          param=f"tools[{i}]")  # fmt: skip
        if field(tool, "type", "string", f"tools[{i}].", required=True) == "function":
            name = field(tool, "name", "string", f"tools[{i}].", required=True)
            tools.append(Tool(name, field(tool, "parameters", "object", f"tools[{i}].") or {"type": "object"}))
    return tools


def _answer_schema(body: Json) -> Json | None:
    text = field(body, "text", "object") or {}
    wanted = field(text, "format", "object", "text.") or {"type": "text"}
    match wanted.get("type"):
        case "text":
            return None
        case "json_object":
            return {"type": "object", "required": ["answer"], "properties": {"answer": {"type": "string"}}}
        case "json_schema":
            field(wanted, "name", "string", "text.format.", required=True)
            return field(wanted, "schema", "object", "text.format.", required=True)
        case other:
            raise Refused(400, f"Invalid value: {other!r}.", code="invalid_value", param="text.format.type")


def _item_id(answer: Answer, part: int, tool: str | None) -> str:
    return f"{'msg' if tool is None else 'fc'}_{answer.id.rpartition('_')[2]}{part:02d}"


def _item(answer: Answer, part: int, tool: str | None, text: str, status: str) -> Json:
    if tool is None:
        content = [_text_part(text)] if status != "in_progress" else []
        return {"id": _item_id(answer, part, tool), "type": "message", "role": "assistant", "status": status,
                "content": content}  # fmt: skip
    call_id = f"call_{answer.id.rpartition('_')[2]}{part:02d}"
    return {"id": _item_id(answer, part, tool), "type": "function_call", "call_id": call_id, "name": tool,
            "arguments": text, "status": status}  # fmt: skip


def _text_part(text: str) -> Json:
    return {"type": "output_text", "text": text, "annotations": [], "logprobs": []}


def _response(answer: Answer, status: str, output: list[Json]) -> Json:
    ask, body = answer.ask, answer.ask.body
    usage: Json | None = None
    if status != "in_progress":
        usage = {
            "input_tokens": ask.input_tokens,
            "input_tokens_details": {"cached_tokens": ask.cached_tokens, "cache_write_tokens": 0},
            "output_tokens": answer.output_tokens,
            "output_tokens_details": {"reasoning_tokens": 0},
            "total_tokens": ask.input_tokens + answer.output_tokens,
        }
    echoed = ("instructions", "max_output_tokens", "previous_response_id", "user", "metadata", "temperature",
              "top_p", "reasoning", "truncation")  # fmt: skip
    return {
        "id": answer.id,
        "object": "response",
        "created_at": answer.created_s,
        "status": status,
        "background": False,
        "error": None,
        "incomplete_details": {"reason": "max_output_tokens"} if status == "incomplete" else None,
        "model": ask.model,
        "output": output,
        "parallel_tool_calls": body.get("parallel_tool_calls", True),
        "service_tier": "default",
        "store": body.get("store") is not False,
        "text": body.get("text") or {"format": {"type": "text"}},
        "tool_choice": body.get("tool_choice") or "auto",
        "tools": body.get("tools") or [],
        "usage": usage,
        **{name: body.get(name) for name in echoed},
    }


def _text_events(answer: Answer, piece: Piece) -> bytes:
    at: Json = {"item_id": _item_id(answer, piece.part, None), "output_index": piece.part, "content_index": 0}
    events = b""
    if piece.opens:
        item = _item(answer, piece.part, None, "", "in_progress")
        events += _event(answer, "response.output_item.added", output_index=piece.part, item=item)
        events += _event(answer, "response.content_part.added", **at, part=_text_part(""))
    events += _event(answer, "response.output_text.delta", **at, delta=piece.text, logprobs=[])
    if piece.closes:
        text = answer.parts()[piece.part][1]
        events += _event(answer, "response.output_text.done", **at, text=text, logprobs=[])
        events += _event(answer, "response.content_part.done", **at, part=_text_part(text))
        events += _item_done(answer, piece, text)
    return events


def _call_events(answer: Answer, piece: Piece) -> bytes:
    at: Json = {"item_id": _item_id(answer, piece.part, piece.tool), "output_index": piece.part}
    events = b""
    if piece.opens:
        item = _item(answer, piece.part, piece.tool, "", "in_progress")
        events += _event(answer, "response.output_item.added", output_index=piece.part, item=item)
    events += _event(answer, "response.function_call_arguments.delta", **at, delta=piece.text)
    if piece.closes:
        text = answer.parts()[piece.part][1]
        events += _event(answer, "response.function_call_arguments.done", **at, name=piece.tool, arguments=text)
        events += _item_done(answer, piece, text)
    return events


def _item_done(answer: Answer, piece: Piece, text: str) -> bytes:
    ended = answer.cut_short[0] and piece is answer.pieces[-1]
    item = _item(answer, piece.part, piece.tool, text, "incomplete" if ended else "completed")
    return _event(answer, "response.output_item.done", output_index=piece.part, item=item)


def _event(answer: Answer, kind: str, /, **content: Any) -> bytes:
    event = {"type": kind, "sequence_number": answer.events, **content}
    answer.events += 1
    return b"event: %b\ndata: %b\n\n" % (kind.encode(), _encode(event))
