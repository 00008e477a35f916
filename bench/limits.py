"""How exactly tenant limits are kept under load, with one worker and with two, judged by what reached the upstream."""

from __future__ import annotations

import tempfile
import time
from bisect import bisect_left
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from bench.gateway import Gateway, Measured, Site, measure, run_at
from bench.install import Unavailable
from bench.native import Crowd, upstream
from bench.processes import GATEWAY_CORE, LOAD_CORE, free_port
from bench.targets import Place, dujiang
from bench.work import TENANT_KEY, bearer_request

REQUESTS, WINDOW_S, WINDOWS = 1000, 2, 3
CONCURRENT = 40
CONNECTIONS = 256
LEAST_USED = 0.95
SLACK_NS = 20_000_000
"""A call admitted early in a window may arrive late, one admitted after it at once: so much is forgiven."""
_SETTLING_S, _WATCHED_S = 1.5, 4.0


@dataclass(frozen=True, slots=True)
class LimitKept:
    """One limit with so many workers: the most ever seen (at once, or in a window), and the share used."""

    limit: str
    workers: int
    value: int
    most: int
    used: float
    fault: str = ""

    @property
    def verdict(self) -> Literal["held", "missed", "not measured"]:
        """Held when it was never exceeded and nearly all of it could be used."""
        if self.fault:
            return "not measured"
        return "held" if self.most <= self.value and self.used >= LEAST_USED else "missed"


def most_in_a_window(arrivals_ns: Sequence[int], window_ns: int) -> int:
    """Return the most arrivals that any window of this length holds; the arrivals are in order."""
    return max(
        (at + 1 - bisect_left(arrivals_ns, arrivals_ns[at] - window_ns + 1) for at in range(len(arrivals_ns))),
        default=0,
    )


def share_used(arrivals_ns: Sequence[int], value: int, window_ns: int, windows: int) -> float:
    """Return which share of `value` a window the arrivals used, over whole windows from the first on."""
    if not arrivals_ns:
        return 0.0
    return bisect_left(arrivals_ns, arrivals_ns[0] + windows * window_ns) / (value * windows)


def _whole(measured: Measured) -> str:
    """Return what was wrong with a load of which a part had to be refused; nothing when all is well."""
    answers = measured.answers
    admitted = answers.statuses.get("200", 0)
    odd = {status for status in answers.statuses if status not in ("200", "429")}
    if odd or answers.lost or answers.unanswered or answers.never_sent:
        return "; ".join(measured.faults)
    if measured.counted.calls != admitted:
        return f"{admitted} calls came back 200, {measured.counted.calls} reached the upstream"
    return ""


def _requests(site: Site, gateway: Gateway, workers: int) -> LimitKept:
    """Ask for twice the calls a rolling window allows."""
    crowd = Crowd(CONNECTIONS, seconds=WINDOW_S * WINDOWS + 0.5, rate=2 * REQUESTS / WINDOW_S)
    # The call that showed the gateway is ready has to leave the window first.
    time.sleep(WINDOW_S)
    measured = measure(site, gateway.port, gateway.call_request, crowd)
    arrivals_ns = site.upstream.arrivals_ns()[-measured.counted.calls :] if measured.counted.calls else []
    window_ns = WINDOW_S * 1_000_000_000
    most = most_in_a_window(arrivals_ns, window_ns - SLACK_NS)
    used = share_used(arrivals_ns, REQUESTS, window_ns, WINDOWS)
    return LimitKept(f"requests/{WINDOW_S}s", workers, REQUESTS, most, used, _whole(measured))


def _concurrency(site: Site, gateway: Gateway, workers: int) -> LimitKept:
    """Ask for four times the streams of one second each that may be open at once."""
    crowd = Crowd(CONNECTIONS, seconds=_SETTLING_S + _WATCHED_S + 0.5, rate=4 * CONCURRENT)
    with ThreadPoolExecutor(1) as pool:
        load = pool.submit(measure, site, gateway.port, gateway.stream_request, crowd)
        time.sleep(_SETTLING_S)
        before = site.upstream.counted()
        time.sleep(_WATCHED_S)
        watched = site.upstream.counted().since(before)
        measured = load.result()
    used = watched.stream_ns / (watched.now_ns * CONCURRENT)
    most = site.upstream.counted().most_in_flight
    return LimitKept("concurrency", workers, CONCURRENT, most, used, _whole(measured))


_Judge = Callable[[Site, Gateway, int], LimitKept]
_CASES: tuple[tuple[str, dict[str, Any], _Judge], ...] = (
    (f"requests/{WINDOW_S}s", dujiang.limit("requests", REQUESTS, f"{WINDOW_S}s"), _requests),
    ("concurrency", dujiang.limit("concurrency", CONCURRENT), _concurrency),
)


def limits_kept(
    programs: Path, folder: Path, tell: Callable[[str], None], workers: Sequence[int] = (1, 2)
) -> list[LimitKept]:
    """Load a tenant's limit of requests and one of concurrency, with each number of workers."""
    found = []
    for count in workers:
        for name, limit, judge in _CASES:
            tell(f"{name}, {count} worker{'s' if count > 1 else ''}")
            at = Path(tempfile.mkdtemp(prefix="limit-", dir=folder))
            with upstream(programs, at) as vendor:
                place = Place(at, free_port(), vendor.port)
                requests = (bearer_request(TENANT_KEY, stream=False), bearer_request(TENANT_KEY, stream=True))
                cores = (GATEWAY_CORE,) if count == 1 else (LOAD_CORE, GATEWAY_CORE)
                try:
                    with run_at(place, dujiang.launch(place, [limit], count), requests, cores) as gateway:
                        found.append(judge(Site(programs, vendor, at), gateway, count))
                except (Unavailable, RuntimeError) as error:
                    found.append(LimitKept(name, count, limit["value"], 0, 0.0, str(error)))
    return found
