"""Labels and where they belong -> where they are put, so that none covers another."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import numpy as np
from matplotlib.axes import Axes

from clipcal.run.trace import Floats
from clipcal.views.image.style import SMALL, shortened, width_of

LINE = 9.2
"""Points from one line of small text to the next."""
GAP = 5.0
"""Points between two labels in a row."""
LEAST = 2.0
"""Points between the name of a curve and any line."""


@dataclass(frozen=True, kw_only=True)
class Label:
    """``at`` is where it points to: on the axis of the data, or None for the top of the axes."""

    text: str
    at: float | None
    color: str
    bold: bool = False


def write(axes: Axes, text: str, at: tuple[float, float], shift: tuple[float, float], **looks: Any) -> None:
    """A small text, ``shift`` points from a place in the data, or where ``xycoords`` says."""
    usual: dict[str, Any] = {"va": "center", "fontsize": SMALL}
    axes.annotate(text, at, shift, textcoords="offset points", **usual | looks)


def written_beside(axes: Axes, text: str, y: float, shift: tuple[float, float], **looks: Any) -> None:
    """The same, from a height ``y`` of the right edge of the axes: 0 the bottom, 1 the top."""
    write(axes, text, (1.0, y), shift, xycoords="axes fraction", **looks)


def spread(wanted: Sequence[float], gap: float, low: float, high: float) -> list[float]:
    """Places between ``low`` and ``high`` that are ``gap`` apart, in the order of ``wanted`` and as near to it as can be
    (least squares). Closer where there is no room."""
    n = len(wanted)
    if not n:
        return []
    gap = min(gap, (high - low) / max(n - 1, 1))
    order = sorted(range(n), key=lambda i: wanted[i])
    blocks: list[tuple[float, int]] = []  # mean of what is wanted, less the gaps before; how many
    for rank, i in enumerate(order):
        mean, count = wanted[i] - rank * gap, 1
        while blocks and blocks[-1][0] >= mean:
            before, num = blocks.pop()
            mean, count = (before * num + mean * count) / (num + count), num + count
        blocks.append((mean, count))
    places = [mean for mean, count in blocks for _ in range(count)]
    top = high - (n - 1) * gap
    found = [0.0] * n
    for rank, i in enumerate(order):
        found[i] = min(max(places[rank], low), top) + rank * gap
    return found


def beside(axes: Axes, labels: Sequence[Label], *, width: float, size: float = SMALL) -> None:
    """Write the labels, at most ``width`` points long, to the right of the axes, each at its height or as near as there is room, with a thin line to it.

    The limits of the axes must be set.
    """
    height = axes.get_window_extent().height / axes.figure.dpi * 72
    to_axes = axes.transData + axes.transAxes.inverted()
    middle = axes.get_xlim()[1]
    heights = [1.0 if x.at is None else float(to_axes.transform((middle, x.at))[1]) for x in labels]
    inside = [(x, y) for x, y in zip(labels, heights, strict=True) if -1e-6 <= y <= 1 + 1e-6]
    # what stands at the very top is followed by the others below
    placed = spread([y * height for _, y in inside], LINE * size / SMALL, 0.0, height)
    for (item, y), place in zip(inside, placed, strict=True):
        line = {"arrowstyle": "-", "color": item.color, "lw": 0.5, "shrinkA": 0, "shrinkB": 1.5, "relpos": (0.0, 0.5)}
        text, weight = shortened(item.text, size, width, bold=item.bold), "bold" if item.bold else "normal"
        looks: dict[str, Any] = {"color": item.color, "fontsize": size, "fontweight": weight, "arrowprops": line}
        written_beside(axes, text, y, (13, place - y * height), **looks)


@dataclass(frozen=True, kw_only=True)
class Flag:
    """A label on a pole: ``x`` is its pole and ``row`` its height, counted from 0 at the axis; ``left`` where its text begins.
    Points from the left edge of the axes."""

    label: Label
    x: float
    row: int
    left: float


def flags(labels: Sequence[Label], places: Sequence[float], width: float, room: float, *, size: float) -> list[Flag]:
    """Flags at ``places``, in points from the left edge of axes of ``width``, which may reach ``room`` over the right one.

    Flags that would meet stand in rows, so that no pole crosses a text. The last ones fly to the right, and as many of the
    first ones to the left as make the rows fewest, without one text over another where a text is moved in from an edge.
    """
    wide = [width_of(x.text, size, bold=x.bold) + 2.5 for x in labels]
    order = sorted(range(len(labels)), key=lambda i: places[i])
    best: tuple[float, list[Flag]] = (math.inf, [])
    for split in range(len(labels) + 1):
        over, found = 0.0, []
        for part, side in ((order[:split], -1), (order[split:][::-1], 1)):
            edges: list[float] = []  # of each row, how far its last text reaches; the poles of higher rows pass too
            for i in part:
                near, far = side * places[i], side * places[i] + wide[i]
                row = next((r for r in range(len(edges)) if far + GAP <= min(edges[r:])), len(edges))
                edges[row : row + 1] = [near]
                left = places[i] + 2.5 if side > 0 else places[i] - wide[i]
                over += max(left + wide[i] - width - room, 0.0) + max(-left, 0.0)
                kept = min(max(left, 0.0), max(width + room - wide[i], 0.0))
                found.append(Flag(label=labels[i], x=places[i], row=row, left=kept))
        ends = [
            (f.row, f.left, f.left + wide[i])
            for f, i in zip(found, [*order[:split], *order[split:][::-1]], strict=True)
        ]
        covered = sum(a[0] == b[0] and a[1] < b[2] and b[1] < a[2] for a, b in combinations(ends, 2))
        cost = max((f.row for f in found), default=0) + 10.0 * (over > 0.5) + over / 100 + 100.0 * covered
        if cost < best[0]:
            best = cost, found
    return best[1]


def log_flags(
    labels: Sequence[Label], limits: tuple[float, float], width: float, room: float = 0.0, *, size: float = SMALL
) -> list[Flag]:
    """Flags at their places along a log axis of ``width`` points."""
    low, high = (math.log10(v) for v in limits)
    shares = [(math.log10(x.at) - low) / (high - low) for x in labels if x.at is not None]
    return flags(labels, [width * min(max(share, 0.0), 1.0) for share in shares], width, room, size=size)


def num_rows(placed: Sequence[Flag]) -> int:
    return max((f.row for f in placed), default=-1) + 1


def fly(axes: Axes, placed: Sequence[Flag], *, size: float = SMALL, below: float | None = None) -> None:
    """Draw the flags above the axes, or under them from ``below`` points under the axis on."""
    for flag in placed:
        high = (flag.row + 0.5) * LINE * size / SMALL + 1
        start, y, fraction = (0.0, high, 1.0) if below is None else (-below, -below - high, 0.0)
        color, weight = flag.label.color, "bold" if flag.label.bold else "normal"
        pole = {"arrowstyle": "-", "color": color, "lw": 0.6, "shrinkA": 0, "shrinkB": abs(start)}
        edge: dict[str, Any] = {"xycoords": ("axes points", "axes fraction")}
        axes.annotate("", (flag.x, fraction), (0, y), arrowprops=pole, textcoords="offset points", **edge)
        looks: dict[str, Any] = {"color": color, "fontsize": size, "fontweight": weight}
        write(axes, flag.label.text, (flag.left, fraction), (0, y), ha="left", **looks, **edge)


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
