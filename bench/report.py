"""How a run is told: tables for the terminal, the same as Markdown, and everything that was measured as JSON."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import msgspec
from rich.table import Table

from bench.figures import SATURATED, Row, Spread, calls_x_nginx, relative
from bench.goals import Goal
from bench.limits import LimitKept
from bench.rounds import Missed, Visit
from bench.targets import TARGETS

NOTHING = "–"


@dataclass(slots=True)
class Run:
    """Everything one run found."""

    machine: Mapping[str, Any]
    versions: Mapping[str, str]
    unavailable: dict[str, str]
    settings: Mapping[str, Any]
    visits: list[Visit] = field(default_factory=list)
    missed: list[Missed] = field(default_factory=list)
    rows: list[Row] = field(default_factory=list)
    limits: list[LimitKept] = field(default_factory=list)
    goals: list[Goal] = field(default_factory=list)
    packages: dict[str, dict[str, str]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Grid:
    """A table before it has a look: its title, the heads of its columns, and the cells."""

    title: str
    heads: tuple[str, ...]
    lines: list[tuple[str, ...]]

    def rich(self) -> Table:
        """Return it for the terminal."""
        table = Table(title=self.title, title_justify="left", title_style="bold")
        for index, head in enumerate(self.heads):
            table.add_column(head, justify="left" if index == 0 else "right", overflow="fold")
        for line in self.lines:
            table.add_row(*line)
        return table

    def markdown(self) -> str:
        """Return it as Markdown."""
        lines = [self.heads, ("---",) + ("---:",) * (len(self.heads) - 1), *self.lines]
        return "\n".join([f"**{self.title}**", "", *("| " + " | ".join(cells) + " |" for cells in lines)])


def _figure(value: float | None) -> str:
    """Return a number with about three significant digits and thousands set off."""
    if value is None:
        return NOTHING
    if value >= 100 or value <= -100:
        return f"{value:,.0f}"
    if abs(value) >= 10:
        return f"{value:.1f}"
    return f"{value:.2f}" if abs(value) >= 0.1 or value == 0 else f"{value:.4f}"


def _median(figure: Spread | None) -> str:
    return _figure(figure.median) if figure else NOTHING


def _ranged(figure: Spread | None) -> str:
    """Return a median with its extremes, so that a reader sees how far to trust it."""
    if figure is None:
        return NOTHING
    return f"{_figure(figure.median)} ({_figure(figure.least)}–{_figure(figure.most)})"


def cost_grid(run: Run) -> Grid:
    """Return the CPU of a call and of a stream, as ratios first."""
    by_name = {row.target: row for row in run.rows}
    lines = []
    for name in run.settings["targets"]:
        row = by_name.get(name)
        if row is None:
            lines.append((name, *(NOTHING,) * 8))
            continue
        to_ferrogw = relative(row, by_name.get("ferrogw"), calls_x_nginx)
        to_litellm = relative(row, by_name.get("litellm"), calls_x_nginx)
        lines.append(
            (
                f"{name} {run.versions.get(name, '')}".strip(),
                _ranged(row.calls_x_nginx),
                _figure(to_ferrogw),
                _figure(to_litellm),
                _median(row.call_cpu_us),
                _figure(row.calls_per_s),
                _ranged(row.streams_x_nginx),
                _median(row.stream_cpu_us),
                _figure(row.events_per_stream),
            )
        )
    heads = ("CPU", "call × nginx", "× ferrogw", "× LiteLLM", "µs/call", "calls/s, one core")
    return Grid(
        "CPU of a call at saturation, and of a stream of 50 chunks (200 at once); median (least–most) of paired ratios",
        (*heads, "stream × nginx", "µs/stream", "events"),
        lines,
    )


def other_grid(run: Run) -> Grid:
    """Return added latency, memory, start, and what the gateway does for a call."""
    by_name = {row.target: row for row in run.rows}
    lines = []
    for name in run.settings["targets"]:
        row = by_name.get(name)
        work = TARGETS[name].work
        if row is None:
            lines.append((name, *(NOTHING,) * 5, work))
            continue
        lines.append(
            (
                name,
                _figure(row.latency_rate),
                _figure(row.added_p50_us),
                _figure(row.added_p99_us),
                f"{_figure(row.memory_mb)} / {row.memory_after_calls:,}",
                _figure(row.cold_start_s),
                work,
            )
        )
    heads = (
        "other",
        "at calls/s",
        "added p50 µs",
        "added p99 µs",
        "PSS MB / calls",
        "start s",
        "what it does for a call",
    )
    return Grid(
        "Added latency (open loop, from the scheduled instant, less the direct call), memory, start", heads, lines
    )


def goal_grid(goals: Sequence[Goal]) -> Grid:
    """Return the promises and their verdicts."""
    lines = [
        (goal.what, f"≤ {_figure(goal.at_most)} {goal.unit}", _figure(goal.measured), goal.verdict) for goal in goals
    ]
    return Grid("What Dujiang promises", ("goal", "at most", "measured", "verdict"), lines)


def limit_grid(limits: Sequence[LimitKept]) -> Grid:
    """Return how exactly tenant limits were kept."""
    lines = [
        (kept.limit, str(kept.workers), _figure(kept.value), _figure(kept.most), f"{kept.used:.1%}", kept.verdict)
        for kept in limits
    ]
    heads = ("limit", "workers", "value", "most seen", "used", "verdict")
    return Grid("Tenant limits under twice the load they allow, judged at the upstream", heads, lines)


def remarks(run: Run) -> list[str]:
    """Return everything a reader must know before believing a figure."""
    told = [f"{name}: not measured; {reason}" for name, reason in run.unavailable.items()]
    told += [f"{missed.target}: gave up in round {missed.round + 1}; {missed.reason}" for missed in run.missed]
    told += [f"{row.target}: {fault}" for row in run.rows for fault in row.faults]
    told += [
        f"{row.target}: not saturated, it used {row.busy:.0%} of its core: the machine was busy and µs/call is too high"
        for row in run.rows
        if row.busy is not None and row.busy < SATURATED
    ]
    told += [f"limits with {kept.workers} worker(s): {kept.fault}" for kept in run.limits if kept.fault]
    cores = run.machine["cores"]
    told += ["one core only: gateway, load and upstream shared it"] if cores < 2 else []
    return told


def _grids(run: Run) -> list[Grid]:
    grids = [cost_grid(run), other_grid(run)]
    grids += [limit_grid(run.limits)] if run.limits else []
    return [*grids, goal_grid(run.goals)] if run.goals else grids


def tables(run: Run) -> list[Table]:
    """Return the tables for the terminal."""
    return [grid.rich() for grid in _grids(run)]


def markdown(run: Run) -> str:
    """Return the whole report as Markdown."""
    machine = ", ".join(f"{name.replace('_', ' ')} {value}" for name, value in run.machine.items())
    blocks = [*(grid.markdown() for grid in _grids(run))]
    blocks += ["\n".join(f"- {remark}" for remark in remarks(run))] if remarks(run) else []
    return "\n\n".join([*blocks, f"Measured on: {machine}; {run.settings['rounds']} rounds."]) + "\n"


def json_bytes(run: Run) -> bytes:
    """Return every raw figure of the run."""
    told = asdict(run)
    for goal, line in zip(run.goals, told["goals"], strict=True):
        line["verdict"] = goal.verdict
    return msgspec.json.format(msgspec.json.encode(told), indent=1)
