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
from clipcal.views.image import style
from clipcal.views.image.scales import step_axis, step_limits
from clipcal.views.image.sheet import RIGHT, Panel
from clipcal.views.image.style import log_ticks, percent, shortened, tick_label

MOST_RISE, LEAST_RISE = 100.0, 2.0
"""Times the usual norm: beyond the first the darkest, and so dark at least."""
TINY = 6.2


def heat_panel(heat: Heat, course: Course) -> Panel:
    num = len(heat.names)
    row = 0.135 if num <= 12 else 0.115
    height = max(row * num, 0.5)

    def draw(axes: Axes) -> None:
        edges = np.append(heat.first - 0.5, heat.last + 0.5)
        finite = heat.rise[np.isfinite(heat.rise)]
        top = min(max(float(finite.max(initial=1.0)), LEAST_RISE), MOST_RISE)
        colors = colormaps["magma_r"].with_extremes(bad=(0, 0, 0, 0))
        if np.isnan(heat.rise).any():
            axes.axvspan(edges[0], edges[-1], facecolor="white", edgecolor=style.GREY, hatch="//////", lw=0)
        rise = np.where(np.isposinf(heat.rise), np.float32(1e30), heat.rise)
        mesh = axes.pcolormesh(
            edges, np.arange(num + 1), np.clip(rise, 1.0, top), norm=LogNorm(1.0, top), cmap=colors, rasterized=True,
            label="layers",
        )  # fmt: skip
        axes.set_ylim(num, 0)
        axes.yaxis.set_major_locator(NullLocator())
        axes.set_ylabel(f"{num} layer{'s' * (num != 1)}" + (f" of {num + heat.num_others}" if heat.num_others else ""))
        step_axis(axes, step_limits(course.steps), labelled=True)
        for i, (name, share) in enumerate(zip(heat.names, heat.shares, strict=True)):
            at: dict[str, Any] = {"xycoords": ("axes fraction", "data"), "textcoords": "offset points", "va": "center",
                  "annotation_clip": False, "fontsize": TINY}  # fmt: skip
            words = percent(float(share)) if share >= 0.005 else ""
            axes.annotate(words, (1.0, i + 0.5), (23, 0), ha="right", color=style.DARK, **at)
            text = shortened(name, TINY, 72 * RIGHT - 28)
            axes.annotate(text, (1.0, i + 0.5), (26, 0), ha="left", **at)
        _scale(axes, mesh, top)

    gaps = "; hatched: no gradient" if np.isnan(heat.rise).any() else ""
    return Panel(
        title=f"Norm of each layer over its usual{gaps}; right: its share of the peaks", draw=draw, height=height, below=0.4,
        right=RIGHT,
    )  # fmt: skip


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
