"""The generated pages are what the program generates, complete in both languages."""

import sys
from pathlib import Path

import pytest

from dujiang.config.schema import Config
from dujiang.server import reference_pages as writer
from dujiang.server.cli import VERBS
from dujiang.server.configuration_chinese import MEANINGS, WORDS
from dujiang.server.configuration_page import configuration_page, documented_keys
from dujiang.server.reference_pages import reference_pages

FOLDER = Path(__file__).parents[3] / "docs" / "reference"
PAGES = dict(reference_pages())


@pytest.mark.parametrize("name", PAGES)
def test_a_page_is_what_is_generated(name):
    written = (FOLDER / name).read_text(encoding="utf-8")
    assert written == PAGES[name], "run `python -m dujiang.server.reference_pages docs/reference`"


def test_every_key_of_the_configuration_is_explained_in_both_languages():
    meanings = documented_keys()
    assert set(Config.model_fields) <= set(meanings)
    assert {path for path, meaning in meanings.items() if not meaning} == set()
    assert set(meanings.values()) - set(MEANINGS) == set(), "translate in configuration_chinese.py"
    assert set(MEANINGS) - set(meanings.values()) == set(), "left over in configuration_chinese.py"
    assert all(MEANINGS.values())
    assert all(english and chinese for word, (english, chinese) in WORDS.items() if word != "gap")


@pytest.mark.parametrize("name", ["configuration.md", "configuration.zh.md"])
def test_every_key_of_the_configuration_has_a_heading(name):
    headings = [line.lstrip("# ").strip("`") for line in PAGES[name].splitlines() if line.startswith(("## ", "### "))]
    assert headings == list(documented_keys())


@pytest.mark.parametrize("name", ["cli.md", "cli.zh.md"])
def test_every_verb_has_a_heading(name):
    headings = [line.removeprefix("## ") for line in PAGES[name].splitlines() if line.startswith("## ")]
    assert headings[0] == "dujiang"
    assert {heading.split()[1] for heading in headings[1:]} == set(VERBS)
    for command in ("dujiang keys create", "dujiang keys list", "dujiang keys revoke", "dujiang simulate vendor"):
        assert command in headings


@pytest.mark.parametrize(
    ("key", "facts"),
    [
        ("server.port", "Value: a whole number, ≥ 0, ≤ 65,535. Default: `8700`."),
        ("server.max_body", "Value: a size, > 0. Default: `25MiB`."),
        ("queue.max_wait", "Value: a duration. Default: `1m`."),
        ("server.pepper", "Value: text, kept out of every output."),
        ("vendors.NAME.protocol", "Value: one of `openai`, `anthropic`. Required."),
        ("vendors.NAME.credentials", "Value: a list, each item with the keys below, at least 1. Required."),
        ("vendors.NAME.credentials[].limits[].window", "Value: a duration or `day`."),
        ("models.NAME.aliases", "Value: a list, each item text."),
        ("telemetry.metrics", "Value: `true` or `false`. Default: `true`."),
    ],
)
def test_kind_and_default_of_a_key_are_told(key, facts):
    page = PAGES["configuration.md"]
    paragraph = page.partition(f"# `{key}`\n")[2].split("\n\n")
    assert paragraph[1] == facts


def test_a_chinese_page_has_no_english_meaning():
    page = PAGES["configuration.zh.md"]
    assert not [english for english in MEANINGS if f"\n{english}\n" in page]


def test_the_pages_are_written_into_a_folder(tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["reference_pages", str(tmp_path)])
    writer.main()
    assert {path.name: path.read_text(encoding="utf-8") for path in tmp_path.iterdir()} == PAGES
    monkeypatch.setattr(sys, "argv", ["reference_pages"])
    with pytest.raises(SystemExit, match="usage"):
        writer.main()


def test_the_language_of_a_page_does_not_stay():
    from dujiang.server.cli.language import Language, choose_language, say

    choose_language(Language.EN)
    try:
        configuration_page(Language.ZH)
        assert say("port") == "port"
    finally:
        choose_language(None)
