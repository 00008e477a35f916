"""Several workers share limits exactly, also when one of them is killed."""

from __future__ import annotations

import asyncio
import os
import signal
from pathlib import Path

from tests.processes import STREAM, ServingProcess, serving_process
from tests.simulated import serving

from dujiang.clock import SECOND, SystemClock
from dujiang.simulation.spec import VendorSpec
from dujiang.vendors.http_client import HttpClient
from dujiang.vendors.transport_errors import TransportError

SHOP, BANK = "dj-shop-key-0123456789", "dj-bank-key-0123456789"
WINDOW_S = 1
SHOP_LIMIT, VENDOR_LIMIT = 60, 100


def vendor_spec(**changes) -> VendorSpec:
    settings = {
        "limits": [f"requests/{WINDOW_S}s={VENDOR_LIMIT}:sliding", "concurrency=8"],
        "first_token_s": 0.005, "tokens_per_s": 2_000, "output_tokens": 12, **changes,
    }  # fmt: skip
    return VendorSpec.build(settings)


def config(url: str, slow_url: str, **server) -> dict:
    def vendor(base_url: str, limits: list[dict]) -> dict:
        return {
            "protocol": "openai", "base_url": f"{base_url}/v1", "profile": "simulated", "network_spread": "30ms",
            "credentials": [{"name": "main", "key": "k", "limits": limits}],
        }  # fmt: skip

    def model(name: str) -> dict:
        return {"deployments": [{"vendor": name, "credential": "main", "model": "m"}]}

    return {
        "server": {"port": 0, "workers": 2, "drain_timeout": "5s", **server},
        "storage": {"url": "sqlite:///dujiang.db", "flush_interval": "50ms"},
        "telemetry": {"log_calls": False, "metrics": False},
        "queue": {"max_wait": "20s"},
        "vendors": {
            "quick": vendor(
                url,
                [
                    {"dimension": "requests", "window": f"{WINDOW_S}s", "value": VENDOR_LIMIT},
                    {"dimension": "concurrency", "value": 8},
                ],
            ),
            "slow": vendor(slow_url, []),
        },
        "models": {"assistant": model("quick"), "slow": model("slow")},
        "plans": {
            "small": {"limits": [{"dimension": "requests", "window": f"{WINDOW_S}s", "value": SHOP_LIMIT}]},
            "open": {},
        },
        "tenants": [
            {"id": "shop", "plan": "small", "keys": [{"name": "dev", "secret": SHOP}]},
            {"id": "bank", "plan": "open", "keys": [{"name": "dev", "secret": BANK}]},
        ],
    }


async def hammer(gateway: ServingProcess, key: str, until: float, statuses: list[int], clients: int) -> None:
    """Call again and again on connections of one's own, as both workers take them."""
    time = asyncio.get_running_loop().time

    async def one() -> None:
        client = HttpClient(SystemClock())
        while time() < until:
            try:
                status, _ = await gateway.call(key, client=client)
            except TransportError:
                status = 0
            statuses.append(status)
            if status != 200:
                await asyncio.sleep(0.01)
        client.close()

    async with asyncio.TaskGroup() as tasks:
        for _ in range(clients):
            tasks.create_task(one())


def most_in_a_window(instants: list[int], window_ns: int) -> int:
    instants = sorted(instants)
    most = first = 0
    for index, at in enumerate(instants):
        while instants[first] <= at - window_ns:
            first += 1
        most = max(most, index - first + 1)
    return most


def admitted(records: list[dict], tenant: str) -> list[int]:
    """Return when the calls of a tenant were let go, on the wall clock."""
    return [
        record["at"] + record["stamps"]["admitted"]
        for record in records
        if record["tenant"] == tenant and record["status"] == 200 and record["model"] == "assistant"
    ]


async def test_in_sum_never_over_a_limit_and_hardly_anything_of_it_unused(tmp_path: Path) -> None:
    async with serving(vendor_spec()) as (vendor, url), serving(vendor_spec(limits=[])) as (_, slow_url):
        async with serving_process(config(url, slow_url), tmp_path) as gateway:
            assert len(gateway.workers()) == 2
            time = asyncio.get_running_loop().time
            shop: list[int] = []
            bank: list[int] = []
            await hammer(gateway, SHOP, time() + 2 * WINDOW_S + 0.7, shop, 6)
            await asyncio.sleep(WINDOW_S + 0.1)
            await hammer(gateway, BANK, time() + 2 * WINDOW_S + 0.7, bank, 12)
            both: list[int] = []
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(hammer(gateway, SHOP, time() + WINDOW_S, both, 6))
                tasks.create_task(hammer(gateway, BANK, time() + WINDOW_S, both, 12))
        assert set(shop) == {200, 429}
        assert set(bank) == {200}
        records = gateway.records()
        assert len(records) == len(shop) + len(bank) + len(both)
        # The wall clock is read a moment beside the one that decides.
        window_ns = WINDOW_S * SECOND - SECOND // 50
        assert most_in_a_window(admitted(records, "shop"), window_ns) <= SHOP_LIMIT
        limits = {limit["limit"]: limit for limit in vendor.statistics()["limits"]}
        assert all(limit["violations"] == 0 for limit in limits.values()), limits
        assert not [record for record in records if any(one["status"] == 429 for one in record["attempts"])]
        # Two windows and a little were open to each, so each limit could be used up three times.
        assert shop.count(200) >= 0.95 * 3 * SHOP_LIMIT
        assert bank.count(200) >= 0.95 * 3 * VENDOR_LIMIT


async def test_a_killed_worker_is_replaced_and_nobody_else_notices(tmp_path: Path) -> None:
    slow = vendor_spec(limits=[], tokens_per_s=10, output_tokens=20)
    async with serving(vendor_spec()) as (vendor, url), serving(slow) as (_, slow_url):
        async with serving_process(config(url, slow_url), tmp_path) as gateway:
            time = asyncio.get_running_loop().time
            streams = [await gateway.begin(BANK, STREAM, HttpClient(SystemClock())) for _ in range(8)]
            owners = [gateway.worker_of(stream) for stream in streams]
            before = {worker.pid for worker in gateway.workers()}
            assert None not in owners
            victim = owners[0]
            assert victim is not None
            statuses: list[int] = []
            until = time() + 3 * WINDOW_S
            hammering = asyncio.ensure_future(hammer(gateway, SHOP, until, statuses, 6))
            await asyncio.sleep(0.5)
            used_before = statuses.count(200)
            assert used_before >= 0.95 * SHOP_LIMIT
            os.kill(victim, signal.SIGKILL)
            for stream, owner in zip(streams, owners, strict=True):
                if owner == victim:
                    try:
                        await stream.whole()
                    except TransportError:
                        continue
                    raise AssertionError("a stream of a killed worker came to a good end")
                body = await stream.whole()
                assert body.endswith(b"data: [DONE]\n\n")
            await gateway.logged("a worker died and is replaced")
            async with asyncio.timeout(10):
                while len(after := {worker.pid for worker in gateway.workers()} - {victim}) < 2:
                    await asyncio.sleep(0.02)
            assert len(after - before) == 1
            await hammering
            # What the dead one had used has expired, so the whole limit is there again.
            await asyncio.sleep(WINDOW_S + 0.2)
            again: list[int] = []
            await hammer(gateway, SHOP, time() + 1, again, 6)
            assert again.count(200) >= 0.95 * SHOP_LIMIT
            assert again.count(200) <= SHOP_LIMIT
        records = gateway.records()
        window_ns = WINDOW_S * SECOND - SECOND // 50
        assert most_in_a_window(admitted(records, "shop"), window_ns) <= SHOP_LIMIT
        assert all(limit["violations"] == 0 for limit in vendor.statistics()["limits"])
        assert set(statuses) <= {0, 200, 429}


async def test_workers_do_not_outlive_their_supervisor(tmp_path: Path) -> None:
    async with serving(vendor_spec()) as (_, url), serving_process(config(url, url), tmp_path) as gateway:
        workers = gateway.workers()
        gateway.process.kill()
        async with asyncio.timeout(10):
            while any(worker.is_running() and worker.status() != "zombie" for worker in workers):
                await asyncio.sleep(0.05)
