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
USUAL = 2.0
LEVELS = (*LOW, 3.0, 5.0)  # times the local stable median, where to look for the norm that harm begins at
APART = BEFORE + AFTER + 2  # steps by which a shifted loss no longer overlaps the one that it is compared with
LATEST = 2**16  # steps are enough to see any effect worth a threshold
STUCK = 0.01  # relative change of the loss over a trace, below which nothing was learned


@dataclass(frozen=True, kw_only=True)
class AtLevel:
    """What the log loss did after steps whose norm exceeds ``level`` times its local median, and after the others.

    ``change_above`` and ``change_below`` are medians. ``rise`` is how much more the loss rises after the former, the difference of the
    means with the outermost 5% pulled in, and ``error`` its standard error. ``z`` is the same of the ranks, over its own.
    """

    level: float
    steps_above: int
    change_above: float
    change_below: float
    rise: float
    error: float
    z: float


@dataclass(frozen=True, kw_only=True)
class LossResponse:
    """``levels`` in rising order; ``p`` the chance that some of them shows as much where norms and losses have nothing to do with each
    other, ``critical`` the largest z that one in twenty shows then. ``is_relative``: changes are logs; else the loss goes below zero, and
    they are in units of its scatter."""

    levels: tuple[AtLevel, ...]
    p: float
    critical: float
    is_relative: bool

    @property
    def clearest(self) -> AtLevel:
        """The level at which both kinds of steps differ most clearly."""
        return max(self.levels, key=lambda at: at.z)

    @property
    def usual(self) -> AtLevel:
        """The level nearest to twice the median: the one to ask where no other stands out."""
        return min(self.levels, key=lambda at: abs(at.level - USUAL))


def loss_response(excess: Array, losses: Array, among: Sequence[float] = LEVELS) -> LossResponse | None:
    """Whether the loss rises after steps with a large norm: an estimate at several levels of "large", and one test of all of them.

    ``excess`` (n,): norm over local stable median, NaN where not to be used; ``losses`` (n,): of neighbouring steps. The change at step t
    is the log of the median loss of the next three steps over that of the five before t. For each level, the statistic is the mean rank
    of the changes above it, in standard deviations of what the same statistic does when the losses are shifted against the norms: shifts
    keep the autocorrelation of both, which a rank test of independent steps mistakes for evidence (Harris, 2020, arXiv:2012.06862). The
    largest over the levels is compared with the largest of each shift (Westfall and Young, 1993). ``among``: the levels to look at. None
    where too little is known.
    """
    excess, losses = excess[-LATEST:], losses[-LATEST:]
    change = loss_changes(losses)
    known = np.isfinite(change) & np.isfinite(excess)
    n = excess.size
    shift = np.arange(n)
    far = np.minimum(shift, n - shift) >= APART
    if np.count_nonzero(far) < 20 or np.count_nonzero(known) < 2 * FEWEST or np.ptp(change[known]) == 0:
        return None
    ranks, sizes = np.zeros(n), np.zeros(n)
    ranks[known] = _ranks(change[known])
    sizes[known] = np.clip(change[known], *np.quantile(change[known], [0.05, 0.95]))
    spectra = []
    for values in (ranks, sizes):
        values[known] -= np.mean(values[known])
        spectra.append(np.fft.rfft(values))
    levels, statistics = [], []
    for level in among:
        above = known & (excess > level)
        num_above, num_below = int(np.count_nonzero(above)), int(np.count_nonzero(known & ~above))
        if min(num_above, num_below) < FEWEST:
            continue
        mark = np.where(known, above - np.mean(above[known]), 0.0)
        # The sums above the level, for every circular shift of the losses at once.
        of_ranks, of_sizes = (np.fft.irfft(spectrum * np.conj(np.fft.rfft(mark)), n) for spectrum in spectra)
        spread = float(np.std(of_ranks[far]))
        if spread == 0 or not np.isfinite(np.std(of_sizes[far])):  # losses near the end of the floats
            continue
        statistics.append((of_ranks - np.mean(of_ranks[far])) / spread)
        per_sum = 1 / num_above + 1 / num_below
        levels.append(
            AtLevel(
                level=level,
                steps_above=num_above,
                change_above=float(np.median(change[above])),
                change_below=float(np.median(change[known & ~above])),
                rise=per_sum * float(of_sizes[0] - np.mean(of_sizes[far])),
                error=per_sum * float(np.std(of_sizes[far])),
                z=float(statistics[-1][0]),
            )
        )
    if not levels:
        return None
    largest = np.max(statistics, axis=0)
    p = float((1 + np.count_nonzero(largest[far] >= largest[0] - 1e-9)) / (1 + np.count_nonzero(far)))
    return LossResponse(
        levels=tuple(levels), p=p, critical=float(np.quantile(largest[far], 0.95)), is_relative=is_relative(losses)
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


def is_relative(losses: Array) -> bool:
    """Whether changes of a loss (n,) can be taken as logs: all that is finite is above zero."""
    return bool(np.all(losses[np.isfinite(losses)] > 0))


def loss_changes(losses: Array) -> Array:
    """Log change of the loss around each step (n,); where losses are <= 0, the change in units of their scatter."""
    changes = np.full(losses.size, np.nan)
    finite = losses[np.isfinite(losses)]
    if losses.size < BEFORE + AFTER + 1 or finite.size == 0:
        return changes
    if is_relative(losses):
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
