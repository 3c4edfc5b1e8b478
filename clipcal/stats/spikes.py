"""Residuals -> the spread of stable training, and which steps stand clear above it, set apart by a gap."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from clipcal.stats.arrays import Array, Rows

# Standard normal quantiles.
Z75, Z90, Z95, Z99 = 0.6745, 1.2816, 1.6449, 2.3263
CONTAMINATION = 2.0  # an upper spread beyond twice the lower one is spikes, not skew
SAMPLE = 20_000  # steps are enough for quartiles
REACH = 3.25  # scales: one normal step in 1,700 lies beyond; spikes that clear twice the 99% point mostly do
ENOUGH = 200  # steps for an empirical 99% point to mean something
TAIL = 1.25  # stable norms are a little heavier than log-normal
CLEAR = np.log(1.8)  # above the stable p99: closer steps are the tail, whatever their gap
CHANCE = 0.01  # of calling the top of an exponential tail a spike
TAIL_FROM = 2.0  # scales above the centre: a normal bulk falls off there on the scale s / 2
NEIGHBOURS = 30


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


def find_spikes(r: Array, floor: float, effective: float) -> tuple[Rows, Bulk]:
    """Indices of the spikes among log residuals (n,), sorted, and the bulk that is left without them.

    Looked for again among the rest, since one far spike can hide nearer ones.
    """
    found, bulk = _topmost(r, floor, effective)
    if not found.size:
        return found, bulk
    kept = np.delete(np.arange(r.size), found)
    while True:
        nearer, bulk = _topmost(r[kept], floor, effective)
        if not nearer.size:
            return np.sort(found), bulk
        found, kept = np.concatenate([found, kept[nearer]]), np.delete(kept, nearer)


def _topmost(r: Array, floor: float, effective: float) -> tuple[Rows, Bulk]:
    """Indices of the spikes among log residuals (n,), sorted, and the bulk that is left without them.

    Spikes are the steps above the largest gap of the upper tail, where that gap is too large for chance and they lie
    clear above the 99% point of the rest. Renyi: for a Pareto tail of the norms, the spacings of the sorted log norms
    times their rank are independent and exponential. A gap is too large for the bulk's own tail *and* for the spacings
    just below it; without the latter, heavy tails are called spikes half of the time.
    """
    bulk = find_bulk(r, floor, effective)
    reach = int(np.count_nonzero(r > bulk.centre + min(TAIL_FROM * bulk.scale, bulk.p99 + CLEAR - bulk.centre)))
    count = min(r.size - r.size // 2, reach + NEIGHBOURS + 2)
    upper = np.argpartition(r, r.size - count)[r.size - count :]
    order = upper[np.argsort(r[upper])[::-1]]
    top = r[order]
    weighted = np.arange(1, top.size) * -np.diff(top)
    # First among the steps that are far in any case; then lower, since near spikes also pull the bulk's 99% point up.
    for lowest in (bulk.p99 + CLEAR, bulk.centre + TAIL_FROM * bulk.scale):
        count = min(int(np.count_nonzero(top > lowest)), weighted.size)
        if count == 0:
            continue
        best = int(np.argmax(weighted[:count]))
        below = weighted[best + 1 : best + 1 + NEIGHBOURS]
        # The largest left out: a straggler between the bulk and the spikes splits their gap in two.
        spacing = float(np.sum(below) - np.max(below)) / (below.size - 1) if below.size > 1 else 0.0
        tail = max(bulk.scale / TAIL_FROM, spacing)
        rest = find_bulk(np.delete(r, order[: best + 1]), floor, effective)
        if weighted[best] > np.log(count / CHANCE) * tail and top[best] > rest.p99 + CLEAR:
            return np.sort(order[: best + 1]), rest
    return np.empty(0, dtype=np.intp), bulk
