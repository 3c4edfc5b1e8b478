"""The parts of one arm -> its steps, handed to a sink: what the loop observes is fetched from the device in batches."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray

from clipcal.training.fetching import fetch, tensor_norms
from clipcal.training.gradnorm import ClipRule, Norms, Readings
from clipcal.training.keeping import End, Sink
from clipcal.training.loop import Observation, Parts, train
from clipcal.training.patience import Patience


def run_arm(
    parts: Parts,
    rule: ClipRule | None,
    sink: Sink,
    stop: Callable[[], bool] = lambda: False,
    *,
    steps: int,
    norm_type: float = 2.0,
    lr_scale: float = 1.0,
    patience: Patience | None = None,
) -> End:
    """Train an arm for ``steps`` optimizer steps, clipped by ``rule``, and hand all of them to ``sink``, also where it ends before.

    It ends where ``patience`` (by default one that waits for finite numbers) has run out, or where ``stop``, which is asked after every
    step but the last, says so. Adds a note to ``parts`` on tensors without a gradient. Raises what training and ``sink`` raise.
    """
    names = [name for name, _ in parts.named_tensors()]
    recorder = Recorder(num_tensors=len(names), sink=sink, patience=patience or Patience())
    end = End(status="complete", reason=None)
    try:
        for observation in train(parts, steps=steps, norm_type=norm_type, clip=rule, lr_scale=lr_scale):
            recorder.add(observation)
            if recorder.gone_at is not None:
                break
            if observation.step + 1 < steps and stop():
                end = End(status="interrupted", reason=f"interrupted after step {observation.step}")
                break
        recorder.flush()
    except BaseException:
        with contextlib.suppress(Exception):  # the first error counts
            recorder.flush()
        raise
    finally:
        never = [name for name, seen in zip(names, recorder.with_grad, strict=True) if not seen]
        if never:
            listed = ", ".join(never[:3]) + (", ..." if len(never) > 3 else "")
            parts.notes.append(
                f"{len(never)} of {len(names)} parameter tensors never got a gradient ({listed}): frozen, or not used by the loss"
            )
    return end


@dataclass(kw_only=True)
class Recorder:
    """Collects observations and passes them on to ``sink`` as steps, with an array (steps, tensors) of per-tensor norms.

    A fetch makes the device wait, so it is done for a batch of steps, or after ``seconds``. Where training is lost
    (``gone_at``) does not depend on when it was looked at: steps past that point are dropped. ``with_grad`` (tensors,) says which tensors
    had a gradient in some step.
    """

    num_tensors: int
    sink: Sink
    batch: int = 64
    seconds: float = 0.5
    patience: Patience = field(default_factory=Patience)
    _pending: list[Observation] = field(default_factory=list)
    _fetched: float = field(default_factory=time.monotonic)

    def __post_init__(self) -> None:
        self.with_grad = np.zeros(self.num_tensors, dtype=np.bool_)

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
            self.with_grad[:] = True
            return array
        rows = np.zeros((len(pending), self.num_tensors), dtype=np.float32)
        for row, o, norms in zip(rows, pending, tensor_norms(pending), strict=True):
            present = slice(None) if o.with_grad is None else list(o.with_grad)
            row[present], self.with_grad[present] = norms, True
        return rows
