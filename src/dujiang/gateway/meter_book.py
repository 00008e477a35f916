"""Every limit in force, by name: a limit that stays in the configuration keeps its count across a reload."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from datetime import datetime, timedelta
from zoneinfo import ZoneInfo

from dujiang.admission.day_meter import DayMeter
from dujiang.admission.demand import Charge
from dujiang.admission.meters import Cell, ConcurrencyMeter, Meter, WindowMeter
from dujiang.clock import SECOND, Clock, Instant
from dujiang.config.schema import Limit
from dujiang.terms import Dimension


class MeterBook:
    """Makes meters and finds them again by what they count."""

    def __init__(self, clock: Clock, cell_for: Callable[[str], Cell] | None = None) -> None:
        self._clock = clock
        self._cell_for = cell_for
        self._meters: dict[str, Meter] = {}
        self._named: set[str] = set()

    def begin(self) -> None:
        """Start a new configuration: meters that it does not name are dropped by `finish`."""
        self._named = set()

    def finish(self) -> None:
        """Forget the meters that the configuration no longer names."""
        self._meters = {name: meter for name, meter in self._meters.items() if name in self._named}

    def meters(self) -> list[Meter]:
        """Return all meters."""
        return list(self._meters.values())

    def meter(
        self, scope: str, limit: Limit, *, spread_ns: int = 0, lag_ns: int = 0, charge: Charge = Charge.ACTUAL
    ) -> Meter:
        """Return the meter of a limit in a scope, with its count so far if it was there before.

        Where two sections declare the same limit for one scope, the smaller value holds.
        """
        filtered = f" of {','.join(sorted(limit.models))}" if limit.models else ""
        name = f"{scope}{filtered} {limit_label(limit)}"
        meter = self._meters.get(name)
        if meter is None:
            meter = self._make(name, limit, spread_ns, lag_ns)
            self._meters[name] = meter
            if self._cell_for is not None:
                meter.share(self._cell_for(name), self._clock.now())
        meter.limit = min(limit.value, meter.limit) if name in self._named else limit.value
        meter.charge_by(charge)
        meter.guard(spread_ns, lag_ns)
        self._named.add(name)
        return meter

    def slice(self, scope: str, limit: Limit, slice_ns: int, *, spread_ns: int, charge: Charge) -> Meter:
        """Return the meter of the short slices in which a vendor enforces a longer window."""
        share = max(1, limit.value * slice_ns // int(limit.window or slice_ns))
        part = Limit.model_construct(
            dimension=limit.dimension, window=slice_ns, value=share, time_zone="UTC", models=limit.models
        )
        # The guard against network delay is kept short here: it costs its share of every slice.
        meter = self.meter(scope, part, spread_ns=min(spread_ns, slice_ns // 20), charge=charge)
        meter.clamps = True
        return meter

    def _make(self, name: str, limit: Limit, spread_ns: int, lag_ns: int) -> Meter:
        if limit.dimension in (Dimension.CONCURRENCY, Dimension.SESSIONS):
            return ConcurrencyMeter(name, limit.dimension, limit.value, lag_ns)
        if isinstance(limit.window, int):
            return WindowMeter(name, limit.dimension, limit.value, limit.window, spread_ns)
        return DayMeter(
            name,
            limit.dimension,
            limit.value,
            turn_after=day_turns(self._clock, limit.zone),
            now=self._clock.now(),
            spread_ns=spread_ns,
        )


def limit_label(limit: Limit) -> str:
    """Return a limit's name as people write it: requests/60s, tokens/day, concurrency."""
    if limit.window is None:
        return limit.dimension.value
    window = limit.window if isinstance(limit.window, str) else _window_label(limit.window)
    zone = f"@{limit.time_zone}" if limit.is_day and limit.time_zone != "UTC" else ""
    return f"{limit.dimension.value}/{window}{zone}"


def _window_label(window_ns: int) -> str:
    """Return a window in seconds, as vendors and configurations speak of it: 60s, 0.5s, 86400s."""
    return f"{window_ns // SECOND}s" if window_ns % SECOND == 0 else f"{window_ns / SECOND:g}s"


def day_turns(clock: Clock, zone: ZoneInfo) -> Callable[[Instant], Instant]:
    """Return a function that says when the next midnight of a time zone comes, as an instant."""

    def turn_after(now: Instant) -> Instant:
        offset = clock.wall() - clock.now()
        wall = datetime.fromtimestamp((now + offset) / SECOND, zone)
        midnight = datetime.combine(wall.date() + timedelta(days=1), datetime.min.time(), zone)
        return Instant(round(midnight.timestamp() * SECOND) - offset)

    return turn_after


def in_order(meters: Iterable[Meter]) -> tuple[Meter, ...]:
    """Return the meters, each once, with those first that refuse most often, so that a refusal is cheap."""
    return tuple(
        sorted(
            dict.fromkeys(meters), key=lambda meter: (meter.dimension not in (Dimension.CONCURRENCY,), meter.window_ns)
        )
    )
