"""The only source of time: everything that needs to know when is given a `Clock`."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import NewType, Protocol, cast

Instant = NewType("Instant", int)
"""A point on the monotonic clock of this host, in nanoseconds; only differences mean anything."""

EpochTime = NewType("EpochTime", int)
"""A point on the wall clock, in nanoseconds since 1970-01-01T00:00:00Z; for records and day windows only."""

MICROSECOND = 1_000
MILLISECOND = 1_000_000
SECOND = 1_000_000_000


class Clock(Protocol):
    """What tells the time: the system in production, a virtual one in tests and simulations."""

    def now(self) -> Instant:
        """Return the monotonic time; it never steps back, and processes of one host share it."""
        ...

    def wall(self) -> EpochTime:
        """Return the calendar time; it may step."""
        ...


class SystemClock:
    """The clock of this host."""

    # The functions themselves, not methods around them: the hot path asks for the time about ten times a call.
    now = staticmethod(cast("Callable[[], Instant]", time.monotonic_ns))
    wall = staticmethod(cast("Callable[[], EpochTime]", time.time_ns))


def seconds(duration_ns: int) -> float:
    """Return a duration in nanoseconds as seconds."""
    return duration_ns / SECOND


def nanoseconds(duration_s: float) -> int:
    """Return a duration in seconds as whole nanoseconds."""
    return round(duration_s * SECOND)
