"""What the demo plays: which calls of a trace, against which limits, at which speed."""

from __future__ import annotations

import math
import random
from dataclasses import dataclass, replace
from typing import Final

from dujiang.clock import SECOND, seconds
from dujiang.simulation.traces import Trace, TraceCall

MODEL: Final = "assistant"
DURATION_S: Final = 600.0
"""How much of a trace is played."""
WINDOW_S: Final = 60
CONCURRENCY: Final = 5
FIRST_TOKEN_S: Final = 0.4
TOKENS_PER_S: Final = 80.0
LOAD: Final = 0.8
"""The mean share of each of the vendor's limits that the chosen calls need."""
CALLS_MAX: Final = 900
"""More would load the measuring machine rather than the quota."""
PATIENCE_S: Final = 60.0
SPEED: Final = 20.0
RUN_MAX_S: Final = 35.0
STREAMED_EVERY: Final = 4
"""One call in so many is streamed."""


def service_s(call: TraceCall) -> float:
    """Return how long the vendor itself takes for a call, in seconds of trace time."""
    return FIRST_TOKEN_S + call.output_tokens / TOKENS_PER_S


@dataclass(frozen=True, slots=True)
class Scenario:
    """The calls to be made and the limits they meet; times are of the trace, `speed` times the run's."""

    trace: Trace
    recorded_calls: int
    """How many calls the trace had in this time before some were chosen."""
    seed: int
    speed: float
    requests_limit: int
    tokens_limit: int
    patience_s: float

    @property
    def calls(self) -> tuple[TraceCall, ...]:
        """Return the calls in order of arrival."""
        return self.trace.calls

    @property
    def duration_s(self) -> float:
        """Return how long calls arrive, in trace time."""
        return seconds(self.trace.duration_ns)

    @property
    def windows(self) -> float:
        """Return how many quota windows the arrivals last, at least the one they begin in."""
        return max(1.0, self.duration_s / WINDOW_S)

    @property
    def demand(self) -> dict[str, float]:
        """Return the mean demand as a share of each limit, in the order the limits are named everywhere."""
        in_flight = sum(map(service_s, self.calls)) / self.duration_s
        return {
            "requests": len(self.calls) / self.windows / self.requests_limit,
            "tokens": sum(call.tokens for call in self.calls) / self.windows / self.tokens_limit,
            "concurrency": in_flight / CONCURRENCY,
        }

    @property
    def peak_demand(self) -> float:
        """Return the most tokens that arrive within one quota window, as a share of the token limit."""
        window_ns = WINDOW_S * SECOND
        first = total = most = 0
        for call in self.calls:
            total += call.tokens
            while call.at_ns - self.calls[first].at_ns >= window_ns:
                total -= self.calls[first].tokens
                first += 1
            most = max(most, total)
        return most / self.tokens_limit


def choose(trace: Trace, seed: int, speed: float | None = None) -> Scenario:
    """Derive the scenario from a trace.

    1. Calls are kept at random, all with the same chance, until they need 80 % of the five slots on average
       (or are 900): the part of the traffic that one account can carry. Thinning so keeps the rise and fall
       of the rate and the mix of sizes.
    2. The limits on requests and on tokens per 60 s are such that the kept calls need 80 % of them on
       average, rounded up to three digits: the mean fits, the bursts do not. The token limit is never below
       twice the largest call.
    3. A user waits 60 s, or twice as long as the vendor takes for the longest answer, if that is more.
    4. Unless told, the speed is 20, or as much more as brings arrivals and last waits under 35 s.
    """
    chosen = replace(trace, calls=_kept(trace, seed))
    windows = max(1.0, seconds(chosen.duration_ns) / WINDOW_S)
    tokens = [call.tokens for call in chosen.calls]
    patience_s = max(PATIENCE_S, math.ceil(2 * max(map(service_s, chosen.calls))))
    return Scenario(
        trace=chosen,
        recorded_calls=len(trace.calls),
        seed=seed,
        speed=speed or max(SPEED, (seconds(chosen.duration_ns) + patience_s) / RUN_MAX_S),
        requests_limit=_three_digits(len(tokens) / windows / LOAD),
        tokens_limit=_three_digits(max(sum(tokens) / windows / LOAD, 2 * max(tokens))),
        patience_s=patience_s,
    )


def _kept(trace: Trace, seed: int) -> tuple[TraceCall, ...]:
    drawn = random.Random(f"kept {seed}")  # noqa: S311 -- reproducible, guards no secret
    order = list(range(len(trace.calls)))
    drawn.shuffle(order)
    room_s = LOAD * CONCURRENCY * seconds(trace.duration_ns)
    kept: list[int] = []
    for index in order[:CALLS_MAX]:
        room_s -= service_s(trace.calls[index])
        if kept and room_s < 0:
            break
        kept.append(index)
    return tuple(trace.calls[index] for index in sorted(kept))


def _three_digits(value: float) -> int:
    """Round up to three significant digits; at least 5."""
    value = max(5.0, value)
    unit = 10 ** max(0, math.floor(math.log10(value)) - 2)
    return math.ceil(value / unit) * unit
