"""Dujiang itself: one worker with every policy on."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import yaml

from bench.install import Unavailable
from bench.processes import Launch
from bench.targets.target import Place
from bench.work import MODEL, TENANT_KEY, VENDOR_KEY, bearer_request

_VENDOR_KEY_VARIABLE = "BENCH_VENDOR_KEY"
_TENANT_KEY_VARIABLE = "BENCH_TENANT_KEY"
PLENTY = 1_000_000_000_000
"""A limit that is counted like any other and never met."""


def limit(dimension: str, value: int, window: str | None = None) -> dict[str, Any]:
    """Return one limit as the configuration file writes it."""
    return {"dimension": dimension, **({"window": window} if window else {}), "value": value}


TENANT_LIMITS = [
    limit("requests", PLENTY, "60s"),
    limit("tokens", PLENTY, "60s"),
    limit("requests", PLENTY, "day"),
    limit("concurrency", 1_000_000),
]
VENDOR_LIMITS = [limit("requests", PLENTY, "60s"), limit("tokens", PLENTY, "60s"), limit("concurrency", 1_000_000)]


def program() -> Path:
    """Return the `dujiang` program of the environment this bench runs in.

    Raises Unavailable when it is not there.
    """
    beside = Path(sys.executable).with_name("dujiang")
    found = beside if beside.exists() else shutil.which("dujiang")
    if found is None:
        raise Unavailable("the program dujiang is not there: make setup")
    return Path(found)


def configuration(place: Place, tenant_limits: list[dict[str, Any]], workers: int = 1) -> dict[str, Any]:
    """Return the settings of a gateway with one tenant and one vendor."""
    credential = {"name": "main", "key": f"${{{_VENDOR_KEY_VARIABLE}}}", "owner": "Bench", "limits": VENDOR_LIMITS}
    vendor = {
        "protocol": "openai",
        "base_url": place.upstream_url,
        "profile": "openai",
        "credentials": [credential],
    }
    tenant: dict[str, Any] = {"id": "bench", "plan": "bench", "tier": "individual"}
    tenant["keys"] = [{"name": "bench", "secret": f"${{{_TENANT_KEY_VARIABLE}}}"}]
    return {
        "server": {"host": "127.0.0.1", "port": place.port, "workers": workers},
        # As all gateways here: errors are logged, calls are not.
        "telemetry": {"log_level": "error", "log_calls": False},
        "storage": {"url": f"sqlite:///{place.folder / 'dujiang.db'}"},
        "vendors": {"upstream": vendor},
        "models": {MODEL: {"deployments": [{"vendor": "upstream", "credential": "main", "model": MODEL, "weight": 1}]}},
        "plans": {"bench": {"weight": 1, "limits": tenant_limits}},
        "tenants": [tenant],
    }


def launch(place: Place, tenant_limits: list[dict[str, Any]], workers: int = 1) -> Launch:
    """Write the configuration and return how to start it."""
    file = place.folder / "dujiang.yaml"
    file.write_text(yaml.safe_dump(configuration(place, tenant_limits, workers), sort_keys=False))
    keys = {_VENDOR_KEY_VARIABLE: VENDOR_KEY, _TENANT_KEY_VARIABLE: TENANT_KEY}
    return Launch((str(program()), "serve", "--config", str(file)), keys, place.folder)


class Dujiang:
    """One worker: key, four tenant limits, three vendor limits, a record in SQLite, metrics; no log line a call."""

    name = "dujiang"
    work = "key, four tenant and three vendor limits, record, metrics"

    def install(self, cache: Path) -> str:
        """Return its version."""
        code = "import importlib.metadata as m; print(m.version('dujiang'))"
        told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)  # noqa: S603
        if told.returncode:
            raise Unavailable("Dujiang is not installed: make setup")
        program()
        return told.stdout.strip()

    def launch(self, place: Place) -> Launch:
        """Start it with limits that are counted and never met."""
        return launch(place, TENANT_LIMITS)

    def request(self, place: Place, *, stream: bool) -> bytes:
        """Return the call with the tenant's key."""
        return bearer_request(TENANT_KEY, stream=stream)
