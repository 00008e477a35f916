"""`python -m bench.soak`: soaks one worker and says plainly whether it grows; exit status 1 if it does."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import signal
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import httpx
import msgspec
from rich.console import Console
from rich.table import Table

from bench.machine import description
from bench.soak.growth import FEWEST_SAMPLES, Growth, Sample, growth, left_over
from bench.soak.page import described, page, sparkline
from bench.soak.site import Site, StartFailed, look, running_site
from bench.soak.traffic import Traffic

_RESULTS = Path(__file__).resolve().parents[2] / "bench-results"
_LOOKS_EVERY_S = 5.0
_RELOADS_EVERY_S = 60.0
_REST_WITHIN_S = 90.0
"""Idle connections to vendors are kept for 50 s."""
_SHOWN = (
    "own_mb",
    "rss_mb",
    "pss_mb",
    "descriptors",
    "threads",
    "tasks",
    "connections",
    "in_flight",
    "waiting",
    "held",
)


@dataclass(slots=True)
class Run:
    """Everything one soak found."""

    settings: dict[str, Any]
    machine: dict[str, Any] = field(default_factory=description)
    samples: list[Sample] = field(default_factory=list)
    before: Sample | None = None
    after: Sample | None = None
    reloads: int = 0
    refused_reloads: int = 0
    calls: dict[str, dict[str, int]] = field(default_factory=dict)
    turned_away: int = 0
    growth: list[Growth] = field(default_factory=list)
    faults: list[str] = field(default_factory=list)

    @property
    def failed(self) -> bool:
        """Return whether the gateway grew, or something else that must not be was seen."""
        return bool(self.faults) or any(one.grows for one in self.growth)


def choice(arguments: Sequence[str]) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(prog="python -m bench.soak", description=__doc__)
    parser.add_argument("--minutes", type=float, default=10, help="how long (default 10)")
    parser.add_argument("--rate", type=float, default=50, help="calls a second (default 50)")
    parser.add_argument("--seed", type=int, default=1, help="seed of the traffic (default 1)")
    parser.add_argument("--json", type=Path, default=_RESULTS / "soak.json", help="raw figures")
    parser.add_argument("--page", type=Path, default=_RESULTS / "soak.html", help="the curves, for a browser")
    given = parser.parse_args(arguments)
    if given.minutes * 60 < 2 * FEWEST_SAMPLES * 1.0 or not 0 < given.rate <= 1000:
        parser.error("--minutes must be 0.17 or more, and --rate more than 0 and at most 1000")
    given.looks_every_s = min(_LOOKS_EVERY_S, given.minutes * 60 / 30)
    return given


async def _look_on(site: Site, run: Run, every_s: float) -> None:
    loop = asyncio.get_running_loop()
    begin = loop.time()
    async with httpx.AsyncClient(trust_env=False) as client:
        while True:
            run.samples.append(await look(site, client, loop.time() - begin))
            await asyncio.sleep(every_s)


async def _reload(site: Site, run: Run, every_s: float) -> None:
    while True:
        await asyncio.sleep(every_s)
        good = await asyncio.to_thread(site.reload, run.reloads + run.refused_reloads + 1)
        run.reloads += good
        run.refused_reloads += not good


async def _at_rest(site: Site, before: Sample | None = None) -> Sample:
    """Wait until nothing is left of the calls, as far as it goes by itself; return what the gateway looks like then."""
    loop = asyncio.get_running_loop()
    give_up = loop.time() + _REST_WITHIN_S
    # Without keep-alive: the connection of the one who looks is not to be counted as left over.
    async with httpx.AsyncClient(trust_env=False, headers={"connection": "close"}) as client:
        await asyncio.sleep(1)
        seen = await look(site, client, 0)
        while (seen.pending or left_over(before or seen, seen)) and loop.time() < give_up:
            await asyncio.sleep(1)
            seen = await look(site, client, 0)
        return seen


async def soak(given: argparse.Namespace, run: Run, folder: Path, console: Console) -> None:
    """Run the whole soak; raises StartFailed, httpx.HTTPError when the gateway stops answering."""
    async with running_site(folder) as site:
        run.before = await _at_rest(site)
        traffic = Traffic(site.url, given.rate, given.seed)
        beside = [
            asyncio.ensure_future(_look_on(site, run, given.looks_every_s)),
            asyncio.ensure_future(_reload(site, run, min(_RELOADS_EVERY_S, given.minutes * 60 / 5))),
            asyncio.ensure_future(_tell(run, traffic, console)),
        ]
        calling = asyncio.ensure_future(traffic.run(given.minutes * 60))
        try:
            await asyncio.wait([calling, *beside], return_when=asyncio.FIRST_COMPLETED)
            for task in (calling, *beside):
                if task.done():
                    task.result()
        finally:
            for task in (calling, *beside):
                task.cancel()
            await asyncio.gather(calling, *beside, return_exceptions=True)
        for (kind, ended), count in sorted(traffic.tally.items()):
            run.calls.setdefault(kind, {})[ended] = count
        run.turned_away = traffic.turned_away
        run.after = await _at_rest(site, run.before)
        run.faults += left_over(run.before, run.after) + await _accounts(site, run, folder)


async def _accounts(site: Site, run: Run, folder: Path) -> list[str]:
    """Tell what the gateway's own figures and its log say that must not be."""
    found = []
    lost = sum(count for ends in run.calls.values() for ended, count in ends.items() if ended.startswith("lost"))
    if lost:
        found.append(f"{lost} calls lost their connection to the gateway")
    lines = await asyncio.to_thread((folder / "gateway.log").read_text)
    refused = lines.count("the new configuration is refused")
    # The changed file is noticed as well as the signal, so each reload happens once or twice.
    if refused < run.refused_reloads or lines.count("configuration reloaded") < run.reloads:
        found.append("not every change of the configuration was noticed")
    traces = lines.count('"traceback"') + lines.count("Traceback (most recent call last)")
    if traces:
        found.append(f"{traces} exceptions in the gateway's log: {folder / 'gateway.log'}")
    async with httpx.AsyncClient(trust_env=False) as client:
        metrics = (await client.get(f"{site.url}/metrics")).text
    if "dujiang_records_dropped 0.0" not in metrics:
        found.append("records were dropped")
    return found


async def _tell(run: Run, traffic: Traffic, console: Console) -> None:
    while True:
        await asyncio.sleep(30)
        if run.samples:
            last = run.samples[-1]
            console.print(
                f"{last.at_s:4.0f} s  {sum(traffic.tally.values()):6d} calls  {last.own_mb:6.1f} MB  "
                f"{last.descriptors:4d} descriptors  {last.tasks:4d} tasks  {last.in_flight:3d} in flight",
                highlight=False,
            )


def _report(run: Run, console: Console) -> None:
    table = Table(title="Over the run", title_justify="left", title_style="bold")
    for head in ("figure", "", "least", "most", "after the warm-up"):
        table.add_column(head)
    verdicts = {one.figure: one for one in run.growth}
    for figure in _SHOWN:
        values = [sample.figures()[figure] for sample in run.samples]
        verdict = described(verdicts[figure]) if figure in verdicts else ""
        table.add_row(figure, sparkline(values), f"{min(values):.4g}", f"{max(values):.4g}", verdict)
    console.print(table)
    calls = Table(title="Calls", title_justify="left", title_style="bold")
    for head in ("kind", "how they ended"):
        calls.add_column(head)
    for kind, ends in run.calls.items():
        calls.add_row(kind, ", ".join(f"{ended}: {count}" for ended, count in ends.items()))
    console.print(calls)
    for line in remarks(run):
        console.print(f"• {line}", markup=False, highlight=False)


def remarks(run: Run) -> list[str]:
    """Return what is to be known beside the figures, the verdict last."""
    total = sum(count for ends in run.calls.values() for count in ends.values())
    lines = [
        f"{total} calls in {run.settings['minutes']:g} minutes; {run.reloads} reloads, {run.refused_reloads} refused "
        f"ones; {run.turned_away} calls not made because too many were open"
    ]
    if run.before and run.after:
        lines.append(
            f"at rest, before and after: {run.before.own_mb:.1f} and {run.after.own_mb:.1f} MB of its own, "
            f"{run.before.tasks} and {run.after.tasks} tasks, {run.before.threads} and {run.after.threads} threads, "
            f"{run.before.descriptors} and {run.after.descriptors} descriptors"
        )
    lines += [f"must not be: {fault}" for fault in run.faults]
    growing = [one.figure for one in run.growth if one.grows]
    if growing:
        lines.append(f"{', '.join(growing)} grew")
    elif run.growth:
        lines.append("neither memory nor tasks nor descriptors grew")
    return lines


def _stop(_signal: int, _frame: object) -> None:
    raise KeyboardInterrupt


def main(arguments: Sequence[str]) -> int:
    """Run the soak; 0 when nothing grew, 1 when something did, 2 when it could not be run."""
    given = choice(arguments)
    console = Console()
    if not console.is_terminal:
        console = Console(width=170)
    signal.signal(signal.SIGTERM, _stop)
    run = Run(settings={name: value for name, value in vars(given).items() if name in ("minutes", "rate", "seed")})
    # Kept after the end: a log that is complained of can be read.
    folder = Path(tempfile.mkdtemp(prefix="dujiang-soak-"))
    try:
        asyncio.run(soak(given, run, folder, console))
        run.growth = growth(run.samples)
    except (StartFailed, httpx.HTTPError, ValueError) as error:
        console.print(f"cannot soak: {error or type(error).__name__}; see {folder}", style="red", markup=False)
        return 2
    except KeyboardInterrupt:
        console.print("stopped; every process that was started has been ended", style="yellow")
        return 130
    _report(run, console)
    title = f"Soak of {given.minutes:g} minutes, {given.rate:g} calls a second"
    contents = (
        (given.json, msgspec.json.format(msgspec.json.encode(asdict(run)), indent=1)),
        (given.page, page(title, run.samples, run.growth, remarks(run)).encode()),
    )
    for path, content in contents:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    console.print(f"raw figures: {given.json}\ncurves: {given.page}", markup=False, highlight=False)
    if not run.failed:
        with contextlib.suppress(OSError):
            for file in folder.iterdir():
                file.unlink()
            folder.rmdir()
    return 1 if run.failed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
