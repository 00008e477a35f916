"""One stream on its way from a vendor to a caller: each piece is counted, made into the caller's dialect, and sent.

Pieces pass in a plain function call, without waking anybody. A caller that reads slower than the vendor speaks
holds the vendor's socket back; the time until it is ready again is booked as the caller's.
"""

from __future__ import annotations

import re

from dujiang.errors import VendorFailed, VendorTimeout
from dujiang.gateway.exchange import OWN, SLOW_CLIENT, VENDOR_STREAM, Client, Exchange
from dujiang.gateway.settling import extend
from dujiang.gateway.whole_events import WholeEvents, before_event
from dujiang.protocols.error_bodies import error_event
from dujiang.protocols.translation import StreamTranslator
from dujiang.protocols.usage import StreamUsage, UsageChunkFilter
from dujiang.terms import Dialect
from dujiang.vendors.http_client import HttpResponse
from dujiang.vendors.transport_errors import TransportError

_SEQUENCE = re.compile(rb'"sequence_number": ?(\d+)')


class StreamPassage:
    """The state of one stream being relayed."""

    __slots__ = (
        "_client",
        "_exchange",
        "_extend_at",
        "_filter",
        "_last",
        "_response",
        "_translator",
        "is_held_up",
        "usage",
    )

    def __init__(
        self, exchange: Exchange, response: HttpResponse, dialect: Dialect, usage: StreamUsage, client: Client
    ) -> None:
        call = exchange.call
        assert call is not None
        self._exchange = exchange
        self._response = response
        self._client = client
        self._last = b""
        self._extend_at = 32
        self.is_held_up = False
        """Whether the caller has to take what was sent before there is more."""
        self._filter = WholeEvents() if call.wants_usage else UsageChunkFilter()
        self._translator: StreamTranslator | None = None
        self.usage = usage
        if dialect is not call.dialect:
            self._translator = StreamTranslator(
                dialect,
                call.dialect,
                model=call.model,
                reply_id=exchange.request.request_id,
                created=exchange.wall_at // 1_000_000_000,
                include_usage=call.wants_usage,
            )
            self.usage = self._translator.counted

    def begin(self, first: bytes) -> None:
        """Send the piece with which the answer proved good; it has been counted already."""
        self._exchange.stamps.first_client_write = self._exchange.book(OWN)
        self._send(first)

    def take(self, piece: bytes) -> bool:
        """Pass a piece on; False: no more, please, until the response is resumed."""
        exchange = self._exchange
        if self._translator is None:
            self.usage.feed(piece)
        if self.usage.events >= self._extend_at:
            self._extend_at = self.usage.events + 32
            extend(exchange, self.usage)
        return self._send(piece)

    def end(self, cut: TransportError | None) -> bytes:
        """Return what remains to be sent when the vendor has ended, or was `cut` off: the rest, or why it broke off."""
        exchange, usage, translator = self._exchange, self.usage, self._translator
        usage.finish()
        if translator is not None:
            rest = translator.finish() if cut is None else b""
            failure = translator.failure
            if cut is not None and failure is None and not translator.finished:
                failure = _broken_off(cut)
                rest = error_event(failure, exchange.dialect, exchange.request.request_id, translator.sequence)
        else:
            failure = self._failure(cut)
            if failure is None:
                rest = self._filter.finish()
            else:
                sequence = max((int(number) for number in _SEQUENCE.findall(self._last)), default=-1) + 1
                rest = error_event(failure, exchange.dialect, exchange.request.request_id, sequence)
        if failure is not None:
            exchange.failed(failure)
        exchange.answer_bytes += len(rest)
        return rest

    def _failure(self, cut: TransportError | None) -> VendorFailed | None:
        """Return why the stream is not complete; None when it is, whatever became of the connection afterwards."""
        usage = self.usage
        if usage.error is not None:
            return VendorFailed("The vendor broke off its answer with an error.")
        if usage.finished or (cut is None and usage.usage_is_final):
            return None
        return _broken_off(cut)

    def _send(self, piece: bytes) -> bool:
        if self._translator is not None:
            piece = self._translator.feed(piece)
            ended = self._translator.failure is not None
        else:
            piece = self._filter.feed(piece)
            ended = self.usage.error is not None
            if ended:
                # A vendor's words never reach a tenant as they are; `end` tells of the error in ours.
                piece = before_event(piece, self.usage.error or b"")
        if ended:
            self._response.close()
        if not piece:
            return True
        self._last = piece
        self._exchange.answer_bytes += len(piece)
        if self._client.write(piece):
            return True
        self._exchange.book(VENDOR_STREAM)
        self.is_held_up = True
        self._client.when_ready(self._ready)
        return False

    def _ready(self) -> None:
        self.is_held_up = False
        self._exchange.book(SLOW_CLIENT)
        self._response.resume()


def _broken_off(cut: TransportError | None) -> VendorFailed:
    kind = VendorTimeout if cut is not None and cut.timed_out else VendorFailed
    return kind("The vendor broke off its answer.")
