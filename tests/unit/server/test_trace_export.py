"""Traces as a collector gets them: a real one stands at the other end and decodes what is sent."""

from __future__ import annotations

import gzip
import itertools
import logging
import re
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import httpx
import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Span, Status
from tests.gateways import KEY, VENDOR_KEY, gateway_config, running_gateway, simulated_vendor, until
from tests.records import make_record, stamps

from dujiang.clock import MILLISECOND, SECOND
from dujiang.metering.record import Attempt, Outcome
from dujiang.server.traces import TraceExport, traces_address

PROMPT = "the-secret-of-the-tea-house"


class Collector(ThreadingHTTPServer):
    """Takes OTLP over HTTP as the standard says; `answer` may be made to refuse, `gate` to hang."""

    daemon_threads = True

    def __init__(self) -> None:
        self.posts: list[tuple[str, bytes]] = []
        self.answer = 200
        self.gate = threading.Event()
        self.gate.set()
        self.resources: list[dict[str, Any]] = []
        self.spans: list[Span] = []
        super().__init__(("127.0.0.1", 0), _Door)
        self._thread = threading.Thread(target=self.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
        self._thread.start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"

    def take(self, path: str, body: bytes) -> None:
        self.posts.append((path, body))
        for of_resource in ExportTraceServiceRequest.FromString(body).resource_spans:
            self.resources.append(attributes(of_resource.resource))
            for scope in of_resource.scope_spans:
                self.spans.extend(scope.spans)

    def close(self) -> None:
        self.gate.set()
        self.shutdown()
        self.server_close()
        self._thread.join()


class _Door(BaseHTTPRequestHandler):
    server: Collector

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["content-length"]))
        if self.headers.get("content-encoding") == "gzip":
            body = gzip.decompress(body)
        assert self.headers["content-type"] == "application/x-protobuf"
        self.server.gate.wait(10)
        if self.server.answer == 200:
            self.server.take(self.path, body)
        self.send_response(self.server.answer)
        self.send_header("content-length", "0")
        self.end_headers()

    def log_message(self, *arguments: Any) -> None:
        pass


@pytest.fixture
def collector() -> Iterator[Collector]:
    it = Collector()
    yield it
    it.close()


@pytest.fixture
def logged() -> Iterator[list[logging.LogRecord]]:
    """Collect what reaches the root logger, which is what the gateway's own log gets.

    pytest's `caplog` also listens to loggers that are kept from it.
    """
    records: list[logging.LogRecord] = []
    root, handler = logging.getLogger(), logging.Handler(logging.INFO)
    handler.emit = records.append
    level = root.level
    root.addHandler(handler)
    root.setLevel(logging.INFO)
    yield records
    root.removeHandler(handler)
    root.setLevel(level)


def attributes(holder: Any) -> dict[str, Any]:
    return {one.key: getattr(one.value, one.value.WhichOneof("value")) for one in holder.attributes}


def sent(collector: Collector, *records: Any) -> list[Span]:
    export = TraceExport(f"{collector.url}/v1/traces")
    export.export(records)
    export.close()
    return collector.spans


def events(span: Span, start: int) -> dict[str, int]:
    return {event.name: event.time_unix_nano - start for event in span.events}


def test_an_answered_call_is_a_server_span_with_a_client_span_below(collector: Collector) -> None:
    record = make_record(
        model="assistant",
        deployment="acme/main/org/gpt-x",
        vendor_model="org/gpt-x",
        vendor_request_id="req_9",
        stream=True,
        attempts=(Attempt("acme/main/org/gpt-x", "ok", 200, 30 * MILLISECOND, 6 * MILLISECOND),),
        stamps=stamps(admitted=5, pool=6, dialled=8, first_vendor_byte=36, first_client_write=37, last_vendor_byte=90),
        wall_ms=95,
        input_tokens=21,
        output_tokens=50,
        cached_tokens=4,
        tenant_queue_ms=4,
    )
    call, attempt = sorted(sent(collector, record), key=lambda span: span.kind)

    assert call.name == "chat assistant"
    assert call.kind == Span.SPAN_KIND_SERVER
    assert call.start_time_unix_nano == record.at
    assert call.end_time_unix_nano == record.at + 95 * MILLISECOND
    assert not call.parent_span_id
    assert call.status.code == Status.STATUS_CODE_UNSET
    told = attributes(call)
    expected = {
        "gen_ai.operation.name": "chat",
        "gen_ai.provider.name": "acme",
        "gen_ai.request.model": "assistant",
        "gen_ai.response.model": "org/gpt-x",
        "gen_ai.usage.input_tokens": 21,
        "gen_ai.usage.output_tokens": 50,
        "gen_ai.usage.cache_read.input_tokens": 4,
        "gen_ai.response.time_to_first_chunk": 0.037,
        "http.response.status_code": 200,
        "dujiang.request_id": record.request_id,
        "dujiang.tenant": "shop",
        "dujiang.project": "default",
        "dujiang.key": "shop/default/dev",
        "dujiang.priority": "standard",
        "dujiang.outcome": "ok",
        "dujiang.owner": "vendor",
        "dujiang.tenant_queue_ms": 4.0,
    }
    assert {name: told.get(name) for name in expected} == expected
    assert "error.type" not in told
    milliseconds = {name: at / MILLISECOND for name, at in events(call, record.at).items()}
    assert milliseconds == {
        "dujiang.admitted": 5,
        "dujiang.dialled": 8,
        "dujiang.first_vendor_byte": 36,
        "dujiang.first_client_write": 37,
    }

    assert attempt.kind == Span.SPAN_KIND_CLIENT
    assert attempt.name == "chat org/gpt-x"
    assert attempt.parent_span_id == call.span_id
    assert attempt.trace_id == call.trace_id
    assert attempt.start_time_unix_nano == record.at + 6 * MILLISECOND
    assert attempt.end_time_unix_nano == record.at + 90 * MILLISECOND, "a stream ends with its last byte"
    below = attributes(attempt)
    assert below["gen_ai.response.id"] == "req_9"
    assert below["dujiang.deployment"] == "acme/main/org/gpt-x"
    assert not any("usage" in name for name in below), "tokens are told once"
    assert collector.posts[0][0] == "/v1/traces"
    assert collector.resources[0]["service.name"] == "dujiang"


def test_each_attempt_is_a_span_and_none_overlap(collector: Collector) -> None:
    record = make_record(
        attempts=(
            Attempt("acme/a/m", "connect", 0, 10 * MILLISECOND, 1 * MILLISECOND),
            Attempt("acme/b/m", "rate", 429, 20 * MILLISECOND, 14 * MILLISECOND),
            Attempt("other/c/m", "ok", 200, 40 * MILLISECOND, 35 * MILLISECOND),
        ),
        stamps=stamps(admitted=34, pool=35, first_vendor_byte=70, last_vendor_byte=75, settled=76),
        wall_ms=80,
    )
    attempts = sorted(
        (span for span in sent(collector, record) if span.kind == Span.SPAN_KIND_CLIENT),
        key=lambda span: span.start_time_unix_nano,
    )
    assert [attributes(span)["dujiang.attempt"] for span in attempts] == [1, 2, 3]
    assert [attributes(span).get("error.type") for span in attempts] == ["connect", "rate", None]
    assert [attributes(span).get("http.response.status_code") for span in attempts] == [None, 429, 200]
    assert [span.status.code for span in attempts] == [Status.STATUS_CODE_ERROR] * 2 + [Status.STATUS_CODE_UNSET]
    for before, after in itertools.pairwise(attempts):
        assert before.end_time_unix_nano <= after.start_time_unix_nano
    lengths = [(span.end_time_unix_nano - span.start_time_unix_nano) / MILLISECOND for span in attempts]
    assert lengths == [10, 20, 40]
    assert [(span.start_time_unix_nano - record.at) / MILLISECOND for span in attempts] == [1, 14, 35]


def test_a_call_hangs_on_the_trace_of_its_caller(collector: Collector) -> None:
    trace_id, span_id = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
    spans = sent(collector, make_record(traceparent=f"00-{trace_id}-{span_id}-01"))
    call = next(span for span in spans if span.kind == Span.SPAN_KIND_SERVER)
    assert (call.trace_id.hex(), call.parent_span_id.hex()) == (trace_id, span_id)
    assert {span.trace_id.hex() for span in spans} == {trace_id}


@pytest.mark.parametrize("garbage", ["", "00-nonsense", "00-" + "0" * 32 + "-" + "0" * 16 + "-01"])
def test_a_trace_context_that_is_none_begins_a_trace_of_its_own(collector: Collector, garbage: str) -> None:
    spans = sent(collector, make_record(traceparent=garbage))
    call = next(span for span in spans if span.kind == Span.SPAN_KIND_SERVER)
    assert call.parent_span_id == b""
    assert call.trace_id.hex() != "0" * 32


@pytest.mark.parametrize(
    ("fields", "name", "code", "error"),
    [
        pytest.param(
            {"outcome": Outcome.REFUSED, "owner": "tenant", "status": 429, "error": "rate_limit_exceeded"},
            "chat assistant",
            Status.STATUS_CODE_UNSET,
            "rate_limit_exceeded",
            id="the caller's doing is no error of ours",
        ),
        pytest.param(
            {"outcome": Outcome.FAILED, "status": 502, "error": "upstream_error"},
            "chat assistant",
            Status.STATUS_CODE_ERROR,
            "upstream_error",
            id="a vendor that failed",
        ),
        pytest.param(
            {"outcome": Outcome.BROKEN, "status": 200, "error": "upstream_error", "stream": True},
            "chat assistant",
            Status.STATUS_CODE_ERROR,
            "upstream_error",
            id="a stream that broke",
        ),
        pytest.param(
            {"outcome": Outcome.CANCELLED, "owner": "caller", "status": 499},
            "chat assistant",
            Status.STATUS_CODE_UNSET,
            "cancelled",
            id="a caller that left",
        ),
        pytest.param(
            {"outcome": Outcome.REFUSED, "status": 404, "error": "model_not_found", "model": "x" * 5000},
            "chat",
            Status.STATUS_CODE_UNSET,
            "model_not_found",
            id="a stranger's model does not become a span name",
        ),
        pytest.param(
            {"outcome": Outcome.REFUSED, "status": 401, "error": "invalid_api_key", "model": None, "tenant": None},
            "chat",
            Status.STATUS_CODE_UNSET,
            "invalid_api_key",
            id="nobody known",
        ),
        pytest.param({"operation": "messages"}, "chat assistant", Status.STATUS_CODE_UNSET, None, id="messages"),
        pytest.param({"operation": "responses"}, "chat assistant", Status.STATUS_CODE_UNSET, None, id="responses"),
        pytest.param(
            {"operation": "embeddings"}, "embeddings assistant", Status.STATUS_CODE_UNSET, None, id="embeddings"
        ),
    ],
)
def test_how_a_call_ended(collector: Collector, fields: dict[str, Any], name: str, code: int, error: str) -> None:
    (span,) = sent(collector, make_record(**{"model": "assistant", "attempts": ()} | fields))
    assert (span.name, span.status.code, attributes(span).get("error.type")) == (name, code, error)
    assert attributes(span)["gen_ai.operation.name"] == name.split(maxsplit=1)[0]
    assert len(attributes(span).get("gen_ai.request.model", "")) <= 128


async def test_a_gateway_sends_traces_without_prompts_or_keys(collector: Collector) -> None:
    async with simulated_vendor() as (_, vendor_url):
        telemetry = {"log_calls": False, "otlp_endpoint": collector.url}
        async with running_gateway(gateway_config(vendor_url, telemetry=telemetry)) as gateway:
            async with httpx.AsyncClient(base_url=gateway.openai_url, headers=gateway.headers) as client:
                chat = {"model": "assistant", "messages": [{"role": "user", "content": PROMPT}], "user": "u-17"}
                tags = {"x-dujiang-tags": f"note={PROMPT}"}
                answer = await client.post("/chat/completions", json=chat, headers=tags)
                assert answer.status_code == 200
                answer = await client.post("/chat/completions", json=chat | {"stream": True})
                assert answer.status_code == 200
                refused = await client.post("/chat/completions", json=chat | {"temperature": PROMPT, "n": PROMPT})
                assert refused.status_code == 400
                wrong = await client.post("/chat/completions", json=chat, headers={"authorization": f"Bearer x{KEY}"})
                assert wrong.status_code == 401
            await until(lambda: len(collector.spans) == 6)
            records = {one.request_id: one for one in await gateway.records()}
    servers = [span for span in collector.spans if span.kind == Span.SPAN_KIND_SERVER]
    assert {attributes(span)["dujiang.request_id"] for span in servers} == records.keys()
    for span in servers:
        record = records[attributes(span)["dujiang.request_id"]]
        assert attributes(span)["http.response.status_code"] == record.status
        assert span.end_time_unix_nano - span.start_time_unix_nano == record.wall_ns
    everything = b"".join(body for _, body in collector.posts)
    for secret in (PROMPT, KEY, VENDOR_KEY, "u-17"):
        assert secret.encode() not in everything


def dead_address() -> str:
    """Return an address where nobody listens."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Door)
    server.server_close()
    return f"http://127.0.0.1:{server.server_address[1]}/v1/traces"


def test_a_dead_collector_is_told_once_and_costs_spans_only(logged: list[logging.LogRecord]) -> None:
    export = TraceExport(dead_address(), patience_s=0.2)
    records = [make_record() for _ in range(500)]
    begun = time.perf_counter()
    for _ in range(20):
        export.export(records)
    took_s = time.perf_counter() - begun
    queue = export._delivery._queue._batch_processor
    assert len(queue._queue) <= 4096, "what waits is bounded"
    queue.force_flush()
    export.export(records)
    queue.force_flush()
    export.close()
    # 20,000 spans were made meanwhile; waiting for the collector would have cost 40 batches of 0.2 s.
    assert took_s < 6
    # The queue may be full before it is known why; then the SDK says so itself, once.
    ours = [record for record in logged if record.name == "dujiang.traces"]
    assert [record.levelname for record in ours] == ["WARNING"]
    assert "Failed to export spans" in ours[0].reason
    assert len(logged) - len(ours) <= 1


def test_a_collector_that_comes_back_is_told_with_what_was_lost(
    collector: Collector, logged: list[logging.LogRecord]
) -> None:
    export = TraceExport(collector.url, patience_s=0.2)
    queue = export._delivery._queue
    for status in (503, 500, 200, 200, 400, 200):
        collector.answer = status
        export.export([make_record(attempts=())])
        queue.force_flush()
    export.close()
    told = [(record.getMessage(), getattr(record, "spans_lost", None)) for record in logged]
    assert told == [
        ("the collector takes no traces; calls go on without", None),
        ("the collector takes traces again", 2),
        ("the collector takes no traces; calls go on without", None),
        ("the collector takes traces again", 1),
    ]
    assert len(collector.spans) == 3


def test_a_collector_that_hangs_holds_up_neither_calls_nor_the_end(
    collector: Collector, logged: list[logging.LogRecord]
) -> None:
    collector.gate.clear()
    export = TraceExport(collector.url, patience_s=0.2)
    begun = time.perf_counter()
    export.export([make_record() for _ in range(2000)])
    export.close()
    assert time.perf_counter() - begun < 4, "one batch is waited for; the other seven are given up with it"
    assert [record.name for record in logged] == ["dujiang.traces"]


@pytest.mark.parametrize("endpoint", ["collector:4318", "", "grpc://collector:4317", "/v1/traces", "http://"])
def test_an_address_that_is_none_is_named(endpoint: str) -> None:
    with pytest.raises(ValueError, match=r"telemetry\.otlp_endpoint: must begin with http"):
        TraceExport(endpoint)


def test_an_address_without_a_path_means_the_standard_one() -> None:
    assert traces_address("http://c:4318") == "http://c:4318/v1/traces"
    assert traces_address("http://c:4318/") == "http://c:4318/v1/traces"
    assert traces_address("https://c/otlp/v1/traces?tenant=1") == "https://c/otlp/v1/traces?tenant=1"


def test_without_the_optional_packages_the_start_says_what_to_install() -> None:
    code = """
        import sys
        for name in ("opentelemetry", "opentelemetry.sdk", "opentelemetry.exporter"):
            sys.modules[name] = None
        from dujiang.server.traces import TraceExport
        try:
            TraceExport("http://127.0.0.1:4318")
        except ValueError as error:
            print(error)
    """
    told = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)], capture_output=True, text=True, check=True, timeout=60
    )
    assert re.match(r"telemetry\.otlp_endpoint: .*pip install 'dujiang\[otel\]'.*remove the key", told.stdout)


def test_a_start_without_traces_does_not_load_their_packages() -> None:
    code = "import sys, dujiang.server.app; print([name for name in sys.modules if name.startswith('opentelemetry')])"
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert told.stdout.strip() == "[]"


def test_times_are_whole_nanoseconds_of_the_calendar(collector: Collector) -> None:
    record = make_record(at=1_750_000_000 * SECOND + 7, attempts=())
    (span,) = sent(collector, record)
    assert span.start_time_unix_nano == 1_750_000_000 * SECOND + 7
