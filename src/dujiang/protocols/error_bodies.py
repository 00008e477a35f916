"""How errors look on the wire, in every dialect: ours as we write them, a vendor's as we read them.

The only module that knows this. `vendor_errors.py` holds the reading half.
"""

from __future__ import annotations

import msgspec

from dujiang.errors import (
    DujiangError,
    InvalidKey,
    NotAllowed,
    Overloaded,
    QuotaExhausted,
    VendorFailed,
    VendorRefused,
    VendorTimeout,
)
from dujiang.protocols import sse
from dujiang.protocols.vendor_errors import VendorError, filtered_message, vendor_error
from dujiang.terms import Dialect

__all__ = [
    "VendorError",
    "error_body",
    "error_event",
    "error_headers",
    "error_status",
    "filtered_message",
    "vendor_error",
]

_ANTHROPIC_OVERLOADED = 529
_SDK_RETRIES = frozenset({408, 409, 429})
_ANTHROPIC_TYPES = {
    400: "invalid_request_error",
    401: "authentication_error",
    402: "billing_error",
    403: "permission_error",
    404: "not_found_error",
    408: "timeout_error",
    413: "request_too_large",
    429: "rate_limit_error",
    504: "timeout_error",
    529: "overloaded_error",
}


def error_body(error: DujiangError, dialect: Dialect, request_id: str) -> bytes:
    """Return the JSON body of an answer that refuses a call.

    OpenAI's dialects carry `message, type, param, code`; Anthropic's carries `type, message`, the request id,
    and our code as `details.error_code`, where its SDK looks for it.
    """
    if dialect is Dialect.MESSAGES:
        return msgspec.json.encode(_anthropic_error(error, request_id))
    return msgspec.json.encode({"error": _openai_error(error)})


def error_status(error: DujiangError, dialect: Dialect) -> int:
    """Return the HTTP status of an error; Anthropic's clients know overload as 529."""
    if dialect is Dialect.MESSAGES and isinstance(error, Overloaded):
        return _ANTHROPIC_OVERLOADED
    return error.status


def error_event(error: DujiangError, dialect: Dialect, request_id: str, sequence: int = 0) -> bytes:
    """Return the event that ends a stream which broke after its first byte; no `[DONE]` follows it.

    `sequence` is the `sequence_number` the event takes in a responses stream.
    """
    if dialect is Dialect.MESSAGES:
        return sse.encode("error", error_body(error, dialect, request_id))
    if dialect is Dialect.RESPONSES:
        spoken = _openai_error(error)
        event = {
            "type": "error",
            "code": spoken["code"] or spoken["type"],
            "message": spoken["message"],
            "param": spoken["param"],
            "sequence_number": sequence,
        }
        return sse.encode("error", msgspec.json.encode(event))
    return sse.encode(None, error_body(error, dialect, request_id))


def error_headers(error: DujiangError) -> list[tuple[bytes, bytes]]:
    """Return the headers of an error: its own, when to come back, and whether there is any point in it.

    `retry-after` is whole seconds rounded up, `retry-after-ms` whole milliseconds rounded up.
    `x-should-retry: false` stops the SDKs from repeating a call which they would by its status alone.
    """
    headers = [
        (name.lower().encode("latin-1"), value.encode("latin-1", "replace"))
        for name, value in error.headers.items()
        if value.isprintable()
    ]
    if error.retry_after_ns is not None:
        wait_ns = max(error.retry_after_ns, 0)
        headers.append((b"retry-after", b"%d" % -(-wait_ns // 1_000_000_000)))
        headers.append((b"retry-after-ms", b"%d" % -(-wait_ns // 1_000_000)))
    if not error.retry and (error.status in _SDK_RETRIES or error.status >= 500):
        headers.append((b"x-should-retry", b"false"))
    return headers


def _message(error: DujiangError) -> str:
    """Return what a tenant may read of an error; what comes from a vendor is filtered here once more."""
    if isinstance(error, VendorFailed | VendorRefused):
        return filtered_message(error.message)
    return error.message


def _openai_error(error: DujiangError) -> dict[str, str | None]:
    return {"message": _message(error), "type": error.type, "param": error.param, "code": error.code}


def _anthropic_error(error: DujiangError, request_id: str) -> dict[str, object]:
    message = _message(error)
    if error.param and error.param not in message:
        message = f"{error.param}: {message}"  # this dialect has no member for the field at fault
    spoken: dict[str, object] = {"type": _anthropic_type(error), "message": message}
    if error.code is not None:
        spoken["details"] = {"error_code": error.code}
    return {"type": "error", "error": spoken, "request_id": request_id}


def _anthropic_type(error: DujiangError) -> str:
    match error:
        case InvalidKey():
            return "authentication_error"
        case NotAllowed():
            return "permission_error"
        case QuotaExhausted():
            return "billing_error"
        case VendorTimeout():
            return "timeout_error"
        case Overloaded():
            return "overloaded_error"
        case _:
            fallback = "api_error" if error.status >= 500 else "invalid_request_error"
            return _ANTHROPIC_TYPES.get(error.status, fallback)
