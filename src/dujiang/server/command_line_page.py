"""Writes docs/reference/cli.md and its Chinese twin from the help of the program, so that they cannot differ."""

from __future__ import annotations

from collections.abc import Iterator
from contextvars import copy_context
from typing import Any

from typer.main import get_command as command_of

from dujiang.server.cli import VERBS, app
from dujiang.server.cli.language import Language, choose_language
from dujiang.server.cli.spoken_help import SpokenContext, speak, spoken_record

_WORDS = {
    "title": ("Command line", "命令行"),
    "made": (
        "This page is generated from the help of the program; "
        "`python -m dujiang.server.reference_pages docs/reference` writes it, a test compares.",
        "本页由程序的帮助文本生成，由 `python -m dujiang.server.reference_pages docs/reference` 写出，并有测试比对。",
    ),
    "language": (
        "The program speaks English and Chinese: told by `--language`, else `DUJIANG_LANGUAGE`, else the locale "
        "(`LC_ALL`, `LC_MESSAGES`, `LANG`).",
        "程序使用英文与中文：依次取自 `--language`、`DUJIANG_LANGUAGE`、系统区域设置"
        "（`LC_ALL`、`LC_MESSAGES`、`LANG`）。",
    ),
    "status": (
        "It ends with 0 when all is well, 1 when a problem was found, 2 when the command line or the configuration "
        "is wrong.",
        "退出状态：0 表示正常，1 表示发现问题，2 表示命令行或配置有误。",
    ),
    "arguments": ("argument", "参数"),
    "options": ("option", "选项"),
    "meaning": ("meaning", "含义"),
}


def command_line_page(language: Language) -> str:
    """Return the reference page of the command line as Markdown."""

    def written() -> str:
        choose_language(language)
        return "\n".join(_page(0 if language is Language.EN else 1)).rstrip() + "\n"

    return copy_context().run(written)


def _page(column: int) -> Iterator[str]:
    yield f"# {_WORDS['title'][column]}"
    yield ""
    for word in ("made", "language", "status"):
        yield _WORDS[word][column]
        yield ""
    root: Any = command_of(app)
    context = SpokenContext(root, info_name="dujiang")
    yield from _command(speak(root), context, column)
    for verb in VERBS:
        command = root.get_command(context, verb)
        yield from _tree(command, SpokenContext(command, info_name=verb, parent=context), column)


def _tree(command: Any, context: SpokenContext, column: int) -> Iterator[str]:
    yield from _command(command, context, column)
    for name, inner in getattr(command, "commands", {}).items():
        yield from _tree(inner, SpokenContext(inner, info_name=name, parent=context), column)


def _command(command: Any, context: SpokenContext, column: int) -> Iterator[str]:
    yield f"## {context.command_path}"
    yield ""
    yield command.help or ""
    yield ""
    yield f"`{' '.join((context.command_path, *command.collect_usage_pieces(context)))}`"
    yield ""
    for kind in ("argument", "option"):
        rows = [spoken_record(one, context) for one in command.params if one.param_type_name == kind]
        if not rows:
            continue
        yield f"| {_WORDS[f'{kind}s'][column]} | {_WORDS['meaning'][column]} |"
        yield "| --- | --- |"
        for row in rows:
            name, meaning = (cell.replace("|", "\\|") for cell in row)
            yield f"| `{name}` | {meaning} |"
        yield ""
