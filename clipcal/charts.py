"""Gradient norms -> pictures made of characters: a sparkline, a histogram on a log axis, the norms over the steps.

Pure functions of arrays that return ``rich.text.Text`` (``.plain`` is the string) and print nothing. No line is wider than
``width``. Colour only repeats what a letter, a symbol or a place already says, and is one of the terminal's own, so the
pictures read on dark and on light grounds, in a file and without colour. ``ascii=True`` keeps to ASCII, for terminals
whose encoding is not UTF-8.
"""

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

# Below this there is no room for an axis with its labels; the pictures shrink to a sparkline.
MIN_WIDTH = 24

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
        ticks = ((e + math.log10(m), _number(e + math.log10(m))) for m, e in numbers)
        return [tick for tick in ticks if self.low <= tick[0] <= self.high]


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


def sparkline(values: ArrayLike, width: int = 40, *, ascii: bool = False) -> Text:
    """One line of at most ``width`` characters: one per value, or per group of neighbours, which shows its largest.

    ``values`` is 1-D in any unit, non-finite allowed. Heights are logarithmic where all finite values are positive and the
    largest is over 10 times the smallest. A group that holds a non-finite value is marked.
    """
    glyphs = ASCII if ascii else UNICODE
    x = _flat(values)
    line = Text(no_wrap=True)
    num_groups = max(min(width, x.size), 0)
    if num_groups == 0:
        return line
    starts = np.arange(num_groups) * x.size // num_groups
    finite = np.isfinite(x)
    broken = np.logical_or.reduceat(~finite, starts)
    low, high = (float(x[finite].min()), float(x[finite].max())) if finite.any() else (0.0, 0.0)
    tops = np.maximum.reduceat(np.where(finite, x, low), starts)
    if low > 0 and math.log10(high) - math.log10(low) > 1:
        tops, low, high = np.log10(tops), math.log10(low), math.log10(high)
    # Halves, because the difference of two huge floats overflows.
    span = high / 2 - low / 2
    shares = (tops / 2 - low / 2) / span if span > 0 else np.full(num_groups, 0.4)
    last = len(glyphs.levels) - 1
    for share, bad in zip(shares, broken, strict=True):
        level = min(int(float(share) * (last + 1)), last)
        line.append(glyphs.nonfinite if bad else glyphs.levels[level], SPIKE if bad else None)
    return line


def histogram(
    norms: ArrayLike,
    *,
    width: int = 80,
    height: int = 8,
    median: float | None = None,
    threshold: float | None = None,
    spikes_from: float | None = None,
    num_spikes: int | None = None,
    ascii: bool = False,
) -> list[Text]:
    """How often each norm occurs: norms along a log axis, counts upwards. Lines of at most ``width`` characters.

    ``norms`` is 1-D, one grad norm per step; zeros and non-finite values are counted below the picture. ``median``,
    ``threshold`` and ``spikes_from`` (the smallest spike) are norms too, each marked by its letter and a line down to the
    bars; None, or a number that no log axis holds, is left out. ``height`` is the number of rows of the bars.
    """
    glyphs = ASCII if ascii else UNICODE
    x = _flat(norms)
    logs = np.log10(x[_drawable(x)])
    note = _left_out(x)
    if logs.size == 0:
        return _wrapped([("No positive, finite norm to draw", QUIET), *note], width)
    if width < MIN_WIDTH:
        return [sparkline(x, width, ascii=ascii)]
    spikes = "spikes from" if num_spikes is None else f"{_count(num_spikes, 'spike')} from"
    marks = sorted(
        (math.log10(value), f"{letter} {text} {_number(math.log10(value))}", style)
        for letter, text, value, style in (
            ("M", "median", median, MEDIAN),
            ("T", "threshold", threshold, THRESHOLD),
            ("S", spikes, spikes_from, SPIKE),
        )
        if value is not None and math.isfinite(value) and value > 0
    )
    low, high = _log_range([*logs[[logs.argmin(), logs.argmax()]], *(mark[0] for mark in marks)])
    left = len(str(logs.size)) + 1
    axis = LogAxis(low=low, high=high, num_cells=width - left)
    per_bin = _cells_per_bin(logs, axis)
    counts = np.bincount(axis.cells(logs) // per_bin, minlength=-(-axis.num_cells // per_bin))
    peak = int(counts.max())
    height = max(height, 2)
    base = len(marks) + height
    canvas = Canvas(width, base + 2)

    spikes_at = min((axis.cell(log) for log, label, _ in marks if label.startswith("S")), default=axis.num_cells)
    full = len(glyphs.bars)
    for i in range(axis.num_cells):
        # Rounded up: spikes are rare, and a single step has to show beside any peak.
        parts = -(-int(counts[i // per_bin]) * height * full // peak)
        for row in range(-(-parts // full)):
            level = min(parts - row * full, full)
            canvas.put(
                base - 1 - row, left + i, glyphs.bars[level - 1], SPIKE if i // per_bin >= spikes_at // per_bin else ""
            )
    for order, (log, label, style) in enumerate(marks):
        at = left + axis.cell(log)
        for row in range(order + 1, base):
            canvas.put(row, at, glyphs.rule, style, under=True)
        # Each label has a row of its own, so they never collide; at the right edge it ends at its line.
        canvas.put(order, at if at + len(label) <= width else max(at + 1 - len(label), 0), label, style)
    if marks and not "".join(canvas.chars[len(marks) - 1][:6]).strip():
        canvas.put(len(marks) - 1, 0, "steps", QUIET)
    canvas.put(len(marks), 0, str(peak).rjust(left - 1), QUIET)
    canvas.put(base - 1, 0, "0".rjust(left - 1), QUIET)
    canvas.put(base, left, glyphs.axis * axis.num_cells, QUIET)

    def spans(ticks: Ticks) -> list[tuple[int, int]]:
        centres = [(left + axis.cell(log), len(label)) for log, label in ticks]
        starts = [(min(max(at - length // 2, 0), width - length), length) for at, length in centres]
        return [(start, start + length) for start, length in starts]

    def fit(ticks: Ticks) -> bool:
        places = spans(ticks)
        return all(end + 3 <= start for (_, end), (start, _) in itertools.pairwise(places))

    ticks = axis.ticks(fit)
    for (log, label), (start, _) in zip(ticks, spans(ticks), strict=True):
        canvas.put(base, left + axis.cell(log), glyphs.tick, QUIET)
        canvas.put(base + 1, start, label)
    return canvas.lines() + _wrapped(note, width, indent=left if width >= 60 else 0)


def timeline(
    norms: ArrayLike,
    steps: ArrayLike | None = None,
    *,
    width: int = 80,
    height: int = 12,
    threshold: float | None = None,
    median: float | None = None,
    spikes: Iterable[int] = (),
    first_step: int | None = None,
    last_step: int | None = None,
    ascii: bool = False,
) -> list[Text]:
    """The norms over the steps, on a log axis. Every step is drawn, so the largest of a column is always in the picture.

    ``norms`` and ``steps`` are 1-D and of one length (ValueError otherwise); without ``steps`` they are 0, 1, ...; steps
    that go back (joined logs) are drawn in the order of the array. ``spikes`` are step numbers. ``first_step`` and
    ``last_step`` bound the part that the threshold was read from: before it is the warm-up, after it the run diverges.
    Non-finite norms are marked along the top, zeros along the bottom. ``height`` is the number of rows of the plot.
    """
    glyphs = ASCII if ascii else UNICODE
    y = _flat(norms)
    numbers = np.arange(y.size, dtype=np.float64) if steps is None else _flat(steps)
    if numbers.size != y.size:
        raise ValueError(f"norms and steps have to be of one length, found {y.size} and {numbers.size}")
    if y.size == 0:
        return _wrapped([("No steps to draw", QUIET)], width)
    if width < MIN_WIDTH:
        return [sparkline(y, width, ascii=ascii)]
    # Beyond 2**53 floats no longer count in ones.
    in_order = bool((np.abs(numbers) < 2**53).all() and (np.diff(numbers) > 0).all())
    x = numbers if in_order else np.arange(y.size, dtype=np.float64)
    height = max(height, 3)
    usable = _drawable(y)
    logs = np.log10(np.where(usable, y, 1.0))
    levels = {
        name: math.log10(value)
        for name, value in (("median", median), ("threshold", threshold))
        if value is not None and math.isfinite(value) and value > 0
    }
    drawn = logs[usable]
    ends = [float(drawn.min()), float(drawn.max())] if drawn.size else []
    low, high = _log_range([*ends, *levels.values()])
    axis = LogAxis(low=low, high=high, num_cells=height)
    top = height - 1

    labels: dict[int, tuple[str, str]] = {}
    if ends or levels:
        apart = axis.ticks(lambda ticks: bool((np.diff([axis.cell(log) for log, _ in ticks]) > 1).all()))
        labels = {top - axis.cell(log): (label, "") for log, label in apart}
    for name, style in (("median", MEDIAN), ("threshold", THRESHOLD)):
        if name in levels:
            labels[top - axis.cell(levels[name])] = (f"{name[0].upper()} {_number(levels[name])}", style)
    left = max((len(label) for label, _ in labels.values()), default=0)
    left = max(left, len("step")) + 2
    num_columns = width - left
    first, span = float(x[0]), float(x[-1] - x[0])

    def columns_of(positions: Floats, parts: int = 1) -> Ints:
        shares = (positions - first) / span if span > 0 else np.full(positions.shape, 0.5)
        return np.clip(shares * num_columns * parts, 0, num_columns * parts - 1).astype(np.int64)

    def column_of(position: float) -> int:
        return int(columns_of(np.array([position]))[0])

    columns = columns_of(x)
    regions = _regions(numbers, left + columns, width, first_step, last_step, glyphs) if in_order else []
    head = len(regions)
    base = head + height
    canvas = Canvas(width, base + 2)
    _draw_curve(canvas, head, left, columns_of(x, 2 if glyphs.braille else 1), logs, usable, axis, glyphs)
    for order, (label, at, outside) in enumerate(regions):
        canvas.dim(range(head, base), outside)
        canvas.put(order, at if label.startswith(glyphs.rule) else max(at + 1 - len(label), 0), label, QUIET)
        for row in range(order + 1, base):
            canvas.put(row, at, glyphs.rule, QUIET, under=True)
    if "threshold" in levels:
        row = head + top - axis.cell(levels["threshold"])
        canvas.put(row, left, glyphs.threshold * num_columns, THRESHOLD, under=True)
    is_spike = usable & np.isin(numbers, np.fromiter(spikes, dtype=np.float64))
    for column, row in set(zip(columns[is_spike].tolist(), (top - axis.cells(logs[is_spike])).tolist(), strict=True)):
        canvas.put(head + row, left + column, glyphs.spike, SPIKE)
    for column in np.unique(columns[y == 0]).tolist():
        canvas.put(head + top, left + column, glyphs.zero, SPIKE)
    for column in np.unique(columns[~np.isfinite(y)]).tolist():
        canvas.put(head, left + column, glyphs.nonfinite, SPIKE)

    for row in range(height):
        label, style = labels.get(row, ("", ""))
        canvas.put(head + row, 0, label.rjust(left - 2), style)
        canvas.put(head + row, left - 1, glyphs.side, QUIET)
    canvas.put(base, left - 1, glyphs.corner + glyphs.axis * num_columns, QUIET)
    canvas.put(base + 1, 0, ("step" if in_order else "line").rjust(left - 2), QUIET)
    for step, label in _step_ticks(first, span, num_columns):
        at = left + column_of(step)
        canvas.put(base, at, glyphs.tick, QUIET)
        canvas.put(base + 1, min(max(at - len(label) // 2, left), width - len(label)), label)
    legend = [
        (bool(is_spike.any()), f"{glyphs.spike} {_count(int(is_spike.sum()), 'spike')}", SPIKE),
        (not np.isfinite(y).all(), f"{glyphs.nonfinite} {int((~np.isfinite(y)).sum()):,} non-finite", SPIKE),
        (bool((y == 0).any()), f"{glyphs.zero} {_count(int((y == 0).sum()), 'zero')}", SPIKE),
    ]
    words = {"threshold": (f"{glyphs.threshold * 2} T threshold", THRESHOLD), "median": ("M median", MEDIAN)}
    named = [(f"{text} {_number(levels[name])}", style) for name, (text, style) in words.items() if name in levels]
    items = named + [(text, style) for there, text, style in legend if there]
    return canvas.lines() + _wrapped(items, width, indent=left if width >= 60 else 0)


def _regions(
    numbers: Floats, columns: Ints, width: int, first_step: int | None, last_step: int | None, glyphs: Glyphs
) -> list[tuple[str, int, range]]:
    """The parts that no threshold is read from: a label, the column of its border, the columns that are to step back."""
    regions = []
    if first_step is not None and numbers[0] < first_step <= numbers[-1]:
        at = int(np.searchsorted(numbers, first_step))
        border = int(columns[at])
        text = f"warm-up, to step {int(numbers[at - 1])}"
        text = text if border + len(text) + 3 <= width else "warm-up"
        regions.append((f"{glyphs.rule}{glyphs.before} {text}", border, range(int(columns[0]), border)))
    if last_step is not None and numbers[0] <= last_step < numbers[-1]:
        at = int(np.searchsorted(numbers, last_step, side="right"))
        border = int(columns[at])
        text = f"diverging, from step {int(numbers[at])}"
        text = text if len(text) + 2 <= border else "diverging"
        regions.append((f"{text} {glyphs.after}{glyphs.rule}", border, range(border, width)))
    return regions


def _draw_curve(
    canvas: Canvas, head: int, left: int, columns: Ints, logs: Floats, usable: Bools, axis: LogAxis, glyphs: Glyphs
) -> None:
    """Draw the steps, joined where they are neighbours, in braille dots or, without braille, in whole cells."""
    down, across = (4, 2) if glyphs.braille else (1, 1)
    num_columns = canvas.width - left
    rows = axis.num_cells * down - 1 - axis.cells(logs, down)
    grid = np.zeros((axis.num_cells * down, num_columns * across), dtype=bool)
    index = np.flatnonzero(usable)
    if index.size == 0:
        return
    columns, rows = columns[index], rows[index]
    starts = np.flatnonzero(np.diff(columns, prepend=-1))
    stops = np.append(starts[1:], index.size) - 1
    highest, lowest = np.minimum.reduceat(rows, starts), np.maximum.reduceat(rows, starts)
    for k, column in enumerate(columns[starts].tolist()):
        grid[highest[k] : lowest[k] + 1, column] = True
        if k == 0 or index[starts[k]] - index[stops[k - 1]] > 1:
            continue
        # A line from the last step of the column before. Its steep part belongs to the higher end: a spike is one stem.
        before, row_before, row = int(columns[starts[k - 1]]), int(rows[stops[k - 1]]), int(rows[starts[k]])
        path = np.rint(np.linspace(row_before, row, column - before + 1)).astype(int).tolist()
        for i in range(1, len(path)):
            a, b = path[i - 1], path[i]
            grid[min(a, b) : max(a, b) + 1, before + (i if b <= a else i - 1)] = True
            grid[b, before + i] = True
    if not glyphs.braille:
        for row, column in np.argwhere(grid).tolist():
            canvas.put(head + row, left + column, ":")
        return
    weights = np.array([[0x01, 0x08], [0x02, 0x10], [0x04, 0x20], [0x40, 0x80]])
    cells = (grid.reshape(axis.num_cells, 4, num_columns, 2) * weights[None, :, None, :]).sum(axis=(1, 3))
    for row, column in np.argwhere(cells > 0).tolist():
        canvas.put(head + row, left + column, chr(ord(glyphs.braille) + int(cells[row, column])))


def _flat(values: ArrayLike) -> Floats:
    return np.asarray(values, dtype=np.float64).ravel()


def _drawable(norms: Floats) -> Bools:
    return np.isfinite(norms) & (norms > 0)


def _log_range(logs: list[float]) -> tuple[float, float]:
    """The ends of a log axis that holds all of ``logs``: at least a factor of two, with a little room at both ends."""
    low, high = (min(logs), max(logs)) if logs else (0.0, 0.0)
    room = max((high - low) * 0.02, (math.log10(2) - (high - low)) / 2)
    return low - room, high + room


def _cells_per_bin(logs: Floats, axis: LogAxis) -> int:
    """How wide a bar is: the rule of Freedman and Diaconis on the bulk, in whole cells, and never fewer than 12 bars."""
    low, high = np.quantile(logs, [0.25, 0.75])
    cells = 2 * (high - low) / logs.size ** (1 / 3) / (axis.high - axis.low) * axis.num_cells
    return int(min(max(cells, 1), max(axis.num_cells // 12, 1)))


def _number(log: float) -> str:
    """The norm behind a log10 in plain digits, three of them: 0.5, 2, 1310; 1e-10 where that would be long."""
    if -4 <= log < 6:
        return np.format_float_positional(10.0**log, precision=max(3, int(log) + 1), fractional=False, trim="-")
    power = math.floor(log + 1e-9)
    digits = round(10.0 ** (log - power), 2)
    return f"{digits:g}e{power}" if digits < 10 else f"1e{power + 1}"


def _step_ticks(first: float, span: float, num_columns: int) -> Ticks:
    last = first + span
    for step in (m * 10**e for e in range(16) for m in (1, 2, 5)):
        start, stop = math.ceil(first / step), math.floor(last / step)
        longest = max(len(f"{start * step:,}"), len(f"{stop * step:,}"))
        if span == 0 or (stop - start + 1) * (longest + 4) <= num_columns:
            return [(float(i * step), f"{i * step:,}") for i in range(start, stop + 1)]
    return []


def _count(number: int, noun: str) -> str:
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def _left_out(norms: Floats) -> list[tuple[str, str]]:
    """What a log axis cannot show, in one item of a legend; none where it shows everything."""
    kinds = (("non-finite", ~np.isfinite(norms)), ("zero", norms == 0), ("negative", norms < 0))
    counts = [f"{int(mask.sum()):,} {kind}" for kind, mask in kinds if mask.any()]
    return [(f"not drawn: {', '.join(counts)}", SPIKE)] if counts else []


def _wrapped(items: list[tuple[str, str]], width: int, indent: int = 0) -> list[Text]:
    """The items side by side, in as many lines as they need."""
    lines: list[Text] = []
    for text, style in items:
        if not lines or len(lines[-1]) + 3 + len(text) > width:
            lines.append(Text(" " * indent, no_wrap=True))
        elif len(lines[-1]) > indent:
            lines[-1].append("   ")
        lines[-1].append(text[: max(width - indent, 0)], style)
    return lines
