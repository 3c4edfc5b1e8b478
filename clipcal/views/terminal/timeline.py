"""Gradient norms and their steps -> the norms over the steps on a log axis, drawn in characters."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from rich.text import Text

from clipcal.views.figures.cells import LogAxis, StepAxis, log_range, short_number
from clipcal.views.figures.series import Series
from clipcal.views.terminal.canvas import ASCII, MEDIAN, QUIET, SPIKE, THRESHOLD, UNICODE, Canvas, Glyphs, wrapped
from clipcal.views.terminal.charts import MIN_WIDTH, sparkline
from clipcal.views.terminal.curve import curve, dots_per_cell
from clipcal.views.words import count

Labels = dict[int, tuple[str, str]]


@dataclass(frozen=True, kw_only=True)
class _Plot:
    """A canvas, and where the plot stands on it: below ``head`` rows and right of ``left`` columns of labels."""

    canvas: Canvas
    glyphs: Glyphs
    norm_axis: LogAxis
    step_axis: StepAxis
    head: int
    left: int

    @property
    def base(self) -> int:
        """The row of the step axis."""
        return self.head + self.norm_axis.num_cells

    def put_at(self, column: int, row: int, text: str, style: str = "", *, under: bool = False) -> None:
        """Write into the plot, whose rows count from the top."""
        self.canvas.put(self.head + row, self.left + column, text, style, under=under)


def timeline(s: Series, *, width: int = 80, height: int = 12, ascii: bool = False) -> list[Text]:
    """The norms over the steps, on a log axis. Every step is drawn, so the largest of a column is always in the picture.

    The parts before and after the one that the threshold was read from step back. Non-finite norms are marked along the top, zeros along the
    bottom. ``height`` is the number of rows of the plot.
    """
    glyphs = ASCII if ascii else UNICODE
    if s.norms.size == 0:
        return wrapped([("No steps to draw", QUIET)], width)
    if width < MIN_WIDTH:
        return [sparkline(s.norms, width, ascii=ascii)]
    levels = {name: log for name, log in s.levels.items() if name != "spikes"}
    norm_axis, labels = _norm_axis(s, levels, max(height, 3))
    left = max(len(label) for label in ("step", *(text for text, _ in labels.values()))) + 2
    step_axis = StepAxis(first=float(s.places[0]), span=float(s.places[-1] - s.places[0]), num_cells=width - left)
    regions = _regions(s, step_axis, left, glyphs)
    canvas = Canvas(width, len(regions) + norm_axis.num_cells + 2)
    plot = _Plot(canvas=canvas, glyphs=glyphs, norm_axis=norm_axis, step_axis=step_axis, head=len(regions), left=left)
    _draw_curve(plot, s)
    _draw_regions(plot, regions)
    _draw_marks(plot, s)
    _draw_axes(plot, labels, "step" if s.in_order else "line")
    return canvas.lines() + wrapped(_legend(s, levels, glyphs), width, indent=left if width >= 60 else 0)


def _norm_axis(s: Series, levels: dict[str, float], height: int) -> tuple[LogAxis, Labels]:
    """The axis upwards, and what stands beside its rows, count from the top: round numbers, and in their place the levels."""
    drawn = s.logs[s.usable]
    ends = [float(drawn.min()), float(drawn.max())] if drawn.size else []
    low, high = log_range([*ends, *levels.values()])
    axis = LogAxis(low=low, high=high, num_cells=height)
    labels: Labels = {}
    if ends or levels:
        apart = axis.ticks(lambda ticks: bool((np.diff([axis.cell(log) for log, _ in ticks]) > 1).all()))
        labels = {axis.row(log): (label, "") for log, label in apart}
    for name, style in (("median", MEDIAN), ("threshold", THRESHOLD)):
        if name in levels:
            labels[axis.row(levels[name])] = (f"{name[0].upper()} {short_number(levels[name])}", style)
    return axis, labels


def _regions(s: Series, axis: StepAxis, left: int, glyphs: Glyphs) -> list[tuple[str, int, range]]:
    """The parts that no threshold is read from: a label, the column of its border, the columns that are to step back."""
    numbers, width, regions = s.numbers, left + axis.num_cells, []
    if s.first_row is not None:
        border = left + axis.cell(numbers[s.first_row])
        text = f"warm-up, to step {int(numbers[s.first_row - 1])}"
        text = text if border + len(text) + 3 <= width else "warm-up"
        regions.append((f"{glyphs.rule}{glyphs.before} {text}", border, range(left, border)))
    if s.lost_row is not None:
        border = left + axis.cell(numbers[s.lost_row])
        text = f"diverging, from step {int(numbers[s.lost_row])}"
        text = text if len(text) + 2 <= border else "diverging"
        regions.append((f"{text} {glyphs.after}{glyphs.rule}", border, range(border, width)))
    return regions


def _draw_curve(plot: _Plot, s: Series) -> None:
    height, width = plot.norm_axis.num_cells, plot.step_axis.num_cells
    down, across = dots_per_cell(plot.glyphs)
    index = np.flatnonzero(s.usable)
    columns = plot.step_axis.cells(s.places, across)[index]
    rows = plot.norm_axis.rows(s.logs, down)[index]
    for row, column, char in curve(columns, rows, index, height=height, width=width, glyphs=plot.glyphs):
        plot.put_at(column, row, char)


def _draw_regions(plot: _Plot, regions: list[tuple[str, int, range]]) -> None:
    """Each label has a row of its own above the plot, and its border goes from there down to the axis."""
    canvas, rule = plot.canvas, plot.glyphs.rule
    for order, (label, at, outside) in enumerate(regions):
        canvas.dim(range(plot.head, plot.base), outside)
        canvas.put(order, at if label.startswith(rule) else max(at + 1 - len(label), 0), label, QUIET)
        for row in range(order + 1, plot.base):
            canvas.put(row, at, rule, QUIET, under=True)


def _draw_marks(plot: _Plot, s: Series) -> None:
    """The line of the threshold, the spikes on top of the curve, and at the ends what a log axis does not hold."""
    glyphs, axis = plot.glyphs, plot.norm_axis
    if "threshold" in s.levels:
        row, line = axis.row(s.levels["threshold"]), glyphs.threshold * plot.step_axis.num_cells
        plot.put_at(0, row, line, THRESHOLD, under=True)
    columns = plot.step_axis.cells(s.places)
    rows = axis.rows(s.logs)
    for column, row in set(zip(columns[s.is_spike].tolist(), rows[s.is_spike].tolist(), strict=True)):
        plot.put_at(column, row, glyphs.spike, SPIKE)
    for column in np.unique(columns[s.zeros]).tolist():
        plot.put_at(column, axis.num_cells - 1, glyphs.zero, SPIKE)
    for column in np.unique(columns[s.nonfinite]).tolist():
        plot.put_at(column, 0, glyphs.nonfinite, SPIKE)


def _draw_axes(plot: _Plot, labels: Labels, title: str) -> None:
    canvas, glyphs, axis, left, base = plot.canvas, plot.glyphs, plot.step_axis, plot.left, plot.base
    for row in range(plot.norm_axis.num_cells):
        label, style = labels.get(row, ("", ""))
        canvas.put(plot.head + row, 0, label.rjust(left - 2), style)
        canvas.put(plot.head + row, left - 1, glyphs.side, QUIET)
    canvas.put(base, left - 1, glyphs.corner + glyphs.axis * axis.num_cells, QUIET)
    canvas.put(base + 1, 0, title.rjust(left - 2), QUIET)
    for step, label in axis.ticks():
        at = left + axis.cell(step)
        canvas.put(base, at, glyphs.tick, QUIET)
        canvas.put(base + 1, min(max(at - len(label) // 2, left), canvas.width - len(label)), label)


def _legend(s: Series, levels: dict[str, float], glyphs: Glyphs) -> list[tuple[str, str]]:
    words = {"threshold": (f"{glyphs.threshold * 2} T threshold", THRESHOLD), "median": ("M stable median", MEDIAN)}
    items = [(f"{text} {short_number(levels[name])}", style) for name, (text, style) in words.items() if name in levels]
    num_spikes, num_zeros, num_broken = (int(rows.sum()) for rows in (s.is_spike, s.zeros, s.nonfinite))
    if num_spikes:
        items.append((f"{glyphs.spike} {count(num_spikes, 'spike')}", SPIKE))
    if num_broken:
        items.append((f"{glyphs.nonfinite} {num_broken:,} non-finite", SPIKE))
    if num_zeros:
        items.append((f"{glyphs.zero} {count(num_zeros, 'zero')}", SPIKE))
    return items
