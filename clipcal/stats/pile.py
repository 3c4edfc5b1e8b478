"""Norms -> the value that clipping piled them up at, and the step that rounding left between them."""

from __future__ import annotations

import numpy as np

from clipcal.stats.arrays import Array

SAME = 1e-3  # relative: float noise and the 1e-6 that torch adds to the norm stay far below
FINEST = 1e-9  # log scale: fp32 norms show no less than 6e-8
FEWEST_LEVELS = 5  # different norms: coarse rounding has piles of its own
CLEAR = 3.0  # times as many steps as at any other value


def find_pile(norms: Array) -> float | None:
    """The value that positive norms (n,) pile up at from below, as clipped norms do at ``max_norm``; None if they do not."""
    top = float(np.max(norms))
    below = norms[norms < top * (1 - SAME)]
    piled = norms.size - below.size
    if below.size == 0:
        return top
    if piled < max(0.1 * norms.size, 5):
        return None
    ordered = np.sort(below)
    others = np.searchsorted(ordered, ordered * (1 + SAME), side="right") - np.arange(ordered.size)
    if piled < CLEAR * int(np.max(others)):
        return None
    return top if piled > 0.9 * norms.size or np.unique(below).size >= FEWEST_LEVELS else None


def rounding(norms: Array) -> float:
    """Half of the smallest step between different norms (n,), relative to their median: the finest log scale they show."""
    steps = np.diff(np.unique(norms[:100_000]))
    if steps.size == 0:
        return FINEST
    return float(np.clip(0.5 * float(np.min(steps)) / float(np.median(norms)), FINEST, 0.5))
