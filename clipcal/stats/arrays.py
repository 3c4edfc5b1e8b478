"""A long series -> medians of its pieces and a robust line through them, in linear time."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
Rows = NDArray[np.intp]


def block_medians(x: Array, width: int) -> Array:
    """Medians of consecutive blocks of ``width`` values; a shorter rest joins the last block. Shape (max(n // width, 1),)."""
    count = max(x.size // width, 1)
    if count == 1:
        return np.array([np.median(x)])
    whole = (count - 1) * width
    medians = np.append(np.median(x[:whole].reshape(-1, width), axis=1), np.median(x[whole:]))
    return np.asarray(medians, dtype=np.float64)


def running_median(x: Array, width: int) -> Array:
    """Medians over ``width`` (odd) neighbours, the window cut at both ends. Same shape."""
    half = width // 2
    padded = np.concatenate([np.full(half, np.nan), x, np.full(half, np.nan)])
    return np.asarray(np.nanmedian(np.lib.stride_tricks.sliding_window_view(padded, width), axis=1), dtype=np.float64)


def line(t: Array, y: Array) -> tuple[float, float]:
    """Theil-Sen: the median slope between all pairs of points (k,) and the median intercept, k small; up to 29% outliers."""
    if y.size < 2:
        return 0.0, float(np.median(y))
    i, j = np.triu_indices(y.size, 1)
    slope = float(np.median((y[j] - y[i]) / (t[j] - t[i])))
    return slope, float(np.median(y - slope * t))


def scatter(x: Array) -> float:
    """A robust standard deviation: 1.4826 median absolute deviations."""
    return 1.4826 * float(np.median(np.abs(x - np.median(x))))
