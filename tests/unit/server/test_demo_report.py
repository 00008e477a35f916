"""What the demo shows: complete in both languages, self-contained, and nothing but the run's own numbers."""

import io
import json
import re
from dataclasses import fields, replace
from string import Formatter

import pytest
from rich.console import Console

from dujiang.server.cli.language import Language
from dujiang.server.demo.application import Progress
from dujiang.server.demo.figures import CallSeen, Result, Run, VendorSeen
from dujiang.server.demo.report import Report, chart, report_json
from dujiang.server.demo.scenario import choose, service_s
from dujiang.server.demo.terminal import Screen, figure_rows, scenario_lines
from dujiang.server.demo.words import EN, WORDS, ZH, Words
from dujiang.simulation.traffic import conversation_traffic

TEXTS = [field.name for field in fields(Words)]
CHINESE = re.compile("[\u3400-\u9fff\uff01-\uff5e\u3002]")


def run_of(scenario, name: str, lost_every: int) -> Run:
    calls = []
    for index, call in enumerate(scenario.calls):
        due, took = call.at_ns / 1e9, service_s(call)
        if lost_every and index % lost_every == 0:
            calls.append(CallSeen(due, due + 2, Result.REFUSED, reason="</script><b>429"))
        else:
            calls.append(CallSeen(due, due + took + 3, Result.ANSWERED, took))
    refused = len(calls) // lost_every if lost_every else 0
    seen = tuple(VendorSeen(t, t + refused, refused, 2, 9, 1000 + t, 10 * t, t) for t in range(0, 620, 5))
    return Run(name, tuple(calls), seen)


@pytest.fixture(scope="module")
def report() -> Report:
    scenario = choose(conversation_traffic(1), 1)
    named = replace(scenario, trace=replace(scenario.trace, name="</script><script>alert(1)</script>.csv"))
    return Report(named, False, run_of(named, "direct", 7), run_of(named, "gateway", 0))


def data_of(page: str) -> dict:
    found = re.search(r'<script type="application/json" id="data">(.*?)</script>', page, re.DOTALL)
    assert found
    return json.loads(found[1])


@pytest.mark.parametrize("name", TEXTS)
def test_every_text_is_there_in_both_languages_with_the_same_values(name):
    english, chinese = getattr(EN, name), getattr(ZH, name)
    assert english.strip()
    assert chinese.strip()
    assert not CHINESE.search(english)
    assert CHINESE.search(chinese) or name == "met_429s"

    def values(text: str) -> set[str]:
        return {value for _, value, _, _ in Formatter().parse(text) if value is not None}

    assert values(english) == values(chinese)


def test_every_language_has_its_words():
    assert set(WORDS) == set(Language)


def test_the_chart_needs_nothing_from_elsewhere(report):
    page = chart(report, Language.EN)
    addresses = set(re.findall(r"https?://[^\"'\s]+", page))
    assert addresses <= {"http://www.w3.org/2000/svg"}
    assert not re.search(r"<link|<img|@import|\bsrc\s*=|url\(|\bfetch\(|XMLHttpRequest", page)


def test_the_chart_holds_the_data_of_both_runs(report):
    data = data_of(chart(report, Language.ZH))
    assert data["language"] == "zh"
    assert sum(data["runs"]["direct"]["refusals"]) == report.direct.vendor[-1].refused
    assert sum(data["runs"]["gateway"]["in_time"]) == len(report.scenario.calls)
    assert len(data["runs"]["direct"]["calls"]) == len(report.scenario.calls)
    assert data["end_s"] == round(report.end_s, 3) > 600


def test_a_trace_cannot_write_into_the_page(report):
    page = chart(report, Language.EN)
    assert "alert(1)</script>" not in page
    assert "alert(1)</script>.csv" in data_of(page)["scenario"]["en"][0]


def test_the_chart_uses_only_words_that_exist(report):
    page = chart(report, Language.EN)
    script = page[page.rindex("<script>") :]
    used = set(re.findall(r'(?:title|note|level_name): "(\w+)"', script))
    used |= set(re.findall(r"\b(?:say|words\(\))\.(\w+)", script))
    assert used >= {"title", "chart_flow", "chart_quota_line", "times_note", "chart_due"}
    assert used <= set(TEXTS)


def test_the_json_says_what_was_played_and_why_calls_failed(report):
    facts = json.loads(report_json(report))
    assert facts["scenario"]["calls"] == len(report.scenario.calls)
    direct, gateway = facts["runs"]["direct"], facts["runs"]["gateway"]
    assert direct["failed"] == sum(direct["reasons"].values()) > 0
    assert gateway["failed"] == 0
    assert gateway["in_time"] == facts["scenario"]["calls"]


@pytest.mark.parametrize("language", list(Language))
def test_the_table_shows_the_figures(report, language):
    rows = figure_rows(WORDS[language], report.figures(report.direct), report.figures(report.gateway))
    shown = {label: (left, right) for label, left, right in rows}
    assert shown[WORDS[language].in_time][1] == "100.0%"
    assert shown[WORDS[language].refusals][1] == "0"
    lost = report.figures(report.direct).failed
    assert shown[WORDS[language].failed_for_app] == (str(lost), "0")


def test_a_made_up_traffic_says_so_and_a_recorded_one_does_not(report):
    assert EN.traffic_published in " ".join(scenario_lines(EN, report.scenario, made_up=True))
    assert EN.traffic_published not in " ".join(scenario_lines(EN, report.scenario, made_up=False))


@pytest.mark.parametrize("terminal", [True, False])
def test_the_screen_shows_a_run_and_the_table(report, terminal):
    output = io.StringIO()
    console = Console(file=output, force_terminal=terminal, width=110, color_system=None)
    screen = Screen(console, EN, report.scenario)
    screen.introduce(made_up=False)
    with screen.run("As most apps do it", "explained", "starting") as watch:
        watch(Progress(total=826, sent=500, answered=450, failed=12), report.direct.vendor[50])
    screen.conclude(report.figures(report.direct), report.figures(report.gateway))
    shown = output.getvalue()
    assert "As most apps do it" in shown
    assert "Answered in time" in shown
    assert ("500/826" in shown) is terminal
