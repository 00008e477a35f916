"""How a vendor says no, and how much is left: error bodies and rate-limit headers of each dialect."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime

import msgspec

from dujiang.clock import MILLISECOND, SECOND
from dujiang.simulation.account import Account, Limit, Refusal
from dujiang.simulation.durations import go_duration
from dujiang.simulation.exchange import Json, Refused
from dujiang.simulation.spec import RetryAfter
from dujiang.terms import Dimension

Headers = list[tuple[bytes, bytes]]

_ANTHROPIC_TYPES = {
    400: "invalid_request_error",
    401: "authentication_error",
    402: "billing_error",
    403: "permission_error",
    404: "not_found_error",
    413: "request_too_large",
    429: "rate_limit_error",
    504: "timeout_error",
    529: "overloaded_error",
}
_OPENAI_CODES = {429: "rate_limit_exceeded", 503: "server_is_overloaded", 529: "server_is_overloaded"}
_LETTERS = {
    Dimension.REQUESTS: "RP",
    Dimension.TOKENS: "TP",
    Dimension.INPUT_TOKENS: "ITP",
    Dimension.OUTPUT_TOKENS: "OTP",
}
_PERIODS = {SECOND: "second", 60 * SECOND: "min", 3600 * SECOND: "hour", 86_400 * SECOND: "day"}
_ROUNDED_TO = 1000  # Anthropic rounds the tokens that remain


def refused_by(refusal: Refusal, model: str, time_scale: float) -> Refused:
    """Return what a client is told when a limit refuses its call; the wait is in the client's time."""
    limit, spec = refusal.limit, refusal.limit.spec
    kind = "requests" if spec.dimension is Dimension.REQUESTS else "tokens"
    if spec.dimension is Dimension.CONCURRENCY:
        message = f"Too many concurrent requests for {model}: limit {spec.value}. Try again when one has ended."
        kind = "requests"
    else:
        period = _PERIODS.get(spec.window_ns, go_duration(spec.window_ns))
        name = f"{str(spec.dimension).replace('_', ' ')} per {period} ({_LETTERS[spec.dimension]}{period[0].upper()})"
        if refusal.too_large:
            message = f"Request too large for {model} on {name}: Limit {spec.value}, Requested {refusal.amount}."
        else:
            message = f"Rate limit reached for {model} on {name}: Limit {spec.value}, Requested {refusal.amount}."
    wait_ns = None if refusal.wait_ns is None else -int(-refusal.wait_ns // time_scale)
    if wait_ns is not None:
        message += f" Please try again in {go_duration(wait_ns)}."
    return Refused(429, message, type_=kind, code="rate_limit_exceeded", retry_after_ns=wait_ns, limit=limit.label)


def error_code(refused: Refused) -> str:
    """Return the code of a refusal, as OpenAI has it and as statistics count it."""
    if refused.code is not None:
        return refused.code
    if refused.status in _OPENAI_CODES:
        return _OPENAI_CODES[refused.status]
    return "server_error" if refused.status >= 500 else "invalid_request_error"


def error_object(dialect: str, refused: Refused) -> Json:
    """Return the error itself, without its envelope, as the dialect spells it."""
    if dialect == "anthropic":
        return {"type": _ANTHROPIC_TYPES.get(refused.status, "api_error"), "message": refused.message}
    server = refused.status >= 500
    plain = "server_error" if server else "invalid_request_error"
    if refused.status == 429:
        plain = "insufficient_quota" if refused.code == "insufficient_quota" else "requests"
    code = refused.code or _OPENAI_CODES.get(refused.status)
    return {"message": refused.message, "type": refused.type or plain, "param": refused.param, "code": code}


def error_body(dialect: str, refused: Refused, request_id: str) -> bytes:
    """Return the body of a refusal."""
    error = error_object(dialect, refused)
    if dialect == "anthropic":
        return msgspec.json.encode({"type": "error", "error": error, "request_id": request_id})
    return msgspec.json.encode({"error": error})


def refusal_headers(dialect: str, refused: Refused, style: RetryAfter) -> Headers:
    """Return when to come back: whole seconds rounded up, and milliseconds where the dialect has them."""
    if refused.retry_after_ns is None or style is RetryAfter.NONE:
        return []
    headers: Headers = []
    if style is not RetryAfter.SECONDS and dialect == "openai":
        headers.append((b"retry-after-ms", b"%d" % -(-refused.retry_after_ns // MILLISECOND)))
    if style is not RetryAfter.MILLISECONDS:
        headers.append((b"retry-after", b"%d" % -(-refused.retry_after_ns // SECOND)))
    return headers


def limit_headers(dialect: str, account: Account, now: int, wall_ns: int, time_scale: float) -> Headers:
    """Return what is left of an account's limits, the scarcest of each kind, as the dialect announces it.

    `now` is of the vendor's calendar, `wall_ns` the client's time since the epoch, in which resets are given.
    """
    account.advance(now)
    headers: Headers = []
    for kind, dimensions in _KINDS[dialect]:
        limit = _scarcest((limit for limit in account.limits if limit.spec.dimension in dimensions), now)
        if limit is None:
            continue
        remaining = _remaining(limit, now)
        reset_ns = -int(-limit.meter.replenished_in(now) // time_scale)
        if dialect == "anthropic":
            if kind != b"requests":
                remaining = min(limit.spec.value, (remaining + _ROUNDED_TO // 2) // _ROUNDED_TO * _ROUNDED_TO)
            reset = _rfc3339(wall_ns + reset_ns)
            template = b"anthropic-ratelimit-%b-%b"
        else:
            reset = go_duration(reset_ns).encode()
            template = b"x-ratelimit-%b-%b"
        for fact, value in ((b"limit", b"%d" % limit.spec.value), (b"remaining", b"%d" % remaining), (b"reset", reset)):
            name = template % ((kind, fact) if dialect == "anthropic" else (fact, kind))
            headers.append((name, value))
    return headers


_KINDS: dict[str, tuple[tuple[bytes, tuple[Dimension, ...]], ...]] = {
    "openai": (
        (b"requests", (Dimension.REQUESTS,)),
        (b"tokens", (Dimension.TOKENS, Dimension.INPUT_TOKENS, Dimension.OUTPUT_TOKENS)),
    ),
    "anthropic": (
        (b"requests", (Dimension.REQUESTS,)),
        (b"tokens", (Dimension.TOKENS, Dimension.INPUT_TOKENS, Dimension.OUTPUT_TOKENS)),
        (b"input-tokens", (Dimension.INPUT_TOKENS,)),
        (b"output-tokens", (Dimension.OUTPUT_TOKENS,)),
    ),
}


def _remaining(limit: Limit, now: int) -> int:
    """Return what is announced to be left: of the announced value, also when a slice or a silent cut rules."""
    left = min(limit.announced, max(0, limit.announced - limit.meter.used(now)))
    return limit.spec.value * left // limit.announced


def _scarcest(limits: Iterable[Limit], now: int) -> Limit | None:
    scarcest: Limit | None = None
    least = 2.0
    for limit in limits:
        share = _remaining(limit, now) / limit.spec.value
        if share < least:
            scarcest, least = limit, share
    return scarcest


def _rfc3339(wall_ns: int) -> bytes:
    """Return an instant as Anthropic sends it: whole seconds, rounded up, in UTC."""
    return datetime.fromtimestamp(-(-wall_ns // SECOND), UTC).strftime("%Y-%m-%dT%H:%M:%SZ").encode()
