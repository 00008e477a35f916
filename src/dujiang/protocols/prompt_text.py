"""All text of a request that a model will read, for counting its tokens."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import msgspec

from dujiang.terms import Dialect

_PROMPT_MEMBERS = {
    Dialect.CHAT: ("messages", "tools", "functions", "response_format"),
    Dialect.RESPONSES: ("instructions", "input", "tools", "text"),
    Dialect.MESSAGES: ("system", "messages", "tools"),
    Dialect.EMBEDDINGS: ("input",),
}
_NOT_TEXT = frozenset({"url", "data", "image_url", "file_data", "encrypted_content", "signature"})


def prompt_text(body: bytes, dialect: Dialect) -> str:
    """Return the text of a request, its parts on lines of their own; images and other data are left out."""
    document: dict[str, Any] = msgspec.json.decode(body)
    parts = (part for member in _PROMPT_MEMBERS[dialect] for part in _texts(document.get(member)))
    return "\n".join(parts)


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, list):
        for item in value:
            yield from _texts(item)
    elif isinstance(value, dict):
        for name, item in value.items():
            if name not in _NOT_TEXT:
                yield from _texts(item)
