"""Anthropic messages: requests. Source: Anthropic's API reference and SDK types, `POST /v1/messages`."""

from __future__ import annotations

import re

import msgspec

from dujiang.errors import InvalidRequest
from dujiang.protocols.conversation import (
    Document,
    Image,
    Message,
    Part,
    Refusal,
    Request,
    ResponseFormat,
    Text,
    Tool,
    ToolChoice,
    ToolResult,
    ToolUse,
    base64_of_text,
    text_of_base64,
)
from dujiang.protocols.fields import Fields, no_counterpart

NAMES = {
    "stop": "stop_sequences",
    "temperature": "temperature",
    "format": "output_config.format",
    "reasoning_effort": "output_config.effort",
}
_DROPPED = ("model", "service_tier", "cache_control", "speed", "diagnostics")
_IMAGE_TYPES = frozenset({"image/jpeg", "image/png", "image/gif", "image/webp"})
_EFFORTS = frozenset({"low", "medium", "high", "xhigh", "max"})
_LOW_BUDGET_TOKENS = 2048
_MEDIUM_BUDGET_TOKENS = 8192


def decode_request(body: bytes, target: str) -> Request:
    """Read a messages request; `target` is the name of the dialect it is to be put into, for refusals."""
    fields = Fields.of_body(body)
    fields.drop(*_DROPPED)
    budget_effort = _thinking_effort(fields.inner("thinking"), target)
    output = fields.inner("output_config")
    effort = output.text("effort") if output else None
    wanted = _format(output.inner("format"), target) if output else None
    if output:
        output.refuse_rest(target)
    metadata = fields.inner("metadata")
    parallel, choice = _tool_choice(fields.inner("tool_choice"), target)
    messages = [message for item in _required_items(fields) for message in _messages(item, target)]
    request = Request(
        system=_system(fields, target),
        messages=messages,
        tools=[_tool(item, target) for item in fields.items("tools")],
        tool_choice=choice,
        parallel_tool_calls=parallel,
        max_output_tokens=fields.integer("max_tokens", at_least=1),
        temperature=fields.number("temperature"),
        top_p=fields.number("top_p"),
        stop=fields.texts("stop_sequences"),
        format=wanted,
        reasoning_effort=effort or budget_effort,
        end_user=metadata.text("user_id") if metadata else None,
        stream=fields.boolean("stream") or False,
        names=NAMES,
    )
    if request.max_output_tokens is None:
        raise InvalidRequest("max_tokens is required.", param="max_tokens")
    fields.refuse_rest(target)
    return request


def _required_items(fields: Fields) -> list[Fields]:
    items = list(fields.items("messages"))
    if not items:
        raise InvalidRequest("messages must be a list with at least one message.", param="messages")
    return items


def _thinking_effort(fields: Fields | None, target: str) -> str | None:
    """Return the effort that a budget of thinking tokens comes to; what else is said leaves it to the model."""
    if fields is None:
        return None
    kind = fields.required_text("type")
    budget = fields.integer("budget_tokens")
    fields.drop("display")
    fields.refuse_rest(target)
    if kind != "enabled" or budget is None:
        return None
    if budget <= _LOW_BUDGET_TOKENS:
        return "low"
    return "medium" if budget <= _MEDIUM_BUDGET_TOKENS else "high"


def _format(fields: Fields | None, target: str) -> ResponseFormat | None:
    if fields is None:
        return None
    if fields.required_text("type") != "json_schema":
        raise no_counterpart(fields.path_of("type"), target, "use json_schema")
    wanted = ResponseFormat("json_schema", schema=fields.members("schema") or {}, strict=True)
    fields.refuse_rest(target)
    return wanted


def _system(fields: Fields, target: str) -> list[Text]:
    parts = _blocks_of(fields.take("system"), "system", target)
    return [part for part in parts if isinstance(part, Text)]


def _messages(item: Fields, target: str) -> list[Message]:
    """Read one message; the results of tools in it become a message of their own before the rest."""
    role = item.required_text("role")
    if role not in {"user", "assistant", "system"}:
        raise item.wrong("role", "user, assistant or system")
    parts = _blocks_of(item.require("content"), item.path_of("content"), target)
    item.refuse_rest(target)
    results: list[Part] = [part for part in parts if isinstance(part, ToolResult)]
    rest: list[Part] = [part for part in parts if not isinstance(part, ToolResult)]
    messages = [Message("tool", results, item.path)] if results else []
    if rest or not results:
        kind = "system" if role == "system" else "assistant" if role == "assistant" else "user"
        messages.append(Message(kind, [*rest], item.path))
    return messages


def _blocks_of(contents: object, where: str, target: str) -> list[Part]:
    if contents is None:
        return []
    if isinstance(contents, str):
        return [Text(contents, where)]
    if not isinstance(contents, list):
        raise InvalidRequest(f"{where} must be a string or a list of blocks.", param=where)
    blocks = (_block(Fields(block, f"{where}[{i}]"), target) for i, block in enumerate(contents))
    return [block for block in blocks if block is not None]


def _block(block: Fields, target: str) -> Part | None:
    kind = block.required_text("type")
    block.drop("cache_control")
    match kind:
        case "text":
            block.drop("citations")
            read: Part = Text(block.required_text("text"), block.path)
        case "image":
            block.drop("transformations")
            read = _image(block.required_inner("source"), target)
        case "document":
            read = _document(block, target)
        case "tool_use":
            block.drop("caller", "toolset_name")
            arguments = msgspec.json.encode(block.members("input") or {}).decode()
            read = ToolUse(block.required_text("id"), block.required_text("name"), arguments, block.path)
        case "tool_result":
            block.drop("is_error", "toolset_name")
            parts: list[Text | Image | Document] = []
            for part in _blocks_of(block.take("content"), block.path_of("content"), target):
                if not isinstance(part, Text | Image | Document):
                    raise no_counterpart(part.where, target, "a tool's result may hold text, images, documents")
                parts.append(part)
            read = ToolResult(block.required_text("tool_use_id"), parts, block.path)
        case "thinking" | "redacted_thinking":
            return None  # only the vendor that thought it can read it
        case _:
            raise no_counterpart(block.path_of("type"), target)
    block.refuse_rest(target)
    return read


def _image(source: Fields, target: str) -> Image:
    kind = source.required_text("type")
    match kind:
        case "base64":
            media_type, data = source.required_text("media_type"), source.required_text("data")
            return Image(media_type=media_type, data=data, where=source.path)
        case "url":
            return Image(url=source.required_text("url"), where=source.path)
        case _:
            raise no_counterpart(source.path_of("type"), target, "send the picture itself, or its address")


def _document(block: Fields, target: str) -> Document:
    source = block.required_inner("source")
    name = block.text("title")
    citations = block.inner("citations")
    if citations is not None:
        citations.refuse_unless("enabled", target, False)
    match source.required_text("type"):
        case "base64":
            media_type, data = source.required_text("media_type"), source.required_text("data")
            return Document(media_type=media_type, data=data, name=name, where=source.path)
        case "text":
            data = base64_of_text(source.required_text("data"))
            return Document(media_type="text/plain", data=data, name=name or "document.txt", where=source.path)
        case "url":
            return Document(url=source.required_text("url"), name=name, where=source.path)
        case _:
            raise no_counterpart(source.path_of("type"), target, "send the document itself")


def _tool(item: Fields, target: str) -> Tool:
    if item.text("type") not in {None, "custom"}:
        raise no_counterpart(item.path_of("type"), target, "only tools with an input_schema can be translated")
    item.drop("cache_control", "eager_input_streaming")
    item.refuse_unless("defer_loading", target, False)
    item.refuse_unless("allowed_callers", target, ["direct"])
    tool = Tool(
        name=item.required_text("name"),
        description=item.text("description"),
        parameters=item.members("input_schema"),
        strict=item.boolean("strict"),
    )
    item.refuse_rest(target)
    return tool


def _tool_choice(fields: Fields | None, target: str) -> tuple[bool | None, ToolChoice | None]:
    """Return whether tools may be called in parallel, and which tool may be called."""
    if fields is None:
        return None, None
    parallel = False if fields.boolean("disable_parallel_tool_use") else None
    match fields.required_text("type"):
        case "auto":
            choice = ToolChoice("auto")
        case "any":
            choice = ToolChoice("required")
        case "none":
            choice = ToolChoice("none")
        case "tool":
            choice = ToolChoice("tool", fields.required_text("name"))
        case _:
            raise fields.wrong("type", "auto, any, tool or none")
    fields.refuse_rest(target)
    return parallel, choice


def encode_request(request: Request, model: str, max_output_tokens_default: int) -> bytes:
    """Write a messages request; this dialect must be told how long an answer may be.

    Raises InvalidRequest for what messages has no word for: any JSON object as a format, recordings, verbosity,
    temperatures over 1, files other than PDF and plain text, pictures other than JPEG, PNG, GIF and WebP.
    """
    if request.verbosity not in {None, "medium"}:
        raise no_counterpart(request.names.get("verbosity", "verbosity"), "messages")
    if request.temperature is not None and not 0 <= request.temperature <= 1:
        name = request.names.get("temperature", "temperature")
        raise no_counterpart(name, "messages", "it goes from 0 to 1 there")
    body: dict[str, object] = {
        "model": model,
        "max_tokens": request.max_output_tokens or max_output_tokens_default,
        "messages": _encoded_messages(request.messages),
    }
    optional: dict[str, object] = {
        "system": _encoded_system(request.system),
        "tools": [_encoded_tool(tool) for tool in request.tools] or None,
        "tool_choice": _encoded_choice(request) if request.tools else None,
        "temperature": request.temperature,
        "top_p": request.top_p,
        "stop_sequences": request.stop or None,
        "output_config": _encoded_output(request),
        "thinking": {"type": "disabled"} if request.reasoning_effort == "none" else None,
        "metadata": {"user_id": request.end_user} if request.end_user else None,
        "stream": request.stream or None,
    }
    body.update((name, value) for name, value in optional.items() if value is not None)
    return msgspec.json.encode(body)


def _encoded_system(system: list[Text]) -> str | list[dict[str, object]] | None:
    texts = [part.text for part in system if part.text]
    if len(texts) == 1:
        return texts[0]
    return [{"type": "text", "text": text} for text in texts] or None


def _encoded_messages(messages: list[Message]) -> list[dict[str, object]]:
    """Write the messages; neighbours of one role become one, in which the results of tools come first."""
    encoded: list[tuple[str, list[Part]]] = []
    for message in messages:
        role = "user" if message.role == "tool" else message.role
        parts = [part for part in message.parts if not (isinstance(part, Text | Refusal) and not part.text)]
        if not parts:
            continue  # this dialect refuses empty text
        if encoded and encoded[-1][0] == role:
            encoded[-1][1].extend(parts)
        else:
            encoded.append((role, parts))
    for role, parts in encoded:
        if role == "user":
            parts.sort(key=lambda part: not isinstance(part, ToolResult))
    return [{"role": role, "content": _encoded_content(parts)} for role, parts in encoded]


def _encoded_content(parts: list[Part]) -> str | list[dict[str, object]]:
    if len(parts) == 1 and isinstance(parts[0], Text):
        return parts[0].text
    return [_encoded_part(part) for part in parts]


def _encoded_part(part: Part) -> dict[str, object]:
    match part:
        case Text() | Refusal():
            return {"type": "text", "text": part.text}
        case Image():
            return {"type": "image", "source": _encoded_image(part)}
        case Document():
            return _encoded_document(part)
        case ToolUse():
            return {"type": "tool_use", "id": tool_id(part.id), "name": part.name, "input": _input_of(part)}
        case ToolResult():
            content = [_encoded_part(inner) for inner in part.parts if not (isinstance(inner, Text) and not inner.text)]
            result: dict[str, object] = {"type": "tool_result", "tool_use_id": tool_id(part.id)}
            if content:
                plain = len(part.parts) == 1 and isinstance(part.parts[0], Text)
                result["content"] = content[0]["text"] if plain else content
            return result
        case _:
            raise no_counterpart(part.where, "messages")


def tool_id(call_id: str) -> str:
    """Return the id of a tool call in the letters that this dialect allows."""
    return re.sub(r"[^a-zA-Z0-9_-]", "_", call_id)


def _input_of(use: ToolUse) -> object:
    try:
        arguments = msgspec.json.decode(use.arguments)
    except (msgspec.MsgspecError, RecursionError):
        arguments = None
    if not isinstance(arguments, dict):
        raise InvalidRequest(f"{use.where} must be a JSON object in a string.", param=use.where)
    return arguments


def _encoded_image(part: Image) -> dict[str, object]:
    if part.data is not None:
        if part.media_type not in _IMAGE_TYPES:
            raise no_counterpart(part.where, "messages", f"send one of {', '.join(sorted(_IMAGE_TYPES))}")
        return {"type": "base64", "media_type": part.media_type, "data": part.data}
    if part.url is None:
        raise no_counterpart(part.where, "messages", "send the picture itself, or its address")
    return {"type": "url", "url": part.url}


def _encoded_document(part: Document) -> dict[str, object]:
    if part.data is None:
        if part.url is None:
            raise no_counterpart(part.where, "messages", "send the file itself, or its address")
        source: dict[str, object] = {"type": "url", "url": part.url}
    elif part.media_type == "application/pdf":
        source = {"type": "base64", "media_type": part.media_type, "data": part.data}
    elif part.media_type == "text/plain":
        text = text_of_base64(part.data, part.where)
        source = {"type": "text", "media_type": "text/plain", "data": text}
    else:
        raise no_counterpart(part.where, "messages", "send a PDF or plain text")
    block: dict[str, object] = {"type": "document", "source": source}
    if part.name is not None:
        block["title"] = part.name
    return block


def _encoded_tool(tool: Tool) -> dict[str, object]:
    encoded: dict[str, object] = {
        "name": tool.name,
        "input_schema": tool.parameters or {"type": "object", "properties": {}},
    }
    if tool.description is not None:
        encoded["description"] = tool.description
    if tool.strict:
        encoded["strict"] = True
    return encoded


def _encoded_choice(request: Request) -> dict[str, object] | None:
    choice = request.tool_choice
    serial = {"disable_parallel_tool_use": True} if request.parallel_tool_calls is False else {}
    match choice.mode if choice is not None else None:
        case "none":
            return {"type": "none"}
        case "required":
            return {"type": "any", **serial}
        case "tool" if choice is not None:
            return {"type": "tool", "name": choice.name, **serial}
        case "auto":
            return {"type": "auto", **serial}
        case _:
            return {"type": "auto", **serial} if serial else None


def _encoded_output(request: Request) -> dict[str, object] | None:
    output: dict[str, object] = {}
    if request.format is not None:
        if request.format.kind == "json_object":
            name = f"{request.names.get('format', 'format')}.type"
            raise no_counterpart(name, "messages", "use json_schema")
        output["format"] = {"type": "json_schema", "schema": request.format.schema}
    effort = "low" if request.reasoning_effort == "minimal" else request.reasoning_effort
    if effort is not None and effort != "none":
        if effort not in _EFFORTS:
            name = request.names.get("reasoning_effort", "reasoning_effort")
            raise no_counterpart(name, "messages", f"use one of {', '.join(sorted(_EFFORTS))}")
        output["effort"] = effort
    return output or None
