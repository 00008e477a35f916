"""One run of the demo: the application plays the scenario while the vendor's own counters are watched."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import msgspec
import yaml

from dujiang.clock import Clock
from dujiang.server.demo.application import Application, Progress
from dujiang.server.demo.figures import Run, VendorSeen
from dujiang.server.demo.processes import Address, free_address, get, running
from dujiang.server.demo.scenario import Scenario
from dujiang.server.demo.settings import GATEWAY_KEY, VENDOR_KEY, gateway_config, vendor_spec

WATCHED_EVERY_S: Final = 0.125

Watcher = Callable[[Progress, VendorSeen], None]
"""Is told of a run's progress several times a second."""


async def play_direct(scenario: Scenario, clock: Clock, folder: Path, watcher: Watcher) -> Run:
    """Play the scenario straight at a fresh vendor: the first run."""
    vendor = free_address()
    async with running(*_vendor(scenario, vendor, folder / "vendor-1")):
        return await _play("direct", scenario, clock, f"{vendor.url}/v1", VENDOR_KEY, vendor, watcher)


async def play_through_gateway(scenario: Scenario, clock: Clock, folder: Path, watcher: Watcher) -> Run:
    """Play the scenario at a gateway in front of a fresh vendor: the second run."""
    vendor, gateway = free_address(), free_address()
    config = folder / "dujiang.yaml"
    written = gateway_config(scenario, gateway, vendor, f"sqlite:///{folder / 'dujiang.db'}")
    await asyncio.to_thread(config.write_text, yaml.safe_dump(written, sort_keys=False), "utf-8")
    env = os.environ | {"DEMO_VENDOR_KEY": VENDOR_KEY, "DEMO_GATEWAY_KEY": GATEWAY_KEY}
    serve = ["serve", "--config", str(config)]
    async with (
        running(*_vendor(scenario, vendor, folder / "vendor-2")),
        running("Dujiang", serve, gateway, "/readyz", folder / "dujiang.log", env),
    ):
        return await _play("gateway", scenario, clock, f"{gateway.url}/v1", GATEWAY_KEY, vendor, watcher)


def _vendor(scenario: Scenario, vendor: Address, place: Path) -> tuple[str, list[str], Address, str, Path, Any]:
    spec = place.with_suffix(".yaml")
    spec.write_text(yaml.safe_dump(vendor_spec(scenario), sort_keys=False), "utf-8")
    arguments = ["simulate", "vendor", "--spec", str(spec), "--host", vendor.host, "--port", str(vendor.port)]
    return (
        "simulated vendor",
        arguments,
        vendor,
        "/simulated/statistics",
        place.with_suffix(".log"),
        os.environ,
    )


async def _play(
    name: str, scenario: Scenario, clock: Clock, base_url: str, key: str, vendor: Address, watcher: Watcher
) -> Run:
    application = Application(scenario, clock, base_url, key)
    seen: list[VendorSeen] = []
    start = await _vendor_seen(vendor, 0.0)

    async def watch() -> None:
        seen.append(await _vendor_seen(vendor, start.at_s))
        watcher(application.progress, seen[-1])

    async def keep_watching() -> None:
        while True:
            await watch()
            await asyncio.sleep(WATCHED_EVERY_S)

    async with asyncio.TaskGroup() as tasks:
        watching = tasks.create_task(keep_watching())
        await application.play(clock.now())
        watching.cancel()
    await watch()
    return Run(name, tuple(sorted(application.seen, key=lambda call: call.due_s)), tuple(seen))


async def _vendor_seen(vendor: Address, start_s: float) -> VendorSeen:
    """Ask the vendor for its counters; it counts time as the traffic does."""
    facts = msgspec.json.decode(await get(vendor, "/simulated/statistics"))
    # The vendor opens an account, with its limits, at the first call of a key.
    unused = {"used": 0, "charged": 0}
    limits = {limit["dimension"]: limit for limit in facts["limits"]}
    of_requests, of_tokens = limits.get("requests", unused), limits.get("tokens", unused)
    requests = facts["requests"]
    return VendorSeen(
        at_s=facts["elapsed_s"] - start_s,
        requests=requests["sent"],
        refused=requests["refused"],
        in_flight=requests["in_flight"],
        requests_used=of_requests["used"],
        tokens_used=of_tokens["used"],
        tokens_charged=of_tokens["charged"],
        requests_charged=of_requests["charged"],
        refused_by_limit=facts["refused_by_limit"],
    )
