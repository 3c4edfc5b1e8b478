"""Observations -> steps: fetched from the device in batches, checked, and handed on."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from clipcal.losses import HOPELESS, TOO_LONG
from clipcal.trace import Step
from clipcal.training import Observation

PATIENCE = 10
"""Non-finite steps in a row after which a run counts as gone: one NaN can be a bad batch, ten are the weights."""

Sink = Callable[[Sequence[Step], NDArray[np.float32]], None]


@dataclass(kw_only=True)
class Recorder:
    """Collects observations and passes them on to ``sink`` as steps, with an array (steps, tensors) of per-tensor norms.

    A fetch makes the device wait, so it is done for a batch of steps, or after ``seconds``. Where training is lost
    (``gone_at``) does not depend on when it was looked at: steps past that point are dropped. With ``give_up`` a finite loss
    that stays hopelessly high counts as lost too.
    """

    num_tensors: int
    sink: Sink
    batch: int = 64
    seconds: float = 0.5
    give_up: bool = False
    gone_at: int | None = None
    _pending: list[Observation] = field(default_factory=list)
    _bad: int = 0
    _high: int = 0
    _start: list[float] = field(default_factory=list)
    _fetched: float = field(default_factory=time.monotonic)

    def add(self, observation: Observation) -> None:
        self._pending.append(observation)
        if len(self._pending) >= self.batch or time.monotonic() - self._fetched >= self.seconds:
            self.flush()

    def flush(self) -> None:
        """Fetch what is pending and hand it on. Called at the end too, also after an exception."""
        pending, self._pending = self._pending, []
        self._fetched = time.monotonic()
        if not pending or self.gone_at is not None:
            return
        steps = _fetch(pending)
        for i, step in enumerate(steps):
            finite = math.isfinite(step.loss) and (math.isfinite(step.grad_norm) or step.skipped)
            self._bad = 0 if finite else self._bad + 1
            patience = PATIENCE if self._bad >= PATIENCE else TOO_LONG if self._is_hopeless(step.loss) else None
            if patience is not None:
                self.gone_at = step.step - patience + 1
                pending, steps = pending[: i + 1], steps[: i + 1]
                break
        self.sink(steps, self._rows(pending))

    def _is_hopeless(self, loss: float) -> bool:
        if not self.give_up:
            return False
        if len(self._start) < 5:
            self._start.append(loss)
            return False
        level = max(map(abs, self._start))
        self._high = self._high + 1 if loss > HOPELESS * level else 0
        return self._high >= TOO_LONG

    def _rows(self, pending: Sequence[Observation]) -> NDArray[np.float32]:
        if all(o.with_grad is None for o in pending):
            return _numpy(torch.stack([o.norms.per_tensor for o in pending])).astype(np.float32)
        rows = np.zeros((len(pending), self.num_tensors), dtype=np.float32)
        for row, o in zip(rows, pending, strict=True):
            row[slice(None) if o.with_grad is None else list(o.with_grad)] = _numpy(o.norms.per_tensor)
        return rows


def _fetch(pending: Sequence[Observation]) -> list[Step]:
    """One transfer for all the scalars of all the steps."""
    scalars = [t for o in pending for t in (o.loss, o.norms.total, o.norms.grad_max, o.scale) if t is not None]
    values = iter(_together(scalars))
    steps = []
    for o in pending:
        loss, grad_norm, grad_max = next(values), next(values), next(values)
        scale = None if o.scale is None else next(values)
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
            )
        )
    return steps


def _together(scalars: Sequence[Tensor]) -> list[float]:
    if all(t.device.type == "cpu" for t in scalars):
        return [t.item() for t in scalars]
    device = next(t.device for t in scalars if t.device.type != "cpu")
    wide = torch.float32 if device.type == "mps" else torch.float64
    values: list[float] = torch.stack([t.reshape(()).to(device, wide) for t in scalars]).tolist()
    return values


def _numpy(tensor: Tensor) -> NDArray[np.float32]:
    array: NDArray[np.float32] = tensor.float().cpu().numpy()
    return array
