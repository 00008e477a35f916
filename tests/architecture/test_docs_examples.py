"""What the documentation shows works: configurations are valid, commands exist, queries and programs run."""

import ast
import asyncio
import os
import re
import shlex
import sys

import pytest
import yaml
from tests.commands import run
from tests.documents import ROOT, Page, pages
from tests.gateways import KEY, gateway_before_vendor

from dujiang.config import parse_config
from dujiang.server import http
from dujiang.server.cli.starter import SIMULATED, starter
from dujiang.storage.sqlite import SqliteStore
from dujiang.vendors.profiles import load_profile

ALL = {one.name: one for one in pages()}
OF_OTHER_FORMATS = ("docs/how-to/simulated-vendor", "docs/how-to/add-a-vendor")
"""Pages whose YAML is no configuration of a gateway; they have tests of their own."""
_NAMED = re.compile(r"\$\{(\w+)")


def with_code(*languages):
    """Return the pages that have code in one of these languages."""
    return [name for name, one in ALL.items() if any(block.language in languages for block in one.code())]


@pytest.mark.parametrize("name", [name for name in with_code("yaml") if not name.startswith(OF_OTHER_FORMATS)])
def test_configurations_are_valid(name):
    whole = yaml.safe_load(starter(load_profile(SIMULATED), SIMULATED).text)
    for block in ALL[name].code("yaml"):
        shown = yaml.safe_load(block.text)
        # What a page leaves out is as `dujiang init` writes it.
        text = yaml.safe_dump({**whole, **shown}, sort_keys=False)
        parse_config(text, {variable: f"secret-of-{variable}" for variable in _NAMED.findall(text)})


def lines_of(page: Page) -> list[list[str]]:
    """Return the words of each command of a page's shell examples."""
    lines = [line for block in page.code("sh") for line in block.text.splitlines()]
    commands = [part.strip(" &") for line in lines for part in line.partition(" #")[0].split(" && ")]
    return [shlex.split(command) for command in commands if command]


@pytest.mark.parametrize("name", with_code("sh"))
def test_commands_exist(name):
    verbs = set(re.findall(r"^(\w+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))
    commands = lines_of(ALL[name])
    assert commands
    for words in commands:
        match words:
            case ["dujiang", *arguments]:
                # Help is printed only when everything before it was understood.
                run(*arguments, "--help")
            case ["make", verb, *_]:
                assert verb in verbs
            case ["curl", *arguments]:
                (url,) = [one for one in arguments if one.startswith("http://127.0.0.1:8700/")]
                path = "/" + url.split("/", 3)[3].partition("?")[0]
                assert path in {*(one.decode() for one in http._OPERATIONS), "/v1/usage"}
            case [".", path]:
                assert path == ".venv/bin/activate"
            case _:
                pytest.fail(f"what is {words}?")


@pytest.mark.parametrize("name", with_code("sql"))
def test_queries_run(name):
    store = SqliteStore("memory://")
    try:
        for block in ALL[name].code("sql"):
            store._connection.executescript(block.text)
    finally:
        store.close()


def without_words(code: str) -> str:
    """Return a program's shape: its syntax tree, without the texts it holds."""
    tree = ast.parse(code)
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            node.value = ""
        if isinstance(node, ast.JoinedStr):
            node.values = [part for part in node.values if isinstance(part, ast.FormattedValue)]
    return ast.dump(tree)


@pytest.mark.parametrize("name", with_code("python"))
def test_programs_are_the_same_in_both_languages(name):
    one = ALL[name]
    assert [without_words(block.text) for block in one.code("python")] == [
        without_words(block.text) for block in Page(one.twin).code("python")
    ]


async def test_programs_run_and_limits_are_seen_at_work():
    """README first, then the tutorial, as one program before a vendor that takes five calls at once."""
    shown = [ALL[name] for name in with_code("python") if not ALL[name].is_chinese]
    blocks = [block.text for one in shown for block in one.code("python")]
    assert len(blocks) == 4
    limits = [{"dimension": "concurrency", "value": 5}]
    vendor_spec = {"limits": ["requests/60s=60", "concurrency=5"], "first_token_s": 0.3}
    async with gateway_before_vendor(vendor_spec=vendor_spec, vendor_limits=limits) as (gateway, vendor):
        program = "\n".join(blocks).replace("http://127.0.0.1:8700", gateway.base_url)
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-c", program),
            env={**os.environ, "SHOP_KEY": KEY, "PYTHONIOENCODING": "utf-8"},
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        out, err = await process.communicate()
        assert process.returncode == 0, err.decode()
        queued = [int(ms) for ms in re.findall(r"answered after .* queued (\d+) ms", out.decode())]
        assert len(queued) == 20
        # Fifteen, unless the program was so slow that the first calls were answered before the last were made.
        assert sum(ms > 0 for ms in queued) >= 10
        seen = vendor.statistics()["requests"]
        assert (seen["accepted"], seen["refused"], seen["in_flight_peak"]) == (24, 0, 5)
