"""What happened at the simulated vendor: counters, use of each limit, and a bounded timeline."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

from dujiang.clock import SECOND
from dujiang.simulation.account import Account, Limit
from dujiang.simulation.series import Series, add


class Statistics:
    """The counters of one vendor since it started or was reset. Times are of the vendor's own calendar."""

    def __init__(self, started_at: int) -> None:
        self._started_at = started_at
        self.counts: Counter[str] = Counter()
        self.refused_by_limit: Counter[str] = Counter()
        self.answers_by_code: Counter[str] = Counter()
        self.faults: Counter[str] = Counter()
        self.in_flight = 0
        self.in_flight_peak = 0
        self._timeline = Series(SECOND, (add, add, add, max))

    def _cell(self, now: int) -> list[int]:
        return self._timeline.at(now - self._started_at, (0, 0, 0, self.in_flight))

    def arrived(self) -> None:
        """Count a request to one of the vendor's operations."""
        self.counts["sent"] += 1

    def accepted(self, now: int, input_tokens: int, cached_tokens: int) -> None:
        """Count a call that was admitted."""
        cell = self._cell(now)
        self.counts["accepted"] += 1
        self.counts["input_tokens"] += input_tokens
        self.counts["cached_tokens"] += cached_tokens
        self.in_flight += 1
        self.in_flight_peak = max(self.in_flight_peak, self.in_flight)
        cell[0] += 1
        cell[3] = max(cell[3], self.in_flight)

    def finished(self, now: int, output_tokens: int, outcome: str) -> None:
        """Count the end of an admitted call: `finished`, `broken` (by a fault) or `abandoned` (client gone)."""
        self._cell(now)
        self.in_flight -= 1
        self.counts["output_tokens"] += output_tokens
        self.counts[outcome] += 1

    def refused(self, now: int, status: int, code: str, limit: str | None) -> None:
        """Count a request that was answered with an error."""
        over = status == 429
        self.counts["refused" if over else "failed"] += 1
        self.answers_by_code[f"{status} {code}"] += 1
        if limit is not None:
            self.refused_by_limit[limit] += 1
        self._cell(now)[1 if over else 2] += 1

    def snapshot(self, now: int, accounts: Sequence[Account], time_scale: float) -> dict[str, Any]:
        """Return everything as plain data."""
        self._cell(now)
        elapsed_ns = now - self._started_at
        counts = self.counts
        requests = ("sent", "accepted", "refused", "failed", "finished", "broken", "abandoned")
        return {
            "elapsed_s": round(elapsed_ns / SECOND, 3),
            "time_scale": time_scale,
            "requests": {name: counts[name] for name in requests}
            | {"in_flight": self.in_flight, "in_flight_peak": self.in_flight_peak},
            "tokens": {name: counts[f"{name}_tokens"] for name in ("input", "cached", "output")},
            "refused_by_limit": dict(self.refused_by_limit),
            "errors": dict(self.answers_by_code),
            "faults": dict(self.faults),
            "limits": [
                _use(limit, number, now, elapsed_ns)
                for number, account in enumerate(accounts, start=1)
                for limit in account.limits
            ],
            "timeline": {
                "width_s": self._timeline.width_ns / SECOND,
                "accepted": self._timeline.column(0),
                "refused": self._timeline.column(1),
                "failed": self._timeline.column(2),
                "in_flight": self._timeline.column(3),
            },
        }


def _use(limit: Limit, account: int, now: int, elapsed_ns: int) -> dict[str, Any]:
    spec = limit.spec
    facts: dict[str, Any] = {
        "account": account,
        "limit": limit.label,
        "dimension": str(spec.dimension),
        "announced": spec.value,
        "value": limit.meter.value,
        "used": limit.meter.used(now),
        "peak_used": limit.peak,
        "charged": limit.charged,
        "violations": limit.violations,
    }
    if not spec.window_ns:
        possible = limit.announced * elapsed_ns
        return facts | {"used_share": round(limit.held_ns(now) / possible, 4) if possible else 0.0}
    possible = spec.value * max(elapsed_ns, spec.window_ns) / spec.window_ns
    full = spec.value * limit.history.width_ns / spec.window_ns
    return facts | {
        "semantics": str(spec.semantics),
        "used_share": round(limit.charged / possible, 4),
        "windows": {
            "width_s": limit.history.width_ns / SECOND,
            "used_shares": [round(charged / full, 4) for charged in limit.history.column(0)],
        },
    }
