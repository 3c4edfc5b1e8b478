"""Losses and norms -> whether large norms are followed by a rise of the loss, and whether the loss moves at all."""

from __future__ import annotations

from dataclasses import dataclass
from math import erfc, sqrt

import numpy as np
from numpy.typing import NDArray

from clipcal.stats.arrays import Array, scatter

BEFORE, AFTER = 5, 3  # steps: long enough to average a batch's noise, short enough to see one step's effect
FEWEST = 4  # steps above the threshold: with fewer, no rank test says anything
LARGE = 2.0  # times the local stable median: where our sweeps saw the losses turn
STUCK = 0.01  # relative change of the loss over a trace, below which nothing was learned


@dataclass(frozen=True, kw_only=True)
class LossResponse:
    """Median log change of the loss after large norms and after the others.

    ``p``: the chance of ranks so high after large norms if these were like the others.
    """

    steps_above: int
    change_above: float
    change_below: float
    p: float


def loss_response(excess: Array, losses: Array) -> LossResponse | None:
    """One-sided Mann-Whitney test of the change of the loss after steps whose norm exceeds twice its local median.

    ``excess`` (n,): norm over local stable median, NaN where not to be used; ``losses`` (n,). The change at step t is the
    log of the median loss of the next three steps over that of the five before t. None where too few are known.
    """
    change = _changes(losses)
    known = np.isfinite(change) & np.isfinite(excess)
    above = change[known & (excess > LARGE)]
    below = change[known & (excess <= LARGE)]
    if above.size < FEWEST or below.size < FEWEST or np.ptp(change[known]) == 0:
        return None
    return LossResponse(
        steps_above=int(above.size),
        change_above=float(np.median(above)),
        change_below=float(np.median(below)),
        p=rank_test(above, below),
    )


def is_stuck(losses: Array) -> bool:
    """Whether the loss (n,) ends where it began: the last third within 1% of the first *and* within its own noise."""
    finite = losses[np.isfinite(losses)]
    third = finite.size // 3
    if third < 5:
        return False
    first, last = finite[:third], finite[-third:]
    move = abs(float(np.median(last)) - float(np.median(first)))
    # Standard error of the difference of two medians of normal noise.
    noise = 1.25 * sqrt(2.0 / third) * scatter(finite)
    return move <= STUCK * abs(float(np.median(first))) and move <= 3 * noise + 1e-6 * abs(float(np.median(first)))


def _changes(losses: Array) -> Array:
    """Log change of the loss around each step (n,); where losses are <= 0, the change in units of their scatter."""
    changes = np.full(losses.size, np.nan)
    finite = losses[np.isfinite(losses)]
    if losses.size < BEFORE + AFTER + 1 or finite.size == 0:
        return changes
    if np.min(finite) > 0:
        y = np.log(np.where(np.isfinite(losses), losses, np.nan))
    else:
        y = np.where(np.isfinite(losses), losses, np.nan) / max(scatter(finite), np.finfo(np.float64).tiny)
    windows = np.lib.stride_tricks.sliding_window_view
    steps = np.arange(BEFORE, losses.size - AFTER)
    before = np.median(windows(y, BEFORE)[: steps.size], axis=1)
    after = np.median(windows(y[BEFORE + 1 :], AFTER)[: steps.size], axis=1)
    changes[steps] = after - before
    return changes


def rank_test(a: Array, b: Array) -> float:
    """One-sided p of the Mann-Whitney test that ``a`` (n,) tends to exceed ``b`` (m,).

    Normal approximation with continuity correction; ties share their mean rank (Mann and Whitney, 1947).
    """
    both = np.concatenate([a, b])
    _, inverse, counts = np.unique(both, return_inverse=True, return_counts=True)
    ranks: NDArray[np.float64] = (np.cumsum(counts) - (counts - 1) / 2)[inverse]
    n, m, total = a.size, b.size, both.size
    u = float(np.sum(ranks[:n])) - n * (n + 1) / 2
    ties = float(np.sum(counts.astype(np.float64) ** 3 - counts))
    variance = n * m / 12 * (total + 1 - ties / (total * (total - 1)))
    if variance <= 0:
        return 1.0
    return 0.5 * erfc((u - n * m / 2 - 0.5) / sqrt(2 * variance))
