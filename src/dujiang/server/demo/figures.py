"""What one run was worth: figures and time slices, from nothing but what was seen in it.

All times are of the trace, in seconds since the first instant of the run.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from itertools import pairwise
from typing import Final

SLICE_S: Final = 10.0
"""The width of the chart's time slices."""


class Result(StrEnum):
    """How a call ended for the application."""

    ANSWERED = "answered"
    REFUSED = "refused"
    TIMED_OUT = "timed_out"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class CallSeen:
    """One call as the application saw it: due at, over at, and how long the vendor itself worked on it."""

    due_s: float
    ended_s: float
    result: Result
    vendor_s: float = 0.0
    reason: str = ""
    """Of a call without an answer: the SDK's own words, shortened."""

    @property
    def latency_s(self) -> float:
        """Return the time from when the user asked to when the call was over."""
        return self.ended_s - self.due_s

    @property
    def wait_s(self) -> float:
        """Return the latency without the vendor's own work: queue, refusals, back-off."""
        return max(0.0, self.latency_s - self.vendor_s)


@dataclass(frozen=True, slots=True)
class VendorSeen:
    """The vendor's own counters at one instant: totals since it began, and what its windows hold now."""

    at_s: float
    requests: int
    refused: int
    in_flight: int
    requests_used: int
    tokens_used: int
    tokens_charged: int
    requests_charged: int
    refused_by_limit: Mapping[str, int] = field(default_factory=dict[str, int])


@dataclass(frozen=True, slots=True)
class Run:
    """Everything seen in one run."""

    name: str
    calls: tuple[CallSeen, ...]
    vendor: tuple[VendorSeen, ...]


@dataclass(frozen=True, slots=True)
class Figures:
    """The figures of one run: shares from 0 to 1; waits and latencies are those of answered calls."""

    calls: int
    in_time: int
    answered: int
    failed: int
    vendor_requests: int
    vendor_429s: int
    wait_p50_s: float
    wait_p95_s: float
    latency_p50_s: float
    latency_p95_s: float
    tokens_quota_used: float
    requests_quota_used: float


def figures(run: Run, patience_s: float, tokens_quota: float, requests_quota: float) -> Figures:
    """Return the figures of a run; the quotas are what the vendor would have let through in all its time."""
    answered = [call for call in run.calls if call.result is Result.ANSWERED]
    waits = sorted(call.wait_s for call in answered)
    latencies = sorted(call.latency_s for call in answered)
    last = run.vendor[-1]
    return Figures(
        calls=len(run.calls),
        in_time=sum(1 for latency in latencies if latency <= patience_s),
        answered=len(answered),
        failed=len(run.calls) - len(answered),
        vendor_requests=last.requests,
        vendor_429s=last.refused,
        wait_p50_s=percentile(waits, 0.50),
        wait_p95_s=percentile(waits, 0.95),
        latency_p50_s=percentile(latencies, 0.50),
        latency_p95_s=percentile(latencies, 0.95),
        tokens_quota_used=last.tokens_charged / tokens_quota,
        requests_quota_used=last.requests_charged / requests_quota,
    )


def percentile(ordered: Sequence[float], share: float) -> float:
    """Return the nearest-rank percentile of values in ascending order; 0 of none."""
    if not ordered:
        return 0.0
    return ordered[max(0, math.ceil(share * len(ordered)) - 1)]


@dataclass(frozen=True, slots=True)
class Slices:
    """One run over time, in slices of `SLICE_S`: counts within a slice, levels as its mean."""

    due: list[int]
    in_time: list[int]
    failed: list[int]
    refusals: list[int]
    open_calls: list[float]
    """Calls the application waits for."""
    tokens_used: list[float]
    """The tokens in the vendor's running window."""


def slices(run: Run, patience_s: float, end_s: float) -> Slices:
    """Cut a run into time slices from 0 to `end_s`."""
    count = max(1, math.ceil(end_s / SLICE_S))
    good = [c for c in run.calls if c.result is Result.ANSWERED and c.latency_s <= patience_s]
    lost = [c for c in run.calls if c.result is not Result.ANSWERED or c.latency_s > patience_s]
    refusals = _grown(run.vendor, count)
    return Slices(
        due=_counts((c.due_s for c in run.calls), count),
        in_time=_counts((c.ended_s for c in good), count),
        failed=_counts((c.ended_s for c in lost), count),
        refusals=refusals,
        open_calls=_open(run.calls, count),
        tokens_used=_levels(run.vendor, count),
    )


def _counts(instants: Iterable[float], count: int) -> list[int]:
    counted = [0] * count
    for instant in instants:
        counted[min(count - 1, max(0, int(instant / SLICE_S)))] += 1
    return counted


def _grown(seen: Sequence[VendorSeen], count: int) -> list[int]:
    """Return by how much the count of refusals grew in each slice, from the sample before its end."""
    times = [sample.at_s for sample in seen]
    totals = [0]
    for index in range(1, count + 1):
        at = bisect_right(times, index * SLICE_S) if index < count else len(times)
        totals.append(seen[at - 1].refused if at else 0)
    return [after - before for before, after in pairwise(totals)]


def _levels(seen: Sequence[VendorSeen], count: int) -> list[float]:
    sums, samples = [0.0] * count, [0] * count
    for sample in seen:
        index = int(sample.at_s / SLICE_S)
        if 0 <= index < count:
            sums[index] += sample.tokens_used
            samples[index] += 1
    levels: list[float] = []
    for total, number in zip(sums, samples, strict=True):
        levels.append(total / number if number else (levels[-1] if levels else 0.0))
    return levels


def _open(calls: Sequence[CallSeen], count: int) -> list[float]:
    """Return the mean number of open calls in each slice: the call-seconds spent in it over its width."""
    spent = [0.0] * count
    for call in calls:
        first = max(0, int(call.due_s / SLICE_S))
        last = min(count - 1, int(call.ended_s / SLICE_S))
        for index in range(first, last + 1):
            begin, end = index * SLICE_S, (index + 1) * SLICE_S
            spent[index] += max(0.0, min(end, call.ended_s) - max(begin, call.due_s))
    return [seconds / SLICE_S for seconds in spent]
