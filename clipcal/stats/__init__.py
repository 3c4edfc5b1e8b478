"""A trace of gradient norms -> NormStats: where it is stable, how far stable norms reach, and what stands above them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from clipcal.stats.arrays import Array
from clipcal.stats.bootstrap import quantile_replicates
from clipcal.stats.bulk import Bulk, find_bulk
from clipcal.stats.ending import Ending, find_ending
from clipcal.stats.level import find_level
from clipcal.stats.spikes import CLEAR, find_spikes
from clipcal.stats.warmup import warmup_length

__all__ = ["FEWEST", "NormStats", "summarise"]

FEWEST = 10  # usable norms: fewer say nothing about a 99% point
FEWEST_BEFORE_END = 5  # of a run that diverges, where a rough guard is better than none
Rows = NDArray[np.intp]


@dataclass(frozen=True, kw_only=True)
class NormStats:
    """What a trace's norms say. Row indices count from 0 over the whole trace; norms are in the trace's own unit.

    ``kind``: "steady" and "diverged" have the fields below; the others have only the counts.
    ``stable_rows`` are the steps to leave alone, ``spike_rows`` those that stand clear; ``num_far`` counts steps far above
    the stable p99 whether a gap sets them apart or not. ``median``, ``p95``, ``p99`` are of the stable norms *ahead*;
    ``smallest_spike`` is carried to that level. ``log_p99`` are bootstrap replicates of log p99. ``excess`` (num_steps,)
    is each stable step's or spike's norm over its local stable median, NaN elsewhere.
    """

    kind: Literal["steady", "diverged", "vanished", "clipped", "insufficient"]
    num_steps: int
    num_usable: int
    num_nonfinite: int
    num_zeros: int
    num_negative: int
    first_nonfinite: int | None
    healthy_steps: int
    pile: float | None = None
    first_row: int = 0
    stable_rows: Rows | None = None
    spike_rows: Rows | None = None
    num_far: int = 0
    median: float = float("nan")
    p95: float = float("nan")
    p99: float = float("nan")
    smallest_spike: float | None = None
    drift_ratio: float | None = None
    direction: Literal["up", "down", "cycle", "flat"] = "flat"
    log_p99: Array | None = None
    excess: Array | None = None
    effective_steps: float = 0.0


def summarise(norms: Array) -> NormStats:
    """Summarise gradient norms, shape (n,), any values and any length: non-finite, zero and negative ones are counted apart."""
    finite = np.isfinite(norms)
    nonfinite = np.flatnonzero(~finite)
    usable = finite & (norms > 0)
    ending = find_ending(norms)
    rows = np.flatnonzero(usable[: ending.healthy])
    counts = {
        "num_steps": int(norms.size),
        "num_usable": int(np.count_nonzero(usable)),
        "num_nonfinite": int(nonfinite.size),
        "num_zeros": int(np.count_nonzero(norms == 0)),
        "num_negative": int(np.count_nonzero(finite & (norms < 0))),
        "first_nonfinite": int(nonfinite[0]) if nonfinite.size else None,
        "healthy_steps": ending.healthy,
    }
    enough = counts["num_usable"] >= max(FEWEST, 0.1 * norms.size)
    if ending.kind == "vanished" and enough:
        return NormStats(kind="vanished", **counts)
    if ending.kind == "diverged" and rows.size < FEWEST_BEFORE_END:
        return NormStats(kind="diverged", **counts)
    if not (enough or ending.kind == "diverged"):
        return NormStats(kind="insufficient", **counts)
    pile = _pile(norms[rows])
    if pile is not None:
        return NormStats(kind="clipped", pile=pile, **counts)
    return _steady(norms, rows, ending, counts)


def _steady(norms: Array, rows: Rows, ending: Ending, counts: dict[str, int]) -> NormStats:
    x = np.log(norms[rows])
    start = warmup_length(x)
    rows, x = rows[start:], x[start:]
    floor = _rounding(norms[rows])
    level = find_level(x)
    r = x - level.local
    passing = _passing(r > find_bulk(r, floor, float(r.size)).cut)
    if np.count_nonzero(~passing) >= FEWEST:
        level = find_level(x, ~passing)
        r = x - level.local
    effective = _effective(r)
    spikes, bulk = find_spikes(r, floor, effective)
    stable = np.ones(rows.size, dtype=np.bool_)
    stable[spikes] = False
    body = r[stable & (r <= bulk.cut)]
    num_far = int(np.count_nonzero(r > bulk.p99 + CLEAR))
    ahead = level.ahead if num_far else level.seen
    shift95, shift99 = (_mixture_quantile(body, ahead, q) for q in (0.95, 0.99))
    log_p95, log_p99 = bulk.p95 + shift95, bulk.p99 + shift99
    middle = float(np.median(level.ahead)) + bulk.centre
    smallest = float(np.exp(np.min(r[spikes]) + shift99)) if spikes.size else None
    excess = np.full(norms.size, np.nan)
    excess[rows] = np.exp(np.minimum(r - bulk.centre, 300.0))
    return NormStats(
        kind="diverged" if ending.kind == "diverged" else "steady",
        first_row=int(rows[0]),
        stable_rows=rows[stable],
        spike_rows=rows[spikes],
        num_far=num_far,
        median=float(np.exp(middle)),
        p95=float(np.exp(log_p95)),
        p99=float(np.exp(log_p99)),
        smallest_spike=smallest,
        drift_ratio=float(np.exp(level.change)),
        direction=level.direction,
        log_p99=log_p99 + _uncertainty(r, bulk, effective),
        excess=excess,
        effective_steps=effective,
        **counts,
    )


def _passing(unusual: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """The unusual steps that the run came back from: where they have the majority at the end, they are the new level."""
    late = max(unusual.size // 8, 16)
    passing = unusual.copy()
    if np.mean(unusual[-late:]) > 0.5:
        passing[unusual.size // 2 :] = False
    return passing


def _mixture_quantile(r: Array, levels: Array, q: float) -> float:
    """How far the ``q`` quantile of residuals spread over several levels lies above the residuals' own."""
    spread = np.sort(r)[:: max(r.size // 2000, 1)]
    own = float(np.quantile(spread, q))
    mixed = float(np.quantile((spread[:, None] + levels[None, :]).ravel(), q))
    return mixed - own


def _uncertainty(r: Array, bulk: Bulk, effective: float) -> Array:
    """Deviations of the replicates of log p99 from its estimate: resampled tail, error of the level, error of the method."""
    tail = quantile_replicates(np.minimum(r, bulk.cut), 0.99)
    tail = tail - np.median(tail)
    rng = np.random.default_rng(1)
    error = np.hypot(1.25 * bulk.scale / np.sqrt(max(effective / 3, 1.0)), 0.04)
    return np.asarray(tail + error * rng.standard_normal(tail.size), dtype=np.float64)


def _effective(r: Array) -> float:
    """Steps n (1 - rho) / (1 + rho), rho the rank-robust lag-one correlation of residuals."""
    if r.size < 3:
        return float(r.size)
    low, high = np.quantile(r, [0.05, 0.95])
    y = np.clip(r, low, high) - np.mean(np.clip(r, low, high))
    power = float(np.dot(y, y))
    rho = float(np.dot(y[1:], y[:-1])) / power if power > 0 else 0.0
    rho = min(max(rho, 0.0), 0.98)
    return r.size * (1 - rho) / (1 + rho)


def _rounding(norms: Array) -> float:
    """Half of the smallest step between different norms, relative to their median: the finest log scale they can show."""
    values = np.unique(norms)
    if values.size < 2:
        return 1e-9
    middle = float(np.median(norms))
    return max(0.5 * float(np.min(np.diff(values))) / middle, 1e-9)


def _pile(norms: Array) -> float | None:
    """The value that norms (n,) pile up at from below, as clipped norms do at ``max_norm``; None where they do not."""
    top = float(np.max(norms))
    at_top = int(np.count_nonzero(norms >= top * (1 - 1e-3)))
    near = int(np.count_nonzero(norms >= top * 0.8))
    different = np.unique(norms[norms < top * (1 - 1e-3)]).size
    if at_top == norms.size:
        return top
    if at_top >= max(0.1 * norms.size, 5) and at_top > 0.5 * near and (different >= 10 or at_top > 0.9 * norms.size):
        return top
    return None
