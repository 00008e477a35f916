"""OpenAI responses: requests. Source: OpenAI's OpenAPI document, `POST /responses`."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal

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
    joined_text,
    split_system,
)
from dujiang.protocols.fields import Fields, no_counterpart
from dujiang.protocols.openai_parts import (
    HINTS,
    document_of,
    encoded_file,
    encoded_image_url,
    encoded_schema,
    image_of_url,
    schema_format,
)

NAMES = {
    "temperature": "temperature",
    "format": "text.format",
    "verbosity": "text.verbosity",
    "reasoning_effort": "reasoning.effort",
}
_DROPPED = ("model", "stream_options", "prompt_cache_options", "max_tool_calls")
_STATE = {
    "previous_response_id": "send the whole conversation in `input`",
    "conversation": "send the whole conversation in `input`",
    "prompt": "send `instructions` and `input`",
}


def decode_request(body: bytes, target: str) -> Request:
    """Read a responses request; `target` is the name of the dialect it is to be put into, for refusals.

    State that the vendor would have to keep (`previous_response_id`, `conversation`, `store: true`,
    `background`, `prompt`) is refused: only a vendor that speaks this dialect keeps it.
    """
    fields = Fields.of_body(body)
    fields.drop(*_DROPPED)
    for name, remedy in _STATE.items():
        if fields.take(name) is not None:
            raise no_counterpart(name, target, remedy)
    fields.refuse_unless("store", target, False)
    fields.refuse_unless("background", target, False)
    fields.refuse_unless("truncation", target, "disabled")
    fields.refuse_unless("top_logprobs", target, 0)
    _refuse_includes(fields, target)
    instructions = fields.text("instructions")
    system, messages = split_system(_input(fields, target))
    if instructions:
        system.insert(0, Text(instructions, "instructions"))
    text = fields.inner("text")
    request = Request(
        system=system,
        messages=messages,
        tools=[_tool(item, target) for item in fields.items("tools")],
        tool_choice=_tool_choice(fields, target),
        parallel_tool_calls=fields.boolean("parallel_tool_calls"),
        max_output_tokens=fields.integer("max_output_tokens", at_least=1),
        temperature=fields.number("temperature"),
        top_p=fields.number("top_p"),
        format=_format(text.inner("format"), target) if text else None,
        verbosity=text.text("verbosity") if text else None,
        reasoning_effort=_reasoning_effort(fields.inner("reasoning"), target),
        end_user=fields.text("user"),
        hints={name: value for name in HINTS if (value := fields.take(name)) is not None},
        stream=fields.boolean("stream") or False,
        names=NAMES,
    )
    if text:
        text.refuse_rest(target)
    fields.refuse_rest(target)
    return request


def _refuse_includes(fields: Fields, target: str) -> None:
    for index, wanted in enumerate(fields.texts("include")):
        if wanted == "message.output_text.logprobs":
            raise no_counterpart(f"include[{index}]", target)


def _reasoning_effort(fields: Fields | None, target: str) -> str | None:
    if fields is None:
        return None
    fields.drop("summary", "generate_summary")
    fields.refuse_unless("context", target, "auto")
    fields.refuse_unless("mode", target, "standard")
    effort = fields.text("effort")
    fields.refuse_rest(target)
    return effort


def _input(fields: Fields, target: str) -> list[Message]:
    """Read the input; items of one turn (text, calls of tools) come together in one message."""
    given = fields.require("input")
    if isinstance(given, str):
        return [Message("user", [Text(given, "input")], "input")]
    if not isinstance(given, list) or not given:
        raise fields.wrong("input", "a string or a list of items")
    messages: list[Message] = []
    for index, value in enumerate(given):
        message = _item(Fields(value, f"input[{index}]"), target)
        if message is None:
            continue
        last = messages[-1] if messages else None
        if last is not None and last.role == message.role and message.role in {"assistant", "tool"}:
            last.parts.extend(message.parts)
        else:
            messages.append(message)
    return messages


def _item(item: Fields, target: str) -> Message | None:
    item.drop("id", "status")
    kind = item.text("type") or "message"
    match kind:
        case "message":
            item.drop("phase")
            message = _message(item, target)
        case "function_call":
            item.drop("caller")
            arguments = item.text("arguments") or "{}"
            name, call_id = item.required_text("name"), item.required_text("call_id")
            message = Message("assistant", [ToolUse(call_id, name, arguments, item.path_of("arguments"))], item.path)
        case "function_call_output":
            item.drop("caller", "name")
            parts = _result_parts(item, target)
            message = Message("tool", [ToolResult(item.required_text("call_id"), parts, item.path)], item.path)
        case "reasoning":
            return None  # only the vendor that thought it can read it
        case "item_reference":
            raise no_counterpart(item.path, target, "send the item itself")
        case _:
            raise no_counterpart(item.path_of("type"), target)
    item.refuse_rest(target)
    return message


def _message(item: Fields, target: str) -> Message:
    role = item.required_text("role")
    parts: list[Part] = list(_contents(item, "content", target))
    match role:
        case "system" | "developer":
            if wrong := next((part for part in parts if not isinstance(part, Text)), None):
                raise no_counterpart(wrong.where, target, "instructions can only be text")
            return Message("system", [*parts], item.path)
        case "user" | "assistant":
            return Message(role, [*parts], item.path)
        case _:
            raise no_counterpart(item.path_of("role"), target, "use system, developer, user or assistant")


def _contents(item: Fields, name: str, target: str) -> Iterable[Text | Refusal | Image | Document]:
    contents = item.require(name)
    if isinstance(contents, str):
        return [Text(contents, item.path_of(name))]
    if not isinstance(contents, list):
        raise item.wrong(name, "a string or a list of parts")
    return [_part(Fields(part, f"{item.path_of(name)}[{i}]"), target) for i, part in enumerate(contents)]


def _part(part: Fields, target: str) -> Text | Refusal | Image | Document:
    kind = part.required_text("type")
    part.drop("prompt_cache_breakpoint")
    match kind:
        case "input_text" | "output_text":
            part.drop("annotations", "logprobs")
            read = Text(part.required_text("text"), part.path)
        case "refusal":
            read = Refusal(part.required_text("refusal"), part.path)
        case "input_image":
            url, file_id, detail = part.text("image_url"), part.text("file_id"), part.text("detail")
            if url is not None:
                read = image_of_url(url, detail, part.path_of("image_url"))
            elif file_id is not None:
                read = Image(file_id=file_id, detail=detail, where=part.path_of("file_id"))
            else:
                raise InvalidRequest(f"{part.path} must hold image_url or file_id.", param=part.path)
        case "input_file":
            part.drop("detail")
            return document_of(part, target)
        case _:
            raise no_counterpart(part.path_of("type"), target)
    part.refuse_rest(target)
    return read


def _result_parts(item: Fields, target: str) -> list[Text | Image | Document]:
    parts: list[Text | Image | Document] = []
    for part in _contents(item, "output", target):
        if isinstance(part, Refusal):
            raise no_counterpart(part.where, target)
        parts.append(part)
    return parts


def _tool(item: Fields, target: str) -> Tool:
    if item.required_text("type") != "function":
        raise no_counterpart(item.path_of("type"), target, "only tools of the type function can be translated")
    item.refuse_unless("async", target, False)
    item.refuse_unless("defer_loading", target, False)
    item.refuse_unless("allowed_callers", target, ["direct"])
    item.drop("output_schema")
    tool = Tool(
        name=item.required_text("name"),
        description=item.text("description"),
        parameters=item.members("parameters"),
        strict=item.boolean("strict"),
    )
    item.refuse_rest(target)
    return tool


def _tool_choice(fields: Fields, target: str) -> ToolChoice | None:
    choice = fields.take("tool_choice")
    if choice is None:
        return None
    if choice in ("auto", "none", "required"):
        mode: Literal["auto", "none", "required"] = choice  # pyright: ignore[reportAssignmentType]
        return ToolChoice(mode)
    inner = Fields(choice, "tool_choice")
    if inner.required_text("type") != "function":
        raise no_counterpart("tool_choice.type", target, "use auto, none, required or one function")
    return ToolChoice("tool", inner.required_text("name"))


def _format(fields: Fields | None, target: str) -> ResponseFormat | None:
    if fields is None:
        return None
    kind = fields.required_text("type")
    match kind:
        case "text":
            return None
        case "json_object":
            return ResponseFormat("json_object")
        case "json_schema":
            return schema_format(fields, target)
        case _:
            raise no_counterpart(fields.path_of("type"), target, "use text, json_object or json_schema")


def encode_request(request: Request, model: str) -> bytes:
    """Write a responses request that leaves nothing behind at the vendor (`store: false`).

    Raises InvalidRequest for what responses has no word for: stop sequences, recordings.
    """
    if request.stop:
        raise no_counterpart(request.names.get("stop", "stop"), "responses")
    body: dict[str, object] = {"model": model, "input": _encoded_input(request.messages), "store": False}
    text: dict[str, object] = {}
    if request.format is not None:
        text["format"] = _encoded_format(request.format)
    if request.verbosity is not None:
        text["verbosity"] = request.verbosity
    optional: dict[str, object] = {
        "instructions": joined_text(request.system) or None,
        "tools": [_encoded_tool(tool) for tool in request.tools] or None,
        "tool_choice": _encoded_choice(request.tool_choice) if request.tools else None,
        "parallel_tool_calls": request.parallel_tool_calls if request.tools else None,
        "max_output_tokens": request.max_output_tokens,
        "temperature": request.temperature,
        "top_p": request.top_p,
        "text": text or None,
        "reasoning": {"effort": request.reasoning_effort} if request.reasoning_effort else None,
        "user": request.end_user,
        "stream": request.stream or None,
        **request.hints,
    }
    body.update((name, value) for name, value in optional.items() if value is not None)
    return msgspec.json.encode(body)


def _encoded_input(messages: list[Message]) -> list[dict[str, object]]:
    items: list[dict[str, object]] = []
    for message in messages:
        match message.role:
            case "system" | "user":
                items.append({"role": message.role, "content": _encoded_content(message.parts)})
            case "assistant":
                items.extend(_assistant_items(message.parts))
            case "tool":
                items.extend(_encoded_result(part) for part in message.parts if isinstance(part, ToolResult))
    return items


def _assistant_items(parts: list[Part]) -> Iterable[dict[str, object]]:
    """Return a turn as items in its order; texts that follow one another are one message."""
    text = ""
    for part in parts:
        match part:
            case Text() | Refusal():
                text += part.text
            case ToolUse():
                if text:
                    yield {"role": "assistant", "content": text}
                    text = ""
                yield {
                    "type": "function_call",
                    "call_id": part.id,
                    "name": part.name,
                    "arguments": part.arguments,
                }
            case _:
                raise no_counterpart(part.where, "responses")
    if text:
        yield {"role": "assistant", "content": text}


def _encoded_content(parts: list[Part]) -> str | list[dict[str, object]]:
    if len(parts) == 1 and isinstance(parts[0], Text):
        return parts[0].text
    return [_encoded_part(part) for part in parts]


def _encoded_part(part: Part) -> dict[str, object]:
    match part:
        case Text():
            return {"type": "input_text", "text": part.text}
        case Image():
            source = {"file_id": part.file_id} if part.file_id else {"image_url": encoded_image_url(part)}
            return {"type": "input_image", "detail": part.detail or "auto", **source}
        case Document():
            source = {"file_url": part.url} if part.url is not None else encoded_file(part)
            return {"type": "input_file", **source}
        case _:
            raise no_counterpart(part.where, "responses")


def _encoded_result(result: ToolResult) -> dict[str, object]:
    return {
        "type": "function_call_output",
        "call_id": result.id,
        "output": _encoded_content(list(result.parts)) if result.parts else "",
    }


def _encoded_tool(tool: Tool) -> dict[str, object]:
    """Return a function; `strict` is always said, since this dialect takes its absence for true."""
    encoded: dict[str, object] = {
        "type": "function",
        "name": tool.name,
        "parameters": tool.parameters or {"type": "object", "properties": {}},
        "strict": tool.strict or False,
    }
    if tool.description is not None:
        encoded["description"] = tool.description
    return encoded


def _encoded_choice(choice: ToolChoice | None) -> str | dict[str, object] | None:
    if choice is None:
        return None
    return {"type": "function", "name": choice.name} if choice.mode == "tool" else choice.mode


def _encoded_format(wanted: ResponseFormat) -> dict[str, object]:
    if wanted.kind == "json_object":
        return {"type": "json_object"}
    return {"type": "json_schema", **encoded_schema(wanted)}
