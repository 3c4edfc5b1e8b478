"""A long series -> medians of its pieces, in linear time."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


def block_medians(x: Array, width: int) -> Array:
    """Medians of consecutive blocks of ``width`` values; a shorter rest joins the last block. Shape (max(n // width, 1),)."""
    count = max(x.size // width, 1)
    if count == 1:
        return np.array([np.median(x)])
    whole = (count - 1) * width
    return np.append(np.median(x[:whole].reshape(-1, width), axis=1), np.median(x[whole:]))


def running_median(x: Array, width: int) -> Array:
    """Medians over ``width`` (odd) neighbours, the window cut at both ends. Same shape."""
    half = width // 2
    padded = np.concatenate([np.full(half, np.nan), x, np.full(half, np.nan)])
    return np.asarray(np.nanmedian(np.lib.stride_tricks.sliding_window_view(padded, width), axis=1), dtype=np.float64)
