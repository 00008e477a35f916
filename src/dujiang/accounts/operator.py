"""The operator's token: whoever can read the pepper may look at the whole gateway."""

from __future__ import annotations

import hashlib
import hmac


def operator_token(pepper: bytes) -> str:
    """Return the token that opens the operator's routes; it follows from the pepper, so it is never stored."""
    return "op-" + hashlib.blake2b(b"operator", key=pepper, digest_size=24, person=b"dujiang-oper").hexdigest()


def is_operator(secret: bytes, pepper: bytes) -> bool:
    """Return whether the secret is the operator's token, in a time that does not depend on it."""
    return hmac.compare_digest(secret, operator_token(pepper).encode())
