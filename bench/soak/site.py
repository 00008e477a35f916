"""What is soaked: a simulated vendor with faults of every kind, and one worker in front of it, as processes."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import yaml

from bench.processes import free_port, last_words, own_environment
from bench.soak.growth import Sample
from dujiang.accounts.keys import pepper_from
from dujiang.accounts.operator import operator_token

PEPPER = "soak-pepper-8c1f3a5e7d9b2046-not-a-secret"
VENDOR_KEY = "sk-vendor-soak-4f1c9a7e2b8d"
TENANT_KEYS = {
    "shop": "dj-soak-shop-7b1d9e3f5a2c4860",
    "club": "dj-soak-club-2e4f6a8c0b1d3957",
    "farm": "dj-soak-farm-9d7b5f3e1c2a4680",
}
_START_S, _STOP_S = 20.0, 10.0
_FAULTS = (
    "error,probability=0.01",
    "error,status=529,probability=0.003",
    "storm,probability=0.003,retry_after=200ms",
    "cut,probability=0.005,chunks=3",
    "malformed,probability=0.003",
    "hang,probability=0.002,delay=3s",
    "slow,probability=0.01,delay=30ms",
)


class StartFailed(RuntimeError):
    """A process of the soak did not start, or ended; the message says what it wrote last."""


@dataclass(frozen=True, slots=True)
class Site:
    """The running gateway."""

    url: str
    pid: int
    config: Path
    vendor_port: int

    def reload(self, number: int) -> bool:
        """Write another configuration and tell the gateway; return whether it is a good one (every third is not)."""
        good = number % 3 != 2
        port = int(self.url.rpartition(":")[2])
        settings = configuration(port, self.vendor_port, self.config.parent, number)
        if not good:
            settings["vendors"]["acme"]["colour"] = "blue"
        partial = self.config.with_suffix(".partial")
        partial.write_text(yaml.safe_dump(settings, sort_keys=False))
        partial.replace(self.config)
        os.kill(self.pid, signal.SIGHUP)
        return good


def configuration(port: int, vendor_port: int, folder: Path, number: int = 0) -> dict[str, Any]:
    """Return the settings after so many reloads: limits move, and a tenant comes and goes."""
    limits = [
        {"dimension": "requests", "window": "60s", "value": 100_000 + number},
        {"dimension": "tokens", "window": "60s", "value": 50_000_000},
        {"dimension": "requests", "window": "day", "value": 50_000_000},
        {"dimension": "concurrency", "value": 24},
    ]
    credentials = [{"name": name, "key": VENDOR_KEY, "owner": name, "limits": limits} for name in ("main", "spare")]
    vendor = {"profile": "simulated", "network_spread": "20ms", "credentials": credentials}
    address = f"http://127.0.0.1:{vendor_port}"
    tight = [
        {"dimension": "requests", "window": "60s", "value": 500 + number},
        {"dimension": "tokens", "window": "10s", "value": 20_000},
        {"dimension": "requests", "window": "day", "value": 1_000_000, "time_zone": "Asia/Shanghai"},
        {"dimension": "concurrency", "value": 8},
    ]
    tenants = [
        {"id": name, "plan": "tight" if name == "club" else "wide", "keys": [{"name": "soak", "secret": secret}]}
        for name, secret in TENANT_KEYS.items()
    ]
    if number % 2:
        tenants.append({"id": f"guest-{number}", "plan": "tight", "keys": []})

    def on(vendor_name: str) -> dict[str, Any]:
        names = ("main", "spare")
        return {"deployments": [{"vendor": vendor_name, "credential": name, "model": "m"} for name in names]}

    return {
        "server": {"port": port, "pepper": PEPPER},
        "storage": {"url": f"sqlite:///{folder / 'soak.db'}"},
        "queue": {"max_wait": "5s"},
        "telemetry": {"log_calls": False},
        "vendors": {
            "acme": {"protocol": "openai", "base_url": f"{address}/v1", **vendor},
            "anthro": {"protocol": "anthropic", "base_url": address, **vendor},
        },
        "models": {
            "assistant": on("acme"),
            "thinker": on("anthro"),
            "spread": on("acme") | {"strategy": "weighted"},
        },
        "plans": {"wide": {"limits": limits}, "tight": {"limits": tight, "wait_at_limit": "1s"}},
        "tenants": tenants,
    }


@contextlib.asynccontextmanager
async def _running(arguments: list[str], log: Path, ready_url: str) -> AsyncIterator[int]:
    """Run `dujiang ARGUMENTS` while the block lasts and yield its process id, once the address answers 200."""
    with log.open("wb") as output:
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "dujiang",
            *arguments,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            env=own_environment({}),
            start_new_session=True,
        )
    try:
        await _await_200(process, ready_url, log)
        yield process.pid
        if process.returncode is not None:
            raise StartFailed(f"dujiang {arguments[0]} ended while it was soaked: {last_words(log)}")
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.terminate()
        try:
            async with asyncio.timeout(_STOP_S):
                await process.wait()
        except TimeoutError:
            process.kill()
            await process.wait()


async def _await_200(process: asyncio.subprocess.Process, url: str, log: Path) -> None:
    async with httpx.AsyncClient(trust_env=False) as client:
        for _ in range(round(_START_S / 0.05)):
            if process.returncode is not None:
                break
            with contextlib.suppress(httpx.HTTPError):
                if (await client.get(url)).status_code == 200:
                    return
            await asyncio.sleep(0.05)
    raise StartFailed(f"nothing answers at {url}: {last_words(log)}")


@contextlib.asynccontextmanager
async def running_site(folder: Path) -> AsyncIterator[Site]:
    """Run the vendor and the gateway while the block lasts; raises StartFailed when one does not run."""
    vendor_port, port = free_port(), free_port()
    vendor = ["simulate", "vendor", "--port", str(vendor_port), "--key", VENDOR_KEY]
    vendor += ["--first-token", "0.05/0.15", "--token-rate", "300", "--output-tokens", "40/100"]
    for fault in _FAULTS:
        vendor += ["--fault", fault]
    config = folder / "soak.yaml"
    config.write_text(yaml.safe_dump(configuration(port, vendor_port, folder), sort_keys=False))
    url = f"http://127.0.0.1:{port}"
    statistics = f"http://127.0.0.1:{vendor_port}/simulated/statistics"
    async with (
        _running(vendor, folder / "vendor.log", statistics),
        _running(["serve", "--config", str(config)], folder / "gateway.log", f"{url}/readyz") as pid,
    ):
        yield Site(url, pid, config, vendor_port)


async def look(site: Site, client: httpx.AsyncClient, at_s: float) -> Sample:
    """Return what the kernel and the gateway itself say of it; raises httpx.HTTPError when it does not answer."""
    token = operator_token(pepper_from(PEPPER))
    answer = await client.get(f"{site.url}/admin/status", headers={"authorization": f"Bearer {token}"}, timeout=30)
    told = answer.raise_for_status().json()
    status = _fields(Path(f"/proc/{site.pid}/status"))
    return Sample(
        at_s=at_s,
        own_mb=_megabytes(status["RssAnon"]),
        rss_mb=_megabytes(status["VmRSS"]),
        pss_mb=_megabytes(_fields(Path(f"/proc/{site.pid}/smaps_rollup"))["Pss"]),
        descriptors=len(os.listdir(f"/proc/{site.pid}/fd")),  # noqa: PTH208 - a folder of the kernel
        threads=int(status["Threads"]),
        tasks=told["tasks"],
        connections=told["connections"],
        in_flight=told["in_flight"],
        waiting=told["waiting"],
        held=told["held"],
        pending=told["records"]["pending"],
    )


def _fields(path: Path) -> Mapping[str, str]:
    lines = (line.partition(":") for line in path.read_text().splitlines())
    return {name: value.strip() for name, _, value in lines}


def _megabytes(written: str) -> float:
    """Return what the kernel writes as `1234 kB`, in MB (10^6 bytes)."""
    return int(written.split(maxsplit=1)[0]) * 1024 / 1e6
