"""Processes on a chosen core: started, watched (CPU time, memory) and stopped by their own id, never by name."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

LOAD_CORE = 0
GATEWAY_CORE = 1
_CPU_TIME_OF_PROCESS = 2
_PROXY_SETTINGS = frozenset({"http_proxy", "https_proxy", "all_proxy", "no_proxy"})


@dataclass(frozen=True, slots=True)
class Launch:
    """A program to be started: its arguments, what its environment has beyond ours, and its working folder."""

    arguments: tuple[str, ...]
    environment: Mapping[str, str] = field(default_factory=dict)
    folder: Path | None = None


def free_port() -> int:
    """Return a port of the loopback address on which nobody listens at the moment."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def placed(arguments: tuple[str, ...], cores: tuple[int, ...]) -> list[str]:
    """Return the command that runs a program on these cores (as far as they exist) and ends it when this process dies.

    As root it also runs ten steps nicer to itself than to others, so that a busy machine disturbs less.
    """
    present = [str(core) for core in cores if core in os.sched_getaffinity(0)]
    command = ["setpriv", "--pdeathsig", "KILL"]
    command += ["taskset", "--cpu-list", ",".join(present)] if present else []
    command += ["nice", "-n", "-10"] if os.geteuid() == 0 else []
    return [*command, *arguments]


def own_environment(additions: Mapping[str, str]) -> dict[str, str]:
    """Return our environment without proxy settings (everything is on the loopback), plus the additions."""
    kept = {name: value for name, value in os.environ.items() if name.lower() not in _PROXY_SETTINGS}
    return kept | dict(additions)


def process_tree(pid: int) -> list[int]:
    """Return a process and all its living descendants; those gone meanwhile are left out."""
    found, waiting = [], [pid]
    while waiting:
        member = waiting.pop()
        with contextlib.suppress(OSError):
            for task in Path(f"/proc/{member}/task").iterdir():
                waiting += map(int, (task / "children").read_text().split())
            found.append(member)
    return found


def is_alive(pid: int) -> bool:
    """Return whether a process runs, or could; one that ended and was not waited for yet does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def cpu_time_ns(pid: int) -> int:
    """Return the CPU time of a process tree, in nanoseconds, exited threads included; exited children are not.

    Reads the kernel's CPU clock of a process (clock_getcpuclockid(3)): exact, where /proc/PID/stat has ticks.
    """
    total = 0
    for member in process_tree(pid):
        with contextlib.suppress(OSError):
            total += time.clock_gettime_ns((~member << 3) | _CPU_TIME_OF_PROCESS)
    return total


def memory_bytes(pid: int) -> int:
    """Return the proportional set size of a process tree: shared pages count by their share."""
    total = 0
    for member in process_tree(pid):
        with contextlib.suppress(OSError):
            for line in Path(f"/proc/{member}/smaps_rollup").read_text().splitlines():
                if line.startswith("Pss:"):
                    total += int(line.split()[1]) * 1024
    return total


def _end(process: subprocess.Popen[bytes], patience_s: float) -> None:
    """Ask a process of ours to stop, then end whatever of its tree is left."""
    members = process_tree(process.pid) if process.poll() is None else []
    with contextlib.suppress(ProcessLookupError):
        process.terminate()
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(patience_s)
    for member in members:
        # The leader was waited for, so its number may be somebody else's by now; its children have it as their session.
        with contextlib.suppress(ProcessLookupError):
            if process.returncode is None or (member != process.pid and os.getsid(member) == process.pid):
                os.kill(member, signal.SIGKILL)
    process.wait()
    # Killed is not yet gone, and what is not yet gone would share the core with whoever is measured next.
    give_up_ns = time.perf_counter_ns() + 2_000_000_000
    while any(is_alive(member) for member in members) and time.perf_counter_ns() < give_up_ns:
        time.sleep(0.002)


@contextlib.contextmanager
def running(launch: Launch, cores: tuple[int, ...], log: Path, patience_s: float = 5) -> Iterator[int]:
    """Run a program for the length of a `with` block and yield its process id; its output goes to `log`.

    Raises FileNotFoundError when the program, or what places it, is not there.
    """
    for program in ("setpriv", "taskset", launch.arguments[0]):
        if shutil.which(program) is None:
            raise FileNotFoundError(f"the program {program} is not there")
    with log.open("ab") as output:
        process = subprocess.Popen(  # noqa: S603 - the arguments are ours
            placed(launch.arguments, cores),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            cwd=launch.folder,
            env=own_environment(launch.environment),
            start_new_session=True,
        )
        try:
            yield process.pid
        finally:
            _end(process, patience_s)


def last_words(log: Path) -> str:
    """Return the last non-empty line a program wrote, cut to 200 characters."""
    lines = (
        [line.strip() for line in log.read_text(errors="replace").splitlines() if line.strip()] if log.exists() else []
    )
    return lines[-1][:200] if lines else "it wrote nothing"
