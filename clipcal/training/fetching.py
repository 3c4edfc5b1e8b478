"""Observations, on the device -> steps, in one transfer. Needs torch and nothing else: it also runs in processes that are watched."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from itertools import islice

import torch
from torch import Tensor

from clipcal.run.step import Step
from clipcal.training.loop import Observation


def fetch(pending: Sequence[Observation]) -> list[Step]:
    """One transfer for all the numbers of all the steps."""
    numbers = [
        t
        for o in pending
        for t in (o.loss, o.norms.total, o.norms.grad_max, o.scale, o.rank_norms, o.lr)
        if t is not None
    ]
    values = iter(together(numbers))
    steps = []
    for o in pending:
        loss, grad_norm, grad_max = next(values), next(values), next(values)
        scale = None if o.scale is None else next(values)
        rank_norms = None if o.rank_norms is None else tuple(islice(values, o.rank_norms.numel()))
        # the GradScaler drops a step exactly where an unscaled gradient is not finite
        skipped = o.scaled and not math.isfinite(grad_max)
        steps.append(
            Step(
                step=o.step,
                loss=loss,
                grad_norm=grad_norm,
                grad_max=grad_max,
                lr=next(values),
                seconds=o.seconds,
                scale=scale,
                skipped=skipped,
                rank_norms=rank_norms,
            )
        )
    return steps


def together(numbers: Sequence[Tensor | float]) -> list[float]:
    """The numbers, and those that the tensors hold, in one transfer from each kind of place: what lies on the CPU stays there."""
    there = [t for t in numbers if isinstance(t, Tensor) and not t.is_cpu]
    fetched: Iterator[float] = iter(())
    if there:
        # joined as they are: to convert them first would take a kernel for each
        fetched = iter(torch.cat([t.detach().reshape(-1).to(there[0].device) for t in there]).tolist())
    values: list[float] = []
    for t in numbers:
        if not isinstance(t, Tensor):
            values.append(float(t))
        elif not t.is_cpu:
            values.extend(islice(fetched, t.numel()))
        elif t.numel() == 1:
            values.append(t.item())
        else:
            values.extend(t.tolist())
    return values


def tensor_norms(pending: Sequence[Observation]) -> list[list[float]]:
    """The norms of each step's tensors, in one transfer for all the steps."""
    norms = [o.norms.per_tensor for o in pending]
    values = iter(together([n for n in norms if isinstance(n, Tensor)]))
    return [n if isinstance(n, list) else list(islice(values, n.numel())) for n in norms]
