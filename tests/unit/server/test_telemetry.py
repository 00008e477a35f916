"""What the gateway says of itself: a page Prometheus can read, and one log line a call."""

from __future__ import annotations

import io
import json
import re
import types
from pathlib import Path
from typing import Any

import httpx
import pytest
from prometheus_client import Metric
from prometheus_client.parser import text_string_to_metric_families
from tests.gateways import KEY, VENDOR_KEY, gateway_before_vendor
from tests.records import make_record, stamps

from dujiang.clock import MILLISECOND, SECOND
from dujiang.metering.record import Attempt, Durations, Outcome, Record
from dujiang.server import telemetry
from dujiang.server.telemetry import Metrics, write_call_log

PROMPT = "the-secret-of-the-tea-house"
REFERENCE = Path(__file__).parents[3] / "docs" / "reference"


def page(metrics: Metrics) -> dict[str, Metric]:
    return {family.name: family for family in text_string_to_metric_families(metrics.page().decode())}


def value(families: dict[str, Metric], sample: str, **labels: str) -> float:
    """Return the value of the only sample with this name and at least these labels."""
    (found,) = [
        one.value
        for family in families.values()
        for one in family.samples
        if one.name == sample and labels.items() <= one.labels.items()
    ]
    return found


def seen(*records: Record) -> dict[str, Metric]:
    metrics = Metrics({})
    metrics.observe(records)
    return page(metrics)


def test_calls_are_counted_by_how_they_ended() -> None:
    families = seen(
        make_record(),
        make_record(),
        make_record(outcome=Outcome.REFUSED, owner="tenant", status=429, error="rate_limit_exceeded"),
        make_record(tenant="club", operation="embeddings"),
    )
    ok = {"operation": "chat", "model": "assistant", "tenant": "shop", "outcome": "ok", "owner": "vendor"}
    assert value(families, "dujiang_calls_total", **ok, status="200") == 2
    assert value(families, "dujiang_calls_total", outcome="refused", owner="tenant", status="429") == 1
    assert value(families, "dujiang_calls_total", tenant="club") == 1
    assert value(families, "gen_ai_server_request_duration_seconds_count", tenant="shop") == 2, "answered ones only"


def test_tokens_are_counted_by_kind_and_nothing_is_made_of_none() -> None:
    families = seen(make_record(input_tokens=7, output_tokens=11), make_record(input_tokens=3, output_tokens=0))
    assert value(families, "gen_ai_client_token_usage_tokens_total", gen_ai_token_type="input") == 10
    assert value(families, "gen_ai_client_token_usage_tokens_total", gen_ai_token_type="output") == 11
    assert not seen(make_record(input_tokens=0, output_tokens=0))["gen_ai_client_token_usage_tokens"].samples


def test_times_are_in_seconds() -> None:
    durations = Durations(own=1 * MILLISECOND, vendor_queue=2 * SECOND, vendor_stream=500 * MILLISECOND)
    families = seen(make_record(wall_ms=2501, durations=durations, stamps=stamps(first_client_write=2100)))
    assert value(families, "gen_ai_server_request_duration_seconds_sum") == pytest.approx(2.501)
    assert value(families, "gen_ai_server_time_to_first_token_seconds_sum") == pytest.approx(2.1)
    assert value(families, "dujiang_time_seconds_total", phase="own") == pytest.approx(0.001)
    assert value(families, "dujiang_time_seconds_total", phase="vendor_queue") == pytest.approx(2)
    phases = {one.labels["phase"] for one in families["dujiang_time_seconds"].samples if one.name.endswith("_total")}
    assert phases == {"own", "vendor_queue", "vendor_stream"}
    assert value(families, "gen_ai_server_request_duration_seconds_bucket", le="2.5") == 0
    assert value(families, "gen_ai_server_request_duration_seconds_bucket", le="5.0") == 1


def test_attempts_and_waits_name_deployment_and_limit() -> None:
    attempts = (Attempt("acme/a/m", "rate", 429, 5), Attempt("acme/b/m", "ok", 200, 9))
    families = seen(make_record(attempts=attempts, waited_for="vendor:acme/a tokens/60s"))
    assert value(families, "dujiang_vendor_attempts_total", deployment="acme/a/m", outcome="rate") == 1
    assert value(families, "dujiang_vendor_attempts_total", deployment="acme/b/m", outcome="ok") == 1
    assert value(families, "dujiang_limit_waits_total", limit="vendor:acme/a tokens/60s") == 1


def test_gauges_are_read_when_they_are_asked_for() -> None:
    level = 3.0
    metrics = Metrics({"dujiang_calls_waiting": ("Calls that wait.", lambda: level)})
    assert value(page(metrics), "dujiang_calls_waiting") == 3
    level = 5.0
    assert value(page(metrics), "dujiang_calls_waiting") == 5


def test_labels_of_any_text_can_be_read_back() -> None:
    name = 'a"quoted\\model\nwith {braces} and 都江堰'
    families = seen(make_record(model=name))
    assert value(families, "dujiang_calls_total", model=name) == 1


def test_models_that_nobody_serves_share_one_name() -> None:
    refused = {"outcome": Outcome.REFUSED, "owner": "caller", "status": 404, "error": "model_not_found"}
    families = seen(*(make_record(model=f"guess-{number}" * 50, attempts=(), **refused) for number in range(500)))
    assert value(families, "dujiang_calls_total", model="unknown") == 500
    assert b"guess" not in Metrics({}).page()
    assert not any("guess" in one.labels.get("model", "") for one in families["dujiang_calls"].samples)


def test_children_are_bounded_whatever_comes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(telemetry._Cached, "_CHILDREN_MAX", 50)
    metrics = Metrics({})
    for _ in range(2):
        metrics.observe([make_record(model=f"m{number}") for number in range(300)])
    families = page(metrics)
    calls = [one for one in families["dujiang_calls"].samples if one.name == "dujiang_calls_total"]
    assert len(calls) == 51
    assert sum(one.value for one in calls) == 600, "what is too much is counted together, not forgotten"
    assert value(families, "dujiang_calls_total", model="other") == 500
    assert len(metrics._calls) == 51


async def test_the_page_of_a_gateway_is_prometheus_text_and_every_name_is_documented() -> None:
    limits = [{"dimension": "requests", "window": "60s", "value": 3}]
    async with gateway_before_vendor(limits=limits) as (gateway, _):
        async with httpx.AsyncClient(base_url=gateway.base_url, headers=gateway.headers) as client:
            chat = {"model": "assistant", "messages": [{"role": "user", "content": PROMPT}]}
            for body in (chat, chat | {"stream": True}, chat | {"model": PROMPT}, chat, chat):
                await client.post("/v1/chat/completions", json=body)
            await gateway.records()
            answer = await client.get("/metrics", headers={"authorization": ""})
    assert answer.status_code == 200
    assert answer.headers["content-type"].startswith("text/plain; version=0.0.4")
    families = {family.name: family for family in text_string_to_metric_families(answer.text)}
    assert value(families, "dujiang_calls_total", status="200", model="assistant") == 3
    assert value(families, "dujiang_calls_total", status="429") == 1
    assert value(families, "dujiang_calls_total", status="404") == 1
    assert value(families, "dujiang_calls_in_flight") == 0
    for secret in (PROMPT, KEY, VENDOR_KEY):
        assert secret not in answer.text
    assert all(family.documentation.endswith(".") for family in families.values())
    for language in ("metrics.md", "metrics.zh.md"):
        text = (REFERENCE / language).read_text("utf-8")
        for family in families.values():
            written = f"{family.name}_total" if family.type == "counter" else family.name
            assert re.search(rf"\b{written}\b", text), f"{language} says nothing of {written}"


def logged(monkeypatch: pytest.MonkeyPatch, *records: Record) -> list[dict[str, Any]]:
    written = io.BytesIO()
    monkeypatch.setattr(telemetry, "sys", types.SimpleNamespace(stdout=types.SimpleNamespace(buffer=written)))
    write_call_log(records)
    assert written.getvalue().endswith(b"\n")
    return [json.loads(line) for line in written.getvalue().splitlines()]


def test_a_call_is_one_json_line(monkeypatch: pytest.MonkeyPatch) -> None:
    record = make_record(wall_ms=20.5, tenant_queue_ms=3, attempts=(Attempt("acme/main/m", "ok", 200, 5),) * 2)
    line, _ = logged(monkeypatch, record, make_record())
    expected = {
        "event": "call",
        "request_id": record.request_id,
        "at": record.at // MILLISECOND,
        "tenant": "shop",
        "key": "shop/default/dev",
        "operation": "chat",
        "model": "assistant",
        "deployment": "acme/main/m",
        "outcome": "ok",
        "owner": "vendor",
        "status": 200,
        "error": None,
        "attempts": 2,
        "input_tokens": 12,
        "output_tokens": 34,
        "wall_ms": 20.5,
        "queue_ms": 3.0,
        "own_ms": 17.5,
    }
    assert line == expected


def test_a_line_holds_no_text_of_the_caller(monkeypatch: pytest.MonkeyPatch) -> None:
    record = make_record(
        tags={"note": PROMPT}, end_user=PROMPT, fingerprint=PROMPT, vendor_request_id=PROMPT, model="long" * 1000
    )
    (line,) = logged(monkeypatch, record)
    assert PROMPT not in json.dumps(line)
    assert len(line["model"]) == 128


async def test_a_gateway_logs_its_calls_without_prompts_and_keys(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    written = io.BytesIO()
    monkeypatch.setattr(telemetry, "sys", types.SimpleNamespace(stdout=types.SimpleNamespace(buffer=written)))
    async with gateway_before_vendor(telemetry={"log_calls": True}) as (gateway, _):
        async with httpx.AsyncClient(base_url=gateway.openai_url, headers=gateway.headers) as client:
            chat = {"model": "assistant", "messages": [{"role": "user", "content": PROMPT}], "user": "u-4711"}
            assert (await client.post("/chat/completions", json=chat)).status_code == 200
            wrong = {"authorization": f"Bearer {KEY}x"}
            assert (await client.post("/chat/completions", json=chat, headers=wrong)).status_code == 401
            assert (await client.post("/chat/completions", content=f'{{"model": "{PROMPT}')).status_code == 400
        await gateway.records()
    lines = [json.loads(line) for line in written.getvalue().splitlines()]
    assert [line["status"] for line in lines] == [200, 401, 400]
    assert [line["tenant"] for line in lines] == ["shop", None, "shop"]
    for secret in (PROMPT, KEY, VENDOR_KEY, "u-4711"):
        assert secret.encode() not in written.getvalue()
