"""A run that was recorded -> the guard to profile it again under, where it was lost too early."""

from __future__ import annotations

from collections.abc import Callable

from clipcal.recommendation.evidence import load
from clipcal.recommendation.guarding import guard_of, needs_guard
from clipcal.run.directory import Run

OnGuard = Callable[[float], None]


def guard_for(run: Run) -> float | None:
    """The guard; None where the run that is there says enough, or is not finished."""
    if run.info.status not in ("complete", "stopped") or run.info.guard is not None:
        return None
    evidence = load(run.folder)
    return guard_of(evidence.norms) if needs_guard(evidence.recommend()) else None
