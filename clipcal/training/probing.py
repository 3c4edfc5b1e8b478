"""Spec and its run -> scale.jsonl: the same arm trained once more with K times the batches in a step. The gradient of each batch and the
gradient of their mean are both measured, at the same weights.

The training of the profile is not touched. Nothing is computed twice: the backward passes of the batches are those of the step.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from clipcal.errors import ClipcalError, InputError
from clipcal.recommendation.scaling.probed import Probed, Reduction, header, line, read_probed
from clipcal.run.directory import Run, is_run, open_run
from clipcal.run.recording import OnSteps
from clipcal.run.step import Step
from clipcal.run.trace import AppendOnly, mend, read_trace
from clipcal.sources.ranks import ranks_here
from clipcal.sources.spec import Spec
from clipcal.sources.targets import importable_from
from clipcal.training.building import build, pick_device
from clipcal.training.gradnorm import measure
from clipcal.training.loop import Parts, to_device
from clipcal.training.profiling import default_threads, num_threads, was_made_here
from clipcal.training.recorder import run_arm

NEAR = 0.1  # of a loss: as far as two ways to take it over a batch may differ by what else is in it (masks, padding)


def refuse(spec: Spec) -> None:
    """Raise InputError where a probe would not measure what the threshold is put on."""
    fields = spec.fields
    if ranks_here() is not None:
        raise InputError(
            "--scale trains in one process, and torchrun has started several. Leave torchrun out: the probe is about the batch of a step, and "
            "ranks multiply that as accumulation does."
        )
    if fields.clip.method != "norm" or fields.clip.norm_type != 2.0:
        raise InputError(
            f"{spec.where(('clip',))}: --scale splits the squared 2-norm of the whole gradient into signal and noise; expected "
            "`clip: {method: norm, norm_type: 2.0}`. For another way to clip, profile at the larger batch itself."
        )
    if fields.precision == "fp16":
        raise InputError(
            f"{spec.where(('precision',))}: --scale reads gradients between the batches of a step, where those of fp16 are still scaled. Use "
            "bf16 or fp32."
        )


def has_all(folder: Path, spec: Spec) -> bool:
    """Whether a run is there that was made from this spec, here, and has all its steps: only its probe is missing."""
    if not is_run(folder):
        return False
    run = open_run(folder)
    same = run.info.fingerprint == spec.fingerprint and was_made_here(run.info, str(pick_device(spec.fields.device)))
    if not same or run.info.status not in ("complete", "stopped") or not run.trace.exists():
        return False
    return run.info.status == "stopped" or len(read_trace(run.trace)) >= spec.fields.steps


def check_known(run: Run, times: int) -> Probed | None:
    """The probe that a run has already; None without one. Raises InputError where it is another one."""
    if not run.scale.exists() or b"\n" not in run.scale.read_bytes():
        return None
    known = read_probed(run.scale)
    if known.times != times:
        raise InputError(
            f"{run.scale}: is a probe at {known.times} times the batch, which cannot go on at {times}. Ask for --scale "
            f"batch={known.times}, or delete the file and profile with --resume."
        )
    if not np.array_equal(known.step, np.arange(len(known.step))):
        raise InputError(f"{run.scale}: has lines that cannot be read. Delete the file, and profile with --resume.")
    return known


def probe(
    spec: Spec,
    run: Run,
    *,
    times: int,
    threads: int | None = None,
    on_steps: OnSteps | None = None,
    should_stop: Callable[[], bool] = lambda: False,
) -> None:
    """Train the spec's arm with ``times`` its batches in every step, and append what each step measured to the run's scale.jsonl.

    Steps that are there already are trained again and not written. Raises what training raises, KeyboardInterrupt where it
    was asked to stop; the steps that were written stay.
    """
    known = check_known(run, times)
    begin = 0 if known is None else len(known.step)
    device = pick_device(spec.fields.device)
    with num_threads(threads or default_threads()), importable_from([spec.folder, spec.cwd]):
        reduction = _reduction(spec, device) if known is None else known.reduction
        parts = build(spec, seed=spec.fields.seed, device=device)
        split = _Split(parts, times, weight=float(times) if reduction == "sum" else 1.0)
        if run.scale.exists():
            mend(run.scale)
        file = AppendOnly(run.scale)
        has_batch_norm = any(isinstance(m, nn.modules.batchnorm._BatchNorm) for m in parts.model.modules())
        if known is None:
            file.append(header(times, reduction, batch_norm=has_batch_norm))

        def write(steps: Sequence[Step], rows: NDArray[np.float32]) -> None:
            norms = split.taken([s.step for s in steps])
            new = [(s, row) for s, row in zip(steps, norms, strict=True) if s.step >= begin and row is not None]
            file.append(b"".join(line(s.step, s.loss, s.grad_norm, row) for s, row in new))
            if on_steps:
                on_steps(steps)

        with contextlib.closing(file):
            if run_arm(parts, None, write, should_stop, steps=spec.fields.steps).status == "interrupted":
                raise KeyboardInterrupt


@dataclass
class _Split:
    """Takes the gradients of a step apart into those of its batches: what the backward passes of one batch added.

    ``weight`` multiplies the loss, so that a loss that is a sum over its batch is summed over the larger one too. Holds one more copy
    of the gradients.
    """

    parts: Parts
    times: int
    weight: float
    _calls: int = 0
    _before: list[Tensor | None] | None = None
    _norms: list[Tensor] = field(default_factory=list)
    _steps: dict[int, Tensor] = field(default_factory=dict)
    _step: int = 0

    def __post_init__(self) -> None:
        self._of_batch = self.parts.batch_loss
        self._each = self.parts.accumulate
        self._params = [p for _, p in self.parts.named_tensors()]
        self.parts.batch_loss = self._loss
        self.parts.accumulate = self._each * self.times
        self.parts.optimizer.register_step_pre_hook(self._made)

    def _loss(self, model: nn.Module, batch: Any) -> Any:
        if self._calls and self._calls % self._each == 0:
            self._mark()
        self._calls += 1
        loss = self._of_batch(model, batch)
        return loss * self.weight if isinstance(loss, Tensor) and self.weight != 1.0 else loss

    def _made(self, *of_step: object) -> None:
        """Before the optimizer's step: the last batch is there."""
        self._mark()
        self._steps[self._step] = torch.stack(self._norms)
        self._step, self._calls, self._before, self._norms = self._step + 1, 0, None, []

    @torch.no_grad()
    def _mark(self) -> None:
        with torch.autocast(self.parts.device.type, enabled=False):
            now = [None if p.grad is None else p.grad.detach().clone() for p in self._params]
            before = self._before or [None] * len(now)
            own = [g if b is None else g - b for g, b in zip(now, before, strict=True) if g is not None]
            total = measure(own, 2.0).total if own else torch.zeros((), device=self.parts.device)
            self._norms.append(total * (self.times / self.weight))
        self._before = now

    def taken(self, steps: Sequence[int]) -> list[list[float] | None]:
        """The norms of the batches of these steps, fetched from the device, and forgotten."""
        found = [self._steps.pop(step, None) for step in steps]
        return [None if norms is None else norms.tolist() for norms in found]


@torch.no_grad()
def _reduction(spec: Spec, device: torch.device) -> Reduction:
    """Whether the loss of two batches in one is the mean of theirs or their sum; "unknown" where they cannot be put together."""
    try:
        parts = build(spec, seed=spec.fields.seed, device=device)
        parts.model.eval()
        batches = iter(parts.data())
        first, second = to_device(next(batches), device), to_device(next(batches), device)
        one, other, both = (float(parts.batch_loss(parts.model, b)) for b in (first, second, _together(first, second)))
    except ClipcalError:
        raise
    except Exception:  # the user's code on a batch that it never saw
        return "unknown"
    sum_, mean = one + other, (one + other) / 2
    if abs(both - mean) <= NEAR * abs(mean):
        return "mean"
    return "sum" if abs(both - sum_) <= NEAR * abs(sum_) else "unknown"


def _together(a: Any, b: Any) -> Any:
    """Two batches as one, their tensors joined along the first dimension. Raises where they do not fit."""
    if isinstance(a, Tensor):
        return torch.cat([a, b])
    if isinstance(a, Mapping):
        return {k: _together(a[k], b[k]) for k in a}
    if isinstance(a, (list, tuple)):
        joined = [_together(x, y) for x, y in zip(a, b, strict=True)]
        return type(a)(*joined) if hasattr(a, "_fields") else type(a)(joined)
    if a is b or a == b:
        return a
    raise TypeError(f"two values of {type(a).__name__} make no batch")
