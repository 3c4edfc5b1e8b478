"""Norms, and what an answer says of them -> their logs, and what is marked on a picture of them: thresholds, spikes, where the stable part begins."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from clipcal.recommendation.answer import Recommendation
from clipcal.run.trace import Floats, Trace
from clipcal.views.figures.points import Bools, drawable


@dataclass(frozen=True, kw_only=True)
class Series:
    """The steps of a picture, arrays of shape (n,): ``numbers`` as they were given, ``places`` along the axis, ``logs`` of the norms
    that a log axis holds, which are ``usable``, and 0 for the others. Where steps go back (joined logs) they are not ``in_order``, and stand in
    the order of their rows.

    ``levels`` are the logs of the stable median, of the threshold and of the smallest spike, as far as a log axis holds them; ``num_spikes`` is
    None where nobody counted. ``first_row`` begins the part that the threshold was read from, and ``lost_row`` is the first one behind it; None
    where it begins or ends with the steps.
    """

    norms: Floats
    numbers: Floats
    places: Floats
    logs: Floats
    usable: Bools
    is_spike: Bools
    in_order: bool
    levels: dict[str, float]
    num_spikes: int | None
    first_row: int | None
    lost_row: int | None

    @property
    def nonfinite(self) -> Bools:
        return ~np.isfinite(self.norms)

    @property
    def zeros(self) -> Bools:
        return np.equal(self.norms, 0)


def series(
    norms: ArrayLike,
    steps: ArrayLike | None = None,
    *,
    threshold: float | None = None,
    median: float | None = None,
    spikes: Iterable[int] = (),
    spikes_from: float | None = None,
    num_spikes: int | None = None,
    first_step: int | None = None,
    last_step: int | None = None,
) -> Series:
    """``norms`` and ``steps`` are 1-D and of one length (ValueError otherwise); without ``steps`` they are 0, 1, ... ``spikes`` are step
    numbers; ``first_step`` and ``last_step`` bound the part that the threshold was read from: before it is the warm-up, after it the run
    diverges."""
    x = np.asarray(norms, dtype=np.float64).ravel()
    numbers = np.arange(x.size, dtype=np.float64) if steps is None else np.asarray(steps, dtype=np.float64).ravel()
    if numbers.size != x.size:
        raise ValueError(f"norms and steps have to be of one length, found {x.size} and {numbers.size}")
    # Beyond 2**53 floats no longer count in ones.
    in_order = bool((np.abs(numbers) < 2**53).all() and (np.diff(numbers) > 0).all())
    usable = drawable(x)
    marked = (("median", median), ("threshold", threshold), ("spikes", spikes_from))
    bounded = in_order and x.size > 0
    begins = bounded and first_step is not None and numbers[0] < first_step <= numbers[-1]
    ends = bounded and last_step is not None and numbers[0] <= last_step < numbers[-1]
    return Series(
        norms=x,
        numbers=numbers,
        places=numbers if in_order else np.arange(x.size, dtype=np.float64),
        logs=np.log10(np.where(usable, x, 1.0)),
        usable=usable,
        is_spike=usable & np.isin(numbers, np.fromiter(spikes, dtype=np.float64)),
        in_order=in_order,
        levels={name: math.log10(v) for name, v in marked if v is not None and 0 < v < math.inf},
        num_spikes=num_spikes,
        first_row=int(np.searchsorted(numbers, float(first_step or 0))) if begins else None,
        lost_row=int(np.searchsorted(numbers, float(last_step or 0), side="right")) if ends else None,
    )


def series_of(
    r: Recommendation, trace: Trace, norms: Floats, *, threshold: float | None, last_step: int | None = None
) -> Series:
    """The ``norms`` (n,) of a trace with a ``threshold`` and what ``r`` says of them. ``last_step`` ends the healthy part of a run that
    diverges."""
    return series(
        norms,
        trace.step,
        threshold=threshold,
        median=r.stable.median if r.stable else None,
        spikes=r.spikes.steps,
        spikes_from=r.spikes.min,
        num_spikes=r.spikes.count or None,
        first_step=r.stable.first_step if r.stable else None,
        last_step=last_step,
    )
