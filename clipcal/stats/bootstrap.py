"""Residuals -> how uncertain their upper quantile is, by resampling batches of neighbouring steps."""

from __future__ import annotations

import numpy as np

from clipcal.stats.arrays import Array

REPLICATES = 400
BATCHES = 40
BINS = 512


def quantile_replicates(r: Array, q: float) -> Array:
    """Bootstrap replicates (REPLICATES,) of the ``q`` quantile of residuals (n,), n >= 1, in time order.

    Batches of neighbours are drawn with replacement (Kuensch 1989), so autocorrelation widens the result as it should.
    Each batch enters as a histogram over the ranks, finer towards the top, which keeps the cost linear in n.
    """
    n = r.size
    count = min(BATCHES, max(n // 2, 1))
    ordered = np.sort(r)
    # Half of the grid over all ranks, half over the top tenth, where the quantile lies.
    ranks = np.concatenate([np.linspace(0, 0.9, BINS // 2, endpoint=False), np.linspace(0.9, 1, BINS // 2)])
    edges = np.unique(ordered[np.minimum((ranks * (n - 1)).round().astype(np.intp), n - 1)])
    bins = np.searchsorted(edges, r, side="left")
    batch = np.minimum(np.arange(n) * count // n, count - 1)
    table = np.bincount(batch * edges.size + bins, minlength=count * edges.size).reshape(count, edges.size)
    draws = np.random.default_rng(0).multinomial(count, np.full(count, 1 / count), size=REPLICATES)
    cumulative = np.cumsum(draws @ table, axis=1)
    wanted = q * cumulative[:, -1:]
    return np.asarray(edges[np.argmax(cumulative >= wanted, axis=1)], dtype=np.float64)
