"""The norms of a run -> what a threshold lies between: over the steps, and how often each occurs."""

from __future__ import annotations

from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

from clipcal import recommend
from clipcal.run.trace import Floats
from clipcal.stats import Rows
from clipcal.views.figures.limits import log_limits, step_limits
from clipcal.views.figures.points import positive
from clipcal.views.image import style
from clipcal.views.image.labels import Label, beside
from clipcal.views.image.scales import log_axis, step_axis
from drawing.runs import labelled, steady
from drawing.sheet import TEXT, place, sheet, title, write

GAP, TAIL = ("compound", 20), ("heavy_tail", 14)
"""Labelled traces of benchmarks/traces: no sample has a warm-up and spikes both, or so clean a tail."""
BLUE_INK = "#2B7BAD"
"""Letters in the colour of the band."""
NUM_BINS = 34


def overview() -> Figure:
    norms = labelled(*GAP)
    answer, found = recommend(norms), steady(norms)
    assert answer.max_norm is not None
    steps = np.arange(norms.size, dtype=np.float64)
    figure = sheet(350)
    title(figure, 18, 30, "What a threshold is read from:", more="the gradient norm of every step of one run")
    axes = place(figure, 64, 48, 594, 298)
    log_axis(axes, "y", log_limits([float(norms.min()), float(norms.max())], above=0.09), most=6)
    step_axis(axes, step_limits(steps), labelled=True)
    axes.axvspan(axes.get_xlim()[0], found.first_row - 0.5, color=style.PALE, lw=0, zorder=0)
    course(axes, steps, norms, found.spike_rows, (found.median, found.p99), answer.max_norm)
    axes.set_ylabel("gradient norm")
    spikes = norms[found.spike_rows]
    labels = [
        Label(text=f"{spikes.size} spikes", at=float(np.median(spikes)), color=style.SPIKE, bold=True),
        Label(text=f"threshold {answer.max_norm:g}", at=answer.max_norm, color=style.THRESHOLD, bold=True),
        Label(text="99% are below", at=found.p99, color=BLUE_INK),
        Label(text="stable median", at=found.median, color=BLUE_INK),
    ]
    beside(axes, labels, width=150, size=TEXT)
    write(axes, "warm-up: left out", (found.first_row, axes.get_ylim()[1]), (5, -10), color=style.DARK, va="center")
    return figure


def course(axes: Axes, steps: Floats, norms: Floats, rows: Rows, band: tuple[float, float], threshold: float) -> None:
    """The norms as a line, the stable band, a triangle on each spike (``rows``), and the threshold."""
    axes.plot(steps, positive(norms), color=style.NORM, lw=1.0, zorder=2)
    axes.axhspan(*band, color=style.CORRIDOR, alpha=0.4, lw=0, zorder=3)
    axes.plot(steps[rows], norms[rows], ls="none", marker="^", ms=7, mew=0, color=style.SPIKE, zorder=5)
    axes.axhline(threshold, color=style.THRESHOLD, lw=2.4, zorder=4)


def gap() -> Figure:
    figure = sheet(330)
    for trace, left, heading, more in (
        (GAP, 62, "spikes:", "a gap sets them apart"),
        (TAIL, 440, "heavy_tail:", "large norms of all sizes"),
    ):
        title(figure, left - 44, 30, heading, more=more)
        axes = place(figure, left, 50, left + 300, 276)
        _histogram(axes, labelled(*trace), heading.rstrip(":"))
    return figure


def _histogram(axes: Axes, norms: Floats, verdict: str) -> None:
    answer, found = recommend(norms), steady(norms)
    assert answer.verdict == verdict, f"the trace is {answer.verdict} now: show another"
    assert answer.max_norm is not None
    calm, spikes = norms[found.stable_rows], norms[found.spike_rows]
    low, high = log_limits(np.concatenate([calm, spikes]), below=0.02, above=0.04)
    log_axis(axes, "x", (low, high), most=6)
    edges = np.geomspace(low, high, NUM_BINS + 1)
    for values, color in ((calm, style.STABLE), (spikes, style.SPIKE)):
        counts = np.histogram(values, edges)[0]
        axes.bar(edges[:-1], counts, np.diff(edges), align="edge", color=color, edgecolor="white", lw=0.8, zorder=2)
    axes.set_yscale("log")
    axes.set_ylim(0.6, 400)
    axes.yaxis.set_major_locator(FixedLocator([1, 10, 100]))
    axes.yaxis.set_minor_locator(NullLocator())
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.set_ylabel("steps", labelpad=2)
    axes.set_xlabel("gradient norm", labelpad=2)
    axes.axvline(answer.max_norm, color=style.THRESHOLD, lw=2.4, zorder=4)
    shift, side = (5, "left") if spikes.size else (-5, "right")
    looks: dict[str, Any] = {"ha": side, "va": "center", "color": style.THRESHOLD, "fontweight": "bold"}
    write(axes, f"threshold {answer.max_norm:g}", (answer.max_norm, 300.0), (shift, 0), **looks)
    if spikes.size:
        ends = float(calm.max()), float(spikes.min())
        span = {"arrowstyle": "<->", "lw": 1.2, "shrinkA": 0, "shrinkB": 0}
        axes.annotate("", (ends[0], 12), (ends[1], 12), arrowprops=span, zorder=6)
        write(axes, "gap", ((ends[0] * ends[1]) ** 0.5, 12), (0, 6), ha="center")
        at = (float(np.median(spikes)), 3.6)
        write(axes, f"{spikes.size} spikes", at, ha="center", color=style.SPIKE, fontweight="bold")
    else:
        write(axes, "no gap", (float(np.quantile(calm, 0.992)), 11))
