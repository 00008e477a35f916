"""Prompts of a wanted length, no two alike, so that no cache can answer them."""

from __future__ import annotations

import random
from typing import Final

# Each is one token of OpenAI's o200k vocabulary when it follows a space; so are most words of a real prompt.
_TEXT: Final = (
    "the river water flow stone field season village order answer question customer delivery account please "
    "could you explain how many days before after summer winter bridge market price table green north under "
    "between because letter morning evening history simple number people small large open close early often "
    "first second third always never perhaps together"
)
WORDS: Final = _TEXT.split()


def prompt(tokens: int, seed: int, index: int) -> str:
    """Return a text of about `tokens` tokens (at least one), the same for the same seed and index."""
    drawn = random.Random(f"prompt {seed} {index}")  # noqa: S311 -- reproducible, guards no secret
    return " ".join(drawn.choices(WORDS, k=max(1, tokens)))
