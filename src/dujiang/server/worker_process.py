"""The program of one worker under a supervisor: `python -m dujiang.server.worker_process …`."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import socket
import sys
import time
from pathlib import Path

from dujiang.admission.shared import SharedArena
from dujiang.clock import SECOND
from dujiang.config import load_config
from dujiang.server.app import Gateway
from dujiang.server.worker import listen, run_worker

log = logging.getLogger("dujiang.server")

_OPENING_PATIENCE_MS = 10_000
_OPENING_LOOK_MS = 5


class Siblings:
    """What a worker owes to the others: to tell them when something it used became free, whether it is busy or idle."""

    def __init__(self, own: int, pairs: list[tuple[socket.socket, socket.socket]], arena: SharedArena) -> None:
        self._mine = pairs[own][0]
        self._others = [theirs for number, (_, theirs) in enumerate(pairs) if number != own]
        self._arena = arena
        self._waiting = arena.cell("calls that wait")
        self._ticking: asyncio.Task[None] | None = None
        self._supervisor = os.getppid()

    def attach(self, gateway: Gateway) -> None:
        """Ring the others when this worker frees something they may wait for, and listen to their rings."""
        self._arena.open()
        admission = gateway.admission
        admission.on_capacity = self.ring
        admission.on_waiting = lambda count: self._waiting.publish(count, 0)
        loop = asyncio.get_running_loop()
        loop.add_reader(self._mine.fileno(), self._heard, gateway)
        self._ticking = loop.create_task(self._expire(gateway))

    def ring(self) -> None:
        """Tell the others, if any of them has calls waiting.

        A full socket means that a worker has not looked since the last ring: that is enough.
        """
        if not self._waiting.others():
            return
        for other in self._others:
            try:
                other.send(b"!")
            except OSError:
                continue

    def _heard(self, gateway: Gateway) -> None:
        try:
            while self._mine.recv(64):
                pass
        except OSError:
            pass
        gateway.admission.wake_soon()

    async def _expire(self, gateway: Gateway) -> None:
        """Let what no longer counts expire in time, also while no call looks at it: the others count our words."""
        while True:
            meters = [meter for meter in gateway.book.meters() if meter.used]
            shortest_ns = min((meter.window_ns for meter in meters if meter.window_ns), default=10 * SECOND)
            await asyncio.sleep(min(max(shortest_ns / SECOND / 100, 0.01), 0.1))
            if os.getppid() != self._supervisor:
                # Without a supervisor nobody would replace, reload or stop this worker.
                log.error("the supervisor is gone; draining")
                os.kill(os.getpid(), signal.SIGTERM)
                return
            now = gateway.clock.now()
            freed = False
            for meter in meters:
                before = meter.used
                meter.expire(now)
                freed = freed or meter.used < before
            if freed:
                self.ring()


def await_opening(arena: SharedArena) -> None:
    """Wait until the first worker has recalled what was used before, at most for a while: it may have died."""
    for _ in range(_OPENING_PATIENCE_MS // _OPENING_LOOK_MS):
        if arena.is_open:
            return
        time.sleep(_OPENING_LOOK_MS / 1000)
    log.warning("the first worker has not opened the limits in time; going on without what was used before")


def main(arguments: list[str]) -> None:
    """Serve as one of several workers until SIGTERM.

    Begins with the last good configuration, which the supervisor keeps; later ones are read from the file itself.
    """
    path, number, count, arena, port = Path(arguments[0]), *map(int, arguments[1:5])
    pairs = []
    for pair in arguments[5].split(","):
        mine, theirs = (socket.socket(fileno=int(end)) for end in pair.split(":"))
        pairs.append((mine, theirs))
    config = load_config(Path(arguments[6]))
    shared = SharedArena(arena, count, number)
    listener = listen(config.server.host, port, shared=True)
    siblings = Siblings(number, pairs, shared)
    if number > 0:
        await_opening(shared)
    run_worker(config, path, listener, cell_for=shared.cell, number=number, count=count, attach=siblings.attach)


if __name__ == "__main__":
    main(sys.argv[1:])
