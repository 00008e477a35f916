"""What a run was made on: without it no figure means anything later."""

from __future__ import annotations

import datetime as dt
import os
import platform
import subprocess
from pathlib import Path


def _processor() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.processor() or "unknown"


def _said(*command: str) -> str:
    try:
        outcome = subprocess.run(  # noqa: S603 - the arguments are ours
            command, capture_output=True, text=True, check=False, cwd=Path(__file__).parent
        )
    except OSError:
        return ""
    return outcome.stdout.strip() if outcome.returncode == 0 else ""


def commit() -> str:
    """Return the commit that is checked out, with a plus when files differ from it; "unknown" outside a checkout."""
    changed = _said("git", "status", "--porcelain", "--untracked-files=no")
    return (_said("git", "rev-parse", "--short=12", "HEAD") or "unknown") + ("+" if changed else "")


def description() -> dict[str, str | int | float]:
    """Return the facts of this machine and moment."""
    memory_bytes = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return {
        "processor": _processor(),
        "cores": len(os.sched_getaffinity(0)),
        "memory_gib": round(memory_bytes / 2**30, 1),
        "kernel": platform.release(),
        "python": platform.python_version(),
        "load_average_1min": round(os.getloadavg()[0], 2),
        "commit": commit(),
        "measured_at": dt.datetime.now(dt.UTC).isoformat(timespec="seconds"),
    }
