"""`dujiang doctor`: whether everything a configuration needs is there: vendors, keys, clocks, storage, port."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import typer

from dujiang.clock import SystemClock
from dujiang.config import Config
from dujiang.config.units import parse_duration
from dujiang.server.cli.configured import DEFAULT_PATH, configured, end
from dujiang.server.cli.language import say
from dujiang.server.cli.vendor_check import Finding, State, check_vendors

_TIMEOUT_S = 5.0
_STYLES = {State.OK: "green", State.WARN: "yellow", State.FAIL: "red"}


def doctor(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="The configuration.")] = DEFAULT_PATH,
    timeout: Annotated[str, typer.Option(help="How long a vendor may take to connect, and to answer.")] = "10s",
) -> None:
    """Check vendors, keys, clocks, storage and port of a configuration.

    It asks each vendor for its list of models, which costs nothing, and never prints a key.
    """
    import asyncio

    try:
        timeout_ns = parse_duration(timeout)
    except ValueError as error:
        end(f"--timeout: {error}", status=2)
    if timeout_ns <= 0:
        end(say("timeout_zero"), status=2)
    config = configured(file)
    findings = [*_host(config), *asyncio.run(check_vendors(config, SystemClock(), timeout_ns))]
    _print(findings)
    failed = sum(finding.state is State.FAIL for finding in findings)
    warned = sum(finding.state is State.WARN for finding in findings)
    if failed:
        end(say("doctor_failed", failed=failed, warned=warned))
    typer.secho(say("doctor_warned", warned=warned) if warned else say("doctor_ok"), fg="yellow" if warned else "green")


def _host(config: Config) -> Iterator[Finding]:
    from dujiang.server.cli.host_check import storage_problem

    url, storage = config.storage.url, say("storage")
    problem = storage_problem(url)
    if problem is not None:
        yield Finding(State.FAIL, storage, problem)
    elif url.startswith("memory:"):
        yield Finding(State.WARN, storage, say("storage_lost"), say("storage_lost_remedy"))
    else:
        yield Finding(State.OK, storage, say("storage_writable", url=url))
    yield _port(config)
    if not config.vendors:
        yield Finding(State.WARN, say("vendors"), say("no_vendors"), say("see_validate"))


def _port(config: Config) -> Finding:
    from dujiang.server.cli.gateway_status import NoStatus, ask_status, gateway_url, read_status, token_of
    from dujiang.server.cli.host_check import port_problem

    place = f"{config.server.host}:{config.server.port}"
    problem = port_problem(config)
    if problem is None:
        return Finding(State.OK, say("port"), say("port_free", place=place))
    url = gateway_url(config)
    try:
        status = read_status(ask_status(url, token_of(config), _TIMEOUT_S), url)
    except NoStatus:
        return Finding(State.FAIL, say("port"), say("port_taken", place=place, reason=problem), say("port_remedy"))
    return Finding(State.OK, say("port"), say("port_ours", place=place, version=status.version))


def _print(findings: list[Finding]) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, show_header=False, pad_edge=False)
    table.add_column(no_wrap=True)
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    for finding in findings:
        told = f"{finding.found}\n→ {finding.remedy}" if finding.remedy else finding.found
        table.add_row(Text(finding.state, style=_STYLES[finding.state]), finding.subject, Text(told))
    Console(highlight=False, width=None if sys.stdout.isatty() else 160).print(table)
