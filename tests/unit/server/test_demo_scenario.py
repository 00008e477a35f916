"""The demo's scenario: chosen by its stated rules, from any trace, and accepted by both servers."""

import warnings

import pytest
import yaml

from dujiang.clock import SECOND, seconds
from dujiang.config import parse_config
from dujiang.server.demo.processes import Address
from dujiang.server.demo.prompts import prompt
from dujiang.server.demo.scenario import CALLS_MAX, CONCURRENCY, choose, service_s
from dujiang.server.demo.settings import GATEWAY_KEY, VENDOR_KEY, gateway_config, vendor_spec
from dujiang.simulation.spec import VendorSpec
from dujiang.simulation.traces import Trace, TraceCall
from dujiang.simulation.traffic import conversation_traffic


def trace_of(*calls: tuple[float, int, int], duration_s: float = 600) -> Trace:
    return Trace("made", tuple(TraceCall(round(at * SECOND), *size) for at, *size in calls), round(duration_s * SECOND))


@pytest.mark.parametrize("seed", range(4))
def test_the_mean_need_is_eighty_per_cent_of_every_limit(seed):
    scenario = choose(conversation_traffic(seed), seed)
    assert list(scenario.demand) == ["requests", "tokens", "concurrency"]
    assert list(scenario.demand.values()) == pytest.approx([0.8] * 3, abs=0.02)
    assert scenario.peak_demand > 1
    assert scenario.speed == 20
    assert scenario.patience_s == 60


def test_calls_are_a_part_of_the_trace_in_order_and_repeat_by_seed():
    trace = conversation_traffic(1)
    scenario = choose(trace, 1)
    assert set(scenario.calls) <= set(trace.calls)
    assert list(scenario.calls) == sorted(scenario.calls, key=lambda call: call.at_ns)
    assert scenario == choose(trace, 1)
    assert scenario.calls != choose(trace, 2).calls
    assert scenario.recorded_calls == len(trace.calls)


def test_a_light_trace_is_played_whole():
    trace = trace_of((0, 100, 8), (5, 200, 16), (590, 300, 24))
    scenario = choose(trace, 1)
    assert scenario.calls == trace.calls
    assert scenario.requests_limit == 5
    assert scenario.tokens_limit == 2 * 324


def test_many_small_calls_are_bounded():
    trace = trace_of(*((i * 0.1, 10, 1) for i in range(6000)))
    assert len(choose(trace, 1).calls) == CALLS_MAX


def test_one_huge_call_still_fits_the_token_limit_and_the_patience():
    scenario = choose(trace_of((0, 150_000, 20_000), duration_s=1), 1)
    assert len(scenario.calls) == 1
    assert scenario.tokens_limit >= 2 * 170_000
    assert scenario.patience_s >= 2 * service_s(scenario.calls[0]) > 500
    assert (scenario.duration_s + scenario.patience_s) / scenario.speed <= 35


def test_the_speed_is_as_told():
    assert choose(trace_of((0, 1, 1)), 1, speed=7).speed == 7


def test_peak_demand_is_the_most_within_any_sixty_seconds():
    trace = trace_of((0, 1000, 0), (59.9, 1000, 0), (60, 1000, 0), (300, 500, 0))
    scenario = choose(trace, 1)
    assert scenario.peak_demand == pytest.approx(2000 / scenario.tokens_limit)


def test_the_vendor_takes_its_spec():
    scenario = choose(conversation_traffic(1), 1)
    spec = VendorSpec.build(vendor_spec(scenario))
    assert [(limit.label, limit.value) for limit in spec.limits] == [
        ("requests/60s", scenario.requests_limit),
        ("tokens/60s", scenario.tokens_limit),
        ("concurrency", CONCURRENCY),
    ]
    assert spec.time_scale == scenario.speed


def test_the_gateway_takes_its_configuration_in_compressed_time():
    scenario = choose(conversation_traffic(1), 1)
    gateway, vendor = Address("127.0.0.1", 8700), Address("127.0.0.1", 9100)
    written = yaml.safe_dump(gateway_config(scenario, gateway, vendor, "memory://"))
    assert VENDOR_KEY not in written
    assert GATEWAY_KEY not in written
    config = parse_config(written, {"DEMO_VENDOR_KEY": VENDOR_KEY, "DEMO_GATEWAY_KEY": GATEWAY_KEY})
    limits = config.vendors["simulated"].credentials[0].limits
    assert [limit.window for limit in limits] == [3 * SECOND, 3 * SECOND, None]
    assert [limit.value for limit in limits] == [scenario.requests_limit, scenario.tokens_limit, CONCURRENCY]
    assert seconds(config.queue.max_wait) == scenario.patience_s / scenario.speed


def test_a_compressed_window_is_never_shorter_than_the_vendors():
    scenario = choose(conversation_traffic(1), 1, speed=27.3)
    config = gateway_config(scenario, Address("", 1), Address("", 2), "memory://")
    window = config["vendors"]["simulated"]["credentials"][0]["limits"][0]["window"]
    assert float(window.removesuffix("ms")) >= 60_000 / 27.3


@pytest.fixture(scope="module")
def o200k():
    with warnings.catch_warnings():
        # It reads its own data by a function that importlib has deprecated.
        warnings.simplefilter("ignore", DeprecationWarning)
        import bpe_openai

        return bpe_openai.get_encoding("o200k_base")


@pytest.mark.parametrize("tokens", [1, 17, 1000, 20_000])
def test_a_prompt_has_the_wanted_tokens(tokens, o200k):
    counted = len(o200k.encode(prompt(tokens, seed=1, index=5)))
    assert counted == pytest.approx(tokens, rel=0.01, abs=1)


def test_prompts_differ_and_repeat():
    assert prompt(50, 1, 1) == prompt(50, 1, 1)
    assert len({prompt(50, seed, index) for seed in range(3) for index in range(3)}) == 9
    assert prompt(0, 1, 1)
