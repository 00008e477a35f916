"""One vendor account: every limit that hangs on it, asked and charged all-or-none."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field

from dujiang.clock import SECOND
from dujiang.simulation.faults import FaultKind
from dujiang.simulation.meters import Meter, Slots
from dujiang.simulation.series import Series, add
from dujiang.simulation.spec import Charge, LimitSpec, VendorSpec
from dujiang.terms import Dimension

_MOST_WINDOWS = 1_440


class Limit:
    """A limit at work: what was announced, the meter that judges, and how far it was used."""

    def __init__(self, spec: LimitSpec, release_lag_ns: int, started_at: int) -> None:
        self.spec = spec
        self.label = spec.label
        self.meter: Meter = spec.meter(release_lag_ns)
        self.announced = self.meter.value
        self.charged = 0
        self.peak = 0
        self.violations = 0
        self.history = Series(max(spec.window_ns, SECOND), (add,), most=_MOST_WINDOWS)
        self._started_at = started_at

    def charge(self, now: int, amount: int) -> object:
        """Count `amount` on the meter and in the history; return the meter's receipt."""
        receipt = self.meter.take(now, amount)
        self._note(now, amount)
        self.peak = max(self.peak, self.meter.used(now))
        return receipt

    def give_back(self, now: int, receipt: object, amount: int) -> None:
        """Take back a part of a charge."""
        self.meter.give_back(now, receipt, amount)
        if self.spec.dimension is not Dimension.CONCURRENCY:
            self._note(now, -amount)

    def _note(self, now: int, amount: int) -> None:
        self.charged += amount
        self.history.at(now - self._started_at, (0,))[0] += amount

    def held_ns(self, now: int) -> int:
        """Return the slots held so far, each times how long (nanoseconds); nothing for other limits."""
        return self.meter.held_ns(now) if isinstance(self.meter, Slots) else 0

    @property
    def by_generation(self) -> bool:
        """Return whether output is charged as it is generated."""
        spec = self.spec
        return spec.charge is Charge.GENERATED and spec.dimension in (
            Dimension.TOKENS,
            Dimension.OUTPUT_TOKENS,
        )

    def at_arrival(self, input_tokens: int, output_tokens: int) -> int:
        """Return what a call is charged when it arrives, `output_tokens` being the most it may generate."""
        if self.spec.charge is Charge.GENERATED:
            output_tokens = 0
        match self.spec.dimension:
            case Dimension.TOKENS:
                return input_tokens + output_tokens
            case Dimension.INPUT_TOKENS:
                return input_tokens
            case Dimension.OUTPUT_TOKENS:
                return output_tokens
            case _:
                return 1

    def settled(self, input_tokens: int, output_tokens: int) -> int:
        """Return what a call that reserved counts in the end."""
        return output_tokens + (input_tokens if self.spec.dimension is Dimension.TOKENS else 0)

    @property
    def settles(self) -> bool:
        """Return whether the difference between reserved and actual output is settled at the end."""
        spec = self.spec
        return spec.charge is Charge.SETTLED and spec.dimension in (Dimension.TOKENS, Dimension.OUTPUT_TOKENS)


@dataclass(slots=True)
class Admission:
    """What an admitted call holds, until `Account.finish`."""

    input_tokens: int
    receipts: list[object] = field(default_factory=list)
    charges: list[int] = field(default_factory=list)
    generated: int = 0


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why a call was not admitted: the limit that holds out longest, and for how long.

    `wait_ns` is None when no waiting helps (the call is larger than the limit) or when it depends on calls in
    flight; `amount` is what the call asked of the limit.
    """

    limit: Limit
    wait_ns: int | None
    amount: int

    @property
    def too_large(self) -> bool:
        """Return whether this call can never fit."""
        return self.wait_ns is None and self.limit.spec.dimension is not Dimension.CONCURRENCY


class Account:
    """The limits of one account. Times are nanoseconds of the vendor's own calendar."""

    def __init__(self, spec: VendorSpec, started_at: int) -> None:
        self.limits = [Limit(limit, spec.release_lag, started_at) for limit in spec.limits]
        self._refused_count = spec.refused_count
        self._unset_max_tokens = spec.unset_max_tokens
        self._cuts = [fault for fault in spec.faults if fault.kind is FaultKind.LIMIT_CUT]
        self._started_at = started_at
        turns = {turn for cut in self._cuts for turn in (cut.start or 0, cut.end) if turn is not None}
        self._turns = deque(sorted(turns))

    def admit(self, now: int, input_tokens: int, max_tokens: int | None) -> Admission | Refusal:
        """Charge a call on every limit, or on none and say which limit refuses.

        `max_tokens` is the most the call may generate in all its choices, None when it does not say.
        """
        self.advance(now)
        most = self._unset_max_tokens if max_tokens is None else max_tokens
        amounts = [limit.at_arrival(input_tokens, most) for limit in self.limits]
        refused = self._refusal(now, amounts)
        if refused is not None:
            if not self._refused_count:
                return refused
            for limit in self.limits:
                if limit.spec.dimension is Dimension.REQUESTS:
                    limit.charge(now, 1)
            return self._refusal(now, amounts) or refused
        admission = Admission(input_tokens)
        for limit, amount in zip(self.limits, amounts, strict=True):
            admission.receipts.append(limit.charge(now, amount))
            admission.charges.append(amount)
            if limit.meter.used(now) > limit.meter.value:
                limit.violations += 1
        return admission

    def _refusal(self, now: int, amounts: Sequence[int]) -> Refusal | None:
        longest: Refusal | None = None
        for limit, amount in zip(self.limits, amounts, strict=True):
            # A limit that learns of output only afterwards refuses while nothing is left of it.
            needed = max(1, amount) if limit.by_generation else amount
            wait = limit.meter.wait(now, needed)
            if wait == 0:
                continue
            refusal = Refusal(limit, wait, amount)
            if longest is None or _severity(refusal) > _severity(longest):
                longest = refusal
        return longest

    def generate(self, now: int, admission: Admission, tokens: int) -> None:
        """Count `tokens` more of output."""
        self.advance(now)
        admission.generated += tokens
        for limit in self.limits:
            if limit.by_generation:
                limit.charge(now, tokens)

    def finish(self, now: int, admission: Admission) -> None:
        """Free the slots of a call and settle what it reserved."""
        self.advance(now)
        for limit, receipt, charge in zip(self.limits, admission.receipts, admission.charges, strict=True):
            if limit.spec.dimension is Dimension.CONCURRENCY:
                limit.give_back(now, receipt, charge)
            elif limit.settles:
                spare = charge - limit.settled(admission.input_tokens, admission.generated)
                if spare > 0:
                    limit.give_back(now, receipt, spare)
                elif spare < 0:
                    limit.charge(now, -spare)

    def advance(self, now: int) -> None:
        """Bring limits that were cut in silence up to date; every cut takes effect at its own instant."""
        while self._turns and self._started_at + self._turns[0] <= now:
            turn = self._turns.popleft()
            for limit in self.limits:
                factors = [
                    0.5 if cut.factor is None else cut.factor
                    for cut in self._cuts
                    if cut.in_span(turn) and cut.dimension in (None, limit.spec.dimension)
                ]
                limit.meter.resize(self._started_at + turn, int(limit.announced * min(factors, default=1.0)))


def _severity(refusal: Refusal) -> tuple[int, int]:
    """Order refusals: too large, then waiting for calls in flight, then the longest wait."""
    if refusal.wait_ns is None:
        return (2 if refusal.too_large else 1, 0)
    return (0, refusal.wait_ns)
