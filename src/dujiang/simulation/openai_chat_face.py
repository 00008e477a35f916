"""`POST /v1/chat/completions` as OpenAI speaks it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from dujiang.simulation.exchange import Answer, Ask, Json, Piece, Refused, Tool
from dujiang.simulation.requests import (
    cached_input,
    choose_tools,
    count_input,
    demanded_output,
    field,
    within,
)

_encode = msgspec.json.encode
_ROLES = frozenset({"system", "developer", "user", "assistant", "tool", "function"})
_MOST_CHOICES = 128


class Chat:
    """Chat completions, whole or streamed."""

    dialect = "openai"
    id_prefix = "chatcmpl-"

    def decode(self, body: Json, headers: Mapping[bytes, bytes]) -> Ask:
        model = field(body, "model", "string", required=True)
        messages = field(body, "messages", "array", required=True)
        _check_messages(messages)
        stream = bool(field(body, "stream", "boolean"))
        options = field(body, "stream_options", "object")
        if options is not None and not stream:
            raise Refused(
                400,
                "The 'stream_options' parameter is only allowed when 'stream' is enabled.",
                param="stream_options",
            )
        choices = field(body, "n", "integer")
        within(choices, 1, _MOST_CHOICES, "n")
        within(field(body, "temperature", "number"), 0, 2, "temperature")
        within(field(body, "top_p", "number"), 0, 1, "top_p")
        limits = [field(body, name, "integer") for name in ("max_completion_tokens", "max_tokens")]
        for limit, name in zip(limits, ("max_completion_tokens", "max_tokens"), strict=True):
            within(limit, 1, 10**9, name)
        tools = _tools(body)
        tokens = count_input(headers, [messages], body.get("tools"))
        return Ask(
            body,
            model,
            stream,
            tokens,
            cached_tokens=cached_input(headers, tokens),
            max_tokens=next((limit for limit in limits if limit is not None), None),
            output_tokens=demanded_output(headers, body),
            choices=choices or 1,
            tools_called=choose_tools(body, headers, tools, "function.name"),
            answer_schema=_answer_schema(body),
        )

    def whole(self, answer: Answer) -> bytes:
        body = answer.ask.body
        choices: list[Json] = []
        for choice in range(answer.ask.choices):
            message: Json = {"role": "assistant", "content": None, "refusal": None, "annotations": []}
            parts = answer.parts(choice)
            calls = [
                {"id": _call_id(answer, choice, i), "type": "function", "function": {"name": tool, "arguments": text}}
                for i, (tool, text) in enumerate(parts)
                if tool is not None
            ]
            text = "".join(text for tool, text in parts if tool is None)
            if calls:
                message["tool_calls"] = calls
            elif "audio" in (body.get("modalities") or ()):
                message["audio"] = _audio(answer, text)
            else:
                message["content"] = text
            logprobs = _logprobs(body, [p for p in answer.pieces if p.choice == choice]) if not calls else None
            choices.append(
                {
                    "index": choice,
                    "message": message,
                    "logprobs": logprobs,
                    "finish_reason": _finish_reason(answer, choice),
                }
            )
        return _encode(
            {
                "id": answer.id,
                "object": "chat.completion",
                "created": answer.created_s,
                "model": answer.ask.model,
                "choices": choices,
                "usage": _usage(answer),
                "service_tier": "default",
                "system_fingerprint": "fp_simulated",
            }
        )

    def opening(self, answer: Answer) -> bytes:
        first: Json = {"role": "assistant", "content": None if answer.ask.tools_called else "", "refusal": None}
        return b"".join(_chunk(answer, [_choice(i, first)]) for i in range(answer.ask.choices))

    def delta(self, answer: Answer, first: int, end: int) -> bytes:
        return b"".join(_chunk(answer, [_piece_choice(answer, piece)]) for piece in answer.pieces[first:end])

    def closing(self, answer: Answer) -> bytes:
        events = [_chunk(answer, [_choice(i, {}, _finish_reason(answer, i))]) for i in range(answer.ask.choices)]
        if _usage_wanted(answer):
            events.append(_chunk(answer, [], _usage(answer)))
        events.append(b"data: [DONE]\n\n")
        return b"".join(events)

    def broken(self, error: Json) -> bytes:
        return b"data: " + _encode({"error": error}) + b"\n\n"


def _check_messages(messages: list[Any]) -> None:
    if not messages:
        raise Refused(400, "Invalid 'messages': empty array. Expected an array with minimum length 1.",
                      code="empty_array", param="messages")  # fmt: skip
    for i, message in enumerate(messages):
        path = f"messages[{i}]"
        if not isinstance(message, dict):
            raise Refused(400, f"Invalid type for '{path}': expected an object.", code="invalid_type", param=path)
        role = field(message, "role", "string", f"{path}.", required=True)
        if role not in _ROLES:
            raise Refused(400, f"Invalid value: '{role}'. Supported values are: {', '.join(sorted(_ROLES))}.",
                          code="invalid_value", param=f"{path}.role")  # fmt: skip
        content = message.get("content")
        if content is None and role in ("assistant", "function"):
            continue
        if not isinstance(content, (str, list)):
            raise Refused(400, f"Invalid type for '{path}.content': expected one of a string or array of objects.",
                          code="invalid_type", param=f"{path}.content")  # fmt: skip
        for j, part in enumerate(content if isinstance(content, list) else ()):
            if not isinstance(part, dict) or not isinstance(part.get("type"), str):
                where = f"{path}.content[{j}]"
                raise Refused(400, f"Invalid type for '{where}': expected an object with a 'type'.",
                              code="invalid_type", param=where)  # fmt: skip
        if role == "tool":
            field(message, "tool_call_id", "string", f"{path}.", required=True)


def _tools(body: Json) -> list[Tool]:
    tools: list[Tool] = []
    for i, tool in enumerate(field(body, "tools", "array") or ()):
        if not isinstance(tool, dict) or tool.get("type") not in ("function", "custom"):
            raise Refused(400, f"Invalid value for 'tools[{i}].type': expected 'function'.", code="invalid_value",
                          param=f"tools[{i}].type")  # fmt: skip
        if tool["type"] == "function":
            function = field(tool, "function", "object", f"tools[{i}].", required=True)
            name = field(function, "name", "string", f"tools[{i}].function.", required=True)
            tools.append(
                Tool(name, field(function, "parameters", "object", f"tools[{i}].function.") or {"type": "object"})
            )
    return tools


def _answer_schema(body: Json) -> Json | None:
    wanted = field(body, "response_format", "object")
    if wanted is None:
        return None
    match wanted.get("type"):
        case "text":
            return None
        case "json_object":
            return {"type": "object", "required": ["answer"], "properties": {"answer": {"type": "string"}}}
        case "json_schema":
            schema = field(wanted, "json_schema", "object", "response_format.", required=True)
            field(schema, "name", "string", "response_format.json_schema.", required=True)
            return field(schema, "schema", "object", "response_format.json_schema.") or {"type": "object"}
        case other:
            raise Refused(
                400,
                f"Invalid value: {other!r}. Supported values are: 'json_object', 'json_schema', and 'text'.",
                code="invalid_value",
                param="response_format.type",
            )


def _usage_wanted(answer: Answer) -> bool:
    options = answer.ask.body.get("stream_options")
    return isinstance(options, dict) and options.get("include_usage") is True


def _usage(answer: Answer) -> Json:
    ask, output = answer.ask, answer.output_tokens
    return {
        "prompt_tokens": ask.input_tokens,
        "completion_tokens": output,
        "total_tokens": ask.input_tokens + output,
        "prompt_tokens_details": {"cached_tokens": ask.cached_tokens, "audio_tokens": 0},
        "completion_tokens_details": {
            "reasoning_tokens": 0,
            "audio_tokens": 0,
            "accepted_prediction_tokens": 0,
            "rejected_prediction_tokens": 0,
        },
    }


def _finish_reason(answer: Answer, choice: int) -> str:
    if answer.cut_short[choice]:
        return "length"
    return "tool_calls" if answer.ask.tools_called else "stop"


def _call_id(answer: Answer, choice: int, part: int) -> str:
    return f"call_{answer.id.rpartition('-')[2]}{choice:02d}{part:02d}"


def _choice(index: int, delta: Json, finish_reason: str | None = None, logprobs: Json | None = None) -> Json:
    return {"index": index, "delta": delta, "logprobs": logprobs, "finish_reason": finish_reason}


def _piece_choice(answer: Answer, piece: Piece) -> Json:
    if piece.tool is None:
        if "audio" in (answer.ask.body.get("modalities") or ()):
            return _choice(piece.choice, {"audio": {"id": f"audio_{answer.id}", "transcript": piece.text}})
        return _choice(piece.choice, {"content": piece.text}, None, _logprobs(answer.ask.body, [piece]))
    call: Json = {"index": piece.part, "function": {"arguments": piece.text}}
    if piece.opens:
        call = {
            "index": piece.part,
            "id": _call_id(answer, piece.choice, piece.part),
            "type": "function",
            "function": {"name": piece.tool, "arguments": piece.text},
        }
    return _choice(piece.choice, {"tool_calls": [call]})


def _chunk(answer: Answer, choices: list[Json], usage: Json | None = None) -> bytes:
    chunk: Json = {
        "id": answer.id,
        "object": "chat.completion.chunk",
        "created": answer.created_s,
        "model": answer.ask.model,
        "service_tier": "default",
        "system_fingerprint": "fp_simulated",
        "choices": choices,
    }
    if usage is not None or _usage_wanted(answer):
        chunk["usage"] = usage
    return b"data: " + _encode(chunk) + b"\n\n"


def _logprobs(body: Json, pieces: list[Piece]) -> Json | None:
    if body.get("logprobs") is not True:
        return None
    others = body.get("top_logprobs") or 0
    content: list[Json] = []
    for piece in pieces:
        raw = list(piece.text.encode())
        top = [{"token": piece.text, "logprob": -0.1 - i, "bytes": raw} for i in range(others)]
        content.append({"token": piece.text, "logprob": -0.1, "bytes": raw, "top_logprobs": top})
    return {"content": content, "refusal": None}


def _audio(answer: Answer, transcript: str) -> Json:
    # Shape only: half a second of silence, 8 kHz PCM16, base64 ("AAAA" is three zero bytes).
    return {
        "id": f"audio_{answer.id}",
        "data": "AAAA" * 2666,
        "expires_at": answer.created_s + 3600,
        "transcript": transcript,
    }
