"""Long windows outlive a restart: what records say was used today, or in the last hours, counts from the start."""

from __future__ import annotations

import re

from dujiang.admission.day_meter import DayMeter
from dujiang.admission.meters import ConcurrencyMeter, Meter
from dujiang.clock import SECOND, Clock, EpochTime
from dujiang.gateway.catalogue import Catalogue
from dujiang.gateway.meter_book import MeterBook
from dujiang.metering.usage_report import UsageRow
from dujiang.storage.sqlite import SqliteStore
from dujiang.terms import Usage

_SHORT_NS = 600 * SECOND
"""Shorter windows have mostly passed before a restarted gateway is up."""
_FILTER = re.compile(r" of (\S+) ")


def recall_day_use(store: SqliteStore, book: MeterBook, catalogue: Catalogue, clock: Clock) -> None:
    """Count what earlier processes used in windows that are not over.

    A rolling window takes it as if it were used now, which is late, never early.
    """
    now, wall = clock.now(), clock.wall()
    reports: dict[int, list[UsageRow]] = {}
    deployments = {one.target.name: one for one in catalogue.deployments()}
    for meter in book.meters():
        if isinstance(meter, ConcurrencyMeter) or meter.window_ns < _SHORT_NS or meter.used:
            continue
        began = meter.began_at() if isinstance(meter, DayMeter) else now - meter.window_ns
        # Whole seconds, so that limits of one window share one look at the records.
        since = EpochTime((wall - (now - began)) // SECOND * SECOND)
        if since not in reports:
            reports[since] = store.usage_since(since)
        used = 0
        for row in reports[since]:
            candidate = deployments.get(row.deployment or "")
            if _counts(meter, row) or (candidate is not None and meter in candidate.meters):
                usage = Usage(requests=row.requests, input_tokens=row.input_tokens, output_tokens=row.output_tokens)
                used += meter.cost(usage)
        if used:
            meter.inherit(now, used)


def _counts(meter: Meter, row: UsageRow) -> bool:
    """Return whether a tenant's, project's or key's limit counts these calls."""
    kind, _, rest = meter.name.partition(" ")
    scope = rest.split(" ", 1)[0]
    filtered = _FILTER.search(f" {rest}")
    if filtered and row.model not in filtered[1].split(","):
        return False
    match kind:
        case "tenant":
            return scope == row.tenant
        case "project":
            return scope == f"{row.tenant}/{row.project}"
        case "key":
            return scope == row.key
    return False
