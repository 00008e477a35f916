"""Limits in memory that processes share: the sum is never over, and what a dead process used still counts."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import textwrap
import time

import pytest
from tests.admissions import requests, slots

from dujiang.admission import shared
from dujiang.admission.day_meter import DayMeter
from dujiang.admission.demand import Demand
from dujiang.admission.meters import ConcurrencyMeter, Meter
from dujiang.admission.reservation import try_take
from dujiang.admission.shared import SharedArena
from dujiang.clock import SECOND, Instant
from dujiang.terms import Dimension, Usage

ONE = Demand(Usage())


@pytest.fixture(name="arenas")
def _arenas():
    descriptor = SharedArena.create(3)
    yield [SharedArena(descriptor, 3, own) for own in range(3)]
    os.close(descriptor)


def sharing(arena: SharedArena, meter: Meter, now: int = 0) -> Meter:
    meter.share(arena.cell(meter.name), Instant(now))
    return meter


def test_one_limit_is_one_place_whoever_names_it_first(arenas) -> None:
    first = [sharing(arena, requests(10, name="a")) for arena in arenas]
    other = [sharing(arena, requests(10, name="b")) for arena in reversed(arenas)]
    first[0].take(Instant(0), 3)
    first[1].take(Instant(0), 4)
    other[2].take(Instant(0), 5)
    assert [meter.in_use(Instant(0)) for meter in first] == [7, 7, 7]
    assert [meter.in_use(Instant(0)) for meter in other] == [5, 5, 5]
    assert not first[2].fits(Instant(0), 4)
    assert first[2].fits(Instant(0), 3)


def test_settling_and_expiring_is_seen_by_the_others(arenas) -> None:
    mine, theirs = (sharing(arena, requests(10, 60, name="a")) for arena in arenas[:2])
    entry = mine.take(Instant(0), 8)
    mine.settle(Instant(1), entry, 2)
    assert theirs.in_use(Instant(1)) == 2
    assert theirs.ready_at(Instant(1), 9) == 60 * SECOND
    assert theirs.in_use(Instant(60 * SECOND)) == 2
    mine.expire(Instant(60 * SECOND))
    assert theirs.in_use(Instant(60 * SECOND)) == 0


def test_two_that_want_the_last_one_at_once_do_not_both_get_it(arenas) -> None:
    mine, theirs = (sharing(arena, requests(1, name="a")) for arena in arenas[:2])
    # The other has announced and not yet looked.
    theirs.announce(1)
    assert try_take([mine], ONE, Instant(0)) is None
    # I have stepped back, so the other finds room.
    assert theirs.fits(Instant(0), 1)
    theirs.publish()
    assert try_take([mine], ONE, Instant(0)) is not None
    assert try_take([theirs], ONE, Instant(0)) is None


def test_a_refusal_leaves_no_announcement_behind(arenas) -> None:
    wide = [sharing(arena, requests(10, name="wide")) for arena in arenas]
    narrow = [sharing(arena, slots(1, name="narrow")) for arena in arenas]
    assert try_take([wide[0], narrow[0]], ONE, Instant(0)) is not None
    assert try_take([wide[1], narrow[1]], ONE, Instant(0)) is None
    assert [meter.in_use(Instant(0)) for meter in wide] == [1, 1, 1]
    assert [meter.in_use(Instant(0)) for meter in narrow] == [1, 1, 1]


def test_a_successor_takes_over_what_the_dead_one_used_and_lets_it_expire(arenas) -> None:
    window, slot = sharing(arenas[0], requests(10, 60, name="w")), sharing(arenas[0], slots(5, name="c"))
    window.take(Instant(0), 6)
    slot.take(Instant(0), 2)
    seen_window, seen_slot = sharing(arenas[1], requests(10, 60, name="w")), sharing(arenas[1], slots(5, name="c"))
    del window, slot
    now = 10 * SECOND
    assert seen_window.in_use(Instant(now)) == 6
    successor_window = sharing(arenas[0], requests(10, 60, name="w"), now)
    successor_slot = sharing(arenas[0], slots(5, name="c"), now)
    assert (seen_window.in_use(Instant(now)), seen_slot.in_use(Instant(now))) == (6, 2)
    assert (successor_window.used, successor_slot.used) == (6, 2)
    later = now + max(60 * SECOND, ConcurrencyMeter.ORPHAN_NS)
    successor_window.expire(Instant(later - 1))
    assert seen_window.in_use(Instant(later - 1)) == 6
    for meter in (successor_window, successor_slot):
        meter.expire(Instant(later))
    assert (seen_window.in_use(Instant(later)), seen_slot.in_use(Instant(later))) == (0, 0)


def test_a_day_is_shared_and_turns_for_all(arenas) -> None:
    def day() -> Meter:
        return DayMeter(
            "d", Dimension.REQUESTS, 10, turn_after=lambda now: Instant((now // 100 + 1) * 100), now=Instant(0)
        )

    mine, theirs = sharing(arenas[0], day()), sharing(arenas[1], day())
    mine.take(Instant(0), 10)
    assert not theirs.fits(Instant(99), 1)
    mine.expire(Instant(100))
    assert theirs.fits(Instant(100), 10)


def test_more_limits_than_places_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shared, "LIMITS_MAX", 4)
    descriptor = SharedArena.create(1)
    arena = SharedArena(descriptor, 1, 0)
    for number in range(4):
        arena.cell(f"limit {number}")
    with pytest.raises(ValueError, match="more than 4 limits"):
        arena.cell("one more")
    arena.cell("limit 2")
    os.close(descriptor)


HAMMER = textwrap.dedent(
    """
    import json, sys, time
    from dujiang.admission.demand import Demand
    from dujiang.admission.meters import ConcurrencyMeter, WindowMeter
    from dujiang.admission.reservation import try_take
    from dujiang.admission.shared import SharedArena
    from dujiang.terms import Dimension, Usage

    descriptor, processes, own, until, limit, window = map(int, sys.argv[1:])
    arena = SharedArena(descriptor, processes, own)
    requests = WindowMeter("requests", Dimension.REQUESTS, limit, window)
    tokens = WindowMeter("tokens", Dimension.TOKENS, limit * 10, window)
    slots = ConcurrencyMeter("slots", Dimension.CONCURRENCY, 3)
    meters = [slots, requests, tokens]
    for meter in meters:
        meter.share(arena.cell(meter.name), time.monotonic_ns())
    demand = Demand(Usage(input_tokens=10))
    taken, spans, refused = [], [], 0
    while (now := time.monotonic_ns()) < until:
        holds = try_take(meters, demand, now)
        if holds is None:
            refused += 1
            time.sleep(0.0001 * (1 + own))
            continue
        taken.append(now)
        if len(taken) % 7 == 0:
            time.sleep(0.0005)
        ended = time.monotonic_ns()
        holds[0][0].close(ended, holds[0][1])
        spans.append((now, ended))
    print(json.dumps([taken, spans, refused]))
    """
)


def test_processes_that_hammer_one_limit_never_exceed_it_together() -> None:
    processes, limit, window = 3, 40, SECOND // 10
    descriptor = SharedArena.create(processes)
    until = time.monotonic_ns() + 2 * SECOND
    hammers = [
        subprocess.Popen(
            [sys.executable, "-c", HAMMER, *map(str, (descriptor, processes, own, until, limit, window))],
            pass_fds=[descriptor],
            stdout=subprocess.PIPE,
        )
        for own in range(processes)
    ]
    taken: list[int] = []
    spans: list[tuple[int, int]] = []
    for hammer in hammers:
        output, _ = hammer.communicate(timeout=30)
        own_taken, own_spans, refused = json.loads(output)
        assert own_taken
        assert refused
        taken += own_taken
        spans += own_spans
    os.close(descriptor)
    taken.sort()
    for index in range(len(taken) - limit):
        assert taken[index + limit] - taken[index] >= window, "one more in a window than allowed"
    edges = sorted([(begin, 1) for begin, _ in spans] + [(end, -1) for _, end in spans])
    at_once = 0
    for _, change in edges:
        at_once += change
        assert at_once <= 3
    # Exact in the other direction too: under this pressure hardly anything of the limit is left unused.
    busy = taken[-1] - taken[0]
    assert len(taken) >= 0.6 * limit * busy / window
