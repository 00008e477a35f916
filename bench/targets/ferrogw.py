"""ferrogw: a compiled gateway (Go), from its wheel on PyPI."""

from __future__ import annotations

from pathlib import Path

from bench.install import python_package
from bench.processes import Launch
from bench.targets.target import Place
from bench.work import TENANT_KEY, VENDOR_KEY, bearer_request

VERSION = "1.5.10"
_CONFIGURATION = "strategy:\n  mode: single\ntargets:\n  - virtual_key: openai\n"


class Ferrogw:
    """One core's worth of Go; master key; its limit of calls per address and its model catalog from the net are off."""

    name = "ferrogw"
    work = "key, routing, metrics; no tenant or vendor limits"

    def __init__(self) -> None:
        self._programs = Path()

    def install(self, cache: Path) -> str:
        """Install the wheel."""
        self._programs = python_package(cache, f"ferrogw=={VERSION}")
        return VERSION

    def launch(self, place: Place) -> Launch:
        """Write config.yaml; everything else is told by the environment."""
        configuration = place.folder / "config.yaml"
        configuration.write_text(_CONFIGURATION)
        environment = {
            "PORT": str(place.port),
            "GATEWAY_CONFIG": str(configuration),
            "MASTER_KEY": TENANT_KEY,
            "OPENAI_API_KEY": VENDOR_KEY,
            "OPENAI_BASE_URL": place.upstream_url,
            "RATE_LIMIT_RPS": "0",
            "FERRO_MODEL_CATALOG_TIMEOUT": "0",
            "LOG_LEVEL": "error",
            "GOMAXPROCS": "1",
        }
        return Launch((str(self._programs / "ferrogw"), "serve"), environment, place.folder)

    def request(self, place: Place, *, stream: bool) -> bytes:
        """Return the call with the master key."""
        return bearer_request(TENANT_KEY, stream=stream)
