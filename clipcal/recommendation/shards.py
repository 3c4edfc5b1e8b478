"""The norms of the ranks' own gradients at the spikes and at stable steps -> which ranks the spikes come from. Pure functions of arrays."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from clipcal.recommendation.attribution import CALM, MOSTLY
from clipcal.recommendation.peaks import evenly
from clipcal.run.trace import Floats
from clipcal.stats import Rows

Finding = Literal["shards", "batches", "alike", "unclear"]

HIGH = 1.5  # times its usual norm: what has risen by less has not risen
ALIKE = 1.5  # times their usual spread: ranks that differ by less are alike
NEAR = 32  # stable steps before a spike, and after it, say what is usual for a rank there: the level may move
FEWEST = 3  # spikes: of fewer nothing is said
CHANCE = 0.01  # of blaming a rank where each spike falls on any of them
EVEN = 0.5  # a chance above that is no sign that one rank has more of the spikes than others
MOST = 2_000_000  # norms of stable steps that are looked at: evenly spaced steps where there are more
OVERFLOW = 2 * float(np.finfo(np.float32).max)  # stands for a norm that was too large for the file's float32


@dataclass(frozen=True, kw_only=True)
class Shards:
    """Where the spikes come from.

    "shards": ``num_explained`` of ``num_spikes`` come from ``ranks``, more than chance would give them. "batches": so many come from
    a part of the ranks each, and that is now one and now another of ``ranks``. "alike": the ranks rise together. "unclear": none of
    these, or too few spikes. ``spread`` is the median over the spikes of the largest norm of ``ranks`` over the median of the others',
    where it is "shards", otherwise of the largest of all; ``stable_spread`` is the same at stable steps. They are infinite where the
    others have no gradient, or one of them overflowed, and NaN where nothing can be compared.
    """

    finding: Finding
    ranks: tuple[int, ...]
    num_explained: int
    num_spikes: int
    spread: float
    stable_spread: float


def find_shards(norms: NDArray[np.float32] | Floats, spikes: Rows, stable: Rows) -> Shards:
    """Look at the local norms (steps, ranks) in the rows of the spikes and of the stable steps, both in order. Any values.

    A rank has risen where it stands at least ``HIGH`` times above its own usual norm and by half as much, in logs, as the rank that
    rose most. A spike is local where at most half of the ranks have risen. A rank is blamed where it rose in more of the local spikes
    than it would if those who rise were drawn anew each time: a binomial test, times the number of ranks that it might have been.
    """
    num_ranks = norms.shape[1]
    risen = [r for row in spikes.tolist() if (r := _risen(norms, row, stable)) is not None]
    rose = np.array(risen, dtype=np.bool_).reshape(-1, num_ranks)
    counts = np.count_nonzero(rose, axis=1)
    local = rose[(counts > 0) & (2 * counts <= num_ranks)]
    with np.errstate(all="ignore"):
        rows = norms[spikes].astype(np.float64), norms[evenly(stable, max(MOST // num_ranks, 100))].astype(np.float64)

        def answer(finding: Finding, ranks: Rows, num_explained: int) -> Shards:
            blamed = ranks if finding == "shards" else None
            return Shards(
                finding=finding,
                ranks=tuple(ranks.tolist()),
                num_explained=num_explained,
                num_spikes=len(rose),
                spread=_spread(rows[0], blamed),
                stable_spread=_spread(rows[1], blamed),
            )

        whole = answer("unclear", np.empty(0, dtype=np.intp), 0)
        if len(rose) < FEWEST or num_ranks < 2:
            return whole
        times = np.count_nonzero(local, axis=0)
        chances = num_ranks * _chance_of(times, len(local), np.count_nonzero(local) / max(local.size, 1))
        blamed = np.flatnonzero((chances < CHANCE) & (times >= FEWEST))
        explained = int(np.count_nonzero(np.count_nonzero(local[:, blamed], axis=1) == np.count_nonzero(local, axis=1)))
        if 2 * explained >= len(rose) and 2 * blamed.size <= num_ranks:
            return answer("shards", blamed, explained)
        if len(local) >= MOSTLY * len(rose) and len(local) > FEWEST and np.min(chances) >= EVEN:
            return answer("batches", np.flatnonzero(times), len(local))
        if len(local) <= (1 - MOSTLY) * len(rose) and whole.spread < ALIKE * whole.stable_spread:
            return answer("alike", np.empty(0, dtype=np.intp), 0)
        return whole


def _risen(norms: NDArray[np.float32] | Floats, row: int, stable: Rows) -> NDArray[np.bool_] | None:
    """Which ranks (ranks,) have risen in a row; None where that cannot be told."""
    at = int(np.searchsorted(stable, row))
    near = norms[stable[max(at - NEAR, 0) : at + NEAR]].astype(np.float64)
    near = near[np.isfinite(near).all(axis=1)]
    here = norms[row].astype(np.float64)
    if not len(near) or np.isnan(here).any():
        return None
    usual = np.median(near, axis=0)
    if not usual.any():
        return None
    usual[usual == 0] = np.min(usual[usual > 0])
    heights = np.log(np.clip(here, 1e-300, OVERFLOW)) - np.log(usual)
    found: NDArray[np.bool_] = heights >= max(math.log(HIGH), CALM * float(np.max(heights)))
    return found


def _chance_of(times: Rows, num: int, share: float) -> Floats:
    """The chance (n,) of at least so many ``times`` (n,) in ``num`` draws, each with chance ``share``."""
    if num == 0:
        return np.ones(times.size)
    logs = [
        math.lgamma(num + 1)
        - math.lgamma(j + 1)
        - math.lgamma(num - j + 1)
        + j * math.log(share)
        + (num - j) * math.log1p(-share)
        for j in range(num + 1)
    ]
    tail: Floats = np.cumsum(np.exp(logs)[::-1])[::-1]
    return tail[times]


def _spread(rows: Floats, ranks: Rows | None) -> float:
    """The median over the rows (n, ranks) of the largest norm of ``ranks``, or of all, over the median of the others'."""
    if ranks is None:
        ordered = np.sort(rows, axis=1)  # NaN comes last
        first, others = ordered[:, -1:], ordered[:, :-1]
    else:
        first, others = rows[:, ranks], np.delete(rows, ranks, axis=1)
    if not others.shape[1]:
        return math.nan
    ratios = np.max(first, axis=1) / np.median(others, axis=1)
    ratios = ratios[~np.isnan(ratios)]
    return float(np.median(ratios)) if ratios.size else math.nan
