"""Losses after steps of every norm -> a panel: whether large norms do harm."""

from __future__ import annotations

import numpy as np
from matplotlib.axes import Axes

from clipcal.views.figures.harm import LossAfter
from clipcal.views.figures.limits import change_limits, log_limits
from clipcal.views.image import style
from clipcal.views.image.labels import Label, fly, log_flags, write
from clipcal.views.image.scales import linear_axis, log_axis
from clipcal.views.image.sheet import Panel, half, height_of
from clipcal.views.words import number


def loss_after_panel(h: LossAfter, unit: str, name: str, num_panels: int) -> Panel:
    """``name`` is what the threshold is called."""
    right, width, most = half(num_panels)
    marks = ((h.max_norm, name, style.THRESHOLD), (h.threshold, "compared at", style.BLACK))
    labels = [
        Label(text=f"{text} {number(v)}", at=v, color=c, bold=v == h.max_norm) for v, text, c in marks if v is not None
    ]
    ends = [float(h.norms.min()), float(h.norms.max()), *(v for v, _, _ in marks if v is not None)]
    limits = log_limits(ends, below=0.03, above=0.03)
    above = log_flags(labels, limits, width)

    def draw(axes: Axes) -> None:
        linear_axis(axes, "y", change_limits(h.changes, [h.change_above or 0.0, h.change_below or 0.0, 0.0]), most=5)
        log_axis(axes, "x", limits, most=most)
        is_large = h.norms > (np.inf if h.threshold is None else h.threshold)
        for part, color, mark, size in ((~is_large, style.GREY, "o", 2.0), (is_large, style.SPIKE, "^", 2.6)):
            axes.plot(
                h.norms[part], h.changes[part], ls="none", marker=mark, ms=size, mew=0, alpha=0.6, color=color, zorder=2,
                rasterized=h.norms.size > 800, label="steps",
            )  # fmt: skip
        axes.axhline(0.0, color=style.BLACK, lw=0.5, zorder=1)
        if h.threshold is not None and h.change_below is not None and h.change_above is not None:
            axes.axvline(h.threshold, color=style.BLACK, lw=0.6, ls=(0, (1, 1.6)), zorder=3)
            for x, y, side, shift in ((limits[0], h.change_below, "left", 2), (limits[1], h.change_above, "right", -2)):
                axes.plot([x, h.threshold], [y] * 2, color=style.BLACK, lw=1.6, zorder=4)
                write(
                    axes, f"median {y:+.2g}".replace("-", "−"), (x, y), (shift, 2), ha=side, va="bottom", zorder=6,
                    bbox={"facecolor": "white", "alpha": 0.75, "lw": 0, "pad": 0.8},
                )  # fmt: skip
        if h.max_norm is not None:
            axes.axvline(h.max_norm, color=style.THRESHOLD, lw=1.4, zorder=3.5)
        fly(axes, above)
        axes.set_ylabel("log change of the loss" if h.is_relative else "change of the loss, in sd")
        axes.set_xlabel(unit, labelpad=2)

    title = "Change of the loss around a step, by its norm"
    return Panel(title=title, draw=draw, height=1.5, above=height_of(above), right=right)
