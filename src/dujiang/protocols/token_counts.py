"""Tokens as vendors count them: one reading for every spelling."""

from __future__ import annotations

import msgspec

from dujiang.terms import Dialect, Usage

_BELIEVABLE = 1_000_000_000
"""More tokens than any one call can take."""


class TokenUsage(msgspec.Struct, frozen=True):
    """Tokens of one answer; `cached` and `cache_written` are parts of `input`, `reasoning` of `output`."""

    input: int = 0
    output: int = 0
    cached: int = 0
    cache_written: int = 0
    reasoning: int = 0

    @property
    def total(self) -> int:
        return self.input + self.output

    def as_usage(self) -> Usage:
        """Return the usage as it is counted; no vendor's slip of the pen blocks a limit or a ledger for ever."""
        given, output, cached = (min(count, _BELIEVABLE) for count in (self.input, self.output, self.cached))
        return Usage(input_tokens=given, output_tokens=output, cached_tokens=cached)


class _Details(msgspec.Struct, gc=False):
    cached_tokens: int | None = None
    cache_write_tokens: int | None = None
    reasoning_tokens: int | None = None
    thinking_tokens: int | None = None


class TokenCounts(msgspec.Struct, gc=False):
    """A vendor's `usage` object; every dialect fills the members it knows."""

    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    total_tokens: int | None = None
    prompt_tokens_details: _Details | None = None
    completion_tokens_details: _Details | None = None
    prompt_cache_hit_tokens: int | None = None  # DeepSeek
    cached_tokens: int | None = None  # Moonshot
    input_tokens: int | None = None
    output_tokens: int | None = None
    input_tokens_details: _Details | None = None
    output_tokens_details: _Details | None = None
    cache_creation_input_tokens: int | None = None  # Anthropic: beside input_tokens, not in them
    cache_read_input_tokens: int | None = None

    def update(self, later: TokenCounts) -> None:
        """Take over what a later event of a messages stream says.

        Its counts are cumulative, so the larger holds: some vendors repeat a nought where they have nothing new.
        """
        for name in _CUMULATIVE:
            value = getattr(later, name)
            if value is not None:
                setattr(self, name, max(value, getattr(self, name) or 0))
        self.output_tokens_details = later.output_tokens_details or self.output_tokens_details


_CUMULATIVE = ("input_tokens", "output_tokens", "cache_creation_input_tokens", "cache_read_input_tokens")


def token_usage(counts: TokenCounts, dialect: Dialect) -> TokenUsage | None:
    """Return what the counts come to, or `None` when they say nothing.

    The input includes what was read from and written to a prompt cache. Counts below nought are read as nought.
    """
    given = counts.input_tokens if counts.prompt_tokens is None else counts.prompt_tokens
    output = counts.output_tokens if counts.completion_tokens is None else counts.completion_tokens
    if given is None and output is None and counts.total_tokens is None:
        return None
    if given is None:
        given = (counts.total_tokens or 0) - (output or 0)
    if output is None:
        output = 0 if counts.total_tokens is None else counts.total_tokens - given
    given, output = max(given, 0), max(output, 0)
    if dialect is Dialect.MESSAGES:
        cached = max(counts.cache_read_input_tokens or 0, 0)
        written = max(counts.cache_creation_input_tokens or 0, 0)
        given += cached + written
    else:
        details = counts.prompt_tokens_details or counts.input_tokens_details or _Details()
        told = (details.cached_tokens, counts.cached_tokens, counts.prompt_cache_hit_tokens)
        cached = min(max(next((value for value in told if value is not None), 0), 0), given)
        written = min(max(details.cache_write_tokens or 0, 0), given - cached)
    thought = counts.completion_tokens_details or counts.output_tokens_details or _Details()
    reasoning = min(max(thought.reasoning_tokens or thought.thinking_tokens or 0, 0), output)
    return TokenUsage(given, output, cached, written, reasoning)
