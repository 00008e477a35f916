"""What the gateway says of itself: Prometheus metrics and call log lines, both read from records."""

from __future__ import annotations

import sys
from collections import defaultdict
from collections.abc import Callable, Sequence
from typing import Any

import msgspec
from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    disable_created_metrics,
    generate_latest,
    multiprocess,
)

from dujiang.clock import SECOND
from dujiang.errors import ModelNotFound
from dujiang.metering.record import Record

_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120)
_MODEL_MAX = 128
"""Characters of a model's name in a log line; it is the caller's text."""
_PHASES = ("own", "tenant_queue", "vendor_queue", "connect", "vendor_first_byte", "vendor_stream", "slow_client")


class Metrics:
    """Counters and histograms over all calls; names follow OpenTelemetry's GenAI conventions where they exist.

    https://opentelemetry.io/docs/specs/semconv/gen-ai/gen-ai-metrics/
    """

    def __init__(self, gauges: dict[str, tuple[str, Callable[[], float]]], *, several_processes: bool = False) -> None:
        self._several = several_processes
        # A second series for every counter and histogram, of the time it was made: twice the page, for nothing.
        disable_created_metrics()
        self._registry = CollectorRegistry()
        call = ("operation", "model", "tenant")
        self._calls = self._counter("dujiang_calls", "Calls by how they ended.", (*call, "outcome", "owner", "status"))
        self._attempts = self._counter(
            "dujiang_vendor_attempts", "Calls sent to a vendor, by what came back.", ("deployment", "outcome")
        )
        self._tokens = self._counter("gen_ai_client_token_usage_tokens", "Tokens used.", (*call, "gen_ai_token_type"))
        self._duration = self._histogram("gen_ai_server_request_duration_seconds", "Wall time of answered calls.", call)
        self._first = self._histogram(
            "gen_ai_server_time_to_first_token_seconds", "Until the first byte went to the caller.", call
        )
        self._phases = self._counter("dujiang_time_seconds", "Where the time of calls went.", ("operation", "phase"))
        self._waits = self._counter("dujiang_limit_waits", "Calls that waited, by the limit in the way.", ("limit",))
        self._gauges: list[Callable[[], None]] = []
        for name, (text, read) in gauges.items():
            gauge = Gauge(name, text, registry=self._registry, multiprocess_mode="livesum")
            self._gauges.append(lambda gauge=gauge, read=read: gauge.set(read()))

    def _counter(self, name: str, text: str, labels: tuple[str, ...]) -> Any:
        return _Cached(Counter(name, text, labels, registry=self._registry))

    def _histogram(self, name: str, text: str, labels: tuple[str, ...]) -> Any:
        return _Cached(Histogram(name, text, labels, registry=self._registry, buckets=_SECONDS))

    def observe(self, records: Sequence[Record]) -> None:
        """Count a group of records."""
        sums: defaultdict[tuple[Any, tuple[str, ...]], float] = defaultdict(float)
        for one in records:
            call = (one.operation, model_label(one), one.tenant or "")
            sums[self._calls, (*call, one.outcome.value, str(one.owner), str(one.status))] += 1
            for attempt in one.attempts:
                sums[self._attempts, (attempt.deployment, attempt.outcome)] += 1
            if one.input_tokens:
                sums[self._tokens, (*call, "input")] += one.input_tokens
            if one.output_tokens:
                sums[self._tokens, (*call, "output")] += one.output_tokens
            if one.waited_for:
                sums[self._waits, (one.waited_for,)] += 1
            if one.outcome.value == "ok":
                self._duration[call].observe(one.wall_ns / SECOND)
                if one.stamps.first_client_write is not None:
                    self._first[call].observe(one.stamps.first_client_write / SECOND)
            for phase in _PHASES:
                if nanoseconds := getattr(one.durations, phase):
                    sums[self._phases, (one.operation, phase)] += nanoseconds / SECOND
        for (metric, labels), amount in sums.items():
            metric[labels].inc(amount)

    def page(self) -> bytes:
        """Return the metrics of all processes in Prometheus' text format."""
        for refresh in self._gauges:
            refresh()
        if not self._several:
            return generate_latest(self._registry)
        registry = CollectorRegistry()
        multiprocess.MultiProcessCollector(registry)
        return generate_latest(registry)


def model_label(record: Record) -> str:
    """Return the model a call counts under; what nobody serves is one, or strangers would fill the page."""
    if record.error == ModelNotFound.code:
        return "unknown"
    return record.model or ""


class _Cached(dict[tuple[str, ...], Any]):
    """A labelled metric whose children are looked up once; unknown models of strangers cannot grow it for ever."""

    _CHILDREN_MAX = 10_000

    def __init__(self, metric: Any) -> None:
        super().__init__()
        self._metric = metric

    def __missing__(self, labels: tuple[str, ...]) -> Any:
        if len(self) >= self._CHILDREN_MAX:
            labels = ("other",) * len(labels)
            if labels in self:
                return self[labels]
        child = self[labels] = self._metric.labels(*labels)
        return child

    __hash__ = object.__hash__  # pyright: ignore[reportAssignmentType]
    __eq__ = object.__eq__


def write_call_log(records: Sequence[Record]) -> None:
    """Write one JSON line a call to standard output: no prompt, no key, no text of anybody."""
    encode = msgspec.json.encode
    lines = [
        encode(
            {
                "event": "call",
                "request_id": one.request_id,
                "at": one.at // 1_000_000,
                "tenant": one.tenant,
                "key": one.key,
                "operation": one.operation,
                "model": one.model[:_MODEL_MAX] if one.model else None,
                "deployment": one.deployment,
                "outcome": one.outcome.value,
                "owner": str(one.owner),
                "status": one.status,
                "error": one.error,
                "attempts": len(one.attempts),
                "input_tokens": one.input_tokens,
                "output_tokens": one.output_tokens,
                "wall_ms": round(one.wall_ns / 1e6, 3),
                "queue_ms": round((one.durations.tenant_queue + one.durations.vendor_queue) / 1e6, 3),
                "own_ms": round(one.durations.own / 1e6, 3),
            }
        )
        for one in records
    ]
    sys.stdout.buffer.write(b"\n".join(lines) + b"\n")
    sys.stdout.buffer.flush()
