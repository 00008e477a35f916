"""The headers every answer carries: the request's id, how the limits stand, and where the time went."""

from __future__ import annotations

from collections.abc import Iterable

from dujiang.clock import MILLISECOND
from dujiang.gateway.exchange import (
    CONNECT,
    OWN,
    TENANT_QUEUE,
    VENDOR_FIRST_BYTE,
    VENDOR_QUEUE,
    VENDOR_STREAM,
    Exchange,
)
from dujiang.terms import Dialect

# Written at once: the hot path makes these lines for every call.
_LINES = (
    b"content-type: %b\r\n"
    b"x-request-id: %b\r\n"
    b"x-dujiang-queue-ms: %d\r\n"
    b"x-dujiang-vendor-ms: %d\r\n"
    b"x-dujiang-overhead-ms: %.2f\r\n"
    b"x-dujiang-attempts: %d\r\n"
    b"x-dujiang-cache: none\r\n"
)


def answer_headers(exchange: Exchange, content_type: bytes, *, stream: bool = False) -> bytes:
    """Return the header lines of an answer, or of a refusal."""
    parts = exchange.parts
    lines = _LINES % (
        content_type,
        exchange.request.request_id.encode(),
        (parts[TENANT_QUEUE] + parts[VENDOR_QUEUE]) // MILLISECOND,
        (parts[CONNECT] + parts[VENDOR_FIRST_BYTE] + parts[VENDOR_STREAM]) // MILLISECOND,
        parts[OWN] / MILLISECOND,
        len(exchange.attempts),
    )
    if exchange.deployment is not None:
        lines += exchange.deployment.header_line
    if exchange.dialect is Dialect.MESSAGES:
        # The name under which Anthropic's SDK looks for it.
        lines += b"request-id: %b\r\n" % exchange.request.request_id.encode()
    if stream:
        lines += b"cache-control: no-cache\r\n"
    if exchange.entitlement is not None:
        lines += exchange.entitlement.shown.lines(exchange.clock.now(), exchange.dialect, exchange.wall_at)
    return lines


def header_lines(headers: Iterable[tuple[bytes, bytes]]) -> bytes:
    """Return headers as lines."""
    return b"".join([b"%b: %b\r\n" % header for header in headers])
