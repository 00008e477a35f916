"""The two C programs beside the gateways: the vendor that costs next to nothing, and the crowd of callers."""

from __future__ import annotations

import contextlib
import hashlib
import json
import shutil
import subprocess
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.processes import LOAD_CORE, Launch, free_port, own_environment, placed, running
from bench.work import PACE_MS, VENDOR_KEY, lay_out

_SOURCES = Path(__file__).parent / "native"
_PROGRAMS = ("upstream", "load")


class CompilerMissing(RuntimeError):
    """There is no C compiler: the load programs cannot be built."""


def build(cache: Path) -> Path:
    """Compile both programs into a folder named after their source, unless it is there already, and return it.

    Raises CompilerMissing when there is no compiler, or when it refused.
    """
    compiler = shutil.which("cc") or shutil.which("gcc") or shutil.which("clang")
    if compiler is None:
        raise CompilerMissing("the bench compiles its load programs: apt-get install gcc libc6-dev")
    sources = [_SOURCES / name for name in ("http1.h", *(f"{program}.c" for program in _PROGRAMS))]
    digest = hashlib.sha256(b"".join(source.read_bytes() for source in sources)).hexdigest()[:12]
    folder = cache / f"native-{digest}"
    folder.mkdir(parents=True, exist_ok=True)
    for program in _PROGRAMS:
        if (folder / program).exists():
            continue
        partial = folder / f"{program}.partial"
        command = [compiler, "-O2", "-std=gnu11", "-Wall", "-o", str(partial), str(_SOURCES / f"{program}.c")]
        outcome = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603
        if outcome.returncode:
            raise CompilerMissing(f"{program}.c could not be compiled: {outcome.stderr.strip()[-300:]}")
        partial.rename(folder / program)
    return folder


@dataclass(frozen=True, slots=True)
class Counted:
    """What the upstream counted since its start; `stream_ns` sums the streams in flight over time, to `now_ns`."""

    calls: int
    streams: int
    wrong_keys: int
    bad_requests: int
    broken_streams: int
    in_flight: int
    most_in_flight: int
    stream_ns: int
    now_ns: int

    def since(self, before: Counted) -> Counted:
        """Return what was added after `before`, `now_ns` being the time between; the levels stay as they are now."""
        return Counted(
            calls=self.calls - before.calls,
            streams=self.streams - before.streams,
            wrong_keys=self.wrong_keys - before.wrong_keys,
            bad_requests=self.bad_requests - before.bad_requests,
            broken_streams=self.broken_streams - before.broken_streams,
            in_flight=self.in_flight,
            most_in_flight=self.most_in_flight,
            stream_ns=self.stream_ns - before.stream_ns,
            now_ns=self.now_ns - before.now_ns,
        )


@dataclass(frozen=True, slots=True)
class Upstream:
    """A running upstream program."""

    port: int

    def _get(self, path: str) -> bytes:
        with urllib.request.urlopen(f"http://127.0.0.1:{self.port}{path}", timeout=10) as answer:
            return answer.read()

    def counted(self) -> Counted:
        """Ask the program what it has counted."""
        return Counted(**json.loads(self._get("/stats")))

    def arrivals_ns(self) -> list[int]:
        """Return when the latest 65,536 calls with the right key arrived, oldest first, on the monotonic clock."""
        return json.loads(self._get("/arrivals"))


@contextlib.contextmanager
def upstream(programs: Path, folder: Path, pace_ms: float = PACE_MS) -> Iterator[Upstream]:
    """Run the upstream on the load core for the length of a `with` block."""
    answer, events = lay_out(folder)
    port = free_port()
    arguments = (
        str(programs / "upstream"),
        str(port),
        VENDOR_KEY,
        str(answer),
        str(events),
        str(round(pace_ms * 1000)),
    )
    with running(Launch(arguments), (LOAD_CORE,), folder / "upstream.log"):
        program = Upstream(port)
        for attempt in range(500):
            try:
                program.counted()
            except OSError:
                if attempt == 499:
                    raise
            else:
                break
        yield program


@dataclass(frozen=True, slots=True)
class Crowd:
    """How to call: over how many connections, for how long, at which rate (0: each as soon as it was answered)."""

    connections: int
    seconds: float
    count: int = 0
    rate: float = 0
    spread_ms: float = 0
    drain_s: float = 10


@dataclass(frozen=True, slots=True)
class Answers:
    """What came back to the crowd; times in nanoseconds, latencies from the scheduled instant in an open loop."""

    sent: int
    answered: int
    lost: int
    unanswered: int
    never_sent: int
    reconnects: int
    events: int
    bytes: int
    elapsed_ns: int
    late_most_ns: int
    latency_ns: dict[str, int]
    statuses: dict[str, int]


def call(programs: Path, port: int, request: Path, crowd: Crowd) -> Answers:
    """Let a crowd send one request again and again, and return what came back.

    Raises RuntimeError when the port could not be reached.
    """
    numbers: tuple[Any, ...] = (
        crowd.connections,
        crowd.count,
        crowd.seconds,
        crowd.rate,
        crowd.spread_ms,
        crowd.drain_s,
    )
    arguments = (str(programs / "load"), str(port), str(request), *map(str, numbers))
    outcome = subprocess.run(  # noqa: S603 - the arguments are ours
        placed(arguments, (LOAD_CORE,)),
        capture_output=True,
        text=True,
        check=False,
        env=own_environment({}),
        timeout=crowd.seconds + crowd.drain_s + 30,
    )
    if outcome.returncode:
        raise RuntimeError(outcome.stderr.strip() or f"the load program ended with {outcome.returncode}")
    return Answers(**json.loads(outcome.stdout))
