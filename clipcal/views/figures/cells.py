"""Norms and steps -> the cells of a grid that they fall into, the round numbers beside it, and how many norms a cell holds."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from clipcal.run.trace import Floats
from clipcal.views.figures.course import Course

Ints = NDArray[np.int64]
Ticks = list[tuple[float, str]]


@dataclass(frozen=True, kw_only=True)
class Axis:
    """A range, ``low`` to ``high``, over a number of cells, the lowest values in cell 0; a single value stands in the middle."""

    low: float
    high: float
    num_cells: int

    def cells(self, values: Floats, parts: int = 1) -> Ints:
        """The cell of each value, or its ``parts``-th part of a cell; what lies outside goes to the nearest end."""
        count, span = self.num_cells * parts, self.high - self.low
        shares = (values - self.low) / span if span > 0 else np.full(values.shape, 0.5)
        return np.clip(shares * count, 0, count - 1).astype(np.int64)

    def cell(self, value: float) -> int:
        return int(self.cells(np.array([value]))[0])


class LogAxis(Axis):
    """The logs of norms, to base 10."""

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


class StepAxis(Axis):
    """Steps."""

    def ticks(self) -> Ticks:
        """As many round steps as there is room for, as (step, label)."""
        for step in (m * 10**e for e in range(16) for m in (1, 2, 5)):
            start, stop = math.ceil(self.low / step), math.floor(self.high / step)
            longest = max(len(f"{start * step:,}"), len(f"{stop * step:,}"))
            if self.low == self.high or (stop - start + 1) * (longest + 4) <= self.num_cells:
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


def levels(c: Course, threshold: float | None) -> dict[str, float]:
    """The logs of the stable median, of the threshold and of the smallest spike, as far as a log axis holds them."""
    found = {"median": c.median, "threshold": threshold, "spikes": c.norms[c.spikes].min(initial=math.inf)}
    return {name: math.log10(v) for name, v in found.items() if v is not None and 0 < v < math.inf}


def borders(c: Course) -> tuple[int | None, int | None]:
    """The first row of the part that the threshold was read from, and the first one behind it; None where it begins or ends with the steps,
    and where nobody can tell: the steps are not in order."""
    if not c.in_order:
        return None, None
    begins = 0 if c.first_stable is None else int(np.searchsorted(c.steps, c.first_stable))
    ends = 0 if c.last_healthy is None else int(np.searchsorted(c.steps, c.last_healthy, side="right"))
    return (begins if 0 < begins < c.steps.size else None), (ends if 0 < ends < c.steps.size else None)
