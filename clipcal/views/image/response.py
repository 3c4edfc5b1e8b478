"""Losses after steps of every norm -> a panel: whether large norms do harm."""

from __future__ import annotations

import math

import numpy as np
from matplotlib.axes import Axes

from clipcal.views.figures.harm import LossAfter
from clipcal.views.image import style
from clipcal.views.image.labels import LINE, Label, flags, fly
from clipcal.views.image.scales import linear_axis, log_axis, log_limits
from clipcal.views.image.sheet import EDGE, RIGHT, Panel, inner_width
from clipcal.views.image.style import number


def loss_after_panel(h: LossAfter, unit: str, name: str, num_panels: int) -> Panel:
    """``name`` is what the threshold is called."""
    right = RIGHT if num_panels == 1 else EDGE
    width = inner_width(num_panels, right)
    marks = [(v, text, color) for v, text, color in (
        (h.max_norm, name, style.THRESHOLD), (h.threshold, "compared at", style.BLACK)
    ) if v is not None]  # fmt: skip
    limits = log_limits([float(h.norms.min()), float(h.norms.max()), *(v for v, _, _ in marks)], below=0.03, above=0.03)
    above = flags(
        [Label(text=f"{text} {number(v)}", at=v, color=color, bold=v == h.max_norm) for v, text, color in marks],
        [width * math.log(v / limits[0]) / math.log(limits[1] / limits[0]) for v, _, _ in marks],
        width, 0.0, size=style.SMALL,
    )  # fmt: skip

    def draw(axes: Axes) -> None:
        low, high = np.quantile(h.changes, [0.005, 0.995])
        reach = [h.change_above or 0.0, h.change_below or 0.0, 0.0]
        far = 0.6 * (high - low)
        top, bottom = min(float(h.changes.max()), high + far), max(float(h.changes.min()), low - far)
        linear_axis(axes, "y", _padded(min(bottom, *reach), max(top, *reach)), most=5)
        log_axis(axes, "x", limits, most=9 if num_panels == 1 else 6)
        is_large = h.norms > h.threshold if h.threshold is not None else np.zeros(h.norms.size, dtype=np.bool_)
        for part, color, mark in ((~is_large, style.GREY, "o"), (is_large, style.SPIKE, "^")):
            axes.plot(
                h.norms[part], h.changes[part], ls="none", marker=mark, ms=2.6 if mark == "^" else 2.0, mew=0, alpha=0.6,
                color=color, zorder=2, rasterized=h.norms.size > 800, label="steps",
            )  # fmt: skip
        axes.axhline(0.0, color=style.BLACK, lw=0.5, zorder=1)
        if h.threshold is not None and h.change_below is not None and h.change_above is not None:
            axes.plot([limits[0], h.threshold], [h.change_below] * 2, color=style.BLACK, lw=1.6, zorder=4)
            axes.plot([h.threshold, limits[1]], [h.change_above] * 2, color=style.BLACK, lw=1.6, zorder=4)
            axes.axvline(h.threshold, color=style.BLACK, lw=0.6, ls=(0, (1, 1.6)), zorder=3)
            for x, y, place in ((limits[0], h.change_below, "left"), (limits[1], h.change_above, "right")):
                axes.annotate(
                    f"median {y:+.2g}".replace("-", "−"), (x, y), (2 if place == "left" else -2, 2),
                    textcoords="offset points", ha=place, va="bottom", fontsize=style.SMALL, zorder=6,
                    bbox={"facecolor": "white", "alpha": 0.75, "lw": 0, "pad": 0.8},
                )  # fmt: skip
        if h.max_norm is not None:
            axes.axvline(h.max_norm, color=style.THRESHOLD, lw=1.4, zorder=3.5)
        fly(axes, above, size=style.SMALL)
        axes.set_ylabel("log change of the loss" if h.is_relative else "change of the loss, in sd")
        axes.set_xlabel(unit, labelpad=2)

    high_flags = LINE * (max((f.row for f in above), default=-1) + 1) + 2
    return Panel(
        title="Change of the loss around a step, by its norm", draw=draw, height=1.5, above=high_flags / 72, right=right
    )


def _padded(low: float, high: float) -> tuple[float, float]:
    room = 0.06 * (high - low) or 0.5
    return low - room, high + room
