"""Evidence and recommendation -> the norms and losses over the steps, with what was found in them."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from clipcal.recommendation.answer import Method, Recommendation
from clipcal.recommendation.evidence import Evidence
from clipcal.run.trace import Floats
from clipcal.stats import summarise

Rows = NDArray[np.intp]
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
    median: float | None
    max_norm: float | None
    interval: tuple[float, float] | None
    corridor: tuple[float, float] | None
    first_stable: int | None
    last_healthy: int | None
    in_use: float | None = None
    guard: float | None = None
    in_order: bool = True


def course(evidence: Evidence, recommendation: Recommendation, *, in_use: float | None = None) -> Course:
    """Steps that go back (joined logs) are counted from 0 instead."""
    r, norms = recommendation, evidence.norms
    with np.errstate(all="ignore"):
        stats = summarise(norms)
    steady = stats.steady if r.stable is not None else None
    level = np.full(norms.size, np.nan)
    if steady is not None:
        level = np.divide(norms, steady.excess, out=level, where=steady.excess > 0)
    numbers = evidence.trace.step.astype(np.float64)
    in_order = bool((np.diff(numbers) > 0).all())
    diverges = r.verdict == "diverging" and 0 < stats.healthy_rows < norms.size
    steps = numbers if in_order else np.arange(norms.size, dtype=np.float64)
    losses = evidence.trace.loss
    return Course(
        unit=UNITS[evidence.method],
        steps=steps,
        norms=norms,
        losses=losses if np.isfinite(losses).any() else None,
        level=level,
        spikes=steady.spike_rows if steady is not None else np.empty(0, dtype=np.intp),
        nonfinite=np.flatnonzero(~np.isfinite(norms)),
        median=r.stable.median if r.stable else None,
        max_norm=r.max_norm,
        interval=r.interval,
        corridor=r.corridor,
        first_stable=int(steps[steady.first_row]) if steady is not None else None,
        last_healthy=int(steps[stats.healthy_rows - 1]) if diverges else None,
        in_use=in_use if in_use is not None and math.isfinite(in_use) else None,
        guard=evidence.guard,
        in_order=in_order,
    )
