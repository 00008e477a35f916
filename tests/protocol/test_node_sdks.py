"""The official Node SDKs against a whole gateway over loopback; skipped, with the reason, where there is no Node."""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import shutil
import subprocess
from pathlib import Path

import pytest
from tests.gateways import KEY, gateway_before_vendor

NODE = Path(__file__).parent / "node"
INSTALL_S = 100
LIMITS = [
    {"dimension": "requests", "window": "400ms", "value": 1, "models": ["scarce"]},
    {"dimension": "requests", "window": "1h", "value": 10_000},
]
MODELS = {
    name: {"deployments": [{"vendor": "acme", "credential": "main", "model": model}]}
    for name, model in {"assistant": "m", "scarce": "m", "busy": "full", "forbidden": "m"}.items()
}
FULL = [{"dimension": "requests", "window": "1h", "value": 1, "models": ["full"]}]
protocols = pytest.mark.parametrize("protocol", ["openai", "anthropic"])


@pytest.fixture(scope="module")
def node() -> str:
    """Return the node command, with the SDKs installed exactly as the lock file says."""
    command, npm = shutil.which("node"), shutil.which("npm")
    if command is None or npm is None:
        pytest.skip("node or npm is not installed")
    mark, lock = NODE / "node_modules" / ".installed", (NODE / "package-lock.json").read_bytes()
    digest = hashlib.blake2b(lock, digest_size=16).hexdigest()
    if not mark.exists() or mark.read_text("ascii") != digest:
        install = [npm, "ci", "--no-audit", "--no-fund", "--ignore-scripts", "--omit-lockfile-registry-resolved"]
        done = subprocess.run(install, cwd=NODE, capture_output=True, text=True, timeout=INSTALL_S, check=False)
        if done.returncode:
            pytest.skip(f"npm cannot install the SDKs: {done.stderr.strip().splitlines()[-1:]}")
        mark.write_text(digest, "ascii")
    return command


async def run(node: str, script: str, protocol: str) -> dict:
    """Run a script of calls against a gateway before a vendor of this protocol; return its report."""
    async with gateway_before_vendor(
        protocol=protocol,
        vendor_spec={"dialects": [protocol]},
        vendor={"forward_headers": ["x-simulate-*", "anthropic-*"]},
        vendor_limits=FULL,
        profile="openai" if protocol == "openai" else "simulated",
        limits=LIMITS,
        models=MODELS,
        plan={"models": ["assistant", "scarce", "busy"]},
        server={"max_body": "8KiB"},
    ) as (gateway, _):
        process = await asyncio.create_subprocess_exec(
            node,
            str(NODE / script),
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            env={**os.environ, "GATEWAY_URL": gateway.base_url, "GATEWAY_KEY": KEY},
        )
        async with asyncio.timeout(40):
            out, err = await process.communicate()
        assert process.returncode == 0, err.decode()
        return json.loads(out)


def check_forecasts(calls: list) -> None:
    assert [call["name"] for call in calls] == ["weather", "tide"]
    for call in calls:
        check_forecast(call["arguments"])


def check_forecast(forecast: dict) -> None:
    assert set(forecast) == {"city", "days"}
    assert len(forecast["city"]) >= 3
    assert 2 <= forecast["days"] <= 5


def check_error(result: dict, kind: str, status: int) -> None:
    assert (result.get("error"), result.get("status")) == (kind, status), result
    assert result["requestId"].startswith("req_")


@protocols
async def test_the_openai_sdk(node, protocol):
    told = await run(node, "openai_calls.mjs", protocol)
    assert len(told["chat"]["text"].split()) == 12, told["chat"]
    assert (told["chat"]["finish"], told["chat"]["usage"]["completion_tokens"]) == ("stop", 12)
    assert told["chat"]["requestId"].startswith("req_")
    assert len(told["stream"]["text"].split()) == 12
    assert (told["stream"]["usages"], told["stream"]["finish"]) == (0, "stop")
    assert (told["streamWithUsage"]["last"]["completion_tokens"], told["streamWithUsage"]["choices"]) == (12, 0)
    assert len(told["streamHelper"]["text"].split()) == 12
    check_forecasts(told["tools"])
    check_forecasts(told["streamedTools"])
    check_forecast(told["structured"])
    assert len(told["response"]["text"].split()) == 12, told["response"]
    assert (told["response"]["status"], told["response"]["usage"]["output_tokens"]) == ("completed", 12)
    assert (told["streamedResponse"]["first"], told["streamedResponse"]["last"]) == (
        "response.created",
        "response.completed",
    )
    assert len(told["streamedResponse"]["text"].split()) == 12
    if protocol == "openai":
        for unpacked, floats in zip(told["embeddings"]["unpacked"], told["embeddings"]["floats"], strict=True):
            assert unpacked == pytest.approx(floats, abs=1e-6)
            assert len(floats) == 8
    else:
        check_error(told["embeddings"], "BadRequestError", 400)
    assert (told["models"]["names"], told["models"]["one"]) == (["assistant", "scarce", "busy"], "assistant")
    check_error(told["wrongKey"], "AuthenticationError", 401)
    check_error(told["wrongKeyCall"], "AuthenticationError", 401)
    assert told["wrongKeyCall"]["code"] == "invalid_api_key"
    check_error(told["notAllowed"], "PermissionDeniedError", 403)
    check_error(told["notFound"], "NotFoundError", 404)
    assert (told["notFound"]["code"], told["notFound"]["param"]) == ("model_not_found", "model")
    check_error(told["badRequest"], "BadRequestError", 400)
    if protocol == "openai":
        assert told["badRequest"]["param"] == "temperature"
    check_error(told["tooLarge"], "APIError", 413)
    check_error(told["overloaded"], "InternalServerError", 503)
    check_error(told["rateLimited"], "RateLimitError", 429)
    assert 0 < int(told["rateLimited"]["retryAfterMs"]) <= 400
    assert len(told["patient"]["text"].split()) == 12, told["patient"]


@protocols
async def test_the_anthropic_sdk(node, protocol):
    told = await run(node, "anthropic_calls.mjs", protocol)
    assert len(told["message"]["text"].split()) == 12, told["message"]
    assert (told["message"]["stop"], told["message"]["usage"]["output_tokens"]) == ("end_turn", 12)
    assert told["message"]["requestId"].startswith("req_")
    assert (told["stream"]["first"], told["stream"]["last"]) == ("message_start", "message_stop")
    assert len(told["stream"]["text"].split()) == 12
    assert len(told["streamHelper"]["text"].split()) == 12
    assert told["streamHelper"]["usage"]["output_tokens"] == 12
    check_forecasts(told["tools"])
    check_forecasts(told["streamedTools"])
    check_forecast(told["structured"])
    assert told["count"]["input_tokens"] > 0
    assert (told["models"]["names"], told["models"]["one"]) == (["assistant", "scarce", "busy"], "assistant")
    check_error(told["wrongKey"], "AuthenticationError", 401)
    check_error(told["notAllowed"], "PermissionDeniedError", 403)
    check_error(told["notFound"], "NotFoundError", 404)
    assert "did you mean assistant" in told["notFound"]["message"]
    check_error(told["badRequest"], "BadRequestError", 400)
    check_error(told["tooLarge"], "ContentTooLargeError", 413)
    check_error(told["overloaded"], "OverloadedError", 529)
    check_error(told["rateLimited"], "RateLimitError", 429)
    assert 0 < int(told["rateLimited"]["retryAfterMs"]) <= 400
    assert len(told["patient"]["text"].split()) == 12, told["patient"]
