"""A whole gateway on a free loopback port, inside the running event loop, alone or before a simulated vendor."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from typing import Any
from unittest import mock

import yaml

from dujiang.clock import MILLISECOND, SECOND, Clock, EpochTime, Instant
from dujiang.config import parse_config
from dujiang.metering.record import Record
from dujiang.server import app
from dujiang.server.app import Gateway
from dujiang.server.worker import Worker, listen
from dujiang.simulation.spec import VendorSpec
from dujiang.simulation.vendor import SimulatedVendor
from tests.simulated import serving

KEY = "dj-test-key-0123456789abcdef"
VENDOR_KEY = "sk-vendor-secret-4711-abcdef"
QUICK = {"first_token_s": 0.002, "tokens_per_s": 2000, "output_tokens": 12}
"""A vendor that answers twelve tokens in eight milliseconds."""


class ManualClock:
    """A clock that stands still until it is moved."""

    def __init__(self) -> None:
        self.at = 1_000 * SECOND

    def now(self) -> Instant:
        return Instant(self.at)

    def wall(self) -> EpochTime:
        return EpochTime(1_700_000_000 * SECOND + self.at)

    def advance_ms(self, milliseconds: float) -> None:
        self.at += round(milliseconds * MILLISECOND)


class RunningGateway:
    """What a test may do with a gateway that serves."""

    def __init__(self, worker: Worker, port: int) -> None:
        self.worker = worker
        self.port = port
        self.base_url = f"http://127.0.0.1:{port}"
        self.openai_url = f"{self.base_url}/v1"
        self.key = KEY
        self.headers = {"authorization": f"Bearer {KEY}"}
        self._seen: list[Record] = []
        queue = self.gateway.records
        queue._readers = (*queue._readers, self._seen.extend)

    @property
    def gateway(self) -> Gateway:
        return self.worker.gateway

    async def records(self) -> list[Record]:
        """Return all records so far, each after it was written to the store."""
        queue = self.gateway.records
        await queue.flush()
        # A flush by the queue's own timer may still be at work in its thread.
        await asyncio.get_running_loop().run_in_executor(queue._thread, lambda: None)
        assert len({record.request_id for record in self._seen}) == len(self._seen), "one call, one record"
        for record in self._seen:
            check_record(record)
            assert self.gateway.store.record(record.request_id) is not None, "every record is stored"
        return list(self._seen)

    async def record(self) -> Record:
        """Return the record of the only call so far."""
        (record,) = await self.records()
        return record

    def server_tasks(self) -> set[asyncio.Task[None]]:
        """Return the tasks that answer requests."""
        return self.gateway.door.tasks

    def connections(self) -> int:
        """Return how many clients are connected."""
        return len(self.gateway.door.connections)

    def busy(self) -> dict[str, int]:
        """Return what is not at rest."""
        gateway = self.gateway
        parts = {
            "in_flight": gateway.pipeline.in_flight,
            "draining": gateway.pipeline.relay.draining,
            "held": gateway.admission.held,
            "waiting": gateway.admission.waiting,
            "tasks": len(self.server_tasks()),
            "pending": sum(meter.pending for meter in gateway.book.meters()),
            "queued": sum(len(lane) for lane in gateway.admission.lanes().values()),
            "queued_bytes": gateway.admission._waiting_bytes,
        }
        return {name: count for name, count in parts.items() if count}

    async def at_rest(self, within_s: float = 5.0) -> None:
        """Wait until nothing is under way; fail with what still is."""
        await until(lambda: not self.busy(), within_s, lambda: f"still under way: {self.busy()}")

    def meter_use(self, scope: str, dimension: str) -> int:
        """Return how much of a limit is in use; where a scope has several of a dimension, of the first."""
        now = self.gateway.clock.now()
        found = [one for one in self.gateway.book.meters() if one.name.startswith(f"{scope} ")]
        return next(one.in_use(now) for one in found if one.dimension.value == dimension)


STAGES = ("authenticated", "body", "admitted", "pool", "dialled", "first_client_write", "last_client_write")
"""Stamps in the order of the way; the vendor's bytes and the settling have an order of their own."""


def check_record(record: Record) -> None:
    """Check what holds of every record: its parts add up exactly, its stamps are in order and within its time."""
    assert record.durations.total() == record.wall_ns, record
    assert all(getattr(record.durations, part) >= 0 for part in record.durations.__struct_fields__), record
    stamps = {name: getattr(record.stamps, name) for name in record.stamps.__struct_fields__}
    reached = {name: at for name, at in stamps.items() if at is not None}
    assert all(0 <= at <= record.wall_ns for at in reached.values()), record
    for order in (STAGES, ("dialled", "first_vendor_byte", "last_vendor_byte"), ("admitted", "settled")):
        times = [reached[name] for name in order if name in reached]
        assert times == sorted(times), record
    assert "settled" in reached, record
    if record.outcome == "ok" and record.attempts:
        assert {"body", "admitted", "pool", "dialled", "first_vendor_byte", "last_client_write"} <= reached.keys(), (
            record
        )
    assert (record.error is None) == (record.outcome in ("ok", "cancelled")) or record.outcome == "cancelled", record


async def until(done: Callable[[], bool], within_s: float = 5.0, otherwise: Callable[[], str] | None = None) -> None:
    """Wait in small real steps until something holds; fail when it does not in time."""
    time = asyncio.get_running_loop().time
    deadline = time() + within_s
    while not done():
        assert time() < deadline, otherwise() if otherwise else "did not come about in time"
        await asyncio.sleep(0.002)


def gateway_config(
    vendor_url: str,
    *,
    profile: str = "simulated",
    protocol: str = "openai",
    model: str = "m",
    vendor_limits: Sequence[Mapping[str, Any]] = (),
    limits: Sequence[Mapping[str, Any]] = (),
    vendor: Mapping[str, Any] | None = None,
    plan: Mapping[str, Any] | None = None,
    **sections: Any,
) -> dict[str, Any]:
    """Return a configuration with one vendor, the model `assistant` (the vendor's `model`) and one tenant, `shop`."""
    return {
        "server": {"port": 0, **sections.pop("server", {})},
        "storage": {"url": "memory://", "flush_interval": "20ms"},
        "telemetry": {"log_calls": False},
        "vendors": {
            "acme": {
                "protocol": protocol,
                "base_url": f"{vendor_url}/v1" if protocol == "openai" else vendor_url,
                "profile": profile,
                "network_spread": "50ms",
                "credentials": [{"name": "main", "key": VENDOR_KEY, "limits": list(vendor_limits)}],
                **(vendor or {}),
            }
        },
        "models": {"assistant": {"deployments": [{"vendor": "acme", "credential": "main", "model": model}]}},
        "plans": {"starter": {"limits": list(limits), **(plan or {})}},
        "tenants": [{"id": "shop", "plan": "starter", "keys": [{"name": "dev", "secret": KEY}]}],
        **sections,
    }


@contextlib.asynccontextmanager
async def running_gateway(config: str | Mapping[str, Any], clock: Clock | None = None) -> AsyncIterator[RunningGateway]:
    """Serve a configuration; at the end everything must come to rest by itself, and nothing may be left over."""
    text = config if isinstance(config, str) else yaml.safe_dump(dict(config), sort_keys=False)
    parsed = parse_config(text, {})
    worker = Worker(parsed, None)
    if clock is not None:
        worker.gateway.store.close()
        worker.gateway = Gateway(parsed, clock=clock)
    listener = listen(parsed.server.host, 0, shared=False)
    ready = asyncio.Event()
    serve = asyncio.get_running_loop().create_task(worker.serve(listener, ready.set), name="gateway")
    ended = asyncio.get_running_loop().create_task(ready.wait())
    # The collector of this process, which is full of tests, is not the gateway's to tune.
    with mock.patch.object(app, "gc"):
        await asyncio.wait({serve, ended}, return_when=asyncio.FIRST_COMPLETED)
    if serve.done():
        ended.cancel()
        await serve
    running = RunningGateway(worker, listener.getsockname()[1])
    try:
        yield running
        await running.at_rest()
    finally:
        worker.stop()
        await serve
    assert not running.server_tasks()
    assert not running.connections()
    assert worker.gateway.records.dropped == 0


@contextlib.asynccontextmanager
async def simulated_vendor(clock: Clock | None = None, **settings: Any) -> AsyncIterator[tuple[SimulatedVendor, str]]:
    """Serve a simulated vendor that takes only our key; `settings` are those of a VendorSpec."""
    async with serving(VendorSpec.build({"keys": [VENDOR_KEY], **QUICK, **settings}), clock) as served:
        yield served


@contextlib.asynccontextmanager
async def gateway_before_vendor(
    *, vendor_spec: Mapping[str, Any] | None = None, clock: Clock | None = None, **config: Any
) -> AsyncIterator[tuple[RunningGateway, SimulatedVendor]]:
    """Serve a gateway before one simulated vendor; `config` goes to `gateway_config`."""
    async with simulated_vendor(**(vendor_spec or {})) as (vendor, url):
        async with running_gateway(gateway_config(url, **config), clock) as gateway:
            yield gateway, vendor


@contextlib.asynccontextmanager
async def raw_vendor(
    answer: Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]],
) -> AsyncIterator[str]:
    """Serve a vendor that is a plain function over a connection; yields its address."""
    working: set[asyncio.Task[Any]] = set()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        working.add(task)
        try:
            await answer(reader, writer)
        except (ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
            pass
        finally:
            working.discard(task)
            writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    try:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    finally:
        server.close()
        for task in list(working):
            task.cancel()
        await asyncio.gather(*working, return_exceptions=True)


async def read_request(reader: asyncio.StreamReader) -> tuple[bytes, bytes]:
    """Return head and body of the next request; raises IncompleteReadError at the end."""
    head = await reader.readuntil(b"\r\n\r\n")
    (length,) = [
        int(line.partition(b":")[2]) for line in head.split(b"\r\n") if line.lower().startswith(b"content-length:")
    ]
    return head, await reader.readexactly(length)


@contextlib.asynccontextmanager
async def canned_vendor(
    got: list[tuple[bytes, bytes]], body: bytes, content_type: bytes = b"application/json"
) -> AsyncIterator[str]:
    """Serve a vendor that always answers the same bytes and keeps what it `got`: heads and bodies."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            got.append(await read_request(reader))
            writer.write(
                b"HTTP/1.1 200 OK\r\ncontent-type: %b\r\ncontent-length: %d\r\n\r\n%b" % (content_type, len(body), body)
            )
            await writer.drain()

    async with raw_vendor(answer) as url:
        yield url


class SdkCalls:
    """Calls an official SDK's client, sync or async, in the same words."""

    def __init__(self, client: Any) -> None:
        self.client = client
        self._is_async = type(client).__name__.startswith("Async")

    async def call(self, method: Callable[..., Any], *arguments: Any, **named: Any) -> Any:
        """Call a method of the client and return what it returns."""
        if self._is_async:
            return await method(*arguments, **named)
        return await asyncio.to_thread(method, *arguments, **named)

    async def items(self, iterable: Any) -> list[Any]:
        """Return everything a stream or a page yields."""
        if self._is_async:
            return [item async for item in iterable]
        return await asyncio.to_thread(list, iterable)

    async def close(self) -> None:
        """Close the client."""
        if self._is_async:
            await self.client.close()
        else:
            self.client.close()
