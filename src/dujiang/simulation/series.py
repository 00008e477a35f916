"""Counts over time in bounded memory."""

from __future__ import annotations

from collections.abc import Callable, Sequence

_MOST_CELLS = 3_600


class Series:
    """Counts over time in cells of equal width; when there are too many, cells are joined in pairs.

    So it always covers the whole time, and never holds more than `most` cells. `joins` say how each count of
    two neighbours becomes one.
    """

    __slots__ = ("_joins", "_most", "cells", "width_ns")

    def __init__(self, width_ns: int, joins: Sequence[Callable[[int, int], int]], most: int = _MOST_CELLS) -> None:
        self.width_ns = width_ns
        self.cells: list[list[int]] = []
        self._joins = joins
        self._most = most

    def at(self, elapsed_ns: int, blank: Sequence[int]) -> list[int]:
        """Return the cell of this time, after filling the time in which nothing happened with `blank`."""
        index = max(0, elapsed_ns) // self.width_ns
        while index >= self._most:
            self._halve()
            index = max(0, elapsed_ns) // self.width_ns
        while len(self.cells) <= index:
            self.cells.append(list(blank))
        return self.cells[index]

    def _halve(self) -> None:
        joined = [
            [join(a, b) for join, a, b in zip(self._joins, first, second, strict=True)]
            for first, second in zip(self.cells[::2], self.cells[1::2], strict=False)
        ]
        self.cells = joined + self.cells[2 * len(joined) :]
        self.width_ns *= 2

    def column(self, index: int) -> list[int]:
        """Return one count over time."""
        return [cell[index] for cell in self.cells]


def add(a: int, b: int) -> int:
    """Join two counts that add up."""
    return a + b
