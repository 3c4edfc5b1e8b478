"""Norms and recommendation -> what their pictures show, in numbers, for people who do not see them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from clipcal.recommendation.answer import Recommendation
from clipcal.run.trace import Floats, Trace

FEWEST_DRAWN = 10
"""Steps: fewer are no picture, and sentences name them."""


class Places(NamedTuple):
    """How many steps are of a kind, and the first and the last of them."""

    num: int
    first: int
    last: int


@dataclass(frozen=True, kw_only=True)
class Facts:
    """Numbers are those of steps, as they were logged. ``warm_up_until`` is the last step of the warm-up, ``lost_from`` the first of a runaway
    end. ``finite`` is None where no norm is finite, and otherwise how many are, their median, their 95th and their 99th percentile. ``largest``
    is the largest finite norm and its step; ``spikes`` (step, norm)."""

    steps: Places | None
    warm_up_until: int | None
    lost_from: int | None
    finite: tuple[int, float, float, float] | None
    largest: tuple[float, int] | None
    spikes: tuple[tuple[int, float | None], ...]
    nonfinite: Places | None
    zeros: Places | None


def facts(r: Recommendation, trace: Trace, norms: Floats, *, last_stable: int | None = None) -> Facts:
    """Of the ``norms`` (n,) of a trace of as many steps, or of none. ``last_stable`` ends the healthy part of a run that diverges."""
    steps = trace.step[: len(norms)]
    known = np.isfinite(norms)
    finite = norms[known]
    before = steps[steps < r.stable.first_step] if r.stable is not None else steps[:0]
    after = steps[steps > last_stable] if last_stable is not None else steps[:0]
    top = int(np.argmax(np.where(known, norms, -np.inf))) if finite.size else 0
    quantiles = np.quantile(finite, [0.5, 0.95, 0.99]).tolist() if finite.size else []
    at = dict(zip(steps.tolist(), norms.tolist(), strict=True))
    return Facts(
        steps=_places(steps),
        warm_up_until=int(before[-1]) if before.size else None,
        lost_from=int(after[0]) if after.size else None,
        finite=(finite.size, *quantiles) if finite.size else None,
        largest=(float(norms[top]), int(steps[top])) if finite.size else None,
        spikes=tuple((step, at.get(step)) for step in r.spikes.steps),
        nonfinite=_places(steps[~known]),
        zeros=_places(steps[norms == 0]),
    )


def _places(steps: NDArray[np.int64]) -> Places | None:
    return Places(num=steps.size, first=int(steps[0]), last=int(steps[-1])) if steps.size else None
