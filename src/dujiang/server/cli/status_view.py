"""How the status of a gateway looks in a terminal."""

from __future__ import annotations

from datetime import UTC, datetime

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from dujiang.server.cli.gateway_status import DeploymentState, GatewayStatus, LimitState, QueueState
from dujiang.server.cli.language import say

_TIGHT = 0.8
_BAR_CELLS = 20


def status_view(status: GatewayStatus, url: str) -> RenderableType:
    """Return the whole view."""
    parts: list[RenderableType] = [_headline(status, url), Text(_now(status))]
    if status.records.dropped:
        parts.append(Text(say("records_dropped", count=status.records.dropped), style="red"))
    parts += [Text(), _limits(status.limits)] if status.limits else [Text(), Text(say("no_limits"))]
    if status.queues:
        parts += [Text(), _queues(status.queues)]
    if status.deployments:
        parts += [Text(), _deployments(status.deployments)]
    return Group(*parts)


def _headline(status: GatewayStatus, url: str) -> Text:
    since = datetime.fromtimestamp(status.started_at, UTC).astimezone().strftime("%Y-%m-%d %H:%M:%S")
    line = Text(f"Dujiang {status.version}", style="bold")
    line.append(f"  {url}  {say('since', time=since)}", style="not bold")
    if status.workers > 1:
        line.append(f"  {say('worker_of', worker=status.worker + 1, workers=status.workers)}", style="not bold")
    if status.draining:
        line.append(f"  {say('draining')}", style="yellow")
    return line


def _now(status: GatewayStatus) -> str:
    return say(
        "now",
        in_flight=status.in_flight,
        waiting=status.waiting,
        held=status.held,
        connections=status.connections,
        pending=f"{status.records.pending:,}",
        written=f"{status.records.written:,}",
    )


def _table(*columns: str, right: tuple[str, ...] = ()) -> Table:
    table = Table(box=None, pad_edge=False, header_style="dim")
    for number, column in enumerate(columns):
        # In a narrow terminal only the name, which comes first, is broken over lines.
        table.add_column(
            say(column), justify="right" if column in right else "left", overflow="fold", no_wrap=number > 0
        )
    return table


def _limits(limits: list[LimitState]) -> Table:
    table = _table("limit", "bar", "used", "pending", "resets_in", right=("used", "pending", "resets_in"))
    for limit in limits:
        table.add_row(
            limit.name,
            _bar(limit.used / limit.limit),
            f"{limit.used:,} / {limit.limit:,}",
            f"{limit.pending:,}",
            _span(limit.resets_in_s) if limit.window_s is not None else "",
        )
    return table


def _bar(share: float) -> Text:
    """Return a bar that also tells without colours; it is full from a share of 1 on, and empty only at 0."""
    style = "red" if share >= 1 else "yellow" if share >= _TIGHT else "green"
    cells = min(max(int(share * _BAR_CELLS), 1 if share > 0 else 0), _BAR_CELLS)
    return Text("█" * cells, style=style).append("░" * (_BAR_CELLS - cells), style="dim")


def _queues(queues: list[QueueState]) -> Table:
    classes = ("realtime", "interactive", "standard", "batch")
    table = _table("queue", *classes, "oldest", right=(*classes, "oldest"))
    for queue in queues:
        counts = (queue.realtime, queue.interactive, queue.standard, queue.batch)
        table.add_row(queue.model, *(f"{count:,}" for count in counts), _span(queue.oldest_s))
    return table


def _deployments(deployments: list[DeploymentState]) -> Table:
    table = _table("deployment", "state")
    for one in deployments:
        state = Text(say("paused", span=_span(one.paused_s)), style="yellow") if one.paused_s > 0 else say("in_use")
        table.add_row(one.name, state)
    return table


def _span(span_s: float | None) -> str:
    """Return a duration as people read it: 0.8 s, 42 s, 3 min 20 s, 5 h 12 min."""
    if span_s is None or span_s <= 0:
        return "–"
    if span_s < 10:
        return f"{span_s:.1f} s"
    whole = round(span_s)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"
