"""Losses and norms -> whether large norms are followed by a rise of the loss."""

from __future__ import annotations

from dataclasses import dataclass
from math import erfc, sqrt

import numpy as np
from numpy.typing import NDArray

from clipcal.stats.arrays import Array

BEFORE, AFTER = 5, 3
FEWEST = 4  # steps above the threshold: with fewer, no rank test says anything
LARGE = 2.0  # times the stable median: where our sweeps saw the losses turn


@dataclass(frozen=True, kw_only=True)
class LossResponse:
    """``p``: the chance of so high a rank of the loss changes after large norms, were they like the others."""

    threshold: float
    steps_above: int
    change_above: float
    change_below: float
    p: float


def loss_response(excess: Array, losses: Array, threshold: float) -> LossResponse | None:
    """One-sided Mann-Whitney test of the change of the loss after steps whose norm exceeds the level.

    ``excess`` (n,): norm over stable median, NaN where not to be used; ``losses`` (n,). The change after step t is the
    log of the median loss of the next three steps over that of the five before t. None where too few are known.
    """
    change = _changes(losses)
    known = np.isfinite(change) & np.isfinite(excess)
    above = known & (excess > LARGE)
    below = known & ~above
    a, b = change[above], change[below]
    if a.size < FEWEST or b.size < FEWEST or np.ptp(change[known]) == 0:
        return None
    return LossResponse(
        threshold=threshold,
        steps_above=int(a.size),
        change_above=float(np.median(a)),
        change_below=float(np.median(b)),
        p=rank_test(a, b),
    )


def _changes(losses: Array) -> Array:
    """Log change of the loss around each step; a difference in units of the loss's spread where losses are <= 0."""
    n = losses.size
    out = np.full(n, np.nan)
    if n < BEFORE + AFTER + 1:
        return out
    finite = losses[np.isfinite(losses)]
    if finite.size == 0:
        return out
    y = losses
    if np.min(finite) > 0:
        y = np.where(np.isfinite(losses), np.log(np.where(losses > 0, losses, 1.0)), np.nan)
    windows = np.lib.stride_tricks.sliding_window_view
    steps = np.arange(BEFORE, n - AFTER)
    before = np.median(windows(y, BEFORE)[: steps.size], axis=1)
    after = np.median(windows(y[BEFORE + 1 :], AFTER)[: steps.size], axis=1)
    out[steps] = after - before
    return out


def rank_test(a: Array, b: Array) -> float:
    """One-sided p of the Mann-Whitney test that ``a`` (n,) tends to exceed ``b`` (m,); normal approximation, ties mid-ranked."""
    both = np.concatenate([a, b])
    values, inverse, counts = np.unique(both, return_inverse=True, return_counts=True)
    ends = np.cumsum(counts)
    ranks: NDArray[np.float64] = (ends - (counts - 1) / 2)[inverse]
    n, m, total = a.size, b.size, both.size
    u = float(np.sum(ranks[:n])) - n * (n + 1) / 2
    ties = float(np.sum(counts.astype(np.float64) ** 3 - counts))
    variance = n * m / 12 * (total + 1 - ties / (total * (total - 1)))
    if variance <= 0 or values.size < 2:
        return 1.0
    return 0.5 * erfc((u - n * m / 2 - 0.5) / sqrt(2 * variance))
