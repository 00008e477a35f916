"""Durations as people write them: `250ms`, `60s`, `5m`, `1h`, `7d`, or a bare number of seconds."""

from __future__ import annotations

import re
from typing import Annotated

from pydantic import BeforeValidator, PlainSerializer

from dujiang.clock import MILLISECOND, SECOND

_UNITS = {"ms": MILLISECOND, "s": SECOND, "m": 60 * SECOND, "h": 3600 * SECOND, "d": 86_400 * SECOND}
_DURATION = re.compile(r"(\d+(?:\.\d+)?)\s*(ms|s|m|h|d)?")


def parse_duration(written: object) -> int:
    """Return a duration in nanoseconds; a bare number is in seconds.

    Raises ValueError for anything else.
    """
    match = _DURATION.fullmatch(str(written).strip())
    if match is None or isinstance(written, bool):
        raise ValueError(f"{written!r} is not a duration; write it like 250ms, 60s, 5m, 1h or 7d")
    return round(float(match[1]) * _UNITS[match[2] or "s"])


def write_duration(duration_ns: int) -> str:
    """Return a duration so that `parse_duration` reads it back: `250ms`, `60s`, `1h`."""
    for unit, length_ns in reversed(_UNITS.items()):
        if duration_ns and duration_ns % length_ns == 0:
            return f"{duration_ns // length_ns}{unit}"
    return f"{duration_ns / MILLISECOND:.6f}".rstrip("0").rstrip(".") + "ms"


def go_duration(duration_ns: int) -> str:
    """Return a duration as Go prints it and OpenAI sends it: `120ms`, `1s`, `6m0s`; milliseconds, rounded up."""
    milliseconds = -(-duration_ns // MILLISECOND)
    if milliseconds < 1000:
        return f"{milliseconds}ms" if milliseconds else "0s"
    whole, fraction = divmod(milliseconds, 1000)
    minutes, second = divmod(whole, 60)
    hours, minute = divmod(minutes, 60)
    tail = f"{second}.{fraction:03d}".rstrip("0") if fraction else str(second)
    if hours:
        return f"{hours}h{minute}m{tail}s"
    return f"{minute}m{tail}s" if minute else f"{tail}s"


Duration = Annotated[int, BeforeValidator(parse_duration), PlainSerializer(write_duration)]
"""A setting that is written as a duration and kept in nanoseconds."""
