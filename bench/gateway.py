"""One gateway under measurement: started in an empty folder, called by a crowd, watched meanwhile."""

from __future__ import annotations

import contextlib
import http.client
import socket
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from bench.install import Unavailable
from bench.native import Answers, Counted, Crowd, Upstream, call
from bench.processes import (
    GATEWAY_CORE,
    Launch,
    cpu_time_ns,
    free_port,
    is_alive,
    last_words,
    memory_bytes,
    running,
)
from bench.targets import Place, Target

_START_PATIENCE_S = 90
_BETWEEN_TRIES_S = 0.002


@dataclass(frozen=True, slots=True)
class Site:
    """What all measurements of a run share: the compiled programs, the upstream, and a folder for what they write."""

    programs: Path
    upstream: Upstream
    folder: Path


@dataclass(frozen=True, slots=True)
class Measured:
    """One crowd's visit: what it got, what the upstream saw, the gateway's CPU time, and what was wrong."""

    answers: Answers
    counted: Counted
    cpu_ns: int
    faults: tuple[str, ...]

    @property
    def cpu_us_per_call(self) -> float:
        """CPU time of the gateway for one answered call, in microseconds."""
        return self.cpu_ns / 1000 / max(self.answers.answered, 1)

    @property
    def calls_per_s(self) -> float:
        """Calls answered in a second."""
        return self.answers.answered * 1e9 / max(self.answers.elapsed_ns, 1)

    @property
    def busy(self) -> float:
        """Share of one core the gateway used while it was called."""
        return self.cpu_ns / max(self.answers.elapsed_ns, 1)


@dataclass(frozen=True, slots=True)
class Gateway:
    """A started gateway; `cold_start_s` is from its start to its first 200 on a real call."""

    pid: int
    port: int
    call_request: Path
    stream_request: Path
    cold_start_s: float

    def memory_mb(self) -> float:
        """Proportional set size of its processes, in MB (10^6 bytes)."""
        return memory_bytes(self.pid) / 1e6


def faults_of(answers: Answers, counted: Counted) -> tuple[str, ...]:
    """Tell what was wrong: each call must have reached the upstream once, with its key, and come back 200."""
    found = []
    refused = {status: count for status, count in answers.statuses.items() if status != "200"}
    found += [f"{count} of {answers.answered} answers were {status}" for status, count in refused.items()]
    for count, what in (
        (answers.lost, "calls lost their connection"),
        (answers.unanswered, "calls had no answer in time"),
        (answers.never_sent, "calls found no free connection"),
        (counted.wrong_keys, "calls reached the upstream with a wrong key"),
        (counted.bad_requests, "requests were not understood by the upstream"),
        (counted.broken_streams, "streams were broken off at the upstream"),
    ):
        found += [f"{count} {what}"] if count else []
    if counted.calls != answers.sent:
        found.append(f"{answers.sent} calls were sent, {counted.calls} reached the upstream")
    return tuple(found)


def measure(site: Site, port: int, request: Path, crowd: Crowd, pid: int | None = None) -> Measured:
    """Let a crowd call a port and weigh the CPU time of the process tree behind it (of nothing, without a pid).

    Raises RuntimeError when the port cannot be reached.
    """
    before = site.upstream.counted()
    cpu_before = cpu_time_ns(pid) if pid else 0
    answers = call(site.programs, port, request, crowd)
    cpu_ns = cpu_time_ns(pid) - cpu_before if pid else 0
    counted = site.upstream.counted().since(before)
    return Measured(answers, counted, cpu_ns, faults_of(answers, counted))


def _answered(port: int, request: bytes) -> int:
    """Make one call and return its status; 0 when nobody listens yet or the connection broke."""
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=30) as link:
            link.sendall(request)
            answer = http.client.HTTPResponse(link)
            answer.begin()
            answer.read()
            return answer.status
    except (OSError, http.client.HTTPException):
        return 0


def _await_first_200(pid: int, port: int, request: bytes, log: Path, patience_s: float) -> None:
    give_up_ns = time.perf_counter_ns() + round(patience_s * 1e9)
    status = 0
    while time.perf_counter_ns() < give_up_ns:
        answered = _answered(port, request)
        if answered == 200:
            return
        status = answered or status
        if not is_alive(pid):
            raise Unavailable(f"it ended at once: {last_words(log)}")
        time.sleep(_BETWEEN_TRIES_S)
    told = f"it answered {status}" if status else "it did not answer"
    raise Unavailable(f"{told} within {patience_s:.0f} s: {last_words(log)}")


@contextlib.contextmanager
def started(site: Site, target: Target, cores: tuple[int, ...] = (GATEWAY_CORE,)) -> Iterator[Gateway]:
    """Run a target for the length of a `with` block, from its first 200 on.

    Raises Unavailable when it cannot be started or does not answer.
    """
    folder = Path(tempfile.mkdtemp(prefix=f"{target.name}-", dir=site.folder))
    place = Place(folder, free_port(), site.upstream.port)
    with run_at(
        place, target.launch(place), (target.request(place, stream=False), target.request(place, stream=True)), cores
    ) as it:
        yield it


@contextlib.contextmanager
def run_at(place: Place, launch: Launch, requests: tuple[bytes, bytes], cores: tuple[int, ...]) -> Iterator[Gateway]:
    """Run a program as the gateway of a place; `requests` are the plain call and the streamed one.

    Raises Unavailable when it cannot be started or does not answer.
    """
    call_request, stream_request = place.folder / "call.http", place.folder / "stream.http"
    call_request.write_bytes(requests[0])
    stream_request.write_bytes(requests[1])
    log = place.folder / "output.log"
    begin_ns = time.perf_counter_ns()
    try:
        with running(launch, cores, log) as pid:
            _await_first_200(pid, place.port, requests[0], log, _START_PATIENCE_S)
            cold_start_s = (time.perf_counter_ns() - begin_ns) / 1e9
            yield Gateway(pid, place.port, call_request, stream_request, cold_start_s)
    except FileNotFoundError as error:
        raise Unavailable(str(error)) from error
