"""The mirror of a vendor's limits is never more generous than the vendor, whatever happens on the way.

The judges here know nothing of the mirror: they are told what reached the vendor and when, and add it up anew.
"""

from __future__ import annotations

import copy
import heapq
from dataclasses import dataclass, field

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dujiang.admission.day_meter import DayMeter
from dujiang.admission.demand import Charge, Demand
from dujiang.admission.meters import ConcurrencyMeter, Meter, WindowMeter
from dujiang.clock import SECOND, Instant
from dujiang.simulation.meters import Bucket, FixedWindow, SlidingLog, aligned
from dujiang.terms import Dimension, Usage

DAY = 86_400 * SECOND


@dataclass
class Sent:
    """A call that went: when it was sent, when it reached the vendor, what was reserved, what it really used."""

    at: int
    arrived: int
    reserved: int
    used: int
    ended: int


@dataclass(order=True)
class Ending:
    at: int
    number: int
    entry: object = field(compare=False)
    used: int = field(compare=False)
    sent: Sent | None = field(compare=False)


@dataclass(frozen=True)
class Plan:
    """A call as hypothesis draws it; times are shares of the window (per mille), amounts shares of the limit."""

    gap: int
    wants: int
    uses: int
    delay: int
    holds: int
    cancelled: bool
    waits: bool


plans = st.lists(
    st.builds(
        Plan,
        gap=st.one_of(st.integers(0, 5), st.integers(0, 400), st.sampled_from([999, 1000, 1001])),
        wants=st.integers(1, 1000),
        uses=st.one_of(st.just(1000), st.integers(0, 1000)),
        delay=st.one_of(st.sampled_from([0, 1000]), st.integers(0, 1000)),
        holds=st.integers(0, 2500),
        cancelled=st.sampled_from([False, False, True]),
        waits=st.sampled_from([True, True, False]),
    ),
    min_size=1,
    max_size=40,
)


def play(
    meter: Meter, script: list[Plan], *, window: int, spread: int, start: int = 10_000, over: int = 0
) -> list[Sent]:
    """Send calls as the mirror lets them go; return what reached the vendor.

    `over` is how far (per mille) the actual use may be above what was reserved.
    """
    now = start
    endings: list[Ending] = []
    sent: list[Sent] = []

    def let_end(until: int) -> None:
        while endings and endings[0].at <= until:
            ending = heapq.heappop(endings)
            meter.settle(Instant(ending.at), ending.entry, ending.used)
            meter.close(Instant(ending.at), ending.entry)

    for number, plan in enumerate(script):
        now += plan.gap * window // 1000
        let_end(now)
        amount = max(1, meter.limit * plan.wants // 1000)
        if not meter.fits(Instant(now), amount):
            ready = meter.ready_at(Instant(now), amount)
            assert ready > now
            if not over:
                assert_exact(meter, ready, amount)
            if not plan.waits:
                continue
            let_end(ready)
            now = ready
            if not meter.fits(Instant(now), amount):
                assert over, "what was promised for this instant is not there"
                continue
        entry = meter.take(Instant(now), amount)
        used = 0 if plan.cancelled else amount * plan.uses * (1000 + over) // 1_000_000
        ended = now + plan.holds * window // 1000
        one = None
        if not plan.cancelled:
            one = Sent(now, now + plan.delay * spread // 1000, amount, used, ended)
            sent.append(one)
        heapq.heappush(endings, Ending(ended, number, entry, used, one))
    return sent


def assert_exact(meter: Meter, ready: int, amount: int) -> None:
    """At the instant it names the amount fits, and a nanosecond earlier it does not."""
    assert not copy.deepcopy(meter).fits(Instant(ready - 1), amount)
    assert copy.deepcopy(meter).fits(Instant(ready), amount)


def known(one: Sent, at: int, charge: str) -> int:
    """Return what a vendor counts a call as at an instant."""
    if charge == "reserved" or (charge == "settled" and at < one.ended):
        return one.reserved
    return one.used


@given(
    script=plans,
    window=st.sampled_from([100, 1_000, 5_120, 60 * SECOND]),
    spread_share=st.sampled_from([0, 5, 100, 1000]),
    limit=st.sampled_from([1, 7, 1_000]),
    charge=st.sampled_from(["actual", "settled"]),
)
@settings(max_examples=250, deadline=None)
def test_no_window_of_the_vendor_is_exceeded_at_any_phase(script, window, spread_share, limit, charge) -> None:
    spread = window * spread_share // 1000
    meter = WindowMeter("requests", Dimension.REQUESTS, limit, window, spread)
    sent = sorted(play(meter, script, window=window, spread=spread), key=lambda one: one.arrived)
    # A window of any phase, aligned or sliding, lies within the sliding one that ends at its last arrival.
    for last in sent:
        at = last.arrived
        counted = sum(known(one, at, charge) for one in sent if at - window < one.arrived <= at)
        assert counted <= limit


@given(
    script=plans,
    spread_share=st.sampled_from([0, 5, 100]),
    limit=st.sampled_from([1, 7, 1_000]),
    phase=st.integers(0, 5_119),
)
@settings(max_examples=120, deadline=None)
def test_the_strict_vendor_agrees(script, spread_share, limit, phase) -> None:
    window = 5_120
    spread = window * spread_share // 1000
    meter = WindowMeter("tokens", Dimension.TOKENS, limit, window, spread)
    sent = sorted(play(meter, script, window=window, spread=spread), key=lambda one: one.arrived)
    judges = [SlidingLog(limit, window), FixedWindow(limit, aligned(window, phase)), Bucket(limit, window)]
    for one in sent:
        for judge in judges:
            assert judge.wait(one.arrived, one.used) == 0, type(judge).__name__
            judge.take(one.arrived, one.used)


@given(script=plans, limit=st.sampled_from([7, 1_000]), over=st.sampled_from([100, 3_000]))
@settings(max_examples=150, deadline=None)
def test_what_was_estimated_too_low_is_made_up_for(script, limit, over) -> None:
    """Nobody can know that an estimate was too low; once it is known, nothing more goes until there is room again."""
    window = 1_000
    meter = WindowMeter("tokens", Dimension.TOKENS, limit, window)
    for one in (sent := play(meter, script, window=window, spread=0, over=over)):
        before = [
            max(other.used, 0) if other.ended <= one.at else other.reserved
            for other in sent
            if other is not one and one.at - window < other.at <= one.at and sent.index(other) < sent.index(one)
        ]
        assert sum(before) + one.reserved <= limit


@given(
    gaps=st.lists(st.tuples(st.integers(0, 30), st.integers(1, 3)), min_size=3, max_size=40), limit=st.integers(3, 9)
)
@settings(max_examples=100, deadline=None)
def test_calls_so_close_that_they_share_a_piece_are_counted_to_the_end_of_the_last(gaps, limit) -> None:
    window = 2_560
    meter = WindowMeter("tokens", Dimension.TOKENS, limit, window)
    now = 0
    sent: list[tuple[int, int]] = []
    for gap, amount in gaps:
        now += gap
        if not meter.fits(Instant(now), amount):
            now = meter.ready_at(Instant(now), amount)
        meter.take(Instant(now), amount)
        sent.append((now, amount))
        assert sum(one for at, one in sent if at > now - window) <= limit


@given(script=plans, limit=st.sampled_from([1, 7, 1_000]), spread=st.sampled_from([1, SECOND // 2, 3600 * SECOND]))
@settings(max_examples=150, deadline=None)
def test_no_day_is_exceeded_also_by_what_is_sent_just_before_midnight(script, limit, spread) -> None:
    start = 5 * DAY - 4 * spread
    meter = DayMeter(
        "requests", Dimension.REQUESTS, limit, turn_after=lambda now: Instant((now // DAY + 1) * DAY),
        now=Instant(start), spread_ns=spread,
    )  # fmt: skip
    sent = play(meter, script, window=max(4 * spread, 1_000), spread=spread, start=start)
    days: dict[int, int] = {}
    for one in sent:
        day = one.arrived // DAY
        days[day] = days.get(day, 0) + one.used
    assert all(count <= limit for count in days.values()), days


@given(
    script=st.lists(
        st.tuples(
            st.integers(0, 50),  # time passes
            st.sampled_from(["open", "open", "close"]),
            st.integers(0, 100),  # which one to close
            st.integers(0, 1000),  # the vendor's lag, a share of the most
            st.integers(0, 1000),  # how long the request is under way
        ),
        max_size=60,
    ),
    limit=st.integers(1, 4),
    lag=st.sampled_from([0, 20, 200]),
)
@settings(max_examples=200, deadline=None)
def test_never_more_calls_at_the_vendor_than_it_allows(script, limit, lag) -> None:
    meter = ConcurrencyMeter("concurrency", Dimension.CONCURRENCY, limit, lag)
    now = 1_000
    running: list[tuple[object, int]] = []
    spans: list[tuple[int, int]] = []
    for passes, deed, which, share, travels in script:
        now += passes
        if deed == "open":
            if meter.fits(Instant(now), 1):
                running.append((meter.take(Instant(now), 1), now + travels * 5 // 1000))
        elif running:
            entry, arrived = running.pop(which % len(running))
            now = max(now, arrived)
            meter.close(Instant(now), entry)
            meter.close(Instant(now), entry)
            spans.append((arrived, now + lag * share // 1000))
    spans += [(arrived, now + 10_000) for _, arrived in running]
    for begins, _ in spans:
        assert sum(begin <= begins < end for begin, end in spans) <= limit
    assert meter.in_use(Instant(now + lag)) == len(running)


@given(limit=st.integers(1, 5), lag=st.integers(1, 500), ends=st.lists(st.integers(0, 300), min_size=1, max_size=5))
@settings(max_examples=80, deadline=None)
def test_a_slot_that_is_leaving_is_announced_exactly(limit, lag, ends) -> None:
    meter = ConcurrencyMeter("concurrency", Dimension.CONCURRENCY, limit, lag)
    entries = [meter.take(Instant(0), 1) for _ in range(limit)]
    now = 0
    for entry, pause in zip(entries, ends, strict=False):
        now += pause
        meter.close(Instant(now), entry)
        if not meter.fits(Instant(now), 1):
            assert_exact(meter, meter.ready_at(Instant(now), 1), 1)


@given(
    charge=st.sampled_from(list(Charge)),
    dimension=st.sampled_from([Dimension.TOKENS, Dimension.INPUT_TOKENS, Dimension.OUTPUT_TOKENS]),
    given_tokens=st.integers(0, 50),
    answered=st.integers(0, 50),
    most=st.integers(0, 50),
    cached=st.integers(0, 50),
)
@settings(max_examples=150, deadline=None)
def test_a_call_is_charged_as_the_owner_of_the_limit_charges(charge, dimension, given_tokens, answered, most, cached):
    answered, cached = min(answered, most), min(cached, given_tokens)
    meter = WindowMeter("m", dimension, 1_000, 60)
    meter.charge_by(charge)
    estimate = Usage(input_tokens=given_tokens, output_tokens=answered)
    demand = Demand(estimate, Usage(input_tokens=given_tokens, output_tokens=most))
    entry = meter.take(Instant(0), meter.needed(demand))
    actual = Usage(input_tokens=given_tokens, output_tokens=answered, cached_tokens=cached)
    meter.settle(Instant(1), entry, meter.charged(entry.amount, actual))
    with_input = dimension is not Dimension.OUTPUT_TOKENS
    output = 0 if dimension is Dimension.INPUT_TOKENS else (most if charge is Charge.ARRIVAL_MAX else answered)
    expected = output + (given_tokens if with_input else 0)
    if charge is Charge.UNCACHED and with_input:
        expected -= cached
    assert meter.used == expected


@pytest.mark.parametrize("spread", [0, 300_000_000])
def test_a_long_day_of_traffic_does_not_grow_the_mirror(spread: int) -> None:
    meter = WindowMeter("tokens", Dimension.TOKENS, 100_000, 60 * SECOND, spread)
    now, entries = 0, []
    for number in range(60_000):
        now += (number * 7919) % 2_000_000_000
        if meter.fits(Instant(now), 50):
            entries.append(meter.take(Instant(now), 50))
        if len(entries) > 30:
            meter.settle(Instant(now), entries.pop(0), number % 60)
        assert len(meter._pieces) <= 300
    meter.expire(Instant(now + 61 * SECOND))
    assert meter.used == 0
    assert not meter._pieces
