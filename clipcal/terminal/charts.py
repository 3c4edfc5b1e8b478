"""Gradient norms -> pictures made of characters: a sparkline, a histogram on a log axis, the norms over the steps.

Pure functions of arrays that return ``rich.text.Text`` (``.plain`` is the string) and print nothing. No line is wider than
``width``. Colour only repeats what a letter, a symbol or a place already says, and is one of the terminal's own, so the
pictures read on dark and on light grounds, in a file and without colour. ``ascii=True`` keeps to ASCII, for terminals
whose encoding is not UTF-8.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable

import numpy as np
from numpy.typing import ArrayLike, NDArray
from rich.text import Text

from clipcal.terminal.canvas import (
    ASCII,
    MEDIAN,
    QUIET,
    SPIKE,
    THRESHOLD,
    UNICODE,
    Canvas,
    Floats,
    Glyphs,
    Ints,
    LogAxis,
    Ticks,
    log_range,
    short_number,
    step_ticks,
)

Bools = NDArray[np.bool_]

# Below this there is no room for an axis with its labels; the pictures shrink to a sparkline.
MIN_WIDTH = 24


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

    ``norms`` is 1-D, one grad norm per step; zeros and non-finite values are counted below the picture. ``median`` (of the
    stable steps), ``threshold`` and ``spikes_from`` (the smallest spike) are norms too, each marked by its letter and a line down to the
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
        (math.log10(value), f"{letter} {text} {short_number(math.log10(value))}", style)
        for letter, text, value, style in (
            ("M", "stable median", median, MEDIAN),
            ("T", "threshold", threshold, THRESHOLD),
            ("S", spikes, spikes_from, SPIKE),
        )
        if value is not None and math.isfinite(value) and value > 0
    )
    low, high = log_range([*logs[[logs.argmin(), logs.argmax()]], *(mark[0] for mark in marks)])
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
    if ticks and not "".join(canvas.chars[base + 1][:6]).strip():
        canvas.put(base + 1, 0, "norm", QUIET)
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
    low, high = log_range([*ends, *levels.values()])
    axis = LogAxis(low=low, high=high, num_cells=height)
    top = height - 1

    labels: dict[int, tuple[str, str]] = {}
    if ends or levels:
        apart = axis.ticks(lambda ticks: bool((np.diff([axis.cell(log) for log, _ in ticks]) > 1).all()))
        labels = {top - axis.cell(log): (label, "") for log, label in apart}
    for name, style in (("median", MEDIAN), ("threshold", THRESHOLD)):
        if name in levels:
            labels[top - axis.cell(levels[name])] = (f"{name[0].upper()} {short_number(levels[name])}", style)
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
    for step, label in step_ticks(first, span, num_columns):
        at = left + column_of(step)
        canvas.put(base, at, glyphs.tick, QUIET)
        canvas.put(base + 1, min(max(at - len(label) // 2, left), width - len(label)), label)
    legend = [
        (bool(is_spike.any()), f"{glyphs.spike} {_count(int(is_spike.sum()), 'spike')}", SPIKE),
        (not np.isfinite(y).all(), f"{glyphs.nonfinite} {int((~np.isfinite(y)).sum()):,} non-finite", SPIKE),
        (bool((y == 0).any()), f"{glyphs.zero} {_count(int((y == 0).sum()), 'zero')}", SPIKE),
    ]
    words = {"threshold": (f"{glyphs.threshold * 2} T threshold", THRESHOLD), "median": ("M stable median", MEDIAN)}
    named = [(f"{text} {short_number(levels[name])}", style) for name, (text, style) in words.items() if name in levels]
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


def _cells_per_bin(logs: Floats, axis: LogAxis) -> int:
    """How wide a bar is: the rule of Freedman and Diaconis on the bulk, in whole cells, and never fewer than 12 bars."""
    low, high = np.quantile(logs, [0.25, 0.75])
    cells = 2 * (high - low) / logs.size ** (1 / 3) / (axis.high - axis.low) * axis.num_cells
    return int(min(max(cells, 1), max(axis.num_cells // 12, 1)))


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
