"""Usage in sums: what calls used over a time."""

from __future__ import annotations

import msgspec


class UsageRow(msgspec.Struct, frozen=True):
    """What the calls of one key used of one deployment: those that were answered, in full or in part."""

    tenant: str | None
    project: str | None
    key: str | None
    model: str | None
    deployment: str | None
    requests: int
    input_tokens: int
    output_tokens: int
