"""Brings a vendor's answer to the caller. A streaming answer owns its reservation until its last byte.

A caller who hangs up does not free the vendor: unless the vendor's profile says that closing the connection
frees the slot and stops the bill, the rest of the answer is read and thrown away, and the slot is held until then.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from typing import Any

import msgspec

from dujiang.clock import Clock
from dujiang.errors import VendorFailed
from dujiang.gateway.answer_headers import answer_headers
from dujiang.gateway.exchange import OWN, SLOW_CLIENT, VENDOR_STREAM, Client, Exchange
from dujiang.gateway.settling import extend, settle, settle_partial, settle_stream
from dujiang.gateway.stream_passage import StreamPassage
from dujiang.gateway.vendor_trouble import VendorTrouble, refused
from dujiang.metering.record import Outcome
from dujiang.protocols.translation import translate_reply
from dujiang.protocols.usage import StreamUsage, usage_of_reply
from dujiang.protocols.vendor_errors import vendor_error
from dujiang.terms import Dialect, Usage
from dujiang.vendors.http_client import HttpResponse
from dujiang.vendors.refusals import Meaning
from dujiang.vendors.transport_errors import TransportError

_JSON = b"application/json"
_EVENTS = b"text/event-stream"
_NO_STREAM = (b"", b"{", b"[", b"<")
"""With what an answer begins that is no event stream: JSON, a page, nothing."""


class VendorAnswer:
    """A vendor's answer of which the head, and of a stream the first piece, is there."""

    __slots__ = ("dialect", "first", "headers", "response", "usage")

    def __init__(self, response: HttpResponse, dialect: Dialect, first: bytes) -> None:
        self.response = response
        self.headers = dict(response.headers)
        self.dialect = dialect
        self.first = first
        """The whole body, or the first piece of a stream."""
        self.usage: StreamUsage | None = None

    def request_id(self, name: str) -> str | None:
        """Return the vendor's own id of the call, from the header it is sent in."""
        value = self.headers.get(name.encode())
        return value.decode("latin-1")[:128] if value is not None else None


class Relay:
    """Delivers answers, and finishes those whose caller has gone."""

    def __init__(self, clock: Clock, finished: Callable[[Exchange], None]) -> None:
        self._clock = clock
        self._finished = finished
        self._draining: set[asyncio.Task[None]] = set()

    @property
    def draining(self) -> int:
        """Return how many answers are read to their end without a caller."""
        return len(self._draining)

    async def receive(
        self, exchange: Exchange, response: HttpResponse, dialect: Dialect, *, stream: bool
    ) -> VendorAnswer:
        """Wait until the answer is good enough to begin; raises VendorTrouble, TransportError.

        What can still be tried elsewhere is found here: a refusal, a body that is no answer, a stream that
        begins with an error.
        """
        await response.head()
        exchange.stamps.first_vendor_byte = (response.first_byte_at or self._clock.now()) - exchange.accepted_at
        if response.status >= 300 or not stream:
            body = await response.whole()
            exchange.stamps.last_vendor_byte = self._clock.now() - exchange.accepted_at
            if response.status >= 300:
                raise self._refused(exchange, response, body, dialect)
            answer = VendorAnswer(response, dialect, body)
            self._take_usage(exchange, usage_of_reply(body, dialect), body, response, dialect)
            return answer
        answer = VendorAnswer(response, dialect, await response.read())
        if answer.first.lstrip()[:1] in _NO_STREAM:
            await self._refuse_no_stream(exchange, answer)
        answer.usage = StreamUsage(dialect)
        answer.usage.feed(answer.first)
        if answer.usage.error is not None and answer.usage.events <= 1:
            response.close()
            raise self._refused(exchange, response, answer.usage.error, dialect)
        return answer

    async def _refuse_no_stream(self, exchange: Exchange, answer: VendorAnswer) -> None:
        """Raise VendorTrouble for what came where a stream was asked for: nothing, an error, a page."""
        response = answer.response
        body = answer.first + (await response.whole() if answer.first else b"")
        self._take_usage(exchange, None, body, response, answer.dialect)
        told = VendorFailed("The vendor did not answer with a stream.")
        raise VendorTrouble(Meaning.FAILED, told, status=response.status)

    async def deliver(self, exchange: Exchange, answer: VendorAnswer, client: Client) -> None:
        """Send an answer to the caller and settle its reservation."""
        if answer.usage is None:
            await self._deliver_whole(exchange, answer, client)
        else:
            await self._deliver_stream(exchange, answer, answer.usage, client)

    def abandon(
        self, exchange: Exchange, response: HttpResponse | None, usage: StreamUsage | None, dialect: Dialect
    ) -> None:
        """Finish a call whose caller has gone: free the vendor if that is possible, else wait for its end."""
        exchange.outcome = Outcome.CANCELLED
        exchange.status = 499
        deployment = exchange.deployment
        assert deployment is not None
        if response is None or deployment.link.profile.disconnect_frees:
            if response is not None:
                response.close()
            settle_partial(exchange, usage)
            self._finished(exchange)
            return
        task = asyncio.get_running_loop().create_task(self._drain(exchange, response, usage, dialect))
        self._draining.add(task)
        task.add_done_callback(self._draining.discard)

    async def close(self, grace_s: float) -> None:
        """Let answers without a caller end, then cut them off."""
        if self._draining:
            await asyncio.wait(self._draining, timeout=grace_s)
        for task in list(self._draining):
            task.cancel()
        await asyncio.gather(*self._draining, return_exceptions=True)

    async def _deliver_whole(self, exchange: Exchange, answer: VendorAnswer, client: Client) -> None:
        call = exchange.call
        assert call is not None
        body = answer.first
        if answer.dialect is not call.dialect:
            body = translate_reply(
                body,
                answer.dialect,
                call.dialect,
                model=call.model,
                reply_id=exchange.request.request_id,
                created=exchange.wall_at // 1_000_000_000,
            )
        settle(exchange)
        exchange.status = answer.response.status
        headers = answer_headers(exchange, answer.headers.get(b"content-type", _JSON))
        exchange.started = True
        exchange.answer_bytes = len(body)
        exchange.stamps.first_client_write = exchange.book(OWN)
        await client.answer(exchange.status, headers, body)
        exchange.stamps.last_client_write = exchange.book(SLOW_CLIENT)

    async def _deliver_stream(
        self, exchange: Exchange, answer: VendorAnswer, usage: StreamUsage, client: Client
    ) -> None:
        passage = StreamPassage(exchange, answer.response, answer.dialect, usage, client)
        exchange.status = answer.response.status
        cut: TransportError | None = None
        try:
            # An event stream whatever the vendor calls it: the SDKs decide by the content type.
            await client.start(exchange.status, answer_headers(exchange, _EVENTS, stream=True))
            exchange.started = True
            passage.begin(answer.first)
            await answer.response.relay(passage.take)
        except TransportError as error:
            cut = error
        except asyncio.CancelledError:
            exchange.book(SLOW_CLIENT if passage.is_held_up else VENDOR_STREAM)
            self.abandon(exchange, answer.response, passage.usage, answer.dialect)
            raise
        except Exception:
            answer.response.close()
            settle_partial(exchange, passage.usage)
            raise
        exchange.stamps.last_vendor_byte = exchange.book(VENDOR_STREAM)
        rest = passage.end(cut)
        settle_stream(exchange, passage.usage)
        if rest:
            client.write(rest)
        await client.finish()
        exchange.stamps.last_client_write = exchange.book(SLOW_CLIENT)

    async def _drain(
        self, exchange: Exchange, response: HttpResponse, usage: StreamUsage | None, dialect: Dialect
    ) -> None:
        try:
            await response.head()
            call = exchange.call
            if response.status >= 300 or call is None or not call.stream:
                body = await response.whole()
                if response.status < 300:
                    with contextlib.suppress(VendorTrouble):
                        self._take_usage(exchange, usage_of_reply(body, dialect), body, response, dialect)
                    settle(exchange)
                else:
                    self._settle_refused(exchange)
            else:
                usage = usage or StreamUsage(dialect)
                while piece := await response.read():
                    usage.feed(piece)
                    extend(exchange, usage)
                usage.finish()
                settle_stream(exchange, usage)
        except TransportError:
            settle_partial(exchange, usage)
        except asyncio.CancelledError:
            response.close()
            settle_partial(exchange, usage)
        finally:
            exchange.book(VENDOR_STREAM)
            self._finished(exchange)

    def _refused(self, exchange: Exchange, response: HttpResponse, body: bytes, dialect: Dialect) -> VendorTrouble:
        deployment = exchange.deployment
        assert deployment is not None
        headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in response.headers}
        error = vendor_error(response.status, headers, body, dialect)
        try:
            document = msgspec.json.decode(body)
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
            document = None
        wait_ns = deployment.link.profile.retry_after_ns(headers, document, self._clock.wall())
        return refused(deployment, error, wait_ns if wait_ns is not None else error.retry_after_ns)

    def _take_usage(
        self, exchange: Exchange, usage: Usage | None, body: bytes, response: HttpResponse, dialect: Dialect
    ) -> None:
        """Keep the usage a whole answer states; without one, make sure that it is an answer at all."""
        if usage is not None:
            exchange.usage = usage
            exchange.usage_source = "vendor"
            return
        try:
            document: Any = msgspec.json.decode(body)
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
            told = VendorFailed("The vendor's answer is not valid JSON.")
            raise VendorTrouble(Meaning.FAILED, told, status=response.status) from None
        if isinstance(document, dict) and (document.get("error") or "error_code" in document):
            raise self._refused(exchange, response, body, dialect)
        exchange.usage = exchange.estimate
        exchange.usage_source = "estimated"

    def _settle_refused(self, exchange: Exchange) -> None:
        if exchange.reservation is not None:
            exchange.reservation.settle(Usage(requests=0), self._clock.now(), vendor_actual=Usage(requests=1))
