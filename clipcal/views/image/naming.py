"""Curves -> a name on each, where there is room for it."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes

from clipcal.run.trace import Floats
from clipcal.views.image.labels import write
from clipcal.views.image.style import SMALL, width_of

LEAST = 2.0
"""Points between a name and any line."""


def along(axes: Axes, x: Floats, curves: Sequence[tuple[str, str, Floats]], poles: Sequence[float]) -> None:
    """Name each curve (its name, its colour, its heights (n,) over ``x`` (n,)) in its own colour, beside it and clear of the
    others, of the vertical lines at ``poles``, and of the names before. The limits of the axes must be set."""
    size = axes.get_window_extent()
    scale = 72 / axes.figure.dpi
    width, height = size.width * scale, size.height * scale
    lines = [_places(axes, x, heights, width, height) for _, _, heights in curves]
    upright = [_places(axes, np.array([p]), np.zeros(1), width, height)[0, 0] for p in poles]
    every = np.concatenate(lines)
    taken: list[tuple[float, float, float, float]] = []
    for (name, color, _), line in zip(curves, lines, strict=True):
        box = _best(line, every, upright, taken, width_of(name, SMALL) / 2, SMALL / 2, width, height)
        taken.append(box)
        middle = (box[0] + box[2]) / 2, (box[1] + box[3]) / 2
        write(axes, name, (0, 0), middle, xycoords="axes fraction", ha="center", color=color, zorder=7)


def _places(axes: Axes, x: Floats, y: Floats, width: float, height: float) -> Floats:
    """Points (n, 2) from the lower left corner of the axes; a line is filled in where it is steep."""
    at = (axes.transData + axes.transAxes.inverted()).transform(np.column_stack([x, y])) * (width, height)
    fine = np.linspace(0, len(at) - 1, 4 * len(at) - 3)
    return np.column_stack([np.interp(fine, np.arange(len(at)), at[:, k]) for k in (0, 1)])


def _best(
    line: Floats,
    every: Floats,
    upright: Sequence[float],
    taken: Sequence[tuple[float, float, float, float]],
    half_width: float,
    half_height: float,
    width: float,
    height: float,
) -> tuple[float, float, float, float]:
    """The box (left, bottom, right, top) beside ``line`` that covers the least."""
    best, least = (0.0, 0.0, 2 * half_width, 2 * half_height), float("inf")
    for x0, y0 in line[:: max(len(line) // 60, 1)]:
        for dx, dy in ((1, 1), (1, -1), (-1, 1), (-1, -1), (1, 0), (-1, 0), (0, 1), (0, -1)):
            x, y = x0 + dx * (half_width + 3), y0 + dy * (half_height + 3)
            box = (x - half_width, y - half_height, x + half_width, y + half_height)
            if box[0] < 2 or box[1] < 1 or box[2] > width - 1 or box[3] > height - 1:
                continue
            off_x = np.maximum(np.abs(every[:, 0] - x) - half_width, 0)
            off_y = np.maximum(np.abs(every[:, 1] - y) - half_height, 0)
            away = np.hypot(off_x, off_y)
            cost = 10.0 * np.count_nonzero(away < LEAST) - 0.05 * min(float(np.median(np.sort(away)[:20])), 20.0)
            cost += 300.0 * sum(box[0] - LEAST < p < box[2] + LEAST for p in upright)
            cost += 500.0 * sum(
                box[0] < b[2] + 3 and b[0] < box[2] + 3 and box[1] < b[3] + 2 and b[1] < box[3] + 2 for b in taken
            )
            if cost < least:
                best, least = box, cost
    return best
