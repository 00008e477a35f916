"""Keys: long, random, kept as peppered hashes, and looked up without telling anything by the time it takes."""

from __future__ import annotations

import inspect

import msgspec
import pytest

from dujiang.accounts import keys as keys_module
from dujiang.accounts.keys import Key, KeyRing, digest, new_secret, pepper_from
from dujiang.accounts.operator import is_operator, operator_token
from dujiang.clock import EpochTime
from dujiang.errors import InvalidKey
from dujiang.terms import KeyId, ProjectId, TenantId

PEPPER = pepper_from("pepper")


def key(secret: str, name: str = "k", **changes) -> Key:
    made = Key(
        id=KeyId(name), tenant=TenantId("t"), project=ProjectId("p"), name=name,
        digest=digest(secret.encode(), PEPPER), created_at=EpochTime(0),
    )  # fmt: skip
    return msgspec.structs.replace(made, **changes)


def test_secrets_hold_256_random_bits_and_can_be_told_apart_from_others() -> None:
    secrets = {new_secret() for _ in range(1_000)}
    assert len(secrets) == 1_000
    assert all(one.startswith("dj-") and len(one) == 46 and one[3:].isalnum() and one.isascii() for one in secrets)
    assert 62**43 > 2**256
    # Every character at every place.
    for place in (3, 20, 45):
        assert len({one[place] for one in secrets}) > 50


def test_a_digest_depends_on_secret_and_pepper_and_shows_neither() -> None:
    one = digest(b"secret", PEPPER)
    assert len(one) == 32
    assert one == digest(b"secret", PEPPER)
    assert one != digest(b"secret", pepper_from("another"))
    assert one != digest(b"secreu", PEPPER)
    assert b"secret" not in one
    assert len(pepper_from("x" * 10_000)) == len(pepper_from("")) == 32


def test_the_ring_finds_the_key_of_a_secret() -> None:
    ring = KeyRing(PEPPER, [key("one", "a"), key("two", "b")])
    assert ring.find(b"one", EpochTime(1)).id == "a"
    assert ring.find(b"two", EpochTime(1)).id == "b"


@pytest.mark.parametrize("secret", [b"three", b"One", b"one ", b"o", b"one\x00", b"\xff\xfe", b"x" * 1_000_000])
def test_the_ring_knows_no_other_secret(secret: bytes) -> None:
    with pytest.raises(InvalidKey, match="unknown or revoked"):
        KeyRing(PEPPER, [key("one")]).find(secret, EpochTime(1))


def test_no_key_at_all_says_how_to_send_one() -> None:
    with pytest.raises(InvalidKey, match="Bearer"):
        KeyRing(PEPPER).find(b"", EpochTime(1))


def test_revoked_and_expired_keys_are_refused() -> None:
    ring = KeyRing(PEPPER, [key("one", revoked_at=EpochTime(5)), key("two", expires_at=EpochTime(100))])
    with pytest.raises(InvalidKey, match="revoked"):
        ring.find(b"one", EpochTime(1))
    assert ring.find(b"two", EpochTime(99)).name == "k"
    with pytest.raises(InvalidKey, match="expired"):
        ring.find(b"two", EpochTime(100))


def test_the_ring_takes_a_new_set_as_a_whole() -> None:
    ring = KeyRing(PEPPER, [key("one")])
    ring.replace([key("two")])
    ring.find(b"two", EpochTime(1))
    with pytest.raises(InvalidKey):
        ring.find(b"one", EpochTime(1))


def test_no_error_shows_what_was_sent() -> None:
    with pytest.raises(InvalidKey) as refusal:
        KeyRing(PEPPER).find(b"dj-my-very-own-secret", EpochTime(1))
    assert "my-very-own" not in str(refusal.value)


def test_secrets_are_looked_up_by_their_digest_and_never_compared() -> None:
    """What is compared is a keyed hash of what was sent, so the time it takes tells nothing of any key."""
    seen: list[object] = []

    class Watching(dict):
        def get(self, key, default=None):
            seen.append(key)
            return super().get(key, default)

    ring = KeyRing(PEPPER, [key("one")])
    ring._by_digest = Watching(ring._by_digest)
    ring.find(b"one", EpochTime(1))
    with pytest.raises(InvalidKey):
        ring.find(b"two", EpochTime(1))
    assert seen == [digest(b"one", PEPPER), digest(b"two", PEPPER)]
    assert "==" not in inspect.getsource(keys_module.KeyRing.find).replace("!==", "")


def test_the_operators_token_follows_from_the_pepper_alone() -> None:
    token = operator_token(PEPPER)
    assert token == operator_token(PEPPER)
    assert is_operator(token.encode(), PEPPER)
    assert not is_operator(token.encode(), pepper_from("another"))
    assert not is_operator(b"", PEPPER)
    assert not is_operator("op-ümlaut".encode(), PEPPER)
    assert PEPPER.hex() not in token
