"""What an account charges under each rule, and what it keeps of it for the statistics."""

from __future__ import annotations

import pytest

from dujiang.simulation.account import Account, Admission, Refusal
from dujiang.simulation.refusals import limit_headers, refused_by
from dujiang.simulation.series import Series, add
from dujiang.simulation.spec import VendorSpec

SECOND = 10**9


def account(*limits, **settings):
    return Account(VendorSpec.build({"limits": list(limits), **settings}), 0)


def used(subject, now):
    return [limit.meter.used(now) for limit in subject.limits]


def admitted(outcome):
    assert isinstance(outcome, Admission)
    return outcome


@pytest.mark.parametrize(
    ("charge", "at_arrival", "at_the_end"), [("arrival", 150, 150), ("settled", 150, 110), ("generated", 100, 110)]
)
def test_tokens_are_charged_by_the_rule(charge, at_arrival, at_the_end):
    subject = account(f"tokens/60s=1000:sliding,charge={charge}", "requests/60s=10")
    call = admitted(subject.admit(0, 100, 50))
    assert used(subject, 0) == [at_arrival, 1]
    subject.generate(SECOND, call, 10)
    subject.finish(2 * SECOND, call)
    assert used(subject, 2 * SECOND) == [at_the_end, 1]
    assert subject.limits[0].charged == at_the_end


def test_what_settles_late_is_not_given_back_to_another_window():
    subject = account("tokens/60s=1000:fixed,charge=settled")
    call = admitted(subject.admit(59 * SECOND, 100, 500))
    other = admitted(subject.admit(61 * SECOND, 100, 0))
    subject.finish(62 * SECOND, call)
    subject.finish(62 * SECOND, other)
    assert used(subject, 62 * SECOND) == [100]


def test_an_unbounded_call_reserves_what_the_spec_says_and_settles_upwards():
    subject = account("tokens/60s=1000:sliding,charge=settled", unset_max_tokens=40)
    call = admitted(subject.admit(0, 100, None))
    assert used(subject, 0) == [140]
    subject.generate(0, call, 90)
    subject.finish(0, call)
    assert used(subject, 0) == [190]


def test_a_limit_of_generated_output_refuses_when_nothing_is_left():
    subject = account("output_tokens/60s=100:sliding,charge=generated")
    call = admitted(subject.admit(0, 5, 1000))
    subject.generate(SECOND, call, 130)
    refusal = subject.admit(2 * SECOND, 5, 1000)
    assert isinstance(refusal, Refusal)
    assert refusal.wait_ns == 59 * SECOND
    assert subject.limits[0].peak == 130
    assert subject.limits[0].violations == 0
    admitted(subject.admit(61 * SECOND, 5, 1000))


def test_refused_requests_may_count_and_then_lock_out_whoever_hammers():
    forgiving, strict = account("requests/60s=2"), account("requests/60s=2", refused_count=True)
    for subject, expected in ((forgiving, 0), (strict, 58)):
        outcomes = [subject.admit(second * SECOND, 1, 1) for second in range(61)]
        assert sum(isinstance(o, Refusal) for o in outcomes[:60]) == 58
        assert isinstance(outcomes[60], Refusal) == bool(expected)


def test_a_silent_cut_takes_effect_at_its_own_instant_and_ends_again():
    subject = account("requests/10s=4:bucket", faults=["limit_cut,from=10s,until=20s,factor=0.5"])
    assert [isinstance(subject.admit(0, 1, 1), Admission) for _ in range(5)] == [True] * 4 + [False]
    # Refilled to 4 at the old rate by 10 s, then cut to 2.
    assert [isinstance(subject.admit(12 * SECOND, 1, 1), Admission) for _ in range(3)] == [True, True, False]
    subject.advance(20 * SECOND)
    assert subject.limits[0].meter.value == 4


def test_the_refusal_names_the_limit_that_holds_out_longest():
    subject = account("requests/1s=1:sliding", "tokens/60s=100:sliding")
    admitted(subject.admit(0, 90, 0))
    refusal = subject.admit(0, 20, 0)
    assert isinstance(refusal, Refusal)
    assert refusal.limit.label == "tokens/60s"
    assert refusal.wait_ns == 60 * SECOND
    told = refused_by(refusal, "m", 1)
    assert "tokens per min (TPM): Limit 100, Requested 20. Please try again in 1m0s." in told.message
    assert refused_by(refusal, "m", 7).retry_after_ns == -(-60 * SECOND // 7)


def test_headers_tell_the_scarcest_limit_of_each_kind_and_never_a_cut():
    subject = account("requests/60s=60:sliding", "requests/day=10", "tokens/60s=1000", "output_tokens/60s=100",
                      faults=["limit_cut,from=1s,factor=0.1"])  # fmt: skip
    admitted(subject.admit(0, 100, 60))
    told = dict(limit_headers("openai", subject, 2 * SECOND, 0, 1))
    assert told[b"x-ratelimit-limit-requests"] == b"10"
    assert told[b"x-ratelimit-remaining-requests"] == b"9"
    assert told[b"x-ratelimit-limit-tokens"] == b"100"
    assert told[b"x-ratelimit-remaining-tokens"] == b"40"
    assert told[b"x-ratelimit-reset-tokens"] == b"58s"


def test_a_series_forgets_nothing_and_stays_small():
    series = Series(SECOND, (add, max), most=10)
    for second in range(1000):
        cell = series.at(second * SECOND, (0, 0))
        cell[0] += 1
        cell[1] = max(cell[1], second)
    assert len(series.cells) <= 10
    assert sum(series.column(0)) == 1000
    assert max(series.column(1)) == 999
    assert series.width_ns == 128 * SECOND
    series.at(10**6 * SECOND, (0, 0))
    assert len(series.cells) <= 10
    assert sum(series.column(0)) == 1000
