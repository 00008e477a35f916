"""Whether a gateway grows: slopes of what was sampled, and what is left when all callers have gone."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from itertools import combinations
from statistics import median

WARM_UP_SHARE = 0.25
"""The first part of a run, which fills pools, caches and windows and says nothing of leaks."""
WARM_UP_MOST_S = 150.0
FEWEST_SAMPLES = 5
OWN_FILES = 3
"""Descriptors a gateway may open once and keep: the store's files."""


@dataclass(frozen=True, slots=True)
class Sample:
    """What one look at the gateway saw, `at_s` seconds after the traffic began."""

    at_s: float
    own_mb: float
    """Its own memory (anonymous, resident): what it has asked for. Pages of libraries come and go with others' use."""
    rss_mb: float
    pss_mb: float
    descriptors: int
    threads: int
    tasks: int
    connections: int
    in_flight: int
    waiting: int
    held: int
    pending: int

    def figures(self) -> dict[str, float]:
        """Return everything but the time, by name."""
        return {name: value for name, value in asdict(self).items() if name != "at_s"}


@dataclass(frozen=True, slots=True)
class Allowance:
    """How much a figure may rise: `per_minute` is a slope, `in_all` what the noise of a short run amounts to."""

    unit: str
    per_minute: float
    in_all: float


ALLOWANCES = {
    "own_mb": Allowance("MB", 0.2, 1.5),
    "descriptors": Allowance("", 0.5, 8),
    "threads": Allowance("", 0.2, 3),
    "tasks": Allowance("", 0.5, 8),
    "held": Allowance("", 0.5, 8),
}
"""At 50 calls a second 0.2 MB a minute are 70 bytes a call, and 0.5 a minute is one in 6,000 calls."""


@dataclass(frozen=True, slots=True)
class Growth:
    """One figure over the run, without its warm-up."""

    figure: str
    unit: str
    first: float
    last: float
    per_minute: float
    rise: float
    grows: bool


def slope(points: Sequence[tuple[float, float]]) -> float:
    """Return the median of the slopes between all pairs of points (Theil and Sen); 0 of fewer than two.

    A few wild samples do not move it, as they would move a line of least squares.
    """
    slopes = [(y2 - y1) / (x2 - x1) for (x1, y1), (x2, y2) in combinations(points, 2) if x2 != x1]
    return median(slopes) if slopes else 0.0


def after_warm_up(samples: Sequence[Sample]) -> list[Sample]:
    """Return the samples that count."""
    if not samples:
        return []
    warm_up_s = min(samples[-1].at_s * WARM_UP_SHARE, WARM_UP_MOST_S)
    return [sample for sample in samples if sample.at_s >= warm_up_s]


def growth(samples: Sequence[Sample]) -> list[Growth]:
    """Return how each figure moved; it grows when it rose faster, and by more, than it may.

    Raises ValueError when there are too few samples to say anything.
    """
    counted = after_warm_up(samples)
    if len(counted) < FEWEST_SAMPLES:
        raise ValueError(f"{len(counted)} samples after the warm-up say nothing; let the soak run longer")
    minutes = (counted[-1].at_s - counted[0].at_s) / 60
    found = []
    for figure, allowed in ALLOWANCES.items():
        points = [(sample.at_s / 60, sample.figures()[figure]) for sample in counted]
        per_minute = slope(points)
        rise = per_minute * minutes
        grows = per_minute > allowed.per_minute and rise > allowed.in_all
        found.append(Growth(figure, allowed.unit, points[0][1], points[-1][1], per_minute, rise, grows))
    return found


def left_over(before: Sample, after: Sample) -> list[str]:
    """Tell what is still there when nobody calls any more and was not there before anybody called."""
    found = [
        f"{name} is {count}, not 0"
        for name, count in (("in_flight", after.in_flight), ("waiting", after.waiting), ("held", after.held))
        if count
    ]
    if after.tasks > before.tasks:
        found.append(f"{after.tasks - before.tasks} tasks are left over")
    if after.descriptors > before.descriptors + OWN_FILES:
        found.append(f"{after.descriptors - before.descriptors} descriptors are left over")
    return found
