"""A running gateway takes a new configuration at once, refuses a bad one, and ends without losing anything."""

from __future__ import annotations

import asyncio
import os
import signal
from pathlib import Path

import pytest
from tests.processes import BODY, STREAM, serving_process
from tests.simulated import serving

from dujiang.clock import SystemClock
from dujiang.simulation.spec import VendorSpec
from dujiang.vendors.http_client import HttpClient
from dujiang.vendors.transport_errors import TransportError

SHOP = "dj-shop-key-0123456789"
QUICK = VendorSpec.build({"first_token_s": 0.005, "tokens_per_s": 2_000, "output_tokens": 12})
SLOW = VendorSpec.build({"first_token_s": 0.005, "tokens_per_s": 10, "output_tokens": 15})


def config(url: str, slow_url: str, *, limit: int = 100, workers: int = 1, **server) -> dict:
    def vendor(base_url: str) -> dict:
        return {
            "protocol": "openai", "base_url": f"{base_url}/v1", "profile": "simulated",
            "credentials": [{"name": "main", "key": "k"}],
        }  # fmt: skip

    def model(name: str) -> dict:
        return {"deployments": [{"vendor": name, "credential": "main", "model": "m"}]}

    return {
        "server": {"port": 0, "workers": workers, "drain_timeout": "5s", **server},
        "storage": {"url": "sqlite:///dujiang.db", "flush_interval": "50ms"},
        "telemetry": {"log_calls": False, "metrics": False},
        "vendors": {"quick": vendor(url), "slow": vendor(slow_url)},
        "models": {"assistant": model("quick"), "slow": model("slow")},
        "plans": {"small": {"limits": [{"dimension": "requests", "window": "1h", "value": limit}]}},
        "tenants": [{"id": "shop", "plan": "small", "keys": [{"name": "dev", "secret": SHOP}]}],
    }


@pytest.mark.parametrize("workers", [1, 2])
@pytest.mark.parametrize("by_signal", [True, False])
async def test_new_limits_hold_at_once_and_what_was_used_stays_used(
    tmp_path: Path, workers: int, by_signal: bool
) -> None:
    async with serving(QUICK) as (_, url):
        before = config(url, url, limit=6, workers=workers, reload=not by_signal)
        async with serving_process(before, tmp_path) as gateway:

            async def calls(count: int) -> list[int]:
                # Each on a connection of its own, so that all workers take some.
                found = []
                for _ in range(count):
                    client = HttpClient(SystemClock())
                    found.append((await gateway.call(SHOP, client=client))[0])
                    client.close()
                return found

            assert await calls(8) == [200] * 6 + [429] * 2

            # One that is wrong changes nothing, and every mistake is named.
            wrong = {**before, "plans": {"small": {"limits": [{"dimension": "requests", "value": 9}]}}, "modles": {}}
            gateway.write_config(wrong)
            if by_signal:
                gateway.process.send_signal(signal.SIGHUP)
            line = await gateway.logged("the new configuration is refused")
            problems = "\n".join(line["problems"])
            assert "plans.small.limits[0]" in problems
            assert "modles" in problems
            assert await calls(1) == [429]

            gateway.write_config(config(url, url, limit=10, workers=workers, reload=not by_signal))
            if by_signal:
                gateway.process.send_signal(signal.SIGHUP)
            async with asyncio.timeout(10):
                while len([line for line in gateway.log if line["event"] == "configuration reloaded"]) < workers:
                    await asyncio.sleep(0.02)
            assert await calls(6) == [200] * 4 + [429] * 2

            # Less than is used already: nothing goes, and nothing breaks.
            gateway.log.clear()
            gateway.write_config(config(url, url, limit=3, workers=workers, reload=not by_signal))
            if by_signal:
                gateway.process.send_signal(signal.SIGHUP)
            async with asyncio.timeout(10):
                while len([line for line in gateway.log if line["event"] == "configuration reloaded"]) < workers:
                    await asyncio.sleep(0.02)
            assert await calls(2) == [429] * 2


async def test_a_worker_that_dies_while_the_file_is_wrong_is_replaced_with_the_last_good_one(tmp_path: Path) -> None:
    async with serving(QUICK) as (_, url):
        good = config(url, url, workers=2)
        async with serving_process(good, tmp_path) as gateway:
            gateway.write_config({**good, "modles": {}})
            await gateway.logged("the new configuration is refused")
            (victim, other) = gateway.workers()
            victim.kill()
            await gateway.logged("a worker died and is replaced")
            async with asyncio.timeout(10):
                while len(now := {one.pid for one in gateway.workers()} - {victim.pid}) < 2:
                    await asyncio.sleep(0.02)
            await asyncio.sleep(1)
            assert {one.pid for one in gateway.workers()} == now
            assert other.pid in now
            assert (await gateway.call(SHOP))[0] == 200


@pytest.mark.parametrize("workers", [1, 2])
async def test_sigterm_lets_streams_end_takes_nothing_new_and_writes_every_record(tmp_path: Path, workers: int) -> None:
    async with serving(QUICK) as (_, url), serving(SLOW) as (_, slow_url):
        # Records would wait a long time, were they not written at the end.
        settings = config(url, slow_url, workers=workers)
        settings["storage"]["flush_interval"] = "60s"
        async with serving_process(settings, tmp_path) as gateway:
            clients = [HttpClient(SystemClock()) for _ in range(6)]
            for client in clients:
                assert (await gateway.call(SHOP, client=client))[0] == 200
            streams = [await gateway.begin(SHOP, STREAM, client) for client in clients[:4]]
            for stream in streams:
                assert await stream.read()
            gateway.process.send_signal(signal.SIGTERM)
            await gateway.logged("draining")
            await asyncio.sleep(0.1)
            # On a connection that stands: told so. On a new one: told so, or nobody is there.
            kept = [await refused(gateway, client) for client in clients[4:]]
            assert set(kept) <= {503, None}
            assert await refused(gateway, HttpClient(SystemClock())) in (503, None)
            for stream in streams:
                assert (await rest(stream)).endswith(b"data: [DONE]\n\n")
            assert await gateway.stop() == 0
            for client in clients:
                client.close()
        written = gateway.records()
        assert sum(record["status"] == 200 for record in written) == 6 + 4
        assert sum(record["status"] == 503 for record in written) >= kept.count(503)
        assert {record["outcome"] for record in written if record["status"] == 200} == {"ok"}


async def refused(gateway, client: HttpClient) -> int | None:
    """Return the status of a call, or None when nobody answers."""
    try:
        return (await gateway.call(SHOP, client=client))[0]
    except TransportError:
        return None


async def rest(stream) -> bytes:
    body = b""
    while piece := await stream.read():
        body += piece
    return body


async def test_a_stream_that_takes_longer_than_the_grace_is_cut_off_and_recorded(tmp_path: Path) -> None:
    endless = VendorSpec.build({"first_token_s": 0.005, "tokens_per_s": 5, "output_tokens": 500})
    async with serving(endless) as (_, url):
        async with serving_process(config(url, url, drain_timeout="500ms"), tmp_path) as gateway:
            stream = await gateway.begin(SHOP, STREAM.replace(b"12", b"500"))
            assert await stream.read()
            begun = asyncio.get_running_loop().time()
            assert await gateway.stop(within_s=10) == 0
            assert asyncio.get_running_loop().time() - begun < 6
            stream.close()
        (record,) = gateway.records()
        assert record["outcome"] in ("cancelled", "broken")


async def test_a_killed_process_loses_at_most_the_last_flush(tmp_path: Path) -> None:
    async with serving(QUICK) as (_, url):
        settings = config(url, url)
        settings["storage"]["flush_interval"] = "300ms"
        async with serving_process(settings, tmp_path) as gateway:
            time = asyncio.get_running_loop().time
            answered: list[float] = []
            until = time() + 1.5
            while time() < until:
                status, _ = await gateway.call(SHOP, BODY)
                if status != 200:
                    break
                answered.append(time())
                await asyncio.sleep(0.02)
            os.kill(gateway.process.pid, signal.SIGKILL)
            killed = time()
            await gateway.process.wait()
        written = len(gateway.records())
        # One interval, and the time it takes to write.
        safe = sum(at < killed - 0.3 - 0.2 for at in answered)
        assert safe > 10
        assert safe <= written <= len(answered)


async def test_what_was_used_today_counts_after_a_restart(tmp_path: Path) -> None:
    async with serving(QUICK) as (_, url):
        settings = config(url, url, limit=4)
        async with serving_process(settings, tmp_path) as gateway:
            assert [(await gateway.call(SHOP))[0] for _ in range(3)] == [200] * 3
        for workers, expected in ((2, [200, 429, 429, 429]), (1, [429] * 4)):
            settings["server"]["workers"] = workers
            async with serving_process(settings, tmp_path) as gateway:
                statuses = [(await gateway.call(SHOP, client=HttpClient(SystemClock())))[0] for _ in range(4)]
                assert statuses == expected
