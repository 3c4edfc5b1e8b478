"""The arms of a verification -> where each of them ends, the middle of its seeds, and the range that shows how they differ."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from clipcal.run.trace import Floats
from clipcal.views.figures.arms import ArmCurve, Arms
from clipcal.views.figures.limits import Limits, linear_limits, log_limits, loss_limits
from clipcal.views.figures.points import positive

NUM_PIECES = 60
"""Of a running median: so few that dashes can be told apart."""
FAR_APART = 20.0
"""Times the smallest final loss, from which the largest asks for a log axis."""


@dataclass(frozen=True, kw_only=True)
class End:
    """The final losses of an arm's seeds that live, as (seed, loss), their ``median``, and the steps at which the other of its ``num_seeds``
    seeds are lost, in order."""

    name: str
    finals: tuple[tuple[int, float], ...]
    median: float | None
    lost: tuple[int, ...]
    num_seeds: int


@dataclass(frozen=True, kw_only=True)
class Side:
    """What the arms are compared by: the values (k,) of each curve, NaN where the axis has no place for one, and its ``limits``."""

    values: tuple[Floats, ...]
    limits: Limits


def ends(arms: Arms) -> list[End]:
    """A row per arm, in the order of their names."""
    found = []
    for name in arms.names:
        mine = curves_of(arms, name)
        finals = tuple((c.result.seed, c.result.final_loss) for c in mine if not _is_lost(c))
        found.append(
            End(
                name=name,
                finals=finals,
                median=float(np.median([loss for _, loss in finals])) if finals else None,
                lost=tuple(sorted(c.result.diverged_at or 0 for c in mine if _is_lost(c))),
                num_seeds=len(mine),
            )
        )
    return found


def curves_of(arms: Arms, name: str) -> list[ArmCurve]:
    return [c for c in arms.curves if c.result.name == name]


def final_limits(found: Sequence[End]) -> Limits:
    """Of the final losses that there are."""
    finals = [loss for end in found for _, loss in end.finals]
    is_log = bool(finals) and 0 < FAR_APART * min(finals) < max(finals)
    return Limits(log_limits(finals, below=0.08, above=0.08) if is_log else linear_limits(finals, room=0.08), is_log)


def losses(arms: Arms) -> Side:
    values = tuple(c.losses for c in arms.curves)
    return Side(values=values, limits=loss_limits(_before_lost(arms, values), usual=0.97, room=0.5))


def norms(arms: Arms, threshold: float | None) -> Side:
    """A few norms far from all others do not stretch the axis. The ``threshold`` is on it."""
    values = tuple(positive(c.norms) for c in arms.curves)
    known = _before_lost(arms, values)
    if not known.size:
        known = np.concatenate(values)
        known = known[np.isfinite(known)]
    marks = [threshold] if threshold else []
    if known.size:
        low, high = (float(q) for q in np.quantile(known, [0.01, 0.9]))
        marks += [max(float(known.min()), low / 30), min(float(known.max()), 100 * high)]
    return Side(values=values, limits=Limits(log_limits(marks), True))


def middle(curves: Sequence[tuple[Floats, Floats]]) -> tuple[Floats, Floats]:
    """Of the steps and values of several seeds, the median over those that have a value and over some steps, at the steps of the longest."""
    grid = max((steps for steps, _ in curves), key=lambda s: (s[-1], s.size))
    rows = np.array([np.interp(grid, steps, y, right=np.nan) for steps, y in curves])
    pieces = [p for p in np.array_split(np.arange(grid.size), min(grid.size, NUM_PIECES)) if p.size]
    values = [rows[:, p][np.isfinite(rows[:, p])] for p in pieces]
    return np.array([grid[p].mean() for p in pieces]), np.array([np.median(v) if v.size else np.nan for v in values])


def place_lost(c: ArmCurve, values: Floats, limits: Limits) -> tuple[float, float] | None:
    """Where an arm is lost: the step, and its value there as far as the axis has it; None of an arm that lives."""
    if c.result.diverged_at is None:
        return None
    row = int(np.clip(np.searchsorted(c.steps, c.result.diverged_at), 0, values.size - 1))
    value = float(np.clip(values[row], *limits.ends)) if np.isfinite(values[row]) else limits.ends[1]
    return float(c.steps[row]), value


def _before_lost(arms: Arms, values: Sequence[Floats]) -> Floats:
    """All that is finite before its arm is lost."""
    until = [math.inf if c.result.diverged_at is None else c.result.diverged_at for c in arms.curves]
    known: Floats = np.concatenate([v[c.steps < end] for c, v, end in zip(arms.curves, values, until, strict=True)])
    return known[np.isfinite(known)]


def _is_lost(c: ArmCurve) -> bool:
    return c.result.diverged_at is not None or not math.isfinite(c.result.final_loss)
