"""Plausible values for a JSON schema: what a simulated model puts into tool calls and structured answers."""

from __future__ import annotations

import math
import random
from typing import Any

Schema = dict[str, Any]

_FORMATS = {
    "date": "2024-05-17",
    "date-time": "2024-05-17T09:30:00Z",
    "time": "09:30:00Z",
    "duration": "PT15M",
    "email": "li.bing@example.com",
    "hostname": "example.com",
    "ipv4": "192.0.2.7",
    "ipv6": "2001:db8::7",
    "uri": "https://example.com/weir",
    "uuid": "6f1c2a34-8d5e-4b7a-9c01-2e3f4a5b6c7d",
}
_NOUNS = ("river", "weir", "Chengdu", "spring", "north gate", "channel", "bamboo", "harvest")
_DEEPEST = 12
_MOST = 1_000  # items or characters that a schema may demand at least
_SHALLOW = 6  # deeper than this, whatever may end the nesting is preferred


class InvalidSchema(ValueError):
    """What was given as a JSON schema is none, or asks for more than can be given."""


def satisfy(schema: Schema, source: random.Random) -> Any:
    """Return a value that satisfies the schema's types, enums, bounds and required properties.

    Patterns and conditions are not looked at; references are followed within the schema. Raises InvalidSchema.
    """
    try:
        return _value(schema, schema, source, 0)
    except (TypeError, ValueError, AttributeError, OverflowError, ZeroDivisionError) as error:
        raise InvalidSchema(str(error)) from error


def _value(schema: Any, root: Schema, source: random.Random, depth: int) -> Any:
    schema = _resolve(schema, root, depth)
    if "const" in schema:
        return schema["const"]
    if isinstance(schema.get("enum"), list) and schema["enum"]:
        return source.choice(schema["enum"])
    for key in ("anyOf", "oneOf"):
        options = schema.get(key)
        if isinstance(options, list) and options:
            return _value(_shallowest(options, depth), root, source, depth + 1)
    kind = schema.get("type")
    if isinstance(kind, list):
        kind = "null" if depth > _SHALLOW and "null" in kind else next((k for k in kind if k != "null"), "null")
    if kind is None:
        kind = "object" if "properties" in schema else "array" if "items" in schema else "string"
    match kind:
        case "object":
            return _object(schema, root, source, depth)
        case "array":
            fewest = _bounded(schema, "minItems")
            count = fewest if depth > _SHALLOW or schema.get("maxItems") == 0 else max(1, fewest)
            return [_value(schema.get("items", {}), root, source, depth + 1) for _ in range(count)]
        case "integer" | "number":
            return _number(schema, source, whole=kind == "integer")
        case "boolean":
            return source.random() < 0.5
        case "null":
            return None
        case _:
            return _string(schema, source)


def _resolve(schema: Any, root: Schema, depth: int) -> Schema:
    for _ in range(_DEEPEST):
        if not isinstance(schema, dict) or depth > _DEEPEST:
            return {"type": "null"} if depth > _DEEPEST else {}
        if isinstance(schema.get("allOf"), list):
            schema = _merged(schema, root, depth)
        if "$ref" not in schema:
            return schema
        schema = _follow(str(schema["$ref"]), root)
    return {}


def _merged(schema: Schema, root: Schema, depth: int) -> Schema:
    whole = {key: value for key, value in schema.items() if key != "allOf"}
    for part in schema["allOf"]:
        resolved = _resolve(part, root, depth + 1)
        whole = {
            **resolved,
            **whole,
            "properties": {**resolved.get("properties", {}), **whole.get("properties", {})},
            "required": [*resolved.get("required", []), *whole.get("required", [])],
        }
    return whole


def _follow(reference: str, root: Schema) -> Any:
    target: Any = root
    for step in reference.removeprefix("#").strip("/").split("/"):
        if step:
            step = step.replace("~1", "/").replace("~0", "~")
            target = target.get(step, {}) if isinstance(target, dict) else {}
    return target


def _shallowest(options: list[Any], depth: int) -> Any:
    if depth > _SHALLOW:
        for option in options:
            if isinstance(option, dict) and option.get("type") in (
                "null",
                "string",
                "integer",
                "boolean",
                "number",
            ):
                return option
    return next((o for o in options if not (isinstance(o, dict) and o.get("type") == "null")), options[0])


def _object(schema: Schema, root: Schema, source: random.Random, depth: int) -> dict[str, Any]:
    properties = schema.get("properties") or {}
    required = schema.get("required")
    names = required if isinstance(required, list) else []
    return {str(name): _value(properties.get(name, {}), root, source, depth + 1) for name in names}


def _number(schema: Schema, source: random.Random, *, whole: bool) -> int | float:
    step = schema.get("multipleOf") or (1 if whole else 0.5)
    low = schema.get("minimum")
    high = schema.get("maximum")
    above = schema.get("exclusiveMinimum")
    below = schema.get("exclusiveMaximum")
    first = math.ceil(low / step) if low is not None else None
    last = math.floor(high / step) if high is not None else None
    if isinstance(above, (int, float)) and not isinstance(above, bool):
        first = max(math.floor(above / step) + 1, first if first is not None else -math.inf)
    if isinstance(below, (int, float)) and not isinstance(below, bool):
        last = min(math.ceil(below / step) - 1, last if last is not None else math.inf)
    if first is None:
        first = 1 if last is None else last - 20
    if last is None:
        last = first + 20
    return source.randint(int(first), max(int(first), int(last))) * step


def _string(schema: Schema, source: random.Random) -> str:
    text = _FORMATS.get(str(schema.get("format")), "") or source.choice(_NOUNS)
    fewest = _bounded(schema, "minLength")
    if len(text) < fewest:
        text = ((text + " ") * (fewest // (len(text) + 1) + 1))[:fewest]
    return text[: int(schema["maxLength"])] if "maxLength" in schema else text


def _bounded(schema: Schema, name: str) -> int:
    number = int(schema.get(name, 0))
    if number > _MOST:
        raise ValueError(f"{name} of {number} is more than {_MOST}")
    return number
