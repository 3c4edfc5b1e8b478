"""Norms and steps -> the cells of a grid that they fall into, the round numbers beside it, and how many norms a cell holds."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from clipcal.run.trace import Floats

Ints = NDArray[np.int64]
Ticks = list[tuple[float, str]]


@dataclass(frozen=True, kw_only=True)
class LogAxis:
    """A range of norms, ``low`` to ``high`` in log10, over a number of cells, the lowest norms in cell 0."""

    low: float
    high: float
    num_cells: int

    def cells(self, logs: Floats, parts: int = 1) -> Ints:
        """The cell of each log, or its ``parts``-th part of a cell; what lies outside goes to the nearest end."""
        count = self.num_cells * parts
        return np.clip((logs - self.low) / (self.high - self.low) * count, 0, count - 1).astype(np.int64)

    def cell(self, log: float) -> int:
        return int(self.cells(np.array([log]))[0])

    def rows(self, logs: Floats, parts: int = 1) -> Ints:
        """The same cells where they stand above each other, counted from the top."""
        return self.num_cells * parts - 1 - self.cells(logs, parts)

    def row(self, log: float) -> int:
        return int(self.rows(np.array([log]))[0])

    def bins(self, logs: Floats) -> tuple[int, Ints]:
        """How many cells a bin is wide, and how many of ``logs`` each bin holds. The rule of Freedman and Diaconis on the bulk, in whole cells,
        and never fewer than 12 bins."""
        low, high = np.quantile(logs, [0.25, 0.75])
        cells = 2 * (high - low) / logs.size ** (1 / 3) / (self.high - self.low) * self.num_cells
        per_bin = int(min(max(cells, 1), max(self.num_cells // 12, 1)))
        return per_bin, np.bincount(self.cells(logs) // per_bin, minlength=-(-self.num_cells // per_bin))

    def ticks(self, fit: Callable[[Ticks], bool]) -> Ticks:
        """The densest set of round numbers on the axis that ``fit`` accepts, as (log10, label)."""
        for ticks in self._candidates():
            if ticks and fit(ticks):
                return ticks
        return []

    def _candidates(self) -> Iterator[Ticks]:
        first, last = math.floor(self.low), math.floor(self.high)
        if self.high - self.low < 0.8:
            # Under a factor of six, equal steps read better than 1, 2, 5.
            for step in (0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0):
                yield self._inside((round(i * step, 2), first) for i in range(1, int(100 / step) + 1))
        for digits in ((1, 2, 5), (1, 3), (1,)) if last - first < self.num_cells else ():
            yield self._inside((m, e) for e in range(first, last + 1) for m in digits)
        for decades in (2, 3, 5, 10, 20, 50, 100, 200):
            yield self._inside((1, e) for e in range(first, last + 1) if e % decades == 0)

    def _inside(self, numbers: Iterable[tuple[float, int]]) -> Ticks:
        ticks = ((e + math.log10(m), short_number(e + math.log10(m))) for m, e in numbers)
        return [tick for tick in ticks if self.low <= tick[0] <= self.high]


@dataclass(frozen=True, kw_only=True)
class StepAxis:
    """Steps from ``first`` on, over a ``span``, along a number of cells; a single step stands in the middle."""

    first: float
    span: float
    num_cells: int

    def cells(self, steps: Floats, parts: int = 1) -> Ints:
        """The cell of each step, or its ``parts``-th part of a cell."""
        count = self.num_cells * parts
        shares = (steps - self.first) / self.span if self.span > 0 else np.full(steps.shape, 0.5)
        return np.clip(shares * count, 0, count - 1).astype(np.int64)

    def cell(self, step: float) -> int:
        return int(self.cells(np.array([step]))[0])

    def ticks(self) -> Ticks:
        """As many round steps as there is room for, as (step, label)."""
        last = self.first + self.span
        for step in (m * 10**e for e in range(16) for m in (1, 2, 5)):
            start, stop = math.ceil(self.first / step), math.floor(last / step)
            longest = max(len(f"{start * step:,}"), len(f"{stop * step:,}"))
            if self.span == 0 or (stop - start + 1) * (longest + 4) <= self.num_cells:
                return [(float(i * step), f"{i * step:,}") for i in range(start, stop + 1)]
        return []


def log_range(logs: list[float]) -> tuple[float, float]:
    """The ends of a log axis that holds all of ``logs``: at least a factor of two, with a little room at both ends."""
    low, high = (min(logs), max(logs)) if logs else (0.0, 0.0)
    room = max((high - low) * 0.02, (math.log10(2) - (high - low)) / 2)
    return low - room, high + room


def short_number(log: float) -> str:
    """The norm behind a log10 in plain digits, three of them: 0.5, 2, 1310; 1e-10 where that would be long."""
    if -4 <= log < 6:
        return np.format_float_positional(10.0**log, precision=max(3, int(log) + 1), fractional=False, trim="-")
    power = math.floor(log + 1e-9)
    digits = round(10.0 ** (log - power), 2)
    return f"{digits:g}e{power}" if digits < 10 else f"1e{power + 1}"
