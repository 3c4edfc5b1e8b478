"""Steps as they come -> from which one on training is lost. It does not depend on how they are handed over."""

from __future__ import annotations

import math
from collections.abc import Sequence

from clipcal.run.step import Step
from clipcal.stats.losses import HOPELESS, TOO_LONG

PATIENCE = 10
"""Non-finite steps in a row after which a run counts as gone: one NaN can be a bad batch, ten are the weights."""


def why_gone(gone_at: int | None) -> str:
    """The reason that a run keeps which was stopped because of that."""
    return f"the loss or the gradients were not finite for {PATIENCE} steps from step {gone_at}"


class Patience:
    """``gone_at`` is the first of the steps that were too many. With ``give_up`` a finite loss that stays hopelessly high counts
    as lost too."""

    def __init__(self, *, give_up: bool = False) -> None:
        self.gone_at: int | None = None
        self._give_up = give_up
        self._bad = self._high = 0
        self._start: list[float] = []

    def kept(self, steps: Sequence[Step]) -> int:
        """How many of these next steps belong to the run: all, but for those after the last that is waited for."""
        if self.gone_at is not None:
            return 0
        for i, step in enumerate(steps):
            finite = math.isfinite(step.loss) and (math.isfinite(step.grad_norm) or step.skipped)
            self._bad = 0 if finite else self._bad + 1
            waited = PATIENCE if self._bad >= PATIENCE else TOO_LONG if self._is_hopeless(step.loss) else None
            if waited is not None:
                self.gone_at = step.step - waited + 1
                return i + 1
        return len(steps)

    def _is_hopeless(self, loss: float) -> bool:
        if not self._give_up:
            return False
        if len(self._start) < 5:
            self._start.append(loss)
            return False
        level = max(map(abs, self._start))
        self._high = self._high + 1 if loss > HOPELESS * level else 0
        return self._high >= TOO_LONG
