"""A heat map of layer by step -> a panel under the course."""

from __future__ import annotations

from typing import Any

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.collections import QuadMesh
from matplotlib.colors import LogNorm
from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

from clipcal.views.figures.course import Course
from clipcal.views.figures.heat import Heat
from clipcal.views.figures.limits import log_ticks
from clipcal.views.image import style
from clipcal.views.image.labels import write
from clipcal.views.image.sheet import RIGHT, Panel
from clipcal.views.image.style import TINY, percent, shortened, tick_label
from clipcal.views.words import count

MOST_RISE, LEAST_RISE = 100.0, 2.0
"""Times the usual norm: beyond the first the darkest, and so dark at least."""


def heat_panel(heat: Heat, course: Course) -> Panel:
    num = len(heat.names)
    has_gaps = bool(np.isnan(heat.rise).any())

    def draw(axes: Axes) -> None:
        edges = np.append(heat.first - 0.5, heat.last + 0.5)
        finite = heat.rise[np.isfinite(heat.rise)]
        top = min(max(float(finite.max(initial=1.0)), LEAST_RISE), MOST_RISE)
        colors = colormaps["magma_r"].with_extremes(bad=(0, 0, 0, 0))
        if has_gaps:
            axes.axvspan(edges[0], edges[-1], facecolor="white", edgecolor=style.GREY, hatch="//////", lw=0)
        mesh = axes.pcolormesh(
            edges, np.arange(num + 1), np.clip(heat.rise, 1.0, top), norm=LogNorm(1.0, top), cmap=colors, rasterized=True,
            label="layers",
        )  # fmt: skip
        axes.set_ylim(num, 0)
        axes.yaxis.set_major_locator(NullLocator())
        axes.set_ylabel(count(num, "layer") + (f" of {num + heat.num_others}" if heat.num_others else ""))
        at: dict[str, Any] = {"xycoords": ("axes fraction", "data"), "fontsize": TINY}
        for i, (name, share) in enumerate(zip(heat.names, heat.shares, strict=True)):
            text = percent(float(share)) if share >= 0.005 else ""
            write(axes, text, (1.0, i + 0.5), (23, 0), ha="right", color=style.DARK, **at)
            write(axes, shortened(name, TINY, 72 * RIGHT - 28), (1.0, i + 0.5), (26, 0), ha="left", **at)
        _scale(axes, mesh, top)

    title = f"Norm of each layer over its usual{'; hatched: no gradient' * has_gaps}; right: its share of the peaks"
    height = max((0.135 if num <= 12 else 0.115) * num, 0.5)
    return Panel(title=title, draw=draw, height=height, below=0.4, right=RIGHT, steps=course.steps)


def _scale(axes: Axes, mesh: QuadMesh, top: float) -> None:
    """The colours' scale, under the names."""
    figure = axes.figure
    box, size = axes.get_position(), axes.get_window_extent()
    wide, high = size.width / figure.dpi / box.width, size.height / figure.dpi / box.height
    inner = figure.add_axes((box.x1 + 0.36 / wide, box.y0 - 0.17 / high, 0.82 / wide, 0.07 / high))
    bar = figure.colorbar(mesh, cax=inner, orientation="horizontal")
    ticks = log_ticks(1.0, top * 1.0001, 4)
    bar.ax.xaxis.set_major_locator(FixedLocator([*ticks]))
    bar.ax.xaxis.set_minor_locator(NullLocator())
    bar.ax.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{tick_label(value)}×"))
    bar.ax.tick_params(labelsize=TINY, size=2, pad=1)
    bar.outline.set_linewidth(0.4)
