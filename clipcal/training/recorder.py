"""Observations -> steps: fetched from the device in batches, checked, and handed on."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray

from clipcal.run.step import Step
from clipcal.training.fetching import fetch, tensor_norms
from clipcal.training.gradnorm import Norms, Readings
from clipcal.training.loop import Observation
from clipcal.training.patience import Patience

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
    patience: Patience = field(init=False)
    _pending: list[Observation] = field(default_factory=list)
    _fetched: float = field(default_factory=time.monotonic)

    def __post_init__(self) -> None:
        self.patience = Patience(give_up=self.give_up)

    @property
    def gone_at(self) -> int | None:
        return self.patience.gone_at

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
        steps = fetch(pending)
        kept = self.patience.kept(steps)
        self.sink(steps[:kept], self._rows(pending[:kept]))

    def _rows(self, pending: Sequence[Observation]) -> NDArray[np.float32]:
        if all(o.with_grad is None for o in pending) and not any(isinstance(o.norms, Readings) for o in pending):
            together = torch.stack([o.norms.per_tensor for o in pending if isinstance(o.norms, Norms)])
            array: NDArray[np.float32] = together.float().cpu().numpy()
            return array
        rows = np.zeros((len(pending), self.num_tensors), dtype=np.float32)
        for row, o, norms in zip(rows, pending, tensor_norms(pending), strict=True):
            row[slice(None) if o.with_grad is None else list(o.with_grad)] = norms
        return rows
