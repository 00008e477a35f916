"""The bench itself: its arithmetic, its programs, and that it sees every fault and ends every process."""

import contextlib
import os
import shutil
import signal
import sys
import time
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
import yaml
from bench.figures import Spread, calls_x_nginx, relative, rows, spread
from bench.gateway import Measured, Site, faults_of, measure, started
from bench.goals import Goal, goals
from bench.install import Unavailable
from bench.native import Answers, Counted, Crowd, build, upstream
from bench.processes import Launch, cpu_time_ns, is_alive, memory_bytes, process_tree, running
from bench.rounds import Latency, Pair, Visit, running_order
from bench.targets import TARGETS, Nginx, Place
from bench.targets.dujiang import TENANT_LIMITS, configuration

from bench import __main__ as program
from bench import limits, report, work
from dujiang.config import parse_config

needs_compiler = pytest.mark.skipif(not shutil.which("cc") and not shutil.which("gcc"), reason="no C compiler here")

# A relay that only passes bytes on: the least a gateway can be.
RELAY = """
import asyncio, sys
async def pass_on(reader, writer):
    while data := await reader.read(65536):
        writer.write(data)
    writer.close()
async def serve(reader, writer):
    there = await asyncio.open_connection("127.0.0.1", int(sys.argv[2]))
    await asyncio.gather(pass_on(reader, there[1]), pass_on(there[0], writer))
async def main():
    await (await asyncio.start_server(serve, "127.0.0.1", int(sys.argv[1]))).serve_forever()
asyncio.run(main())
"""


class Relay:
    name = "relay"
    work = "passes bytes on"

    def install(self, cache: Path) -> str:
        return "1"

    def launch(self, place: Place) -> Launch:
        return Launch((sys.executable, "-c", RELAY, str(place.port), str(place.upstream_port)))

    def request(self, place: Place, *, stream: bool) -> bytes:
        return work.bearer_request(work.VENDOR_KEY, stream=stream)


class Failing(Relay):
    def launch(self, place: Place) -> Launch:
        return Launch((sys.executable, "-c", "print('no such setting: colour'); raise SystemExit(3)"))


@pytest.fixture(scope="module")
def programs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build(tmp_path_factory.mktemp("cache"))


@pytest.fixture
def site(programs: Path, tmp_path: Path):
    with upstream(programs, tmp_path, pace_ms=1) as vendor:
        yield Site(programs, vendor, tmp_path)


def answers(**changed) -> Answers:
    plain = Answers(100, 100, 0, 0, 0, 0, 0, 0, 10**9, 0, {"p50": 1_000_000, "p99": 2_000_000}, {"200": 100})
    return replace(plain, **changed)


def counted(**changed) -> Counted:
    return replace(Counted(100, 0, 0, 0, 0, 0, 0, 0, 0), **changed)


def measured(cpu_us: float, *faults: str, p50_us: int = 1000) -> Measured:
    told = answers(latency_ns={"p50": p50_us * 1000, "p99": p50_us * 2000})
    return Measured(told, counted(), round(cpu_us * 1000 * told.answered), faults)


def visit(target: str, number: int, nginx_us: float, own_us: float, *faults: str, **changed) -> Visit:
    pair = Pair(measured(nginx_us), measured(own_us, *faults))
    direct, through = measured(0, p50_us=100), measured(own_us, p50_us=300 + number)
    plain = Visit(target, number, 0.5 + number, measured(own_us), 70.0, (pair,), (pair,), Latency(200, direct, through))
    return replace(plain, **changed)


class TestFigures:
    def test_the_ratio_is_the_median_of_pairs_not_the_ratio_of_medians(self):
        visits = [visit("dujiang", 0, 10, 30), visit("dujiang", 1, 20, 50), visit("dujiang", 2, 40, 160)]
        (row,) = rows(visits, ["dujiang"])
        assert row.calls_x_nginx == spread([3.0, 2.5, 4.0]) == Spread(3.0, 2.5, 4.0)
        assert row.call_cpu_us == Spread(50, 30, 160)

    def test_a_pair_with_a_fault_does_not_count_and_is_told(self):
        visits = [visit("dujiang", 0, 10, 30), visit("dujiang", 1, 10, 1, "50 of 100 answers were 500")]
        (row,) = rows(visits, ["dujiang"])
        assert row.calls_x_nginx == Spread(3.0, 3.0, 3.0)
        assert row.faults == ("calls: 50 of 100 answers were 500", "streams: 50 of 100 answers were 500")

    def test_pairs_that_had_their_core_to_themselves_are_preferred_when_there_are_enough(self):
        alone, disturbed = [visit("a", n, 10_000, 10_000) for n in range(3)], visit("a", 3, 100, 200)
        assert rows([*alone, disturbed], ["a"])[0].calls_x_nginx == Spread(1.0, 1.0, 1.0)
        assert rows([*alone[1:], disturbed], ["a"])[0].calls_x_nginx == Spread(1.0, 1.0, 2.0)

    def test_the_same_fault_with_other_counts_is_told_once(self):
        visits = [visit("a", n, 10, 30, f"{n} of 9 answers were 500", f"{n} of 9 answers were 429") for n in (1, 2)]
        assert [fault for fault in rows(visits, ["a"])[0].faults if fault.startswith("calls")] == [
            "calls: 1 of 9 answers were 500",
            "calls: 1 of 9 answers were 429",
        ]

    def test_nothing_is_made_up_where_all_pairs_failed(self):
        (row,) = rows([visit("portkey", 0, 10, 1, "all refused")], ["portkey"])
        assert row.calls_x_nginx is None
        assert row.call_cpu_us is None
        assert row.calls_per_s is None

    def test_added_latency_is_less_the_direct_call_and_untouched_by_one_disturbed_run(self):
        disturbed = Latency(200, measured(0, p50_us=9000), measured(1, p50_us=300))
        visits = [visit("a", 0, 1, 1), visit("a", 1, 1, 1), visit("a", 2, 1, 1, latency=disturbed)]
        (row,) = rows(visits, ["a"])
        assert row.added_p50_us == pytest.approx(200)
        assert row.added_p99_us == pytest.approx(400)

    def test_targets_are_compared_through_nginx(self):
        own, other = rows([visit("dujiang", 0, 10, 30), visit("ferrogw", 0, 20, 240)], ["dujiang", "ferrogw"])
        assert relative(own, other, calls_x_nginx) == pytest.approx(0.25)
        assert relative(own, None, calls_x_nginx) is None

    def test_rounds_alternate_their_order(self):
        first, second = running_order([*TARGETS.values()], 0), running_order([*TARGETS.values()], 1)
        assert [target.name for target in first] == list(TARGETS)
        assert first == second[::-1]


class TestGoals:
    def test_each_promise_is_judged_by_its_own_figure(self):
        visits = [
            visit("dujiang", 0, 10, 30, cold_start_s=1.2),
            visit("ferrogw", 0, 10, 80),
            visit("litellm", 0, 10, 2000),
        ]
        judged = {goal.what: goal.verdict for goal in goals(rows(visits, ["dujiang", "ferrogw", "litellm"]))}
        assert list(judged.values()) == ["held", "missed", "missed", "held", "held", "missed"]

    def test_what_was_not_measured_is_neither_held_nor_missed(self):
        judged = [goal.verdict for goal in goals(rows([visit("dujiang", 0, 10, 30)], ["dujiang"]))]
        assert judged == ["held", "missed", "not measured", "not measured", "held", "held"]
        assert goals(rows([visit("nginx", 0, 10, 10)], ["nginx"])) == []
        assert Goal("x", 4, "×", 4.0).verdict == "held"


class TestLimits:
    def test_the_fullest_window_is_found_at_any_phase(self):
        assert limits.most_in_a_window([], 100) == 0
        assert limits.most_in_a_window([0, 99, 100, 150, 199, 350], 100) == 3
        assert limits.most_in_a_window([0, 100], 100) == 1
        assert limits.most_in_a_window([0, 99], 100) == 2

    def test_use_is_counted_over_whole_windows(self):
        assert limits.share_used([], 10, 100, 2) == 0
        assert limits.share_used([0, 1, 2, 100, 101, 199, 200], 4, 100, 2) == pytest.approx(6 / 8)

    def test_a_limit_must_be_kept_and_used(self):
        assert limits.LimitKept("requests", 1, 100, 100, 0.95).verdict == "held"
        assert limits.LimitKept("requests", 2, 100, 101, 1.0).verdict == "missed"
        assert limits.LimitKept("requests", 2, 100, 90, 0.94).verdict == "missed"
        assert limits.LimitKept("requests", 2, 100, 0, 0, "it ended at once").verdict == "not measured"


class TestFaults:
    def test_a_sound_visit_has_none(self):
        assert faults_of(answers(), counted()) == ()

    @pytest.mark.parametrize(
        ("came_back", "seen", "told"),
        [
            ({"statuses": {"200": 90, "429": 10}}, {}, "10 of 100 answers were 429"),
            ({"lost": 3}, {}, "3 calls lost their connection"),
            ({"unanswered": 2}, {}, "2 calls had no answer in time"),
            ({"never_sent": 5}, {}, "5 calls found no free connection"),
            ({}, {"wrong_keys": 1}, "1 calls reached the upstream with a wrong key"),
            ({}, {"broken_streams": 4}, "4 streams were broken off at the upstream"),
            ({}, {"calls": 103}, "100 calls were sent, 103 reached the upstream"),
        ],
    )
    def test_each_fault_is_told(self, came_back, seen, told):
        assert told in faults_of(answers(**came_back), counted(**seen))


class TestWork:
    def test_the_work_has_the_sizes_the_documentation_names(self):
        assert len(work.call_body(stream=False)) == 929
        assert len(work.answer_body()) == 1468
        assert work.stream_events().count(b"\n\n") == work.EVENTS == 52
        assert work.stream_events().endswith(b"data: [DONE]\n\n")

    def test_the_configuration_of_dujiang_is_one_dujiang_accepts(self, tmp_path):
        text = yaml.safe_dump(configuration(Place(tmp_path, 8700, 9100), TENANT_LIMITS, workers=2))
        config = parse_config(text, {"BENCH_VENDOR_KEY": work.VENDOR_KEY, "BENCH_TENANT_KEY": work.TENANT_KEY})
        assert config.server.workers == 2
        assert len(config.plans["bench"].limits) == 4
        assert len(config.vendors["upstream"].credentials[0].limits) == 3


@needs_compiler
class TestPrograms:
    def test_a_closed_loop_is_counted_alike_on_both_sides(self, site):
        request = site.folder / "direct.http"
        request.write_bytes(work.bearer_request(work.VENDOR_KEY, stream=False))
        visit = measure(site, site.upstream.port, request, Crowd(8, seconds=5, count=500))
        assert visit.faults == ()
        assert visit.answers.answered == visit.counted.calls == 500
        assert visit.answers.bytes == 500 * 1468
        arrivals = site.upstream.arrivals_ns()
        assert len(arrivals) == 500
        assert arrivals == sorted(arrivals)

    def test_a_stream_arrives_with_every_event_and_at_its_pace(self, site):
        request = site.folder / "stream.http"
        request.write_bytes(work.bearer_request(work.VENDOR_KEY, stream=True))
        visit = measure(site, site.upstream.port, request, Crowd(4, seconds=5, count=12))
        assert visit.faults == ()
        assert visit.answers.events == 12 * work.EVENTS
        assert visit.counted.streams == 12
        assert visit.counted.most_in_flight <= 4
        assert visit.answers.latency_ns["p50"] >= 50 * 1_000_000
        assert visit.counted.stream_ns >= 12 * 50 * 1_000_000

    def test_an_open_loop_keeps_its_timetable(self, site):
        request = site.folder / "direct.http"
        request.write_bytes(work.bearer_request(work.VENDOR_KEY, stream=False))
        visit = measure(site, site.upstream.port, request, Crowd(8, seconds=0.5, rate=200))
        assert visit.faults == ()
        assert visit.answers.answered == 100

    def test_latency_counts_from_the_scheduled_instant(self, site):
        """One connection, streams of 50 ms, one due every 10 ms: each waits for those before it."""
        request = site.folder / "stream.http"
        request.write_bytes(work.bearer_request(work.VENDOR_KEY, stream=True))
        visit = measure(site, site.upstream.port, request, Crowd(1, seconds=0.05, rate=100, drain_s=5))
        assert visit.answers.answered == 5
        assert visit.answers.latency_ns["most"] >= (5 * 50 - 4 * 10) * 1_000_000

    def test_a_wrong_key_is_seen_on_both_sides(self, site):
        request = site.folder / "wrong.http"
        request.write_bytes(work.bearer_request("sk-somebody-else", stream=False))
        visit = measure(site, site.upstream.port, request, Crowd(2, seconds=5, count=10))
        assert visit.faults == (
            "10 of 10 answers were 401",
            "10 calls reached the upstream with a wrong key",
        )

    def test_a_gateway_is_started_measured_and_ended(self, site):
        with started(site, Relay()) as gateway:
            visit = measure(site, gateway.port, gateway.call_request, Crowd(4, seconds=10, count=200), gateway.pid)
            streams = measure(site, gateway.port, gateway.stream_request, Crowd(4, seconds=10, count=8), gateway.pid)
            assert 1 < gateway.memory_mb() < 500
        assert visit.faults == streams.faults == ()
        assert streams.answers.events == 8 * work.EVENTS
        assert 1 < visit.cpu_us_per_call < 100_000
        assert gateway.cold_start_s > 0.01
        assert process_tree(gateway.pid) == []

    def test_a_gateway_that_ends_at_once_is_unavailable_with_its_last_words(self, site):
        with pytest.raises(Unavailable, match="it ended at once: no such setting: colour"), started(site, Failing()):
            pass

    def test_a_port_where_nobody_listens_is_an_error(self, site):
        request = site.folder / "direct.http"
        request.write_bytes(work.bearer_request(work.VENDOR_KEY, stream=False))
        with pytest.raises(RuntimeError, match="cannot connect"):
            measure(site, 1, request, Crowd(1, seconds=1))


class TestProcesses:
    def test_cpu_time_of_children_counts_and_all_end_with_the_block(self, tmp_path):
        spin = "import subprocess, sys; subprocess.run([sys.executable, '-c', 'while True: pass'])"
        members: list[int] = []
        with (
            contextlib.suppress(ZeroDivisionError),
            running(Launch((sys.executable, "-c", spin)), (0, 1), tmp_path / "log", patience_s=0.2) as pid,
        ):
            give_up = time.perf_counter() + 20
            while len(process_tree(pid)) < 2 or cpu_time_ns(pid) < 200_000_000:
                assert time.perf_counter() < give_up
            members = process_tree(pid)
            assert memory_bytes(pid) > 1_000_000
            raise ZeroDivisionError
        assert len(members) == 2
        assert not any(is_alive(member) for member in members)

    def test_a_missing_program_is_named(self, tmp_path):
        with (
            pytest.raises(FileNotFoundError, match="no-such-gateway is not there"),
            running(Launch(("no-such-gateway",)), (0,), tmp_path / "log"),
        ):
            pass


class TestProgram:
    def test_an_unknown_target_is_refused_with_the_known_ones(self, capsys):
        with pytest.raises(SystemExit):
            program.main(["--targets", "nginx,envoy"])
        assert "no target is called envoy; there are nginx, dujiang" in capsys.readouterr().err

    def test_a_target_that_cannot_be_had_stays_in_every_table(self):
        run = report.Run({"cores": 2}, {"dujiang": "0.1"}, {}, {"targets": ["dujiang", "portkey"], "rounds": 1})
        run.unavailable["portkey"] = "needs Node and npm: apt-get install nodejs npm"
        run.rows = rows([visit("dujiang", 0, 10, 30)], ["dujiang"])
        run.goals = goals(run.rows)
        told = report.markdown(run)
        assert told.count("| portkey |") == 2
        assert "- portkey: not measured; needs Node and npm: apt-get install nodejs npm" in told
        assert "| dujiang 0.1 | 3.00 (3.00–3.00) |" in told
        assert b'"verdict": "held"' in report.json_bytes(run)

    @needs_compiler
    @pytest.mark.skipif(not Nginx.found(), reason="nginx is not installed here")
    def test_a_run_with_nginx_alone_measures_and_ends_all_it_started(self, tmp_path, capsys, monkeypatch):
        monkeypatch.setattr(program, "upstream", partial(upstream, pace_ms=1))
        before = set(process_tree(os.getpid()))
        handlers = {ending: signal.getsignal(ending) for ending in (signal.SIGINT, signal.SIGTERM)}
        options = ["--targets", "nginx", "--rounds", "1", "--seconds", "0.5", "--cache", str(tmp_path / "cache")]
        outputs = ["--json", str(tmp_path / "out.json"), "--markdown", str(tmp_path / "out.md")]
        try:
            assert program.main([*options, *outputs]) == 0
        finally:
            for ending, handler in handlers.items():
                signal.signal(ending, handler)
        told = capsys.readouterr().out
        assert "nginx" in told
        assert "not measured" not in told
        assert (tmp_path / "out.md").read_text().count("| nginx") == 2
        assert (tmp_path / "out.json").stat().st_size > 1000
        assert set(process_tree(os.getpid())) <= before
