"""Scripted faults: what goes wrong at the vendor, when, and to whom; deterministic by seed."""

from __future__ import annotations

import re
from collections.abc import Sequence
from enum import StrEnum
from typing import Annotated, Any, Self

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, PlainSerializer, model_validator

from dujiang.simulation.draws import chance
from dujiang.simulation.durations import Duration


class FaultKind(StrEnum):
    """What goes wrong."""

    STORM = "storm"
    """429, whatever the limits say; `code` and `retry_after` may be given."""
    ERROR = "error"
    """An error of `status` (default 500): instead of an answer, or as an event after `chunks` tokens of a stream."""
    HANG = "hang"
    """Silence before the first byte for `delay`, or until the client leaves."""
    CUT = "cut"
    """The connection closes after `chunks` tokens (default 3), without an end of the body."""
    MALFORMED = "malformed"
    """The JSON of the answer, or of the event after `chunks` tokens of a stream, is broken off."""
    SLOW = "slow"
    """Every token takes `delay` longer (default 200ms)."""
    REVOKED = "revoked"
    """401 for `key`, or for every key."""
    LIMIT_CUT = "limit_cut"
    """Limits (of `dimension`, or all) are `factor` (default 0.5) of what they are said to be."""
    LATENCY = "latency"
    """The first token takes `factor` times as long (default 10), plus `delay`."""


_OPTIONS: dict[FaultKind, frozenset[str]] = {
    FaultKind.STORM: frozenset({"code", "retry_after"}),
    FaultKind.ERROR: frozenset({"status", "code", "retry_after", "chunks"}),
    FaultKind.HANG: frozenset({"delay"}),
    FaultKind.CUT: frozenset({"chunks"}),
    FaultKind.MALFORMED: frozenset({"chunks"}),
    FaultKind.SLOW: frozenset({"delay"}),
    FaultKind.REVOKED: frozenset({"key"}),
    FaultKind.LIMIT_CUT: frozenset({"factor", "dimension"}),
    FaultKind.LATENCY: frozenset({"factor", "delay"}),
}
_OCCASIONS = frozenset({"kind", "requests", "start", "end", "probability"})
_RANGE = re.compile(r"(\d+)(-(\d*))?")


def _parse_range(written: object) -> object:
    if not isinstance(written, (str, int)) or isinstance(written, bool):
        return written
    match = _RANGE.fullmatch(str(written).strip())
    if match is None:
        raise ValueError(f"{written!r} is not a range of requests; write 5, 5-9 or 5-")
    first = int(match[1])
    last = first if match[2] is None else int(match[3]) if match[3] else None
    if first < 1 or (last is not None and last < first):
        raise ValueError(f"{written!r} is not a range of requests; the first request is 1")
    return first, last


def _write_range(range_: tuple[int, int | None] | None) -> str | None:
    if range_ is None:
        return None
    first, last = range_
    return f"{first}-{'' if last is None else last}"


class Fault(BaseModel):
    """One fault: it happens to a request when every occasion given (requests, span, probability) is met.

    Requests are counted from 1 over all accounts; spans are measured from the start of the vendor.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, validate_by_name=True, validate_by_alias=True)

    kind: FaultKind
    requests: Annotated[tuple[int, int | None] | None, BeforeValidator(_parse_range), PlainSerializer(_write_range)] = (
        None
    )
    start: Duration | None = Field(default=None, alias="from")
    end: Duration | None = Field(default=None, alias="until")
    probability: float = Field(default=1.0, gt=0, le=1)
    status: int = Field(default=500, ge=400, le=599)
    code: str | None = None
    retry_after: Duration | None = None
    chunks: int = Field(default=3, ge=0)
    delay: Duration | None = None
    factor: float | None = Field(default=None, gt=0)
    key: str | None = None
    dimension: str | None = None

    @classmethod
    def parse(cls, written: str) -> Self:
        """Build a fault from `KIND,option=value,…`, as the command line takes it.

        Raises ValueError (or pydantic's ValidationError, which is one) that says what is wrong.
        """
        kind, *pairs = [part.strip() for part in written.split(",")]
        options: dict[str, Any] = {"kind": kind}
        for pair in pairs:
            name, equals, value = pair.partition("=")
            if not equals:
                raise ValueError(f"{pair!r} in fault {written!r} is not option=value")
            options[name.strip()] = value.strip()
        return cls.model_validate(options)

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        foreign = self.model_fields_set - _OCCASIONS - _OPTIONS[self.kind]
        if foreign:
            known = ", ".join(sorted(_OPTIONS[self.kind]))
            raise ValueError(f"a {self.kind} fault takes {known}; remove {', '.join(sorted(foreign))}")
        if self.start is not None and self.end is not None and self.end <= self.start:
            raise ValueError("until must be later than from")
        if self.kind is FaultKind.LIMIT_CUT and (self.requests or self.probability != 1):
            raise ValueError("a limit_cut happens by time only; give from and until instead")
        return self

    def in_span(self, elapsed_ns: int) -> bool:
        """Return whether this time after the start lies in the fault's span."""
        return (self.start or 0) <= elapsed_ns and (self.end is None or elapsed_ns < self.end)

    def in_range(self, number: int) -> bool:
        """Return whether the request of this number is meant."""
        if self.requests is None:
            return True
        first, last = self.requests
        return first <= number and (last is None or number <= last)


class FaultScript:
    """The faults of a vendor, asked once for every request."""

    def __init__(self, faults: Sequence[Fault], seed: int) -> None:
        self._faults = [fault for fault in faults if fault.kind is not FaultKind.LIMIT_CUT]
        self._seed = seed

    def strike(self, number: int, elapsed_ns: int, key: str) -> dict[FaultKind, Fault]:
        """Return the faults that happen to request `number`, the first of each kind."""
        struck: dict[FaultKind, Fault] = {}
        for index, fault in enumerate(self._faults):
            if not fault.in_range(number) or not fault.in_span(elapsed_ns):
                continue
            if fault.key is not None and fault.key != key:
                continue
            if fault.probability < 1 and chance(self._seed, "fault", index, number).random() >= fault.probability:
                continue
            struck.setdefault(fault.kind, fault)
        return struck
