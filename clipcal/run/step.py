"""One optimizer step -> the line of a trace that holds it. Nothing is imported that a training process may lack."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from clipcal.run.jsonfile import dumps

TORCH_ADDS = 1e-6  # to the norm: torch.nn.utils.clip_grads_with_norm_ scales by max_norm / (norm + 1e-6)


@dataclass(frozen=True, kw_only=True)
class Step:
    """One optimizer step. ``grad_norm`` is the total norm of all gradients before any clipping, ``grad_max`` the largest
    absolute gradient element, ``seconds`` the wall time since the step before.

    ``scale`` is the factor that clipping applied (None where clipping was off); ``skipped`` marks a step that the
    GradScaler dropped. ``rank_norms`` are the norms of the ranks' own gradients, which the run keeps in a file of their own, None where
    they are not known.
    """

    step: int
    loss: float
    grad_norm: float
    grad_max: float
    lr: float
    seconds: float
    scale: float | None = None
    skipped: bool = False
    rank_norms: tuple[float, ...] | None = None

    @property
    def rank_spread(self) -> float | None:
        """The largest norm of a rank's own gradient over the median of all ranks'."""
        if self.rank_norms is None:
            return None
        if any(math.isnan(norm) for norm in self.rank_norms):
            return math.nan
        ordered = sorted(self.rank_norms)
        middle = len(ordered) // 2
        median = (ordered[middle] + ordered[~middle]) / 2
        if median == 0:
            return math.inf if ordered[-1] > 0 else math.nan
        return ordered[-1] / median

    def line(self) -> str:
        row: dict[str, Any] = {
            "step": self.step,
            "loss": self.loss,
            "grad_norm": self.grad_norm,
            "grad_max": self.grad_max,
            "lr": self.lr,
            "seconds": round(self.seconds, 6),
        }
        if self.scale is not None:
            row["scale"] = self.scale
        if (spread := self.rank_spread) is not None:
            row["rank_spread"] = spread
        if self.skipped:
            row["skipped"] = True
        return dumps(row)
