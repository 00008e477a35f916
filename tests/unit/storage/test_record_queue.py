"""Records on their way: never in a call's way, kept while the store is in trouble, counted when they are lost."""

from __future__ import annotations

import asyncio
import logging
import threading

import pytest
from tests.contract.test_stores import record

from dujiang.clock import MILLISECOND, SECOND
from dujiang.server.record_queue import RecordQueue


class Store:
    """Keeps groups of records; fails or waits when told to."""

    def __init__(self) -> None:
        self.groups: list[list[str]] = []
        self.fails = False
        self.gate = threading.Event()
        self.gate.set()

    def write(self, group) -> None:
        self.gate.wait(5)
        if self.fails:
            raise OSError("disk full")
        self.groups.append([one.request_id for one in group])

    @property
    def written(self) -> list[str]:
        return [one for group in self.groups for one in group]


def queue(store: Store, *readers, interval_ns: int = 5 * MILLISECOND, max_pending: int = 1_000) -> RecordQueue:
    return RecordQueue(store.write, readers, interval_ns=interval_ns, max_pending=max_pending)


async def test_records_are_written_in_order_in_groups_of_bounded_size() -> None:
    store, read = Store(), []
    records = queue(store, lambda group: read.extend(one.request_id for one in group), max_pending=5_000)
    names = [str(number) for number in range(1_234)]
    for name in names:
        records.append(record(name))
    assert records.state() == {"pending": 1_234, "written": 0, "dropped": 0}
    await records.flush()
    assert store.written == read == names
    assert [len(group) for group in store.groups] == [500, 500, 234]
    assert records.state() == {"pending": 0, "written": 1_234, "dropped": 0}
    await records.close()


async def test_records_are_written_by_themselves_after_an_interval() -> None:
    store = Store()
    records = queue(store)
    records.start()
    records.append(record("a"))
    async with asyncio.timeout(2):
        while store.written != ["a"]:
            await asyncio.sleep(0.002)
    await records.close()


async def test_closing_writes_what_is_left_without_waiting_for_the_interval() -> None:
    store = Store()
    records = queue(store, interval_ns=3_600 * SECOND)
    records.start()
    await asyncio.sleep(0)
    for number in range(700):
        records.append(record(str(number)))
    async with asyncio.timeout(2):
        await records.close()
    assert len(store.written) == 700
    assert records.state() == {"pending": 0, "written": 700, "dropped": 0}


async def test_on_overload_the_newest_are_dropped_and_counted() -> None:
    store = Store()
    records = queue(store, max_pending=3)
    for name in "abcde":
        records.append(record(name))
    assert records.state() == {"pending": 3, "written": 0, "dropped": 2}
    await records.flush()
    assert store.written == ["a", "b", "c"]
    await records.close()


async def test_a_store_in_trouble_keeps_records_for_later_in_their_order(caplog: pytest.LogCaptureFixture) -> None:
    store, read = Store(), []
    records = queue(store, read.extend)
    store.fails = True
    records.append(record("a"))
    records.append(record("b"))
    await records.flush()
    records.append(record("c"))
    await records.flush()
    assert (store.written, read) == ([], [])
    assert records.state() == {"pending": 3, "written": 0, "dropped": 0}
    assert "kept and tried again" in caplog.text
    store.fails = False
    await records.flush()
    assert store.written == ["a", "b", "c"]
    assert [one.request_id for one in read] == ["a", "b", "c"]
    await records.close()


async def test_what_came_meanwhile_has_its_place_when_the_store_fails() -> None:
    store = Store()
    records = queue(store, max_pending=4)
    for name in "abcd":
        records.append(record(name))
    store.fails = True
    store.gate.clear()
    flushing = asyncio.ensure_future(records.flush())
    await asyncio.sleep(0.01)
    for name in "efg":
        records.append(record(name))
    store.gate.set()
    await flushing
    state = records.state()
    assert state["pending"] == 4
    assert state["dropped"] == 3
    store.fails = False
    await records.flush()
    assert store.written == ["a", "e", "f", "g"]
    await records.close()


async def test_a_call_is_never_blocked_by_a_slow_store() -> None:
    store = Store()
    records = queue(store)
    records.start()
    store.gate.clear()
    records.append(record("a"))
    await asyncio.sleep(0.03)
    # The store holds a group for as long as it likes; the event loop goes on.
    for number in range(100):
        records.append(record(str(number)))
    assert records.state()["pending"] == 100
    store.gate.set()
    async with asyncio.timeout(2):
        await records.close()
    assert len(store.written) == 101


async def test_what_cannot_be_written_at_the_end_is_counted_and_said(caplog: pytest.LogCaptureFixture) -> None:
    store = Store()
    records = queue(store)
    records.start()
    store.fails = True
    records.append(record("a"))
    await records.close()
    assert records.state() == {"pending": 0, "written": 0, "dropped": 1}
    assert any("lost" in one.message and one.levelno == logging.ERROR for one in caplog.records)


async def test_a_reader_that_fails_takes_nothing_from_the_others(caplog: pytest.LogCaptureFixture) -> None:
    store, read = Store(), []

    def broken(group) -> None:
        raise ZeroDivisionError

    records = queue(store, broken, read.extend)
    records.append(record("a"))
    await records.flush()
    assert store.written == ["a"]
    assert len(read) == 1
    assert "a reader of records failed" in caplog.text
    await records.close()
