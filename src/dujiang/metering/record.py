"""The record: the one immutable fact about a call that bills, insight, service levels and audit stand on."""

from __future__ import annotations

from enum import StrEnum
from typing import Protocol

import msgspec

from dujiang.clock import EpochTime


class Outcome(StrEnum):
    """How a call ended."""

    OK = "ok"
    REFUSED = "refused"
    """Never sent to a vendor: a bad request, a limit, a full queue, a deadline."""
    FAILED = "failed"
    """The vendor could not answer it."""
    BROKEN = "broken"
    """The answer began and did not come to its end."""
    CANCELLED = "cancelled"
    """The caller went away."""


class Attempt(msgspec.Struct, frozen=True, gc=False):
    """One time a call was sent to a vendor."""

    deployment: str
    outcome: str
    """`ok`, or what went wrong: a refusal's meaning (rate, concurrency, money …) or a phase (connect, read …)."""
    status: int
    wall_ns: int
    begun_ns: int = 0
    """When it was begun, after `accepted`."""


class Stamps(msgspec.Struct, gc=False):
    """When each stage was reached, in nanoseconds after `accepted`; None: never."""

    body: int | None = None
    authenticated: int | None = None
    cache: int | None = None
    admitted: int | None = None
    pool: int | None = None
    dialled: int | None = None
    first_vendor_byte: int | None = None
    last_vendor_byte: int | None = None
    first_client_write: int | None = None
    last_client_write: int | None = None
    settled: int | None = None


class Durations(msgspec.Struct, gc=False):
    """Where the time went, in nanoseconds. The parts add up to the wall time exactly: each moment is in one."""

    own: int = 0
    tenant_queue: int = 0
    vendor_queue: int = 0
    connect: int = 0
    vendor_first_byte: int = 0
    vendor_stream: int = 0
    slow_client: int = 0

    def total(self) -> int:
        """Return the wall time."""
        return (
            self.own
            + self.tenant_queue
            + self.vendor_queue
            + self.connect
            + self.vendor_first_byte
            + self.vendor_stream
            + self.slow_client
        )


class Record(msgspec.Struct, frozen=True, kw_only=True):
    """What happened to one call. Holds no text of the caller's: fingerprints are keyed hashes."""

    request_id: str
    at: EpochTime
    tenant: str | None
    project: str | None
    key: str | None
    operation: str
    dialect: str
    model: str | None
    priority: str
    stream: bool
    deployment: str | None
    vendor_model: str | None
    vendor_request_id: str | None
    attempts: tuple[Attempt, ...]
    outcome: Outcome
    owner: str
    """Whose doing the outcome was: caller, tenant, gateway or vendor."""
    status: int
    error: str | None
    waited_for: str | None
    """The limit the call waited for last."""
    estimated_input_tokens: int
    estimated_output_tokens: int
    input_tokens: int
    output_tokens: int
    cached_tokens: int
    usage_source: str
    """`vendor` (it said so), `counted` (seen in a broken stream), `estimated`, or `none` (nothing was used)."""
    reserved_tokens: int
    extended_tokens: int
    saved_tokens: int
    """Tokens that were not spent because the answer was already there."""
    cache: str
    request_bytes: int
    answer_bytes: int
    fingerprint: str | None
    """Keyed hash of the request's bytes, within tenant, operation and model."""
    normalised_fingerprint: str | None
    """The same without what changes nothing in the answer: order of members, case, white space, `stream`, `user` …"""
    end_user: str | None
    """Keyed hash of whom the caller named as its user."""
    tags: dict[str, str]
    traceparent: str | None = None
    """The caller's W3C trace context, as it came."""
    wall_ns: int
    durations: Durations
    stamps: Stamps


class RecordSink(Protocol):
    """Where records go. `append` never blocks and never raises."""

    def append(self, record: Record) -> None:
        """Take a record."""
        ...
