"""One optimizer step -> the line of a trace that holds it. Nothing is imported that a training process may lack."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, TypeVar

from clipcal.run.jsonfile import dumps

TORCH_EPSILON = 1e-6
"""What torch.nn.utils.clip_grad_norm_ adds to the total norm before it divides by it."""
SAME_START, SAME_LATER = 1e-3, 1e-2
"""How far, relatively, a norm may be from what it was when a step is trained again on a GPU, where sums are taken in another order. At the
first step this is rounding alone. Every update carries the difference on, so that later steps are further apart."""
_Norm = TypeVar("_Norm")


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
        from statistics import median  # few trainings have ranks, and it imports much

        middle, largest = median(self.rank_norms), max(self.rank_norms)
        if middle == 0:
            return math.inf if largest > 0 else math.nan
        return largest / middle

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


def clip_scale(norm: _Norm, max_norm: float) -> _Norm:
    """The factor by which torch.nn.utils.clip_grad_norm_ multiplies gradients of this total norm: a float, an array or a tensor of
    torch's, NaN where the norm is."""
    total: Any = norm
    factor: Any = max_norm / (total + TORCH_EPSILON)
    if hasattr(factor, "clip"):
        factor = factor.clip(max=1.0)
    elif factor > 1.0:
        factor = 1.0
    limited: _Norm = factor
    return limited


def repeats(was: float, is_now: float, *, step: int, device: str) -> bool:
    """Whether a step that was trained again came out as before: bit for bit on the CPU, nearly on other devices."""
    if was == is_now or (math.isnan(was) and math.isnan(is_now)):
        return True
    return not device.startswith("cpu") and math.isclose(was, is_now, rel_tol=SAME_LATER if step else SAME_START)
