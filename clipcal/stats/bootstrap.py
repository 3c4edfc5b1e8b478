"""Residuals -> how uncertain their median and their 99% point are, by resampling batches of neighbouring steps."""

from __future__ import annotations

import numpy as np

from clipcal.stats.arrays import Array
from clipcal.stats.spikes import ENOUGH, Z99, Bulk

LATEST = 2**17  # steps are enough for a correlation between neighbours
REPLICATES, BATCHES, BINS = 400, 40, 512
SCALE_ERROR = 1.5  # of a scale from the upper quartile and decile, in units of scale / sqrt(steps): normal theory
METHOD = 0.004  # log error of the method itself, measured: what is left at 5,000 steps when the rest is counted


def replicates(r: Array, bulk: Bulk, effective: float) -> tuple[Array, Array]:
    """Deviations (REPLICATES,) of the log median and of the log 99% point from their estimates; deterministic.

    ``r`` (n,): log residuals in time order; ``effective``: the number of independent steps among them. The median has the
    error of the level over the last third, plus that of the method; the 99% point has that of the tail besides. As in the
    estimate, a short trace's tail is its scale's, and a long one's the resampled 99% point.
    """
    tail = _resampled(r[r <= bulk.cut], 0.99)
    seen = min(r.size / ENOUGH, 1.0)
    scale = Z99 * SCALE_ERROR * bulk.scale / np.sqrt(max(effective, 1.0))
    level = 1.25 * bulk.scale / np.sqrt(max(effective / 3, 1.0))
    noise = np.random.default_rng(1).standard_normal((2, REPLICATES))
    of_median = np.hypot(level, METHOD) * noise[1]
    of_tail = np.sqrt(seen) * (tail - np.median(tail)) + np.sqrt(1 - seen) * scale * noise[0]
    return np.asarray(of_median), np.asarray(of_tail + of_median)


def _resampled(r: Array, q: float) -> Array:
    """The ``q`` quantile of batches of neighbours drawn with replacement (Kuensch, 1989): autocorrelation widens it.

    Each batch enters as a histogram of its top; the cost is linear in n and does not grow with the replicates.
    """
    n = r.size
    count = min(BATCHES, max(n // 2, 1))
    batch = np.minimum(np.arange(n) * count // n, count - 1)
    floor = float(np.quantile(r, 1 - 5 * (1 - q)))
    top = r >= floor
    ordered = np.sort(r[top])
    edges = np.unique(ordered[np.linspace(0, ordered.size - 1, BINS).round().astype(np.intp)])
    bins = np.searchsorted(edges, r[top], side="left")
    table = np.bincount(batch[top] * edges.size + bins, minlength=count * edges.size).reshape(count, edges.size)
    draws = np.random.default_rng(0).multinomial(count, np.full(count, 1 / count), size=REPLICATES)
    above = np.cumsum((draws @ table)[:, ::-1], axis=1)[:, ::-1]
    allowed = (1 - q) * (draws @ np.bincount(batch, minlength=count))
    # The lowest edge that no more than the allowed share of the resampled steps exceeds.
    exceeding = np.column_stack([above[:, 1:], np.zeros(REPLICATES)])
    return np.asarray(edges[np.argmax(exceeding <= allowed[:, None], axis=1)], dtype=np.float64)


def effective_steps(r: Array) -> float:
    """Independent steps among residuals (n,): n (1 - rho) / (1 + rho), rho their lag-one correlation, the tails cut."""
    if r.size < 3:
        return float(r.size)
    y = r[-LATEST:]
    y = np.clip(y, *np.quantile(y, [0.05, 0.95]))
    y = y - np.mean(y)
    # Sums of products, not np.dot: for one pass BLAS wakes threads that wait for each other on a busy machine.
    power = float(np.sum(y * y))
    rho = float(np.sum(y[1:] * y[:-1])) / power if power > 0 else 0.0
    rho = min(max(rho, 0.0), 0.98)
    return r.size * (1 - rho) / (1 + rho)
