"""`python -m bench`: installs the peers, measures all in turn, prints the tables and keeps every raw figure."""

from __future__ import annotations

import argparse
import contextlib
import signal
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from bench import report
from bench.figures import rows
from bench.gateway import Site
from bench.goals import goals
from bench.install import Unavailable, installed_packages
from bench.limits import limits_kept
from bench.machine import description
from bench.native import CompilerMissing, build, upstream
from bench.rounds import STEPS, all_rounds
from bench.targets import TARGETS, Target

_HERE = Path(__file__).resolve().parent.parent
_QUICK = ("nginx", "dujiang")


@dataclass(frozen=True, slots=True)
class Choice:
    """What was asked for on the command line."""

    targets: tuple[str, ...]
    rounds: int
    seconds: float
    limits: bool
    cache: Path
    json: Path
    markdown: Path


def _choice(arguments: Sequence[str]) -> Choice:
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="nginx and dujiang only, about a minute")
    parser.add_argument("--targets", help=f"which of {','.join(TARGETS)}, separated by commas; default: all")
    parser.add_argument("--rounds", type=int, default=3, help="how often each is measured (default 3)")
    parser.add_argument("--seconds", type=float, help="length of one measurement (default 2; quick: 1)")
    parser.add_argument("--no-limits", action="store_true", help="leave out how exactly limits are kept")
    parser.add_argument("--cache", type=Path, default=_HERE / "bench-cache", help="where peers are installed")
    parser.add_argument("--json", type=Path, default=_HERE / "bench-results" / "bench.json", help="raw figures")
    parser.add_argument("--markdown", type=Path, default=_HERE / "bench-results" / "bench.md", help="the tables")
    given = parser.parse_args(arguments)
    names = tuple(given.targets.split(",")) if given.targets else (_QUICK if given.quick else tuple(TARGETS))
    unknown = [name for name in names if name not in TARGETS]
    if unknown:
        parser.error(f"--targets: no target is called {', '.join(unknown)}; there are {', '.join(TARGETS)}")
    seconds = given.seconds or (1.0 if given.quick else 2.0)
    if given.rounds < 1 or seconds < 0.5:
        parser.error("--rounds must be 1 or more, and --seconds 0.5 or more")
    limits = "dujiang" in names and not given.no_limits and not given.quick
    return Choice(names, given.rounds, seconds, limits, given.cache.resolve(), given.json, given.markdown)


def _install(console: Console, choice: Choice, run: report.Run) -> list[Target]:
    """Make every target ready and return those that can be had; the others are noted in the run."""
    ready = []
    versions: dict[str, str] = {}
    for name in choice.targets:
        try:
            with console.status(f"making {name} ready (the first time takes minutes)"):
                versions[name] = TARGETS[name].install(choice.cache)
            ready.append(TARGETS[name])
        except Unavailable as error:
            run.unavailable[name] = str(error)
            console.print(f"{name}: {error}", style="yellow", markup=False)
    run.versions = versions
    run.packages = {folder.name: installed_packages(folder) for folder in choice.cache.iterdir() if folder.is_dir()}
    return ready


@contextlib.contextmanager
def _progress(console: Console, total: int) -> Iterator[Callable[[str], None]]:
    """Yield what is to be called before each step: a bar in a terminal, a line now and then elsewhere."""
    if not console.is_terminal:
        yield lambda step: console.print(step, markup=False) if step.endswith((STEPS[0], "workers", "worker")) else None
        return
    columns = (
        TextColumn("{task.description:<44}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
    )
    with Progress(*columns, console=console, transient=True) as bar:
        task = bar.add_task("", total=total)

        def tell(step: str) -> None:
            bar.update(task, description=step, advance=1)

        yield tell


def _measure(console: Console, choice: Choice, programs: Path, ready: list[Target], run: report.Run) -> None:
    total = choice.rounds * len(ready) * len(STEPS) + (4 if choice.limits else 0)
    with tempfile.TemporaryDirectory(prefix="dujiang-bench-") as name, _progress(console, total) as tell:
        folder = Path(name)
        with upstream(programs, folder) as vendor:
            site = Site(programs, vendor, folder)

            def tell_round(number: int, target: str, step: str) -> None:
                tell(f"round {number + 1} of {choice.rounds}: {target}: {step}")

            run.visits, run.missed = all_rounds(site, ready, choice.rounds, choice.seconds, tell_round)
        if choice.limits and "dujiang" not in run.unavailable:
            run.limits = limits_kept(programs, folder, tell)
    run.rows = rows(run.visits, choice.targets)
    run.goals = goals(run.rows)


def _keep(choice: Choice, run: report.Run) -> None:
    for path, content in ((choice.json, report.json_bytes(run)), (choice.markdown, report.markdown(run).encode())):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)


def _stop(_signal: int, _frame: object) -> None:
    raise KeyboardInterrupt


def main(arguments: Sequence[str]) -> int:
    """Run the bench; 0 when all that was promised held, 1 when something was missed, 2 when it could not be run."""
    choice = _choice(arguments)
    console = Console()
    if not console.is_terminal:
        console = Console(width=170)
    for ending in (signal.SIGINT, signal.SIGTERM):
        signal.signal(ending, _stop)
    choice.cache.mkdir(parents=True, exist_ok=True)
    settings = {"targets": choice.targets, "rounds": choice.rounds, "seconds": choice.seconds}
    run = report.Run(machine=description(), versions={}, unavailable={}, settings=settings)
    try:
        programs = build(choice.cache)
        ready = _install(console, choice, run)
        _measure(console, choice, programs, ready, run)
    except (CompilerMissing, Unavailable) as error:
        console.print(f"cannot measure: {error}", style="red", markup=False)
        return 2
    except KeyboardInterrupt:
        console.print("stopped; every process that was started has been ended", style="yellow")
        return 130
    for table in report.tables(run):
        console.print(table)
    for remark in report.remarks(run):
        console.print(f"• {remark}", markup=False, highlight=False)
    _keep(choice, run)
    console.print(f"raw figures: {choice.json}\nas Markdown: {choice.markdown}", markup=False, highlight=False)
    missed = any(goal.verdict == "missed" for goal in run.goals) or any(kept.verdict == "missed" for kept in run.limits)
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
