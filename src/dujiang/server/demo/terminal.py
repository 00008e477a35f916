"""What the demo shows in the terminal: the scenario, the runs while they happen, the table at the end."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console, Group
from rich.live import Live
from rich.padding import Padding
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from dujiang.server.demo.application import Progress
from dujiang.server.demo.figures import Figures, VendorSeen
from dujiang.server.demo.playing import Watcher
from dujiang.server.demo.scenario import CONCURRENCY, Scenario
from dujiang.server.demo.words import Words


class Screen:
    """The terminal of one demo; without a terminal it prints lines and no live display."""

    def __init__(self, console: Console, words: Words, scenario: Scenario) -> None:
        self._console = console
        self._words = words
        self._scenario = scenario

    def introduce(self, made_up: bool) -> None:
        """Print what will be played, against which limits, and by which rule they were chosen."""
        console, words = self._console, self._words
        console.print()
        console.print(Text(words.title, style="bold"))
        for line in scenario_lines(words, self._scenario, made_up):
            console.print(Padding(Text(line), (0, 0, 0, 2)))
        console.print()

    @contextmanager
    def run(self, name: str, explained: str, starting: str) -> Iterator[Watcher]:
        """Show one run while the block lasts; yields what is to be told of its progress."""
        heading = Text.assemble((name, "bold"), f"  {explained}")
        if not self._console.is_terminal:
            self._console.print(heading)
            yield lambda progress, vendor: None
            return
        with Live(Group(heading, Text(f"  {starting} …")), console=self._console, auto_refresh=False) as live:

            def watch(progress: Progress, vendor: VendorSeen) -> None:
                live.update(Group(heading, self._status(progress, vendor)), refresh=True)

            yield watch

    def _status(self, progress: Progress, vendor: VendorSeen) -> Padding:
        words = self._words
        waiting = max(0, progress.open - vendor.in_flight)
        counts = Text.assemble(
            f"{words.calls_sent} {progress.sent}/{progress.total}   {words.calls_answered} ",
            (str(progress.answered), "green"),
            f"   {words.calls_failed} ",
            (str(progress.failed + progress.late), "red" if progress.failed + progress.late else ""),
            f"   {words.met_429s} ",
            (str(vendor.refused), "yellow" if vendor.refused else ""),
            f"   {words.calls_waiting} {waiting}",
        )
        quota = Table.grid(padding=(0, 1))
        share = vendor.tokens_used / self._scenario.tokens_limit
        quota.add_row(
            _bar(share),
            f"{share:4.0%} {words.quota_used} {vendor.in_flight}/{CONCURRENCY}",
        )
        played = _bar(progress.sent / progress.total)
        return Padding(Group(played, counts, quota), (0, 0, 1, 2))

    def conclude(self, direct: Figures, gateway: Figures) -> None:
        """Print the table of both runs."""
        console, words = self._console, self._words
        table = Table(title_justify="left", header_style="bold", padding=(0, 1))
        table.add_column(words.figure)
        table.add_column(words.direct, justify="right")
        table.add_column(words.gateway, justify="right", style="bold")
        for label, left, right in figure_rows(words, direct, gateway):
            table.add_row(label, left, right)
        console.print()
        console.print(table)
        console.print(Text(words.times_note, style="dim"))
        console.print(Text(words.measured_note, style="dim"))
        console.print()

    def say(self, line: str) -> None:
        """Print one line as it is."""
        self._console.print(Text(line), soft_wrap=True)


def scenario_lines(words: Words, scenario: Scenario, made_up: bool) -> list[str]:
    """Return the sentences that say what is played and against what."""
    calls = scenario.calls
    demand = {name: f"{share:.0%}" for name, share in scenario.demand.items()}
    lines = [
        words.traffic.format(
            name=scenario.trace.name,
            seed=scenario.seed,
            calls=f"{len(calls):,}",
            recorded=f"{scenario.recorded_calls:,}",
            minutes=f"{scenario.duration_s / 60:.3g}",
            tokens_in=f"{sum(call.input_tokens for call in calls) / len(calls):,.0f}",
            tokens_out=f"{sum(call.output_tokens for call in calls) / len(calls):,.0f}",
        ),
        words.limits.format(
            requests=f"{scenario.requests_limit:,}",
            tokens=f"{scenario.tokens_limit:,}",
            concurrency=CONCURRENCY,
        ),
        words.demand.format(peak=f"{scenario.peak_demand:.0%}", **demand),
        words.patience.format(patience=f"{scenario.patience_s:g}")
        + " "
        + words.speed.format(speed=f"{scenario.speed:.3g}"),
    ]
    notes = [words.traffic_published] if made_up else []
    if len(calls) < scenario.recorded_calls:
        notes.append(words.traffic_kept)
    if notes:
        lines.insert(1, " ".join(notes))
    return lines


def figure_rows(words: Words, direct: Figures, gateway: Figures) -> list[tuple[str, str, str]]:
    """Return the rows of the table: what it is, its value straight at the vendor, its value through Dujiang."""

    def row(label: str, of: str) -> tuple[str, str, str]:
        return label, _shown(direct, of), _shown(gateway, of)

    return [
        row(words.in_time, "in_time"),
        row(words.answered_at_all, "answered"),
        row(words.failed_for_app, "failed"),
        row(words.refusals, "vendor_429s"),
        row(words.vendor_requests, "vendor_requests"),
        row(words.wait, "wait"),
        row(words.latency, "latency"),
        row(words.tokens_used, "tokens_quota_used"),
        row(words.requests_used, "requests_quota_used"),
    ]


def _shown(run: Figures, of: str) -> str:
    match of:
        case "in_time" | "answered":
            return f"{getattr(run, of) / run.calls:.1%}"
        case "wait" | "latency":
            p50, p95 = getattr(run, f"{of}_p50_s"), getattr(run, f"{of}_p95_s")
            return f"{p50:.1f}\N{NO-BREAK SPACE}s / {p95:.1f}\N{NO-BREAK SPACE}s"
        case "tokens_quota_used" | "requests_quota_used":
            return f"{getattr(run, of):.1%}"
        case _:
            return f"{getattr(run, of):,}"


def _bar(share: float) -> ProgressBar:
    return ProgressBar(total=1.0, completed=min(1.0, share), width=40, complete_style="cyan", finished_style="cyan")
