"""The shared nouns: one word, one meaning, used by every room."""

from __future__ import annotations

from enum import IntEnum, StrEnum
from typing import NewType

import msgspec

TenantId = NewType("TenantId", str)
ProjectId = NewType("ProjectId", str)
KeyId = NewType("KeyId", str)
RequestId = NewType("RequestId", str)
VendorName = NewType("VendorName", str)
CredentialName = NewType("CredentialName", str)
ModelName = NewType("ModelName", str)


class Operation(StrEnum):
    """What a call asks for: the interface of the call log."""

    CHAT = "chat"
    RESPONSES = "responses"
    MESSAGES = "messages"
    COUNT_TOKENS = "count_tokens"
    EMBEDDINGS = "embeddings"


class Dialect(StrEnum):
    """A wire format of a call, on either side of the gateway."""

    CHAT = "chat"
    RESPONSES = "responses"
    MESSAGES = "messages"
    EMBEDDINGS = "embeddings"


class Priority(IntEnum):
    """The class of a call; a smaller number goes first."""

    REALTIME = 0
    INTERACTIVE = 1
    STANDARD = 2
    BATCH = 3


class Dimension(StrEnum):
    """What a limit counts."""

    REQUESTS = "requests"
    INPUT_TOKENS = "input_tokens"
    OUTPUT_TOKENS = "output_tokens"
    TOKENS = "tokens"
    AUDIO_SECONDS = "audio_seconds"
    CHARACTERS = "characters"
    CONCURRENCY = "concurrency"
    SESSIONS = "sessions"


class Source(StrEnum):
    """Whose doing an outcome was."""

    CALLER = "caller"
    TENANT = "tenant"
    GATEWAY = "gateway"
    VENDOR = "vendor"


class Usage(msgspec.Struct, frozen=True):
    """What one call used, or is expected to use, in every countable dimension (whole units).

    `cached_tokens` is the part of `input_tokens` a vendor served from its prompt cache.
    """

    requests: int = 1
    input_tokens: int = 0
    output_tokens: int = 0
    cached_tokens: int = 0
    audio_seconds: int = 0
    characters: int = 0

    @property
    def tokens(self) -> int:
        """Return input and output tokens together."""
        return self.input_tokens + self.output_tokens
