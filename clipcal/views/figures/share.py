"""Norms and recommendation -> what each threshold would have done: the share of steps it clips, and what is left of the rate."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from clipcal.recommendation.answer import Recommendation
from clipcal.recommendation.replay import judged_rows
from clipcal.run.trace import Floats
from clipcal.views.figures.distribution import Mark, marks

NUM_THRESHOLDS = 240


@dataclass(frozen=True, kw_only=True)
class ClippedShare:
    """For each of ``thresholds`` (m,), rising: the share of the stable steps and of the spikes (None where there are none) that it
    clips, and the mean factor that clipping would have left of the stable steps."""

    thresholds: Floats
    stable: Floats
    spikes: Floats | None
    scale: Floats
    corridor: tuple[float, float] | None
    marks: tuple[Mark, ...]
    is_stable: bool


def clipped_share(norms: Floats, recommendation: Recommendation, *, in_use: float | None = None) -> ClippedShare | None:
    """None where there is nothing to clip. Where no stable part was found, all finite steps stand for it (``is_stable`` false)."""
    rows, spiking = judged_rows(norms, recommendation)
    calm, peaks = np.sort(norms[rows]), np.sort(norms[spiking])
    calm = calm[calm > 0]
    if calm.size == 0:
        return None
    ours = [m.value for m in marks(recommendation, in_use=in_use) if m.kind != "rule"]
    low = math.log10(min(float(np.quantile(calm, 0.005)), *ours, math.inf))
    high = math.log10(max(float(calm[-1]), float(peaks[-1]) if peaks.size else 0.0, *ours))
    room = max(0.03 * (high - low), 0.05)
    thresholds = np.logspace(low - room, high + room, NUM_THRESHOLDS)
    kept = np.searchsorted(calm, thresholds, side="right")
    inverse = np.concatenate([np.cumsum((1.0 / calm)[::-1])[::-1], [0.0]])
    return ClippedShare(
        thresholds=thresholds,
        stable=1 - kept / calm.size,
        spikes=1 - np.searchsorted(peaks, thresholds, side="right") / peaks.size if peaks.size else None,
        scale=(kept + thresholds * inverse[kept]) / calm.size,
        corridor=recommendation.corridor,
        marks=marks(recommendation, in_use=in_use),
        is_stable=recommendation.stable is not None,
    )
