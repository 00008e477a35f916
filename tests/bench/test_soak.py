"""The soak's arithmetic: what counts as growth, what as left over, and how it is drawn. No process is started."""

from __future__ import annotations

import random
from typing import Any

import pytest
from bench.soak.__main__ import Run, choice, remarks
from bench.soak.growth import ALLOWANCES, Sample, after_warm_up, growth, left_over, slope
from bench.soak.page import described, page, sparkline
from bench.soak.site import TENANT_KEYS, configuration
from bench.soak.traffic import KINDS

from dujiang.config import ConfigInvalid, parse_config

REST = {"own_mb": 40.0, "rss_mb": 60.0, "pss_mb": 45.0, "descriptors": 20, "threads": 3, "tasks": 6}
NOTHING = {"connections": 0, "in_flight": 0, "waiting": 0, "held": 0, "pending": 0}


def sample(at_s: float = 0, **figures: Any) -> Sample:
    return Sample(at_s=at_s, **(REST | NOTHING | figures))


def series(minutes: float, **figures: Any) -> list[Sample]:
    """Return a sample every 5 s; a figure is given as a function of the minute, whole unless it is memory."""
    chance = random.Random(7)
    samples = []
    for number in range(round(minutes * 12) + 1):
        at_min = number / 12
        values = {
            name: value(at_min, chance) if name.endswith("_mb") else round(value(at_min, chance))
            for name, value in figures.items()
        }
        samples.append(sample(number * 5.0, **values))
    return samples


def growing(samples: list[Sample]) -> set[str]:
    return {one.figure for one in growth(samples) if one.grows}


def test_the_slope_is_the_one_of_most_pairs() -> None:
    assert slope([]) == 0
    assert slope([(1, 5)]) == 0
    assert slope([(1, 5), (1, 9)]) == 0, "two looks at one instant say nothing"
    assert slope([(0, 1), (1, 3), (2, 5)]) == 2
    line = [(x, 0.5 * x) for x in range(40)]
    wild = [*line[:20], (20, 900.0), *line[21:]]
    assert slope(wild) == pytest.approx(0.5, abs=0.01), "one wild sample does not move it"


@pytest.mark.parametrize(
    ("figures", "expected"),
    [
        pytest.param({}, set(), id="nothing moves"),
        pytest.param(
            {
                "own_mb": lambda _, chance: 40 + chance.gauss(0, 1),
                "descriptors": lambda _, chance: 50 + chance.gauss(0, 6),
                "tasks": lambda _, chance: 20 + chance.gauss(0, 5),
                "held": lambda _, chance: abs(chance.gauss(8, 4)),
            },
            set(),
            id="noise",
        ),
        pytest.param({"own_mb": lambda minute, _: 30 + 12 * min(minute, 2)}, set(), id="only the warm-up climbs"),
        pytest.param({"own_mb": lambda minute, _: 40 + minute % 2}, set(), id="a saw"),
        pytest.param({"own_mb": lambda minute, _: 60 - minute}, set(), id="it shrinks"),
        pytest.param({"own_mb": lambda minute, _: 40 + 0.1 * minute}, set(), id="less than is allowed"),
        pytest.param(
            {"own_mb": lambda minute, chance: 40 + 0.5 * minute + chance.gauss(0, 1)}, {"own_mb"}, id="a leak"
        ),
        pytest.param(
            {"descriptors": lambda minute, chance: 50 + 3 * minute + chance.gauss(0, 6)}, {"descriptors"}, id="files"
        ),
        pytest.param({"tasks": lambda minute, chance: 9 + 2 * minute + chance.gauss(0, 4)}, {"tasks"}, id="tasks"),
        pytest.param({"threads": lambda minute, _: 3 + minute}, {"threads"}, id="threads"),
        pytest.param({"held": lambda minute, _: 2 * minute}, {"held"}, id="reservations"),
    ],
)
def test_what_grows_is_named_and_nothing_else(figures: dict[str, Any], expected: set[str]) -> None:
    assert growing(series(10, **figures)) == expected


def test_a_growth_tells_slope_and_rise_after_the_warm_up() -> None:
    (found,) = [one for one in growth(series(10, own_mb=lambda minute, _: 40 + minute)) if one.figure == "own_mb"]
    assert found.first == pytest.approx(42.5), "two and a half minutes are warm-up"
    assert found.last == pytest.approx(50)
    assert found.per_minute == pytest.approx(1)
    assert found.rise == pytest.approx(7.5)
    assert found.grows
    assert described(found) == "grows: 42.5 → 50 MB, +1.000 MB a minute"


def test_a_steep_slope_over_seconds_is_not_yet_growth() -> None:
    samples = [sample(at_s, own_mb=40 + at_s / 60) for at_s in range(31)]
    assert growing(samples) == set(), "half a megabyte in half a minute may be anything"


def test_a_quarter_is_warm_up_but_no_more_than_a_few_minutes() -> None:
    assert after_warm_up([]) == []
    assert after_warm_up(series(2))[0].at_s == 30
    assert after_warm_up(series(60))[0].at_s == 150


def test_too_few_samples_are_no_verdict() -> None:
    with pytest.raises(ValueError, match="let the soak run longer"):
        growth([sample(0), sample(5), sample(10)])


def test_every_allowance_is_a_figure_of_a_sample() -> None:
    assert ALLOWANCES.keys() <= sample().figures().keys()


@pytest.mark.parametrize(
    ("after", "expected"),
    [
        ({}, []),
        ({"own_mb": 55.0, "threads": 6, "descriptors": 23}, []),
        ({"tasks": 5}, []),
        ({"tasks": 8}, ["2 tasks are left over"]),
        ({"descriptors": 24}, ["4 descriptors are left over"]),
        (
            {"in_flight": 1, "waiting": 2, "held": 3},
            ["in_flight is 1, not 0", "waiting is 2, not 0", "held is 3, not 0"],
        ),
    ],
)
def test_what_is_left_when_nobody_calls(after: dict[str, Any], expected: list[str]) -> None:
    assert left_over(sample(), sample(**after)) == expected


def test_the_run_fails_for_growth_and_for_faults_and_says_so() -> None:
    run = Run(
        settings={"minutes": 10}, machine={}, calls={"chat": {"200": 90, "left": 10}}, before=sample(), after=sample()
    )
    run.growth = growth(series(10))
    assert not run.failed
    assert remarks(run)[0].startswith("100 calls in 10 minutes")
    assert remarks(run)[-1] == "neither memory nor tasks nor descriptors grew"
    run.growth = growth(series(10, own_mb=lambda minute, _: 40 + minute))
    assert run.failed
    assert remarks(run)[-1] == "own_mb grew"
    run.growth = growth(series(10))
    run.faults = ["2 tasks are left over"]
    assert run.failed
    assert "must not be: 2 tasks are left over" in remarks(run)


def test_a_sparkline_fills_its_range_and_its_width() -> None:
    assert sparkline([]) == ""
    assert sparkline([5, 5, 5]) == "▁▁▁"
    assert sparkline([0, 7]) == "▁█"
    assert sparkline(list(range(8))) == "▁▂▃▄▅▆▇█"
    assert len(sparkline(list(range(121)), width=48)) <= 48


def test_the_page_has_every_figure_and_escapes_what_it_quotes() -> None:
    samples = series(2, own_mb=lambda minute, _: 40 + minute)
    text = page("Soak <1>", samples, growth(samples), ["must not be: <script>"])
    assert text.count("<svg") == len(sample().figures())
    assert "Soak &lt;1&gt;" in text
    assert "<script>" not in text
    assert 'class="steady"' in text
    assert "http" not in text, "self-contained"


def test_the_configuration_is_valid_before_and_after_every_reload(tmp_path: Any) -> None:
    import yaml

    for number in range(4):
        settings = configuration(8700, 9100, tmp_path, number)
        parsed = parse_config(yaml.safe_dump(settings), {})
        assert {tenant.id for tenant in parsed.tenants} >= TENANT_KEYS.keys()
    settings["vendors"]["acme"]["colour"] = "blue"
    with pytest.raises(ConfigInvalid):
        parse_config(yaml.safe_dump(settings), {})


def test_the_traffic_has_every_kind_of_call_and_its_bodies_fit_their_kind() -> None:
    chance = random.Random(1)
    assert {kind.path for kind in KINDS} == {
        "/v1/chat/completions",
        "/v1/messages",
        "/v1/responses",
        "/v1/embeddings",
    }
    for kind in KINDS:
        body = kind.body(chance)
        assert isinstance(body, bytes) == (kind.name == "broken JSON")
        assert ("stream" in kind.name) <= (isinstance(body, dict) and body.get("stream") is True), kind.name


@pytest.mark.parametrize("arguments", [["--minutes", "0"], ["--rate", "0"], ["--rate", "5000"], ["--minutes", "x"]])
def test_a_soak_that_cannot_be_is_refused(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as left:
        choice(arguments)
    assert left.value.code == 2
    assert "--" in capsys.readouterr().err


def test_a_short_soak_is_looked_at_often_enough() -> None:
    assert choice([]).looks_every_s == 5
    assert choice(["--minutes", "0.5"]).looks_every_s == 1
