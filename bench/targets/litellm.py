"""LiteLLM proxy (Python), from PyPI."""

from __future__ import annotations

import json
from pathlib import Path

from bench.install import python_package
from bench.processes import Launch
from bench.targets.target import Place
from bench.work import MODEL, TENANT_KEY, VENDOR_KEY, bearer_request

VERSION = "1.106.2"


class LiteLLM:
    """One worker, master key, production mode, errors logged only; no database, no retries, no telemetry."""

    name = "litellm"
    work = "key, routing, hooks, costs; no database, so no tenants or limits"

    def __init__(self) -> None:
        self._programs = Path()

    def install(self, cache: Path) -> str:
        """Install the package with its proxy extra."""
        self._programs = python_package(cache, f"litellm[proxy]=={VERSION}")
        return VERSION

    def launch(self, place: Place) -> Launch:
        """Write its configuration (JSON is YAML too)."""
        vendor = {"model": f"openai/{MODEL}", "api_base": place.upstream_url, "api_key": VENDOR_KEY}
        settings = {
            "model_list": [{"model_name": MODEL, "litellm_params": vendor}],
            "general_settings": {"master_key": TENANT_KEY},
            "router_settings": {"num_retries": 0},
            "litellm_settings": {"num_retries": 0, "set_verbose": False, "telemetry": False},
        }
        configuration = place.folder / "config.yaml"
        configuration.write_text(json.dumps(settings, indent=1))
        environment = {
            "LITELLM_MODE": "PRODUCTION",
            "LITELLM_LOG": "ERROR",
            "LITELLM_LOCAL_MODEL_COST_MAP": "True",
            "LITELLM_TELEMETRY": "False",
        }
        options = (
            "--config",
            str(configuration),
            "--host",
            "127.0.0.1",
            "--port",
            str(place.port),
            "--num_workers",
            "1",
        )
        return Launch((str(self._programs / "litellm"), *options), environment, place.folder)

    def request(self, place: Place, *, stream: bool) -> bytes:
        """Return the call with the master key."""
        return bearer_request(TENANT_KEY, stream=stream)
