"""Chance by seed: the same seed and subject always draw the same."""

from __future__ import annotations

import math
import random
from hashlib import blake2b
from typing import Any, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

_P95 = 1.6448536269514722  # the 95th percentile of the standard normal distribution
_WIDEST_P95 = math.exp(_P95 * _P95 / 2)  # 3.87: no log-normal has a larger ratio of p95 to mean


def chance(seed: int, *subject: object) -> random.Random:
    """Return the random source of one subject under a seed; it does not depend on any other subject."""
    digest = blake2b(repr((seed, subject)).encode(), digest_size=8).digest()
    return random.Random(int.from_bytes(digest, "big"))  # noqa: S311 -- a simulation, nothing secret


class Distribution(BaseModel):
    """A constant (`mean` alone) or a log-normal given by its mean and 95th percentile.

    Written as a number, as `mean/p95`, or as a mapping of both.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    mean: float = Field(ge=0)
    p95: float | None = None

    @model_validator(mode="before")
    @classmethod
    def _short_forms(cls, written: Any) -> Any:
        if isinstance(written, (int, float)) and not isinstance(written, bool):
            return {"mean": written}
        if isinstance(written, str):
            mean, slash, p95 = written.partition("/")
            return {"mean": mean, "p95": p95} if slash else {"mean": mean}
        return written

    @model_validator(mode="after")
    def _possible(self) -> Self:
        if self.p95 is not None and not self.mean < self.p95 < _WIDEST_P95 * self.mean:
            raise ValueError(
                f"p95 must lie between the mean and {_WIDEST_P95:.2f} times the mean ({self.mean:g} and "
                f"{_WIDEST_P95 * self.mean:g} here): no log-normal has another; leave p95 out for a constant"
            )
        return self

    def draw(self, source: random.Random) -> float:
        """Return one draw, in the unit of the mean."""
        if self.p95 is None:
            return self.mean
        sigma = _P95 - math.sqrt(_P95 * _P95 - 2 * math.log(self.p95 / self.mean))
        return source.lognormvariate(math.log(self.mean) - sigma * sigma / 2, sigma)
