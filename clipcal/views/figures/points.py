"""Long arrays -> what of them a picture can hold: where a log axis has a place, and points enough that the line looks the same."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import ArrayLike, NDArray

from clipcal.run.trace import Floats

Bools = NDArray[np.bool_]
Rows = NDArray[np.intp]

MOST_BINS = 1000
"""Of a line: more than there are dots across a column at 200 to the inch."""
MOST_MARKS = 300


def drawable(values: Floats) -> Bools:
    """Which values a log axis holds."""
    return np.isfinite(values) & (values > 0)


def positive(values: Floats) -> Floats:
    """NaN where a log axis has no place."""
    return np.where(drawable(values), values, np.nan)


def outline(x: Floats, y: Floats) -> tuple[Floats, Floats]:
    """The line through (n,) points; of a long one its lowest and highest value in each of 1,000 pieces, so that it looks the
    same and no spike is lost. What is not finite is a gap."""
    known = np.isfinite(y)
    if y.size <= 3 * MOST_BINS:
        return x, np.where(known, y, np.nan)
    starts = np.arange(MOST_BINS) * y.size // MOST_BINS
    low = np.minimum.reduceat(np.where(known, y, np.inf), starts)
    high = np.maximum.reduceat(np.where(known, y, -np.inf), starts)
    both = np.column_stack([low, high]).ravel()
    return np.repeat(x[starts], 2), np.where(np.isfinite(both), both, np.nan)


def sampled(known: Bools, most: int) -> Rows:
    """At most so many of the rows that are ``known`` (n,), evenly spaced: enough for a smooth line."""
    rows = np.flatnonzero(known)
    return rows if rows.size <= most else rows[np.linspace(0, rows.size - 1, most).astype(np.intp)]


def few(rows: Rows, size: int, heights: Floats | None = None) -> Rows:
    """At most one row of each of 300 pieces of a trace of ``size``: the highest, or the first."""
    if rows.size <= MOST_MARKS:
        return rows
    piece = rows * MOST_MARKS // size
    order = np.lexsort((-heights[rows], piece)) if heights is not None else np.argsort(piece, kind="stable")
    _, first = np.unique(piece[order], return_index=True)
    return np.sort(rows[order[first]])


def heights(values: ArrayLike, most: int) -> tuple[Floats, Bools]:
    """(k,) values, or at most so many groups of neighbours: the largest of each as a share of the range, and whether it holds one that is not
    finite. Logarithmic where all finite values are positive and the largest is over 10 times the smallest."""
    x = np.asarray(values, dtype=np.float64).ravel()
    num_groups = max(min(most, x.size), 0)
    if num_groups == 0:
        return np.empty(0), np.empty(0, dtype=np.bool_)
    starts = np.arange(num_groups) * x.size // num_groups
    finite = np.isfinite(x)
    broken = np.logical_or.reduceat(~finite, starts)
    low, high = (float(x[finite].min()), float(x[finite].max())) if finite.any() else (0.0, 0.0)
    tops = np.maximum.reduceat(np.where(finite, x, low), starts)
    if low > 0 and math.log10(high) - math.log10(low) > 1:
        tops, low, high = np.log10(tops), math.log10(low), math.log10(high)
    # Halves, because the difference of two huge floats overflows.
    span = high / 2 - low / 2
    return (tops / 2 - low / 2) / span if span > 0 else np.full(num_groups, 0.4), broken
