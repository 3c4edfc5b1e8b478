"""Residuals -> which steps stand clear above the local level, and whether a gap sets them apart."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from clipcal.stats.arrays import Array
from clipcal.stats.bulk import Bulk, find_bulk

CLEAR = np.log(1.8)  # above the stable p99: closer steps are the tail, whatever their gap
CHANCE = 0.01  # of calling the top of an exponential tail a spike
TAIL_FROM = 2.0  # scales above the centre: a normal bulk falls off there on the scale s / 2
NEIGHBOURS = 30


def find_spikes(r: Array, floor: float, effective: float) -> tuple[NDArray[np.intp], Bulk]:
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


def _topmost(r: Array, floor: float, effective: float) -> tuple[NDArray[np.intp], Bulk]:
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
