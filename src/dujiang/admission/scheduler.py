"""Who goes next: plain decisions over plain state, with the time passed in. Awaiting happens outside.

A call asks with `Ask`. `place` takes every limit on both sides in one decision and chooses the deployment.
Asks that cannot go wait in the `Lane` of their model, ordered by priority, then by arrival.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence, Set
from typing import Generic, TypeVar

from dujiang.admission.demand import Demand
from dujiang.admission.meters import NEVER, Meter
from dujiang.admission.reservation import Hold, try_take
from dujiang.clock import Instant
from dujiang.terms import Priority, TenantId, Usage

Target = TypeVar("Target")
_NOTHING_CLAIMED: frozenset[Meter] = frozenset()


class Candidate(Generic[Target]):
    """A deployment a call may go to, with the vendor's limits that would count it."""

    __slots__ = ("available_at", "meters", "target")

    def __init__(self, target: Target, meters: Sequence[Meter]) -> None:
        self.target = target
        self.meters = tuple(meters)
        self.available_at = Instant(0)
        """Not before this, because the vendor said so."""

    def ready_at(self, now: Instant, demand: Demand) -> tuple[Instant, Meter | None]:
        """Return when this deployment could take the demand, and the limit that binds until then."""
        at, binding = latest(self.meters, demand, now)
        if self.available_at > at:
            return self.available_at, None
        return at, binding


class Ask(Generic[Target]):
    """A call that wants to go."""

    __slots__ = (
        "arrived_at",
        "aside",
        "bytes",
        "candidates",
        "deadline",
        "demand",
        "priority",
        "returned",
        "tenant",
        "tenant_meters",
        "tenant_patience_ns",
        "tenant_wait_ns",
        "vendor_wait_ns",
        "waited_for",
        "waiting_since",
    )

    def __init__(
        self,
        *,
        tenant: TenantId,
        tenant_meters: Sequence[Meter],
        candidates: Sequence[Candidate[Target]],
        demand: Demand,
        priority: Priority,
        deadline: Instant,
        arrived_at: Instant,
        size_bytes: int = 0,
        tenant_patience_ns: int = 0,
    ) -> None:
        self.tenant = tenant
        self.tenant_meters = tenant_meters
        self.candidates = candidates
        self.demand = demand
        self.priority = priority
        self.deadline = deadline
        self.arrived_at = arrived_at
        self.bytes = size_bytes
        self.tenant_patience_ns = tenant_patience_ns
        self.returned = False
        """Whether a vendor sent it back, so that it need not queue up again."""
        self.aside = False
        """Whether its own tenant's limit holds it up, so that others need not wait for it."""
        self.tenant_wait_ns = 0
        self.vendor_wait_ns = 0
        self.waited_for: str | None = None
        """The name of the limit it waited for last."""
        self.waiting_since = arrived_at

    def note_wait(self, now: Instant, blocked: Blocked) -> None:
        """Book the time since the last look to the side that was in the way then, and remember this one."""
        self.book_wait(now)
        self.waited_for = blocked.name if blocked.by_tenant else f"vendor:{blocked.name}"

    def book_wait(self, now: Instant) -> None:
        """Book the time since the last look."""
        waited = now - self.waiting_since
        self.waiting_since = now
        if self.waited_for is not None and not self.waited_for.startswith("vendor:"):
            self.tenant_wait_ns += waited
        else:
            self.vendor_wait_ns += waited


class Blocked:
    """Why a call cannot go now, and when it could."""

    __slots__ = ("by_tenant", "claims", "meter", "until")

    def __init__(
        self, until: Instant, meter: Meter | None, *, by_tenant: bool, claims: frozenset[Meter] = frozenset()
    ) -> None:
        self.until = until
        self.meter = meter
        self.by_tenant = by_tenant
        self.claims = claims
        """The vendor's limits it waits for, which calls behind it, for any model, must leave to it."""

    @property
    def name(self) -> str:
        """Return the name of the limit in the way."""
        return self.meter.name if self.meter is not None else "vendor pause"


def latest(meters: Sequence[Meter], demand: Demand, now: Instant) -> tuple[Instant, Meter | None]:
    """Return when all meters fit the demand, and the one that takes longest (None when all fit now)."""
    at, binding = now, None
    for meter in meters:
        amount = meter.needed(demand)
        if amount and not meter.fits(now, amount):
            ready = meter.ready_at(now, amount)
            if ready > at or binding is None:
                at, binding = max(ready, at), meter
    return at, binding


Placed = tuple[Candidate[Target], tuple[list[Hold], list[Hold]]]


def place(ask: Ask[Target], now: Instant, claimed: Set[Meter] = _NOTHING_CLAIMED) -> Placed[Target] | Blocked:
    """Take every limit the call needs on both sides, at the first candidate with room; or say what is in the way.

    Candidates with a limit that calls before this one wait for (`claimed`) are left to those.
    """
    for candidate in ask.candidates:
        if candidate.available_at > now or (claimed and not claimed.isdisjoint(candidate.meters)):
            continue
        tenant_count = len(ask.tenant_meters)
        holds = try_take((*ask.tenant_meters, *candidate.meters), ask.demand, now)
        if holds is not None:
            return candidate, (holds[:tenant_count], holds[tenant_count:])
    return blocked(ask, now, claimed)


def blocked(ask: Ask[Target], now: Instant, claimed: Set[Meter] = _NOTHING_CLAIMED) -> Blocked:
    """Say what keeps the call from going now; until NEVER, when those who claim its limits have to go first."""
    until, meter = latest(ask.tenant_meters, ask.demand, now)
    if meter is not None:
        return Blocked(until, meter, by_tenant=True)
    free = [candidate for candidate in ask.candidates if claimed.isdisjoint(candidate.meters)]
    found = [candidate.ready_at(now, ask.demand) for candidate in free]
    until, meter = min(found, key=lambda one: one[0], default=(NEVER, next(iter(claimed), None)))
    claims = frozenset(binding for _, binding in found if binding is not None)
    return Blocked(until, meter, by_tenant=False, claims=claims)


class Lane(Generic[Target]):
    """The calls for one model that wait, by priority, then in order of arrival."""

    __slots__ = ("_classes", "_queued", "claims")

    def __init__(self) -> None:
        self.claims: frozenset[Meter] = frozenset()
        """The vendor's limits its first call waits for."""
        self._classes: tuple[deque[Ask[Target]], ...] = tuple(deque() for _ in Priority)
        self._queued = [Usage(requests=0) for _ in Priority]

    def __len__(self) -> int:
        return sum(map(len, self._classes))

    def __iter__(self) -> Iterator[Ask[Target]]:
        for waiting in self._classes:
            yield from waiting

    def counts(self) -> dict[str, int]:
        """Return how many wait in each class."""
        return {priority.name.lower(): len(self._classes[priority]) for priority in Priority}

    def add(self, ask: Ask[Target]) -> None:
        """Put a call at the end of its class; one that was let go before and came back, at the head."""
        if ask.returned:
            self._classes[ask.priority].appendleft(ask)
        else:
            self._classes[ask.priority].append(ask)
        ask.aside = False
        self._queued[ask.priority] = add_usage(self._queued[ask.priority], ask.demand.estimate, 1)

    def remove(self, ask: Ask[Target]) -> bool:
        """Take a call out, wherever it stands; return whether it was there."""
        waiting = self._classes[ask.priority]
        if waiting and waiting[0] is ask:
            waiting.popleft()
        else:
            try:
                waiting.remove(ask)
            except ValueError:
                return False
        self.stand_aside(ask, aside=True)
        return True

    def stand_aside(self, ask: Ask[Target], *, aside: bool) -> None:
        """Leave a call out of what is ahead of others, for as long as its own tenant's limit holds it up."""
        if ask.aside is not aside:
            ask.aside = aside
            sign = -1 if aside else 1
            self._queued[ask.priority] = add_usage(self._queued[ask.priority], ask.demand.estimate, sign)

    def is_ahead(self, priority: Priority) -> bool:
        """Return whether somebody waits who goes before a new call of this priority."""
        return any(self._classes[rank] for rank in range(priority + 1))

    def ahead(self, priority: Priority) -> Usage:
        """Return what the calls that go before a new one of this priority will use."""
        total = Usage(requests=0)
        for rank in range(priority + 1):
            total = add_usage(total, self._queued[rank], 1)
        return total

    def predicted_start(self, ask: Ask[Target], now: Instant) -> Instant:
        """Estimate when a new call would start, behind all that is ahead of it."""
        ahead = self.ahead(ask.priority)
        total = Demand(add_usage(ahead, ask.demand.estimate, 1), add_usage(ahead, ask.demand.ceiling, 1))
        starts = [candidate.ready_at(now, total)[0] for candidate in ask.candidates]
        own = latest(ask.tenant_meters, ask.demand, now)[0]
        return max(own, min(starts, default=NEVER))


def add_usage(one: Usage, other: Usage, sign: int) -> Usage:
    """Return the sum (sign 1) or difference (sign -1) of two usages."""
    return Usage(
        requests=one.requests + sign * other.requests,
        input_tokens=one.input_tokens + sign * other.input_tokens,
        output_tokens=one.output_tokens + sign * other.output_tokens,
        cached_tokens=one.cached_tokens + sign * other.cached_tokens,
        audio_seconds=one.audio_seconds + sign * other.audio_seconds,
        characters=one.characters + sign * other.characters,
    )
