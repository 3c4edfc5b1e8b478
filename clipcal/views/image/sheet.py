"""Panels -> a page: rows of axes under a headline, each as high as it needs, without a gap where a panel is missing."""

from __future__ import annotations

import itertools
import string
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from clipcal.run.trace import Floats
from clipcal.views.figures.limits import step_limits
from clipcal.views.image.labels import LINE, Flag, num_rows
from clipcal.views.image.scales import step_axis
from clipcal.views.image.style import DARK, LARGE, NORMAL, ended, shortened, width_of

WIDTH = 7.0
"""Inches: the width of a page's text, two columns of most journals."""
LEFT, RIGHT, GUTTER = 0.72, 1.32, 0.74
"""Inches: for the labels of the vertical axis; for those beside a panel; between two panels of a row."""
EDGE = 0.12
TITLE = 0.2
SHARED = 0.1
"""Inches under a panel that shares its steps with the one below."""


@dataclass(frozen=True, kw_only=True)
class Panel:
    """``draw`` fills axes that are ``height`` inches high, with ``above`` and ``below`` for what it writes there. ``right`` is what it
    writes beside. ``steps`` (n,) is what the horizontal axis goes over, where it is that of the steps; of panels above each other that
    share it, the last has its numbers."""

    title: str
    draw: Callable[[Axes], None]
    height: float
    above: float = 0.0
    below: float = 0.36
    right: float = EDGE
    steps: Floats | None = None


@dataclass(frozen=True, kw_only=True)
class Headline:
    """``answer`` in bold, then what is said of it; below where it is from, and a sentence more."""

    answer: str
    said: str
    source: str
    more: str


def inner_width(num_panels: int, right: float) -> float:
    """Points of the axes of one of so many panels in a row."""
    return 72 * (WIDTH - LEFT - right - (num_panels - 1) * GUTTER) / num_panels


def half(num_panels: int) -> tuple[float, float, int]:
    """Of a panel that has a row to itself, or stands beside another: the inches beside it, the points of its axes, the most ticks along them."""
    right, most = (RIGHT, 9) if num_panels == 1 else (EDGE, 6)
    return right, inner_width(num_panels, right), most


def height_of(placed: Sequence[Flag]) -> float:
    """Inches of the flags above a panel."""
    return (LINE * num_rows(placed) + 2) / 72


def page(headline: Headline, rows: Sequence[Sequence[Panel]]) -> Figure:
    """A figure that belongs to no window and to no pyplot."""
    rows = [row for row in rows if row]
    shared = [all(p.steps is not None for p in (row[0], after[0])) for row, after in itertools.pairwise(rows)] + [False]
    heights = [
        max(p.above + p.height for p in row) + TITLE + (SHARED if joined else max(p.below for p in row))
        for row, joined in zip(rows, shared, strict=True)
    ]
    top = 0.5
    total = top + sum(heights) + 0.04
    figure = Figure(figsize=(WIDTH, total))
    FigureCanvasAgg(figure)
    _head(figure, headline, total)
    letters = iter(string.ascii_lowercase)
    y = total - top
    for row, height, joined in zip(rows, heights, shared, strict=True):
        above = max(p.above for p in row)
        for i, panel in enumerate(row):
            wide = inner_width(len(row), panel.right) / 72
            left = LEFT + i * (wide + GUTTER)
            bottom = y - TITLE - above - panel.height
            axes = figure.add_axes((left / WIDTH, bottom / total, wide / WIDTH, panel.height / total))
            if panel.steps is not None:
                step_axis(axes, step_limits(panel.steps), labelled=not joined)
            panel.draw(axes)
            line = (y - TITLE + 0.06) / total
            start = (left - 0.5) / WIDTH
            figure.text(start, line, next(letters), fontsize=LARGE, fontweight="bold", va="baseline")
            figure.text(start + 0.15 / WIDTH, line, panel.title, fontsize=NORMAL, va="baseline", color=DARK)
        y -= height
    return figure


def _head(figure: Figure, headline: Headline, total: float) -> None:
    start = LEFT - 0.5
    room = 72 * (WIDTH - start - EDGE)
    figure.text(start / WIDTH, 1 - 0.2 / total, headline.answer, fontsize=LARGE, fontweight="bold", va="baseline")
    used = width_of(headline.answer, LARGE, bold=True) + 10
    said = shortened(headline.said, NORMAL, room - used)
    figure.text((start + used / 72) / WIDTH, 1 - 0.2 / total, said, fontsize=NORMAL, va="baseline")
    source = shortened(headline.source, NORMAL, room / 2)
    source = ended(f"{source}: {headline.more}" if headline.more else source, NORMAL, room)
    figure.text(start / WIDTH, 1 - 0.37 / total, source, fontsize=NORMAL, va="baseline", color=DARK)
