"""A series in the order of its file -> the runs that were written into it one after another."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from clipcal.logs.log import Series

RESTART = 0.1
"""Steps that go back into the first tenth of a run start another one; further up, training was taken up from a checkpoint."""


@dataclass(frozen=True, kw_only=True)
class Part:
    """One run: the rows of its series that count, in order, with ``redone`` rows left out that were trained once more
    after a checkpoint was loaded, ``resumed`` times."""

    rows: NDArray[np.int64]
    resumed: int = 0
    redone: int = 0


def runs_of(series: Series) -> list[Part]:
    """The runs of a series with at least one row; a run starts where the log says so, or where its steps go back."""
    cuts = [0, *series.starts, len(series)]
    found: list[Part] = []
    for first, end in pairwise(cuts):
        if end > first:
            found += _split(np.arange(first, end), series.step)
    return found


def _split(rows: NDArray[np.int64], all_steps: NDArray[np.float64]) -> list[Part]:
    steps = all_steps[rows]
    if not np.isfinite(steps).all():
        return [Part(rows=rows)]
    found: list[Part] = []
    start = 0
    backs = [int(b) + 1 for b in np.flatnonzero(np.diff(steps) < 0)]
    resumes: list[int] = []
    for back in [*backs, len(rows)]:
        if back < len(rows):
            low, high = steps[start], float(np.max(steps[start:back]))
            if steps[back] > low + RESTART * (high - low):
                resumes.append(back)
                continue
        found.append(_joined(rows[start:back], steps[start:back], [r - start for r in resumes]))
        start, resumes = back, []
    return found


def _joined(rows: NDArray[np.int64], steps: NDArray[np.float64], resumes: list[int]) -> Part:
    """One run that was taken up again at ``resumes``: what was trained twice counts as it was trained last."""
    keep = np.ones(len(rows), dtype=bool)
    for at in resumes:
        keep[:at] &= steps[:at] < steps[at]
    return Part(rows=rows[keep], resumed=len(resumes), redone=int((~keep).sum()))
