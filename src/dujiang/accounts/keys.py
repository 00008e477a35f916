"""Keys: how a secret is made, hashed and looked up. A secret is shown once and kept only as a peppered hash."""

from __future__ import annotations

import hashlib
import secrets
import string
from collections.abc import Iterable
from typing import Protocol

import msgspec

from dujiang.clock import EpochTime
from dujiang.errors import InvalidKey
from dujiang.terms import KeyId, ProjectId, TenantId

_ALPHABET = string.ascii_letters + string.digits
_SECRET_CHARACTERS = 43
"""43 of 62 characters hold 256 bits."""
PREFIX = "dj-"


class Key(msgspec.Struct, frozen=True):
    """A key and whom it speaks for."""

    id: KeyId
    tenant: TenantId
    project: ProjectId
    name: str
    digest: bytes
    created_at: EpochTime
    expires_at: EpochTime | None = None
    revoked_at: EpochTime | None = None
    models: tuple[str, ...] = ()
    """Models it may use; empty means those of the plan."""
    configured: bool = False
    """Whether it stands in the configuration, where alone it can be changed."""


class KeyStore(Protocol):
    """Where keys made by `dujiang keys create` are kept."""

    def add_key(self, key: Key) -> None:
        """Keep a new key."""
        ...

    def keys(self) -> list[Key]:
        """Return all keys, revoked ones included."""
        ...

    def revoke_key(self, key_id: KeyId, at: EpochTime) -> bool:
        """Mark a key as revoked; return whether there was such a key in use."""
        ...

    def keys_revision(self) -> int:
        """Return a number that grows with every change of the keys."""
        ...


def new_secret() -> str:
    """Return a fresh secret of 256 random bits."""
    return PREFIX + "".join(secrets.choice(_ALPHABET) for _ in range(_SECRET_CHARACTERS))


def digest(secret: bytes, pepper: bytes) -> bytes:
    """Return the keyed hash (BLAKE2b, 32 bytes) under which a secret is kept and looked up."""
    return hashlib.blake2b(secret, key=pepper, digest_size=32).digest()


def pepper_from(text: str) -> bytes:
    """Return the hashing key for a configured pepper of any length."""
    return hashlib.blake2b(text.encode(), digest_size=32, person=b"dujiang-pepper").digest()


class KeyRing:
    """All keys in use, by digest.

    Looking one up hashes what was sent with the pepper first, so how long it takes tells nothing about any key.
    """

    def __init__(self, pepper: bytes, keys: Iterable[Key] = ()) -> None:
        self._pepper = pepper
        self._by_digest: dict[bytes, Key] = {}
        self.replace(keys)

    def replace(self, keys: Iterable[Key]) -> None:
        """Use these keys from now on."""
        self._by_digest = {key.digest: key for key in keys if key.revoked_at is None}

    def find(self, secret: bytes, now: EpochTime) -> Key:
        """Return the key a secret belongs to; raises InvalidKey."""
        if not secret:
            raise InvalidKey("No API key was sent; send one as `Authorization: Bearer KEY` or `x-api-key: KEY`.")
        key = self._by_digest.get(digest(secret, self._pepper))
        if key is None:
            raise InvalidKey("The API key is unknown or revoked.")
        if key.expires_at is not None and key.expires_at <= now:
            raise InvalidKey("The API key has expired.")
        return key
