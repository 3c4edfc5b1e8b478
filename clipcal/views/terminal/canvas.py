"""The grid, the glyphs, the axes and the legends that pictures made of characters are drawn with."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from rich.text import Text

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]
Ticks = list[tuple[float, str]]

MEDIAN, THRESHOLD, SPIKE, QUIET = "cyan", "green", "red", "dim"


@dataclass(frozen=True, kw_only=True)
class Glyphs:
    """The characters of a picture. ``bars`` and ``levels`` go from low to high; ``braille`` is U+2800, or empty."""

    bars: str
    levels: str
    braille: str
    rule: str
    threshold: str
    axis: str
    tick: str
    side: str
    corner: str
    before: str
    after: str
    spike: str
    nonfinite: str
    zero: str


# fmt: off
UNICODE = Glyphs(
    bars="▁▂▃▄▅▆▇█", levels="▁▂▃▄▅▆▇█", braille="\u2800", rule="┊", threshold="╌", axis="─", tick="┴", side="│",
    corner="└", before="◂", after="▸", spike="▲", nonfinite="×", zero="o",
)
ASCII = Glyphs(
    bars=".:#", levels="_.-=+*#", braille="", rule="|", threshold="-", axis="-", tick="+", side="|",
    corner="+", before="<", after=">", spike="^", nonfinite="x", zero="o",
)
# fmt: on


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


class Canvas:
    """A grid of characters with styles. What is put outside of it is cut, so no line is ever too wide."""

    def __init__(self, width: int, height: int) -> None:
        self.width = width
        self.chars = [[" "] * width for _ in range(height)]
        self.styles = [[""] * width for _ in range(height)]

    def put(self, row: int, column: int, text: str, style: str = "", *, under: bool = False) -> None:
        """Write from a place to the right; ``under`` leaves alone what is there already."""
        for i, char in enumerate(text, start=column):
            if 0 <= i < self.width and not (under and self.chars[row][i] != " "):
                self.chars[row][i], self.styles[row][i] = char, style

    def dim(self, rows: range, columns: range) -> None:
        """Make what is drawn there step back."""
        for row in rows:
            for column in columns:
                self.styles[row][column] = QUIET

    def lines(self) -> list[Text]:
        answer = []
        for chars, styles in zip(self.chars, self.styles, strict=True):
            line = Text(no_wrap=True)
            cells = zip("".join(chars).rstrip(), styles, strict=False)
            for style, run in itertools.groupby(cells, key=lambda cell: cell[1]):
                line.append("".join(char for char, _ in run), style or None)
            answer.append(line)
        return answer


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


def flat(values: ArrayLike) -> Floats:
    return np.asarray(values, dtype=np.float64).ravel()


def drawable(norms: Floats) -> Bools:
    """Which norms a log axis holds."""
    return np.isfinite(norms) & (norms > 0)


def count(number: int, noun: str) -> str:
    return f"{number:,} {noun}{'s' * (number != 1)}"


def wrapped(items: list[tuple[str, str]], width: int, indent: int = 0) -> list[Text]:
    """Texts with their styles side by side, in as many lines as they need."""
    lines: list[Text] = []
    for text, style in items:
        if not lines or len(lines[-1]) + 3 + len(text) > width:
            lines.append(Text(" " * indent, no_wrap=True))
        elif len(lines[-1]) > indent:
            lines[-1].append("   ")
        lines[-1].append(text[: max(width - indent, 0)], style)
    return lines
