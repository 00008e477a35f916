"""What a call asks of limits, and what the owner of a limit counts it as. Pure."""

from __future__ import annotations

from enum import StrEnum

from dujiang.terms import Dimension, Usage


class Charge(StrEnum):
    """What the owner of a limit counts a call as, and when."""

    ACTUAL = "actual"
    """What it used, as it happens; reserved as estimated."""
    UNCACHED = "uncached"
    """What it used without the input a prompt cache served."""
    ARRIVAL_SETTLED = "arrival_settled"
    """Input and the largest output at arrival, corrected at the end."""
    ARRIVAL_MAX = "arrival_max"
    """Input and the largest output at arrival, not given back."""


Amounts = tuple[int, ...]
"""A usage by the place of each dimension in `Dimension`: what the hot path adds up instead of looking up names."""

PLACES = {dimension: place for place, dimension in enumerate(Dimension)}


def amounts_of(usage: Usage) -> Amounts:
    """Return what a usage comes to in every dimension; a call in flight is one call, whatever it uses."""
    given, answered, requests = usage.input_tokens, usage.output_tokens, usage.requests
    return requests, given, answered, given + answered, usage.audio_seconds, usage.characters, requests, requests


class Demand:
    """What a call wants: `estimate` is what it will probably use, `ceiling` the most its parameters allow."""

    __slots__ = ("at_most", "ceiling", "estimate", "estimated")

    def __init__(self, estimate: Usage, ceiling: Usage | None = None) -> None:
        self.estimate = estimate
        self.ceiling = ceiling or estimate
        self.estimated = amounts_of(estimate)
        self.at_most = amounts_of(ceiling) if ceiling is not None else self.estimated
