"""The arithmetic of one limit, as a conservative mirror of what its owner counts. Pure: time is passed in.

Why the mirror is never more generous than the original: let every request reach the vendor between `send + c`
and `send + c + spread`. A send is counted here from `send` to `send + window + spread`. Two sends that the vendor
sees in one window of length W are less than W + spread apart here, so they are counted together here too; and
this holds for a window at any phase, aligned or sliding, and for a token bucket whose burst is its limit.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import deque
from typing import Protocol

import msgspec

from dujiang.admission.demand import PLACES, Charge, Demand, amounts_of
from dujiang.clock import SECOND, Instant
from dujiang.terms import Dimension, Usage

NEVER = Instant(1 << 62)
"""Later than anything: what is asked for does not fit even into an empty window."""

_WITH_INPUT = (Dimension.INPUT_TOKENS, Dimension.TOKENS)

_GRAINS = 256
"""A window's entries are merged into at most about this many pieces, so memory does not grow with traffic."""


class Cell(Protocol):
    """The words of one limit that processes share: each writes its own and reads the others'."""

    def publish(self, used: int, next_expiry: int) -> None:
        """Say how much this process uses, and when the first of it expires (0: nothing will)."""
        ...

    def others(self) -> int:
        """Return how much all other processes use."""
        ...

    def next_expiry(self) -> int:
        """Return when the first use of another process expires, 0 when unknown."""
        ...

    def inherited(self) -> int:
        """Return what this process's predecessor had in use when it died."""
        ...


class Entry(msgspec.Struct, gc=False):
    """What one reservation holds of one meter."""

    amount: int
    piece: list[int] | None
    taken_at: int


class Meter(ABC):
    """One limit with its current use: the parts that every kind of limit shares.

    A call costs `needed(demand)` when it is let in and `charged(…)` when it has ended. `fits` answers now;
    `ready_at` answers when; `take` assumes that `fits` was asked in the same breath.
    """

    __slots__ = (
        "at_ceiling",
        "cell",
        "charge",
        "clamps",
        "counts_calls",
        "dimension",
        "due",
        "limit",
        "name",
        "pending",
        "place",
        "used",
        "window_ns",
    )

    def __init__(self, name: str, dimension: Dimension, limit: int, window_ns: int = 0) -> None:
        self.name = name
        self.dimension = dimension
        self.limit = limit
        self.window_ns = window_ns
        self.used = 0
        self.pending = 0
        """Cost of calls that were let in and wait; not yet used."""
        self.place = PLACES[dimension]
        self.counts_calls = dimension in (Dimension.CONCURRENCY, Dimension.SESSIONS)
        """Whether it counts calls in flight, which end, rather than what they use, which expires."""
        self.due = NEVER
        """When `expire` has something to do; looking at this first saves the hot path a call."""
        self.cell: Cell | None = None
        self.charge = Charge.ACTUAL
        self.at_ceiling = False
        self.clamps = False
        """Whether a call larger than the limit may go when nothing else is in use: a slice of a longer window."""

    def charge_by(self, charge: Charge) -> None:
        """Say how the owner of this limit charges; the default is by actual use."""
        self.charge = charge
        self.at_ceiling = charge in (Charge.ARRIVAL_SETTLED, Charge.ARRIVAL_MAX)

    def guard(self, spread_ns: int, lag_ns: int) -> None:
        """Say how far the network may spread requests, and how long after its end a call keeps its slot."""

    def cost(self, usage: Usage) -> int:
        """Return what a usage comes to in this limit's dimension."""
        return amounts_of(usage)[self.place]

    def needed(self, demand: Demand) -> int:
        """Return what must be free for a call to be let in."""
        amount = (demand.at_most if self.at_ceiling else demand.estimated)[self.place]
        return min(amount, self.limit) if self.clamps else amount

    def charged(self, reserved: int, actual: Usage) -> int:
        """Return what a call that used `actual` counts as in the end."""
        if self.charge is Charge.ARRIVAL_MAX and actual.requests:
            return reserved
        amount = self.cost(actual)
        if self.charge is Charge.UNCACHED and self.dimension in _WITH_INPUT:
            return amount - actual.cached_tokens
        return amount

    def share(self, cell: Cell, now: Instant) -> None:
        """Count together with other processes from now on, taking over what a dead predecessor left."""
        self.cell = cell
        inherited = cell.inherited()
        if inherited:
            self.inherit(now, inherited)
        self.publish()

    def inherit(self, now: Instant, amount: int) -> None:
        """Count what was used before this process began, as if it were used now."""
        self.take(now, amount)

    def publish(self) -> None:
        """Tell the other processes what is used here."""
        if self.cell is not None:
            self.cell.publish(self.used, self.next_expiry())

    def announce(self, amount: int) -> None:
        """Tell the other processes of an amount about to be taken; `take` or `publish` follows."""
        if self.cell is not None:
            self.cell.publish(self.used + amount, self.next_expiry())

    def in_use(self, now: Instant) -> int:
        """Return what counts against the limit now, in all processes."""
        if now >= self.due:
            self.expire(now)
        return self.used if self.cell is None else self.used + self.cell.others()

    def fits(self, now: Instant, amount: int) -> bool:
        """Return whether the amount can be taken now."""
        return self.in_use(now) + amount <= self.limit

    @abstractmethod
    def expire(self, now: Instant) -> None:
        """Forget what no longer counts."""

    @abstractmethod
    def next_expiry(self) -> int:
        """Return when something used here stops counting, 0 when only an event can end it."""

    def whole_at(self, now: Instant) -> Instant:
        """Return when nothing used until now counts any more; now, where only an event can tell."""
        return now

    @abstractmethod
    def ready_at(self, now: Instant, amount: int) -> Instant:
        """Return when the amount fits if nothing else is taken; NEVER if it never does."""

    @abstractmethod
    def take(self, now: Instant, amount: int) -> Entry:
        """Count the amount from now on."""

    @abstractmethod
    def settle(self, now: Instant, entry: Entry, amount: int) -> None:
        """Correct an entry to what was really used."""

    def close(self, now: Instant, entry: Entry) -> None:
        """Say that the call behind an entry has ended."""


class WindowMeter(Meter):
    """A limit per rolling window: requests/60s, tokens/60s, 1 request per second."""

    __slots__ = ("_grain_ns", "_life_ns", "_pieces")

    def __init__(self, name: str, dimension: Dimension, limit: int, window_ns: int, spread_ns: int = 0) -> None:
        super().__init__(name, dimension, limit, window_ns)
        self._life_ns = window_ns + spread_ns
        self._grain_ns = window_ns // _GRAINS
        # Each piece: [first send, last send, amount]. It expires a life after its last send.
        self._pieces: deque[list[int]] = deque()

    def guard(self, spread_ns: int, lag_ns: int) -> None:
        if self.window_ns + spread_ns != self._life_ns:
            self._life_ns = self.window_ns + spread_ns
            self.due = Instant(0)

    def expire(self, now: Instant) -> None:
        pieces = self._pieces
        edge = now - self._life_ns
        if pieces and pieces[0][1] <= edge:
            while pieces and pieces[0][1] <= edge:
                self.used -= pieces.popleft()[2]
            self.publish()
        self.due = Instant(pieces[0][1] + self._life_ns) if pieces else NEVER

    def whole_at(self, now: Instant) -> Instant:
        return Instant(self._pieces[-1][1] + self._life_ns) if self._pieces else now

    def next_expiry(self) -> int:
        return self._pieces[0][1] + self._life_ns if self._pieces else 0

    def ready_at(self, now: Instant, amount: int) -> Instant:
        excess = self.in_use(now) + amount - self.limit
        if excess <= 0:
            return now
        if amount > self.limit:
            # A backlog larger than the limit leaves in whole windows; the rest is asked of the present one.
            windows = (amount - 1) // self.limit
            rest = self.ready_at(now, amount - windows * self.limit)
            return Instant(rest + windows * self._life_ns)
        for piece in self._pieces:
            excess -= piece[2]
            if excess <= 0:
                return Instant(piece[1] + self._life_ns)
        # What remains is held by other processes, whose next expiry is all that is known of them.
        elsewhere = self.cell.next_expiry() if self.cell is not None else 0
        return Instant(elsewhere) if elsewhere > now else Instant(now + max(self._grain_ns, 1_000_000))

    def take(self, now: Instant, amount: int) -> Entry:
        pieces = self._pieces
        if pieces and now - pieces[-1][0] < self._grain_ns:
            piece = pieces[-1]
            piece[1] = now
            piece[2] += amount
        else:
            piece = [now, now, amount]
            if not pieces:
                self.due = Instant(now + self._life_ns)
            pieces.append(piece)
        self.used += amount
        if self.cell is not None:
            self.publish()
        return Entry(amount, piece, now)

    def settle(self, now: Instant, entry: Entry, amount: int) -> None:
        difference = amount - entry.amount
        if not difference:
            return
        if now >= self.due:
            self.expire(now)
        piece = entry.piece
        if piece is None or piece[1] <= now - self._life_ns:
            return
        piece[2] += difference
        self.used += difference
        entry.amount = amount
        if self.cell is not None:
            self.publish()


class ConcurrencyMeter(Meter):
    """A limit of calls in flight.

    A vendor frees a slot a little after the last byte was sent, so a closed entry counts for `lag_ns` more.
    """

    __slots__ = ("_closing", "_hold_ns", "_lag_ns")

    ORPHAN_NS = 30 * SECOND
    """How long the slots of a dead process stay taken: the vendor may still be answering its calls."""

    def __init__(self, name: str, dimension: Dimension, limit: int, lag_ns: int = 0) -> None:
        super().__init__(name, dimension, limit)
        self._lag_ns = lag_ns
        self._closing: deque[tuple[int, int]] = deque()
        self._hold_ns = 1.0 * SECOND

    def guard(self, spread_ns: int, lag_ns: int) -> None:
        self._lag_ns = lag_ns

    def inherit(self, now: Instant, amount: int) -> None:
        self.used += amount
        self._insert(now + self.ORPHAN_NS, amount)

    def expire(self, now: Instant) -> None:
        closing = self._closing
        if closing and closing[0][0] <= now:
            while closing and closing[0][0] <= now:
                self.used -= closing.popleft()[1]
            self.publish()
        self.due = Instant(closing[0][0]) if closing else NEVER

    def next_expiry(self) -> int:
        return self._closing[0][0] if self._closing else 0

    def ready_at(self, now: Instant, amount: int) -> Instant:
        missing = self.in_use(now) + amount - self.limit
        if missing <= 0:
            return now
        for free_at, closing in self._closing:
            missing -= closing
            if missing <= 0:
                return Instant(free_at)
        # Slots come free one by one: on average `limit` of them in one mean holding time.
        return Instant(now + max(1_000_000, round(self._hold_ns * missing / self.limit)))

    def take(self, now: Instant, amount: int) -> Entry:
        self.used += amount
        if self.cell is not None:
            self.publish()
        return Entry(amount, None, now)

    def settle(self, now: Instant, entry: Entry, amount: int) -> None:
        """Do nothing: a call in flight is one call, whatever it used."""

    def close(self, now: Instant, entry: Entry) -> None:
        if not entry.amount:
            return
        self._hold_ns += 0.1 * (now - entry.taken_at - self._hold_ns)
        if self._lag_ns:
            self._insert(now + self._lag_ns, entry.amount)
        else:
            self.used -= entry.amount
        entry.amount = 0
        if self.cell is not None:
            self.publish()

    def _insert(self, at: int, amount: int) -> None:
        later: list[tuple[int, int]] = []
        while self._closing and self._closing[-1][0] > at:
            later.append(self._closing.pop())
        self._closing.append((at, amount))
        self._closing.extend(reversed(later))
        self.due = Instant(self._closing[0][0])
