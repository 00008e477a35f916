"""How many tokens a call will take, said before it is made, and learned from what calls really took."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable

from dujiang.terms import TenantId

_START_BYTES_PER_TOKEN = 3.6
"""Between English (about 4 bytes of JSON a token) and Chinese (about 3 bytes, one token, a character)."""
_START_OUTPUT_TOKENS = 256
_CALIBRATED_AFTER = 8
"""Calls after which a pair's own ratio is trusted more than a tokenizer that does not know its prompts."""
_MEMORY = 0.05
"""Weight of the newest call in a moving mean: about the last twenty calls count."""
_PAIRS_MAX = 50_000


class _History:
    """What one tenant's calls for one model took: moving means, and a line from bytes to tokens through them.

    A line, because the JSON around a prompt takes bytes and no tokens, which tells most in short prompts.
    """

    __slots__ = (
        "_bytes_mean",
        "_bytes_variance",
        "_covariance",
        "_input_mean",
        "_input_miss",
        "_output_mean",
        "_output_miss",
        "calls",
    )

    def __init__(self) -> None:
        self.calls = 0
        self._bytes_mean = 0.0
        self._bytes_variance = 0.0
        self._covariance = 0.0
        self._input_mean = 0.0
        self._input_miss = 0.0
        self._output_mean = 0.0
        self._output_miss = 0.0

    def input_tokens(self, size_bytes: int) -> int:
        """Return the tokens to expect of so many bytes: the line, and its mean error on top."""
        return max(int(self._line(size_bytes) + self._input_miss), 0) + 1

    def output_tokens(self) -> int:
        """Return the tokens to expect of an answer: the mean, and the mean deviation on top."""
        return int(self._output_mean + self._output_miss) + 1

    def learn(self, size_bytes: int, input_tokens: int, output_tokens: int) -> None:
        """Take note of what a call took."""
        miss = abs(input_tokens - self._line(size_bytes)) if self.calls > 1 else 0.0
        deviation = abs(output_tokens - self._output_mean) if self.calls else 0.0
        self.calls += 1
        weight = max(_MEMORY, 1.0 / self.calls)
        ahead = size_bytes - self._bytes_mean
        self._bytes_mean += weight * ahead
        self._bytes_variance = (1 - weight) * (self._bytes_variance + weight * ahead * ahead)
        self._covariance = (1 - weight) * (self._covariance + weight * ahead * (input_tokens - self._input_mean))
        self._input_mean += weight * (input_tokens - self._input_mean)
        self._input_miss += weight * (miss - self._input_miss)
        self._output_mean += weight * (output_tokens - self._output_mean)
        self._output_miss += weight * (deviation - self._output_miss)

    def _line(self, size_bytes: int) -> float:
        slope = ratio = self._input_mean / max(self._bytes_mean, 1.0)
        if self._bytes_variance > 1.0:
            # Prompts of nearly one length tell nothing of others: a line through them may point anywhere.
            slope = min(max(self._covariance / self._bytes_variance, ratio / 2), ratio * 4, 1.0)
        return self._input_mean + slope * (size_bytes - self._bytes_mean)


class TokenEstimator:
    """Estimates per tenant and model: a tokenizer for the first calls, then what the pair itself taught.

    Estimates are means plus mean deviations, so that about four calls in five stay within them; a stream that
    runs longer extends its reservation on the way.
    """

    def __init__(self) -> None:
        self._pairs: OrderedDict[tuple[TenantId, str], _History] = OrderedDict()

    def estimate(
        self,
        tenant: TenantId,
        model: str,
        size_bytes: int,
        max_output_tokens: int | None,
        count: Callable[[], int | None] | None = None,
    ) -> tuple[int, int]:
        """Return (input tokens, output tokens) expected; `count` is a tokenizer's exact view of the prompt."""
        history = self._pairs.get((tenant, model))
        output_tokens = history.output_tokens() if history is not None else _START_OUTPUT_TOKENS
        if history is not None and history.calls >= _CALIBRATED_AFTER:
            input_tokens = history.input_tokens(size_bytes)
        else:
            counted = count() if count is not None else None
            input_tokens = counted if counted is not None else int(size_bytes / _START_BYTES_PER_TOKEN) + 1
        if max_output_tokens is not None:
            output_tokens = min(output_tokens, max_output_tokens)
        return input_tokens, output_tokens

    def learn(self, tenant: TenantId, model: str, size_bytes: int, input_tokens: int, output_tokens: int) -> None:
        """Take note of what a call of this size really took."""
        pair = (tenant, model)
        history = self._pairs.get(pair)
        if history is None:
            history = self._pairs[pair] = _History()
            if len(self._pairs) > _PAIRS_MAX:
                self._pairs.popitem(last=False)
        else:
            self._pairs.move_to_end(pair)
        history.learn(size_bytes, input_tokens, output_tokens)
