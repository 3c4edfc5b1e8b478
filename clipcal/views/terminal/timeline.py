"""Gradient norms and their steps -> the norms over the steps on a log axis, drawn in characters."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from rich.text import Text

from clipcal.run.trace import Floats
from clipcal.views.figures.cells import LogAxis, StepAxis, borders, levels, log_range, short_number
from clipcal.views.figures.course import Course
from clipcal.views.figures.points import drawable
from clipcal.views.terminal.canvas import ASCII, MEDIAN, QUIET, SPIKE, THRESHOLD, UNICODE, Canvas, Glyphs, wrapped
from clipcal.views.terminal.charts import MIN_WIDTH, sparkline
from clipcal.views.terminal.curve import curve, dots_per_cell
from clipcal.views.words import count

Labels = dict[int, tuple[str, str]]
STYLES = {"median": MEDIAN, "threshold": THRESHOLD}


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


def timeline(
    c: Course, *, threshold: float | None, width: int = 80, height: int = 12, ascii: bool = False
) -> list[Text]:
    """The norms over the steps, on a log axis. Every step is drawn, so the largest of a column is always in the picture.

    The parts before and after the one that the threshold was read from step back. Non-finite norms are marked along the top, zeros along the
    bottom. ``height`` is the number of rows of the plot.
    """
    glyphs = ASCII if ascii else UNICODE
    if c.norms.size == 0:
        return wrapped([("No steps to draw", QUIET)], width)
    if width < MIN_WIDTH:
        return [sparkline(c.norms, width, ascii=ascii)]
    marks = {name: log for name, log in levels(c, threshold).items() if name != "spikes"}
    logs = np.log10(np.where(drawable(c.norms), c.norms, 1.0))
    norm_axis, labels = _norm_axis(logs[drawable(c.norms)], marks, max(height, 3))
    left = max(len(label) for label in ("step", *(text for text, _ in labels.values()))) + 2
    step_axis = StepAxis(low=float(c.steps[0]), high=float(c.steps[-1]), num_cells=width - left)
    regions = _regions(c, step_axis, left, glyphs)
    canvas = Canvas(width, len(regions) + norm_axis.num_cells + 2)
    plot = _Plot(canvas=canvas, glyphs=glyphs, norm_axis=norm_axis, step_axis=step_axis, head=len(regions), left=left)
    _draw_curve(plot, c, logs)
    _draw_regions(plot, regions)
    _draw_marks(plot, c, logs, marks)
    _draw_axes(plot, labels, "step" if c.in_order else "line")
    return canvas.lines() + wrapped(_legend(c, marks, glyphs), width, indent=left if width >= 60 else 0)


def _norm_axis(drawn: Floats, marks: dict[str, float], height: int) -> tuple[LogAxis, Labels]:
    """The axis upwards, and what stands beside its rows, count from the top: round numbers, and in their place the marks."""
    ends = [float(drawn.min()), float(drawn.max())] if drawn.size else []
    low, high = log_range([*ends, *marks.values()])
    axis = LogAxis(low=low, high=high, num_cells=height)
    labels: Labels = {}
    if ends or marks:
        apart = axis.ticks(lambda ticks: bool((np.diff([axis.cell(log) for log, _ in ticks]) > 1).all()))
        labels = {axis.row(log): (label, "") for log, label in apart}
    for name, log in marks.items():
        labels[axis.row(log)] = (f"{name[0].upper()} {short_number(log)}", STYLES[name])
    return axis, labels


def _regions(c: Course, axis: StepAxis, left: int, glyphs: Glyphs) -> list[tuple[str, int, range]]:
    """The parts that no threshold is read from: a label, the column of its border, the columns that are to step back."""
    steps, width, regions = c.steps, left + axis.num_cells, []
    begins, ends = borders(c)
    if begins is not None:
        border = left + axis.cell(steps[begins])
        text = f"warm-up, to step {int(steps[begins - 1])}"
        text = text if border + len(text) + 3 <= width else "warm-up"
        regions.append((f"{glyphs.rule}{glyphs.before} {text}", border, range(left, border)))
    if ends is not None:
        border = left + axis.cell(steps[ends])
        text = f"diverging, from step {int(steps[ends])}"
        text = text if len(text) + 2 <= border else "diverging"
        regions.append((f"{text} {glyphs.after}{glyphs.rule}", border, range(border, width)))
    return regions


def _draw_curve(plot: _Plot, c: Course, logs: Floats) -> None:
    height, width = plot.norm_axis.num_cells, plot.step_axis.num_cells
    down, across = dots_per_cell(plot.glyphs)
    index = np.flatnonzero(drawable(c.norms))
    columns = plot.step_axis.cells(c.steps, across)[index]
    rows = plot.norm_axis.rows(logs, down)[index]
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


def _draw_marks(plot: _Plot, c: Course, logs: Floats, marks: dict[str, float]) -> None:
    """The line of the threshold, the spikes on top of the curve, and at the ends what a log axis does not hold."""
    glyphs, axis = plot.glyphs, plot.norm_axis
    if "threshold" in marks:
        row, line = axis.row(marks["threshold"]), glyphs.threshold * plot.step_axis.num_cells
        plot.put_at(0, row, line, THRESHOLD, under=True)
    columns = plot.step_axis.cells(c.steps)
    rows = axis.rows(logs)
    for column, row in set(zip(columns[c.spikes].tolist(), rows[c.spikes].tolist(), strict=True)):
        plot.put_at(column, row, glyphs.spike, SPIKE)
    for column in np.unique(columns[c.norms == 0]).tolist():
        plot.put_at(column, axis.num_cells - 1, glyphs.zero, SPIKE)
    for column in np.unique(columns[c.nonfinite]).tolist():
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


def _legend(c: Course, marks: dict[str, float], glyphs: Glyphs) -> list[tuple[str, str]]:
    words = {"threshold": f"{glyphs.threshold * 2} T threshold", "median": "M stable median"}
    items = [(f"{text} {short_number(marks[name])}", STYLES[name]) for name, text in words.items() if name in marks]
    num_zeros = int((c.norms == 0).sum())
    if c.spikes.size:
        items.append((f"{glyphs.spike} {count(c.spikes.size, 'spike')}", SPIKE))
    if c.nonfinite.size:
        items.append((f"{glyphs.nonfinite} {c.nonfinite.size:,} non-finite", SPIKE))
    if num_zeros:
        items.append((f"{glyphs.zero} {count(num_zeros, 'zero')}", SPIKE))
    return items
