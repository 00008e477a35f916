"""`POST /v1/embeddings` as OpenAI speaks it."""

from __future__ import annotations

import base64
import struct
from collections.abc import Mapping
from typing import Any

import msgspec

from dujiang.simulation.exchange import Answer, Ask, Json, Refused
from dujiang.simulation.generation import estimate_tokens, unit_vector
from dujiang.simulation.requests import field, header_number, within

_DEFAULT_DIMENSIONS = 1536
_MOST_DIMENSIONS = 3072
_MOST_INPUTS = 2048


class Embeddings:
    """Vectors of length 1: the same text has the same vector, whatever it travels with."""

    dialect = "openai"
    id_prefix = "embd-"

    def decode(self, body: Json, headers: Mapping[bytes, bytes]) -> Ask:
        model = field(body, "model", "string", required=True)
        within(field(body, "dimensions", "integer"), 1, _MOST_DIMENSIONS, "dimensions")
        encoding = field(body, "encoding_format", "string")
        if encoding not in (None, "float", "base64"):
            raise Refused(400, f"Invalid value: '{encoding}'. Supported values are: 'float', 'base64'.",
                          code="invalid_value", param="encoding_format")  # fmt: skip
        inputs, tokens = _inputs(body.get("input"))
        told = header_number(headers, b"x-simulate-input-tokens")
        return Ask(body, model, False, tokens if told is None else told, max_tokens=0, choices=0, inputs=inputs)

    def whole(self, answer: Answer) -> bytes:
        ask = answer.ask
        dimensions = ask.body.get("dimensions") or _DEFAULT_DIMENSIONS
        packed = ask.body.get("encoding_format") == "base64"
        data: list[Json] = []
        for index, text in enumerate(ask.inputs):
            vector = unit_vector(dimensions, answer.seed, text)
            embedding = base64.b64encode(struct.pack(f"<{dimensions}f", *vector)) if packed else vector
            data.append({"object": "embedding", "index": index,
                         "embedding": embedding.decode() if isinstance(embedding, bytes) else embedding})  # fmt: skip
        usage = {"prompt_tokens": ask.input_tokens, "total_tokens": ask.input_tokens}
        return msgspec.json.encode({"object": "list", "data": data, "model": ask.model, "usage": usage})


def _inputs(written: Any) -> tuple[list[str], int]:
    """Return the texts to embed and their tokens; token arrays count as they are."""
    if isinstance(written, str) or _is_tokens(written):
        written = [written]
    if not isinstance(written, list) or not written:
        raise Refused(400, "'input' must be a string, an array of strings or arrays of tokens, and not empty.",
                      code="invalid_type", param="input")  # fmt: skip
    if len(written) > _MOST_INPUTS:
        raise Refused(400, f"'input' holds more than {_MOST_INPUTS} entries.", code="invalid_value", param="input")
    texts: list[str] = []
    tokens = 0
    for i, entry in enumerate(written):
        if isinstance(entry, str) and entry:
            tokens += estimate_tokens(len(entry))
            texts.append(entry)
        elif _is_tokens(entry):
            tokens += len(entry)
            texts.append(repr(entry))
        else:
            raise Refused(400, f"'input[{i}]' must be a string or an array of tokens, and not empty.",
                          code="invalid_type", param=f"input[{i}]")  # fmt: skip
    return texts, tokens


def _is_tokens(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and all(type(token) is int for token in value)
