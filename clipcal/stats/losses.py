"""Losses of an arm -> how it ended, whether it was lost, and how often it jumped. Pure functions of 1-D arrays."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from clipcal.run.trace import Floats

LAST_PART = 0.2  # the share of the steps that counts as the end of training
HOPELESS, TOO_LONG = 20.0, 30
"""An arm is lost, finite or not, when its loss stays above 20 times its start for 30 steps in a row."""
WINDOW = 10  # steps before a step that make its local level

EXPLODED = 10.0  # times its start, where losses are above zero: no loss that is learned gets there, and none of a GAN's did in our logs
FEWEST = 10


@dataclass(frozen=True, kw_only=True)
class Course:
    """What a loss did from ``start``, its first value, to ``end``, the median of its last fifth. "unknown" with fewer than 10 finite ones,
    where both may be None."""

    way: Literal["fell", "rose", "flat", "exploded", "unknown"] = "unknown"
    start: float | None = None
    end: float | None = None


def course_of(loss: Floats | None) -> Course:
    """The course of a loss (n,): a change below its own noise is "flat"."""
    finite = np.empty(0) if loss is None else loss[np.isfinite(loss)]
    if loss is None or finite.size < FEWEST:
        return Course()
    start, end = float(finite[0]), float(np.median(finite[-max(round(LAST_PART * finite.size), 5) :]))
    if np.min(finite) > 0 and end > EXPLODED * start:
        return Course(way="exploded", start=start, end=end)
    moved = end - float(np.median(finite[:5]))
    if abs(moved) <= scatter(finite):
        return Course(way="flat", start=start, end=end)
    return Course(way="rose" if moved > 0 else "fell", start=start, end=end)


def initial_loss(loss: Floats) -> float:
    """The level that training starts from: the median of the first 5 finite losses, since the first batch may be odd."""
    finite = loss[np.isfinite(loss)][:5]
    return float(np.median(finite)) if len(finite) else float("nan")


def final_loss(loss: Floats) -> float:
    """The median loss of the last fifth of the steps (at least 10). NaN where any tenth of them is not finite.

    A median, since a spike of the loss in the last part is counted as a spike and should not count twice.
    """
    last = loss[-max(round(LAST_PART * len(loss)), min(10, len(loss))) :]
    if not len(last) or np.mean(~np.isfinite(last)) > 0.1:
        return float("nan")
    return float(np.median(last[np.isfinite(last)]))


_AT_ONCE = 2**14


def diverged_at(loss: Floats, *, floor: float) -> int | None:
    """The row from which training is lost, or None.

    Lost is a loss that ends non-finite, or that ends above its start by more than half of the progress that any arm made
    (start minus ``floor``), and at least by half its start's scatter. The row is the first after the last one at or below
    the start.
    """
    finite = np.isfinite(loss)
    if not len(loss) or not finite[-1]:
        healthy = np.flatnonzero(finite)
        return int(healthy[-1]) + 1 if len(healthy) else 0
    start, end = initial_loss(loss), final_loss(loss)
    margin = max(0.5 * (start - floor), 3 * scatter(loss), 1e-3 * abs(start))
    if not end > start + margin:
        # Where training was given up in the middle, most of the last part is still from before.
        low = np.flatnonzero(~(loss > HOPELESS * np.max(np.abs(loss[finite][:5]))))
        return int(low[-1]) + 1 if len(loss) - 1 - low[-1] >= TOO_LONG else None
    low = np.flatnonzero(np.where(finite, loss, np.inf) <= start)
    return int(low[-1]) + 1 if len(low) else 0


def jumps(loss: Floats) -> Floats:
    """How far each loss stands above the median of the ``WINDOW`` before it; NaN for the first ones."""
    out = np.full(len(loss), np.nan)
    finite = np.where(np.isfinite(loss), loss, np.nan)
    for start in range(WINDOW, len(loss), _AT_ONCE):  # the windows of a million losses are larger than all else
        part = finite[start - WINDOW : start + _AT_ONCE]
        before = np.lib.stride_tricks.sliding_window_view(part, WINDOW)[:-1]
        known = np.isfinite(before).sum(axis=1)
        usable = known >= WINDOW // 2
        median = np.median if known.min(initial=WINDOW) == WINDOW else np.nanmedian  # the first is ten times as fast
        out[start : start + _AT_ONCE][usable] = part[WINDOW:][usable] - median(before[usable], axis=1)
    return out


def scatter(loss: Floats) -> float:
    """The robust spread of the losses about their local level (1.4826 times the median absolute jump)."""
    j = np.abs(jumps(loss))
    j = j[np.isfinite(j)]
    return float(1.4826 * np.median(j)) if len(j) else 0.0


def num_spikes(loss: Floats, *, spread: float, progress: float) -> int:
    """How often the loss jumps clear above its local level: by 6 times ``spread`` and by a twentieth of ``progress``.

    ``spread`` and ``progress`` are those of all arms together, so that arms are counted by one measure. Neighbouring steps
    make one spike.
    """
    with np.errstate(invalid="ignore"):
        high = jumps(loss) > max(6 * spread, 0.05 * progress)
    return int(np.sum(high & ~np.concatenate([[False], high[:-1]])))
