"""A limit per calendar day, with the arithmetic of midnight. Pure: time is passed in, and so is when days turn."""

from __future__ import annotations

from collections.abc import Callable

from dujiang.admission.meters import Entry, Meter
from dujiang.clock import SECOND, Instant
from dujiang.terms import Dimension


class DayMeter(Meter):
    """A limit per calendar day of a time zone.

    A send shortly before midnight may reach the vendor shortly after it, so it counts in both days.
    """

    __slots__ = ("_day", "_late", "_next_turn", "_spread_ns", "_turn_after")

    def __init__(
        self,
        name: str,
        dimension: Dimension,
        limit: int,
        *,
        turn_after: Callable[[Instant], Instant],
        now: Instant,
        spread_ns: int = 0,
    ) -> None:
        super().__init__(name, dimension, limit, 86_400 * SECOND)
        self._turn_after = turn_after
        self._next_turn = self.due = turn_after(now)
        self._spread_ns = spread_ns
        self._late: list[Entry] = []
        self._day = 0

    def guard(self, spread_ns: int, lag_ns: int) -> None:
        self._spread_ns = spread_ns

    def expire(self, now: Instant) -> None:
        if now < self._next_turn:
            return
        turn = self._next_turn
        while self._next_turn <= now:
            turn = self._next_turn
            self._next_turn = self._turn_after(turn)
        self.due = self._next_turn
        self._day += 1
        self._late = self._late_before(turn)
        # The late ones belong to the new day from here on.
        for entry in self._late:
            entry.piece = [self._day]
        self.used = sum(entry.amount for entry in self._late)
        self.publish()

    def began_at(self) -> Instant:
        """Return when the present day began; a day in which clocks change has 23 or 25 hours."""
        return self._turn_after(Instant(self._next_turn - 26 * 3_600 * SECOND))

    def whole_at(self, now: Instant) -> Instant:
        return self._next_turn

    def next_expiry(self) -> int:
        return self._next_turn

    def ready_at(self, now: Instant, amount: int) -> Instant:
        if self.in_use(now) + amount <= self.limit:
            return now
        # The late ones of this day count in the next one too; a backlog larger than the limit leaves in whole days.
        days, rest = divmod(amount - 1, self.limit)
        if sum(entry.amount for entry in self._late_before(self._next_turn)) + rest + 1 > self.limit:
            days += 1
        return Instant(self._next_turn + days * self.window_ns)

    def _late_before(self, turn: Instant) -> list[Entry]:
        return [entry for entry in self._late if entry.taken_at >= turn - self._spread_ns]

    def take(self, now: Instant, amount: int) -> Entry:
        entry = Entry(amount, [self._day], now)
        self.used += amount
        if self._next_turn - now <= self._spread_ns:
            self._late.append(entry)
        self.publish()
        return entry

    def settle(self, now: Instant, entry: Entry, amount: int) -> None:
        self.expire(now)
        if entry.piece is None or entry.piece[0] != self._day:
            return
        self.used += amount - entry.amount
        entry.amount = amount
        self.publish()
