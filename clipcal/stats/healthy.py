"""A trace -> where its healthy part begins, after the warm-up, and where it ends: norms run away, go non-finite, or vanish."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from clipcal.stats.arrays import Array, block_medians, line, running_median, scatter

NONFINITE_STREAK = 3  # one or two at the end are what a GradScaler skips; three in a row are not
CHANCE = 1e-4  # of a streak of non-finite norms, if they were independent
RETURN = np.log(3.0)  # above the upper quarter of what came before: less is a mode that the level visits all the time
RUNAWAY = np.log(100.0)  # no healthy drift in our logs rose a hundredfold
LATE_RUNAWAY = np.log(10.0)  # at the very end there was no time for more
JUMP = np.log(8.0)  # a level that leaps so far and stays has left the healthy part
VANISHED = np.log(2000.0)  # training settles 5 to 50 times below its first norms, never 2,000
DEAD_STREAK = 5  # zeros in a row at the end, and at least a tenth of the trace: fewer are steps without signal
COURSE = 5  # losses that make a level
FIRST, COLLAPSED = 10, 100.0  # norms that a network may die of, and times that the later ones lie below them
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


def _collapsed(norms: Array, losses: Array | None) -> int | None:
    """The row of a burst among the first norms (n,) after which hardly any gradient arrives, and the loss stays above where it began; None
    where there is none. The network died of its first steps."""
    if losses is None or norms.size < 2 * FIRST:
        return None
    head, rest, known = norms[:FIRST], norms[FIRST:], losses[np.isfinite(losses)]
    rest = rest[np.isfinite(rest)]
    if not np.isfinite(head).any() or rest.size < FIRST or known.size < FIRST:
        return None
    at = int(np.nanargmax(np.where(np.isfinite(head), head, np.nan)))
    is_dead = float(np.quantile(rest, 0.9)) * COLLAPSED < head[at]
    late = known[-max(known.size // 4, 1) :]
    return at if is_dead and float(np.min(late)) > known[0] else None


def find_ending(norms: Array, losses: Array | None = None) -> Ending:
    """Judge the end of a trace of gradient norms, shape (n,), any values. ``losses`` (n,), where they are known, tell a run that is lost from
    one whose norms rise or end while it learns."""
    stop = _before_mostly(~np.isfinite(norms))
    if stop == 0:
        return Ending(kind="none", healthy=norms.size)
    if (burst := _collapsed(norms[:stop], None if losses is None else losses[:stop])) is not None:
        return Ending(kind="diverged", healthy=burst)
    lost = norms.size - stop >= _streak(~np.isfinite(norms[:stop]))
    alive = _before_zeros(norms[:stop])
    died = alive < stop
    positive = np.flatnonzero(np.isfinite(norms[:alive]) & (norms[:alive] > 0))
    x = np.log(norms[positive])
    healthy = _before_burst(x) if died else _before_runaway(x, expected=lost)
    if died:
        lost = healthy < x.size or _losses_tell(losses, alive, worse=True)
    elif healthy < x.size and not lost and _losses_tell(losses, int(positive[healthy]), worse=False):
        healthy = x.size
    if healthy < x.size or lost:
        return Ending(kind="diverged", healthy=alive if healthy == x.size else int(positive[healthy]))
    if died or _has_vanished(x):
        return Ending(kind="vanished", healthy=norms.size)
    return Ending(kind="none", healthy=norms.size)


def _losses_tell(losses: Array | None, row: int, *, worse: bool) -> bool:
    """Whether the loss (n,) ends above (``worse``) or below everything that it was in the quarter of the rows before ``row``."""
    if losses is None:
        return False
    before, after = losses[row - max(row // 4, COURSE) if row > COURSE else 0 : row], losses[row:]
    late = after[-max(after.size // 4, 1) :]
    before = before[np.isfinite(before)]
    if not before.size or np.mean(np.isfinite(late)) < 0.9:
        return False
    end = float(np.median(late[np.isfinite(late)]))
    return end > float(np.max(before)) if worse else end < float(np.min(before))


def _before_mostly(bad: NDArray[np.bool_]) -> int:
    """Rows before the last stretch in which the bad ones (n,) have the majority."""
    if bad.size == 0:
        return 0
    majority = np.cumsum(np.where(bad, 1, -1)[::-1])
    best = int(np.argmax(majority))
    return bad.size - best - 1 if majority[best] > 0 else bad.size


def _streak(bad: NDArray[np.bool_]) -> int:
    """How many bad norms in a row are no chance, by how many (n,) came before: the more they hold, the more."""
    rate = float(np.mean(bad)) if bad.size else 0.0
    return NONFINITE_STREAK if rate == 0 else max(NONFINITE_STREAK, int(np.ceil(np.log(CHANCE) / np.log(rate))))


def _before_zeros(norms: Array) -> int:
    """Rows before the zeros that a trace (n,) ends with: all of them where these are no more than steps without signal, as came before."""
    moving = np.flatnonzero(norms != 0)
    alive = int(moving[-1]) + 1 if moving.size else 0
    dead = norms.size - alive
    is_end = alive and dead >= max(DEAD_STREAK, norms.size // 10) and dead >= _streak(norms[:alive] == 0)
    return alive if is_end else norms.size


def _before_burst(x: Array) -> int:
    """Leading log norms (n,) before what a network died of: a last stretch far above the level; n where there is none."""
    stop = _before_mostly(x > float(np.median(x)) + JUMP) if x.size else 0
    return _walk_back(x, stop) if 0 < stop < x.size else x.size


def _has_vanished(x: Array) -> bool:
    """Whether the last tenth of log norms (n,) lies 2,000 times under the highest level of the first half."""
    if x.size < 10:
        return False
    level = running_median(block_medians(x[: x.size // 2], max(5, x.size // 40)), 3)
    return bool(np.median(x[-max(x.size // 10, 5) :]) + VANISHED < np.max(level))


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
