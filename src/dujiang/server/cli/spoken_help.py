"""Help and usage errors in the language spoken: the English of the source is translated by a table."""

from __future__ import annotations

import re
from typing import Any

import typer

from dujiang.server.cli.language import Language, spoken_language

_EnglishFormatter: Any = typer.Context.formatter_class


class _ChineseFormatter(_EnglishFormatter):
    """Writes the framework's own words in Chinese."""

    def write_usage(self, prog: str, args: str = "", prefix: str | None = None) -> None:
        super().write_usage(prog, args, prefix or f"{spoken('Usage')}：")

    def write_heading(self, heading: str) -> None:
        self.write(f"{spoken(heading)}：\n")

    def write_dl(self, rows: Any, col_max: int = 30, col_spacing: int = 2) -> None:
        told = [
            (
                name,
                text.replace("[default: ", f"[{spoken('default')}：").replace("[required]", f"[{spoken('required')}]"),
            )
            for name, text in rows
        ]
        super().write_dl(told, col_max, col_spacing)


class SpokenContext(typer.Context):
    """Formats help in the language spoken."""

    def make_formatter(self) -> Any:
        kind = _ChineseFormatter if spoken_language() is Language.ZH else _EnglishFormatter
        return kind(width=self.terminal_width, max_width=self.max_content_width)


def spoken(text: str) -> str:
    """Return a help text of the source in the language spoken; as it is where the table lacks it."""
    if spoken_language() is Language.EN:
        return text
    from dujiang.server.cli.chinese_help import HELP

    return "\n\n".join(HELP.get(paragraph, paragraph) for paragraph in _paragraphs(text))


def speak(command: Any) -> Any:
    """Translate a command's help, that of its options and of its commands; plain text also in a pipe."""
    command.context_class = SpokenContext
    command.rich_markup_mode = None
    for translated in (command, *command.params):
        if getattr(translated, "help", None):
            translated.help = spoken(translated.help)
    help_option = command.get_help_option(SpokenContext(command))
    help_option.help = spoken(help_option.help)
    for inner in getattr(command, "commands", {}).values():
        if inner is not command:
            speak(inner)
    return command


def spoken_record(parameter: Any, context: SpokenContext) -> tuple[str, str]:
    """Return how a parameter is written and what it means, default included, in the language spoken."""
    written, meaning = parameter.get_help_record(context)
    return written, _spoken_extras(" ".join(meaning.split()))


def _spoken_extras(text: str) -> str:
    if spoken_language() is Language.EN:
        return text
    return text.replace("[default: ", f"[{spoken('default')}：").replace("[required]", f"[{spoken('required')}]")


def spoken_error(message: str) -> str:
    """Return what the framework says of a wrong command line in the language spoken."""
    if spoken_language() is Language.EN:
        return message
    from dujiang.server.cli.chinese_help import ERRORS

    for pattern, chinese in ERRORS:
        if (match := re.fullmatch(pattern, message, re.DOTALL)) is not None:
            return match.expand(chinese)
    return message


def help_texts(command: Any) -> set[str]:
    """Return every paragraph of a command's help and of what is below it, each on one line, as the table knows it."""
    helped = [one for one in (command, *command.params) if getattr(one, "help", None)]
    texts = {paragraph for one in helped for paragraph in _paragraphs(one.help)}
    for inner in getattr(command, "commands", {}).values():
        texts |= help_texts(inner)
    return texts


def _paragraphs(text: str) -> list[str]:
    return [" ".join(paragraph.split()) for paragraph in text.split("\n\n")]
