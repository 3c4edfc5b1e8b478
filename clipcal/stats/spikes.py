"""Residuals -> which steps stand clear above the local level, and whether a gap sets them apart."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from clipcal.stats.arrays import Array
from clipcal.stats.bulk import Bulk

CLEAR = np.log(1.8)  # above the stable p99: closer steps are the tail, whatever their gap
CHANCE = 0.02  # of calling the top of an exponential tail a spike


@dataclass(frozen=True, kw_only=True)
class Gap:
    """``rows``: indices (into the residuals) of the spikes; ``far``: steps beyond the tail, spikes or not."""

    rows: NDArray[np.intp]
    far: int


def find_spikes(r: Array, bulk: Bulk) -> Gap:
    """Steps of log residuals (n,) above the largest gap of the upper tail, where that gap is too large for chance.

    Renyi: for a Pareto tail of the norms, the spacings of the sorted log norms times their rank are independent and
    exponential. A spacing is a gap if it is too large for the bulk's own tail and for the spacings just below it.
    """
    order = np.argsort(r)[::-1][: max(r.size // 2, 1)]
    top = r[order]
    far = int(np.count_nonzero(top > bulk.p99 + CLEAR))
    none = Gap(rows=np.empty(0, dtype=np.intp), far=far)
    if far == 0 or top.size < far + 2:
        return none
    weighted = np.arange(1, top.size) * -np.diff(top)
    # The tail of a normal bulk falls off on the scale s / z at its 99% point.
    own = bulk.scale / 2.0
    best = int(np.argmax(weighted[:far]))
    below = weighted[best + 1 : best + 1 + max(8, min(far, 30))]
    local = float(np.mean(below)) if below.size else own
    needed = np.log(far / CHANCE)
    if weighted[best] > needed * own and weighted[best] > needed * local:
        return Gap(rows=np.sort(order[: best + 1]), far=far)
    return none
