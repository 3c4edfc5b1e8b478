"""Norms of a run that was lost too early to read a threshold from -> the temporary guard under which to profile again."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from clipcal.recommendation.answer import Recommendation
from clipcal.run.trace import Floats

GUARD = 0.3
"""Times the median of the first norms: in sweeps of runs that diverged at once, the one rule that kept them alive."""
FIRST = 3
"""Norms that count as the first: where the learning rate is far too high, the fifth is thousands of times larger."""
ENOUGH = 50  # healthy steps that do for a first number; a profile with fewer is made again
OnGuard = Callable[[float], None]


def guard_of(norms: Floats) -> float | None:
    """The guard for a run with these norms (n,), to two significant digits; None where no norm says anything."""
    first = norms[np.isfinite(norms) & (norms > 0)][:FIRST]
    return float(f"{float(np.median(GUARD * first)):.1e}") if first.size else None


def needs_guard(r: Recommendation) -> bool:
    """Whether the run diverged and left too little behind to read a threshold from."""
    return r.verdict == "diverging" and (r.stable is None or r.stable.steps < ENOUGH)
