"""Random traffic through the queue in virtual time: no limit is exceeded, nobody overtakes, nothing is left behind."""

from __future__ import annotations

import asyncio
import random
from dataclasses import dataclass

from hypothesis import given, settings
from hypothesis import strategies as st
from tests.admissions import QueueBounds, is_empty, requests, slots, tokens
from tests.clocks import ManualClock, run_virtually, settled

from dujiang.admission.controller import Admission
from dujiang.admission.demand import Demand
from dujiang.admission.meters import Meter
from dujiang.admission.reservation import Reservation
from dujiang.admission.scheduler import Ask, Blocked, Candidate, Lane
from dujiang.clock import MILLISECOND, SECOND, Instant
from dujiang.errors import DeadlineUnreachable, DujiangError, QueueFull, RateLimited
from dujiang.terms import Priority, TenantId, Usage


class Watched(Admission[str]):
    """An admission that checks at every grant that nobody was overtaken."""

    def __init__(self, clock: ManualClock, bounds: QueueBounds) -> None:
        super().__init__(clock, bounds, lease_ns=4 * 3600 * SECOND)
        self.lane_of: dict[Ask[str], str] = {}
        self.number_of: dict[Ask[str], int] = {}
        self.sends: list[tuple[int, Ask[str], Reservation[str]]] = []

    async def reserve(self, lane_name: str, ask: Ask[str]) -> Reservation[str]:
        self.lane_of[ask] = lane_name
        self.number_of[ask] = len(self.number_of)
        return await super().reserve(lane_name, ask)

    def _place(self, ask: Ask[str], now: Instant, claimed: set[Meter] | None = None) -> Reservation[str] | Blocked:
        answer = super()._place(ask, now, claimed)
        if isinstance(answer, Reservation):
            self.sends.append((now, ask, answer))
            mine = (ask.priority, self.number_of[ask])
            for other, future in self._futures.items():
                if other is not ask and not future.done() and self.lane_of[other] == self.lane_of[ask]:
                    theirs = (other.priority, self.number_of[other])
                    assert theirs > mine or other.aside, "somebody was overtaken"
        return answer


@dataclass(frozen=True)
class Caller:
    gap_ms: int
    lane: str
    tenant: str
    priority: Priority
    tokens: int
    real_share: int
    takes_ms: int
    wait_ms: int
    gives_up_ms: int | None
    fails: bool


callers = st.lists(
    st.builds(
        Caller,
        gap_ms=st.one_of(st.just(0), st.integers(0, 50), st.integers(0, 1500)),
        lane=st.sampled_from("mn"),
        tenant=st.sampled_from("abc"),
        priority=st.sampled_from(list(Priority)),
        tokens=st.integers(1, 60),
        real_share=st.integers(0, 100),
        takes_ms=st.integers(0, 2_000),
        wait_ms=st.sampled_from([50, 1_000, 10_000, 100_000]),
        gives_up_ms=st.one_of(st.none(), st.none(), st.integers(0, 3_000)),
        fails=st.booleans(),
    ),
    max_size=40,
)


def assert_honest(refusal: DujiangError, more_than_ns: int = 0) -> int:
    """Assert that a refusal says when to come back, and return it."""
    assert refusal.retry_after_ns is not None
    assert refusal.retry_after_ns > more_than_ns
    return refusal.retry_after_ns


class World:
    """Two models on one vendor account, three tenants, one of them with limits of its own."""

    def __init__(self, clock: ManualClock, bounds: QueueBounds) -> None:
        self.clock = clock
        self.vendor: list[Meter] = [slots(3, lag_ns=20 * MILLISECOND), requests(8, 4), tokens(200, 4)]
        self.own: dict[str, list[Meter]] = {
            "a": [requests(3, 4, name="tenant a"), slots(2, name="tenant a")],
            "b": [],
            "c": [],
        }
        self.admission = Watched(clock, bounds)
        self.candidates = [Candidate("x", self.vendor)]
        self.outcomes: list[str] = []
        self.sent: list[tuple[int, int, Usage, str]] = []
        """Sent at, ended at, what it really used, whose it was."""

    async def call(self, caller: Caller) -> None:
        now = self.clock.now()
        ask = Ask(
            tenant=TenantId(caller.tenant),
            tenant_meters=self.own[caller.tenant],
            candidates=self.candidates,
            demand=Demand(Usage(input_tokens=caller.tokens)),
            priority=caller.priority,
            deadline=Instant(now + caller.wait_ms * MILLISECOND),
            arrived_at=now,
            size_bytes=caller.tokens,
            tenant_patience_ns=2 * SECOND,
        )
        try:
            reservation = await self.admission.reserve(caller.lane, ask)
        except (RateLimited, QueueFull, DeadlineUnreachable) as refusal:
            assert_honest(refusal)
            self.outcomes.append(type(refusal).__name__)
            return
        assert self.clock.now() <= ask.deadline + MILLISECOND
        self.outcomes.append("went")
        used = Usage(requests=0)
        if not caller.fails:
            used = Usage(input_tokens=caller.tokens * caller.real_share // 100)
        try:
            await asyncio.sleep(caller.takes_ms / 1000)
        finally:
            reservation.settle(used, self.clock.now())
            self.sent.append((reservation.taken_at, self.clock.now(), used, caller.tenant))
            reservation.release(self.clock.now())

    def meters(self) -> list[Meter]:
        return [*self.vendor, *(meter for own in self.own.values() for meter in own)]

    async def is_work_conserving(self) -> None:
        """Assert that no head of a queue waits although all its limits have had room for a millisecond."""
        await settled()
        for lane in self.admission.lanes().values():
            head = next((one for one in lane if not one.aside), None)
            now = self.clock.now()
            if head is None or not self._fits(head, now) or self._is_behind_another_lane(head, lane):
                continue
            await asyncio.sleep(0.001)
            future = self.admission._futures.get(head)
            assert future is None or future.done() or not self._fits(head, self.clock.now()), "room, and nobody went"

    def _is_behind_another_lane(self, ask: Ask[str], own: Lane[str]) -> bool:
        """Return whether who goes before it, for the other model, waits for a limit of the same account."""
        return any(
            other is not own and other.claims and other.is_ahead(ask.priority)
            for other in self.admission.lanes().values()
        )

    def _fits(self, ask: Ask[str], now: Instant) -> bool:
        return all(
            meter.fits(now, meter.needed(ask.demand)) for meter in (*ask.tenant_meters, *ask.candidates[0].meters)
        )

    def judge(self) -> None:
        """Add up anew what really reached vendor and tenant limits; estimates were never too low here."""
        for last, _, _, tenant in self.sent:
            window = [one for one in self.sent if last - 4 * SECOND < one[0] <= last]
            assert sum(used.requests for _, _, used, _ in window) <= 8
            assert sum(used.tokens for _, _, used, _ in window) <= 200
            assert sum(used.requests for _, _, used, who in window if who == "a") <= 3
            at_once = [one for one in self.sent if one[0] <= last < one[1] + 20 * MILLISECOND]
            assert len(at_once) <= 3
            assert tenant != "a" or sum(begin <= last < end for begin, end, _, who in at_once if who == "a") <= 2


@given(script=callers, bounds=st.builds(QueueBounds, st.integers(1, 30), st.integers(1, 20), st.integers(20, 2_000)))
@settings(max_examples=60, deadline=None)
def test_whatever_callers_do_nothing_is_left_behind_and_nobody_is_overtaken(script, bounds) -> None:
    async def main(clock: ManualClock) -> None:
        world = World(clock, bounds)
        admission = world.admission
        tasks: set[asyncio.Task[None]] = set()

        async def give_up(task: asyncio.Task[None], after_ms: int) -> None:
            await asyncio.sleep(after_ms / 1000)
            task.cancel()

        for caller in script:
            await asyncio.sleep(caller.gap_ms / 1000)
            task = asyncio.ensure_future(world.call(caller))
            tasks.add(task)
            if caller.gives_up_ms is not None:
                tasks.add(asyncio.ensure_future(give_up(task, caller.gives_up_ms)))
            assert admission.waiting <= bounds.max_calls
            assert admission._waiting_bytes <= bounds.max_bytes
            assert all(count <= bounds.max_calls_per_tenant for count in admission._waiting_by_tenant.values())
            await world.is_work_conserving()
            for meter in world.meters():
                assert meter.in_use(clock.now()) <= meter.limit
        for outcome in await asyncio.gather(*tasks, return_exceptions=True):
            assert outcome is None or isinstance(outcome, asyncio.CancelledError), outcome
        await asyncio.sleep(1)
        world.judge()
        is_empty(admission, *world.meters())
        assert all(reservation.state != "held" for _, _, reservation in admission.sends)
        await asyncio.sleep(5)
        assert all(meter.in_use(clock.now()) == 0 for meter in world.meters())

    run_virtually(main)


@given(
    gaps=st.lists(st.integers(0, 3_000), min_size=1, max_size=30),
    limit=st.integers(1, 6),
    patience_s=st.sampled_from([0, 3]),
)
@settings(max_examples=60, deadline=None)
def test_who_comes_back_when_told_to_is_let_in(gaps, limit, patience_s) -> None:
    """With nobody else about, the time a refusal names is the time at which the call goes, and not one earlier."""

    async def main(clock: ManualClock) -> None:
        own, vendor = requests(limit, 10, name="tenant"), slots(1_000)
        admission = Admission[str](clock, QueueBounds())

        def asks() -> Ask[str]:
            now = clock.now()
            return Ask(
                tenant=TenantId("a"), tenant_meters=[own], candidates=[Candidate("x", [vendor])],
                demand=Demand(Usage()), priority=Priority.STANDARD, deadline=Instant(now + 60 * SECOND),
                arrived_at=now, tenant_patience_ns=patience_s * SECOND,
            )  # fmt: skip

        for gap_ms in gaps:
            clock.advance(gap_ms * MILLISECOND)
            before = clock.now()
            try:
                await admission.reserve("m", asks())
            except RateLimited as refusal:
                wait_ns = assert_honest(refusal, more_than_ns=patience_s * SECOND)
                assert clock.now() == before
                clock.advance(wait_ns - 1)
                assert isinstance(admission.try_reserve("m", asks(), clock.now()), Blocked)
                clock.advance(1)
                assert isinstance(admission.try_reserve("m", asks(), clock.now()), Reservation)

    run_virtually(main)


def test_a_day_of_traffic_leaves_no_trace() -> None:
    """24 hours and some 9,000 calls in virtual time, with cancellations, failures and wrong estimates."""
    seed = 20261121
    print(f"seed {seed}")
    dice = random.Random(seed)

    async def main(clock: ManualClock) -> None:
        world = World(clock, QueueBounds(200, 100, 1 << 20))
        admission = world.admission
        tasks: set[asyncio.Task[None]] = set()
        pieces_most = waiting_most = 0
        end = clock.now() + 24 * 3600 * SECOND
        while clock.now() < end:
            # Quiet minutes and bursts.
            await asyncio.sleep(dice.expovariate(1 / 120) if dice.random() < 0.1 else 0)
            for _ in range(dice.randrange(1, 8)):
                caller = Caller(
                    gap_ms=0, lane=dice.choice("mn"), tenant=dice.choice("abc"), priority=Priority(dice.randrange(4)),
                    tokens=dice.randrange(1, 60), real_share=dice.randrange(130), takes_ms=dice.randrange(3_000),
                    wait_ms=dice.choice([500, 5_000, 60_000]), gives_up_ms=None, fails=dice.random() < 0.2,
                )  # fmt: skip
                task = asyncio.ensure_future(world.call(caller))
                tasks.add(task)
                task.add_done_callback(tasks.discard)
            if tasks and dice.random() < 0.3:
                dice.choice(sorted(tasks, key=id)).cancel()
            pieces_most = max(pieces_most, *(len(getattr(meter, "_pieces", ())) for meter in world.meters()))
            waiting_most = max(waiting_most, admission.waiting)
            # The test's own memory, not the queue's.
            admission.sends.clear()
            world.sent.clear()
        await asyncio.gather(*tasks, return_exceptions=True)
        await asyncio.sleep(10)
        is_empty(admission, *world.meters())
        assert all(meter.in_use(clock.now()) == 0 for meter in world.meters())
        assert all(not getattr(meter, "_pieces", ()) for meter in world.meters())
        assert pieces_most <= 300
        assert waiting_most > 20
        assert len(admission.lanes()) == 2
        assert len(world.outcomes) > 5_000
        assert world.outcomes.count("went") > 2_000
        assert {"RateLimited", "DeadlineUnreachable"} <= set(world.outcomes)

    run_virtually(main)
