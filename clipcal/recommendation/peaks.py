"""A recommendation -> the steps that ask for an explanation, and those that they are compared with."""

from __future__ import annotations

import math
from typing import Literal

import numpy as np

from clipcal.recommendation.answer import Recommendation
from clipcal.run.trace import Floats
from clipcal.stats import Rows

Apart = Literal["spikes", "tail"]
Peaks = Literal["spikes", "tail", "runaway", "largest"]

LARGEST = 0.01  # the share of the stable steps that is looked at where there are no spikes


def peaks_of(recommendation: Recommendation) -> tuple[Peaks, Rows, Rows]:
    """The rows to explain, and those that they are compared with: there are some wherever a norm is usable."""
    reading, stable = recommendation.reading, _stable(recommendation)
    if recommendation.verdict == "diverging":
        healthy = reading.stats.healthy_rows
        before, after = stable[stable < healthy], healthy + np.flatnonzero(reading.usable[healthy:])
        if before.size and after.size:
            return "runaway", after, before
    num = math.ceil(LARGEST * stable.size)
    return apart_of(recommendation) or ("largest", *_largest(stable, reading.norms[stable], num))


def apart_of(recommendation: Recommendation) -> tuple[Apart, Rows, Rows] | None:
    """The same of the steps that stand apart alone, also of those before a run diverged. None where there are none."""
    steady, stable = recommendation.reading.stats.steady, _stable(recommendation)
    if recommendation.spikes.count and steady is not None:
        return "spikes", steady.spike_rows, stable
    if recommendation.verdict == "heavy_tail" and steady is not None:
        return "tail", *_largest(stable, steady.excess[stable], steady.num_far)
    return None


def _stable(recommendation: Recommendation) -> Rows:
    """The stable steps, or all usable ones; a norm of zero has no layer that made it."""
    rows, _ = recommendation.seen_rows()
    return rows[recommendation.reading.norms[rows] > 0]


def _largest(rows: Rows, heights: Floats, num: int) -> tuple[Rows, Rows]:
    """The ``num`` highest of the rows, and the others, both in order."""
    order = np.argsort(heights, kind="stable")
    return np.sort(rows[order[rows.size - num :]]), np.sort(rows[order[: rows.size - num]])


def evenly(rows: Rows, most: int) -> Rows:
    """At most ``most`` of the rows, evenly spaced."""
    return rows if rows.size <= most else rows[np.linspace(0, rows.size - 1, most).astype(np.intp)]
