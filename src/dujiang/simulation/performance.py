"""How an admitted call is answered: at its pace, through its faults, to the last byte or not."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, MutableMapping
from dataclasses import dataclass
from typing import Any, cast

from dujiang.clock import SECOND
from dujiang.simulation.account import Account, Admission
from dujiang.simulation.exchange import Answer, Face, Refused, StreamingFace
from dujiang.simulation.faults import Fault, FaultKind
from dujiang.simulation.refusals import error_object
from dujiang.simulation.spec import OnDisconnect, VendorSpec

Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
Headers = list[tuple[bytes, bytes]]

JSON_TYPE = (b"content-type", b"application/json")
_EVENT_TYPE = [(b"content-type", b"text/event-stream; charset=utf-8"), (b"cache-control", b"no-cache")]

_TICK_S = 0.005
"""Real time between two writes of a stream at least: faster tokens travel together, each in its own event."""
_COUNT_TICK_S = 0.25
"""Vendor's time between two counts of output that is charged as generated but not streamed."""
_AT_ONCE = float("inf")


class ClientGone(Exception):
    """The client hung up, and this vendor stops generating then."""


@dataclass(slots=True)
class Performance:
    """One admitted call at work; `first_token_s` and `token_s` are in the vendor's seconds."""

    spec: VendorSpec
    face: Face
    answer: Answer
    account: Account
    admission: Admission
    headers: Headers
    first_token_s: float
    token_s: float
    faults: dict[FaultKind, Fault]
    now: Callable[[], int]
    _produced: int = 0

    async def play(self, receive: Receive, send: Send) -> str:
        """Generate and send the answer; return `finished`, or `broken` when a fault ended it.

        Raises ClientGone.
        """
        hang = self.faults.get(FaultKind.HANG)
        if hang is not None:
            delay_s = None if hang.delay is None else hang.delay / SECOND / self.spec.time_scale
            if await departs_within(receive, delay_s) and self._stops_when_alone:
                raise ClientGone
            if hang.delay is None:
                return "broken"
        if self.answer.ask.stream:
            return await self._stream(cast("StreamingFace", self.face), receive, send)
        return await self._whole(receive, send)

    async def _whole(self, receive: Receive, send: Send) -> str:
        counted = any(limit.by_generation for limit in self.account.limits)
        async for _ in self._produce(receive, _COUNT_TICK_S / self.spec.time_scale if counted else _AT_ONCE):
            pass
        body = self.face.whole(self.answer)
        if FaultKind.CUT in self.faults:
            length = (b"content-length", b"%d" % len(body))
            await send({"type": "http.response.start", "status": 200, "headers": [*self.headers, JSON_TYPE, length]})
            await send({"type": "http.response.body", "body": body[: len(body) // 2], "more_body": True})
            return "broken"
        if FaultKind.MALFORMED in self.faults:
            await respond(send, 200, [*self.headers, JSON_TYPE], body[: len(body) // 2])
            return "broken"
        await respond(send, 200, [*self.headers, JSON_TYPE], body)
        return "finished"

    async def _stream(self, face: StreamingFace, receive: Receive, send: Send) -> str:
        kinds = (FaultKind.CUT, FaultKind.MALFORMED, FaultKind.ERROR)
        fault = next((self.faults[kind] for kind in kinds if kind in self.faults), None)
        last = len(self.answer.pieces) if fault is None else min(fault.chunks, len(self.answer.pieces))
        sent = 0
        started = False
        async for produced in self._produce(receive, _TICK_S):
            events = b""
            if not started:
                started = True
                await send({"type": "http.response.start", "status": 200, "headers": [*self.headers, *_EVENT_TYPE]})
                events = face.opening(self.answer)
            end = min(produced, last)
            events += face.delta(self.answer, sent, end)
            sent = end
            if fault is not None and sent == last:
                await self._break(face, fault, events, send)
                return "broken"
            await send({"type": "http.response.body", "body": events, "more_body": True})
        await send({"type": "http.response.body", "body": face.closing(self.answer)})
        return "finished"

    async def _break(self, face: StreamingFace, fault: Fault, events: bytes, send: Send) -> None:
        """End a stream as its fault says; a cut leaves the body without its end."""
        if fault.kind is FaultKind.MALFORMED:
            events += b'data: {"id": "broken-off\n\n'
        elif fault.kind is FaultKind.ERROR:
            refused = Refused(fault.status, "Simulated error within the stream.", code=fault.code)
            events += face.broken(error_object(face.dialect, refused))
        whole = fault.kind is not FaultKind.CUT
        await send({"type": "http.response.body", "body": events, "more_body": not whole})

    async def _produce(self, receive: Receive, tick_s: float) -> AsyncIterator[int]:
        """Generate the answer at its pace; yield how many tokens there are, at most once in `tick_s`.

        Yields once at least, after the time to the first token. Raises ClientGone.
        """
        time = asyncio.get_running_loop().time
        total = len(self.answer.pieces)
        token_s = self.token_s / self.spec.time_scale
        first_at = time() + self.first_token_s / self.spec.time_scale
        at_once = tick_s == _AT_ONCE or not token_s
        step = total if at_once else max(1, int(tick_s / token_s))
        produced = total if at_once else min(1, total)
        while True:
            delay_s = first_at + max(0, produced - 1) * token_s - time()
            if delay_s > 0:
                await self._pause(receive, delay_s)
            elif token_s:  # late: catch up with what is due
                produced = min(total, max(produced, int((time() - first_at) / token_s) + 1))
            if produced > self._produced:
                self.account.generate(self.now(), self.admission, produced - self._produced)
                self._produced = produced
            yield produced
            if produced >= total:
                return
            produced = min(total, produced + step)

    @property
    def _stops_when_alone(self) -> bool:
        return self.spec.on_disconnect is OnDisconnect.STOP

    async def _pause(self, receive: Receive, delay_s: float) -> None:
        if not self._stops_when_alone:
            await asyncio.sleep(delay_s)
        elif await departs_within(receive, delay_s):
            raise ClientGone


async def departs_within(receive: Receive, delay_s: float | None) -> bool:
    """Return True when the client leaves, False when `delay_s` (None: for ever) is over first."""
    try:
        async with asyncio.timeout(delay_s):
            while (await receive())["type"] != "http.disconnect":
                pass
    except TimeoutError:
        return False
    return True


async def respond(send: Send, status: int, headers: Headers, body: bytes) -> None:
    """Send a whole answer."""
    length = (b"content-length", b"%d" % len(body))
    await send({"type": "http.response.start", "status": status, "headers": [*headers, length]})
    await send({"type": "http.response.body", "body": body})
