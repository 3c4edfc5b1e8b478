"""Gradient norms -> pictures made of characters: a sparkline, a histogram on a log axis; ``timeline`` draws the norms over the steps.

Pure functions of arrays that return ``rich.text.Text`` (``.plain`` is the string) and print nothing. No line is wider than
``width``. Colour only repeats what a letter, a symbol or a place already says, and is one of the terminal's own, so the
pictures read on dark and on light grounds, in a file and without colour. ``ascii=True`` keeps to ASCII, for terminals
whose encoding is not UTF-8.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike
from rich.text import Text

from clipcal.views.terminal.canvas import (
    ASCII,
    MEDIAN,
    QUIET,
    SPIKE,
    THRESHOLD,
    UNICODE,
    Canvas,
    Floats,
    LogAxis,
    Ticks,
    count,
    drawable,
    flat,
    log_range,
    short_number,
    wrapped,
)

# Below this there is no room for an axis with its labels; the pictures shrink to a sparkline.
MIN_WIDTH = 24


def sparkline(values: ArrayLike, width: int = 40, *, ascii: bool = False) -> Text:
    """One line of at most ``width`` characters: one per value, or per group of neighbours, which shows its largest.

    ``values`` is 1-D in any unit, non-finite allowed. Heights are logarithmic where all finite values are positive and the
    largest is over 10 times the smallest. A group that holds a non-finite value is marked.
    """
    glyphs = ASCII if ascii else UNICODE
    x = flat(values)
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
    x = flat(norms)
    logs = np.log10(x[drawable(x)])
    note = _left_out(x)
    if logs.size == 0:
        return wrapped([("No positive, finite norm to draw", QUIET), *note], width)
    if width < MIN_WIDTH:
        return [sparkline(x, width, ascii=ascii)]
    marks = _marks(median, threshold, spikes_from, num_spikes)
    low, high = log_range([*logs[[logs.argmin(), logs.argmax()]], *(mark[0] for mark in marks)])
    left = len(str(logs.size)) + 1
    axis = LogAxis(low=low, high=high, num_cells=width - left)
    height = max(height, 2)
    base = len(marks) + height
    canvas = Canvas(width, base + 2)

    per_bin = _cells_per_bin(logs, axis)
    counts = np.bincount(axis.cells(logs) // per_bin, minlength=-(-axis.num_cells // per_bin))
    spikes_at = min((axis.cell(log) for log, label, _ in marks if label.startswith("S")), default=axis.num_cells)
    peak, full = int(counts.max()), len(glyphs.bars)
    for i in range(axis.num_cells):
        # Rounded up: spikes are rare, and a single step has to show beside any peak.
        parts = -(-int(counts[i // per_bin]) * height * full // peak)
        style = SPIKE if i // per_bin >= spikes_at // per_bin else ""
        for row in range(-(-parts // full)):
            canvas.put(base - 1 - row, left + i, glyphs.bars[min(parts - row * full, full) - 1], style)
    _draw_marks(canvas, marks, axis, left, base, glyphs.rule)
    if marks and not "".join(canvas.chars[len(marks) - 1][:6]).strip():
        canvas.put(len(marks) - 1, 0, "steps", QUIET)
    canvas.put(len(marks), 0, str(peak).rjust(left - 1), QUIET)
    canvas.put(base - 1, 0, "0".rjust(left - 1), QUIET)
    canvas.put(base, left, glyphs.axis * axis.num_cells, QUIET)
    _draw_ticks(canvas, axis, left, base, glyphs.tick)
    return canvas.lines() + wrapped(note, width, indent=left if width >= 60 else 0)


Mark = tuple[float, str, str]
"""The log of a norm, its label, its style."""


def _marks(
    median: float | None, threshold: float | None, spikes_from: float | None, num_spikes: int | None
) -> list[Mark]:
    """Those that a log axis holds, from the smallest on."""
    spikes = "spikes from" if num_spikes is None else f"{count(num_spikes, 'spike')} from"
    return sorted(
        (math.log10(value), f"{letter} {text} {short_number(math.log10(value))}", style)
        for letter, text, value, style in (
            ("M", "stable median", median, MEDIAN),
            ("T", "threshold", threshold, THRESHOLD),
            ("S", spikes, spikes_from, SPIKE),
        )
        if value is not None and math.isfinite(value) and value > 0
    )


def _draw_marks(canvas: Canvas, marks: Sequence[Mark], axis: LogAxis, left: int, base: int, rule: str) -> None:
    """A line down to the row ``base`` for each. Each label has a row of its own, so they never collide; at the right edge it ends at
    its line."""
    for order, (log, label, style) in enumerate(marks):
        at = left + axis.cell(log)
        for row in range(order + 1, base):
            canvas.put(row, at, rule, style, under=True)
        canvas.put(order, at if at + len(label) <= canvas.width else max(at + 1 - len(label), 0), label, style)


def _draw_ticks(canvas: Canvas, axis: LogAxis, left: int, base: int, tick: str) -> None:
    """As many ticks in the row ``base`` as leave their labels apart."""

    def spans(ticks: Ticks) -> list[tuple[int, int]]:
        centres = [(left + axis.cell(log), len(label)) for log, label in ticks]
        starts = [(min(max(at - length // 2, 0), canvas.width - length), length) for at, length in centres]
        return [(start, start + length) for start, length in starts]

    def fit(ticks: Ticks) -> bool:
        places = spans(ticks)
        return all(end + 3 <= start for (_, end), (start, _) in itertools.pairwise(places))

    ticks = axis.ticks(fit)
    for (log, label), (start, _) in zip(ticks, spans(ticks), strict=True):
        canvas.put(base, left + axis.cell(log), tick, QUIET)
        canvas.put(base + 1, start, label)
    if ticks and not "".join(canvas.chars[base + 1][:6]).strip():
        canvas.put(base + 1, 0, "norm", QUIET)


def _cells_per_bin(logs: Floats, axis: LogAxis) -> int:
    """How wide a bar is: the rule of Freedman and Diaconis on the bulk, in whole cells, and never fewer than 12 bars."""
    low, high = np.quantile(logs, [0.25, 0.75])
    cells = 2 * (high - low) / logs.size ** (1 / 3) / (axis.high - axis.low) * axis.num_cells
    return int(min(max(cells, 1), max(axis.num_cells // 12, 1)))


def _left_out(norms: Floats) -> list[tuple[str, str]]:
    """What a log axis cannot show, in one item of a legend; none where it shows everything."""
    kinds = (("non-finite", ~np.isfinite(norms)), ("zero", norms == 0), ("negative", norms < 0))
    counts = [f"{int(mask.sum()):,} {kind}" for kind, mask in kinds if mask.any()]
    return [(f"not drawn: {', '.join(counts)}", SPIKE)] if counts else []
