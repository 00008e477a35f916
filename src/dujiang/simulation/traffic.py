"""Made-up chat traffic that arrives and is sized as the published Azure conversation trace.

The figures below were measured on AzureLLMInferenceTrace_conv.csv of 2023 (19,366 calls in 3,502 s; CC-BY
4.0, https://github.com/Azure/AzurePublicDataset at b469a113), the trace of Patel et al., "Splitwise:
Efficient Generative LLM Inference Using Phase Splitting" (ISCA 2024, arXiv:2311.18677), which gives its
medians of 1,020 tokens in and 129 out.

| of the published trace | |
|---|---|
| calls a second | 5.53, gaps with a coefficient of variation of 1.09 |
| variance over mean of the calls in 1 s, 10 s, 60 s (Poisson: 1) | 1.39, 3.86, 16.1 |
| busiest 1 s, 10 s, 60 s over the mean | 2.9, 1.8, 1.5 |
| autocorrelation of the calls in 10 s after 10 s, 1 min, 5 min | 0.69, 0.59, 0.42 |
| tokens in: mean, p50, p90, p99 | 1,155, 1,020, 2,735, 4,142 |
| tokens out: mean, p50, p90, p99 | 211, 129, 424, 601 |
"""

from __future__ import annotations

import math
import random
from bisect import bisect_right
from dataclasses import dataclass
from itertools import accumulate
from typing import Final

from dujiang.clock import nanoseconds
from dujiang.simulation.traces import Trace, TraceCall

CALLS_PER_S: Final = 19_366 / 3_501.7

# The logarithm of the rate is the sum of two Ornstein-Uhlenbeck processes (standard deviation, memory in s):
# a slow tide and short gusts. Fitted to the variance ratios and autocorrelations above.
TIDE: Final = (0.23, 900.0)
GUSTS: Final = (0.165, 3.0)
STEP_S: Final = 0.1

QUANTILES: Final = (0.0, 0.05, 0.25, 0.5, 0.75, 0.95, 0.99, 1.0)


@dataclass(frozen=True, slots=True)
class SizeBand:
    """Calls of alike prompts: their share of all calls, and their tokens in and out at each of `QUANTILES`.

    Within a band the answer hardly depends on the prompt; across the bands it does, which one pair of
    distributions would lose (prompts of about 1,000 tokens get the long answers).
    """

    share: float
    input_tokens: tuple[int, ...]
    output_tokens: tuple[int, ...]


SIZE_BANDS: Final = (
    SizeBand(0.0356, (2, 9, 27, 91, 126, 169, 175, 178), (11, 12, 77, 140, 176, 217, 231, 265)),
    SizeBand(0.0997, (180, 181, 191, 203, 212, 242, 255, 299), (14, 18, 97, 161, 183, 217, 296, 1000)),
    SizeBand(0.2590, (300, 371, 387, 398, 408, 435, 461, 498), (7, 51, 81, 93, 107, 145, 181, 739)),
    SizeBand(0.0145, (501, 530, 650, 733, 793, 843, 849, 849), (10, 39, 66, 89, 110, 140, 436, 649)),
    SizeBand(0.3615, (851, 932, 1020, 1065, 1115, 1193, 1236, 1249), (27, 86, 390, 403, 427, 548, 652, 1000)),
    SizeBand(0.0519, (1250, 1264, 1312, 1315, 1320, 1364, 1388, 1399), (26, 56, 138, 172, 216, 419, 523, 918)),
    SizeBand(0.0839, (1400, 1459, 1745, 2118, 2481, 2783, 2935, 2995), (15, 43, 66, 88, 113, 164, 396, 594)),
    SizeBand(0.0105, (3000, 3042, 3185, 3375, 3695, 3920, 3970, 3984), (25, 46, 67, 99, 132, 170, 211, 237)),
    SizeBand(0.0834, (4004, 4074, 4079, 4085, 4096, 4975, 6352, 14050), (17, 29, 41, 54, 77, 150, 294, 757)),
)
_SHARES: Final = tuple(accumulate(band.share for band in SIZE_BANDS))


def conversation_traffic(seed: int, duration_s: float = 600.0) -> Trace:
    """Return chat calls with the rate, burstiness and sizes of the published trace; a seed gives one traffic.

    Arrivals are a Poisson process whose rate drifts and gusts (a Cox process), drawn by thinning; sizes are
    drawn by band, then between the measured quantiles of that band.
    """
    # Reproducible traffic is the point of the seed; nothing here guards a secret.
    drawn = random.Random(f"arrivals {seed}")  # noqa: S311
    sizes = random.Random(f"sizes {seed}")  # noqa: S311
    calls = tuple(TraceCall(nanoseconds(at_s), *_sizes(sizes)) for at_s in _arrivals(drawn, duration_s, CALLS_PER_S))
    return Trace("azure-conversation-2023", calls, nanoseconds(duration_s))


def _arrivals(drawn: random.Random, duration_s: float, calls_per_s: float) -> list[float]:
    processes = (TIDE, GUSTS)
    levels = [drawn.gauss(0.0, deviation) for deviation, _ in processes]
    # The mean of exp(x) is exp(variance / 2): taken off, so that the mean rate is the one asked for.
    excess = sum(deviation**2 for deviation, _ in processes) / 2
    arrivals: list[float] = []
    for step in range(math.ceil(duration_s / STEP_S)):
        rate = calls_per_s * math.exp(sum(levels) - excess)
        at_s = step * STEP_S + drawn.expovariate(rate)
        end_s = min((step + 1) * STEP_S, duration_s)
        while at_s < end_s:
            arrivals.append(at_s)
            at_s += drawn.expovariate(rate)
        for index, (deviation, memory_s) in enumerate(processes):
            kept = math.exp(-STEP_S / memory_s)
            levels[index] = levels[index] * kept + drawn.gauss(0.0, deviation * math.sqrt(1 - kept**2))
    return arrivals


def _sizes(drawn: random.Random) -> tuple[int, int]:
    band = SIZE_BANDS[min(bisect_right(_SHARES, drawn.random() * _SHARES[-1]), len(SIZE_BANDS) - 1)]
    return _between(band.input_tokens, drawn.random()), _between(band.output_tokens, drawn.random())


def _between(values: tuple[int, ...], probability: float) -> int:
    """Return the value at `probability`, on straight lines between the measured quantiles."""
    upper = min(bisect_right(QUANTILES, probability), len(QUANTILES) - 1)
    low, high = QUANTILES[upper - 1], QUANTILES[upper]
    return round(values[upper - 1] + (values[upper] - values[upper - 1]) * (probability - low) / (high - low))
