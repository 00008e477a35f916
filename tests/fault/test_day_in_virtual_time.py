"""A day of traffic through the whole pipeline, in virtual time: limits of calendar days hold, and nothing is left."""

from __future__ import annotations

import asyncio
import gc
import itertools
import json
import random
from collections import Counter
from collections.abc import Callable, Iterator
from datetime import datetime
from typing import Any
from zoneinfo import ZoneInfo

import yaml
from tests.clocks import START, ManualClock, run_virtually, settled

from dujiang.accounts.keys import KeyRing
from dujiang.admission.controller import Admission
from dujiang.admission.day_meter import DayMeter
from dujiang.admission.meters import ConcurrencyMeter, WindowMeter
from dujiang.clock import SECOND
from dujiang.config import parse_config
from dujiang.gateway.catalogue import Catalogue
from dujiang.gateway.meter_book import MeterBook
from dujiang.gateway.pipeline import Pipeline
from dujiang.metering.record import Record
from dujiang.server.app import configured_keys
from dujiang.terms import Operation, RequestId
from dujiang.vendors.deployments import Deployment
from dujiang.vendors.transport_errors import ConnectionBroken, ReadTimeout

SEED = 20_260_731
HOURS = 24
MORNING = 1_780_300_800
"""2026-06-01T08:00:00Z: midnight comes after 8 hours in Shanghai, after 16 in UTC."""
UTC, SHANGHAI = ZoneInfo("UTC"), ZoneInfo("Asia/Shanghai")
PEPPER = b"p" * 32
SHOP_DAY, FARM_DAY, MAIN_DAY = 2500, 2000, 7000
KEYS = {"shop": "dj-shop-0123456789abcdef", "farm": "dj-farm-0123456789abcdef", "mill": "dj-mill-0123456789abcdef"}
PACES = {"shop": 10.0, "farm": 12.5, "mill": 6.0}
"""Mean seconds between two calls of each tenant."""


def day_limit(value: int, zone: str) -> dict[str, Any]:
    return {"dimension": "requests", "window": "day", "time_zone": zone, "value": value}


CONFIG = {
    "storage": {"url": "memory://"},
    "queue": {"max_wait": "30s", "max_calls_per_tenant": 20},
    "vendors": {
        "acme": {
            "protocol": "openai",
            "base_url": "http://vendor.invalid/v1",
            "profile": "simulated",
            "network_spread": "300ms",
            "credentials": [
                {
                    "name": name,
                    "key": f"sk-{name}-0123456789",
                    "owner": name,
                    "limits": [
                        {"dimension": "requests", "window": "60s", "value": 20},
                        {"dimension": "tokens", "window": "60s", "value": 40_000},
                        {"dimension": "concurrency", "value": 3},
                        *([day_limit(MAIN_DAY, "Asia/Shanghai")] if name == "main" else []),
                    ],
                }
                for name in ("main", "spare")
            ],
        }
    },
    "models": {
        "assistant": {
            "deployments": [{"vendor": "acme", "credential": name, "model": "m"} for name in ("main", "spare")]
        }
    },
    "plans": {
        "shop": {"limits": [day_limit(SHOP_DAY, "UTC"), {"dimension": "concurrency", "value": 4}]},
        "farm": {"limits": [day_limit(FARM_DAY, "Asia/Shanghai")], "wait_at_limit": "5s"},
        "mill": {"limits": [{"dimension": "requests", "window": "60s", "value": 12}], "wait_at_limit": "20s"},
    },
    "tenants": [{"id": name, "plan": name, "keys": [{"name": "k", "secret": key}]} for name, key in KEYS.items()],
}


class Book:
    """What is counted by those who stand outside: arrivals and answers at the vendor, and records, by calendar day."""

    def __init__(self, clock: ManualClock) -> None:
        self._clock = clock
        self.arrived: Counter[tuple[str, str]] = Counter()
        self.answered: Counter[tuple[str, str]] = Counter()
        self.outcomes: Counter[tuple[str, str]] = Counter()
        self.waited: Counter[str] = Counter()

    def day(self, zone: ZoneInfo) -> str:
        return datetime.fromtimestamp(self._clock.wall() / SECOND, zone).date().isoformat()

    def append(self, record: Record) -> None:
        """Take a record, as the queue of records does."""
        self.outcomes[record.tenant or "", record.error or record.outcome.value] += 1
        assert record.durations.total() == record.wall_ns
        if record.waited_for:
            self.waited[record.waited_for] += 1


class Vendor:
    """Answers in the place of the HTTP client: late, in pieces, sometimes not, and counts who came when."""

    def __init__(self, clock: ManualClock, book: Book, chance: random.Random) -> None:
        self._clock = clock
        self.book = book
        self.chance = chance
        self.open: set[Answer] = set()
        self.most_open: Counter[str] = Counter()

    def connections(self) -> int:
        return len(self.open)

    def take_idle(self, _origin: object) -> object | None:
        return object() if self.chance.random() < 0.9 else None

    async def connect(self, _origin: object, _timeouts: object) -> object:
        await asyncio.sleep(0.02)
        return object()

    def begin(self, _origin: object, _connection: object, pieces: tuple[bytes, ...], _timeouts: object) -> Answer:
        account = "main" if b"sk-main-" in b"".join(pieces[:-1]) else "spare"
        call = json.loads(pieces[-1])
        answer = Answer(self, account, call["messages"][0]["content"].split()[0], stream=call.get("stream", False))
        self.open.add(answer)
        at_once = sum(one.account == account for one in self.open)
        self.most_open[account] = max(self.most_open[account], at_once)
        if answer.status == 200:
            # As the profile says of this vendor: what it turns away at the door it does not count.
            self.book.arrived[account, self.book.day(SHANGHAI)] += 1
        return answer

    def now(self) -> int:
        return self._clock.now()


class Answer:
    """One answer of the vendor; it counts as open until it was read to its end or closed."""

    def __init__(self, vendor: Vendor, account: str, tenant: str, *, stream: bool) -> None:
        self._vendor = vendor
        self.account = account
        self._tenant = tenant
        self._stream = stream
        self._fate = vendor.chance.choices(("answer", "error", "cut", "silence"), (96, 2, 1, 1))[0]
        self._tokens = max(1, round(vendor.chance.lognormvariate(4, 0.8)))
        self._days = {zone: vendor.book.day(zone) for zone in (UTC, SHANGHAI)}
        self.status = 500 if self._fate == "error" else 200
        content_type = b"text/event-stream" if stream else b"application/json"
        self.headers = [(b"content-type", content_type), (b"x-request-id", b"v-1")]
        self.first_byte_at: int | None = None
        self._pieces = self._events() if stream else iter(())
        self._ready = asyncio.Event()

    async def head(self) -> None:
        if self.first_byte_at is not None:
            return
        await asyncio.sleep(self._vendor.chance.uniform(0.2, 1.5))
        if self._fate == "silence":
            self.close()
            raise ReadTimeout("nothing in time", sent=True)
        self.first_byte_at = self._vendor.now()
        if self.status == 200 and (self._stream or self._fate != "cut"):
            # An answer that comes counts for the day in which its call was let in.
            zone = {"shop": UTC, "farm": SHANGHAI}.get(self._tenant)
            if zone is not None:
                self._vendor.book.answered[self._tenant, self._days[zone]] += 1

    def _usage(self) -> dict[str, int]:
        return {"prompt_tokens": 40, "completion_tokens": self._tokens, "total_tokens": 40 + self._tokens}

    def _events(self) -> Iterator[bytes]:
        for number in range(4):
            delta = {"id": "c", "choices": [{"index": 0, "delta": {"content": f"word {number}"}}]}
            yield b"data: %b\n\n" % json.dumps(delta).encode()
        if self._fate == "answer":
            yield b"data: %b\n\ndata: [DONE]\n\n" % json.dumps({"choices": [], "usage": self._usage()}).encode()

    async def read(self) -> bytes:
        await asyncio.sleep(self._tokens / 400)
        piece = next(self._pieces, b"")
        if not piece:
            self.close()
            if self._fate == "cut":
                raise ConnectionBroken("the vendor closed the connection", sent=True)
        return piece

    async def relay(self, sink: Callable[[bytes], bool]) -> None:
        """Give every piece to `sink`, which may ask for a pause."""
        while piece := await self.read():
            if not sink(piece):
                self._ready.clear()
                await self._ready.wait()

    def resume(self) -> None:
        self._ready.set()

    async def whole(self) -> bytes:
        await asyncio.sleep(self._tokens / 100)
        self.close()
        if self._fate == "cut":
            raise ConnectionBroken("the vendor closed the connection", sent=True)
        if self.status != 200:
            return b'{"error": {"message": "out of order", "type": "server_error"}}'
        message = {"role": "assistant", "content": "text"}
        choice = {"index": 0, "message": message, "finish_reason": "stop"}
        return json.dumps({"id": "c", "choices": [choice], "usage": self._usage()}).encode()

    def close(self) -> None:
        self._vendor.open.discard(self)


class Caller:
    """One request with its caller, who reads at his own pace."""

    operation = Operation.CHAT

    def __init__(self, clock: ManualClock, number: int, tenant: str, chance: random.Random) -> None:
        self.request_id = RequestId(f"req-{number}")
        self.accepted_at = clock.now()
        self.headers = {b"authorization": f"Bearer {KEYS[tenant]}".encode()}
        self._pace_s = 0.2 if chance.random() < 0.05 else 0.0
        content = f"{tenant} " + "water " * chance.randint(1, 60)
        call: dict[str, Any] = {"model": "assistant", "messages": [{"role": "user", "content": content}]}
        if chance.random() < 0.4:
            call["stream"] = True
        if chance.random() < 0.5:
            call["max_tokens"] = 400
        self._body = json.dumps(call).encode()

    async def body(self) -> bytes:
        return self._body

    async def start(self, status: int, lines: bytes) -> None:
        """Take the head of a stream."""

    def write(self, piece: bytes) -> bool:
        return not self._pace_s

    def when_ready(self, callback: Callable[[], None]) -> None:
        asyncio.get_running_loop().call_later(self._pace_s, callback)

    async def finish(self) -> None:
        """Take the end of a stream."""

    async def answer(self, status: int, lines: bytes, body: bytes) -> None:
        """Take a whole answer."""


class Day:
    """The pipeline with its vendor and its callers."""

    def __init__(self, clock: ManualClock) -> None:
        self.clock = clock
        self.chance = random.Random(SEED)
        self.book = Book(clock)
        self.vendor = Vendor(clock, self.book, self.chance)
        config = parse_config(yaml.safe_dump(CONFIG), {})
        self.meters = MeterBook(clock)
        self.admission: Admission[Deployment] = Admission(clock, config.queue)
        keys = KeyRing(PEPPER)
        keys.replace(list(configured_keys(config, PEPPER)))
        self.pipeline = Pipeline(
            clock=clock,
            keys=keys,
            catalogue=Catalogue(config, self.meters),
            admission=self.admission,
            client=self.vendor,  # type: ignore[arg-type]
            records=self.book,
            queue=config.queue,
            fingerprint_key=PEPPER,
        )
        self.calls: set[asyncio.Task[None]] = set()
        self.numbers = itertools.count(1)

    async def call_for(self, tenant: str, until: int) -> None:
        """Call as one tenant: at random, and in a burst now and then; some leave before they are answered."""
        while self.clock.now() < until:
            await asyncio.sleep(self.chance.expovariate(1 / PACES[tenant]))
            for _ in range(12 if self.chance.random() < 0.004 else 1):
                task = asyncio.ensure_future(self.one_call(tenant))
                self.calls.add(task)
                task.add_done_callback(self.calls.discard)
                if self.chance.random() < 0.06:
                    asyncio.get_running_loop().call_later(self.chance.expovariate(1.0), task.cancel)

    async def one_call(self, tenant: str) -> None:
        caller = Caller(self.clock, next(self.numbers), tenant, self.chance)
        await self.pipeline.run(caller, caller)  # type: ignore[arg-type]

    def sizes(self) -> dict[str, int]:
        """Return how large everything is that calls leave something in."""
        meters = self.meters.meters()
        admission = self.admission
        return {
            "meters": len(meters),
            "window pieces": sum(len(one._pieces) for one in meters if isinstance(one, WindowMeter)),
            "late entries": sum(len(one._late) for one in meters if isinstance(one, DayMeter)),
            "closing slots": sum(len(one._closing) for one in meters if isinstance(one, ConcurrencyMeter)),
            "lanes": len(admission.lanes()),
            "tenants waiting": len(admission._waiting_by_tenant),
            "futures": len(admission._futures),
            "held": admission.held,
            "pairs": len(self.pipeline.estimator._pairs),
            "entitlements": len(self.pipeline.catalogue._entitlements),
            "tasks": len(asyncio.all_tasks()),
            "open answers": len(self.vendor.open),
        }


def objects() -> int:
    gc.collect()
    return len(gc.get_objects())


async def live_through(clock: ManualClock) -> tuple[Day, list[dict[str, int]]]:
    day = Day(clock)
    end = START + HOURS * 3600 * SECOND
    tenants = [asyncio.ensure_future(day.call_for(tenant, end)) for tenant in KEYS]
    hourly = []
    for hour in range(1, HOURS + 1):
        await asyncio.sleep((START + hour * 3600 * SECOND - clock.now()) / SECOND)
        hourly.append(day.sizes() | {"objects": objects() if hour in (6, HOURS) else 0})
    await asyncio.gather(*tenants)
    # The longest anybody may still wait, be answered, or be drained for.
    await asyncio.sleep(120)
    await settled()
    return day, hourly


def peak(hourly: list[dict[str, int]], name: str, hours: Callable[[int], bool]) -> int:
    return max(sizes[name] for hour, sizes in enumerate(hourly, 1) if hours(hour))


def test_a_day_of_traffic_keeps_every_limit_and_leaves_nothing_behind() -> None:
    print(f"seed {SEED}")
    day, hourly = run_virtually(live_through, ManualClock(START, MORNING * SECOND))
    book, total = day.book, sum(day.book.outcomes.values())
    assert total == next(day.numbers) - 1, "every call has exactly one record"
    assert total > 25_000

    # Limits of calendar days: reached on both days of each zone, never passed, open again after midnight.
    shop = {date: count for (name, date), count in book.answered.items() if name == "shop"}
    farm = {date: count for (name, date), count in book.answered.items() if name == "farm"}
    assert list(shop) == ["2026-06-01", "2026-06-02"]
    assert list(farm) == ["2026-06-01", "2026-06-02"]
    for counts, limit in ((shop, SHOP_DAY), (farm, FARM_DAY)):
        assert all(0.97 * limit <= count <= limit for count in counts.values()), counts
    main = {date: count for (name, date), count in book.arrived.items() if name == "main"}
    assert max(main.values()) <= MAIN_DAY
    assert max(main.values()) >= 0.97 * MAIN_DAY
    assert sum(count for (name, _), count in book.arrived.items() if name == "spare") > 100, "the rest went elsewhere"
    assert max(day.vendor.most_open.values()) <= 3

    # The day was an eventful one.
    for tenant, ended in (
        ("shop", "rate_limit_exceeded"),
        ("farm", "rate_limit_exceeded"),
        ("mill", "cancelled"),
        ("mill", "upstream_error"),
        ("mill", "upstream_timeout"),
    ):
        assert book.outcomes[tenant, ended], (tenant, ended, book.outcomes)
    assert sum(book.waited.values()) > 500
    assert any(name.startswith("vendor:") for name in book.waited)

    # At the end nothing is held, waits or runs.
    assert day.pipeline.in_flight == 0
    assert day.pipeline.relay.draining == 0
    assert (day.admission.held, day.admission.waiting) == (0, 0)
    assert not day.calls
    assert not day.vendor.open, "every answer was read to its end or closed"
    assert day.admission._waiting_bytes == 0
    for meter in day.meters.meters():
        assert meter.pending == 0, meter.name
        if not isinstance(meter, DayMeter):
            assert meter.in_use(day.clock.now()) == 0, meter.name

    # And nothing grew between the morning and the next: the busy hours of the first quarter are the measure.
    for name in hourly[0]:
        if name != "objects":
            early, late = (peak(hourly, name, hours) for hours in (lambda hour: hour <= 6, lambda hour: hour > 6))
            assert late <= early * 1.5 + 12, f"{name}: {early} at most by hour 6, {late} after"
    print(f"{total} calls, {dict(book.outcomes)}, sizes at the end {hourly[-1]}")
    grown = hourly[-1]["objects"] - hourly[5]["objects"]
    assert grown < 1_000, f"{grown} more objects after {total} calls"
