"""Fingerprints: what makes two calls the same, as keyed hashes that hold no text."""

from __future__ import annotations

import re
from hashlib import blake2b

import msgspec

_IRRELEVANT = ("stream", "stream_options", "user", "metadata", "safety_identifier", "service_tier", "store")
"""Members that do not change what a model answers."""
_SIZE = 16
_SPACE = b" \t\r\n"
_ESCAPED_SPACE = re.compile(rb"\\[nrt]")
_LOWER = bytes(range(256)).lower()
_MEMBERS = msgspec.json.Decoder(dict[str, msgspec.Raw])


def fingerprints(scope: str, body: bytes, key: bytes) -> tuple[str, str]:
    """Return the exact and the normalised fingerprint of a request body, each 32 hexadecimal digits.

    The exact one is of the bytes as they came; the normalised one is independent of the order of the object's
    members, of those that change nothing in the answer, and of case and white space. `scope` is what else
    separates calls: tenant, operation, model.
    """
    salt = scope.encode()
    exact = blake2b(salt + body, key=key, digest_size=_SIZE).hexdigest()
    members = _MEMBERS.decode(body)
    for name in _IRRELEVANT:
        members.pop(name, None)
    plain = b"".join([salt, *[b"%b:%b," % (name.encode(), members[name]) for name in sorted(members)]])
    if b"\\" in plain:
        plain = _ESCAPED_SPACE.sub(b"", plain)
    if not plain.isascii():
        plain = plain.decode().casefold().encode()
    return exact, blake2b(plain.translate(_LOWER, _SPACE), key=key, digest_size=_SIZE).hexdigest()
