"""Norms and what was recommended from them -> the steps that ask for an explanation, and those that they are compared with."""

from __future__ import annotations

import math
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from clipcal.recommendation.answer import Recommendation
from clipcal.stats import NormStats, summarise

Floats = NDArray[np.float64]
Rows = NDArray[np.intp]
Apart = Literal["spikes", "tail"]
Peaks = Literal["spikes", "tail", "runaway", "largest"]

LARGEST = 0.01  # the share of the stable steps that is looked at where there are no spikes


def peaks_of(norms: Floats, recommendation: Recommendation) -> tuple[Peaks, Rows, Rows]:
    """The rows to explain, and those that they are compared with: there are some wherever a norm is usable."""
    stats, stable = _stats_and_stable(norms, recommendation)
    if recommendation.verdict == "diverging":
        usable = np.isfinite(norms) & (norms > 0)
        before, after = stable[stable < stats.healthy_rows], np.flatnonzero(usable[stats.healthy_rows :])
        if before.size and after.size:
            return "runaway", after + stats.healthy_rows, before
    return _apart(stats, stable, recommendation) or (
        "largest",
        *_largest(stable, norms[stable], math.ceil(LARGEST * stable.size)),
    )


def apart_of(norms: Floats, recommendation: Recommendation) -> tuple[Apart, Rows, Rows] | None:
    """The same of the steps that stand apart alone, also of those before a run diverged. None where there are none."""
    return _apart(*_stats_and_stable(norms, recommendation), recommendation)


def _stats_and_stable(norms: Floats, recommendation: Recommendation) -> tuple[NormStats, Rows]:
    with np.errstate(all="ignore"):
        stats = summarise(norms)
    if recommendation.stable is not None and stats.steady is not None:
        return stats, stats.steady.stable_rows
    return stats, np.flatnonzero(np.isfinite(norms) & (norms > 0))


def _apart(stats: NormStats, stable: Rows, recommendation: Recommendation) -> tuple[Apart, Rows, Rows] | None:
    if recommendation.spikes.count and stats.steady is not None:
        return "spikes", stats.steady.spike_rows, stable
    if recommendation.verdict == "heavy_tail" and stats.steady is not None:
        return "tail", *_largest(stable, stats.steady.excess[stable], stats.steady.num_far)
    return None


def _largest(rows: Rows, heights: Floats, num: int) -> tuple[Rows, Rows]:
    """The ``num`` highest of the rows, and the others, both in order."""
    order = np.argsort(heights, kind="stable")
    return np.sort(rows[order[rows.size - num :]]), np.sort(rows[order[: rows.size - num]])


def evenly(rows: Rows, most: int) -> Rows:
    """At most so many of the rows, evenly spaced."""
    return rows if rows.size <= most else rows[np.linspace(0, rows.size - 1, most).astype(np.intp)]
