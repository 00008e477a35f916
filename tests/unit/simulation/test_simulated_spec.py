"""What a simulated vendor may be told, and what it says of what it may not."""

from __future__ import annotations

import pytest

from dujiang.simulation.draws import Distribution, chance
from dujiang.simulation.durations import go_duration, parse_duration, write_duration
from dujiang.simulation.faults import Fault, FaultKind, FaultScript
from dujiang.simulation.spec import Charge, LimitSpec, Semantics, SpecError, VendorSpec


@pytest.mark.parametrize(
    ("written", "ns"), [("250ms", 250_000_000), ("60s", 60 * 10**9), ("1.5h", 5400 * 10**9), (2, 2 * 10**9), ("0", 0)]
)
def test_durations_are_read(written, ns):
    assert parse_duration(written) == ns
    assert parse_duration(write_duration(ns)) == ns


@pytest.mark.parametrize("written", ["", "60 seconds", "-1s", "1m30s", None, True, "1e3"])
def test_other_durations_are_refused(written):
    with pytest.raises(ValueError, match="not a duration"):
        parse_duration(written)


@pytest.mark.parametrize(
    ("ns", "written"),
    [(0, "0s"), (1, "1ms"), (120_000_000, "120ms"), (10**9, "1s"), (360 * 10**9, "6m0s"), (7_660_000_000, "7.66s"),
     (3600 * 10**9, "1h0m0s"), (90_500_000_000, "1m30.5s")],
)  # fmt: skip
def test_go_durations_are_written_as_go_does(ns, written):
    assert go_duration(ns) == written


def test_limits_are_read_from_one_line():
    limit = LimitSpec.parse("tokens/60s=100000:fixed,phase=17s,charge=generated")
    assert (limit.dimension, limit.window, limit.value) == ("tokens", 60 * 10**9, 100_000)
    assert (limit.semantics, limit.phase, limit.charge) == (Semantics.FIXED, 17 * 10**9, Charge.GENERATED)
    assert LimitSpec.parse("requests/60s=60").semantics is Semantics.SLIDING
    assert LimitSpec.parse("requests/day=60").semantics is Semantics.FIXED
    assert LimitSpec.parse("concurrency=5").label == "concurrency"
    assert LimitSpec.parse("requests/60s=60:smoothing,slice=10s").slice_value == 10


@pytest.mark.parametrize(
    ("written", "complaint"),
    [
        ("requests", "is not a limit; write it like"),
        ("requests=5", "needs a window, like requests/60s"),
        ("requests/60s=0", "greater than or equal to 1"),
        ("requests/60s=many", "valid integer"),
        ("requests/soon=5", "not a duration"),
        ("audio_seconds/60s=5", "not audio_seconds"),
        ("requests/60s=5:leaky", "'fixed', 'sliding', 'bucket' or 'smoothing'"),
        ("requests/60s=5:fixed,burst=3", "burst belongs to bucket windows"),
        ("requests/60s=5:sliding,phase=3s", "phase belongs to fixed windows"),
        ("requests/60s=5:charge", "'fixed', 'sliding', 'bucket' or 'smoothing'"),
        ("requests/60s=5:fixed,phase", "'phase' in limit"),
        ("requests/60s=5:smoothing", "less than one per slice; take a longer slice"),
        ("requests/60s=5:fixed,charge=settled", "charge belongs to token limits"),
        ("requests/day=5:fixed,zone=Middle/Earth", "no time zone"),
        ("requests/day=5:fixed,phase=3s", "set zone instead of phase"),
        ("concurrency=5:fixed", "has only a value"),
        ("tokens/60s=5:sliding,charge=later", "'arrival', 'settled' or 'generated'"),
    ],
)
def test_impossible_limits_are_named_with_a_remedy(written, complaint):
    with pytest.raises(SpecError) as wrong:
        VendorSpec.build({"limits": [written]})
    assert complaint in str(wrong.value)
    assert str(wrong.value).startswith("spec: limits.0")


@pytest.mark.parametrize(
    ("settings", "complaint"),
    [
        ({"limit": []}, "limit: no such setting; known are"),
        ({"dialects": []}, "dialects"),
        ({"dialects": ["gemini"]}, "'openai' or 'anthropic'"),
        ({"time_scale": 0}, "time_scale"),
        ({"first_token_s": {"mean": 1, "p95": 9}}, "no log-normal has another"),
        ({"first_token_s": "0.4/0.3"}, "p95 must lie between"),
        ({"tokens_per_s": -1}, "tokens_per_s"),
        ({"starts_at": "2024-01-01T00:00:00"}, "timezone"),
        ({"faults": ["storm,delay=2s"]}, "a storm fault takes code, retry_after; remove delay"),
        ({"faults": ["storm,requests=0-3"]}, "the first request is 1"),
        ({"faults": ["storm,from=9s,until=3s"]}, "until must be later than from"),
        ({"faults": ["limit_cut,requests=3"]}, "by time only"),
        ({"faults": ["earthquake"]}, "'storm'"),
        ({"faults": [{"kind": "storm", "when": 3}]}, "faults.0.when: no such setting"),
        ("limits", "valid dictionary"),
    ],
)
def test_impossible_specs_are_named_with_a_remedy(settings, complaint):
    with pytest.raises(SpecError) as wrong:
        VendorSpec.build(settings)
    assert complaint in str(wrong.value)


def test_a_spec_survives_its_own_yaml(tmp_path):
    spec = VendorSpec.build(
        {
            "dialects": ["openai"],
            "limits": ["requests/60s=60:sliding", "tokens/day=9:fixed,zone=Asia/Shanghai,charge=settled",
                       "requests/1h=100:bucket,burst=7", "concurrency=5"],
            "faults": ["storm,from=30s,until=90.5s", "error,status=529,requests=5-,probability=0.5",
                       "limit_cut,from=1m,factor=0.25,dimension=tokens"],
            "first_token_s": "0.4/1.2",
            "release_lag": "300ms",
            "starts_at": "2024-01-01T00:00:00+08:00",
        }
    )  # fmt: skip
    path = tmp_path / "vendor.yaml"
    path.write_text(spec.as_yaml())
    assert VendorSpec.load(path) == spec
    assert VendorSpec.load(path).as_yaml() == spec.as_yaml()
    changed = VendorSpec.load(path, {"seed": 7, "limits": ["concurrency=1"]})
    assert changed.seed == 7
    assert [limit.label for limit in changed.limits] == ["concurrency"]
    assert changed.faults == spec.faults


def test_unreadable_files_are_named(tmp_path):
    with pytest.raises(SpecError, match="cannot be read"):
        VendorSpec.load(tmp_path / "none.yaml")
    broken = tmp_path / "broken.yaml"
    broken.write_text("limits: [")
    with pytest.raises(SpecError, match="not YAML"):
        VendorSpec.load(broken)
    empty = tmp_path / "empty.yaml"
    empty.write_text("")
    assert VendorSpec.load(empty) == VendorSpec()


def test_a_distribution_has_the_mean_and_p95_it_was_given():
    wanted = Distribution.model_validate("2/5")
    draws = sorted(wanted.draw(chance(3, "draw", i)) for i in range(20_000))
    assert sum(draws) / len(draws) == pytest.approx(2, rel=0.05)
    assert draws[19_000] == pytest.approx(5, rel=0.05)
    assert Distribution(mean=0.25).draw(chance(1)) == 0.25


def test_faults_strike_their_requests_spans_and_keys_and_no_others():
    script = FaultScript(
        [Fault.parse("error,requests=3-4,status=503"), Fault.parse("storm,from=2s,until=3s"),
         Fault.parse("revoked,key=lost"), Fault.parse("error,status=500")], seed=1
    )  # fmt: skip
    assert script.strike(3, 0, "k")[FaultKind.ERROR].status == 503
    assert script.strike(5, 0, "k")[FaultKind.ERROR].status == 500
    assert FaultKind.STORM in script.strike(9, 2_000_000_000, "k")
    assert FaultKind.STORM not in script.strike(9, 3_000_000_000, "k")
    assert FaultKind.STORM not in script.strike(9, 1_999_999_999, "k")
    assert FaultKind.REVOKED in script.strike(1, 0, "lost")
    assert FaultKind.REVOKED not in script.strike(1, 0, "k")


def test_a_fault_by_chance_is_the_same_for_the_same_seed():
    fault = Fault.parse("error,probability=0.2")
    one, same, other = (FaultScript([fault], seed) for seed in (1, 1, 2))
    struck = [bool(one.strike(i, 0, "k")) for i in range(1, 5001)]
    assert struck == [bool(same.strike(i, 0, "k")) for i in range(1, 5001)]
    assert struck != [bool(other.strike(i, 0, "k")) for i in range(1, 5001)]
    assert sum(struck) == pytest.approx(1000, rel=0.1)
