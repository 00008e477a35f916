"""The house is tidy: small files and functions, names that say something, and the same documents in both languages."""

from __future__ import annotations

import ast
import re
import subprocess
import warnings
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SOURCES = sorted((ROOT / "src").rglob("*.py"))
BANNED = {"util", "utils", "helper", "helpers", "common", "manager", "base", "misc"}
LINES_MOST, LINES_WANTED, FUNCTION_MOST = 450, 410, 60
LANGUAGE = ".zh.md"


class LongFile(UserWarning):
    """A file that grew past what one reads at a sitting."""


def _is_data(tree: ast.Module) -> bool:
    """Return whether a module only holds tables: texts in another language, for example."""
    return not any(isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef) for node in ast.walk(tree))


def documents() -> list[Path]:
    """Return every document for users, in English."""
    found = [*(ROOT / "docs").rglob("*.md"), *ROOT.glob("README*.md")]
    return sorted(path for path in found if not path.name.endswith(LANGUAGE))


def headings(path: Path) -> list[tuple[int, str]]:
    """Return the headings of a document as (line, level and text); what stands in code blocks is none."""
    found: list[tuple[int, str]] = []
    fence = ""
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
        if mark := re.match(r" {0,3}(`{3,}|~{3,})", line):
            if not fence:
                fence = mark[1]
            elif mark[1].startswith(fence) and not line.strip().strip(fence[0]):
                fence = ""
        elif not fence and re.match(r"#{1,6} ", line):
            found.append((number, line))
    return found


def level(heading: tuple[int, str]) -> int:
    return len(heading[1]) - len(heading[1].lstrip("#"))


def _comments(text: str) -> Iterator[tuple[int, str]]:
    for number, line in enumerate(text.splitlines(), 1):
        if "#" in line:
            yield number, line.partition("#")[2]


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT / "src")))
def test_a_file_holds_one_idea(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    tree = ast.parse(text)
    lines = len(text.splitlines())
    assert lines <= LINES_MOST or _is_data(tree), f"{path}: {lines} lines; find the idea that wants a file of its own"
    if lines > LINES_WANTED and not _is_data(tree):
        with warnings.catch_warnings():
            # Told, not failed: the suite turns warnings into errors.
            warnings.simplefilter("default")
            warnings.warn(f"{path.name} has {lines} lines; {LINES_WANTED} are wanted", LongFile, stacklevel=1)
    long = [
        f"{node.name}: {node.end_lineno - node.lineno + 1} lines"
        for node in ast.walk(tree)
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        and node.end_lineno is not None
        and node.end_lineno - node.lineno + 1 > FUNCTION_MOST
    ]
    assert not long, f"{path}: {long}"


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT / "src")))
def test_names_say_something(path: Path) -> None:
    parts = {
        part for piece in path.relative_to(ROOT / "src").with_suffix("").parts for part in piece.lower().split("_")
    }
    assert not parts & BANNED, f"{path}: a name that says nothing"
    tree = ast.parse(path.read_text(encoding="utf-8"))
    for node in ast.walk(tree):
        if isinstance(node, ast.ClassDef):
            words = {word.lower() for word in re.findall(r"[A-Z][a-z]*", node.name)}
            assert not words & BANNED, f"{path}:{node.lineno}: class {node.name}"


def test_nothing_is_left_for_later() -> None:
    marks = re.compile(r"\b(" + "|".join(("TO" + "DO", "FIX" + "ME", "X" + "XX", "HA" + "CK")) + r")\b")
    here = Path(__file__)
    tests = [path for path in (ROOT / "tests").rglob("*.py") if path != here]
    found = [
        f"{path.relative_to(ROOT)}:{number}"
        for path in [*SOURCES, *tests]
        for number, comment in _comments(path.read_text(encoding="utf-8"))
        if marks.search(comment)
    ]
    assert not found


def test_no_address_of_one_machine_is_in_any_file() -> None:
    listed = subprocess.run(
        ["git", "ls-files", "-co", "--exclude-standard"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    if listed.returncode:
        pytest.skip("not a checkout")
    homes = re.compile(r"/" + r"(?:root|home)/[a-z0-9_.-]+/|/" + r"work/(?:main|shared)")
    found = []
    for name in listed.stdout.splitlines():
        path = ROOT / name
        if path.suffix in {".py", ".md", ".toml", ".yaml", ".yml", ".sql", ".html", ".txt", ".cfg"} and path.is_file():
            text = path.read_text(encoding="utf-8", errors="replace")
            found += [f"{name}: {match[0]}" for match in homes.finditer(text)]
    assert not found


@pytest.mark.parametrize("path", documents(), ids=lambda path: str(path.relative_to(ROOT)))
def test_a_document_exists_in_both_languages_with_the_same_headings(path: Path) -> None:
    other = path.with_name(path.name.removesuffix(".md") + LANGUAGE)
    assert other.exists(), f"{path.relative_to(ROOT)} has no {other.name}"
    english, chinese = headings(path), headings(other)
    for mine, theirs in zip(english, chinese, strict=False):
        assert level(mine) == level(theirs), f"line {mine[0]} {mine[1]!r} against line {theirs[0]} {theirs[1]!r}"
    assert len(english) == len(chinese), f"{len(english)} headings against {len(chinese)}"
    assert english, "a document without a heading"


def test_no_document_is_in_chinese_alone() -> None:
    found = [*(ROOT / "docs").rglob(f"*{LANGUAGE}"), *ROOT.glob(f"README*{LANGUAGE}")]
    alone = [path.name for path in found if not path.with_name(path.name.removesuffix(LANGUAGE) + ".md").exists()]
    assert not alone


def test_headings_in_code_are_none(tmp_path: Path) -> None:
    path = tmp_path / "x.md"
    path.write_text("# One\n```sh\n# no heading\n```\n## Two\n~~~~\n# no\n~~~\n# no\n~~~~\n#no\n### Three\n")
    assert [(number, level((number, text))) for number, text in headings(path)] == [(1, 1), (5, 2), (12, 3)]
