"""OpenTelemetry traces of calls, made from their records; needs the optional packages of `dujiang[otel]`."""

from __future__ import annotations

from collections.abc import Sequence
from urllib.parse import urlsplit

from dujiang.config import Config
from dujiang.metering.record import Record

_KEY = "telemetry.otlp_endpoint"


class TraceExport:
    """Makes spans of records and sends them to a collector; a dead collector costs spans, never a call."""

    def __init__(self, endpoint: str, *, patience_s: float = 5.0) -> None:
        """Begin; raises ValueError when the address is none or the optional packages are not installed.

        `patience_s` is how long the collector may take for a batch, all tries together.
        """
        endpoint = traces_address(endpoint)
        try:
            from dujiang.server.span_delivery import SpanDelivery
            from dujiang.server.spans import write_spans
        except ImportError as error:
            raise ValueError(
                f"{_KEY}: traces need packages that are not installed ({error.name}); "
                "install them with `pip install 'dujiang[otel]'`, or remove the key"
            ) from error
        self._delivery = SpanDelivery(endpoint, patience_s)
        self._tracer = self._delivery.tracer()
        self._write = write_spans

    def export(self, records: Sequence[Record]) -> None:
        """Take records; returns at once, whatever the collector does."""
        for record in records:
            self._write(self._tracer, record)

    def close(self) -> None:
        """Send what waits, and stop; takes at most about `patience_s`."""
        self._delivery.close()


def trace_export(config: Config) -> TraceExport | None:
    """Return where the configuration has traces sent, None when it has none; raises ValueError when it cannot be."""
    endpoint = config.telemetry.otlp_endpoint
    return TraceExport(endpoint) if endpoint is not None else None


def traces_address(endpoint: str) -> str:
    """Return where traces are posted: the address itself, or, of a collector without a path, `/v1/traces`.

    Raises ValueError when it is no http:// or https:// address.
    """
    parts = urlsplit(endpoint)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ValueError(f"{_KEY}: must begin with http:// or https://, for example http://127.0.0.1:4318/v1/traces")
    return parts._replace(path="/v1/traces").geturl() if parts.path in ("", "/") else endpoint
