"""Residuals -> the spread of stable training: its upper quantiles, without the spikes."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from clipcal.stats.arrays import Array

# Standard normal quantiles.
Z75, Z90, Z95, Z99 = 0.6745, 1.2816, 1.6449, 2.3263
CONTAMINATION = 2.0  # an upper spread beyond twice the lower one is spikes, not skew
TAIL = 1.25  # stable norms are a little heavier than log-normal


@dataclass(frozen=True, kw_only=True)
class Bulk:
    """``scale`` is the upper log standard deviation, ``cut`` where the bulk ends, p95 and p99 its log quantiles."""

    centre: float
    scale: float
    cut: float
    p95: float
    p99: float


def find_bulk(r: Array, floor: float, effective: float) -> Bulk:
    """The bulk of log residuals (n,) about their level.

    ``floor`` is the smallest scale that the rounding allows, ``effective`` the number of independent steps.
    """
    kept = np.sort(r)
    n = kept.size
    reach = 3.0 + 0.4 * max(np.log10(n / 50), 0.0)
    centre = scale = cut = 0.0
    for _ in range(8):
        q25, centre, q75, q90 = np.quantile(kept, [0.25, 0.5, 0.75, 0.9])
        upper = max((q75 - centre) / Z75, (q90 - centre) / Z90)
        lower = (centre - q25) / Z75
        scale = max(min(upper, CONTAMINATION * max(lower, floor)), floor)
        cut = centre + reach * scale
        smaller = kept[: np.searchsorted(kept, cut, side="right")]
        if smaller.size == kept.size:
            break
        kept = smaller
    weight = min(n / 200, 1.0)  # an empirical 99% point means little below 200 steps
    quantiles = []
    for q, z in ((0.95, Z95), (0.99, Z99)):
        # Student's t to first order: the quantile of the next steps where the scale comes from so few.
        normal = centre + scale * z * (1 + (z * z + 1) / (4 * max(effective, 4.0)))
        seen = min(float(np.quantile(kept, q)), centre + scale * z * TAIL)
        quantiles.append(float(weight * seen + (1 - weight) * normal))
    p95, p99 = quantiles
    p99 = min(max(p99, p95), max(float(kept[-1]) + 0.5*scale, p95))
    return Bulk(centre=float(centre), scale=float(scale), cut=float(cut), p95=p95, p99=p99)
