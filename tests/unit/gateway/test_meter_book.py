"""Limits by name: found again across a reload, the smaller of two, each with its guard and its way of charging."""

from __future__ import annotations

from datetime import datetime
from zoneinfo import ZoneInfo

import pytest
from tests.clocks import ManualClock

from dujiang.admission.day_meter import DayMeter
from dujiang.admission.demand import Charge
from dujiang.admission.meters import ConcurrencyMeter, WindowMeter
from dujiang.clock import SECOND, Instant
from dujiang.config.schema import Limit
from dujiang.gateway.meter_book import MeterBook, day_turns, in_order, limit_label
from dujiang.terms import Dimension


def limit(dimension: str, value: int, window: str | None = None, **more) -> Limit:
    return Limit.model_validate({"dimension": dimension, "value": value, "window": window, **more})


def test_every_kind_of_limit_has_its_meter() -> None:
    book = MeterBook(ManualClock())
    book.begin()
    assert isinstance(book.meter("t", limit("requests", 5, "60s")), WindowMeter)
    assert isinstance(book.meter("t", limit("tokens", 5, "day")), DayMeter)
    assert isinstance(book.meter("t", limit("concurrency", 5)), ConcurrencyMeter)
    assert len(book.meters()) == 3


@pytest.mark.parametrize(
    ("written", "label"),
    [
        (limit("requests", 5, "60s"), "requests/60s"),
        (limit("requests", 5, "1m"), "requests/60s"),
        (limit("tokens", 5, "day"), "tokens/day"),
        (limit("tokens", 5, "day", time_zone="Asia/Shanghai"), "tokens/day@Asia/Shanghai"),
        (limit("concurrency", 5), "concurrency"),
    ],
)
def test_a_limit_has_the_name_people_write(written: Limit, label: str) -> None:
    assert limit_label(written) == label


def test_a_limit_that_stays_keeps_its_count_and_takes_its_new_value_at_once() -> None:
    clock = ManualClock()
    book = MeterBook(clock)
    book.begin()
    meter = book.meter("tenant shop", limit("requests", 5, "60s"))
    meter.take(clock.now(), 3)
    book.finish()
    book.begin()
    again = book.meter("tenant shop", limit("requests", 9, "1m"))
    other = book.meter("tenant bank", limit("requests", 9, "60s"))
    book.finish()
    assert again is meter
    assert (again.limit, again.in_use(clock.now())) == (9, 3)
    assert other.in_use(clock.now()) == 0


def test_a_limit_that_is_gone_is_forgotten() -> None:
    book = MeterBook(ManualClock())
    book.begin()
    book.meter("a", limit("requests", 5, "60s"))
    book.meter("b", limit("requests", 5, "60s"))
    book.finish()
    book.begin()
    book.meter("b", limit("requests", 5, "60s"))
    book.finish()
    assert [meter.name for meter in book.meters()] == ["b requests/60s"]


def test_of_two_values_for_one_limit_the_smaller_holds_and_it_counts_once() -> None:
    book = MeterBook(ManualClock())
    book.begin()
    first = book.meter("a", limit("requests", 5, "60s"))
    second = book.meter("a", limit("requests", 3, "60s"))
    third = book.meter("a", limit("requests", 4, "60s"))
    assert first is second is third
    assert first.limit == 3
    assert in_order([first, second, third]) == (first,)


def test_models_make_a_limit_of_its_own() -> None:
    book = MeterBook(ManualClock())
    book.begin()
    all_models = book.meter("a", limit("requests", 5, "60s"))
    some = book.meter("a", limit("requests", 5, "60s", models=["y", "x"]))
    assert some is not all_models
    assert some is book.meter("a", limit("requests", 5, "60s", models=["x", "y"]))
    assert some.name == "a of x,y requests/60s"


def test_guards_and_charges_are_taken_from_the_newest_configuration() -> None:
    clock = ManualClock()
    book = MeterBook(clock)
    book.begin()
    window = book.meter("v", limit("tokens", 5, "60s"), spread_ns=SECOND)
    slot = book.meter("v", limit("concurrency", 1), lag_ns=SECOND)
    begun = clock.now()
    window.take(begun, 5)
    assert window.ready_at(begun, 1) == begun + 61 * SECOND
    book.meter("v", limit("tokens", 5, "60s"), spread_ns=3 * SECOND, charge=Charge.ARRIVAL_MAX)
    book.meter("v", limit("concurrency", 1), lag_ns=9 * SECOND)
    assert window.ready_at(begun, 1) == begun + 63 * SECOND
    assert not window.fits(Instant(begun + 62 * SECOND), 1)
    assert window.at_ceiling
    slot.close(begun, slot.take(begun, 1))
    assert slot.ready_at(begun, 1) == begun + 9 * SECOND
    book.meter("v", limit("tokens", 5, "60s"), spread_ns=0)
    assert window.fits(Instant(begun + 60 * SECOND), 5)


def test_a_slice_is_its_share_of_the_window_and_lets_a_large_call_go_alone() -> None:
    clock = ManualClock()
    book = MeterBook(clock)
    book.begin()
    part = book.slice("v", limit("tokens", 600, "60s"), SECOND, spread_ns=SECOND, charge=Charge.ACTUAL)
    assert (part.limit, part.window_ns) == (10, SECOND)
    from dujiang.admission.demand import Demand
    from dujiang.admission.reservation import try_take
    from dujiang.terms import Usage

    large = Demand(Usage(input_tokens=500))
    assert try_take([part], large, clock.now()) is not None
    assert try_take([part], large, clock.now()) is None
    clock.advance(SECOND + SECOND // 20)
    assert try_take([part], large, clock.now()) is not None
    tiny = book.slice("v", limit("requests", 3, "60s"), SECOND, spread_ns=0, charge=Charge.ACTUAL)
    assert tiny.limit == 1


@pytest.mark.parametrize(
    ("zone", "now", "turn"),
    [
        ("UTC", "2025-06-15T15:06:40", "2025-06-16T00:00:00"),
        ("Asia/Shanghai", "2025-06-15T23:59:59", "2025-06-16T00:00:00"),
        ("America/New_York", "2025-03-08T23:00:00", "2025-03-09T00:00:00"),
        ("America/New_York", "2025-03-09T00:00:00", "2025-03-10T00:00:00"),
        ("America/New_York", "2025-11-02T00:00:00", "2025-11-03T00:00:00"),
        ("Africa/Cairo", "2025-04-24T12:00:00", "2025-04-25T01:00:00"),  # midnight is skipped
    ],
)
def test_a_day_turns_at_the_midnight_of_its_zone(zone: str, now: str, turn: str) -> None:
    place = ZoneInfo(zone)
    clock = ManualClock(
        at=77 * SECOND, wall=round(datetime.fromisoformat(now).replace(tzinfo=place).timestamp()) * SECOND
    )
    expected = round(datetime.fromisoformat(turn).replace(tzinfo=place).timestamp()) * SECOND - clock.offset
    assert day_turns(clock, place)(clock.now()) == expected


def test_a_day_that_was_slept_through_is_over() -> None:
    clock = ManualClock()
    book = MeterBook(clock)
    book.begin()
    meter = book.meter("t", limit("requests", 5, "day"), spread_ns=60 * SECOND)
    assert isinstance(meter, DayMeter)
    clock.at = meter.next_expiry() - SECOND
    meter.take(clock.now(), 5)
    midnight = meter.next_expiry()
    # Sent a second before midnight, so it counts in the next day as well, and not in the one after that.
    assert meter.in_use(Instant(midnight)) == 5
    assert meter.began_at() == midnight
    clock.at = midnight + 3 * 86_400 * SECOND + 5
    assert meter.in_use(clock.now()) == 0
    assert meter.dimension is Dimension.REQUESTS
