"""`dujiang init`: a configuration to start from."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer

from dujiang.server.cli.configured import DEFAULT_PATH, end
from dujiang.server.cli.language import say


def init(
    path: Annotated[Path, typer.Argument(metavar="PATH", help="The file to write.")] = DEFAULT_PATH,
    profile: Annotated[
        str | None, typer.Option(help="The vendor's profile, a name or a file of your own; openai unless told.")
    ] = None,
    simulated: Annotated[
        bool, typer.Option("--simulated", help="For `dujiang simulate vendor`: no account, no network.")
    ] = False,
    force: Annotated[bool, typer.Option("--force", help="Write over a file that is there.")] = False,
) -> None:
    """Write a commented configuration to start from.

    Keys stay in the environment; the file names the variables. Only you can read it.
    """
    from dujiang.server.cli.starter import SIMULATED, starter
    from dujiang.vendors.profiles import ProfileInvalid, load_profile

    if simulated and profile is not None:
        end(say("profile_or_simulated"), status=2)
    chosen = SIMULATED if simulated else profile or "openai"
    try:
        first = starter(load_profile(chosen), chosen)
    except ProfileInvalid as invalid:
        end(str(invalid), status=2)
    _write(path, first.text, force=force)
    typer.secho(say("wrote", path=path), fg="green")
    typer.echo(say("next_steps"))
    option = "" if path == DEFAULT_PATH else f" --config {path}"
    steps = [f"export {name}=…" for name in first.variables]
    if chosen == SIMULATED:
        steps.append(f"dujiang simulate vendor {first.simulation} &")
    steps += [
        f"dujiang doctor {path}",
        f"dujiang keys create --tenant {first.tenant}{option}",
        f"dujiang serve{option}",
    ]
    for number, step in enumerate(steps, 1):
        typer.echo(f"  {number}. {step}")
    typer.echo(say("then_call", url="http://127.0.0.1:8700/v1", model=first.model))


def _write(path: Path, text: str, *, force: bool) -> None:
    """Write a file that only its owner can read; exits 1 when it is there already, 2 when it cannot be written."""
    flags = os.O_WRONLY | os.O_CREAT | (os.O_TRUNC if force else os.O_EXCL)
    try:
        descriptor = os.open(path, flags, 0o600)
    except FileExistsError:
        end(say("file_exists", path=path))
    except OSError as error:
        end(say("cannot_write", path=path, reason=error.strerror), status=2)
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        os.fchmod(file.fileno(), 0o600)
        file.write(text)
