"""Portkey's open gateway (Node), from npm."""

from __future__ import annotations

from pathlib import Path

from bench.install import node_package
from bench.processes import Launch
from bench.targets.target import Place
from bench.work import VENDOR_KEY, call_body, request

VERSION = "1.15.2"


class Portkey:
    """One process, no console. It has no keys: the caller sends the vendor's key and address with each call."""

    name = "portkey"
    work = "routing by headers; no keys, no limits, no records"

    def __init__(self) -> None:
        self._modules = Path()

    def install(self, cache: Path) -> str:
        """Install the package."""
        self._modules = node_package(cache, f"@portkey-ai/gateway@{VERSION}")
        return VERSION

    def launch(self, place: Place) -> Launch:
        """Start it from its own folder."""
        server = self._modules / "@portkey-ai" / "gateway" / "build" / "start-server.js"
        environment = {"NODE_ENV": "production"}
        return Launch(("node", str(server), f"--port={place.port}", "--headless"), environment, server.parent)

    def request(self, place: Place, *, stream: bool) -> bytes:
        """Return the call with the vendor's key, and where the vendor is."""
        headers = {
            "authorization": f"Bearer {VENDOR_KEY}",
            "x-portkey-provider": "openai",
            "x-portkey-custom-host": place.upstream_url,
        }
        return request(call_body(stream=stream), headers)
