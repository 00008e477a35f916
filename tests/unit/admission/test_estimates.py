"""Token estimates: a size at first, then what this tenant's calls for this model really took."""

from __future__ import annotations

import random

from dujiang.admission import estimates
from dujiang.admission.estimates import TokenEstimator
from dujiang.terms import TenantId

SHOP, BANK = TenantId("shop"), TenantId("bank")


def test_the_first_estimate_is_by_size_and_below_what_the_caller_allows() -> None:
    given, output = TokenEstimator().estimate(SHOP, "m", 3_600, None)
    assert 900 <= given <= 1_201
    assert output == 256
    assert TokenEstimator().estimate(SHOP, "m", 3_600, 10)[1] == 10
    assert TokenEstimator().estimate(SHOP, "m", 0, None)[0] == 1


def test_a_tokenizer_is_asked_until_the_pair_is_known() -> None:
    estimator = TokenEstimator()
    asked = []

    def count() -> int:
        asked.append(1)
        return 777

    assert estimator.estimate(SHOP, "m", 100, None, count)[0] == 777
    assert estimator.estimate(SHOP, "m", 360, None, lambda: None)[0] == 101
    for _ in range(estimates._CALIBRATED_AFTER):
        estimator.learn(SHOP, "m", 400, 100, 20)
    asked.clear()
    given, _ = estimator.estimate(SHOP, "m", 4_000, None, count)
    assert not asked
    assert 980 <= given <= 1_050


def test_it_learns_ratio_and_length_of_each_pair_apart() -> None:
    estimator = TokenEstimator()
    for _ in range(60):
        estimator.learn(SHOP, "m", 1_000, 500, 40)
        estimator.learn(BANK, "m", 1_000, 100, 400)
    shop, bank = (estimator.estimate(tenant, "m", 2_000, None) for tenant in (SHOP, BANK))
    assert 950 <= shop[0] <= 1_010
    assert 195 <= bank[0] <= 205
    assert shop[1] <= 45
    assert 395 <= bank[1] <= 410


def test_it_follows_a_change() -> None:
    estimator = TokenEstimator()
    for _ in range(50):
        estimator.learn(SHOP, "m", 1_000, 250, 10)
    for _ in range(80):
        estimator.learn(SHOP, "m", 1_000, 500, 300)
    given, output = estimator.estimate(SHOP, "m", 1_000, None)
    assert 450 <= given <= 560
    assert output >= 280


def test_most_outputs_stay_within_the_estimate() -> None:
    estimator = TokenEstimator()
    lengths = [(number * 37) % 200 for number in range(400)]
    within = 0
    for length in lengths:
        within += length <= estimator.estimate(SHOP, "m", 100, None)[1]
        estimator.learn(SHOP, "m", 100, 25, length)
    assert 0.65 <= within / len(lengths) <= 0.95


def test_prompts_of_nearly_one_length_say_nothing_wild_of_others() -> None:
    """A hundred times the bytes are about a hundred times the tokens, whatever the noise among the short ones."""
    seed = 1
    dice = random.Random(seed)
    for _ in range(200):
        estimator = TokenEstimator()
        for _ in range(20):
            estimator.learn(SHOP, "m", 400 + dice.randrange(-3, 4), 100 + dice.randrange(-10, 11), 5)
        assert 4_000 <= estimator.estimate(SHOP, "m", 40_000, None)[0] <= 41_000, f"seed {seed}"


def test_what_surrounds_a_prompt_is_not_taken_for_tokens() -> None:
    estimator = TokenEstimator()
    for number in range(60):
        text = 100 + 37 * number % 900
        estimator.learn(SHOP, "m", 200 + text, text // 4, 5)
    assert 260 <= estimator.estimate(SHOP, "m", 1_250, None)[0] <= 300


def test_memory_is_bounded_and_the_least_used_is_forgotten(monkeypatch) -> None:
    monkeypatch.setattr(estimates, "_PAIRS_MAX", 3)
    estimator = TokenEstimator()
    for name in "abc":
        estimator.learn(TenantId(name), "m", 400, 100, 5)
    estimator.learn(TenantId("a"), "m", 400, 100, 5)
    estimator.learn(TenantId("d"), "m", 400, 100, 5)
    assert [tenant for tenant, _ in estimator._pairs] == ["c", "a", "d"]
