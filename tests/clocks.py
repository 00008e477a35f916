"""Time that tests own: a clock that stands still, and an event loop whose time jumps from timer to timer."""

from __future__ import annotations

import asyncio
import selectors
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

from dujiang.clock import SECOND, EpochTime, Instant

Result = TypeVar("Result")
START = 1_000 * SECOND
WALL_START = 1_750_000_000 * SECOND
"""2025-06-15T15:06:40Z."""
_IO_PATIENCE_S = 5.0


class ManualClock:
    """A clock that moves only when it is told to."""

    def __init__(self, at: int = START, wall: int = WALL_START) -> None:
        self.at = at
        self.offset = wall - at

    def now(self) -> Instant:
        return Instant(self.at)

    def wall(self) -> EpochTime:
        return EpochTime(self.at + self.offset)

    def advance(self, duration_ns: int) -> None:
        """Let time pass."""
        assert duration_ns >= 0, "time does not run backwards"
        self.at += duration_ns


class _JumpingSelector(selectors.DefaultSelector):  # type: ignore[misc,valid-type]
    """Never sleeps: when nothing is ready, the clock jumps to the next timer instead."""

    def __init__(self, clock: ManualClock) -> None:
        super().__init__()
        self._clock = clock

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        ready = super().select(0)
        if ready or timeout == 0:
            return ready
        if timeout is None:
            # Only another thread can bring news; if none does, the test waits for what never comes.
            ready = super().select(_IO_PATIENCE_S)
            if not ready:
                raise RuntimeError("nothing will ever happen: every task waits and no timer is set")
            return ready
        # A nanosecond more than the rounding of floats can lose, so that the timer is due on arrival.
        self._clock.advance(max(round(timeout * SECOND), 0) + 1_000)
        return ready


class VirtualTimeLoop(asyncio.SelectorEventLoop):
    """An event loop in which a day passes as fast as its timers can be run."""

    def __init__(self, clock: ManualClock | None = None) -> None:
        self.clock = clock or ManualClock()
        super().__init__(_JumpingSelector(self.clock))

    def time(self) -> float:
        return self.clock.at / SECOND


def run_virtually(
    main: Callable[[ManualClock], Coroutine[Any, Any, Result]], clock: ManualClock | None = None
) -> Result:
    """Run a coroutine function, given the clock, in an event loop of virtual time; return its result.

    Errors that the loop only logged (a callback that raised, an exception nobody fetched) fail the run.
    """
    clock = clock or ManualClock()
    complaints: list[dict[str, Any]] = []
    with asyncio.Runner(loop_factory=lambda: VirtualTimeLoop(clock)) as runner:
        runner.get_loop().set_exception_handler(lambda _, context: complaints.append(context))
        result = runner.run(main(clock))
    assert not complaints, complaints
    return result


async def settled(turns: int = 10) -> None:
    """Let the event loop run everything that is due now, without letting time pass."""
    for _ in range(turns):
        await asyncio.sleep(0)
