"""What every verb with a configuration does first: read it, or end with all its mistakes."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

import typer

from dujiang.config import Config, ConfigInvalid, Problem, load_config
from dujiang.server.cli.language import say

DEFAULT_PATH = Path("dujiang.yaml")


def configured(path: Path) -> Config:
    """Return the configuration in a file; prints its mistakes and exits 2 when it has any."""
    try:
        return load_config(path)
    except ConfigInvalid as invalid:
        end_with_problems(path, invalid.problems)


def end_with_problems(path: Path, problems: Sequence[Problem]) -> NoReturn:
    """Print every mistake as `file:line: path: message`, the way editors know it, and exit 2."""
    for problem in problems:
        line = f":{problem.line}" if problem.line else ""
        where = "" if problem.path == str(path) else f" {problem.path}:"
        typer.echo(f"{path}{line}:{where} {problem.message}", err=True)
    end(say("one_mistake" if len(problems) == 1 else "mistakes", count=len(problems)), status=2)


def end(message: str, status: int = 1) -> NoReturn:
    """Print a message on standard error and exit: 1 is a problem found, 2 wrong usage."""
    typer.secho(message, err=True, fg="red")
    raise typer.Exit(status)
