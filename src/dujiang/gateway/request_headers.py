"""What a caller says in headers: who it is, how urgent the call is, until when, and for whose books."""

from __future__ import annotations

from dujiang.clock import MILLISECOND, Instant
from dujiang.errors import InvalidRequest
from dujiang.gateway.catalogue import Entitlement
from dujiang.terms import Priority

_TIERS = {
    "priority": Priority.INTERACTIVE,
    "default": None,
    "auto": None,
    "standard": None,
    "standard_only": None,
    "scale": None,
    "flex": Priority.BATCH,
}
"""How OpenAI's and Anthropic's service tiers map to priorities; None is the plan's own."""
_TAGS_MAX = 16

Headers = dict[bytes, bytes]


def caller_secret(headers: Headers) -> bytes:
    """Return the API key of `Authorization: Bearer` or `x-api-key`; empty when there is none."""
    bearer = headers.get(b"authorization")
    if bearer is not None and bearer[:7].lower() == b"bearer ":
        return bearer[7:].strip()
    return headers.get(b"x-api-key") or headers.get(b"api-key") or b""


def caller_priority(headers: Headers, service_tier: str | None, entitlement: Entitlement) -> Priority:
    """Return the class of a call: what the caller asks for, at most what its plan allows; raises InvalidRequest."""
    asked = headers.get(b"x-dujiang-priority")
    priority = entitlement.priority
    if asked is not None:
        try:
            priority = Priority[asked.decode("latin-1").strip().upper()]
        except KeyError:
            names = ", ".join(one.name.lower() for one in Priority)
            raise InvalidRequest(f"x-dujiang-priority must be one of {names}.", param="x-dujiang-priority") from None
    elif service_tier is not None:
        priority = _TIERS.get(service_tier) or priority
    return max(priority, entitlement.max_priority)


def caller_deadline(headers: Headers, accepted_at: Instant, default_ns: int) -> Instant:
    """Return when an answer has become worthless; raises InvalidRequest."""
    text = headers.get(b"x-dujiang-deadline-ms")
    if text is None:
        return Instant(accepted_at + default_ns)
    if not text.isdigit() or not 0 < int(text) <= 86_400_000:
        raise InvalidRequest(
            "x-dujiang-deadline-ms must be a whole number of milliseconds from now, at most a day.",
            param="x-dujiang-deadline-ms",
        )
    return Instant(accepted_at + int(text) * MILLISECOND)


def caller_tags(headers: Headers, metadata: dict[str, str]) -> dict[str, str]:
    """Return the caller's tags: `x-dujiang-tags: team=search,env=prod`, over the body's `metadata`."""
    text = headers.get(b"x-dujiang-tags")
    if text is None:
        return metadata
    tags = dict(metadata)
    for pair in text.decode("latin-1").split(",")[:_TAGS_MAX]:
        name, _, value = pair.partition("=")
        if name.strip():
            tags[name.strip()[:64]] = value.strip()[:512]
    return tags
