"""Values -> the limits and ticks of an axis, and lines that are short enough to be drawn."""

from __future__ import annotations

import math
from collections.abc import Iterable

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import FixedLocator, FuncFormatter, MaxNLocator, NullFormatter, NullLocator

from clipcal.run.trace import Floats
from clipcal.views.image.style import log_ticks, tick_label

LARGEST = 1e300
"""Beyond it the arithmetic of axes overflows."""
MOST_BINS = 1000
"""Of a line: more than there are dots across a column at 200 to the inch."""


def outline(x: Floats, y: Floats) -> tuple[Floats, Floats]:
    """The line through (n,) points; of a long one its lowest and highest value in each of 1,000 pieces, so that it looks the
    same and no spike is lost. What is not finite is a gap."""
    y = np.where(np.isfinite(y), y, np.nan)
    if y.size <= 3 * MOST_BINS:
        return x, y
    starts = np.arange(MOST_BINS) * y.size // MOST_BINS
    known = np.isfinite(y)
    low = np.minimum.reduceat(np.where(known, y, np.inf), starts)
    high = np.maximum.reduceat(np.where(known, y, -np.inf), starts)
    both = np.column_stack([low, high]).ravel()
    return np.repeat(x[starts], 2), np.where(np.isfinite(both), both, np.nan)


def positive(values: Floats) -> Floats:
    """NaN where a log axis has no place."""
    with np.errstate(invalid="ignore"):
        return np.where(np.isfinite(values) & (values > 0), values, np.nan)


def log_limits(values: Iterable[float], *, below: float = 0.05, above: float = 0.05) -> tuple[float, float]:
    """Limits around positive values with room, in shares of the height, and never less than a factor of 1.5 in all."""
    logs = [math.log10(v) for v in values if 0 < v < math.inf]
    low, high = (min(logs), max(logs)) if logs else (-1.0, 1.0)
    if high - low < 0.18:
        low, high = (low + high) / 2 - 0.09, (low + high) / 2 + 0.09
    room = high - low
    low, high = low - below * room, high + above * room
    return within(10.0 ** max(low, -307.0), 10.0 ** min(high, 307.0))


def within(low: float, high: float) -> tuple[float, float]:
    """Limits that a log axis can have, of a range that may reach beyond the floats."""
    low, high = max(low, 1e-307), min(high, 1e307)
    return (low, high) if high > 1.01 * low else (low / 2, 2 * low)


def linear_limits(values: Iterable[float], *, room: float = 0.06) -> tuple[float, float]:
    finite = [v for v in values if math.isfinite(v)]
    low, high = (min(finite), max(finite)) if finite else (0.0, 1.0)
    if high - low <= 1e-9 * max(abs(low), abs(high)):
        low, high = low - 0.5 * (abs(low) or 1.0), high + 0.5 * (abs(high) or 1.0)
    low, high = max(low, -LARGEST), min(high, LARGEST)
    extra = room * high - room * low
    return low - extra, high + extra


def log_axis(axes: Axes, which: str, limits: tuple[float, float], *, most: int) -> None:
    """A log axis with round numbers on it: 0.1, 0.2, 0.5, 1, 2."""
    axis = axes.xaxis if which == "x" else axes.yaxis
    (axes.set_xscale if which == "x" else axes.set_yscale)("log")
    (axes.set_xlim if which == "x" else axes.set_ylim)(*limits)
    major = list(log_ticks(*limits, most))
    axis.set_major_locator(FixedLocator(major))
    axis.set_major_formatter(FuncFormatter(lambda value, _: tick_label(value)))
    first, last = (math.floor(math.log10(v)) for v in limits)
    minor = [d * 10.0**e for e in range(first, last + 1) for d in range(1, 10)] if last - first <= 4 else []
    minor = [v for v in minor if not any(abs(v - m) < 1e-9 * v for m in major)]
    axis.set_minor_locator(FixedLocator(minor) if minor else NullLocator())
    axis.set_minor_formatter(NullFormatter())


def linear_axis(axes: Axes, which: str, limits: tuple[float, float], *, most: int) -> None:
    axis = axes.xaxis if which == "x" else axes.yaxis
    (axes.set_xlim if which == "x" else axes.set_ylim)(*limits)
    axis.set_major_locator(MaxNLocator(nbins=most, steps=[1, 2, 2.5, 5, 10]))
    axis.set_major_formatter(FuncFormatter(lambda value, _: tick_label(value)))


def share_axis(axes: Axes, *, every: float = 0.25) -> None:
    """From 0% to 100%, upwards."""
    axes.set_ylim(-0.02, 1.02)
    axes.yaxis.set_major_locator(FixedLocator([*np.arange(0, 1 + every / 2, every)]))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:.0%}"))


def step_limits(steps: Floats) -> tuple[float, float]:
    first, last = float(steps[0]), float(steps[-1])
    room = max(0.01 * (last - first), 0.5)
    return first - room, last + room


def step_axis(axes: Axes, limits: tuple[float, float], *, labelled: bool) -> None:
    axes.set_xlim(*limits)
    axes.xaxis.set_major_locator(MaxNLocator(nbins=7, integer=True, min_n_ticks=1, steps=[1, 2, 2.5, 5, 10]))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}".replace("-", "−")))
    axes.tick_params(axis="x", labelbottom=labelled)
    if labelled:
        axes.set_xlabel("optimizer step", labelpad=2)


def loss_axis(axes: Axes, losses: Floats, *, most: int = 5, usual: float = 0.998, room: float = 1.5) -> None:
    """Set the vertical axis for (n,) losses: a log axis where all are positive and far apart; a few far beyond the others do not
    stretch it: those above the quantile ``usual`` by more than ``room`` times the range below."""
    known = losses[np.isfinite(losses)]
    if not known.size:
        linear_axis(axes, "y", (0.0, 1.0), most=most)
        return
    low, high = (float(q) for q in np.quantile(known, [0.002, usual]))
    is_log = bool(known.min() > 0 and high > 30 * low)
    if is_log:
        top = min(float(known.max()), high * min(high / low, LARGEST) ** (room / 1.5))
        bottom = max(float(known.min()), low / math.sqrt(min(high / low, LARGEST)))
        log_axis(axes, "y", log_limits([bottom, top]), most=most)
    else:
        far = room * (high - low)
        limits = linear_limits([max(float(known.min()), low - far), min(float(known.max()), high + far)])
        linear_axis(axes, "y", limits, most=most)
