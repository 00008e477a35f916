"""A reservation: all the limits one call holds, on both sides, taken together and ended exactly once."""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum
from typing import Any, Generic, Protocol, TypeVar

from dujiang.admission.demand import Charge, Demand, amounts_of
from dujiang.admission.meters import Entry, Meter
from dujiang.clock import Instant
from dujiang.terms import Usage

Target = TypeVar("Target")


class ReservationState(StrEnum):
    """Where a reservation is in its life; every state but `held` is final."""

    HELD = "held"
    SETTLED = "settled"
    RELEASED = "released"
    EXPIRED = "expired"


Hold = tuple[Meter, Entry]


class Ending(Protocol):
    """Who is told that a reservation has ended."""

    def ended(self, reservation: Reservation[Any], now: Instant) -> None:
        """Take note; capacity may have become free."""
        ...


def try_take(meters: Sequence[Meter], demand: Demand, now: Instant) -> list[Hold] | None:
    """Take what is needed from all meters or from none; return what is held, or None.

    Between processes: each first announces what it wants, then looks. Two that announce at the same time both
    see too much and both step back, so the sum is never over the limit; one of them succeeds a moment later.
    """
    if meters and meters[0].cell is not None:
        return _try_take_shared(meters, demand, now)
    estimated, at_most = demand.estimated, demand.at_most
    wanted: list[int] = []
    for meter in meters:
        # `meter.needed` and `meter.fits` written out: this loop is most of what a decision costs.
        amount = (at_most if meter.at_ceiling else estimated)[meter.place]
        if now >= meter.due:
            meter.expire(now)
        # Who needs nothing of a limit is not held up by it, even when others have overdrawn it.
        over = amount and meter.used + amount > meter.limit
        if over and not (meter.clamps and meter.fits(now, amount := meter.needed(demand))):
            return None
        wanted.append(amount)
    return [(meter, meter.take(now, amount)) for meter, amount in zip(meters, wanted, strict=True)]


def _try_take_shared(meters: Sequence[Meter], demand: Demand, now: Instant) -> list[Hold] | None:
    for meter in meters:
        meter.expire(now)
        meter.announce(meter.needed(demand))
    for meter in meters:
        amount = meter.needed(demand)
        if amount and not meter.fits(now, amount):
            for announced in meters:
                announced.publish()
            return None
    return [(meter, meter.take(now, meter.needed(demand))) for meter in meters]


class Reservation(Generic[Target]):
    """What one call holds. It ends once, by `settle`, `release` or `expire`; later calls do nothing."""

    __slots__ = ("_admission", "_tenant", "_vendor", "estimate", "extended", "state", "taken_at", "target")

    def __init__(
        self,
        admission: Ending,
        target: Target,
        estimate: Usage,
        holds: tuple[list[Hold], list[Hold]],
        now: Instant,
    ) -> None:
        self._admission = admission
        self._tenant, self._vendor = holds
        self.target = target
        self.estimate = estimate
        self.extended = 0
        """Tokens added on the way, by a stream that ran longer than was reserved."""
        self.taken_at = now
        self.state = ReservationState.HELD

    def extend(self, usage: Usage, now: Instant) -> None:
        """Count more than was reserved, as soon as a stream is seen to use more; never less."""
        if self.state is not ReservationState.HELD or usage.tokens <= self.estimate.tokens + self.extended:
            return
        self.extended = usage.tokens - self.estimate.tokens
        for meter, entry in (*self._tenant, *self._vendor):
            if not meter.counts_calls:
                amount = meter.cost(usage)
                if amount > entry.amount:
                    meter.settle(now, entry, amount)

    def settle(self, actual: Usage, now: Instant, *, vendor_actual: Usage | None = None) -> None:
        """End with what was really used; `vendor_actual`, where the vendor's view is another."""
        if self._end(ReservationState.SETTLED):
            self._finish(self._tenant, actual, now)
            self._finish(self._vendor, vendor_actual or actual, now)
            self._admission.ended(self, now)

    def release(self, now: Instant) -> None:
        """End with nothing used: the call never left the house."""
        if self._end(ReservationState.RELEASED):
            self._finish(self._tenant, NOTHING, now)
            self._finish(self._vendor, NOTHING, now)
            self._admission.ended(self, now)

    def expire(self, now: Instant) -> None:
        """End because its owner is lost: what was reserved counts as used."""
        if self._end(ReservationState.EXPIRED):
            for meter, entry in (*self._tenant, *self._vendor):
                meter.close(now, entry)
            self._admission.ended(self, now)

    def _end(self, state: ReservationState) -> bool:
        if self.state is not ReservationState.HELD:
            return False
        self.state = state
        return True

    @staticmethod
    def _finish(holds: list[Hold], usage: Usage, now: Instant) -> None:
        amounts = amounts_of(usage)
        for meter, entry in holds:
            if meter.counts_calls:
                meter.close(now, entry)
                continue
            amount = amounts[meter.place] if meter.charge is Charge.ACTUAL else meter.charged(entry.amount, usage)
            if amount != entry.amount:
                meter.settle(now, entry, amount)


NOTHING = Usage(requests=0)
