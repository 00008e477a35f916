"""`dujiang status`: the gateway that runs, seen from the terminal."""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from dujiang.server.cli.configured import DEFAULT_PATH, configured, end

if TYPE_CHECKING:
    from rich.console import Console

_EVERY_S = 1.0
_TIMEOUT_S = 5.0


def status(
    config: Annotated[Path, typer.Option(help="The configuration of the gateway.")] = DEFAULT_PATH,
    url: Annotated[str | None, typer.Option(help="Where it is; as the configuration says unless told.")] = None,
    once: Annotated[bool, typer.Option("--once", help="Print once and end; always so in a pipe.")] = False,
    json: Annotated[bool, typer.Option("--json", help="Print what the gateway tells, as JSON, once.")] = False,
) -> None:
    """Show limits, queues and deployments of the gateway that runs.

    It is refreshed every second until Ctrl-C.
    """
    from dujiang.server.cli.gateway_status import NoStatus, ask_status, gateway_url, read_status, token_of

    read = configured(config)
    address = (url or gateway_url(read)).rstrip("/")
    try:
        token = token_of(read)
        body = ask_status(address, token, _TIMEOUT_S)
        if json:
            typer.echo(body.decode())
            return
        first = read_status(body, address)
    except NoStatus as silent:
        end(str(silent))
    from rich.console import Console

    from dujiang.server.cli.status_view import status_view

    console = Console(highlight=False) if sys.stdout.isatty() else Console(highlight=False, width=120)
    if once or not console.is_terminal:
        console.print(status_view(first, address))
    else:
        _watch(console, address, token)


def _watch(console: Console, address: str, token: str) -> None:
    """Show the status until Ctrl-C; a gateway that falls silent is waited for."""
    from rich.live import Live
    from rich.text import Text

    from dujiang.server.cli.gateway_status import NoStatus, ask_status, read_status
    from dujiang.server.cli.status_view import status_view

    with Live(console=console, auto_refresh=False, screen=True) as live:
        try:
            while True:
                try:
                    shown = status_view(read_status(ask_status(address, token, _TIMEOUT_S), address), address)
                except NoStatus as silent:
                    shown = Text(str(silent), style="red")
                live.update(shown, refresh=True)
                time.sleep(_EVERY_S)
        except KeyboardInterrupt:
            return
