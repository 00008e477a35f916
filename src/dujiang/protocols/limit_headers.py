"""Limits as headers: OpenAI's names on every answer, Anthropic's beside them for its clients."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime

from dujiang.terms import Dialect, Dimension

_SECOND = 1_000_000_000
_WHAT = ("limit", "remaining", "reset")
_ANTHROPIC = {
    Dimension.REQUESTS: "requests",
    Dimension.TOKENS: "tokens",
    Dimension.INPUT_TOKENS: "input-tokens",
    Dimension.OUTPUT_TOKENS: "output-tokens",
}


def limit_template(dimensions: Iterable[Dimension], dialect: Dialect) -> bytes:
    """Return the header lines of limits, to be filled with `limit, remaining, reset` for each name in turn.

    For Anthropic's dialect each limit is said twice: the second time with its reset as RFC 3339.
    """
    lines: list[str] = []
    for dimension in dimensions:
        names = [(f"x-ratelimit-{what}-{dimension.value.replace('_', '-')}") for what in _WHAT]
        if dialect is Dialect.MESSAGES and dimension in _ANTHROPIC:
            names += [f"anthropic-ratelimit-{_ANTHROPIC[dimension]}-{what}" for what in _WHAT]
        lines += [f"{name}: %b\r\n" if "reset" in name else f"{name}: %d\r\n" for name in names]
    return "".join(lines).encode()


def has_anthropic_name(dimension: Dimension) -> bool:
    """Return whether Anthropic has a header for limits of this dimension."""
    return dimension in _ANTHROPIC


def rfc3339(epoch_ns: int) -> bytes:
    """Return a time as Anthropic writes resets."""
    return datetime.fromtimestamp(epoch_ns / _SECOND, UTC).strftime("%Y-%m-%dT%H:%M:%SZ").encode()


def go_duration(duration_ns: int) -> bytes:
    """Return a duration as OpenAI writes it: `6m0s`, `1.5s`, `120ms`, `0s`."""
    if duration_ns <= 0:
        return b"0s"
    if duration_ns < _SECOND:
        return b"%dms" % -(-duration_ns // 1_000_000)
    if duration_ns < 60 * _SECOND:
        return b"%.3fs" % (duration_ns / _SECOND)
    minutes, ms = divmod(-(-duration_ns // 1_000_000), 60_000)
    hours, minutes = divmod(minutes, 60)
    text = b"%.3fs" % (ms / 1000)
    return b"%dh%dm%b" % (hours, minutes, text) if hours else b"%dm%b" % (minutes, text)
