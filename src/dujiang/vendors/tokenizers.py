"""Tokenizers that work offline: OpenAI's vocabularies come inside the `bpe-openai` wheel.

Other families publish none that may be shipped; their calls are estimated by a learned ratio instead. A loaded
vocabulary takes about 80 MB in every worker, so `estimates.tokenizer` is off unless it is asked for.
"""

from __future__ import annotations

from functools import cache
from typing import Any

_TEXT_CHARS_MAX = 200_000
"""Longer prompts are estimated: counting them would hold up everybody else."""


@cache
def _encoding(name: str) -> Any:
    import bpe_openai

    return bpe_openai.get_encoding(f"{name}_base")


def count_tokens(tokenizer: str, text: str) -> int | None:
    """Return how many tokens the text has; None for an unknown tokenizer or a text too long to count."""
    if tokenizer == "none" or len(text) > _TEXT_CHARS_MAX:
        return None
    return len(_encoding(tokenizer).encode_ordinary(text))
