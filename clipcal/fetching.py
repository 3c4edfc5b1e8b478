"""Observations, on the device -> steps, in one transfer. Needs torch and nothing else: it also runs in processes that are watched."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from clipcal.step import Step
from clipcal.training import Observation


def fetch(pending: Sequence[Observation]) -> list[Step]:
    """One transfer for all the scalars of all the steps."""
    scalars = [
        t for o in pending for t in (o.loss, o.norms.total, o.norms.grad_max, o.scale, o.rank_spread) if t is not None
    ]
    values = iter(_together(scalars))
    steps = []
    for o in pending:
        loss, grad_norm, grad_max = next(values), next(values), next(values)
        scale = None if o.scale is None else next(values)
        rank_spread = None if o.rank_spread is None else next(values)
        # the GradScaler drops a step exactly where an unscaled gradient is not finite
        skipped = o.scaled and not math.isfinite(grad_max)
        steps.append(
            Step(
                step=o.step,
                loss=loss,
                grad_norm=grad_norm,
                grad_max=grad_max,
                lr=float(o.lr),
                seconds=o.seconds,
                scale=scale,
                skipped=skipped,
                rank_spread=rank_spread,
            )
        )
    return steps


def _together(scalars: Sequence[Tensor | float]) -> list[float]:
    device = next((t.device for t in scalars if isinstance(t, Tensor) and t.device.type != "cpu"), None)
    if device is None:
        return [t.item() if isinstance(t, Tensor) else t for t in scalars]
    wide = torch.float32 if device.type == "mps" else torch.float64
    tensors = (torch.as_tensor(t).reshape(()).to(device, wide) for t in scalars)
    values: list[float] = torch.stack(list(tensors)).tolist()
    return values
