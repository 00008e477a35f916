"""The meters that judge everybody else, against models too simple to be wrong."""

from __future__ import annotations

import math
from datetime import datetime, timedelta
from fractions import Fraction
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dujiang.simulation.account import Account, Refusal
from dujiang.simulation.meters import Bucket, FixedWindow, Meter, SlidingLog, Slots, aligned, calendar_days
from dujiang.simulation.spec import VendorSpec

SECOND = 1_000_000_000


class NaiveWindow:
    """Every event ever, counted anew each time it is asked."""

    def __init__(self, value, counts):
        self.value = value
        self.events = []
        self.counts = counts  # (event instant, now) -> does it still count

    def used(self, now):
        return sum(n for t, n in self.events if self.counts(t, now))

    def fits(self, now, amount):
        return self.used(now) + amount <= self.value


class NaiveBucket:
    """A level in exact fractions."""

    def __init__(self, value, window, burst):
        self.value = value
        self.rate = Fraction(value, window)
        self.burst = burst
        self.level = Fraction(burst)
        self.at = 0

    def level_at(self, now):
        return min(Fraction(self.burst), self.level + (now - self.at) * self.rate)

    def used(self, now):
        return self.value - math.floor(self.level_at(now))

    def fits(self, now, amount):
        return amount <= self.level_at(now)

    def add(self, now, amount):
        self.level, self.at = self.level_at(now) - amount, now


steps = st.lists(
    st.tuples(
        st.sampled_from([0, 0, 1, 1, 2, 3, 4, 7, 10, 11, 20, 100]),  # time passes
        st.integers(0, 7),  # amount asked
        st.sampled_from(["ask", "ask", "ask", "force", "give back"]),
    ),
    min_size=25,
    max_size=60,
)


def play(meter: Meter, naive, script, *, add, give_back=None):
    """Ask both the same; whatever wait the meter names must be exact by the naive model."""
    now = 1_000
    receipts = []
    for passed, amount, deed in script:
        now += passed
        assert meter.used(now) == naive.used(now)
        if deed == "give back":
            if give_back is not None and receipts:
                at, receipt, taken = receipts.pop(amount % len(receipts))
                meter.give_back(now, receipt, taken)
                give_back(now, at, taken)
            continue
        wait = meter.wait(now, amount)
        assert (wait == 0) == naive.fits(now, amount), (now, amount, wait)
        if wait is None:
            assert not any(naive.fits(now + later, amount) for later in range(0, 400, 7))
        elif wait:
            assert naive.fits(now + wait, amount)
            assert not naive.fits(now + wait - 1, amount)
        if wait == 0 or deed == "force":
            receipts.append((now, meter.take(now, amount), amount))
            add(now, amount)


@settings(max_examples=120, deadline=None)
@given(script=steps, value=st.integers(3, 20), window=st.integers(3, 30), phase=st.integers(0, 40))
def test_fixed_windows_count_exactly(script, value, window, phase):
    naive = NaiveWindow(value, lambda t, now: (t - phase) // window == (now - phase) // window)

    def remove(now, at, amount):
        naive.events.append((at, -amount))

    meter = FixedWindow(value, aligned(window, phase))
    play(meter, naive, script, add=lambda now, n: naive.events.append((now, n)), give_back=remove)


@settings(max_examples=120, deadline=None)
@given(script=steps, value=st.integers(3, 20), window=st.integers(3, 30))
def test_sliding_logs_count_exactly(script, value, window):
    naive = NaiveWindow(value, lambda t, now: t > now - window)

    def remove(now, at, amount):
        naive.events.append((at, -amount))

    meter = SlidingLog(value, window)
    play(meter, naive, script, add=lambda now, n: naive.events.append((now, n)), give_back=remove)


@settings(max_examples=120, deadline=None)
@given(script=steps, value=st.integers(3, 20), window=st.integers(3, 30), burst=st.integers(1, 20))
def test_buckets_refill_exactly(script, value, window, burst):
    naive = NaiveBucket(value, window, burst)

    def refund(now, at, amount):
        naive.level, naive.at = min(Fraction(burst), naive.level_at(now) + amount), now

    play(Bucket(value, window, burst), naive, script, add=naive.add, give_back=refund)


@settings(max_examples=120, deadline=None)
@given(
    script=st.lists(
        st.tuples(st.integers(0, 6), st.sampled_from(["enter", "enter", "enter", "leave", "cut"])),
        min_size=20,
        max_size=60,
    ),
    value=st.integers(1, 5),
    lag=st.integers(0, 8),
)
def test_slots_are_busy_until_their_lag_is_over(script, value, lag):
    meter = Slots(value, lag)
    busy: list[int | None] = []  # the instant a place becomes free, None while its call runs
    now = 0
    occupied = 0
    for passed, deed in script:
        for instant in range(now, now + passed):
            occupied += sum(until is None or until > instant for until in busy)
        now += passed
        assert meter.held_ns(now) == occupied
        held = [until for until in busy if until is None or until > now]
        assert meter.used(now) == len(held)
        wait = meter.wait(now, 1)
        assert (wait == 0) == (len(held) < value)
        if wait:
            later = [until for until in busy if until is None or until > now + wait]
            sooner = [until for until in busy if until is None or until > now + wait - 1]
            assert len(later) < value <= len(sooner)
        if wait is None:
            assert held.count(None) >= value
        if deed == "enter" and wait == 0:
            meter.take(now, 1)
            busy.append(None)
        elif deed == "cut":
            value = 1 + (value + passed) % 5
            meter.resize(now, value)
        elif deed == "leave" and None in busy:
            meter.give_back(now, None, 1)
            busy[busy.index(None)] = now + lag


@settings(max_examples=100, deadline=None)
@given(script=steps, value=st.integers(3, 20), window=st.integers(3, 30), seed=st.integers(0, 2))
def test_replenished_in_is_when_nothing_counts_any_more(script, value, window, seed):
    meter: Meter = (FixedWindow(value, aligned(window)), SlidingLog(value, window), Bucket(value, window))[seed]
    now = 0
    for passed, amount, _ in script:
        now += passed
        meter.take(now, amount)
        after = meter.replenished_in(now)
        fresh = type(meter) is not FixedWindow or meter.used(now) > 0
        assert after >= 0
        if after and fresh:
            probe = [meter.wait(now, value), after]
            assert probe[0] == after, "a full load fits exactly when nothing counts any more"


@settings(max_examples=100, deadline=None)
@given(
    zone=st.sampled_from(["America/Los_Angeles", "Asia/Shanghai", "Europe/Berlin", "Australia/Lord_Howe", "UTC"]),
    at=st.integers(0, 4_000_000_000),
)
def test_calendar_days_turn_at_local_midnight(zone, at):
    place = ZoneInfo(zone)
    start, end = calendar_days(place)(at * SECOND)
    assert start <= at * SECOND < end
    first = datetime.fromtimestamp(start / SECOND, place)
    last = datetime.fromtimestamp(end / SECOND, place)
    assert (first.hour, first.minute, last.hour, last.minute) == (0, 0, 0, 0)
    assert last.date() - first.date() == timedelta(days=1)


LIMITS = ["requests/10ms=4:sliding", "requests/7ms=3:fixed,phase=2ms", "tokens/10ms=20:sliding,charge=arrival",
          "tokens/10ms=25:bucket,burst=12,charge=settled", "concurrency=3", "input_tokens/5ms=11:fixed"]  # fmt: skip


@settings(max_examples=120, deadline=None)
@given(
    chosen=st.sets(st.sampled_from(LIMITS), min_size=1),
    refused_count=st.booleans(),
    script=st.lists(
        st.tuples(st.integers(0, 5_000_000), st.integers(1, 9), st.integers(0, 6), st.booleans()),
        min_size=10,
        max_size=40,
    ),
)
def test_an_account_charges_all_or_none_and_its_waits_are_exact(chosen, refused_count, script):
    spec = VendorSpec.model_validate({"limits": sorted(chosen), "refused_count": refused_count})
    account = Account(spec, 0)
    now = 0
    held = []
    for passed, tokens, most, ends in script:
        now += passed
        if ends and held:
            admission = held.pop(0)
            account.generate(now, admission, 1)
            account.finish(now, admission)
        before = [limit.meter.used(now) for limit in account.limits]
        outcome = account.admit(now, tokens, most)
        after = [limit.meter.used(now) for limit in account.limits]
        amounts = [limit.at_arrival(tokens, most) for limit in account.limits]
        if not isinstance(outcome, Refusal):
            held.append(outcome)
            assert all(limit.meter.value >= used or limit.spec.semantics == "bucket"
                       for limit, used in zip(account.limits, after, strict=True))  # fmt: skip
            assert [b - a for a, b in zip(before, after, strict=True)] == pytest.approx(amounts, abs=1)
            continue
        counted = [refused_count and limit.spec.dimension == "requests" for limit in account.limits]
        assert after == [a + c for a, c in zip(before, counted, strict=True)]
        waits = [limit.meter.wait(now, n) for limit, n in zip(account.limits, amounts, strict=True)]
        assert any(waits) or None in waits
        if outcome.wait_ns is None:
            assert None in waits
        else:
            assert outcome.wait_ns == max(wait for wait in waits if wait is not None) > 0
    assert all(limit.violations == 0 for limit in account.limits)
