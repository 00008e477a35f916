"""From single visits to one row per target: medians, and medians of paired ratios."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from statistics import median

from bench.gateway import Measured
from bench.rounds import Pair, Visit

SATURATED = 0.85
"""The share of a core from which on a gateway counts as saturated."""
ENOUGH_PAIRS = 3
_COUNTS = re.compile(r"(?<!were )\b\d+")


@dataclass(frozen=True, slots=True)
class Spread:
    """A figure over the rounds: its median, and the least and the most it was."""

    median: float
    least: float
    most: float


@dataclass(frozen=True, slots=True)
class Row:
    """What is told about one target; None where it could not be measured without a fault.

    `*_x_nginx` are medians of paired ratios of CPU time; times in microseconds, memory in MB, start in seconds.
    """

    target: str
    calls_x_nginx: Spread | None
    call_cpu_us: Spread | None
    calls_per_s: float | None
    busy: float | None
    streams_x_nginx: Spread | None
    stream_cpu_us: Spread | None
    events_per_stream: float | None
    latency_rate: float | None
    added_p50_us: float | None
    added_p99_us: float | None
    memory_mb: float | None
    memory_after_calls: int
    cold_start_s: float
    faults: tuple[str, ...]


def spread(values: Iterable[float]) -> Spread | None:
    """Return the median and the extremes of some values, None of none."""
    known = list(values)
    return Spread(median(known), min(known), max(known)) if known else None


def ratio(pair: Pair) -> float:
    """Return how many times nginx's CPU time per call the target used, in one pair."""
    return pair.own.cpu_us_per_call / pair.nginx.cpu_us_per_call


def _sound(pairs: Iterable[Pair]) -> list[Pair]:
    """Return the pairs in which nothing went wrong on either side."""
    return [pair for pair in pairs if not pair.own.faults and not pair.nginx.faults]


def _undisturbed(pairs: list[Pair]) -> list[Pair]:
    """Return the pairs in which both sides had their core to themselves, or all when that was seldom.

    A gateway that shares its core with strangers finds its caches cold: it needs up to twice the CPU time for a call.
    """
    alone = [pair for pair in pairs if min(pair.own.busy, pair.nginx.busy) >= SATURATED]
    return alone if len(alone) >= ENOUGH_PAIRS else pairs


def _added_us(visits: Sequence[Visit], quantile: str) -> float | None:
    """Return the median of a quantile through the gateway less the median of the same sent directly.

    Not the median of differences: one disturbed direct run would make a gateway look faster than none.
    """
    sound = [
        visit.latency
        for visit in visits
        if visit.latency and not visit.latency.through.faults and not visit.latency.direct.faults
    ]
    if not sound:
        return None
    through = median(latency.through.answers.latency_ns[quantile] for latency in sound)
    return (through - median(latency.direct.answers.latency_ns[quantile] for latency in sound)) / 1000


def _both_sides(pairs: Iterable[Pair]) -> list[Measured]:
    return [measured for pair in pairs for measured in (pair.nginx, pair.own)]


def _faults(visits: Sequence[Visit]) -> tuple[str, ...]:
    """Return every kind of fault once, with the step in which it was seen first and the counts it had there."""
    seen: dict[str, str] = {}
    for visit in visits:
        steps = {"warm-up": [visit.warm_up], "calls": _both_sides(visit.calls)}
        steps["streams"] = _both_sides(visit.streams)
        steps["latency"] = [visit.latency.direct, visit.latency.through] if visit.latency else []
        for step, measurements in steps.items():
            for measured in measurements:
                for fault in measured.faults:
                    seen.setdefault(f"{step} {_COUNTS.sub('', fault)}", f"{step}: {fault}")
    return tuple(seen.values())


def row(visits: Sequence[Visit]) -> Row:
    """Return the row of one target from all its visits, at least one."""
    calls = _undisturbed(_sound(pair for visit in visits for pair in visit.calls))
    streams = _sound(pair for visit in visits for pair in visit.streams)
    weighed = [visit for visit in visits if visit.memory_mb is not None]
    latencies = [visit.latency for visit in visits if visit.latency]
    return Row(
        target=visits[0].target,
        calls_x_nginx=spread(map(ratio, calls)),
        call_cpu_us=spread(pair.own.cpu_us_per_call for pair in calls),
        calls_per_s=max((pair.own.calls_per_s for pair in calls), default=None),
        busy=median(pair.own.busy for pair in calls) if calls else None,
        streams_x_nginx=spread(map(ratio, streams)),
        stream_cpu_us=spread(pair.own.cpu_us_per_call for pair in streams),
        events_per_stream=_events_per_stream(streams),
        latency_rate=min((latency.rate for latency in latencies), default=None),
        added_p50_us=_added_us(visits, "p50"),
        added_p99_us=_added_us(visits, "p99"),
        memory_mb=weighed[0].memory_mb if weighed else None,
        memory_after_calls=weighed[0].warm_up.answers.answered if weighed else 0,
        cold_start_s=median(visit.cold_start_s for visit in visits),
        faults=_faults(visits),
    )


def _events_per_stream(streams: Sequence[Pair]) -> float | None:
    answered = sum(pair.own.answers.answered for pair in streams)
    return sum(pair.own.answers.events for pair in streams) / answered if answered else None


def rows(visits: Sequence[Visit], order: Sequence[str]) -> list[Row]:
    """Return a row for each target that was measured at least once, in the order given."""
    by_target = {name: [visit for visit in visits if visit.target == name] for name in order}
    return [row(of_target) for of_target in by_target.values() if of_target]


def relative(own: Row, other: Row | None, figure: Callable[[Row], Spread | None]) -> float | None:
    """Return how many times another target's figure one target's is, through nginx, which both were paired with."""
    mine, theirs = figure(own), figure(other) if other else None
    return mine.median / theirs.median if mine and theirs else None


def calls_x_nginx(of: Row) -> Spread | None:
    """Return the CPU time per call in units of nginx's."""
    return of.calls_x_nginx
