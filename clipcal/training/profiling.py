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
from numpy.typing import NDArray

from clipcal._version import __version__
from clipcal.errors import ClipcalError, InputError
from clipcal.recommendation.evidence import guard_for
from clipcal.recommendation.guarding import OnGuard
from clipcal.run.directory import Run, RunInfo, Status, now, refuse_to_replace
from clipcal.run.layers import LayersWriter, rank_names
from clipcal.run.recording import OnSteps, Recording, rank_rows
from clipcal.run.step import Step
from clipcal.run.trace import AppendOnly, lines_of
from clipcal.sources.spec import Spec
from clipcal.sources.targets import importable_from
from clipcal.training.building import build, pick_device
from clipcal.training.gradnorm import ClipRule
from clipcal.training.loop import Parts, train
from clipcal.training.parallel.leading import parts_for
from clipcal.training.patience import PATIENCE, why_gone
from clipcal.training.recorder import Recorder


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
    before the first steps are there to be written. ``on_steps`` is called with steps after they are on disk. Raises SpecError, InputError or UserCodeError; what was recorded before is kept, and run.json says
    how the run ended.
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
            num_ranks=_ranks_with_norms(parts, spec),
        )
        run = _record(recording, parts, spec, should_stop)
        guard = guard_for(run)
        if guard is None:
            return run
        if on_guard:
            on_guard(guard)
        return _record_under(guard, run, spec, device, on_steps or (lambda steps: None), should_stop)


def _ranks_with_norms(parts: Parts, spec: Spec) -> int:
    """How many ranks have gradients of their own, whose norms are kept: a shard of a gradient is none."""
    return parts.ranks.world if parts.ranks is not None and spec.fields.parallel == "ddp" else 0


def _record_under(
    guard: float, run: Run, spec: Spec, device: torch.device, on_steps: OnSteps, should_stop: Callable[[], bool]
) -> Run:
    """Train the same arm clipped at ``guard``; its trace grows under another name and is the run's when whole.

    Raises KeyboardInterrupt where it was stopped: the unclipped trace is kept, and the guarded one is not.
    """
    clip = spec.fields.clip
    whole = [run.guarded_layers, run.guarded_ranks, run.guarded]
    growing = [path.with_name(path.name + ".partial") for path in whole]
    for path in growing:
        path.unlink(missing_ok=True)
    try:
        rule = ClipRule(method=clip.method, threshold=guard, norm_type=clip.norm_type)
        parts = parts_for(spec, seed=spec.fields.seed, device=device, rule=rule)
        num_ranks = _ranks_with_norms(parts, spec)
        layers = LayersWriter(growing[0], [n for n, _ in parts.named_tensors()], clip.norm_type)
        ranks = LayersWriter(growing[1], rank_names(num_ranks), 2.0) if num_ranks else None
        trace = AppendOnly(growing[2])

        def write(steps: Sequence[Step], rows: NDArray[np.float32]) -> None:
            layers.append(rows)
            if ranks is not None:
                ranks.append(rank_rows(steps))
            trace.append(lines_of(steps))
            on_steps(steps)

        recorder = Recorder(num_tensors=len(parts.named_tensors()), sink=write)
        closing_ranks = contextlib.nullcontext() if ranks is None else contextlib.closing(ranks)
        with contextlib.closing(layers), closing_ranks, contextlib.closing(trace):
            for observation in train(parts, steps=spec.fields.steps, norm_type=clip.norm_type, clip=rule):
                recorder.add(observation)
                if recorder.gone_at is not None:
                    break
                if observation.step + 1 < spec.fields.steps and should_stop():
                    raise KeyboardInterrupt
            recorder.flush()
        for path, name in zip(growing, whole, strict=True):
            if path.exists():
                os.replace(path, name)
    except BaseException:
        for path in growing:
            path.unlink(missing_ok=True)
        raise
    return run.save(guard=guard)


def _record(recording: Recording, parts: Parts, spec: Spec, should_stop: Callable[[], bool]) -> Run:
    recorder = Recorder(num_tensors=len(recording.names), sink=recording.write)
    steps = spec.fields.steps
    seen: set[int] = set()
    status: Status = "failed"
    reason: str | None = "the process ended in the middle of training"
    try:
        for observation in train(parts, steps=steps, norm_type=spec.fields.clip.norm_type):
            recorder.add(observation)
            seen.update(range(len(recording.names)) if observation.with_grad is None else observation.with_grad)
            if recorder.gone_at is not None:
                break
            if observation.step + 1 < steps and should_stop():
                status, reason = "interrupted", f"interrupted after step {observation.step}"
                break
        else:
            status, reason = "complete", None
        recorder.flush()
    except ClipcalError as e:
        reason = str(e).splitlines()[0]
        raise
    except KeyboardInterrupt:
        status, reason = "interrupted", "interrupted"
        raise
    finally:
        # after an error the first one counts, not what a full disk says to its record
        with contextlib.suppress(ClipcalError) if status == "failed" else contextlib.nullcontext():
            recorder.flush()
            if recorder.gone_at is not None:
                status = "stopped"
                reason = why_gone(recorder.gone_at)
            recording.close(status, reason, [*parts.notes, *_without_gradient(recording.names, seen)])
    if recording.run is None:
        if status == "interrupted":
            raise KeyboardInterrupt
        raise InputError("No step was trained, so there is nothing to record; let at least one step finish.")
    if recorder.gone_at == 0:
        raise InputError(
            _why_nan_from_the_start(spec, parts) + f" The {PATIENCE} steps that were tried are in {recording.folder}."
        )
    return recording.run


def _without_gradient(names: Sequence[str], seen: set[int]) -> list[str]:
    never = [n for i, n in enumerate(names) if i not in seen]
    if not never:
        return []
    listed = ", ".join(never[:3]) + (", ..." if len(never) > 3 else "")
    return [
        f"{len(never)} of {len(names)} parameter tensors never got a gradient ({listed}): frozen, or not used by the loss"
    ]


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
