"""The composition root: the one place where the rooms are put together, from a configuration."""

from __future__ import annotations

import asyncio
import gc
import hashlib
import logging
from collections.abc import Callable, Iterator, Sequence

from dujiang.accounts.keys import Key, KeyRing, digest
from dujiang.admission.controller import Admission
from dujiang.admission.meters import Cell
from dujiang.clock import SECOND, Clock, EpochTime, SystemClock
from dujiang.config.schema import Config, KeySection
from dujiang.gateway.catalogue import Catalogue
from dujiang.gateway.meter_book import MeterBook
from dujiang.gateway.pipeline import Pipeline
from dujiang.metering.usage_report import UsageRow
from dujiang.server.day_use import recall_day_use
from dujiang.server.http import Routes
from dujiang.server.http_protocol import ServerDoor
from dujiang.server.pages import Pages
from dujiang.server.pepper import load_pepper
from dujiang.server.record_queue import Reader, RecordQueue
from dujiang.server.telemetry import Metrics, write_call_log
from dujiang.server.traces import trace_export
from dujiang.storage.sqlite import SqliteStore
from dujiang.terms import KeyId, ProjectId, TenantId
from dujiang.vendors.deployments import Deployment
from dujiang.vendors.http_client import HttpClient

log = logging.getLogger("dujiang.server")

_KEYS_LOOK_S = 1.0
_LEASE_LOOK_S = 5.0


class Gateway:
    """A whole gateway in one process: made from a configuration, reloaded with another, drained at the end."""

    def __init__(
        self,
        config: Config,
        *,
        clock: Clock | None = None,
        cell_for: Callable[[str], Cell] | None = None,
        worker: int = 0,
        workers: int = 1,
    ) -> None:
        self.config = config
        self.clock = clock or SystemClock()
        self.store = SqliteStore(config.storage.url)
        self.pepper = load_pepper(config)
        self.book = MeterBook(self.clock, cell_for)
        self.client = HttpClient(self.clock)
        self.keys = KeyRing(self.pepper)
        self.admission: Admission[Deployment] = Admission(self.clock, config.queue, lease_ns=_lease_ns(config))
        catalogue = Catalogue(config, self.book)
        self.metrics = Metrics(self._gauges(), several_processes=workers > 1) if config.telemetry.metrics else None
        self._traces = trace_export(config)
        self.records = RecordQueue(
            self.store.add_records,
            list(self._readers(config)),
            interval_ns=config.storage.flush_interval,
            max_pending=config.storage.max_pending,
        )
        self.pipeline = Pipeline(
            clock=self.clock,
            keys=self.keys,
            catalogue=catalogue,
            admission=self.admission,
            client=self.client,
            records=self.records,
            queue=config.queue,
            fingerprint_key=hashlib.blake2b(b"fingerprints", key=self.pepper, digest_size=32).digest(),
            use_tokenizer=config.estimates.tokenizer,
        )
        self.pages = Pages(
            pipeline=self.pipeline,
            admission=self.admission,
            book=self.book,
            records=self.records,
            clock=self.clock,
            pepper=self.pepper,
            metrics=self.metrics.page if self.metrics else None,
            usage_since=self._usage_since,
            worker=worker,
            workers=workers,
        )
        self.door = ServerDoor(Routes(self.pipeline, self.pages, self.clock).handle, config.server, self.clock)
        self._keys_revision = -1
        self._housekeeping: set[asyncio.Task[None]] = set()
        self._take_keys()
        self.store.mirror(config)
        if worker == 0 and _is_first_start(cell_for):
            recall_day_use(self.store, self.book, catalogue, self.clock)

    def start(self) -> None:
        """Begin the work beside the calls, in the running event loop."""
        loop = asyncio.get_running_loop()
        self.records.start()
        for work in (self._watch_keys(), self._watch_leases()):
            self._housekeeping.add(loop.create_task(work))
        # What lives now lives for ever: the collector need not look at it again.
        gc.collect()
        gc.freeze()
        # A call leaves almost nothing to it; what exceptions leave may wait, but not until it is megabytes.
        gc.set_threshold(5_000, 10, 10)

    def reload(self, config: Config) -> None:
        """Use another configuration from the next call on; raises ValueError and changes nothing if it cannot.

        Limits that stay keep their count. What only a restart can change (address, workers, storage) stays.
        """
        links = dict(self.pipeline.catalogue.links)
        catalogue = Catalogue(config, self.book)
        self.config = config
        self.pipeline.catalogue = catalogue
        self.pipeline.queue = config.queue
        self.pipeline.use_tokenizer = config.estimates.tokenizer
        self.admission.limits = config.queue
        self.door.bounds = config.server
        self.admission.wake_soon()
        for link in links.values():
            self.client.retire_origin(link.origin)
        try:
            self._take_keys()
            self.store.mirror(config)
        except Exception:
            # Looked at again as soon as the database answers.
            self._keys_revision = -1
            log.exception("the new configuration is in use, but the database does not know of it yet")
        # The old configuration is thousands of objects that hold each other.
        gc.collect()

    async def drain(self, grace_ns: int) -> None:
        """Take no new calls, let those in flight end in time, write every record."""
        self.pipeline.draining = True
        self.door.close_idle()
        deadline = self.clock.now() + grace_ns
        while self.pipeline.in_flight and self.clock.now() < deadline:
            await asyncio.sleep(0.02)
        await self.pipeline.relay.close(max((deadline - self.clock.now()) / SECOND, 0.1))

    async def close(self) -> None:
        """Stop the work beside the calls and write what is left."""
        for task in self._housekeeping:
            task.cancel()
        await asyncio.gather(*self._housekeeping, return_exceptions=True)
        # Calls that were cut off when their connections were closed have only now become answers without a caller.
        await self.pipeline.relay.close(0.05)
        await self.records.close()
        if self._traces is not None:
            self._traces.close()
        self.client.close()
        self.store.close()

    def _readers(self, config: Config) -> Iterator[Reader]:
        if self.metrics is not None:
            yield self.metrics.observe
        if config.telemetry.log_calls:
            yield write_call_log
        if self._traces is not None:
            yield self._traces.export

    def _gauges(self) -> dict[str, tuple[str, Callable[[], float]]]:
        return {
            "dujiang_calls_in_flight": ("Calls being answered.", lambda: self.pipeline.in_flight),
            "dujiang_calls_waiting": ("Calls that wait for a limit.", lambda: self.admission.waiting),
            "dujiang_reservations_held": ("Reservations held.", lambda: self.admission.held),
            "dujiang_vendor_connections": ("Open connections to vendors.", self.client.connections),
            "dujiang_records_pending": ("Records that wait to be written.", lambda: self.records.state()["pending"]),
            "dujiang_records_dropped": ("Records lost to overload.", lambda: self.records.dropped),
        }

    async def _usage_since(self, since: EpochTime, tenant: str) -> list[UsageRow]:
        return await asyncio.get_running_loop().run_in_executor(None, self.store.usage_since, since, tenant)

    async def _watch_keys(self) -> None:
        """Notice keys that were made or revoked by another process."""
        loop = asyncio.get_running_loop()
        while True:
            await asyncio.sleep(_KEYS_LOOK_S)
            try:
                if await loop.run_in_executor(None, self.store.keys_revision) != self._keys_revision:
                    self._take_keys()
                    self.pipeline.catalogue.forget_keys()
            except Exception:
                log.exception("the keys could not be read; those known stay in use")

    async def _watch_leases(self) -> None:
        while True:
            await asyncio.sleep(_LEASE_LOOK_S)
            lost = self.admission.expire_lost()
            if lost:
                log.error("reservations outlived every call and were ended", extra={"count": lost})

    def _take_keys(self) -> None:
        self._keys_revision = self.store.keys_revision()
        self.keys.replace([*configured_keys(self.config, self.pepper), *self.store.keys()])


def configured_keys(config: Config, pepper: bytes) -> Iterator[Key]:
    """Return the keys that stand in the configuration."""
    for tenant in config.tenants:
        projects: Sequence[tuple[str, Sequence[KeySection]]] = [
            ("default", tenant.keys),
            *((project.id, project.keys) for project in tenant.projects),
        ]
        for project_id, keys in projects:
            for key in keys:
                yield Key(
                    id=KeyId(f"{tenant.id}/{project_id}/{key.name}"),
                    tenant=TenantId(tenant.id),
                    project=ProjectId(project_id),
                    name=key.name,
                    digest=digest(key.secret.get_secret_value().encode(), pepper),
                    created_at=EpochTime(0),
                    models=key.models,
                    configured=True,
                )


def _is_first_start(cell_for: Callable[[str], Cell] | None) -> bool:
    """Return whether no worker was in this one's place before: a successor finds what was used in shared memory."""
    if cell_for is None:
        return True
    mark = cell_for("what was used before the start is recalled")
    if mark.inherited():
        return False
    mark.publish(1, 0)
    return True


def _lease_ns(config: Config) -> int:
    """Return how long a reservation may be held: as long as any vendor may take, and some."""
    totals = [vendor.timeouts.connect + vendor.timeouts.total for vendor in config.vendors.values()]
    return max(totals, default=600 * SECOND) * 2 + 60 * SECOND
