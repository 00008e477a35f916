"""The order of measurements: in each round every target in turn, and nginx right before each of its figures."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from bench.gateway import Gateway, Measured, Site, measure, started
from bench.install import Unavailable
from bench.native import Crowd
from bench.targets import Nginx, Target
from bench.work import VENDOR_KEY, bearer_request

CALLERS = 32
STREAMS_AT_ONCE = 200
TURNS_OF_CALLS, TURNS_OF_STREAMS = 4, 2
CALLS_BEFORE_MEMORY = 10_000
RATE = 200
RATE_OF_THE_SLOW = 40
"""Calls a second for a gateway that cannot carry `RATE` with a quarter to spare."""
STEPS = ("start", "warm-up", "calls", "streams", "latency")

Tell = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Pair:
    """The same measurement of nginx and, right after it, of the target."""

    nginx: Measured
    own: Measured


@dataclass(frozen=True, slots=True)
class Latency:
    """The same timetable sent straight to the upstream and, right after it, through the gateway."""

    rate: float
    direct: Measured
    through: Measured


@dataclass(frozen=True, slots=True)
class Visit:
    """All figures of one target in one round; memory only where the warm-up had the full number of calls."""

    target: str
    round: int
    cold_start_s: float
    warm_up: Measured
    memory_mb: float | None
    calls: tuple[Pair, ...]
    streams: tuple[Pair, ...]
    latency: Latency | None


@dataclass(frozen=True, slots=True)
class Missed:
    """A target that could not be measured in a round, and why."""

    target: str
    round: int
    reason: str


def running_order(targets: Sequence[Target], round_number: int) -> list[Target]:
    """Return the targets of a round; every second round goes the other way, so that drift falls on all alike."""
    return list(targets) if round_number % 2 == 0 else list(reversed(targets))


def _paired(site: Site, nginx: Gateway, own: Gateway, crowd: Crowd, *, stream: bool, times: int) -> tuple[Pair, ...]:
    """Measure nginx and the target in turn, `times` times: short turns, since a busy machine changes within seconds."""
    pairs = []
    for _ in range(times):
        both = []
        for gateway in (nginx, own):
            request = gateway.stream_request if stream else gateway.call_request
            both.append(measure(site, gateway.port, request, crowd, gateway.pid))
        pairs.append(Pair(*both))
    return tuple(pairs)


def _latency(site: Site, own: Gateway, capacity_per_s: float, seconds: float) -> Latency | None:
    """Call at a fixed rate; None when the gateway cannot even carry the rate of the slow."""
    rates = [rate for rate in (RATE, RATE_OF_THE_SLOW) if capacity_per_s >= 1.25 * rate]
    if not rates:
        return None
    crowd = Crowd(connections=CALLERS, seconds=seconds, rate=rates[0], drain_s=20)
    direct_request = site.folder / "direct.http"
    direct_request.write_bytes(bearer_request(VENDOR_KEY, stream=False))
    direct = measure(site, site.upstream.port, direct_request, crowd)
    return Latency(rates[0], direct, measure(site, own.port, own.call_request, crowd, own.pid))


def _visit(site: Site, nginx: Gateway, target: Target, round_number: int, seconds: float, tell: Tell) -> Visit:
    tell("start")
    with started(site, target) as own:
        tell("warm-up")
        first = round_number == 0
        # A heavy gateway gets the 10,000 calls it takes in 150 s; the figure then tells how many they were.
        warming = Crowd(CALLERS, 150, CALLS_BEFORE_MEMORY) if first else Crowd(CALLERS, 2 * seconds, 4000)
        warm_up = measure(site, own.port, own.call_request, warming, own.pid)
        memory_mb = own.memory_mb() if first else None
        tell("calls")
        measure(site, nginx.port, nginx.call_request, Crowd(CALLERS, 0.3))
        turn = Crowd(CALLERS, seconds / TURNS_OF_CALLS)
        calls = _paired(site, nginx, own, turn, stream=False, times=TURNS_OF_CALLS)
        tell("streams")
        turn = Crowd(STREAMS_AT_ONCE, seconds / TURNS_OF_STREAMS, spread_ms=200, drain_s=30)
        # nginx has its connections to the upstream from earlier rounds; so has the target after this.
        measure(site, own.port, own.stream_request, turn)
        streams = _paired(site, nginx, own, turn, stream=True, times=TURNS_OF_STREAMS)
        tell("latency")
        capacity = max(pair.own.calls_per_s for pair in calls)
        latency = _latency(site, own, capacity, 1.5 * seconds)
        return Visit(target.name, round_number, own.cold_start_s, warm_up, memory_mb, calls, streams, latency)


def all_rounds(
    site: Site, targets: Sequence[Target], rounds: int, seconds: float, tell: Callable[[int, str, str], None]
) -> tuple[list[Visit], list[Missed]]:
    """Measure every target in every round; one that fails in a round is not tried again.

    `tell` is called with the round, the target and the step before each step.
    Raises Unavailable when nginx cannot be started.
    """
    visits: list[Visit] = []
    missed: dict[str, Missed] = {}
    with started(site, Nginx()) as nginx:
        for round_number in range(rounds):
            for target in running_order(targets, round_number):
                if target.name in missed:
                    continue

                def tell_step(step: str, name: str = target.name, number: int = round_number) -> None:
                    tell(number, name, step)

                try:
                    visits.append(_visit(site, nginx, target, round_number, seconds, tell_step))
                except (Unavailable, RuntimeError) as error:
                    missed[target.name] = Missed(target.name, round_number, str(error))
    return visits, list(missed.values())
