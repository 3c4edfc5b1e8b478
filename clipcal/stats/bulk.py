"""Residuals -> the spread of stable training: its upper quantiles, without the spikes."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from clipcal.stats.arrays import Array

# Standard normal quantiles.
Z75, Z90, Z95, Z99 = 0.6745, 1.2816, 1.6449, 2.3263
CONTAMINATION = 2.0  # an upper spread beyond twice the lower one is spikes, not skew
SAMPLE = 20_000  # steps are enough for quartiles
REACH = 3.25  # scales: one normal step in 1,700 lies beyond; spikes that clear twice the 99% point mostly do
ENOUGH = 200  # steps for an empirical 99% point to mean something
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
    kept = r
    centre = scale = cut = 0.0
    for _ in range(8):
        centre, scale = _spread(kept, floor)
        cut = centre + REACH * scale
        smaller = kept[kept <= cut]
        if smaller.size == kept.size:
            break
        kept = smaller
    weight = min(r.size / ENOUGH, 1.0)
    points = []
    for seen, z in zip(np.quantile(kept, [0.95, 0.99]).tolist(), (Z95, Z99), strict=True):
        # Student's t to first order: the quantile of the next steps where the scale comes from so few.
        normal = centre + scale * z * (1 + (z * z + 1) / (4 * max(effective, 4.0)))
        points.append(weight * min(seen, centre + scale * z * TAIL) + (1 - weight) * normal)
    p95, p99 = points
    p99 = min(max(p99, p95), max(float(np.max(kept)) + scale, p95))
    return Bulk(centre=centre, scale=scale, cut=cut, p95=p95, p99=p99)


def _spread(r: Array, floor: float) -> tuple[float, float]:
    """Median and upper scale of residuals (n,)."""
    q25, q50, q75, q90 = np.quantile(r[:: max(r.size // SAMPLE, 1)], [0.25, 0.5, 0.75, 0.9]).tolist()
    upper = max((q75 - q50) / Z75, (q90 - q50) / Z90)
    return q50, max(min(upper, CONTAMINATION * max((q50 - q25) / Z75, floor)), floor)
