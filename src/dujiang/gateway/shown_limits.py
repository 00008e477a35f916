"""How a key's limits stand, as the header lines of an answer: for each dimension the limit closest to its end."""

from __future__ import annotations

from collections.abc import Sequence

from dujiang.admission.meters import Meter
from dujiang.clock import Instant
from dujiang.protocols.limit_headers import go_duration, has_anthropic_name, limit_template, rfc3339
from dujiang.terms import Dialect, Dimension


class ShownLimits:
    """The limits one key meets with one model; which lines they make is found once, not at every answer."""

    __slots__ = ("_anthropic_lines", "_groups", "_lines")

    def __init__(self, meters: Sequence[Meter]) -> None:
        groups: dict[Dimension, list[Meter]] = {}
        for meter in meters:
            groups.setdefault(meter.dimension, []).append(meter)
        self._groups = tuple(groups.values())
        self._lines = limit_template(groups, Dialect.CHAT)
        self._anthropic_lines = limit_template(groups, Dialect.MESSAGES)

    def lines(self, now: Instant, dialect: Dialect, wall_ns: int) -> bytes:
        """Return the header lines."""
        values: list[int | bytes] = []
        for group in self._groups:
            meter = group[0]
            remaining = meter.limit - meter.in_use(now)
            for other in group[1:]:
                left = other.limit - other.in_use(now)
                if left * meter.limit < remaining * other.limit:
                    meter, remaining = other, left
            remaining = max(remaining, 0)
            reset_ns = meter.whole_at(now) - now
            values += (meter.limit, remaining, go_duration(reset_ns))
            if dialect is Dialect.MESSAGES and has_anthropic_name(meter.dimension):
                values += (meter.limit, remaining, rfc3339(wall_ns + reset_ns))
        return (self._anthropic_lines if dialect is Dialect.MESSAGES else self._lines) % tuple(values)
