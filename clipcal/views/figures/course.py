"""A recommendation -> the norms and losses over the steps, with what was found in them."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from clipcal.recommendation.answer import Method, Recommendation
from clipcal.run.trace import Floats
from clipcal.stats import Rows

Bools = NDArray[np.bool_]
RUNAWAY = 30.0  # times what is healthy: how far beyond it a picture goes
UNITS: dict[Method, str] = {
    "norm": "gradient norm",
    "value": "largest gradient element",
    "per_tensor": "largest norm of a tensor",
}
"""What a method puts its threshold on."""


@dataclass(frozen=True, kw_only=True)
class Course:
    """``steps``, ``norms``, ``losses`` and ``level`` are of one length (n,); ``level`` is the local stable median, NaN outside of the
    part that the threshold was read from. ``spikes`` and ``nonfinite`` are rows of them. ``losses`` is None where none is known.

    ``healthy`` (n,) are the rows before a run diverges, ``shown`` is the range of norms that a picture shows.
    ``first_stable`` is the step at which the warm-up is over, ``last_healthy`` the one after which the run diverges; a ``corridor``
    may be infinite upwards. Where the steps went back, and are counted instead, they are not ``in_order``. ``in_use`` is a threshold that is checked, ``guard`` the one that training was clipped at meanwhile.
    """

    unit: str
    steps: Floats
    norms: Floats
    losses: Floats | None
    level: Floats
    spikes: Rows
    nonfinite: Rows
    healthy: Bools
    shown: tuple[float, float] | None
    median: float | None
    max_norm: float | None
    interval: tuple[float, float] | None
    corridor: tuple[float, float] | None
    first_stable: int | None
    last_healthy: int | None
    in_use: float | None = None
    guard: float | None = None
    in_order: bool = True


def course(recommendation: Recommendation, *, in_use: float | None = None, guard: float | None = None) -> Course:
    """Of the rows that were judged. Steps that go back (joined logs) are counted from 0 instead."""
    r, reading, norms = recommendation, recommendation.reading, recommendation.reading.norms
    steady = reading.stats.steady if r.stable is not None else None
    level = np.full(norms.size, np.nan)
    if steady is not None:
        level = np.divide(norms, steady.excess, out=level, where=steady.excess > 0)
    in_order = bool((np.diff(reading.steps) > 0).all())
    steps = (reading.steps if in_order else np.arange(norms.size)).astype(np.float64)
    last = r.last_healthy_row
    in_use = in_use if in_use is not None and math.isfinite(in_use) else None
    median = r.stable.median if r.stable else None
    healthy = np.arange(norms.size) <= (norms.size if last is None else last)
    return Course(
        unit=UNITS[r.method],
        steps=steps,
        norms=norms,
        losses=reading.losses,
        level=level,
        spikes=steady.spike_rows if steady is not None else np.empty(0, dtype=np.intp),
        nonfinite=np.flatnonzero(~np.isfinite(norms)),
        healthy=healthy,
        shown=shown(norms, healthy, (median, r.max_norm, in_use, guard, *(r.interval or ()))),
        median=median,
        max_norm=r.max_norm,
        interval=r.interval,
        corridor=r.corridor,
        first_stable=int(steps[steady.first_row]) if steady is not None else None,
        last_healthy=None if last is None else int(steps[last]),
        in_use=in_use,
        guard=guard,
        in_order=in_order,
    )


def shown(values: Floats, healthy: Bools, marks: Iterable[float | None] = ()) -> tuple[float, float] | None:
    """The range of values (n,) that a log axis shows, with the ``marks`` in it; None where nothing is finite and above zero.

    It ends ``RUNAWAY`` times above the largest healthy value or mark, and as far below the 1% point: a runaway end rises by up to 300 decades,
    and an axis with all of it would press the healthy part flat. One and a half decades are enough to see that it leaves.
    """
    drawable = np.isfinite(values) & (values > 0)
    ours = [v for v in marks if v is not None and 0 < v < math.inf]
    drawn = values[drawable] if drawable.any() else np.array(ours)
    if not drawn.size:
        return None
    calm = values[drawable & healthy] if (drawable & healthy).any() else drawn
    low = max(float(drawn.min()), float(np.quantile(drawn, 0.01)) / RUNAWAY)
    high = min(float(drawn.max()), RUNAWAY * max([float(calm.max()), *ours]))
    return min([low, *ours]), max([high, *ours])
