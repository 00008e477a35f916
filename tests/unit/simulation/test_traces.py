"""Trace files: every published format is read, every mistake names its file, line and remedy."""

import gzip
import math
from collections import Counter
from pathlib import Path
from statistics import mean, pvariance

import pytest

from dujiang.clock import SECOND
from dujiang.simulation.traces import Trace, TraceCall, TraceError, read_trace
from dujiang.simulation.traffic import CALLS_PER_S, SIZE_BANDS, conversation_traffic

AZURE = (
    "TIMESTAMP,ContextTokens,GeneratedTokens\r\n"
    "2023-11-16 23:59:59.6805900,374,44\r\n"
    "2023-11-17 00:00:00.9951690,396,109\r\n"
    "2023-11-17 00:00:01.2224670,879,55"
)
MOONCAKE = (
    '{"timestamp": 0, "input_length": 40160, "output_length": 6, "hash_ids": [0, 1]}\n'
    "\n"
    '{"timestamp": 2500, "input_length": 12, "output_length": 700, "hash_ids": []}\n'
)


def written(tmp_path: Path, content: str | bytes, name: str = "trace.csv") -> Path:
    path = tmp_path / name
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def sizes(trace: Trace) -> list[tuple[int, int]]:
    return [(call.input_tokens, call.output_tokens) for call in trace.calls]


def test_azure_csv_as_published_with_seven_digits_crlf_and_no_last_newline(tmp_path):
    trace = read_trace(written(tmp_path, AZURE))
    assert sizes(trace) == [(374, 44), (396, 109), (879, 55)]
    assert [call.at_ns for call in trace.calls] == [0, 1_314_579_000, 1_541_877_000]


def test_azure_2024_csv_has_times_with_a_zone(tmp_path):
    content = (
        "TIMESTAMP,ContextTokens,GeneratedTokens\n"
        "2024-05-10 00:00:00.009930+00:00,2162,5\n"
        "2024-05-10 00:00:01+00:00,2399,6\n"
    )
    trace = read_trace(written(tmp_path, content))
    assert [call.at_ns for call in trace.calls] == [0, 990_070_000]


def test_seconds_csv_ignores_other_columns_their_order_and_a_byte_order_mark(tmp_path):
    trace = read_trace(written(tmp_path, "\ufeffout,prompt_sha1,t,in\n8,abc,6.011,178\n0,def,6.917,258\n"))
    assert trace.calls == (TraceCall(0, 178, 8), TraceCall(906_000_000, 258, 0))


def test_servegen_arrivals_keep_the_client(tmp_path):
    trace = read_trace(written(tmp_path, "t,in,out,client\n0.0,185,375,23\n0.5,145,6426,35\n"))
    assert [call.client for call in trace.calls] == ["23", "35"]


def test_plain_csv(tmp_path):
    trace = read_trace(written(tmp_path, "arrival_s,input_tokens,output_tokens\n100,7,8\n101.25,9,10\n"))
    assert trace.calls == (TraceCall(0, 7, 8), TraceCall(1_250_000_000, 9, 10))


@pytest.mark.parametrize("packed", [False, True])
def test_mooncake_lines_are_in_milliseconds_and_may_be_gzipped_whatever_the_name(tmp_path, packed):
    content = gzip.compress(MOONCAKE.encode()) if packed else MOONCAKE.encode()
    trace = read_trace(written(tmp_path, content, "trace.txt"))
    assert trace.calls == (TraceCall(0, 40160, 6), TraceCall(2_500_000_000, 12, 700))


def test_only_the_asked_time_is_read_and_a_mistake_behind_it_is_not_met(tmp_path):
    content = "t,in,out\n5,1,1\n14,2,2\n15,3,3\nbroken\n"
    trace = read_trace(written(tmp_path, content), duration_s=10)
    assert sizes(trace) == [(1, 1), (2, 2)]
    assert trace.duration_ns == 10 * SECOND
    assert trace.rate == pytest.approx(0.2)


def test_a_shorter_trace_lasts_until_its_last_call(tmp_path):
    trace = read_trace(written(tmp_path, "t,in,out\n0,1,1\n3,1,1\n"), duration_s=600)
    assert trace.duration_ns == 4 * SECOND


@pytest.mark.parametrize(
    ("content", "line", "says"),
    [
        ("t,in,out\n0,1,1\nzero,1,1\n", 3, "t is 'zero'"),
        ("t,in,out\n0,1,1\nnan,1,1\n", 3, "finite"),
        ("t,in,out\n0,1,one\n", 2, "out is 'one'"),
        ("t,in,out\n0,-1,1\n", 2, "in is -1"),
        ("t,in,out\n0,1.5,1\n", 2, "in is '1.5'"),
        ("t,in,out\n0,1\n", 2, "2 fields where the header has 3"),
        ("t,in,out\n5,1,1\n4,1,1\n", 3, "Sort the file"),
        ("in,out\n3772,54\n", 1, "in, out"),
        ("role,offset_ms,text\na,1,hello\n", 1, "TIMESTAMP,ContextTokens,GeneratedTokens"),
        (AZURE.replace("2023-11-17 00:00:00.9951690", "yesterday"), 3, "TIMESTAMP is 'yesterday'"),
        (MOONCAKE.replace("12", '"12"'), 3, "input_length"),
        (MOONCAKE.replace(' "output_length": 700,', ""), 3, "output_length"),
        (MOONCAKE.replace("2500", "-1"), 3, "Sort the file"),
        ("{broken\n", 1, "Mooncake"),
    ],
)
def test_a_mistake_is_named_with_its_line(tmp_path, content, line, says):
    path = written(tmp_path, content)
    with pytest.raises(TraceError) as caught:
        read_trace(path)
    assert str(caught.value).startswith(f"{path}:{line}: ")
    assert says in str(caught.value)


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ("", "is empty"),
        ("t,in,out\n", "no calls"),
        (b"\xff\xfe\x00t,in,out", "UTF-8"),
        (b"\x1f\x8bnot gzip at all", "cannot be read"),
        (gzip.compress(b"t,in,out\n" + b"1,1,1\n" * 1000)[:-20], "cannot be read"),
        ('t,in,out\n0,1,"' + "1" * 200_000 + '"\n', "not a CSV"),
    ],
)
def test_a_file_that_is_no_trace_says_so(tmp_path, content, says):
    with pytest.raises(TraceError, match=says):
        read_trace(written(tmp_path, content))


def test_a_missing_file_says_so(tmp_path):
    with pytest.raises(TraceError, match="No such file"):
        read_trace(tmp_path / "absent.csv")


def test_traffic_is_the_same_for_the_same_seed_and_another_for_another():
    assert conversation_traffic(3) == conversation_traffic(3)
    assert conversation_traffic(3).calls != conversation_traffic(4).calls


def test_traffic_lasts_as_asked_in_order():
    arrivals = [call.at_ns for call in conversation_traffic(5, 61.0).calls]
    assert arrivals == sorted(arrivals)
    assert 0 <= arrivals[0] < arrivals[-1] < 61 * SECOND


def test_traffic_has_the_published_sizes():
    """Figures of AzureLLMInferenceTrace_conv.csv: mean 1,155 / 211, medians 1,020 / 129."""
    calls = [call for seed in range(3) for call in conversation_traffic(seed, 2000).calls]
    inputs = sorted(call.input_tokens for call in calls)
    outputs = sorted(call.output_tokens for call in calls)

    def at(values: list[int], share: float) -> int:
        return values[int(share * len(values))]

    assert mean(inputs) == pytest.approx(1155, rel=0.04)
    assert mean(outputs) == pytest.approx(211, rel=0.04)
    assert [at(inputs, p) for p in (0.5, 0.9)] == pytest.approx([1020, 2735], rel=0.06)
    assert [at(outputs, p) for p in (0.5, 0.9, 0.99)] == pytest.approx([129, 424, 601], rel=0.08)
    assert sum(band.share for band in SIZE_BANDS) == pytest.approx(1, abs=0.001)


def test_traffic_has_the_published_rate_and_burstiness():
    """Variance over mean of the calls in 1 s, 10 s and 60 s: 1.39, 3.86 and 16.1 in the trace; Poisson has 1."""
    ratios: dict[int, list[float]] = {1: [], 10: [], 60: []}
    rates = []
    for seed in range(8):
        trace = conversation_traffic(seed, 3500)
        rates.append(trace.rate)
        for width, seen in ratios.items():
            counts = Counter(call.at_ns // (width * SECOND) for call in trace.calls)
            per_cell = [counts[cell] for cell in range(math.floor(3500 / width))]
            seen.append(pvariance(per_cell) / mean(per_cell))
    assert mean(rates) == pytest.approx(CALLS_PER_S, rel=0.12)
    assert mean(ratios[1]) == pytest.approx(1.39, rel=0.12)
    assert mean(ratios[10]) == pytest.approx(3.86, rel=0.25)
    assert mean(ratios[60]) == pytest.approx(16.1, rel=0.35)
