"""The engine around the scheduler: it holds the queue, wakes waiters by event, and ends what is lost.

Nobody polls: a waiter is woken by a reservation that ends, by another process that frees something, or by the one
timer that is set to the earliest moment at which the head of a lane could go.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable
from typing import Any, Generic, Protocol, TypeVar

from dujiang.admission.meters import NEVER, Meter
from dujiang.admission.reservation import Reservation
from dujiang.admission.scheduler import Ask, Blocked, Lane, place
from dujiang.clock import SECOND, Clock, Instant
from dujiang.errors import DeadlineUnreachable, DujiangError, QueueFull, RateLimited
from dujiang.terms import Dimension, Priority, TenantId

Target = TypeVar("Target")


class QueueLimits(Protocol):
    """How much may wait; see `queue` in the configuration."""

    @property
    def max_calls(self) -> int: ...

    @property
    def max_calls_per_tenant(self) -> int: ...

    @property
    def max_bytes(self) -> int: ...


class Admission(Generic[Target]):
    """Lets calls go when every limit on both sides has room, in order of priority and arrival."""

    def __init__(self, clock: Clock, limits: QueueLimits, *, lease_ns: int = 900 * SECOND) -> None:
        self.limits = limits
        self.on_capacity: Callable[[], None] | None = None
        """Called when something became free, so that other processes can look too."""
        self.on_waiting: Callable[[int], None] | None = None
        """Called with the number of calls that wait, when it changes."""
        self._clock = clock
        self._lease_ns = lease_ns
        self._lanes: dict[str, Lane[Target]] = {}
        self._futures: dict[Ask[Target], asyncio.Future[Reservation[Target]]] = {}
        self._held: dict[Reservation[Target], None] = {}
        self._waiting_by_tenant: Counter[TenantId] = Counter()
        self._waiting_bytes = 0
        self._wake_at: Instant | None = None
        self._wake: asyncio.TimerHandle | None = None
        self._soon: asyncio.Handle | None = None

    @property
    def waiting(self) -> int:
        """Return how many calls wait."""
        return len(self._futures)

    @property
    def held(self) -> int:
        """Return how many reservations are held."""
        return len(self._held)

    def lanes(self) -> dict[str, Lane[Target]]:
        """Return the queues by model."""
        return self._lanes

    def try_reserve(self, lane_name: str, ask: Ask[Target], now: Instant) -> Reservation[Target] | Blocked:
        """Answer at once: a reservation, or what is in the way. Nobody who waits is overtaken."""
        lane = self._lanes.get(lane_name)
        if lane is not None and lane.is_ahead(ask.priority):
            return Blocked(lane.predicted_start(ask, now), None, by_tenant=False)
        return self._place(ask, now, self._claims_before(ask.priority) if self._futures else None)

    def _claims_before(self, priority: Priority) -> set[Meter]:
        """Return the vendor's limits that calls wait for, for whatever model, who go before one of this priority."""
        return {meter for lane in self._lanes.values() if lane.is_ahead(priority) for meter in lane.claims}

    async def reserve(self, lane_name: str, ask: Ask[Target]) -> Reservation[Target]:
        """Hold every limit of the call, waiting for its turn if there is one before its deadline.

        Raises RateLimited (the tenant's own limit), QueueFull, DeadlineUnreachable; all with an honest
        `retry_after_ns`.
        """
        now = self._clock.now()
        answer = self.try_reserve(lane_name, ask, now)
        if isinstance(answer, Reservation):
            return answer
        self._check_door(lane_name, ask, now)
        return await self._wait(lane_name, ask, now)

    def ended(self, reservation: Reservation[Target], now: Instant) -> None:
        """Take note that a reservation ended, and let those who wait look again."""
        self._held.pop(reservation, None)
        self.wake_soon()
        if self.on_capacity is not None:
            self.on_capacity()

    def wake_soon(self) -> None:
        """Look at the queue in the next turn of the event loop, once for however many ask."""
        if self._futures and self._soon is None:
            self._soon = asyncio.get_running_loop().call_soon(self._dispatch)

    def expire_lost(self) -> int:
        """End reservations that are held longer than any call may take; return how many there were."""
        now = self._clock.now()
        lost = [one for one in self._held if now - one.taken_at > self._lease_ns]
        for reservation in lost:
            reservation.expire(now)
        return len(lost)

    def _place(
        self, ask: Ask[Target], now: Instant, claimed: set[Meter] | None = None
    ) -> Reservation[Target] | Blocked:
        placed = place(ask, now, claimed) if claimed else place(ask, now)
        if isinstance(placed, Blocked):
            return placed
        candidate, holds = placed
        reservation = Reservation(self, candidate.target, ask.demand.estimate, holds, now)
        self._held[reservation] = None
        return reservation

    def _check_door(self, lane_name: str, ask: Ask[Target], now: Instant) -> None:
        """Refuse now whom waiting cannot help."""
        check_size(ask)
        self._check_tenant(ask, now)
        limits = self.limits
        lane = self._lanes.get(lane_name) or Lane[Target]()
        start = lane.predicted_start(ask, now)
        if start > ask.deadline:
            raise DeadlineUnreachable(
                "Too many calls are ahead for this one to start before its deadline.",
                retry_after_ns=start - now,
            )
        if (
            len(self._futures) >= limits.max_calls
            or self._waiting_by_tenant[ask.tenant] >= limits.max_calls_per_tenant
            or self._waiting_bytes + ask.bytes > limits.max_bytes
        ):
            raise QueueFull(retry_after_ns=max(start - now, SECOND // 10))

    def _check_tenant(self, ask: Ask[Target], now: Instant) -> None:
        patience = min(ask.tenant_patience_ns, ask.deadline - now)
        for meter in ask.tenant_meters:
            needed = meter.needed(ask.demand)
            amount = needed + meter.pending
            if not needed or meter.fits(now, amount):
                continue
            ready = meter.ready_at(now, amount)
            if ready - now > patience:
                raise rate_limited(meter, now, ready)

    async def _wait(self, lane_name: str, ask: Ask[Target], now: Instant) -> Reservation[Target]:
        loop = asyncio.get_running_loop()
        future: asyncio.Future[Reservation[Target]] = loop.create_future()
        self._join(lane_name, ask, future)
        ask.waiting_since = now
        give_up = loop.call_later((ask.deadline - now) / SECOND, self._give_up, lane_name, ask)
        self._dispatch()
        try:
            return await future
        except asyncio.CancelledError:
            if future.done() and not future.cancelled() and future.exception() is None:
                future.result().release(self._clock.now())
            raise
        finally:
            give_up.cancel()
            self._leave(lane_name, ask)

    def _join(self, lane_name: str, ask: Ask[Target], future: asyncio.Future[Reservation[Target]]) -> None:
        self._lanes.setdefault(lane_name, Lane()).add(ask)
        self._futures[ask] = future
        self._waiting_by_tenant[ask.tenant] += 1
        self._waiting_bytes += ask.bytes
        if self.on_waiting is not None:
            self.on_waiting(len(self._futures))
        for meter in ask.tenant_meters:
            meter.pending += meter.needed(ask.demand)

    def _leave(self, lane_name: str, ask: Ask[Target]) -> None:
        """Take a call out of the queue; what it was granted, if anything, is not touched."""
        if self._futures.pop(ask, None) is None:
            return
        self._lanes[lane_name].remove(ask)
        self._waiting_by_tenant[ask.tenant] -= 1
        if not self._waiting_by_tenant[ask.tenant]:
            del self._waiting_by_tenant[ask.tenant]
        self._waiting_bytes -= ask.bytes
        if self.on_waiting is not None:
            self.on_waiting(len(self._futures))
        for meter in ask.tenant_meters:
            meter.pending -= meter.needed(ask.demand)
        self.wake_soon()

    def _give_up(self, lane_name: str, ask: Ask[Target]) -> None:
        future = self._futures.get(ask)
        if future is None or future.done():
            return
        now = self._clock.now()
        ask.book_wait(now)
        start = self._lanes[lane_name].predicted_start(ask, now)
        error: DujiangError = DeadlineUnreachable(
            f"The deadline passed while the call waited for {ask.waited_for or 'its turn'}.",
            retry_after_ns=max(start - now, SECOND // 10),
        )
        self._leave(lane_name, ask)
        future.set_exception(error)

    def _dispatch(self) -> None:
        """Let go whoever can, lane by lane, and set the timer for the next who could."""
        if self._soon is not None:
            self._soon.cancel()
            self._soon = None
        now = self._clock.now()
        wake_at: Instant | None = None
        lanes = sorted(
            (item for item in self._lanes.items() if len(item[1])),
            key=lambda item: _rank(item[1]),
        )
        claimed: set[Meter] = set()
        for name, lane in lanes:
            ready = self._dispatch_lane(name, lane, now, claimed)
            claimed |= lane.claims
            if ready is not None and (wake_at is None or ready < wake_at):
                wake_at = ready
        self._arm(wake_at, now)

    def _dispatch_lane(self, name: str, lane: Lane[Target], now: Instant, claimed: set[Meter]) -> Instant | None:
        """Let the lane's calls go in order; return when to look again, None when nobody waits for a time.

        What calls before them wait for, in other lanes, is left to those: their leaving wakes this lane.
        """
        wake_at: Instant | None = None
        lane.claims = frozenset()
        held_up: dict[TenantId, Blocked] = {}
        for ask in list(lane):
            future = self._futures[ask]
            if future.done():
                # Its caller has gone in this very turn of the event loop; it leaves when it is woken.
                continue
            if ask.tenant in held_up:
                lane.stand_aside(ask, aside=True)
                ask.note_wait(now, held_up[ask.tenant])
                continue
            answer = self._place(ask, now, claimed)
            if isinstance(answer, Reservation):
                ask.book_wait(now)
                self._leave(name, ask)
                future.set_result(answer)
                continue
            ask.note_wait(now, answer)
            lane.stand_aside(ask, aside=answer.by_tenant)
            if answer.until < (NEVER if wake_at is None else wake_at):
                wake_at = answer.until
            if not answer.by_tenant:
                lane.claims = answer.claims
                break
            # Somebody held up by his own limits stands aside for the others.
            held_up[ask.tenant] = answer
        return wake_at

    def _arm(self, wake_at: Instant | None, now: Instant) -> None:
        if self._wake is not None:
            self._wake.cancel()
            self._wake = None
        if wake_at is not None:
            # A timer may fire a little early by its own clock; half a millisecond later is surely not.
            delay_s = max(wake_at - now, 0) / SECOND + 0.0005
            self._wake = asyncio.get_running_loop().call_later(delay_s, self._dispatch)


def _rank(lane: Lane[Target]) -> tuple[int, int]:
    head = next(iter(lane))
    return head.priority, head.arrived_at


def check_size(ask: Ask[Any]) -> None:
    """Refuse a call that is larger than a limit: it would wait for ever."""
    best: tuple[int, Meter] | None = None
    for meters in (ask.tenant_meters, *(candidate.meters for candidate in ask.candidates)):
        too_small = [(meter.needed(ask.demand), meter) for meter in meters if meter.needed(ask.demand) > meter.limit]
        if not too_small and meters is not ask.tenant_meters:
            return
        if too_small:
            best = too_small[0]
            if meters is ask.tenant_meters:
                break
    if best is not None:
        needed, meter = best
        error = RateLimited(
            f"This call needs about {needed} {meter.dimension.value.replace('_', ' ')}, more than the whole limit "
            f"of {meter.limit} ({meter.name}); shorten it or lower its maximum output."
        )
        error.retry = False
        raise error


def rate_limited(meter: Meter, now: Instant, ready: Instant) -> RateLimited:
    """Return the refusal for a tenant's own limit: which one, and exactly when it has room again."""
    window = f" per {meter.window_ns / SECOND:g} s" if meter.window_ns else " at once"
    error = RateLimited(
        f"Your limit of {meter.limit} {meter.dimension.value.replace('_', ' ')}{window} is reached ({meter.name}).",
        retry_after_ns=ready - now,
    )
    if meter.dimension in (Dimension.TOKENS, Dimension.INPUT_TOKENS, Dimension.OUTPUT_TOKENS):
        error.type = "tokens"
    return error
