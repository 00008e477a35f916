"""`POST /v1/messages` and `/v1/messages/count_tokens` as Anthropic speaks them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from dujiang.simulation.exchange import Answer, Ask, Json, Refused, Tool
from dujiang.simulation.requests import (
    cached_input,
    count_input,
    demanded_output,
    field,
    tools_to_call,
    within,
)

_encode = msgspec.json.encode


class Messages:
    """Messages, whole or streamed as Anthropic's named events."""

    dialect = "anthropic"
    id_prefix = "msg_"

    def decode(self, body: Json, headers: Mapping[bytes, bytes]) -> Ask:
        max_tokens = field(body, "max_tokens", "integer", required=True)
        within(max_tokens, 1, 10**9, "max_tokens")
        within(field(body, "temperature", "number"), 0, 1, "temperature")
        within(field(body, "top_p", "number"), 0, 1, "top_p")
        model, tokens = self.count(body, headers)
        tools = _tools(body)
        return Ask(
            body,
            model,
            bool(field(body, "stream", "boolean")),
            tokens,
            cached_tokens=cached_input(headers, tokens),
            max_tokens=max_tokens,
            output_tokens=demanded_output(headers, body),
            tools_called=_tools_called(body, headers, tools),
            answer_schema=_answer_schema(body),
        )

    def count(self, body: Json, headers: Mapping[bytes, bytes]) -> tuple[str, int]:
        """Check what a count and a message have in common; return the model and the input tokens."""
        model = field(body, "model", "string", required=True)
        messages = field(body, "messages", "array", required=True)
        _check_messages(messages)
        system = body.get("system")
        if system is not None and not isinstance(system, (str, list)):
            raise Refused(400, "system: Input should be a string or a list of text blocks")
        return model, count_input(headers, [system, messages], field(body, "tools", "array"))

    def whole(self, answer: Answer) -> bytes:
        content: list[Json] = []
        for part, (tool, text) in enumerate(answer.parts()):
            if tool is None:
                content.append({"type": "text", "text": text, "citations": None})
            else:
                content.append(_tool_use(answer, part, tool, _arguments(text)))
        return _encode(_message(answer, content, _stop_reason(answer), answer.output_tokens))

    def opening(self, answer: Answer) -> bytes:
        message = _message(answer, [], None, min(1, answer.output_tokens))
        return _event({"type": "message_start", "message": message}) + _event({"type": "ping"})

    def delta(self, answer: Answer, first: int, end: int) -> bytes:
        events: list[bytes] = []
        for piece in answer.pieces[first:end]:
            index = piece.part
            if piece.opens:
                block = {"type": "text", "text": ""}
                if piece.tool is not None:
                    block = _tool_use(answer, index, piece.tool, {})
                events.append(_event({"type": "content_block_start", "index": index, "content_block": block}))
            delta = {"type": "text_delta", "text": piece.text}
            if piece.tool is not None:
                delta = {"type": "input_json_delta", "partial_json": piece.text}
            events.append(_event({"type": "content_block_delta", "index": index, "delta": delta}))
            if piece.closes:
                events.append(_event({"type": "content_block_stop", "index": index}))
        return b"".join(events)

    def closing(self, answer: Answer) -> bytes:
        delta = {"stop_reason": _stop_reason(answer), "stop_sequence": None}
        usage = {"output_tokens": answer.output_tokens}
        return _event({"type": "message_delta", "delta": delta, "usage": usage}) + _event({"type": "message_stop"})

    def broken(self, error: Json) -> bytes:
        return _event({"type": "error", "error": error})


def _check_messages(messages: list[Any]) -> None:
    if not messages:
        raise Refused(400, "messages: at least one message is required")
    for i, message in enumerate(messages):
        if not isinstance(message, dict):
            raise Refused(400, f"messages.{i}: Input should be an object")
        role = field(message, "role", "string", f"messages.{i}.", required=True)
        if role not in ("user", "assistant", "system"):
            raise Refused(400, f"messages.{i}.role: Input should be 'user', 'assistant' or 'system'")
        content = message.get("content")
        if not isinstance(content, (str, list)) or not content:
            raise Refused(400, f"messages.{i}.content: Input should be a string or a list of blocks, and not empty")
        for j, block in enumerate(content if isinstance(content, list) else ()):
            if not isinstance(block, dict) or not isinstance(block.get("type"), str):
                raise Refused(400, f"messages.{i}.content.{j}.type: Field required")


def _tools(body: Json) -> list[Tool]:
    tools: list[Tool] = []
    for i, tool in enumerate(field(body, "tools", "array") or ()):
        if not isinstance(tool, dict):
            raise Refused(400, f"tools.{i}: Input should be an object")
        if tool.get("type") in (None, "custom"):
            name = field(tool, "name", "string", f"tools.{i}.", required=True)
            tools.append(Tool(name, field(tool, "input_schema", "object", f"tools.{i}.", required=True)))
    return tools


def _tools_called(body: Json, headers: Mapping[bytes, bytes], tools: list[Tool]) -> list[Tool]:
    wish = field(body, "tool_choice", "object") or {"type": "auto"}
    if body.get("tool_choice") is not None and not body.get("tools"):
        raise Refused(400, "tool_choice: may only be specified while providing tools")
    match wish.get("type"):
        case "none":
            return []
        case "auto" | "any":
            return tools_to_call(headers, tools, None, wish["type"] == "any")
        case "tool":
            return tools_to_call(headers, tools, field(wish, "name", "string", "tool_choice.", required=True), True)
        case _:
            raise Refused(400, "tool_choice.type: Input should be 'auto', 'any', 'tool' or 'none'")


def _answer_schema(body: Json) -> Json | None:
    config = field(body, "output_config", "object") or {}
    wanted = field(config, "format", "object", "output_config.") or field(body, "output_format", "object")
    if wanted is None:
        return None
    if wanted.get("type") != "json_schema":
        raise Refused(400, "output_config.format.type: Input should be 'json_schema'")
    return field(wanted, "schema", "object", "output_config.format.", required=True)


def _arguments(text: str) -> Any:
    try:
        return msgspec.json.decode(text)
    except msgspec.DecodeError:
        return {}  # max_tokens ended the answer within the arguments


def _tool_use(answer: Answer, part: int, name: str, arguments: Any) -> Json:
    return {
        "type": "tool_use",
        "id": f"toolu_{answer.id.rpartition('_')[2]}{part:02d}",
        "name": name,
        "input": arguments,
    }


def _message(answer: Answer, content: list[Json], stop_reason: str | None, output_tokens: int) -> Json:
    ask = answer.ask
    return {
        "id": answer.id,
        "type": "message",
        "role": "assistant",
        "model": ask.model,
        "content": content,
        "stop_reason": stop_reason,
        "stop_sequence": None,
        "usage": {
            "input_tokens": ask.input_tokens - ask.cached_tokens,
            "cache_creation_input_tokens": 0,
            "cache_read_input_tokens": ask.cached_tokens,
            "output_tokens": output_tokens,
            "service_tier": "standard",
        },
    }


def _stop_reason(answer: Answer) -> str:
    if answer.cut_short[0]:
        return "max_tokens"
    return "tool_use" if answer.ask.tools_called else "end_turn"


def _event(event: Json) -> bytes:
    return b"event: %b\ndata: %b\n\n" % (event["type"].encode(), _encode(event))
