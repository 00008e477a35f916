"""The pages of the documentation: their headings, tables, links and code."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
_FENCE = re.compile(r"^```(\S*)[^\n]*\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_HEADING = re.compile(r"^(#+) (.+)$", re.MULTILINE)
_LINK = re.compile(r"\]\(([^)\s]+)\)")
_INLINE = re.compile(r"`([^`]+)`")


@dataclass(frozen=True)
class Code:
    """A block of code in a page."""

    language: str
    text: str


class Page:
    """One page, as it is written."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.name = path.relative_to(ROOT).as_posix()
        self.text = path.read_text(encoding="utf-8")
        self._prose = _FENCE.sub("", self.text)

    @property
    def is_chinese(self) -> bool:
        return self.path.name.endswith(".zh.md")

    @property
    def twin(self) -> Path:
        """Return where the page is in the other language."""
        if self.is_chinese:
            return self.path.with_name(self.path.name.removesuffix(".zh.md") + ".md")
        return self.path.with_name(self.path.name.removesuffix(".md") + ".zh.md")

    def headings(self) -> list[tuple[int, str]]:
        """Return level and text of each heading."""
        return [(len(marks), text.strip()) for marks, text in _HEADING.findall(self._prose)]

    def anchors(self) -> set[str]:
        """Return what a link may name after `#`, as GitHub makes it of headings."""
        found: set[str] = set()
        seen: Counter[str] = Counter()
        for _, text in self.headings():
            slug = re.sub(r"[^\w\- ]", "", text.lower()).replace(" ", "-")
            found.add(f"{slug}-{seen[slug]}" if seen[slug] else slug)
            seen[slug] += 1
        return found

    def links(self) -> list[str]:
        """Return the targets of links and pictures."""
        return _LINK.findall(self._prose)

    def code(self, language: str | None = None) -> list[Code]:
        """Return the blocks of code, all or those of one language."""
        blocks = [Code(*found) for found in _FENCE.findall(self.text)]
        return [block for block in blocks if language in (None, block.language)]

    def rows(self, heading: str | None = None) -> list[list[str]]:
        """Return the rows of all tables, or of those below one heading, without their heads."""
        text = self._prose
        if heading is not None:
            text = re.split(r"^#+ ", self._prose.partition(f" {heading}\n")[2], maxsplit=1, flags=re.MULTILINE)[0]
        lines = text.splitlines()
        rows: list[list[str]] = []
        for number, line in enumerate(lines):
            if not line.startswith("|") or set(line) <= set("|-: "):
                continue
            below = lines[number + 1] if number + 1 < len(lines) else ""
            if not (below.startswith("|") and set(below) <= set("|-: ")):
                rows.append([cell.strip() for cell in line.strip("|").split("|")])
        return rows

    def named(self, heading: str | None = None) -> set[str]:
        """Return the names in the first cells of tables: what stands in back quotes there."""
        return {name for row in self.rows(heading) for name in _INLINE.findall(row[0])}


def page(name: str) -> Page:
    """Return a page by its path below docs/, without `.md`: `reference/errors` or `reference/errors.zh`."""
    return Page(DOCS / f"{name}.md")


def pages() -> list[Page]:
    """Return every page in both languages, README included."""
    return [Page(path) for path in sorted([*ROOT.glob("README*.md"), *DOCS.rglob("*.md")])]
