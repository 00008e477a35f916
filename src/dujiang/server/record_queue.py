"""Records on their way to everything that wants to know what happened: written in groups, off the path of calls.

A call only appends to a list. On overload the newest records are dropped and counted, no call is ever blocked;
at shutdown everything is written; a killed process loses at most what came since the last flush.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor

from dujiang.clock import SECOND
from dujiang.metering.record import Record

log = logging.getLogger("dujiang.records")

Reader = Callable[[Sequence[Record]], None]
_GROUP_MAX = 500
"""Records a reader is given at once: it holds the interpreter for a few milliseconds at most."""


class RecordQueue:
    """Takes records from calls and gives them, in groups, to the store first and then to all other readers."""

    def __init__(self, store: Reader, readers: Sequence[Reader], *, interval_ns: int, max_pending: int) -> None:
        self._store = store
        self._readers = tuple(readers)
        self._interval_ns = interval_ns
        self._max_pending = max_pending
        self._pending: list[Record] = []
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="records")
        self._flushing: asyncio.Task[None] | None = None
        self._closing = asyncio.Event()
        self.written = 0
        self.dropped = 0

    def start(self) -> None:
        """Begin to flush, in the running event loop."""
        self._flushing = asyncio.get_running_loop().create_task(self._flush_for_ever(), name="records")

    def append(self, record: Record) -> None:
        """Take a record."""
        if len(self._pending) < self._max_pending:
            self._pending.append(record)
        else:
            self.dropped += 1

    def state(self) -> dict[str, int]:
        """Return how many records wait, were written and were dropped."""
        return {"pending": len(self._pending), "written": self.written, "dropped": self.dropped}

    async def close(self) -> None:
        """Write all that is left, and stop."""
        self._closing.set()
        if self._flushing is not None:
            await self._flushing
        self._thread.shutdown()

    async def flush(self) -> None:
        """Write all that waits now."""
        loop = asyncio.get_running_loop()
        while self._pending:
            group, self._pending = self._pending[:_GROUP_MAX], self._pending[_GROUP_MAX:]
            if not await loop.run_in_executor(self._thread, self._write, group):
                # The store is in trouble: keep the records for the next round, as far as there is room.
                room = self._max_pending - len(self._pending)
                self.dropped += max(len(group) - room, 0)
                self._pending[:0] = group[:room]
                return
            self.written += len(group)

    async def _flush_for_ever(self) -> None:
        while not self._closing.is_set():
            try:
                async with asyncio.timeout(self._interval_ns / SECOND):
                    await self._closing.wait()
            except TimeoutError:
                pass
            await self.flush()
        await self.flush()
        if self._pending:
            self.dropped += len(self._pending)
            log.error("records are lost: they could not be written before the end", extra={"count": len(self._pending)})
            self._pending.clear()

    def _write(self, group: list[Record]) -> bool:
        try:
            self._store(group)
        except Exception:
            log.exception("records could not be written; they are kept and tried again")
            return False
        for reader in self._readers:
            try:
                reader(group)
            except Exception:
                log.exception("a reader of records failed; its view of this group is lost")
        return True
