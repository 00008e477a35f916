"""What Dujiang promises about its own cost, and whether a run bears it out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from bench.figures import Row, Spread, calls_x_nginx, relative

Verdict = Literal["held", "missed", "not measured"]


@dataclass(frozen=True, slots=True)
class Goal:
    """One promise: a figure, the most it may be, and what it was."""

    what: str
    at_most: float
    unit: str
    measured: float | None

    @property
    def verdict(self) -> Verdict:
        """Whether it was kept; a figure that could not be taken is no promise kept."""
        if self.measured is None:
            return "not measured"
        return "held" if self.measured <= self.at_most else "missed"


def _median(figure: Spread | None) -> float | None:
    return figure.median if figure else None


def goals(rows: Sequence[Row]) -> list[Goal]:
    """Return the promises with what was measured; none when Dujiang is not among the rows."""
    by_name = {row.target: row for row in rows}
    own = by_name.get("dujiang")
    if own is None:
        return []
    x_ferrogw = relative(own, by_name.get("ferrogw"), calls_x_nginx)
    x_litellm = relative(own, by_name.get("litellm"), calls_x_nginx)
    return [
        Goal("CPU of a call, to nginx", 4, "×", _median(own.calls_x_nginx)),
        Goal("CPU of a stream of 50 chunks, to nginx", 2, "×", _median(own.streams_x_nginx)),
        Goal("CPU of a call, to ferrogw", 1 / 3, "×", x_ferrogw),
        Goal("CPU of a call, to LiteLLM", 1 / 50, "×", x_litellm),
        Goal("memory after 10,000 calls", 80, "MB", own.memory_mb),
        Goal("start to first 200", 1, "s", own.cold_start_s),
    ]
