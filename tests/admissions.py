"""What tests of admission need: meters, asks and a queue with short names."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from dujiang.admission.controller import Admission
from dujiang.admission.demand import Demand
from dujiang.admission.meters import ConcurrencyMeter, Meter, WindowMeter
from dujiang.admission.scheduler import Ask, Candidate
from dujiang.clock import SECOND, Clock, Instant
from dujiang.terms import Dimension, Priority, TenantId, Usage


@dataclass
class QueueBounds:
    """How much may wait."""

    max_calls: int = 1_000
    max_calls_per_tenant: int = 1_000
    max_bytes: int = 1 << 30


def requests(limit: int, window_s: float = 60, *, name: str = "vendor requests", spread_ns: int = 0) -> WindowMeter:
    return WindowMeter(name, Dimension.REQUESTS, limit, round(window_s * SECOND), spread_ns)


def tokens(limit: int, window_s: float = 60, *, name: str = "vendor tokens", spread_ns: int = 0) -> WindowMeter:
    return WindowMeter(name, Dimension.TOKENS, limit, round(window_s * SECOND), spread_ns)


def slots(limit: int, *, name: str = "vendor concurrency", lag_ns: int = 0) -> ConcurrencyMeter:
    return ConcurrencyMeter(name, Dimension.CONCURRENCY, limit, lag_ns)


def candidate(*meters: Meter, target: str = "a") -> Candidate[str]:
    return Candidate(target, meters)


def ask(
    clock: Clock,
    candidates: Sequence[Candidate[str]],
    *,
    tenant: str = "shop",
    tenant_meters: Sequence[Meter] = (),
    usage: Usage | None = None,
    ceiling: Usage | None = None,
    priority: Priority = Priority.STANDARD,
    wait_s: float = 60,
    size_bytes: int = 0,
    patience_s: float = 0,
) -> Ask[str]:
    now = clock.now()
    return Ask(
        tenant=TenantId(tenant),
        tenant_meters=tenant_meters,
        candidates=candidates,
        demand=Demand(usage or Usage(), ceiling),
        priority=priority,
        deadline=Instant(now + round(wait_s * SECOND)),
        arrived_at=now,
        size_bytes=size_bytes,
        tenant_patience_ns=round(patience_s * SECOND),
    )


def queue(clock: Clock, bounds: QueueBounds | None = None, *, lease_s: float = 900) -> Admission[str]:
    return Admission(clock, bounds or QueueBounds(), lease_ns=round(lease_s * SECOND))


def is_empty(admission: Admission[str], *meters: Meter) -> None:
    """Assert that nothing is left behind: no place in the queue, no slot, no pending amount."""
    assert admission.waiting == 0
    assert admission.held == 0
    assert not admission._futures
    assert not admission._waiting_by_tenant
    assert admission._waiting_bytes == 0
    for lane in admission.lanes().values():
        assert len(lane) == 0
        assert all(queued == Usage(requests=0) for queued in lane._queued)
    for meter in meters:
        assert meter.pending == 0
        assert not isinstance(meter, ConcurrencyMeter) or meter.used == sum(n for _, n in meter._closing)
