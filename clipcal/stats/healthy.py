"""A trace -> where its healthy part begins, after the warm-up, and where it ends: norms run away, go non-finite, or vanish."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from clipcal.stats.arrays import Array, block_medians, line, running_median, scatter

NONFINITE_STREAK = 3  # one or two at the end are what a GradScaler skips; three in a row are not
CHANCE = 1e-4  # of a streak of non-finite norms, if they were independent
RETURN = np.log(3.0)  # above the upper quarter of what came before: less is a mode that the level visits all the time
RUNAWAY = np.log(100.0)  # no healthy drift in our logs rose a hundredfold
LATE_RUNAWAY = np.log(10.0)  # at the very end there was no time for more
JUMP = np.log(8.0)  # a level that leaps so far and stays has left the healthy part
VANISHED = np.log(2000.0)  # training settles 5 to 50 times below its first norms, never 2,000
LATE = 0.88  # of the trace
POINTS = 400  # a run's course in so many medians: fine enough to place an ending, and linear in the trace
LONGEST = 0.35  # of the trace: what lasts longer is drift, not warm-up
WARMUP_POINTS = 64
IN_A_ROW = 5
CLEAR = 3.0  # standard deviations of the later course


@dataclass(frozen=True, kw_only=True)
class Ending:
    """``healthy`` counts the leading rows of the trace that may be used; ``kind`` says what came after them."""

    kind: Literal["none", "diverged", "vanished"]
    healthy: int


def find_ending(norms: Array) -> Ending:
    """Judge the end of a trace of gradient norms, shape (n,), any values."""
    stop = _before_nonfinite_tail(norms)
    if stop == 0:
        return Ending(kind="none", healthy=norms.size)
    usable = np.flatnonzero(np.isfinite(norms[:stop]) & (norms[:stop] >= 0))
    if _has_vanished(norms[usable]):
        return Ending(kind="vanished", healthy=norms.size)
    positive = usable[norms[usable] > 0]
    cut_off = norms.size - stop >= _streak(norms[:stop])
    healthy = _before_runaway(np.log(norms[positive]), expected=cut_off)
    rows = stop if healthy == positive.size else int(positive[healthy])
    if healthy < positive.size or cut_off:
        return Ending(kind="diverged", healthy=rows)
    return Ending(kind="none", healthy=norms.size)


def _before_nonfinite_tail(norms: Array) -> int:
    """Rows before the last stretch in which non-finite norms have the majority."""
    if norms.size == 0:
        return 0
    majority = np.cumsum(np.where(np.isfinite(norms), -1, 1)[::-1])
    best = int(np.argmax(majority))
    return norms.size - best - 1 if majority[best] > 0 else norms.size


def _streak(norms: Array) -> int:
    """How many non-finite norms in a row are no chance, where such norms (n,) came before: the more they hold, the more."""
    rate = float(np.mean(~np.isfinite(norms)))
    return NONFINITE_STREAK if rate == 0 else max(NONFINITE_STREAK, int(np.ceil(np.log(CHANCE) / np.log(rate))))


def _has_vanished(norms: Array) -> bool:
    """Whether the last tenth lies 2,000 times under the highest level of the first half, or is mostly zeros; finite norms."""
    if norms.size < 10:
        return False
    late = np.median(norms[-max(norms.size // 10, 5) :])
    level = running_median(block_medians(norms[: norms.size // 2], max(5, norms.size // 40)), 3)
    return bool(late * np.exp(VANISHED) < np.max(level))


def _before_runaway(x: Array, *, expected: bool) -> int:
    """Leading log norms before they run away: x.size where they do not. ``expected``: non-finite norms follow."""
    n = x.size
    if n < 8:
        return n
    width = max(1, n // POINTS)
    level = running_median(block_medians(x, width), 5)
    # The low quartile of the first 60%: below the warm-up, and below a run-away that began at a fifth of the trace.
    reference = float(np.quantile(level[: max(int(0.6 * level.size), 3)], 0.25))
    low = np.flatnonzero(level <= reference + JUMP)
    start = int(low[-1]) + 1 if low.size else 0
    tail = level[start:]
    if tail.size < 3 or start == 0:
        return _walk_back(x, n) if expected else n
    quarter = max(tail.size // 4, 1)
    rise = float(np.median(tail[-quarter:])) - reference
    grows = tail.size * width >= 8 and _rank_trend(x[start * width :]) > 0.8
    jumped = level[start + min(2, tail.size - 1)] - level[max(start - 3, 0)] > JUMP
    stays = jumped and tail.size * width >= (8 if rise > RUNAWAY else 16)
    if not (expected or stays or (grows and rise > (LATE_RUNAWAY if start > LATE * level.size else RUNAWAY))):
        return n
    before = level[:start]
    usual = before[before.size // 4 :] if before.size > 8 else before
    if not expected and float(np.median(tail[-quarter:])) < float(np.quantile(usual, 0.75)) + RETURN:
        return n
    centre = float(np.median(before[before.size // 3 :]))
    spread = float(np.quantile(before[before.size // 3 :], 0.84)) - centre
    normal = np.flatnonzero(before <= centre + 0.5 * spread + 0.02)
    return _walk_back(x, (int(normal[-1]) + 1) * width if normal.size else start * width)


def _walk_back(x: Array, stop: int) -> int:
    """Leave out the last steps before ``stop`` that already stood above the level's usual range."""
    recent = x[max(stop // 3, stop - 200) : stop]
    if recent.size < 8:
        return stop
    centre = float(np.median(recent))
    fence = centre + 3.0 * max(float(np.quantile(recent, 0.84)) - centre, 0.03)
    while stop > 8 and x[stop - 1] > fence:
        stop -= 1
    return stop


def _rank_trend(y: Array) -> float:
    """Spearman's rank correlation of a series with time."""
    if y.size < 3:
        return 0.0
    ranks = np.argsort(np.argsort(y))
    return float(np.corrcoef(ranks, np.arange(y.size))[0, 1])


def warmup_length(x: Array) -> int:
    """Leading steps of log norms (n,) that lie above the line that the rest of the run follows."""
    n = x.size
    if n < 2 * IN_A_ROW:
        return 0
    width = max(1, n // WARMUP_POINTS)
    course = running_median(block_medians(x, width), 3)
    t = np.arange(course.size, dtype=np.float64)
    start = 0
    while start < int(LONGEST * course.size):
        rest = slice(start + 1, None)
        slope, offset = line(t[rest], course[rest])
        tolerance = CLEAR * scatter(course[rest] - slope * t[rest]) + 0.05
        if course[start] <= offset + slope * start + tolerance:
            break
        start += 1
    return min(_until_settled(x, start * width, width), int(LONGEST * n))


def _until_settled(x: Array, first: int, width: int) -> int:
    """The first step from ``first`` on that begins five in a row among those of the steps that follow."""
    later = x[first + width : first + width + max(4 * width, 20)]
    fence = float(np.median(later)) + CLEAR * scatter(later) + 0.05
    head = x[first : first + 2 * width + 10]
    inside = np.lib.stride_tricks.sliding_window_view(head, IN_A_ROW).max(axis=1) <= fence
    return first + (int(np.argmax(inside)) if inside.any() else 0)
