"""Steps as they are recorded -> the numbers of a profile that is under way."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from clipcal.run.step import Step

LATEST = 50
"""Steps from which the rate is taken: the first ones load libraries and fill caches."""


class Meanwhile:
    """The steps so far of a profile of ``total`` steps: their ``norms``, and the ``last`` of them, None before the first."""

    def __init__(self, total: int) -> None:
        self.total = total
        self.norms: list[float] = []
        self.last: Step | None = None
        self._seconds: list[float] = []

    def add(self, steps: Sequence[Step]) -> None:
        self.norms += [s.grad_norm for s in steps]
        self._seconds += [s.seconds for s in steps]
        self.last = steps[-1]

    def middle_and_largest(self) -> tuple[float, float]:
        """Of the finite norms; NaN where there is none."""
        norms = np.array(self.norms)
        finite = norms[np.isfinite(norms)]
        return (float(np.median(finite)), float(finite.max())) if finite.size else (float("nan"), float("nan"))

    def rate(self) -> float:
        """Steps a second."""
        return 1 / max(float(np.mean(self._seconds[-LATEST:])), 1e-9)
