"""The queue in front of the limits: who goes, who waits, who is refused, and that nobody leaves anything behind."""

from __future__ import annotations

import asyncio

import pytest
from tests.admissions import QueueBounds, ask, candidate, is_empty, queue, requests, slots, tokens
from tests.clocks import ManualClock, run_virtually, settled

from dujiang.admission.reservation import Reservation, ReservationState
from dujiang.admission.scheduler import Blocked
from dujiang.clock import MILLISECOND, SECOND
from dujiang.errors import DeadlineUnreachable, QueueFull, RateLimited
from dujiang.terms import Priority, Usage

HALF_MILLISECOND = 500_000
"""What the queue's timer adds, so that it is surely not early."""


def test_a_call_goes_at_once_when_there_is_room() -> None:
    async def main(clock: ManualClock) -> None:
        meter = slots(1)
        admission = queue(clock)
        reservation = await admission.reserve("m", ask(clock, [candidate(meter, target="x")]))
        assert reservation.target == "x"
        assert (admission.held, admission.waiting) == (1, 0)
        reservation.settle(Usage(), clock.now())
        is_empty(admission, meter)

    run_virtually(main)


def test_first_come_first_served_within_a_class_and_the_higher_class_first() -> None:
    async def main(clock: ManualClock) -> None:
        meter = slots(1)
        admission = queue(clock)
        order: list[str] = []

        async def call(name: str, priority: Priority) -> None:
            reservation = await admission.reserve("m", ask(clock, [candidate(meter)], priority=priority))
            order.append(name)
            await asyncio.sleep(1)
            reservation.settle(Usage(), clock.now())

        async with asyncio.TaskGroup() as tasks:
            for name, priority in [
                ("first", Priority.BATCH),
                ("batch 1", Priority.BATCH),
                ("standard 1", Priority.STANDARD),
                ("batch 2", Priority.BATCH),
                ("realtime 1", Priority.REALTIME),
                ("standard 2", Priority.STANDARD),
                ("realtime 2", Priority.REALTIME),
                ("interactive", Priority.INTERACTIVE),
            ]:
                tasks.create_task(call(name, priority))
                await asyncio.sleep(0.01)
        assert order == [
            "first", "realtime 1", "realtime 2", "interactive", "standard 1", "standard 2", "batch 1", "batch 2",
        ]  # fmt: skip
        is_empty(admission, meter)

    run_virtually(main)


def test_a_small_call_does_not_overtake_a_large_one() -> None:
    async def main(clock: ManualClock) -> None:
        meter = tokens(100)
        admission = queue(clock)
        big, small = Usage(input_tokens=80), Usage(input_tokens=10)
        await admission.reserve("m", ask(clock, [candidate(meter)], usage=Usage(input_tokens=50)))
        order: list[str] = []

        async def call(name: str, usage: Usage) -> None:
            await admission.reserve("m", ask(clock, [candidate(meter)], usage=usage, wait_s=200))
            order.append(name)

        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(call("big", big))
            await settled()
            tasks.create_task(call("small", small))
            await settled()
            assert order == []
            assert isinstance(
                admission.try_reserve("m", ask(clock, [candidate(meter)], usage=small), clock.now()), Blocked
            )
        assert order == ["big", "small"]

    run_virtually(main)


@pytest.mark.parametrize("priority", [Priority.BATCH, Priority.STANDARD])
def test_small_calls_for_another_model_do_not_starve_a_large_one_on_the_same_account(priority: Priority) -> None:
    async def main(clock: ManualClock) -> None:
        meter, other = tokens(100, 10), tokens(100, 10, name="vendor other")
        admission = queue(clock)
        big, small = Usage(input_tokens=80), Usage(input_tokens=10)
        await admission.reserve("m", ask(clock, [candidate(meter)], usage=Usage(input_tokens=50)))
        begun = clock.now()
        large = asyncio.ensure_future(admission.reserve("m", ask(clock, [candidate(meter)], usage=big)))
        await settled()
        went: list[int] = []

        async def call() -> None:
            await admission.reserve("n", ask(clock, [candidate(meter)], usage=small, priority=priority))
            went.append(clock.now())

        async with asyncio.TaskGroup() as tasks:
            for _ in range(4):
                tasks.create_task(call())
                await asyncio.sleep(0.5)
            # What the large one does not wait for is free to all, and so is everything to who goes before it.
            await admission.reserve("o", ask(clock, [candidate(other)], usage=small, priority=priority))
            either = [candidate(meter), candidate(other, target="b")]
            assert (await admission.reserve("o", ask(clock, either, usage=small))).target == "b"
            await admission.reserve("n", ask(clock, [candidate(meter)], usage=small, priority=Priority.REALTIME))
            assert clock.now() - begun == pytest.approx(2 * SECOND, abs=10 * MILLISECOND)
            await large
            assert 10 * SECOND <= clock.now() - begun < 12.1 * SECOND
        assert all(at >= begun + 10 * SECOND for at in went)
        assert admission.waiting == 0

    run_virtually(main)


def test_a_large_call_that_gives_up_lets_the_others_go() -> None:
    async def main(clock: ManualClock) -> None:
        meter = tokens(100, 100)
        admission = queue(clock)
        await admission.reserve("m", ask(clock, [candidate(meter)], usage=Usage(input_tokens=50)))
        large = ask(clock, [candidate(meter)], usage=Usage(input_tokens=80), wait_s=200)
        waiting = asyncio.ensure_future(admission.reserve("m", large))
        await settled()
        behind = ask(clock, [candidate(meter)], usage=Usage(input_tokens=10))
        other = asyncio.ensure_future(admission.reserve("n", behind))
        await asyncio.sleep(3)
        assert not other.done()
        waiting.cancel()
        begun = clock.now()
        await other
        assert clock.now() == begun
        assert behind.vendor_wait_ns == pytest.approx(3 * SECOND, abs=MILLISECOND)
        assert behind.tenant_wait_ns == 0

    run_virtually(main)


def test_a_call_that_came_back_goes_to_the_head_of_its_class() -> None:
    async def main(clock: ManualClock) -> None:
        meter = slots(1)
        admission = queue(clock)
        holder = await admission.reserve("m", ask(clock, [candidate(meter)]))
        order: list[str] = []

        async def call(name: str, *, returned: bool) -> None:
            one = ask(clock, [candidate(meter)])
            one.returned = returned
            reservation = await admission.reserve("m", one)
            order.append(name)
            reservation.settle(Usage(), clock.now())

        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(call("waits already", returned=False))
            await settled()
            tasks.create_task(call("came back", returned=True))
            await settled()
            holder.settle(Usage(), clock.now())
        assert order == ["came back", "waits already"]

    run_virtually(main)


def test_a_waiter_starts_at_the_instant_there_is_room() -> None:
    async def main(clock: ManualClock) -> None:
        meter = requests(1, 10)
        admission = queue(clock)
        begun = clock.now()
        for number in range(4):
            (await admission.reserve("m", ask(clock, [candidate(meter)]))).settle(Usage(), clock.now())
            late = clock.now() - begun - number * 10 * SECOND
            assert 0 <= late <= number * (HALF_MILLISECOND + 10_000)

    run_virtually(main)


def test_a_slot_that_lags_wakes_the_next_call_when_it_is_free_and_not_later() -> None:
    async def main(clock: ManualClock) -> None:
        meter = slots(1, lag_ns=50 * MILLISECOND)
        admission = queue(clock)
        first = await admission.reserve("m", ask(clock, [candidate(meter)]))
        await asyncio.sleep(30)
        waiting = asyncio.ensure_future(admission.reserve("m", ask(clock, [candidate(meter)])))
        await settled()
        first.settle(Usage(), clock.now())
        ended = clock.now()
        await waiting
        assert 50 * MILLISECOND <= clock.now() - ended < 52 * MILLISECOND

    run_virtually(main)


def test_a_caller_who_goes_in_the_turn_in_which_a_slot_comes_free_leaves_it_to_the_next() -> None:
    async def main(clock: ManualClock) -> None:
        meter = slots(1)
        admission = queue(clock)
        holder = await admission.reserve("m", ask(clock, [candidate(meter)]))
        goes = asyncio.ensure_future(admission.reserve("m", ask(clock, [candidate(meter)])))
        stays = asyncio.ensure_future(admission.reserve("m", ask(clock, [candidate(meter)])))
        await settled()
        # Cancelled, and the slot free, before the event loop turns: the dispatcher meets a dead waiter.
        holder.settle(Usage(), clock.now())
        goes.cancel()
        async with asyncio.timeout(1):
            reservation = await stays
        assert goes.cancelled()
        assert admission.held == 1
        reservation.settle(Usage(), clock.now())
        is_empty(admission, meter)

    run_virtually(main)


def test_a_caller_who_goes_after_he_was_granted_gives_the_slot_back() -> None:
    async def main(clock: ManualClock) -> None:
        meter, window = slots(1), requests(1)
        admission = queue(clock)
        holder = await admission.reserve("m", ask(clock, [candidate(meter)]))
        goes = asyncio.ensure_future(admission.reserve("m", ask(clock, [candidate(meter, window)])))
        stays = asyncio.ensure_future(admission.reserve("m", ask(clock, [candidate(meter, window)])))
        await settled()
        holder.settle(Usage(), clock.now())
        admission._dispatch()
        assert admission.held == 1
        goes.cancel()
        async with asyncio.timeout(1):
            reservation = await stays
        assert goes.cancelled()
        reservation.settle(Usage(), clock.now())
        assert window.used == 1
        is_empty(admission, meter, window)

    run_virtually(main)


@pytest.mark.parametrize("turns", range(6))
@pytest.mark.parametrize("frees", [False, True])
def test_a_wait_cancelled_in_any_turn_of_the_loop_leaves_nothing(turns: int, frees: bool) -> None:
    async def main(clock: ManualClock) -> None:
        meter, own = slots(2), tokens(1_000, name="tenant tokens")
        admission = queue(clock)
        holders = [await admission.reserve("m", ask(clock, [candidate(meter)])) for _ in range(2)]
        usage = Usage(input_tokens=100)
        waiters = [
            asyncio.ensure_future(
                admission.reserve("m", ask(clock, [candidate(meter)], tenant_meters=[own], usage=usage, size_bytes=7))
            )
            for _ in range(4)
        ]
        await settled(turns)
        if frees:
            holders[0].settle(Usage(), clock.now())
            await settled(turns // 2)
        waiters[0].cancel()
        waiters[2].cancel()
        await settled(turns)
        for holder in holders:
            holder.settle(Usage(), clock.now())
        for waiter in waiters:
            try:
                (await waiter).settle(usage, clock.now())
            except asyncio.CancelledError:
                continue
        is_empty(admission, meter, own)
        assert own.used == 100 * sum(not waiter.cancelled() for waiter in waiters)

    run_virtually(main)


def test_the_deadline_ends_the_wait_with_an_honest_time() -> None:
    async def main(clock: ManualClock) -> None:
        meter = slots(1)
        admission = queue(clock)
        holder = await admission.reserve("m", ask(clock, [candidate(meter)]))
        begun = clock.now()
        with pytest.raises(DeadlineUnreachable) as refusal:
            await admission.reserve("m", ask(clock, [candidate(meter)], wait_s=2.5))
        assert 2.5 * SECOND <= clock.now() - begun < 2.502 * SECOND
        assert "vendor concurrency" in refusal.value.message
        assert refusal.value.retry_after_ns is not None
        assert refusal.value.retry_after_ns >= 100 * MILLISECOND
        holder.release(clock.now())
        is_empty(admission, meter)

    run_virtually(main)


def test_a_call_that_cannot_start_before_its_deadline_is_refused_at_the_door() -> None:
    async def main(clock: ManualClock) -> None:
        meter = requests(2, 60)
        admission = queue(clock)
        for _ in range(2):
            await admission.reserve("m", ask(clock, [candidate(meter)]))
        begun = clock.now()
        with pytest.raises(DeadlineUnreachable) as refusal:
            await admission.reserve("m", ask(clock, [candidate(meter)], wait_s=59))
        assert clock.now() == begun
        assert refusal.value.retry_after_ns == 60 * SECOND
        clock.advance(60 * SECOND)
        assert isinstance(admission.try_reserve("m", ask(clock, [candidate(meter)]), clock.now()), Reservation)

    run_virtually(main)


def test_a_tenants_own_limit_refuses_with_the_exact_time() -> None:
    async def main(clock: ManualClock) -> None:
        vendor, own = slots(10), requests(2, 60, name="tenant shop requests/60s")
        admission = queue(clock)
        for _ in range(2):
            await admission.reserve("m", ask(clock, [candidate(vendor)], tenant_meters=[own]))
            clock.advance(10 * SECOND)
        with pytest.raises(RateLimited) as refusal:
            await admission.reserve("m", ask(clock, [candidate(vendor)], tenant_meters=[own]))
        error = refusal.value
        assert error.retry
        assert error.retry_after_ns == 40 * SECOND
        assert "tenant shop requests/60s" in error.message
        clock.advance(40 * SECOND - 1)
        asked = ask(clock, [candidate(vendor)], tenant_meters=[own])
        assert isinstance(admission.try_reserve("m", asked, clock.now()), Blocked)
        clock.advance(1)
        await admission.reserve("m", ask(clock, [candidate(vendor)], tenant_meters=[own]))

    run_virtually(main)


def test_the_time_a_refusal_names_counts_the_calls_that_wait_before_it() -> None:
    async def main(clock: ManualClock) -> None:
        vendor, own = slots(1), requests(2, 60, name="tenant")
        admission = queue(clock)
        holder = await admission.reserve("m", ask(clock, [candidate(vendor)]))
        waiting = [
            asyncio.ensure_future(admission.reserve("m", ask(clock, [candidate(vendor)], tenant_meters=[own])))
            for _ in range(2)
        ]
        await settled()
        assert own.pending == 2
        with pytest.raises(RateLimited):
            await admission.reserve("m", ask(clock, [candidate(vendor)], tenant_meters=[own]))
        holder.settle(Usage(), clock.now())
        for one in waiting:
            (await one).settle(Usage(), clock.now())
        is_empty(admission, vendor, own)

    run_virtually(main)


def test_a_tenant_at_its_own_limit_waits_as_long_as_its_plan_lets_it() -> None:
    async def main(clock: ManualClock) -> None:
        own = requests(1, 10, name="tenant")
        admission = queue(clock)
        vendor = slots(5)
        await admission.reserve("m", ask(clock, [candidate(vendor)], tenant_meters=[own]))
        patient = ask(clock, [candidate(vendor)], tenant_meters=[own], patience_s=10)
        begun = clock.now()
        await admission.reserve("m", patient)
        assert clock.now() - begun >= 10 * SECOND
        assert patient.tenant_wait_ns == clock.now() - begun
        assert patient.vendor_wait_ns == 0
        with pytest.raises(RateLimited):
            await admission.reserve("m", ask(clock, [candidate(vendor)], tenant_meters=[own], patience_s=9))

    run_virtually(main)


def test_who_is_held_up_by_his_own_limit_stands_aside_for_the_others() -> None:
    async def main(clock: ManualClock) -> None:
        own, vendor = requests(1, 60, name="tenant"), requests(100, 60)
        admission = queue(clock)

        def mine():
            return ask(clock, [candidate(vendor)], tenant="a", tenant_meters=[own], patience_s=600, wait_s=600)

        await admission.reserve("m", mine())
        waiting = [asyncio.ensure_future(admission.reserve("m", mine())) for _ in range(3)]
        await settled()
        assert admission.waiting == 3
        begun = clock.now()
        for priority in Priority:
            await admission.reserve("m", ask(clock, [candidate(vendor)], tenant="b", priority=priority))
        assert clock.now() == begun
        for one in waiting:
            one.cancel()
        await settled()

    run_virtually(main)


def test_calls_held_up_by_their_tenant_do_not_make_others_miss_their_deadline() -> None:
    """Forty calls wait for their own tenant's limit; the vendor has room, so a hasty call of another goes."""

    async def main(clock: ManualClock) -> None:
        own, vendor = requests(1, 60, name="tenant"), requests(30, 60)
        admission = queue(clock)

        def mine():
            return ask(clock, [candidate(vendor)], tenant="a", tenant_meters=[own], patience_s=9_000, wait_s=9_000)

        await admission.reserve("m", mine())
        waiting = [asyncio.ensure_future(admission.reserve("m", mine())) for _ in range(40)]
        await settled()
        assert admission.waiting == 40
        await admission.reserve("m", ask(clock, [candidate(vendor)], tenant="b", wait_s=1))
        for one in waiting:
            one.cancel()
        await settled()

    run_virtually(main)


@pytest.mark.parametrize(
    ("bounds", "sizes", "tenants"),
    [
        (QueueBounds(max_calls=3), [1, 1, 1], "abc"),
        (QueueBounds(max_calls_per_tenant=3), [1, 1, 1], "aaa"),
        (QueueBounds(max_bytes=100), [40, 30, 30], "abc"),
    ],
)
def test_the_queue_is_bounded_in_calls_bytes_and_per_tenant(bounds, sizes, tenants) -> None:
    async def main(clock: ManualClock) -> None:
        meter = slots(1)
        admission = queue(clock, bounds)
        holder = await admission.reserve("m", ask(clock, [candidate(meter)]))
        waiting = [
            asyncio.ensure_future(admission.reserve("m", ask(clock, [candidate(meter)], tenant=who, size_bytes=size)))
            for who, size in zip(tenants, sizes, strict=True)
        ]
        await settled()
        assert admission.waiting == 3
        with pytest.raises(QueueFull) as refusal:
            await admission.reserve("m", ask(clock, [candidate(meter)], tenant="a", size_bytes=1))
        assert refusal.value.retry_after_ns is not None
        assert refusal.value.retry_after_ns > 0
        waiting[1].cancel()
        await settled()
        again = asyncio.ensure_future(admission.reserve("m", ask(clock, [candidate(meter)], tenant="a", size_bytes=1)))
        await settled()
        assert admission.waiting == 3
        holder.settle(Usage(), clock.now())
        for one in (waiting[0], waiting[2], again):
            (await one).settle(Usage(), clock.now())
        is_empty(admission, meter)

    run_virtually(main)


def test_a_call_larger_than_a_limit_is_refused_for_good() -> None:
    async def main(clock: ManualClock) -> None:
        admission = queue(clock)
        small, large = tokens(100, name="vendor small"), tokens(1_000, name="vendor large")
        usage = Usage(input_tokens=500)
        with pytest.raises(RateLimited, match="vendor small") as refusal:
            await admission.reserve("m", ask(clock, [candidate(small)], usage=usage))
        assert not refusal.value.retry
        assert refusal.value.retry_after_ns is None
        taken = await admission.reserve("m", ask(clock, [candidate(small), candidate(large, target="b")], usage=usage))
        assert taken.target == "b"
        with pytest.raises(RateLimited, match="tenant"):
            asked = ask(clock, [candidate(large)], tenant_meters=[tokens(499, name="tenant")], usage=usage)
            await admission.reserve("m", asked)

    run_virtually(main)


def test_a_paused_deployment_is_left_alone_and_then_used_again() -> None:
    async def main(clock: ManualClock) -> None:
        admission = queue(clock)
        first, second = candidate(slots(9), target="first"), candidate(slots(9), target="second")
        first.available_at = clock.now() + 5 * SECOND
        assert (await admission.reserve("m", ask(clock, [first, second]))).target == "second"
        second.available_at = clock.now() + 20 * SECOND
        begun = clock.now()
        waits = ask(clock, [first, second])
        assert (await admission.reserve("m", waits)).target == "first"
        assert 5 * SECOND <= clock.now() - begun < 5.01 * SECOND
        assert waits.waited_for == "vendor:vendor pause"
        assert waits.vendor_wait_ns == clock.now() - begun

    run_virtually(main)


def test_a_limit_overdrawn_does_not_hold_up_who_needs_nothing_of_it() -> None:
    async def main(clock: ManualClock) -> None:
        meter = tokens(100)
        admission = queue(clock)
        greedy = await admission.reserve("m", ask(clock, [candidate(meter)], usage=Usage(input_tokens=50)))
        greedy.settle(Usage(input_tokens=400), clock.now())
        begun = clock.now()
        await admission.reserve("m", ask(clock, [candidate(meter)], usage=Usage()))
        assert clock.now() == begun

    run_virtually(main)


def test_lost_reservations_end_and_count_as_used() -> None:
    async def main(clock: ManualClock) -> None:
        slot, window = slots(1), requests(5)
        admission = queue(clock, lease_s=100)
        lost = await admission.reserve("m", ask(clock, [candidate(slot, window)]))
        clock.advance(100 * SECOND)
        assert admission.expire_lost() == 0
        clock.advance(1)
        waiting = asyncio.ensure_future(admission.reserve("m", ask(clock, [candidate(slot)], wait_s=5)))
        await settled()
        assert admission.expire_lost() == 1
        assert lost.state is ReservationState.EXPIRED
        (await waiting).settle(Usage(), clock.now())
        lost.settle(Usage(), clock.now())
        is_empty(admission, slot, window)

    run_virtually(main)


def test_others_are_told_of_free_capacity_and_of_who_waits() -> None:
    async def main(clock: ManualClock) -> None:
        meter = slots(1)
        admission = queue(clock)
        rings: list[int] = []
        counts: list[int] = []
        admission.on_capacity = lambda: rings.append(1)
        admission.on_waiting = counts.append
        holder = await admission.reserve("m", ask(clock, [candidate(meter)]))
        waiting = asyncio.ensure_future(admission.reserve("m", ask(clock, [candidate(meter)])))
        await settled()
        assert counts == [1]
        holder.settle(Usage(), clock.now())
        await waiting
        assert counts == [1, 0]
        assert rings == [1]

    run_virtually(main)
