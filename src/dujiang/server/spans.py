"""A call as OpenTelemetry spans, made from its record: one for the call, and below it one for each try at a vendor.

Names and attributes follow the GenAI conventions where they exist:
https://opentelemetry.io/docs/specs/semconv/gen-ai/gen-ai-spans/
"""

from __future__ import annotations

from collections.abc import Mapping

from opentelemetry.context import Context
from opentelemetry.trace import Span, SpanKind, Status, StatusCode, Tracer, set_span_in_context
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator
from opentelemetry.util.types import AttributeValue

from dujiang.clock import SECOND
from dujiang.metering.record import Attempt, Outcome, Record
from dujiang.terms import Operation

_OPERATIONS = {Operation.RESPONSES.value: "chat", Operation.MESSAGES.value: "chat"}
"""What the conventions call our operations; the others have the same name there."""
_STAGES = ("admitted", "dialled", "first_vendor_byte", "first_client_write")
_PHASES = ("own", "tenant_queue", "vendor_queue", "connect", "vendor_first_byte", "vendor_stream", "slow_client")
_NAME_MAX = 128
_PROPAGATOR = TraceContextTextMapPropagator()


def write_spans(tracer: Tracer, record: Record) -> None:
    """Make the spans of one call, with the times it really had."""
    span = tracer.start_span(
        _span_name(record),
        _caller_context(record),
        SpanKind.SERVER,
        _known(_call_attributes(record)),
        start_time=record.at,
    )
    if span.is_recording():
        for stage in _STAGES:
            reached = getattr(record.stamps, stage)
            if reached is not None:
                span.add_event(f"dujiang.{stage}", timestamp=record.at + reached)
        _write_attempts(tracer, record, set_span_in_context(span, Context()))
        if record.status >= 500 or record.outcome in (Outcome.FAILED, Outcome.BROKEN):
            span.set_status(Status(StatusCode.ERROR, record.error))
    span.end(record.at + record.wall_ns)


def _write_attempts(tracer: Tracer, record: Record, below: Context) -> None:
    for number, attempt in enumerate(record.attempts, 1):
        client: Span = tracer.start_span(
            f"{_operation(record)} {_model(attempt)}",
            below,
            SpanKind.CLIENT,
            _known(_attempt_attributes(record, attempt, number)),
            start_time=record.at + attempt.begun_ns,
        )
        if attempt.outcome != "ok":
            client.set_status(Status(StatusCode.ERROR, attempt.outcome))
        client.end(record.at + _end(record, attempt))


def _end(record: Record, attempt: Attempt) -> int:
    """Return when an attempt ended: a stream goes on after its first piece, which is what `wall_ns` tells of it."""
    first = attempt.begun_ns + attempt.wall_ns
    if attempt.outcome != "ok":
        return first
    stamps = record.stamps
    last = stamps.last_vendor_byte if stamps.last_vendor_byte is not None else stamps.settled
    return max(first, last or 0)


def _call_attributes(record: Record) -> Mapping[str, AttributeValue | None]:
    vendor = record.deployment.partition("/")[0] if record.deployment else None
    used = record.usage_source != "none"
    first = record.stamps.first_client_write
    return {
        "gen_ai.operation.name": _operation(record),
        "gen_ai.provider.name": vendor,
        "gen_ai.request.model": record.model[:_NAME_MAX] if record.model else None,
        "gen_ai.request.stream": record.stream,
        "gen_ai.response.model": record.vendor_model,
        # Here only, not below as well: who adds up the tokens of all spans is to get what was used.
        "gen_ai.usage.input_tokens": record.input_tokens if used else None,
        "gen_ai.usage.output_tokens": record.output_tokens if used else None,
        "gen_ai.usage.cache_read.input_tokens": record.cached_tokens or None,
        "gen_ai.response.time_to_first_chunk": first / SECOND if record.stream and first is not None else None,
        "http.request.method": "POST",
        "http.response.status_code": record.status or None,
        "error.type": _error_type(record),
        "dujiang.request_id": record.request_id,
        "dujiang.tenant": record.tenant,
        "dujiang.project": record.project,
        "dujiang.key": record.key,
        "dujiang.dialect": record.dialect,
        "dujiang.priority": record.priority,
        "dujiang.deployment": record.deployment,
        "dujiang.outcome": record.outcome.value,
        "dujiang.owner": str(record.owner),
        "dujiang.attempts": len(record.attempts),
        "dujiang.waited_for": record.waited_for,
        "dujiang.usage_source": record.usage_source,
        **{f"dujiang.{phase}_ms": getattr(record.durations, phase) / 1e6 or None for phase in _PHASES},
    }


def _attempt_attributes(record: Record, attempt: Attempt, number: int) -> Mapping[str, AttributeValue | None]:
    last = number == len(record.attempts)
    return {
        "gen_ai.operation.name": _operation(record),
        "gen_ai.provider.name": attempt.deployment.partition("/")[0],
        "gen_ai.request.model": _model(attempt),
        "gen_ai.response.id": record.vendor_request_id if last else None,
        "http.request.method": "POST",
        "http.response.status_code": attempt.status or None,
        "error.type": attempt.outcome if attempt.outcome != "ok" else None,
        "dujiang.deployment": attempt.deployment,
        "dujiang.attempt": number,
    }


def _caller_context(record: Record) -> Context:
    """Return what the caller's `traceparent` says, or a context without a parent."""
    if record.traceparent is None:
        return Context()
    return _PROPAGATOR.extract({"traceparent": record.traceparent}, Context())


def _span_name(record: Record) -> str:
    # A name that nobody serves is a stranger's text, and span names are to stay few.
    known = record.model is not None and record.error != "model_not_found"
    return f"{_operation(record)} {(record.model or '')[:_NAME_MAX]}" if known else _operation(record)


def _operation(record: Record) -> str:
    return _OPERATIONS.get(record.operation, record.operation)


def _model(attempt: Attempt) -> str:
    """Return the vendor's name of the model from `vendor/credential/model`; it may hold slashes itself."""
    return attempt.deployment.split("/", 2)[-1]


def _error_type(record: Record) -> str | None:
    if record.error is not None:
        return record.error
    return record.outcome.value if record.outcome is not Outcome.OK else None


def _known(attributes: Mapping[str, AttributeValue | None]) -> dict[str, AttributeValue]:
    return {name: value for name, value in attributes.items() if value is not None}
