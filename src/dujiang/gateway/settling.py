"""How a reservation ends: with what the vendor said, or with what was seen of an answer that has no final count."""

from __future__ import annotations

from dujiang.gateway.exchange import Exchange
from dujiang.protocols.usage import StreamUsage
from dujiang.terms import Usage

_BYTES_PER_OUTPUT_TOKEN = 4


def settle(exchange: Exchange) -> None:
    """End the reservation with the usage that is known; harmless when repeated."""
    now = exchange.clock.now()
    if exchange.reservation is not None:
        exchange.reservation.settle(exchange.usage, now)
    if not exchange.settled:
        exchange.settled = True
        exchange.stamps.settled = now - exchange.accepted_at


def settle_stream(exchange: Exchange, usage: StreamUsage) -> None:
    """Settle a stream that came to its end."""
    if usage.usage is not None and usage.usage_is_final:
        exchange.usage = usage.usage
        exchange.usage_source = "vendor"
        settle(exchange)
    else:
        settle_partial(exchange, usage)


def settle_partial(exchange: Exchange, usage: StreamUsage | None) -> None:
    """Settle an answer without a final count by what was seen of it."""
    if usage is None:
        exchange.usage = exchange.estimate
        exchange.usage_source = "estimated"
    else:
        told = usage.usage
        exchange.usage = Usage(
            input_tokens=told.input_tokens if told and told.input_tokens else exchange.estimate.input_tokens,
            output_tokens=max(_seen(usage) if usage.partial_output_bytes else 0, told.output_tokens if told else 0),
            cached_tokens=told.cached_tokens if told else 0,
        )
        exchange.usage_source = "counted"
    settle(exchange)


def extend(exchange: Exchange, usage: StreamUsage) -> None:
    """Reserve more for a stream that runs longer than was estimated; looked at every 32 events or so."""
    reservation = exchange.reservation
    if reservation is None:
        return
    seen = _seen(usage)
    if seen > exchange.estimate.output_tokens + reservation.extended:
        # Half as much again, so that a long stream asks a few times and not at every chunk.
        grown = Usage(input_tokens=exchange.estimate.input_tokens, output_tokens=seen + seen // 2)
        reservation.extend(grown, exchange.clock.now())


def _seen(usage: StreamUsage) -> int:
    """Return the output tokens seen so far: an event holds at least one, and a token about four bytes."""
    return max(usage.events - 1, -(-usage.partial_output_bytes // _BYTES_PER_OUTPUT_TOKEN))
