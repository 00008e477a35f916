"""Durations, sizes and windows as people write them: `60s`, `1.5h`, `25MiB`, `day`."""

from __future__ import annotations

import re
from typing import Annotated

from pydantic import BeforeValidator

_DURATION = re.compile(r"(\d+(?:\.\d+)?)\s*(ms|s|min|m|h|d)")
_SIZE = re.compile(r"(\d+(?:\.\d+)?)\s*(B|KiB|MiB|GiB|KB|MB|GB)?", re.IGNORECASE)
_DURATION_NS = {
    "ms": 1_000_000,
    "s": 1_000_000_000,
    "m": 60_000_000_000,
    "min": 60_000_000_000,
    "h": 3_600_000_000_000,
    "d": 86_400_000_000_000,
}
_SIZE_BYTES = {
    "b": 1,
    "kb": 1000,
    "mb": 1000**2,
    "gb": 1000**3,
    "kib": 1024,
    "mib": 1024**2,
    "gib": 1024**3,
}

DAY = "day"
"""A calendar day that turns at midnight of a time zone, unlike `24h`, which rolls."""


def parse_duration(text: object) -> int:
    """Return a duration such as `500ms`, `60s`, `10m`, `1.5h` or `2d` in nanoseconds; raise ValueError."""
    if isinstance(text, bool) or not isinstance(text, str | int | float):
        raise ValueError("a duration is text with a unit, such as 500ms, 60s, 10m, 1h")
    if isinstance(text, int | float):
        if text == 0:
            return 0
        raise ValueError(f"{text} has no unit; write {text}s or {text}ms")
    match = _DURATION.fullmatch(text.strip())
    if match is None:
        raise ValueError(f"{text!r} is not a duration; write for example 500ms, 60s, 10m, 1h")
    return round(float(match[1]) * _DURATION_NS[match[2]])


def parse_window(text: object) -> int | str:
    """Return a window as nanoseconds, or `day` for a calendar day; raise ValueError."""
    if text == DAY:
        return DAY
    window = parse_duration(text)
    if window <= 0:
        raise ValueError("a window must be longer than nothing; write for example 60s, 1h or day")
    return window


def parse_size(text: object) -> int:
    """Return a size such as `25MiB` or a plain number of bytes as bytes; raise ValueError."""
    if isinstance(text, bool) or not isinstance(text, str | int):
        raise ValueError("a size is a number of bytes or text such as 64KiB, 25MiB")
    if isinstance(text, int):
        return text
    match = _SIZE.fullmatch(text.strip())
    if match is None:
        raise ValueError(f"{text!r} is not a size; write for example 64KiB or 25MiB")
    return round(float(match[1]) * _SIZE_BYTES[(match[2] or "b").lower()])


def format_duration(duration_ns: int) -> str:
    """Return the shortest text that `parse_duration` reads back as the same duration."""
    for unit in ("d", "h", "m", "s", "ms"):
        if duration_ns and duration_ns % _DURATION_NS[unit] == 0:
            return f"{duration_ns // _DURATION_NS[unit]}{unit}"
    return f"{duration_ns / 1_000_000:.6f}".rstrip("0").rstrip(".") + "ms"


Duration = Annotated[int, BeforeValidator(parse_duration)]
"""Nanoseconds, written as `500ms`, `60s`, `10m`, `1h`."""
Window = Annotated[int | str, BeforeValidator(parse_window)]
"""Nanoseconds, or `day`."""
Size = Annotated[int, BeforeValidator(parse_size)]
"""Bytes, written as a number or `25MiB`."""
