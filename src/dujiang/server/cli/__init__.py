"""The command line: one verb a file. A verb's file is imported when the verb is used, so that each starts fast."""

from __future__ import annotations

import sys
from importlib import import_module
from typing import Annotated, Any, NamedTuple

import typer
from typer.core import TyperGroup
from typer.exceptions import TyperException
from typer.main import get_command as command_of

from dujiang import __version__
from dujiang.server.cli.language import Language, choose_language, say
from dujiang.server.cli.spoken_help import SpokenContext, speak, spoken, spoken_error


class Verb(NamedTuple):
    """Where a verb is, and the first sentence of its help, which is listed without importing it."""

    module: str
    attribute: str
    summary: str


VERBS = {
    "demo": Verb(
        "demo", "demo", "Play ten minutes of chat traffic at a strict vendor twice: straight, and through Dujiang."
    ),
    "init": Verb("init", "init", "Write a commented configuration to start from."),
    "validate": Verb("validate", "validate", "Name every mistake in a configuration, each with its remedy."),
    "doctor": Verb("doctor", "doctor", "Check vendors, keys, clocks, storage and port of a configuration."),
    "serve": Verb("serve", "serve", "Serve calls until SIGTERM or Ctrl-C."),
    "status": Verb("status", "status", "Show limits, queues and deployments of the gateway that runs."),
    "keys": Verb("keys", "app", "Make, list and revoke the keys that tenants call with."),
    "simulate": Verb("simulate", "app", "Simulate what an application depends on."),
}


class Verbs(TyperGroup):
    """The verbs of the program, each loaded on use."""

    context_class = SpokenContext

    def list_commands(self, ctx: Any) -> list[str]:
        return list(VERBS)

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        verb = VERBS.get(cmd_name)
        if verb is None:
            return None
        found = getattr(import_module(f"{__name__}.{verb.module}"), verb.attribute)
        if not isinstance(found, typer.Typer):
            alone = typer.Typer(add_completion=False)
            alone.command(cmd_name)(found)
            found = alone
        command = command_of(found)
        command.name = cmd_name
        # Completion is installed for the whole program.
        command.params = [one for one in command.params if one.name not in ("install_completion", "show_completion")]
        return speak(command)

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        # Only their names are looked at, to suggest the nearest; the commands themselves are loaded on use.
        self.commands = dict.fromkeys(VERBS, self)
        return super().resolve_command(ctx, args)

    def format_help(self, ctx: Any, formatter: Any) -> None:
        speak(self)
        super().format_help(ctx, formatter)

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, spoken(verb.summary)) for name, verb in VERBS.items()])


app = typer.Typer(
    name="dujiang",
    cls=Verbs,
    no_args_is_help=True,
    rich_markup_mode=None,
    # A traceback that prints variables would print keys.
    pretty_exceptions_enable=False,
)


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(say("version", version=__version__))
        raise typer.Exit


def _speak_in(language: Language | None) -> Language | None:
    choose_language(language)
    return language


@app.callback()
def dujiang(
    language: Annotated[
        Language | None,
        typer.Option(callback=_speak_in, is_eager=True, help="Told by DUJIANG_LANGUAGE or LANG unless given."),
    ] = None,
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version and end.")
    ] = False,
) -> None:
    """Stand between a product and the AI APIs it depends on."""


def main() -> None:
    """Run the program; a wrong command line is explained in the language spoken and ends with 2."""
    try:
        status = app(prog_name="dujiang", standalone_mode=False)
    except TyperException as wrong:
        _explain(wrong)
        sys.exit(wrong.exit_code)
    except typer.Abort:
        sys.exit(1)
    sys.exit(status if isinstance(status, int) else 0)


def _explain(wrong: TyperException) -> None:
    context: Any = getattr(wrong, "ctx", None)
    message = wrong.format_message()
    if context is not None:
        if message == context.get_help():
            typer.echo(message, err=True)
            return
        typer.echo(context.get_usage(), err=True)
        typer.echo(say("try_help", command=context.command_path), err=True)
    typer.secho(say("wrong_usage", message=spoken_error(message)), err=True, fg="red")
