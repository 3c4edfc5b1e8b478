"""Losses and norms -> the norm from which steps are followed by a rise of the loss, and whether the loss moves at all."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import sqrt

import numpy as np
from numpy.typing import NDArray

from clipcal.stats.arrays import Array, scatter

BEFORE, AFTER = 5, 3  # steps: long enough to average a batch's noise, short enough to see one step's effect
FEWEST = 4  # steps above a level: fewer are an anecdote
LOW = (1.5, 2.0)
LEVELS = (*LOW, 3.0, 5.0)  # times the local stable median, where to look for the norm that harm begins at
APART = BEFORE + AFTER + 2  # steps by which a shifted loss no longer overlaps the one that it is compared with
LATEST = 2**16  # steps are enough to see any effect worth a threshold
STUCK = 0.01  # relative change of the loss over a trace, below which nothing was learned


@dataclass(frozen=True, kw_only=True)
class LossResponse:
    """Median log change of the loss after steps whose norm exceeds ``level`` times its local median, and after the others.

    ``level`` is the one at which both differ most clearly; ``p`` the chance that some level shows as much where norms and
    losses have nothing to do with each other.
    """

    level: float
    steps_above: int
    change_above: float
    change_below: float
    p: float


def loss_response(excess: Array, losses: Array, among: Sequence[float] = LEVELS) -> LossResponse | None:
    """One-sided test of whether the loss rises after steps with a large norm, over several levels of "large" at once.

    ``excess`` (n,): norm over local stable median, NaN where not to be used; ``losses`` (n,). The change at step t is the
    log of the median loss of the next three steps over that of the five before t. For each level, the statistic is the mean
    rank of the changes above it, in standard deviations of what the same statistic does when the losses are shifted against
    the norms: shifts keep the autocorrelation of both, which a rank test of independent steps mistakes for evidence (Harris,
    2020, arXiv:2012.06862). The largest over the levels is compared with the largest of each shift (Westfall and Young,
    1993). ``among``: the levels to look at. None where too little is known.
    """
    excess, losses = excess[-LATEST:], losses[-LATEST:]
    change = loss_changes(losses)
    known = np.isfinite(change) & np.isfinite(excess)
    n = excess.size
    shift = np.arange(n)
    far = np.minimum(shift, n - shift) >= APART
    if np.count_nonzero(far) < 20 or np.count_nonzero(known) < 2 * FEWEST or np.ptp(change[known]) == 0:
        return None
    ranks = np.zeros(n)
    ranks[known] = _ranks(change[known])
    ranks[known] -= np.mean(ranks[known])
    spectrum = np.fft.rfft(ranks)
    levels, statistics = [], []
    for level in among:
        above = known & (excess > level)
        if min(np.count_nonzero(above), np.count_nonzero(known & ~above)) < FEWEST:
            continue
        mark = np.where(known, above - np.mean(above[known]), 0.0)
        # The sum of the ranks above the level, for every circular shift of the losses at once.
        shifted = np.fft.irfft(spectrum * np.conj(np.fft.rfft(mark)), n)
        spread = float(np.std(shifted[far]))
        if spread > 0:
            levels.append(level)
            statistics.append((shifted - np.mean(shifted[far])) / spread)
    if not levels:
        return None
    largest = np.max(statistics, axis=0)
    level = levels[int(np.argmax([s[0] for s in statistics]))]
    above = known & (excess > level)
    return LossResponse(
        level=level,
        steps_above=int(np.count_nonzero(above)),
        change_above=float(np.median(change[above])),
        change_below=float(np.median(change[known & ~above])),
        p=float((1 + np.count_nonzero(largest[far] >= largest[0] - 1e-9)) / (1 + np.count_nonzero(far))),
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


def loss_changes(losses: Array) -> Array:
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


def _ranks(x: Array) -> Array:
    """Ranks of ``x`` (n,), ties sharing their mean."""
    _, inverse, counts = np.unique(x, return_inverse=True, return_counts=True)
    ranks: NDArray[np.float64] = (np.cumsum(counts) - (counts - 1) / 2)[inverse]
    return ranks
