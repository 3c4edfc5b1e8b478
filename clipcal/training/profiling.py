"""Spec -> run directory: train with clipping off, and keep what every step measured."""

from __future__ import annotations

import contextlib
import os
import platform
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from clipcal._version import __version__
from clipcal.errors import InputError
from clipcal.recommendation.guarding import OnGuard
from clipcal.run.directory import Run, RunInfo, now, refuse_to_replace
from clipcal.run.recording import OnSteps, Recording
from clipcal.sources.spec import Spec
from clipcal.sources.targets import importable_from
from clipcal.training.building import build, pick_device
from clipcal.training.gradnorm import ClipRule
from clipcal.training.keeping import Growing, ending, with_guard
from clipcal.training.loop import Parts
from clipcal.training.parallel.leading import parts_for
from clipcal.training.patience import PATIENCE, Patience
from clipcal.training.recorder import run_arm


def default_threads() -> int:
    """Half the cores, so that two arms of a verification run side by side and every arm, this one included, has the same
    number: the order of summation, and with it the last bits of a run, depends on it. OMP_NUM_THREADS is honoured."""
    threads = torch.get_num_threads()
    return threads if "OMP_NUM_THREADS" in os.environ else max(1, threads // 2)


@contextlib.contextmanager
def num_threads(threads: int) -> Iterator[None]:
    """Let torch compute with so many threads inside the block, and with its own number again after it."""
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def environment() -> dict[str, Any]:
    """The versions and the machine that a run depends on."""
    return {
        "versions": {
            "clipcal": __version__,
            "python": platform.python_version(),
            "torch": torch.__version__,
            "numpy": np.__version__,
        },
        "platform": f"{platform.platform()} {torch.backends.cpu.get_cpu_capability()}",
    }


def was_made_here(info: RunInfo, device: str) -> bool:
    """Whether a run is from this machine, with these versions, and on this device: its steps would come out again."""
    return environment() == {"versions": info.versions, "platform": info.platform} and info.device == device


def profile(
    spec: Spec,
    folder: Path | str,
    *,
    force: bool = False,
    resume: bool = False,
    threads: int | None = None,
    on_steps: OnSteps | None = None,
    on_guard: OnGuard | None = None,
    should_stop: Callable[[], bool] = lambda: False,
    command: Sequence[str] = (),
) -> Run:
    """Train the spec's arm without clipping and record it in ``folder``.

    Where it is lost too early to read a threshold from, it is trained once more under a temporary guard, and the norms
    before clipping are recorded beside the first; ``on_guard`` is told the guard before. Nothing in ``folder`` is touched
    before the first steps are there to be written. ``on_steps`` is called with steps after they are on disk. Raises SpecError,
    InputError or UserCodeError; what was recorded before is kept, and run.json says how the run ended.
    """
    folder = Path(folder)
    if not resume:
        refuse_to_replace(folder, force=force)
    device = pick_device(spec.fields.device)
    with num_threads(threads or default_threads()), importable_from([spec.folder, spec.cwd]):
        parts = parts_for(spec, seed=spec.fields.seed, device=device)
        tensors = parts.named_tensors()
        info = RunInfo(
            name=spec.name,
            source=spec.source(),
            fingerprint=spec.fingerprint,
            steps=spec.fields.steps,
            seeds=[spec.fields.seed],
            device=str(device),
            threads=torch.get_num_threads(),
            world_size=1 if parts.ranks is None else parts.ranks.world,
            method=spec.fields.clip.method,
            norm_type=spec.fields.clip.norm_type,
            num_parameters=sum(p.numel() for _, p in tensors),
            command=list(command),
            started=now(),
            **environment(),
        )
        recording = Recording(
            folder,
            info,
            [n for n, _ in tensors],
            resume=resume,
            force=force,
            on_steps=on_steps,
            # a shard of a gradient is no gradient of a rank's own
            num_ranks=info.world_size if spec.fields.parallel == "ddp" else 0,
        )
        run = _record(recording, parts, spec, should_stop)

        def train_under(guard: float, growing: Growing) -> None:
            """The same arm, clipped at ``guard``. Raises KeyboardInterrupt where it was stopped."""
            rule = ClipRule(method=info.method, threshold=guard, norm_type=info.norm_type)
            clipped = parts_for(spec, seed=spec.fields.seed, device=device, rule=rule)
            growing.names = recording.names
            end = run_arm(clipped, rule, growing.write, should_stop, steps=info.steps, norm_type=info.norm_type)
            if end.status == "interrupted":
                raise KeyboardInterrupt

        return with_guard(run, on_guard, on_steps, train_under)


def _record(recording: Recording, parts: Parts, spec: Spec, should_stop: Callable[[], bool]) -> Run:
    patience, norm_type = Patience(), spec.fields.clip.norm_type
    with ending(patience, lambda end: recording.close(end.status, end.reason, parts.notes)) as end:
        made = run_arm(
            parts, None, recording.write, should_stop, steps=spec.fields.steps, norm_type=norm_type, patience=patience
        )
        end.status, end.reason = made.status, made.reason
    if recording.run is None:
        if end.status == "interrupted":
            raise KeyboardInterrupt
        raise InputError("No step was trained, so there is nothing to record; let at least one step finish.")
    if patience.gone_at == 0:
        raise InputError(
            _why_nan_from_the_start(spec, parts) + f" The {PATIENCE} steps that were tried are in {recording.folder}."
        )
    return recording.run


def _why_nan_from_the_start(spec: Spec, parts: Parts) -> str:
    """Look where the first non-finite number comes from: the data, the initial weights, or what the model makes of them."""
    text = "The loss is not finite from the first step on, before any update, so no threshold can help."
    fresh = build(spec, seed=spec.fields.seed, device=parts.device)
    for place, tensor in _floats_in(next(iter(fresh.data())), "batch"):
        if not tensor.numel():
            return f"{text} The first batch has no element in {place}, of shape {tuple(tensor.shape)}: check its batch_size."
        bad = int((~torch.isfinite(tensor)).sum())
        if bad:
            return f"{text} The first batch holds {bad} non-finite value{'s' * (bad > 1)} in {place}, of shape {tuple(tensor.shape)}: clean the data."
    for name, p in fresh.model.named_parameters():
        if not bool(torch.isfinite(p).all()):
            return f"{text} The initial weights of {name} are not finite: check the initialisation."
    return f"{text} Data and initial weights are finite: look for a log or a division of zero, or an overflow, in the model or the loss."


def _floats_in(value: Any, place: str) -> list[tuple[str, torch.Tensor]]:
    if isinstance(value, torch.Tensor):
        return [(place, value)] if value.is_floating_point() else []
    items = value.items() if hasattr(value, "items") else enumerate(value) if isinstance(value, (list, tuple)) else ()
    return [found for k, v in items for found in _floats_in(v, f"{place}[{k!r}]")]
