"""The ends of an axis -> the axis: its scale, its ticks, its numbers."""

from __future__ import annotations

import math

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import FixedLocator, FuncFormatter, MaxNLocator, NullFormatter, NullLocator

from clipcal.views.figures.limits import Limits, log_ticks
from clipcal.views.image.style import tick_label

STEPS = [1, 2, 2.5, 5, 10]
"""Of round numbers."""


def log_axis(axes: Axes, which: str, limits: tuple[float, float], *, most: int) -> None:
    """A log axis with round numbers on it: 0.1, 0.2, 0.5, 1, 2."""
    axes.set(**{f"{which}scale": "log", f"{which}lim": limits})
    major = list(log_ticks(*limits, most))
    axis = axes.xaxis if which == "x" else axes.yaxis
    axis.set_major_locator(FixedLocator(major))
    axis.set_major_formatter(FuncFormatter(lambda value, _: tick_label(value)))
    first, last = (math.floor(math.log10(v)) for v in limits)
    minor = [d * 10.0**e for e in range(first, last + 1) for d in range(1, 10)] if last - first <= 4 else []
    minor = [v for v in minor if not any(abs(v - m) < 1e-9 * v for m in major)]
    axis.set_minor_locator(FixedLocator(minor) if minor else NullLocator())
    axis.set_minor_formatter(NullFormatter())


def linear_axis(axes: Axes, which: str, limits: tuple[float, float], *, most: int) -> None:
    axes.set(**{f"{which}lim": limits})
    axis = axes.xaxis if which == "x" else axes.yaxis
    axis.set_major_locator(MaxNLocator(nbins=most, steps=STEPS))
    axis.set_major_formatter(FuncFormatter(lambda value, _: tick_label(value)))


def fitting_axis(axes: Axes, which: str, limits: Limits, *, most: int) -> None:
    """A log axis or a linear one, as the limits ask for."""
    (log_axis if limits.is_log else linear_axis)(axes, which, limits.ends, most=most)


def share_axis(axes: Axes, *, every: float = 0.25) -> None:
    """From 0% to 100%, upwards."""
    axes.set_ylim(-0.02, 1.02)
    axes.yaxis.set_major_locator(FixedLocator([*np.arange(0, 1 + every / 2, every)]))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:.0%}"))


def step_axis(axes: Axes, limits: tuple[float, float], *, labelled: bool) -> None:
    axes.set_xlim(*limits)
    axes.xaxis.set_major_locator(MaxNLocator(nbins=7, integer=True, min_n_ticks=1, steps=STEPS))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}".replace("-", "−")))
    axes.tick_params(axis="x", labelbottom=labelled)
    if labelled:
        axes.set_xlabel("optimizer step", labelpad=2)
