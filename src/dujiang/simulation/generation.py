"""What a simulated model says: words, tool calls and JSON, the same for the same seed and request."""

from __future__ import annotations

import random
from hashlib import blake2b
from math import sqrt
from typing import Any

import msgspec

from dujiang.simulation.draws import Distribution, chance
from dujiang.simulation.exchange import Ask, Json, Piece, Refused
from dujiang.simulation.schemas import InvalidSchema, satisfy

_VOCABULARY = """
the a river water weir channel gate field valley bridge season harvest engineer stone basket bank
flow spring summer autumn winter rain snow mountain plain farmer village city road lamp boat market
rice bamboo divides carries meets turns rises falls keeps moves feeds holds opens closes waits
returns follows leads slow quick deep shallow clear quiet early late long short wide narrow calm
steady gentle old new first last and then so because while when where with without before after over
under through between along toward every each some many few most all none other same another once
again often never always still now here there near far high low left right inner outer upper lower
north south east west
"""
_WORDS = tuple(_VOCABULARY.split())
_JSON_PIECE = 4  # characters of JSON to one token
_MOST_TOKENS = 250_000  # of one answer, over all its choices


def estimate_tokens(characters: int) -> int:
    """Return the input tokens of so many characters of text: a quarter, rounded up, and one at least."""
    return max(1, -(-characters // 4))


def fingerprint(body: bytes) -> str:
    """Return what identifies a request, for draws that must not depend on its turn."""
    return blake2b(body, digest_size=12).hexdigest()


def generate(ask: Ask, lengths: Distribution, seed: int, subject: str) -> tuple[list[Piece], list[bool]]:
    """Return the pieces of an answer, one for each output token, and whether `max_tokens` ended each choice.

    The length is what the ask demands or a draw from `lengths`; tool calls and JSON have the length they
    need. Choices are streamed interleaved, as vendors do. Raises Refused (400) for a schema that is none.
    """
    choices: list[list[Piece]] = []
    cut_short: list[bool] = []
    for choice in range(ask.choices):
        source = chance(seed, "answer", subject, choice)
        if ask.tools_called:
            pieces = _tool_calls(ask, choice, source)
        elif ask.answer_schema is not None:
            text = msgspec.json.encode(_satisfied(ask.answer_schema, source)).decode()
            pieces = [Piece(part, choice) for part in _slices(text)]
        else:
            wanted = ask.output_tokens
            if wanted is None:
                wanted = max(1, round(lengths.draw(source)))
            if ask.max_tokens is not None:
                wanted = min(wanted, ask.max_tokens + 1)
            pieces = [Piece(word, choice) for word in _prose(source, min(wanted, _MOST_TOKENS // ask.choices))]
        too_long = ask.max_tokens is not None and len(pieces) > ask.max_tokens
        pieces = pieces[: ask.max_tokens] if too_long else pieces
        _mark(pieces)
        choices.append(pieces)
        cut_short.append(too_long)
    if len(choices) == 1:
        return choices[0], cut_short
    longest = max(map(len, choices), default=0)
    return [pieces[i] for i in range(longest) for pieces in choices if i < len(pieces)], cut_short


def unit_vector(dimensions: int, seed: int, subject: str) -> list[float]:
    """Return a vector of length 1, the same for the same seed and subject."""
    source = chance(seed, "vector", subject)
    raw = [source.random() - 0.5 for _ in range(dimensions)]
    norm = sqrt(sum(x * x for x in raw)) or 1.0
    return [x / norm for x in raw]


def _prose(source: random.Random, tokens: int) -> list[str]:
    words = [" " + word for word in source.choices(_WORDS, k=tokens)]
    at = 0
    while at < tokens:
        words[at] = (" " if at else "") + words[at].strip().capitalize()
        end = min(at + source.randint(6, 16), tokens)
        words[end - 1] += "."
        at = end
    return words


def _slices(text: str) -> list[str]:
    return [text[i : i + _JSON_PIECE] for i in range(0, len(text), _JSON_PIECE)]


def _satisfied(schema: Json, source: random.Random) -> Any:
    try:
        return satisfy(schema, source)
    except InvalidSchema as error:
        raise Refused(400, f"Invalid schema: {error}.", code="invalid_json_schema") from None


def _tool_calls(ask: Ask, choice: int, source: random.Random) -> list[Piece]:
    pieces: list[Piece] = []
    for part, tool in enumerate(ask.tools_called):
        arguments = msgspec.json.encode(_satisfied(tool.schema, source)).decode()
        pieces.extend(Piece(text, choice, part, tool.name) for text in _slices(arguments))
    return pieces


def _mark(pieces: list[Piece]) -> None:
    """Mark where each block of one choice opens and closes."""
    part = -1
    for index, piece in enumerate(pieces):
        if piece.part != part:
            piece.opens = True
            part = piece.part
            if index:
                pieces[index - 1].closes = True
    if pieces:
        pieces[-1].closes = True
