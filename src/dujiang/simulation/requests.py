"""What the faces have in common in reading a request: typed fields, text lengths, headers for replays."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from dujiang.simulation.exchange import Json, Refused, Tool
from dujiang.simulation.generation import estimate_tokens

_KINDS: dict[str, tuple[type, ...]] = {
    "string": (str,),
    "integer": (int,),
    "number": (int, float),
    "boolean": (bool,),
    "array": (list,),
    "object": (dict,),
}
_MOST_TOOL_CALLS = 64


def field(body: Mapping[str, Any], name: str, kind: str, path: str = "", *, required: bool = False) -> Any:
    """Return a field of a request, None when it is absent or null.

    Raises Refused (400) naming the field when it is missing though required or has another JSON type.
    """
    value = body.get(name)
    if value is None:
        if required:
            raise Refused(400, f"Missing required parameter: '{path}{name}'.", code="missing_required_parameter",
                          param=path + name)  # fmt: skip
        return None
    if not isinstance(value, _KINDS[kind]) or (isinstance(value, bool) and kind != "boolean"):
        raise Refused(
            400,
            f"Invalid type for '{path}{name}': expected {_article(kind)}, but got {_article(_kind(value))} instead.",
            code="invalid_type",
            param=path + name,
        )
    return value


def within(value: float | None, low: float, high: float, name: str) -> None:
    """Check a number's bounds; raises Refused (400) naming the field."""
    if value is not None and not low <= value <= high:
        raise Refused(400, f"Invalid '{name}': {value:g} is not between {low:g} and {high:g}.", code="invalid_value",
                      param=name)  # fmt: skip


def _kind(value: object) -> str:
    """Return the JSON type of a value."""
    if value is None:
        return "null"
    return next((kind for kind, types in _KINDS.items() if type(value) in types), "object")


def _article(kind: str) -> str:
    return f"an {kind}" if kind[0] in "aeio" else f"a {kind}"


def texts(value: Any) -> Iterator[str]:
    """Yield the text in message content: a string, or the `text` of parts, or what parts contain.

    Images and audio count as nothing here.
    """
    if isinstance(value, str):
        yield value
    elif isinstance(value, list):
        for part in value:
            yield from texts(part)
    elif isinstance(value, dict):
        for name in ("text", "content", "input", "arguments", "output", "refusal", "thinking"):
            if name in value:
                inner = value[name]
                if name == "input" and isinstance(inner, dict):
                    yield str(inner)
                else:
                    yield from texts(inner)
        for call in value.get("tool_calls") or ():
            if isinstance(call, dict):
                yield from texts(call.get("function"))


def count_input(headers: Mapping[bytes, bytes], content: Sequence[Any], tools: Any) -> int:
    """Return the input tokens of a request: all its text and tool definitions, a quarter of the characters.

    The header `x-simulate-input-tokens` overrides it, so that a trace can be replayed without its text.
    """
    told = header_number(headers, b"x-simulate-input-tokens")
    if told is not None:
        return told
    characters = sum(len(text) for value in content for text in texts(value))
    return estimate_tokens(characters + (len(str(tools)) if tools else 0))


def demanded_output(headers: Mapping[bytes, bytes], body: Json) -> int | None:
    """Return how many tokens the client demands: by header, or by `metadata.simulate_output_tokens`."""
    told = header_number(headers, b"x-simulate-output-tokens")
    metadata = body.get("metadata")
    if told is not None or not isinstance(metadata, dict) or "simulate_output_tokens" not in metadata:
        return told
    written = str(metadata["simulate_output_tokens"])
    if not written.isdecimal():
        raise Refused(400, f"metadata.simulate_output_tokens must be a whole number, not {written!r}.",
                      code="invalid_value", param="metadata.simulate_output_tokens")  # fmt: skip
    return int(written)


def header_number(headers: Mapping[bytes, bytes], name: bytes) -> int | None:
    """Return a whole number from a header; raises Refused (400) when it is none."""
    written = headers.get(name)
    if written is None:
        return None
    if not written.isdigit():
        raise Refused(400, f"Header {name.decode()} must be a whole number.", code="invalid_value")
    return int(written)


def cached_input(headers: Mapping[bytes, bytes], input_tokens: int) -> int:
    """Return the part of the input that counts as read from the prompt cache, told by a header."""
    return min(input_tokens, header_number(headers, b"x-simulate-cached-tokens") or 0)


def choose_tools(body: Json, headers: Mapping[bytes, bytes], tools: Sequence[Tool], name_at: str) -> list[Tool]:
    """Return the tools to call by OpenAI's `tool_choice`; a named one has its name at the path `name_at`.

    Raises Refused (400) for a choice that cannot be.
    """
    wish = body.get("tool_choice")
    if wish is not None and not body.get("tools"):
        raise Refused(400, "'tool_choice' is only allowed when 'tools' are specified.", param="tool_choice")
    if isinstance(wish, dict):
        holder = wish
        for step in name_at.split(".")[:-1]:
            holder = field(holder, step, "object", "tool_choice.", required=True)
        return tools_to_call(headers, tools, field(holder, "name", "string", "tool_choice.", required=True), True)
    if wish not in (None, "none", "auto", "required"):
        raise Refused(400, f"Invalid value: {wish!r}. Supported values are: 'none', 'auto', 'required'.",
                      code="invalid_value", param="tool_choice")  # fmt: skip
    return [] if wish == "none" else tools_to_call(headers, tools, None, wish == "required")


def tools_to_call(
    headers: Mapping[bytes, bytes], tools: Sequence[Tool], forced: str | None, any_tool: bool
) -> list[Tool]:
    """Return the tools an answer calls: the forced one, the header's one, or the first; none means text.

    `x-simulate-tool` names a tool though the request leaves it open; `x-simulate-parallel-tools` asks for so
    many calls at once, over the offered tools in turn.
    """
    named = headers.get(b"x-simulate-tool")
    name = named.decode("utf-8", "replace") if named else forced
    parallel = header_number(headers, b"x-simulate-parallel-tools")
    if not tools or not (name or any_tool or parallel):
        return []
    start = 0
    if name:
        offered = [tool.name for tool in tools]
        if name not in offered:
            raise Refused(400, f"Tool '{name}' is not among the tools of this request: {', '.join(offered)}.",
                          code="invalid_value", param="tool_choice")  # fmt: skip
        start = offered.index(name)
    count = min(parallel or 1, _MOST_TOOL_CALLS)
    return [tools[(start + i) % len(tools)] for i in range(count)]
