"""The verb `demo`: mistakes end it before anything starts, with a sentence in the user's language."""

import pytest
import typer
from typer.testing import CliRunner

from dujiang.server.cli import demo as verb
from dujiang.server.cli.language import choose_language
from dujiang.server.demo.demonstration import NothingAnswered
from dujiang.server.demo.figures import CallSeen, Result, Run, VendorSeen
from dujiang.server.demo.processes import ChildFailed
from dujiang.server.demo.report import Report

app = typer.Typer()
app.command()(verb.demo)


@pytest.fixture(autouse=True)
def _speak_as_told():
    yield
    choose_language(None)


def invoke(*arguments: str):
    return CliRunner(env={"LANG": "en_US.UTF-8", "LC_ALL": "", "LC_MESSAGES": "", "DISPLAY": ""}).invoke(app, arguments)


@pytest.fixture
def runs(monkeypatch):
    """Replace the two runs, which take a minute, by two that were over at once."""

    def played(name: str, scenario) -> Run:
        calls = tuple(CallSeen(call.at_ns / 1e9, call.at_ns / 1e9 + 5, Result.ANSWERED, 2) for call in scenario.calls)
        return Run(name, calls, (VendorSeen(1, len(calls), 0, 0, 1, 1, 1, 1),))

    async def demonstrate(scenario, *, made_up, **_):
        return Report(scenario, made_up, played("direct", scenario), played("gateway", scenario))

    monkeypatch.setattr("dujiang.server.demo.demonstration.demonstrate", demonstrate)


def test_chart_and_figures_are_written_where_asked(tmp_path, runs):
    out, figures = tmp_path / "new" / "folder", tmp_path / "figures.json"
    ended = invoke("--no-browser", "--seed", "2", "--out", str(out), "--json", str(figures))
    assert ended.exit_code == 0, ended.output
    chart = out / "dujiang-demo.html"
    assert chart.read_text("utf-8").startswith("<!doctype html>")
    assert '"seed": 2' in figures.read_text()
    assert str(chart) in ended.output.replace("\n", "")


def test_a_trace_file_is_played(tmp_path, runs):
    trace, figures = tmp_path / "mine.csv", tmp_path / "figures.json"
    trace.write_text("t,in,out\n0,100,10\n5,200,20\n")
    assert invoke("--trace", str(trace), "--out", str(tmp_path), "--json", str(figures)).exit_code == 0
    assert '"trace": "mine.csv"' in figures.read_text()
    assert '"made_up": false' in figures.read_text()


def test_the_chart_opens_only_where_it_would_be_seen(tmp_path, runs, monkeypatch):
    opened = []
    monkeypatch.setattr(verb.webbrowser, "open", opened.append)
    invoke("--out", str(tmp_path))
    assert opened == []
    monkeypatch.setattr(verb, "_has_display", lambda: True)
    invoke("--out", str(tmp_path), "--no-browser")
    assert opened == []
    invoke("--out", str(tmp_path))
    assert opened == [(tmp_path / "dujiang-demo.html").resolve().as_uri()]


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--trace", "/nowhere/absent.csv"], "absent.csv: cannot be read"),
        (["--speed", "0.5"], "--speed is 0.5"),
        (["--speed", "nan"], "--speed is nan"),
        (["--speed", "600"], "from 1 to 60"),
        (["--speed", "99", "--language", "zh"], "请写 1 到 60 之间的数"),
        (["--out", "/dev/null/folder"], "/dev/null/folder cannot be written"),
        (["--json", "/nowhere/figures.json"], "/nowhere/figures.json cannot be written"),
    ],
)
def test_a_mistake_ends_it_at_once(arguments, says, runs):
    ended = invoke(*arguments)
    assert ended.exit_code == 2
    assert says in ended.output


@pytest.mark.parametrize(
    ("raised", "status", "says"),
    [
        (ChildFailed("Dujiang", "port in use"), 2, "Dujiang does not run"),
        (
            NothingAnswered(Run("gateway", (CallSeen(0, 1, Result.FAILED, reason="401 wrong key"),), ())),
            2,
            "401 wrong key",
        ),
        (KeyboardInterrupt(), 130, "everything that was started has been stopped"),
    ],
)
def test_a_failed_demo_says_why(tmp_path, monkeypatch, raised, status, says):
    async def demonstrate(*_, **__):
        raise raised

    monkeypatch.setattr("dujiang.server.demo.demonstration.demonstrate", demonstrate)
    ended = invoke("--out", str(tmp_path))
    assert ended.exit_code == status
    assert says in ended.output
    assert not (tmp_path / "dujiang-demo.html").exists()
