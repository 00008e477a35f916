"""Writes the reference pages that are generated: `python -m dujiang.server.reference_pages docs/reference`."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

from dujiang.server.cli.language import Language
from dujiang.server.command_line_page import command_line_page
from dujiang.server.configuration_page import configuration_page
from dujiang.vendors.profiles_page import profiles_page


def reference_pages() -> Iterator[tuple[str, str]]:
    """Yield the file name and the text of every generated page."""
    for language in Language:
        suffix = ".md" if language is Language.EN else f".{language}.md"
        yield f"configuration{suffix}", configuration_page(language)
        yield f"cli{suffix}", command_line_page(language)
        yield f"vendors{suffix}", profiles_page("en" if language is Language.EN else "zh")


def main() -> None:
    """Write every page into the folder named on the command line."""
    if len(sys.argv) != 2:
        sys.exit("usage: python -m dujiang.server.reference_pages FOLDER")
    for name, text in reference_pages():
        (Path(sys.argv[1]) / name).write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
