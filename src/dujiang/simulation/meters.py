"""The true meters of a vendor, exactly as it would count: the judge of whoever sends to it.

Every meter is told the time (whole nanoseconds, never decreasing) and never asks for it. None of this is
shared with the admission room, which mirrors such meters from outside.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from datetime import UTC, datetime, timedelta, tzinfo
from typing import Protocol

SECOND_NS = 1_000_000_000

Span = tuple[int, int]
"""The half-open span [start, end) of one aligned window, in nanoseconds."""


class Meter(Protocol):
    """The counter of one limit of `value`.

    `take` counts without asking and may exceed the value (a vendor that charges tokens as they are generated
    finds out afterwards); whoever must not exceed asks `wait` first.
    """

    value: int

    def wait(self, now: int, amount: int) -> int | None:
        """Return the time until `amount` fits if nothing else happens: 0 is now, None is never."""
        ...

    def take(self, now: int, amount: int) -> object:
        """Count `amount` and return a receipt for `give_back`."""
        ...

    def give_back(self, now: int, receipt: object, amount: int) -> None:
        """Uncount a part of an earlier `take`, if it still counts."""
        ...

    def used(self, now: int) -> int:
        """Return what counts against the value now."""
        ...

    def replenished_in(self, now: int) -> int:
        """Return the time until nothing counts any more if nothing else happens."""
        ...

    def resize(self, now: int, value: int) -> None:
        """Change the value; what was counted stays counted."""
        ...


def aligned(window_ns: int, phase_ns: int = 0) -> Callable[[int], Span]:
    """Return the grid of windows that turn every `window_ns`, `phase_ns` after the epoch's multiples."""

    def span(now: int) -> Span:
        start = (now - phase_ns) // window_ns * window_ns + phase_ns
        return start, start + window_ns

    return span


def calendar_days(zone: tzinfo) -> Callable[[int], Span]:
    """Return the grid of calendar days of a time zone; a day in which clocks change has 23 or 25 hours."""

    def midnight(day: datetime) -> int:
        return round(datetime(day.year, day.month, day.day, tzinfo=zone).timestamp()) * SECOND_NS

    def span(now: int) -> Span:
        today = datetime.fromtimestamp(now // SECOND_NS, UTC).astimezone(zone)
        return midnight(today), midnight(today.replace(tzinfo=None) + timedelta(days=1))

    return span


class FixedWindow:
    """A counter that starts again at every turn of its grid of windows."""

    __slots__ = ("_count", "_grid", "_span", "value")

    def __init__(self, value: int, grid: Callable[[int], Span]) -> None:
        self.value = value
        self._grid = grid
        self._span: Span = (0, 0)
        self._count = 0

    def _turn(self, now: int) -> None:
        if not self._span[0] <= now < self._span[1]:
            self._span = self._grid(now)
            self._count = 0

    def wait(self, now: int, amount: int) -> int | None:
        self._turn(now)
        if amount > self.value:
            return None
        return 0 if self._count + amount <= self.value else self._span[1] - now

    def take(self, now: int, amount: int) -> Span:
        self._turn(now)
        self._count += amount
        return self._span

    def give_back(self, now: int, receipt: object, amount: int) -> None:
        self._turn(now)
        if receipt == self._span:
            self._count -= amount

    def used(self, now: int) -> int:
        self._turn(now)
        return self._count

    def replenished_in(self, now: int) -> int:
        self._turn(now)
        return self._span[1] - now if self._count else 0

    def resize(self, now: int, value: int) -> None:
        self._turn(now)
        self.value = value


class SlidingLog:
    """An exact log: whatever was taken in (now - window, now] counts, one entry for each instant."""

    __slots__ = ("_log", "_sum", "_window_ns", "value")

    def __init__(self, value: int, window_ns: int) -> None:
        self.value = value
        self._window_ns = window_ns
        self._log: deque[list[int]] = deque()  # [instant, amount], oldest first
        self._sum = 0

    def _expire(self, now: int) -> None:
        log, horizon = self._log, now - self._window_ns
        while log and log[0][0] <= horizon:
            self._sum -= log.popleft()[1]

    def wait(self, now: int, amount: int) -> int | None:
        self._expire(now)
        if amount > self.value:
            return None
        room = self.value - amount
        if self._sum <= room:
            return 0
        # The last entry that has to go is sought from whichever end is nearer: a log that refused requests
        # fill may be far longer than its value.
        if self._sum - room <= room:
            left = self._sum
            for instant, entry in self._log:
                left -= entry
                if left <= room:
                    return instant + self._window_ns - now
        kept = 0
        for instant, entry in reversed(self._log):
            kept += entry
            if kept > room:
                return instant + self._window_ns - now
        raise AssertionError("a log whose sum exceeds the room holds the entry that does so")

    def take(self, now: int, amount: int) -> list[int]:
        self._expire(now)
        self._sum += amount
        if self._log and self._log[-1][0] == now:
            self._log[-1][1] += amount
        elif amount:
            self._log.append([now, amount])
        else:
            return [now, 0]
        return self._log[-1]

    def give_back(self, now: int, receipt: object, amount: int) -> None:
        self._expire(now)
        if isinstance(receipt, list) and receipt[0] > now - self._window_ns:
            receipt[1] -= amount
            self._sum -= amount

    def used(self, now: int) -> int:
        self._expire(now)
        return self._sum

    def replenished_in(self, now: int) -> int:
        self._expire(now)
        for instant, entry in reversed(self._log):
            if entry:
                return instant + self._window_ns - now
        return 0

    def resize(self, now: int, value: int) -> None:
        self._expire(now)
        self.value = value


class Bucket:
    """A token bucket that refills continuously, `value` per window up to `burst`, and starts full.

    The level is kept in units of 1/window_ns, so that every refill is a whole number and nothing is rounded.
    """

    __slots__ = ("_at", "_burst_share", "_capacity", "_level", "_window_ns", "value")

    def __init__(self, value: int, window_ns: int, burst: int | None = None) -> None:
        self.value = value
        self._window_ns = window_ns
        self._burst_share = (burst if burst is not None else value, value)
        self._capacity = self._burst_share[0] * window_ns
        self._level = self._capacity
        self._at = 0

    def _refill(self, now: int) -> None:
        if now > self._at:
            self._level = min(self._capacity, self._level + (now - self._at) * self.value)
            self._at = now

    def wait(self, now: int, amount: int) -> int | None:
        self._refill(now)
        need = amount * self._window_ns
        if need > self._capacity:
            return None
        if need <= self._level:
            return 0
        return None if self.value == 0 else -((self._level - need) // self.value)

    def take(self, now: int, amount: int) -> None:
        self._refill(now)
        self._level -= amount * self._window_ns

    def give_back(self, now: int, receipt: object, amount: int) -> None:
        del receipt  # a bucket forgets when it was drawn from
        self._refill(now)
        self._level = min(self._capacity, self._level + amount * self._window_ns)

    def used(self, now: int) -> int:
        """Return what is missing to full, in whole units rounded up, seen against `value`.

        A burst above the value is spare, so the result may be negative then.
        """
        self._refill(now)
        return self.value - self._level // self._window_ns

    def replenished_in(self, now: int) -> int:
        self._refill(now)
        return 0 if self.value == 0 else -((self._level - self._capacity) // self.value)

    def resize(self, now: int, value: int) -> None:
        self._refill(now)
        burst, of_value = self._burst_share
        self.value = value
        self._capacity = burst * value // of_value * self._window_ns
        self._level = min(self._level, self._capacity)


class Slots:
    """Places for calls in flight; a place becomes free `lag_ns` after its call ended."""

    __slots__ = ("_at", "_busy", "_held_ns", "_lag_ns", "_leaving", "value")

    def __init__(self, value: int, lag_ns: int = 0) -> None:
        self.value = value
        self._lag_ns = lag_ns
        self._busy = 0
        self._leaving: deque[int] = deque()  # the instants at which places become free, in order
        self._held_ns = 0
        self._at = 0

    def _leave(self, now: int) -> None:
        while self._leaving and self._leaving[0] <= now:
            self._hold(self._leaving[0])
            self._leaving.popleft()
        self._hold(now)

    def _hold(self, until: int) -> None:
        self._held_ns += (self._busy + len(self._leaving)) * (until - self._at)
        self._at = until

    def held_ns(self, now: int) -> int:
        """Return the places held so far, each times how long (nanoseconds)."""
        self._leave(now)
        return self._held_ns

    def wait(self, now: int, amount: int) -> int | None:
        """Return 0, or the time until enough ended calls have left, or None when that is for others to say."""
        self._leave(now)
        excess = self._busy + len(self._leaving) + amount - self.value
        if excess <= 0:
            return 0
        return self._leaving[excess - 1] - now if excess <= len(self._leaving) else None

    def take(self, now: int, amount: int) -> None:
        self._leave(now)
        self._busy += amount

    def give_back(self, now: int, receipt: object, amount: int) -> None:
        del receipt  # one place is as good as another
        self._leave(now)
        self._busy -= amount
        if self._lag_ns:
            self._leaving.extend([now + self._lag_ns] * amount)

    def used(self, now: int) -> int:
        self._leave(now)
        return self._busy + len(self._leaving)

    def replenished_in(self, now: int) -> int:
        self._leave(now)
        return self._leaving[-1] - now if self._leaving else 0

    def resize(self, now: int, value: int) -> None:
        self._leave(now)
        self.value = value
