"""The way of spans to their collector: bounded, beside the calls, and silent but for news."""

from __future__ import annotations

import logging
from collections.abc import Sequence

from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult
from opentelemetry.trace import Tracer

from dujiang import __version__

log = logging.getLogger("dujiang.traces")

_QUEUE_SPANS = 4096
"""Spans that may wait for the collector, about 10 MB; the oldest are dropped for the newest."""
_BATCH_SPANS = 512
_DELAY_MS = 1000
_EXPORTER_LOG = logging.getLogger("opentelemetry.exporter.otlp.proto.http.trace_exporter")
"""Complains of every batch a collector does not take: kept out of the log, where one line is enough."""
_EXPORTER_LOG.propagate = False
_EXPORTER_LOG.addHandler(logging.NullHandler())
_QUEUE_LOG = logging.getLogger("opentelemetry.sdk._shared_internal")
"""Complains of a full queue, at most every 20 s; no news while the collector is known to be down."""


class SpanDelivery(SpanExporter):
    """Hands spans to a collector by OTLP over HTTP, and says once when it takes none and once when it does again."""

    def __init__(self, endpoint: str, patience_s: float) -> None:
        self._exporter = OTLPSpanExporter(endpoint=endpoint, timeout=patience_s)
        self._complaints = _Complaints()
        _EXPORTER_LOG.addHandler(self._complaints)
        _QUEUE_LOG.addFilter(self._is_news)
        self._down = False
        self._lost = 0
        self._closing = False
        self._closed = False
        self._queue = BatchSpanProcessor(
            self,
            max_queue_size=_QUEUE_SPANS,
            schedule_delay_millis=_DELAY_MS,
            max_export_batch_size=_BATCH_SPANS,
        )
        resource = Resource.create({"service.name": "dujiang", "service.version": __version__})
        self._provider = TracerProvider(resource=resource, shutdown_on_exit=False)
        self._provider.add_span_processor(self._queue)

    def tracer(self) -> Tracer:
        """Return what spans are made with that go this way; its sampling is set by OTEL_TRACES_SAMPLER."""
        return self._provider.get_tracer("dujiang", __version__)

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        """Send a batch; called in a thread of its own, where waiting for a collector holds nobody up."""
        if self._closing and self._down:
            self._lost += len(spans)
            return SpanExportResult.FAILURE
        self._complaints.first = None
        result = self._exporter.export(spans)
        if result is not SpanExportResult.SUCCESS:
            self._lost += len(spans)
            if not self._down:
                self._down = True
                reason = self._complaints.first
                log.warning("the collector takes no traces; calls go on without", extra={"reason": reason})
        elif self._down:
            self._down = False
            log.info("the collector takes traces again", extra={"spans_lost": self._lost})
            self._lost = 0
        return result

    def shutdown(self) -> None:
        """Drop the connection, and end the wait for a collector that does not answer."""
        if not self._closed:
            self._closed = True
            self._exporter.shutdown()

    def close(self) -> None:
        """Send what waits, unless the collector is known to be down; takes at most about `patience_s`."""
        self._closing = True
        if self._down:
            self.shutdown()
        self._queue.shutdown()
        _EXPORTER_LOG.removeHandler(self._complaints)
        _QUEUE_LOG.removeFilter(self._is_news)

    def _is_news(self, _record: logging.LogRecord) -> bool:
        return not self._down


class _Complaints(logging.Handler):
    """Keeps the first thing the exporter says in mind."""

    def __init__(self) -> None:
        super().__init__()
        self.first: str | None = None

    def emit(self, record: logging.LogRecord) -> None:
        if self.first is None:
            self.first = record.getMessage()[:300]
