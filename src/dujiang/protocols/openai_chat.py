"""OpenAI chat completions: requests. Source: OpenAI's OpenAPI document, `POST /chat/completions`."""

from __future__ import annotations

from typing import Literal

import msgspec

from dujiang.errors import InvalidRequest
from dujiang.protocols.conversation import (
    Audio,
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
    "stop": "stop",
    "temperature": "temperature",
    "format": "response_format",
    "verbosity": "verbosity",
    "reasoning_effort": "reasoning_effort",
}
_DROPPED = ("model", "seed", "store", "stream_options", "prediction", "prompt_cache_options")
_MOST_STOPS = 4


def decode_request(body: bytes, target: str) -> Request:
    """Read a chat request; `target` is the name of the dialect it is to be put into, for refusals."""
    fields = Fields.of_body(body)
    fields.drop(*_DROPPED)
    fields.refuse_unless("n", target, 1)
    fields.refuse_unless("logprobs", target, False)
    fields.refuse_unless("top_logprobs", target, 0)
    fields.refuse_unless("frequency_penalty", target, 0)
    fields.refuse_unless("presence_penalty", target, 0)
    fields.refuse_unless("logit_bias", target, {})
    fields.refuse_unless("modalities", target, ["text"])
    max_tokens = fields.integer("max_tokens", at_least=1)
    max_completion_tokens = fields.integer("max_completion_tokens", at_least=1)
    system, messages = split_system([_message(item, target) for item in _required_items(fields, "messages")])
    request = Request(
        system=system,
        messages=messages,
        tools=[_tool(item, target) for item in fields.items("tools")],
        tool_choice=_tool_choice(fields, target),
        parallel_tool_calls=fields.boolean("parallel_tool_calls"),
        max_output_tokens=max_completion_tokens or max_tokens,
        temperature=fields.number("temperature"),
        top_p=fields.number("top_p"),
        stop=fields.texts("stop"),
        format=_format(fields.inner("response_format"), target),
        reasoning_effort=fields.text("reasoning_effort"),
        verbosity=fields.text("verbosity"),
        end_user=fields.text("user"),
        hints={name: value for name in HINTS if (value := fields.take(name)) is not None},
        stream=fields.boolean("stream") or False,
        names=NAMES,
    )
    fields.refuse_rest(target)
    return request


def _required_items(fields: Fields, name: str) -> list[Fields]:
    items = list(fields.items(name))
    if not items:
        raise InvalidRequest(f"{name} must be a list with at least one message.", param=name)
    return items


def _message(fields: Fields, target: str) -> Message:
    role = fields.required_text("role")
    fields.drop("name")
    match role:
        case "system" | "developer":
            message = Message("system", list(_texts(fields, target)), fields.path)
        case "user":
            message = Message("user", _user_parts(fields, target), fields.path)
        case "assistant":
            message = Message("assistant", _assistant_parts(fields, target), fields.path)
        case "tool":
            call_id = fields.required_text("tool_call_id")
            result = ToolResult(call_id, list(_texts(fields, target)), fields.path)
            message = Message("tool", [result], fields.path)
        case _:
            raise no_counterpart(fields.path_of("role"), target, "use system, user, assistant or tool")
    fields.refuse_rest(target)
    return message


def _contents(fields: Fields) -> str | list[Fields] | None:
    content = fields.take("content")
    if content is None or isinstance(content, str):
        return content
    if not isinstance(content, list):
        raise fields.wrong("content", "a string or a list of parts")
    path = fields.path_of("content")
    return [Fields(part, f"{path}[{index}]") for index, part in enumerate(content)]


def _texts(fields: Fields, target: str) -> list[Text]:
    contents = _contents(fields)
    if contents is None or isinstance(contents, str):
        return [Text(contents or "", fields.path_of("content"))]
    texts: list[Text] = []
    for part in contents:
        if part.required_text("type") != "text":
            raise no_counterpart(part.path_of("type"), target, "use parts of the type text")
        texts.append(_text(part, target))
    return texts


def _text(part: Fields, target: str) -> Text:
    text = Text(part.required_text("text"), part.path)
    part.drop("prompt_cache_breakpoint", "cache_control")
    part.refuse_rest(target)
    return text


def _user_parts(fields: Fields, target: str) -> list[Part]:
    contents = _contents(fields)
    if contents is None or isinstance(contents, str):
        return [Text(contents or "", fields.path_of("content"))]
    return [_user_part(part, target) for part in contents]


def _user_part(part: Fields, target: str) -> Part:
    kind = part.required_text("type")
    part.drop("prompt_cache_breakpoint", "cache_control")
    match kind:
        case "text":
            return _text(part, target)
        case "image_url":
            image = part.required_inner("image_url")
            url, detail = image.required_text("url"), image.text("detail")
            image.refuse_rest(target)
            read: Part = image_of_url(url, detail, image.path_of("url"))
        case "input_audio":
            audio = part.required_inner("input_audio")
            read = Audio(audio.required_text("data"), audio.required_text("format"), part.path)
        case "file":
            read = document_of(part.required_inner("file"), target)
        case _:
            raise no_counterpart(part.path_of("type"), target)
    part.refuse_rest(target)
    return read


def _assistant_parts(fields: Fields, target: str) -> list[Part]:
    fields.drop("annotations", "reasoning_content", "reasoning", "reasoning_details")
    parts: list[Part] = []
    contents = _contents(fields)
    if isinstance(contents, str):
        parts.append(Text(contents, fields.path_of("content")))
    for part in contents if isinstance(contents, list) else ():
        if part.required_text("type") == "refusal":
            parts.append(Refusal(part.required_text("refusal"), part.path))
        else:
            parts.append(_text(part, target))
    refusal = fields.text("refusal")
    if refusal is not None:
        parts.append(Refusal(refusal, fields.path_of("refusal")))
    parts.extend(_tool_use(call, target) for call in fields.items("tool_calls"))
    return parts


def _tool_use(call: Fields, target: str) -> ToolUse:
    if call.text("type") not in {None, "function"}:
        raise no_counterpart(call.path_of("type"), target, "only calls of functions can be translated")
    call.drop("index", "extra_content")
    function = call.required_inner("function")
    arguments = function.text("arguments") or "{}"
    use = ToolUse(call.required_text("id"), function.required_text("name"), arguments, function.path_of("arguments"))
    function.refuse_rest(target)
    call.refuse_rest(target)
    return use


def _tool(item: Fields, target: str) -> Tool:
    if item.required_text("type") != "function":
        raise no_counterpart(item.path_of("type"), target, "only tools of the type function can be translated")
    item.drop("cache_control")
    function = item.required_inner("function")
    tool = Tool(
        name=function.required_text("name"),
        description=function.text("description"),
        parameters=function.members("parameters"),
        strict=function.boolean("strict"),
    )
    function.refuse_rest(target)
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
    return ToolChoice("tool", inner.required_inner("function").required_text("name"))


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
            return schema_format(fields.required_inner("json_schema"), target)
        case _:
            raise no_counterpart(fields.path_of("type"), target, "use text, json_object or json_schema")


def encode_request(request: Request, model: str, max_tokens_field: str = "max_completion_tokens") -> bytes:
    """Write a chat request; `max_tokens_field` is the name that the vendor has for the limit of the output.

    Raises InvalidRequest for what chat has no word for: documents by address, pictures in tool results,
    more than four stop sequences.
    """
    body: dict[str, object] = {"model": model, "messages": _messages(request)}
    if request.tools:
        body["tools"] = [_encoded_tool(tool) for tool in request.tools]
    if request.tool_choice is not None and request.tools:
        choice = request.tool_choice
        named = {"type": "function", "function": {"name": choice.name}}
        body["tool_choice"] = named if choice.mode == "tool" else choice.mode
    if len(request.stop) > _MOST_STOPS:
        raise InvalidRequest(
            f"{request.names.get('stop', 'stop')} may hold {_MOST_STOPS} sequences in the chat dialect, "
            "which the vendor of this model speaks.",
            param=request.names.get("stop", "stop"),
        )
    optional: dict[str, object] = {
        "parallel_tool_calls": request.parallel_tool_calls if request.tools else None,
        max_tokens_field: request.max_output_tokens,
        "temperature": request.temperature,
        "top_p": request.top_p,
        "stop": request.stop or None,
        "response_format": _encoded_format(request.format),
        "reasoning_effort": request.reasoning_effort,
        "verbosity": request.verbosity,
        "user": request.end_user,
        **request.hints,
    }
    body.update((name, value) for name, value in optional.items() if value is not None)
    if request.stream:
        body["stream"] = True
        body["stream_options"] = {"include_usage": True}
    return msgspec.json.encode(body)


def _messages(request: Request) -> list[dict[str, object]]:
    messages: list[dict[str, object]] = []
    if request.system:
        messages.append({"role": "system", "content": joined_text(request.system)})
    for message in request.messages:
        match message.role:
            case "system":
                texts = [part for part in message.parts if isinstance(part, Text)]
                messages.append({"role": "system", "content": joined_text(texts)})
            case "user":
                messages.append({"role": "user", "content": _user_content(message.parts)})
            case "assistant":
                messages.append(_encoded_assistant(message.parts))
            case "tool":
                messages.extend(_encoded_result(part) for part in message.parts if isinstance(part, ToolResult))
    return messages


def _user_content(parts: list[Part]) -> str | list[dict[str, object]]:
    if len(parts) == 1 and isinstance(parts[0], Text):
        return parts[0].text
    return [_encoded_part(part) for part in parts]


def _encoded_part(part: Part) -> dict[str, object]:
    match part:
        case Text():
            return {"type": "text", "text": part.text}
        case Image():
            if part.file_id is not None:
                raise no_counterpart(part.where, "chat", "send the picture itself, or its address")
            image: dict[str, object] = {"url": encoded_image_url(part)}
            if part.detail is not None:
                image["detail"] = part.detail
            return {"type": "image_url", "image_url": image}
        case Audio():
            return {"type": "input_audio", "input_audio": {"data": part.data, "format": part.format}}
        case Document():
            return {"type": "file", "file": encoded_file(part)}
        case _:
            raise no_counterpart(part.where, "chat")


def _encoded_assistant(parts: list[Part]) -> dict[str, object]:
    texts = [part.text for part in parts if isinstance(part, Text)]
    refusals = [part.text for part in parts if isinstance(part, Refusal)]
    uses = [part for part in parts if isinstance(part, ToolUse)]
    message: dict[str, object] = {"role": "assistant", "content": "".join(texts) if texts or not uses else None}
    if refusals:
        message["refusal"] = "".join(refusals)
    if uses:
        message["tool_calls"] = [encoded_tool_call(use) for use in uses]
    return message


def encoded_tool_call(use: ToolUse) -> dict[str, object]:
    """Return a tool call as a message of a request or of an answer holds it."""
    return {"id": use.id, "type": "function", "function": {"name": use.name, "arguments": use.arguments}}


def _encoded_result(result: ToolResult) -> dict[str, object]:
    texts: list[str] = []
    for part in result.parts:
        if not isinstance(part, Text):
            raise no_counterpart(part.where, "chat", "a tool's result can only be text")
        texts.append(part.text)
    return {"role": "tool", "tool_call_id": result.id, "content": "\n".join(texts)}


def _encoded_tool(tool: Tool) -> dict[str, object]:
    function: dict[str, object] = {"name": tool.name}
    if tool.description is not None:
        function["description"] = tool.description
    if tool.parameters is not None:
        function["parameters"] = tool.parameters
    if tool.strict is not None:
        function["strict"] = tool.strict
    return {"type": "function", "function": function}


def _encoded_format(wanted: ResponseFormat | None) -> dict[str, object] | None:
    if wanted is None:
        return None
    if wanted.kind == "json_object":
        return {"type": "json_object"}
    return {"type": "json_schema", "json_schema": encoded_schema(wanted)}
