"""Everything that is asked for with GET: models, limits, usage, health, metrics and the operator's view."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any
from urllib.parse import parse_qs, unquote

import msgspec

from dujiang import __version__
from dujiang.accounts.keys import Key
from dujiang.accounts.operator import is_operator
from dujiang.admission.controller import Admission
from dujiang.admission.meters import ConcurrencyMeter, Meter
from dujiang.clock import SECOND, Clock, EpochTime
from dujiang.errors import InvalidRequest, MethodNotAllowed, NotAllowed, NotFound
from dujiang.gateway.meter_book import MeterBook
from dujiang.gateway.pipeline import Pipeline
from dujiang.gateway.request_headers import caller_secret
from dujiang.metering.usage_report import UsageRow
from dujiang.server.http_request import HttpRequest
from dujiang.server.record_queue import RecordQueue
from dujiang.vendors.deployments import Deployment

JSON = b"application/json"
Answer = tuple[int, bytes, bytes]
_DAY_NS = 86_400 * SECOND


class Pages:
    """Answers that no vendor is needed for."""

    def __init__(
        self,
        *,
        pipeline: Pipeline,
        admission: Admission[Deployment],
        book: MeterBook,
        records: RecordQueue,
        clock: Clock,
        pepper: bytes,
        metrics: Callable[[], bytes] | None,
        usage_since: Callable[[EpochTime, str], Awaitable[list[UsageRow]]],
        worker: int = 0,
        workers: int = 1,
    ) -> None:
        self._pipeline = pipeline
        self._admission = admission
        self._book = book
        self._records = records
        self._clock = clock
        self._pepper = pepper
        self._metrics = metrics
        self._usage_since = usage_since
        self._worker = worker
        self._workers = workers
        self._started_at = clock.wall()

    async def answer(self, request: HttpRequest) -> Answer:
        """Return status, content type and body; raises NotFound, MethodNotAllowed, InvalidKey, NotAllowed."""
        path = unquote(request.url.decode("latin-1"))
        if path != "/" and path.endswith("/"):
            path = path.rstrip("/")
        page = self._page(path)
        if page is None:
            raise NotFound(f"There is nothing at {path[:200]}; calls go to /v1/chat/completions and its like.")
        if request.method not in (b"GET", b"HEAD"):
            raise MethodNotAllowed(f"{path[:200]} takes GET.", headers={"allow": "GET"})
        return await page(request)

    def _page(self, path: str) -> Callable[[HttpRequest], Awaitable[Answer]] | None:
        match path:
            case "/livez" | "/health":
                return self._live
            case "/readyz":
                return self._ready
            case "/metrics" if self._metrics is not None:
                return self._metrics_page
            case "/v1/models":
                return self._models
            case "/v1/limits":
                return self._limits
            case "/v1/usage":
                return self._usage
            case "/admin/status":
                return self._status
            case _ if path.startswith("/v1/models/"):
                return self._model
        return None

    async def _live(self, _request: HttpRequest) -> Answer:
        return 200, JSON, b'{"status":"live"}'

    async def _ready(self, _request: HttpRequest) -> Answer:
        if self._pipeline.draining:
            return 503, JSON, b'{"status":"draining"}'
        return 200, JSON, b'{"status":"ready"}'

    async def _metrics_page(self, _request: HttpRequest) -> Answer:
        assert self._metrics is not None
        return 200, b"text/plain; version=0.0.4; charset=utf-8", self._metrics()

    def _key(self, request: HttpRequest) -> Key:
        return self._pipeline.keys.find(caller_secret(request.headers), self._clock.wall())

    async def _models(self, request: HttpRequest) -> Answer:
        names = self._pipeline.catalogue.model_names(self._key(request))
        created = self._started_at // SECOND
        if b"anthropic-version" in request.headers:
            data = [self._anthropic_model(name) for name in names]
            ends = {"first_id": names[0] if names else None, "last_id": names[-1] if names else None}
            return 200, JSON, msgspec.json.encode({"data": data, "has_more": False, **ends})
        listed = [{"id": name, "object": "model", "created": created, "owned_by": "dujiang"} for name in names]
        return 200, JSON, msgspec.json.encode({"object": "list", "data": listed})

    async def _model(self, request: HttpRequest) -> Answer:
        name = unquote(request.url.decode("latin-1")).removeprefix("/v1/models/")
        self._pipeline.catalogue.entitlement(self._key(request), name)
        if b"anthropic-version" in request.headers:
            return 200, JSON, msgspec.json.encode(self._anthropic_model(name))
        created = self._started_at // SECOND
        return (
            200,
            JSON,
            msgspec.json.encode({"id": name, "object": "model", "created": created, "owned_by": "dujiang"}),
        )

    def _anthropic_model(self, name: str) -> dict[str, str]:
        return {"type": "model", "id": name, "display_name": name, "created_at": "1970-01-01T00:00:00Z"}

    async def _limits(self, request: HttpRequest) -> Answer:
        key = self._key(request)
        meters = self._pipeline.catalogue.tenant_meters(key)
        waiting = sum(ask.tenant == key.tenant for lane in self._admission.lanes().values() for ask in lane)
        body = {"object": "list", "data": [self._limit(meter) for meter in meters], "queued": waiting}
        return 200, JSON, msgspec.json.encode(body)

    async def _usage(self, request: HttpRequest) -> Answer:
        key = self._key(request)
        text = parse_qs(request.query.decode("latin-1")).get("since_s", ["86400"])[0]
        if not text.isdigit() or not 0 < int(text) <= 366 * 86_400:
            raise InvalidRequest("since_s must be a whole number of seconds, at most a year.", param="since_s")
        since = EpochTime(self._clock.wall() - int(text) * SECOND)
        rows = await self._usage_since(since, key.tenant)
        data = [msgspec.structs.asdict(row) | {"deployment": None} for row in rows]
        return 200, JSON, msgspec.json.encode({"object": "list", "since_s": int(text), "data": data})

    async def _status(self, request: HttpRequest) -> Answer:
        if not is_operator(caller_secret(request.headers), self._pepper):
            raise NotAllowed("This page needs the operator's token; `dujiang status` sends it.")
        now = self._clock.now()
        queues = [
            {
                "model": model,
                **lane.counts(),
                "oldest_s": max((now - ask.arrived_at for ask in lane), default=0) / SECOND,
            }
            for model, lane in self._admission.lanes().items()
        ]
        deployments = [
            {"name": one.target.name, "paused_s": max(one.available_at - now, 0) / SECOND}
            for one in self._pipeline.catalogue.deployments()
        ]
        body = {
            "version": __version__,
            "started_at": self._started_at // SECOND,
            "worker": self._worker,
            "workers": self._workers,
            "draining": self._pipeline.draining,
            "in_flight": self._pipeline.in_flight + self._pipeline.relay.draining,
            "waiting": self._admission.waiting,
            "held": self._admission.held,
            "connections": self._pipeline.client.connections(),
            "tasks": len(asyncio.all_tasks()),
            "records": self._records.state(),
            "limits": [self._limit(meter) for meter in self._book.meters()],
            "queues": queues,
            "deployments": deployments,
        }
        return 200, JSON, msgspec.json.encode(body)

    def _limit(self, meter: Meter) -> dict[str, Any]:
        now = self._clock.now()
        in_use = meter.in_use(now)
        return {
            "name": meter.name,
            "scope": meter.name.split(" ", 1)[0],
            "dimension": meter.dimension.value,
            "window_s": None if isinstance(meter, ConcurrencyMeter) else meter.window_ns / SECOND,
            "limit": meter.limit,
            "source": "configured",
            "used": in_use,
            "pending": meter.pending,
            "remaining": max(meter.limit - in_use, 0),
            "resets_in_s": max(meter.whole_at(now) - now, 0) / SECOND,
        }
