"""What a vendor announces in its answers: how much is left, when it is whole again, how long to wait."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Literal, NamedTuple, Protocol

from dujiang.terms import Dimension

ResetFormat = Literal["go_duration", "seconds", "rfc3339", "epoch_s", "epoch_ms"]
HintUnit = Literal["s", "ms", "go_duration"]

_SECOND_NS = 1_000_000_000
_LONGEST_NS = 366 * 86_400 * _SECOND_NS
"""A duration beyond a year is garbage, not an announcement."""
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_NUMBER = re.compile(r"\d{1,19}(?:\.\d{1,12})?", re.ASCII)
_GO_DURATION = re.compile(r"(?:\d{1,19}(?:\.\d{1,12})?(?:ns|us|µs|μs|ms|s|m|h|d))+", re.ASCII)
_GO_PART = re.compile(r"(\d+(?:\.\d+)?)(ns|us|µs|μs|ms|s|m|h|d)", re.ASCII)
_UNIT_NS = {
    "ns": 1,
    "us": 1_000,
    "µs": 1_000,
    "μs": 1_000,
    "ms": 1_000_000,
    "s": _SECOND_NS,
    "m": 60 * _SECOND_NS,
    "h": 3_600 * _SECOND_NS,
    "d": 86_400 * _SECOND_NS,
}


class AnnouncedLimit(NamedTuple):
    """What one answer says about one limit; None where it says nothing.

    `window` is the profile's word for the window (`60s`, `day`), empty where the vendor leaves it open.
    `reset_ns` counts from the answer on: until one more would pass or all is whole again, as vendors differ.
    """

    dimension: Dimension
    window: str
    limit: int | None
    remaining: int | None
    reset_ns: int | None


class HeaderNames(Protocol):
    """Where a vendor announces one limit; an empty name is a header it does not send."""

    @property
    def dimension(self) -> Dimension: ...
    @property
    def window(self) -> str: ...
    @property
    def limit(self) -> str: ...
    @property
    def remaining(self) -> str: ...
    @property
    def reset(self) -> str: ...
    @property
    def reset_format(self) -> ResetFormat: ...


class Hint(Protocol):
    """One place where a vendor says how long to wait: a header, or a path into the error body."""

    @property
    def header(self) -> str: ...
    @property
    def body(self) -> str: ...
    @property
    def unit(self) -> HintUnit: ...


def read_limits(names: Sequence[HeaderNames], headers: Mapping[str, str], wall_ns: int) -> list[AnnouncedLimit]:
    """Return what the headers (names in lower case) say; whatever cannot be understood is left out."""
    found: list[AnnouncedLimit] = []
    for name in names:
        limit = _count(headers.get(name.limit))
        remaining = _count(headers.get(name.remaining))
        reset_ns = None
        if name.reset and (text := headers.get(name.reset)) is not None:
            reset_ns = _reset_ns(text, name.reset_format, headers, wall_ns)
        if limit is not None or remaining is not None:
            found.append(AnnouncedLimit(name.dimension, name.window, limit, remaining, reset_ns))
    return found


def read_retry_after(
    hints: Sequence[Hint], headers: Mapping[str, str], body: object, wall_ns: int | None
) -> int | None:
    """Return the first wait that is announced and makes sense, in nanoseconds."""
    for hint in hints:
        texts = [headers.get(hint.header)] if hint.header else _at_path(body, hint.body.split("."))
        for text in texts:
            wait_ns = None if text is None else _wait_ns(text, hint.unit, headers, wall_ns)
            if wait_ns is not None:
                return wait_ns
    return None


def go_duration_ns(text: str) -> int | None:
    """Return `1h2m3.5s`, `120ms` or a bare number of seconds in nanoseconds; None if it is neither."""
    text = text.strip()
    if _NUMBER.fullmatch(text):
        return _scaled(text, _SECOND_NS)
    if not _GO_DURATION.fullmatch(text):
        return None
    total = 0
    for number, unit in _GO_PART.findall(text):
        part = _scaled(number, _UNIT_NS[unit])
        if part is None:
            return None
        total += part
    return total if total <= _LONGEST_NS else None


def _scaled(number: str, unit_ns: int) -> int | None:
    whole, _, fraction = number.partition(".")
    total = int(whole) * unit_ns
    if fraction:
        total += int(fraction) * unit_ns // 10 ** len(fraction)
    return total if total <= _LONGEST_NS else None


def _count(text: str | None) -> int | None:
    """Return a count; Azure's -1 (nothing to say), fractions of a unit and garbage are None or cut."""
    if text is None or not _NUMBER.fullmatch(text := text.strip()):
        return None
    return int(text.partition(".")[0])


def _reset_ns(text: str, form: ResetFormat, headers: Mapping[str, str], wall_ns: int) -> int | None:
    match form:
        case "go_duration" | "seconds":
            return go_duration_ns(text)
        case "rfc3339":
            return _until(_rfc3339_ns(text), headers, wall_ns)
        case "epoch_s":
            return _until(_epoch_ns(text, _SECOND_NS), headers, wall_ns)
        case "epoch_ms":
            return _until(_epoch_ns(text, 1_000_000), headers, wall_ns)


def _wait_ns(text: object, unit: HintUnit, headers: Mapping[str, str], wall_ns: int | None) -> int | None:
    if isinstance(text, bool) or not isinstance(text, str | int | float):
        return None
    if isinstance(text, int) and abs(text) >= 1 << 63:
        return None
    text = str(text).strip()
    if unit == "go_duration":
        return go_duration_ns(text)
    if _NUMBER.fullmatch(text):
        return _scaled(text, _SECOND_NS if unit == "s" else 1_000_000)
    return _until(_http_date_ns(text), headers, wall_ns) if unit == "s" else None


def _until(instant_ns: int | None, headers: Mapping[str, str], wall_ns: int | None) -> int | None:
    """Return how far an instant of the vendor's clock lies ahead, by its own `date` header where it sent one.

    Two readings of one clock cannot disagree; ours may be minutes off.
    """
    if instant_ns is None:
        return None
    date = headers.get("date")
    now_ns = _http_date_ns(date) if date else None
    if now_ns is None:
        now_ns = wall_ns
    if now_ns is None or instant_ns - now_ns > _LONGEST_NS:
        return None
    return max(0, instant_ns - now_ns)


def _epoch_ns(text: str, unit_ns: int) -> int | None:
    text = text.strip()
    if not _NUMBER.fullmatch(text):
        return None
    whole, _, fraction = text.partition(".")
    return int(whole) * unit_ns + (int(fraction) * unit_ns // 10 ** len(fraction) if fraction else 0)


def _rfc3339_ns(text: str) -> int | None:
    try:
        return _instant_ns(datetime.fromisoformat(text.strip()))
    except (ValueError, OverflowError):
        return None


def _http_date_ns(text: str) -> int | None:
    try:
        return _instant_ns(parsedate_to_datetime(text))
    except (ValueError, TypeError, IndexError, OverflowError):
        return None


def _instant_ns(instant: datetime) -> int:
    if instant.tzinfo is None:
        instant = instant.replace(tzinfo=UTC)
    elapsed = instant - _EPOCH
    return (elapsed.days * 86_400 + elapsed.seconds) * _SECOND_NS + elapsed.microseconds * 1_000


def _at_path(tree: object, steps: Sequence[str]) -> Iterator[object]:
    """Yield what stands at a path of keys; a list of objects on the way is searched item by item."""
    if isinstance(tree, list):
        for item in tree:
            if not isinstance(item, list):
                yield from _at_path(item, steps)
    elif not steps:
        yield tree
    elif isinstance(tree, dict) and steps[0] in tree:
        yield from _at_path(tree[steps[0]], steps[1:])
