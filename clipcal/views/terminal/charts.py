"""Gradient norms -> pictures made of characters: a sparkline, a histogram on a log axis; ``timeline`` draws the norms over the steps.

Pure functions that return ``rich.text.Text`` (``.plain`` is the string) and print nothing. No line is wider than
``width``. Colour only repeats what a letter, a symbol or a place already says, and is one of the terminal's own, so the
pictures read on dark and on light grounds, in a file and without colour. ``ascii=True`` keeps to ASCII, for terminals
whose encoding is not UTF-8.
"""

from __future__ import annotations

import itertools

import numpy as np
from numpy.typing import ArrayLike
from rich.text import Text

from clipcal.run.trace import Floats
from clipcal.views.figures.cells import LogAxis, Ticks, levels, log_range, short_number
from clipcal.views.figures.course import Course
from clipcal.views.figures.points import drawable, heights
from clipcal.views.terminal.canvas import ASCII, MEDIAN, QUIET, SPIKE, THRESHOLD, UNICODE, Canvas, wrapped
from clipcal.views.words import count

# Below this there is no room for an axis with its labels; the pictures shrink to a sparkline.
MIN_WIDTH = 24


def sparkline(values: ArrayLike, width: int = 40, *, ascii: bool = False) -> Text:
    """One line of at most ``width`` characters: one per value, or per group of neighbours, which shows its largest.

    ``values`` is 1-D in any unit, non-finite allowed. Heights are logarithmic where all finite values are positive and the
    largest is over 10 times the smallest. A group that holds a non-finite value is marked.
    """
    glyphs = ASCII if ascii else UNICODE
    line = Text(no_wrap=True)
    last = len(glyphs.levels) - 1
    for share, bad in zip(*heights(values, width), strict=True):
        level = min(int(float(share) * (last + 1)), last)
        line.append(glyphs.nonfinite if bad else glyphs.levels[level], SPIKE if bad else None)
    return line


def histogram(
    c: Course, *, threshold: float | None, width: int = 80, height: int = 8, ascii: bool = False
) -> list[Text]:
    """How often each norm occurs: norms along a log axis, counts upwards. Lines of at most ``width`` characters.

    Zeros and non-finite values are counted below the picture. Each of the levels is marked by its letter and a line down to the bars.
    ``height`` is the number of rows of the bars.
    """
    glyphs = ASCII if ascii else UNICODE
    logs = np.log10(c.norms[drawable(c.norms)])
    note = _left_out(c.norms)
    if logs.size == 0:
        return wrapped([("No positive, finite norm to draw", QUIET), *note], width)
    if width < MIN_WIDTH:
        return [sparkline(c.norms, width, ascii=ascii)]
    marks = levels(c, threshold)
    low, high = log_range([*logs[[logs.argmin(), logs.argmax()]], *marks.values()])
    left = len(str(logs.size)) + 1
    axis = LogAxis(low=low, high=high, num_cells=width - left)
    height, num_marks = max(height, 2), len(marks)
    base = num_marks + height
    canvas = Canvas(width, base + 2)

    per_bin, counts = axis.bins(logs)
    spikes_at = axis.cell(marks["spikes"]) if "spikes" in marks else axis.num_cells
    peak, full = int(counts.max()), len(glyphs.bars)
    for i in range(axis.num_cells):
        # Rounded up: spikes are rare, and a single step has to show beside any peak.
        parts = -(-int(counts[i // per_bin]) * height * full // peak)
        style = SPIKE if i // per_bin >= spikes_at // per_bin else ""
        for row in range(-(-parts // full)):
            canvas.put(base - 1 - row, left + i, glyphs.bars[min(parts - row * full, full) - 1], style)
    _draw_marks(canvas, marks, c.spikes.size, axis, left, base, glyphs.rule)
    if num_marks and not "".join(canvas.chars[num_marks - 1][:6]).strip():
        canvas.put(num_marks - 1, 0, "steps", QUIET)
    canvas.put(num_marks, 0, str(peak).rjust(left - 1), QUIET)
    canvas.put(base - 1, 0, "0".rjust(left - 1), QUIET)
    canvas.put(base, left, glyphs.axis * axis.num_cells, QUIET)
    _draw_ticks(canvas, axis, left, base, glyphs.tick)
    return canvas.lines() + wrapped(note, width, indent=left if width >= 60 else 0)


def _draw_marks(
    canvas: Canvas, logs: dict[str, float], num_spikes: int, axis: LogAxis, left: int, base: int, rule: str
) -> None:
    """A line down to the row ``base`` for each, from the smallest on. Each label has a row of its own, so they never collide; at the right
    edge it ends at its line."""
    words = {
        "median": ("M stable median", MEDIAN),
        "threshold": ("T threshold", THRESHOLD),
        "spikes": (f"S {count(num_spikes, 'spike')} from", SPIKE),
    }
    marks = sorted((log, f"{words[name][0]} {short_number(log)}", words[name][1]) for name, log in logs.items())
    for order, (log, label, style) in enumerate(marks):
        at = left + axis.cell(log)
        for row in range(order + 1, base):
            canvas.put(row, at, rule, style, under=True)
        canvas.put(order, at if at + len(label) <= canvas.width else max(at + 1 - len(label), 0), label, style)


def _draw_ticks(canvas: Canvas, axis: LogAxis, left: int, base: int, tick: str) -> None:
    """As many ticks in the row ``base`` as leave their labels apart."""

    def starts(ticks: Ticks) -> list[int]:
        return [min(max(left + axis.cell(x) - len(label) // 2, 0), canvas.width - len(label)) for x, label in ticks]

    def fit(ticks: Ticks) -> bool:
        places = list(zip(starts(ticks), (len(label) for _, label in ticks), strict=True))
        return all(start + length + 3 <= after for (start, length), (after, _) in itertools.pairwise(places))

    ticks = axis.ticks(fit)
    for (log, label), start in zip(ticks, starts(ticks), strict=True):
        canvas.put(base, left + axis.cell(log), tick, QUIET)
        canvas.put(base + 1, start, label)
    if ticks and not "".join(canvas.chars[base + 1][:6]).strip():
        canvas.put(base + 1, 0, "norm", QUIET)


def _left_out(norms: Floats) -> list[tuple[str, str]]:
    """What a log axis cannot show, in one item of a legend; none where it shows everything."""
    kinds = (("non-finite", ~np.isfinite(norms)), ("zero", norms == 0), ("negative", norms < 0))
    counts = [f"{int(mask.sum()):,} {kind}" for kind, mask in kinds if mask.any()]
    return [(f"not drawn: {', '.join(counts)}", SPIKE)] if counts else []
