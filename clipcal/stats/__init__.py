"""A trace of gradient norms -> NormStats: where it is stable, how far stable norms reach, and what stands above them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from clipcal.stats.arrays import Array, Rows
from clipcal.stats.bootstrap import LATEST, effective_steps, replicates
from clipcal.stats.healthy import find_ending, warmup_length
from clipcal.stats.level import Direction, Level, expected_quantile, find_level
from clipcal.stats.pile import find_pile, rounding
from clipcal.stats.spikes import CLEAR, find_bulk, find_spikes

__all__ = ["FEWEST", "FEWEST_BEFORE_END", "Counts", "NormStats", "Rows", "Steady", "summarise"]

FAR_BY_CHANCE = 0.001  # of light-tailed steps may lie far above the 99% point: in a long trace some do
TAIL_KEPT = 0.97  # of the steps lie below the 99% point of a heavy tail, which no gap bounds
TAIL_MORE = 1.3
FEWEST = 15  # usable norms: fewer say nothing about a 99% point
FEWEST_BEFORE_END = 5  # of a run that diverges, where a rough guard is better than none


@dataclass(frozen=True, kw_only=True)
class Counts:
    """What is in the trace, counted; ``usable`` norms are finite and above zero, ``first_nonfinite`` is a row."""

    steps: int
    usable: int
    nonfinite: int
    zeros: int
    negative: int
    first_nonfinite: int | None


@dataclass(frozen=True, kw_only=True)
class Steady:
    """The part of a trace that a threshold can be read from, between the warm-up and any divergence.

    Rows count from 0 over the whole trace; norms are in the trace's own unit. ``stable_rows`` are the steps to leave
    alone, ``ordinary_rows`` those of them that a threshold is judged by: all, those of the last third where norms fall, or those
    since ``leap_row``, from which on the level is another one for good.
    ``spike_rows`` are those that stand clear; ``num_far`` counts the steps far above the stable 99% point, whether a
    gap sets them apart or not. ``median``, ``p95`` and ``p99`` are those of the stable norms to expect next, and
    ``smallest_spike`` is carried to that level, above the ordinary steps; none of them stands outside the norms that they are read from. ``lowest`` and
    ``highest`` are the ends of the ordinary norms, ``roof`` the largest norm beside them, spikes too. ``top`` is the 99% point before it
    was held inside them, ``median_seen`` the median of the stable norms as they were. ``log_median`` and ``log_top`` (k,) are bootstrap replicates of the logs. ``excess`` (steps,) is
    each of these steps' norm over its local stable median, NaN elsewhere.
    """

    first_row: int
    stable_rows: Rows
    ordinary_rows: Rows
    spike_rows: Rows
    num_far: int
    median: float
    p95: float
    p99: float
    smallest_spike: float | None
    drift_ratio: float
    direction: Direction
    leap_row: int | None
    lowest: float
    highest: float
    roof: float
    top: float
    median_seen: float
    log_median: Array
    log_top: Array
    excess: Array


@dataclass(frozen=True, kw_only=True)
class NormStats:
    """What a trace's norms say.

    ``kind`` "steady" always has ``steady``, "diverged" where enough steps came before; ``healthy_rows`` leading rows were
    used. "clipped" has ``pile``, the value that the norms pile up at.
    """

    kind: Literal["steady", "diverged", "vanished", "clipped", "insufficient"]
    counts: Counts
    healthy_rows: int
    steady: Steady | None = None
    pile: float | None = None


def summarise(norms: Array, losses: Array | None = None) -> NormStats:
    """Summarise gradient norms, shape (n,), any values and any length: what is not finite and positive is only counted. ``losses`` (n,)
    tell how a run ends, where they are known."""
    finite = np.isfinite(norms)
    nonfinite = np.flatnonzero(~finite)
    usable = finite & (norms > 0)
    counts = Counts(
        steps=int(norms.size),
        usable=int(np.count_nonzero(usable)),
        nonfinite=int(nonfinite.size),
        zeros=int(np.count_nonzero(norms == 0)),
        negative=int(np.count_nonzero(finite & (norms < 0))),
        first_nonfinite=int(nonfinite[0]) if nonfinite.size else None,
    )
    ending = find_ending(norms, losses)
    rows = np.flatnonzero(usable[: ending.healthy])
    enough = counts.usable >= max(FEWEST, 0.1 * norms.size)
    if ending.kind == "diverged" and (counts.usable >= FEWEST or counts.nonfinite):
        steady = _steady(norms, rows, is_whole=False) if rows.size >= FEWEST_BEFORE_END else None
        return NormStats(kind="diverged", counts=counts, healthy_rows=ending.healthy, steady=steady)
    if not enough:
        return NormStats(kind="insufficient", counts=counts, healthy_rows=norms.size)
    if ending.kind == "vanished":
        return NormStats(kind="vanished", counts=counts, healthy_rows=norms.size)
    pile = find_pile(norms[rows])
    if pile is not None:
        return NormStats(kind="clipped", counts=counts, healthy_rows=norms.size, pile=pile)
    return NormStats(kind="steady", counts=counts, healthy_rows=norms.size, steady=_steady(norms, rows))


def _steady(norms: Array, rows: Rows, *, is_whole: bool = True) -> Steady:
    """``is_whole``: the run did not diverge after these rows."""
    x = np.log(norms[rows])
    start = warmup_length(x)
    rows, x = rows[start:], x[start:]
    floor = rounding(norms[rows])
    level = find_level(x)
    r = x - level.local
    passing = _passing(r > find_bulk(r, floor, float(r.size)).cut)
    if np.count_nonzero(~passing) >= FEWEST:
        level = find_level(x, ~passing)
        r = x - level.local
    effective = effective_steps(r)
    spikes, bulk = find_spikes(r, floor, effective)
    stable = np.ones(rows.size, dtype=np.bool_)
    stable[spikes] = False
    num_far = int(np.count_nonzero(r > bulk.p99 + CLEAR))
    if not spikes.size and num_far <= FAR_BY_CHANCE * r.size:
        num_far = 0
    body = r[stable & (r <= bulk.cut)]
    ahead = level.ahead if num_far else level.seen
    shift95, shift99 = (expected_quantile(body, ahead, q) for q in (0.95, 0.99))
    ordinary, judged = rows[stable], rows
    since = 2 * rows.size // 3 if level.direction == "down" else 0
    since = max(since, level.leap or 0)
    if since and np.any(late := ordinary >= rows[since]):
        ordinary, judged = ordinary[late], rows[since:]
    lowest, highest = (float(end(norms[ordinary])) for end in (np.min, np.max))
    roof = float(np.max(norms[judged]))
    tail = bulk.p99
    if num_far and not spikes.size and is_whole:
        # No gap says where the bulk ends, so that the tail is part of what to expect.
        tail = max(tail, min(float(np.quantile(r, TAIL_KEPT)), tail + np.log(TAIL_MORE)))
    log_top = tail + shift99
    log_median = float(np.clip(np.median(level.ahead) + bulk.centre, np.log(lowest), np.log(highest)))
    log_p99 = min(max(log_top, log_median), float(np.log(highest)))
    of_median, of_top = replicates(r, bulk, _independent(x, r, level))
    excess = np.full(norms.size, np.nan)
    excess[rows] = _exp(r - bulk.centre)
    return Steady(
        first_row=int(rows[0]),
        stable_rows=rows[stable],
        ordinary_rows=ordinary,
        spike_rows=rows[spikes],
        num_far=num_far,
        median=float(np.clip(_exp(log_median), lowest, highest)),
        p95=float(np.clip(_exp(np.clip(bulk.p95 + shift95, log_median, log_p99)), lowest, highest)),
        p99=float(np.clip(_exp(log_p99), lowest, highest)),
        smallest_spike=float(np.clip(_exp(np.min(r[spikes]) + shift99), highest, roof)) if spikes.size else None,
        drift_ratio=float(_exp(level.change)),
        direction=level.direction,
        leap_row=None if level.leap is None else int(rows[level.leap]),
        lowest=lowest,
        highest=highest,
        roof=roof,
        top=float(_exp(log_top)),
        median_seen=float(np.median(norms[rows[stable]])),
        log_median=_held(log_median + of_median),
        log_top=_held(log_top + of_top),
        excess=excess,
    )


def _independent(x: Array, r: Array, level: Level) -> float:
    """Independent steps, with slow noise counted that the local level follows; a cycle is no noise."""
    if level.direction == "cycle":
        return effective_steps(r)
    late = slice(-LATEST, None)
    line = level.change / x.size * np.arange(x.size)[late]
    return min(effective_steps(r), x.size / line.size * effective_steps(x[late] - line))


def _passing(unusual: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """The unusual steps that the run came back from: where they have the majority at the end, they are the new level."""
    passing = unusual.copy()
    if np.mean(unusual[-max(unusual.size // 8, 16) :]) > 0.5:
        passing[unusual.size // 2 :] = False
    return passing


def _held(log: Array | np.floating | float) -> Array:
    """Logs held inside those of the floats: the norms are, but what is read ahead of them may not be."""
    return np.asarray(np.clip(log, -744.0, 708.0), dtype=np.float64)


def _exp(log: Array | np.floating | float) -> Array:
    return np.exp(_held(log))
