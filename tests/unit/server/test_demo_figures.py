"""The demo's figures: computed from what was seen, right to the call."""

import pytest

from dujiang.server.demo.figures import CallSeen, Result, Run, VendorSeen, figures, percentile, slices


def answered(due: float, ended: float, vendor: float = 1.0) -> CallSeen:
    return CallSeen(due, ended, Result.ANSWERED, vendor)


def vendor(at: float, *, refused: int = 0, tokens: int = 0, charged: int = 0) -> VendorSeen:
    return VendorSeen(at, 10 + refused, refused, 1, 3, tokens, charged, charged // 100)


RUN = Run(
    "direct",
    (
        answered(0, 3),
        answered(1, 12, vendor=2),
        answered(5, 66),
        CallSeen(9, 9.5, Result.REFUSED, reason="429"),
        CallSeen(9, 69, Result.TIMED_OUT, reason="timeout"),
    ),
    (
        vendor(0.1),
        vendor(4, refused=2, tokens=50),
        vendor(9.9, refused=3, tokens=150),
        vendor(25, refused=7, tokens=80),
        vendor(70, refused=8, tokens=0, charged=5000),
    ),
)


def test_figures_count_what_was_seen():
    of = figures(RUN, patience_s=60, tokens_quota=10_000, requests_quota=100)
    assert (of.calls, of.answered, of.in_time, of.failed) == (5, 3, 2, 2)
    assert (of.vendor_429s, of.vendor_requests) == (8, 18)
    assert (of.wait_p50_s, of.wait_p95_s) == (9, 60)
    assert (of.latency_p50_s, of.latency_p95_s) == (11, 61)
    assert (of.tokens_quota_used, of.requests_quota_used) == (0.5, 0.5)


def test_a_run_without_answers_has_figures_too():
    run = Run("direct", (CallSeen(0, 1, Result.FAILED, reason="x"),), (vendor(0),))
    of = figures(run, 60, 1, 1)
    assert (of.answered, of.failed, of.wait_p95_s, of.latency_p50_s) == (0, 1, 0, 0)


def test_percentiles_are_nearest_rank():
    values = [float(n) for n in range(1, 101)]
    assert [percentile(values, p) for p in (0.01, 0.5, 0.95, 1.0)] == [1, 50, 95, 100]
    assert percentile([7.0], 0.5) == 7
    assert percentile([], 0.5) == 0


def test_a_wait_is_never_negative():
    assert answered(0, 0.9, vendor=1.0).wait_s == 0


def test_slices_count_events_where_they_happened():
    cut = slices(RUN, patience_s=60, end_s=70)
    assert cut.due == [5, 0, 0, 0, 0, 0, 0]
    assert cut.in_time == [1, 1, 0, 0, 0, 0, 0]
    assert cut.failed == [1, 0, 0, 0, 0, 0, 2]
    assert cut.refusals == [3, 0, 4, 0, 0, 0, 1]
    assert sum(cut.refusals) == RUN.vendor[-1].refused


def test_slices_average_levels_and_hold_the_last_one_seen():
    cut = slices(RUN, patience_s=60, end_s=70)
    assert cut.tokens_used[:4] == [pytest.approx(200 / 3), pytest.approx(200 / 3), 80, 80]


def test_open_calls_are_the_call_seconds_of_a_slice():
    cut = slices(RUN, patience_s=60, end_s=70)
    assert sum(cut.open_calls) * 10 == pytest.approx(sum(call.latency_s for call in RUN.calls))
    assert cut.open_calls[0] == pytest.approx((3 + 9 + 5 + 0.5 + 1) / 10)
    assert cut.open_calls[3] == pytest.approx(2)


def test_an_event_at_the_very_end_is_in_the_last_slice():
    run = Run("direct", (answered(0, 20),), (vendor(20, refused=1),))
    cut = slices(run, 60, end_s=20)
    assert cut.in_time == [0, 1]
    assert cut.refusals == [0, 1]
