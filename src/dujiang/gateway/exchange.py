"""A call on its way through the gateway: what is known of it so far, and where its time went."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from dujiang.accounts.keys import Key
from dujiang.admission.reservation import Reservation
from dujiang.admission.scheduler import Ask
from dujiang.clock import Clock, Instant
from dujiang.errors import DujiangError
from dujiang.gateway.catalogue import Entitlement
from dujiang.metering.record import Attempt, Durations, Outcome, Record, Stamps
from dujiang.protocols.calls import Call, dialect_of
from dujiang.terms import Dialect, Operation, Priority, RequestId, Source, Usage
from dujiang.vendors.deployments import Deployment

OWN, TENANT_QUEUE, VENDOR_QUEUE, CONNECT, VENDOR_FIRST_BYTE, VENDOR_STREAM, SLOW_CLIENT = range(7)
"""Where time can go; every moment of a call is booked to exactly one of them."""


_TRACEPARENT_MAX = 128


class Request(Protocol):
    """A request as the server hands it over: its head is read, its body is bounded."""

    request_id: RequestId
    operation: Operation
    accepted_at: Instant
    headers: dict[bytes, bytes]
    """Names in lower case."""

    async def body(self) -> bytes:
        """Return the whole body; raises BodyTooLarge, RequestTimeout."""
        ...


class Client(Protocol):
    """The way back to the caller."""

    async def start(self, status: int, lines: bytes) -> None:
        """Begin a streamed answer with these header lines."""
        ...

    def write(self, piece: bytes) -> bool:
        """Send the next piece of a streamed answer; False: no more, please, until `when_ready` calls."""
        ...

    def when_ready(self, callback: Callable[[], None]) -> None:
        """Have the callback called once the caller has taken what was sent."""
        ...

    async def finish(self) -> None:
        """End a streamed answer."""
        ...

    async def answer(self, status: int, lines: bytes, body: bytes) -> None:
        """Send a whole answer at once, with these header lines."""
        ...


class Exchange:
    """One call with everything that was learned about it on the way."""

    __slots__ = (
        "_last",
        "accepted_at",
        "answer_bytes",
        "ask",
        "attempt_at",
        "attempts",
        "call",
        "clock",
        "deadline",
        "deployment",
        "entitlement",
        "error",
        "estimate",
        "fingerprints",
        "key",
        "outcome",
        "parts",
        "priority",
        "request",
        "reservation",
        "settled",
        "stamps",
        "started",
        "status",
        "tags",
        "usage",
        "usage_source",
        "vendor_request_id",
        "wall_at",
    )

    def __init__(self, request: Request, clock: Clock) -> None:
        self.request = request
        self.clock = clock
        self.parts = [0] * 7
        self.stamps = Stamps()
        self.wall_at = clock.wall()
        self._last = self.accepted_at = request.accepted_at
        self.call: Call | None = None
        self.key: Key | None = None
        self.priority = Priority.STANDARD
        self.deadline = request.accepted_at
        self.entitlement: Entitlement | None = None
        self.ask: Ask[Deployment] | None = None
        self.reservation: Reservation[Deployment] | None = None
        self.deployment: Deployment | None = None
        self.estimate = Usage(requests=1)
        self.attempts: list[Attempt] = []
        self.attempt_at = 0
        self.outcome = Outcome.OK
        self.error: DujiangError | None = None
        self.status = 0
        self.started = False
        """Whether the answer has begun, so that an error can only be told inside it."""
        self.settled = False
        self.usage = Usage(requests=0)
        self.usage_source = "none"
        self.vendor_request_id: str | None = None
        self.answer_bytes = 0
        self.fingerprints: tuple[str | None, str | None, str | None] = (None, None, None)
        self.tags: dict[str, str] = {}

    @property
    def dialect(self) -> Dialect:
        """Return the caller's wire format."""
        return dialect_of(self.request.operation)

    def book(self, part: int) -> int:
        """Book the time since the last booking; return the present as a stamp: nanoseconds after `accepted`."""
        now = self.clock.now()
        self.parts[part] += now - self._last
        self._last = now
        return now - self.accepted_at

    def book_admission(self) -> int:
        """Book the time since the last booking to the queues the call stood in; the rest is our own."""
        now = self.clock.now()
        elapsed = now - self._last
        ask = self.ask
        if ask is not None:
            tenant = min(ask.tenant_wait_ns, elapsed)
            vendor = min(ask.vendor_wait_ns, elapsed - tenant)
            self.parts[TENANT_QUEUE] += tenant
            self.parts[VENDOR_QUEUE] += vendor
            elapsed -= tenant + vendor
            ask.tenant_wait_ns = ask.vendor_wait_ns = 0
        self.parts[OWN] += elapsed
        self._last = now
        return now - self.accepted_at

    def attempted(self, outcome: str, status: int, at: int) -> None:
        """Note how one try at a vendor went that ended at this stamp."""
        name = self.deployment.name if self.deployment is not None else ""
        self.attempts.append(Attempt(name, outcome, status, at - self.attempt_at, self.attempt_at))

    def begin_again(self) -> None:
        """Forget the stamps of an attempt that brought no answer: they tell of the one that follows."""
        stamps = self.stamps
        stamps.admitted = stamps.pool = stamps.dialled = stamps.first_vendor_byte = stamps.last_vendor_byte = None

    def failed(self, error: DujiangError) -> None:
        """Note the error the caller is told."""
        self.error = error
        if self.started:
            self.outcome = Outcome.BROKEN
        elif error.source is Source.VENDOR:
            self.outcome = Outcome.FAILED
        else:
            self.outcome = Outcome.REFUSED

    def record(self) -> Record:
        """Return the record; the last booking is made here, so that the parts add up to the wall time."""
        wall_ns = self.book(OWN)
        if self.stamps.settled is None:
            self.stamps.settled = wall_ns
        call, key, ask, reservation = self.call, self.key, self.ask, self.reservation
        owner = self.error.source if self.error is not None else Source.VENDOR
        if self.outcome is Outcome.CANCELLED:
            owner = Source.CALLER
        exact, normalised, end_user = self.fingerprints
        traceparent = self.request.headers.get(b"traceparent")
        return Record(
            request_id=self.request.request_id,
            at=self.wall_at,
            tenant=key.tenant if key else None,
            project=key.project if key else None,
            key=key.id if key else None,
            operation=self.request.operation,
            dialect=self.dialect,
            model=call.model if call else None,
            priority=self.priority.name.lower(),
            stream=call.stream if call else False,
            deployment=self.deployment.name if self.deployment else None,
            vendor_model=self.deployment.model if self.deployment else None,
            vendor_request_id=self.vendor_request_id,
            attempts=tuple(self.attempts),
            outcome=self.outcome,
            owner=owner,
            status=self.status,
            error=_error_name(self.error),
            waited_for=ask.waited_for if ask else None,
            estimated_input_tokens=self.estimate.input_tokens,
            estimated_output_tokens=self.estimate.output_tokens,
            input_tokens=self.usage.input_tokens,
            output_tokens=self.usage.output_tokens,
            cached_tokens=self.usage.cached_tokens,
            usage_source=self.usage_source,
            reserved_tokens=reservation.estimate.tokens if reservation else 0,
            extended_tokens=reservation.extended if reservation else 0,
            saved_tokens=0,
            cache="none",
            request_bytes=len(call.body) if call else 0,
            answer_bytes=self.answer_bytes,
            fingerprint=exact,
            normalised_fingerprint=normalised,
            end_user=end_user,
            tags=self.tags,
            traceparent=traceparent.decode("latin-1")[:_TRACEPARENT_MAX] if traceparent else None,
            wall_ns=wall_ns,
            durations=Durations(*self.parts),
            stamps=self.stamps,
        )


def _error_name(error: DujiangError | None) -> str | None:
    if error is None:
        return None
    return error.code or error.type
