"""Spec -> run directory: train with clipping off, and keep what every step measured."""

from __future__ import annotations

import contextlib
import math
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
from clipcal.evidence import load
from clipcal.gradnorm import ClipRule
from clipcal.guarding import guard_of, needs_guard
from clipcal.layers import LayersWriter, keep_rows
from clipcal.recorder import PATIENCE, Recorder
from clipcal.rundir import Replacement, Run, RunInfo, Status, now, open_run, refuse_to_replace
from clipcal.runners.spec import build, pick_device
from clipcal.spec import Spec
from clipcal.targets import importable_from
from clipcal.trace import AppendOnly, Step, Trace, lines_of, mend, read_trace, trace_of
from clipcal.training import Parts, train

OnSteps = Callable[[Sequence[Step]], None]
OnGuard = Callable[[float], None]


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
        parts = build(spec, seed=spec.fields.seed, device=device)
        tensors = parts.named_tensors()
        info = RunInfo(
            name=spec.name,
            source=spec.source(),
            fingerprint=spec.fingerprint,
            steps=spec.fields.steps,
            seeds=[spec.fields.seed],
            device=str(device),
            threads=torch.get_num_threads(),
            method=spec.fields.clip.method,
            norm_type=spec.fields.clip.norm_type,
            num_parameters=sum(p.numel() for _, p in tensors),
            command=list(command),
            started=now(),
            **environment(),
        )
        recording = _Recording(folder, info, [n for n, _ in tensors], resume=resume, force=force, on_steps=on_steps)
        run = _record(recording, parts, spec, should_stop)
        guard = guard_for(run)
        if guard is None:
            return run
        if on_guard:
            on_guard(guard)
        return _record_under(guard, run, spec, device, on_steps or (lambda steps: None), should_stop)


def guard_for(run: Run) -> float | None:
    """The guard to profile again under; None where the run that is there says enough, or is not finished."""
    if run.info.status not in ("complete", "stopped") or run.info.guard is not None:
        return None
    evidence = load(run.folder)
    return guard_of(evidence.norms) if needs_guard(evidence.recommend()) else None


def _record_under(
    guard: float, run: Run, spec: Spec, device: torch.device, on_steps: OnSteps, should_stop: Callable[[], bool]
) -> Run:
    """Train the same arm clipped at ``guard``; its trace grows under another name and is the run's when whole.

    Raises KeyboardInterrupt where it was stopped: the unclipped trace is kept, and the guarded one is not.
    """
    clip = spec.fields.clip
    growing = [path.with_name(path.name + ".partial") for path in (run.guarded_layers, run.guarded)]
    for path in growing:
        path.unlink(missing_ok=True)
    try:
        parts = build(spec, seed=spec.fields.seed, device=device)
        layers = LayersWriter(growing[0], [n for n, _ in parts.named_tensors()], clip.norm_type)
        trace = AppendOnly(growing[1])

        def write(steps: Sequence[Step], rows: NDArray[np.float32]) -> None:
            layers.append(rows)
            trace.append(lines_of(steps))
            on_steps(steps)

        recorder = Recorder(num_tensors=len(parts.named_tensors()), sink=write)
        rule = ClipRule(method=clip.method, threshold=guard, norm_type=clip.norm_type)
        with contextlib.closing(layers), contextlib.closing(trace):
            for observation in train(parts, steps=spec.fields.steps, norm_type=clip.norm_type, clip=rule):
                recorder.add(observation)
                if recorder.gone_at is not None:
                    break
                if observation.step + 1 < spec.fields.steps and should_stop():
                    raise KeyboardInterrupt
            recorder.flush()
        for path, whole in zip(growing, (run.guarded_layers, run.guarded), strict=True):
            os.replace(path, whole)
    except BaseException:
        for path in growing:
            path.unlink(missing_ok=True)
        raise
    return run.save(guard=guard)


def _record(recording: _Recording, parts: Parts, spec: Spec, should_stop: Callable[[], bool]) -> Run:
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
                reason = f"the loss or the gradients were not finite for {PATIENCE} steps from step {recorder.gone_at}"
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


class _Recording:
    """The files of one profile. They are touched when there is something new to write, and not before: a run that is there
    stays as it is until then. On ``resume``, steps that are there are compared."""

    def __init__(
        self, folder: Path, info: RunInfo, names: Sequence[str], *, resume: bool, force: bool, on_steps: OnSteps | None
    ) -> None:
        self.folder, self.info, self.names = folder, info, names
        self.run: Run | None = None
        self._force = force
        self._on_steps = on_steps or (lambda steps: None)
        self._known = _known_steps(folder, info) if resume else None
        self._layers: LayersWriter | None = None
        self._trace: AppendOnly | None = None

    def write(self, steps: Sequence[Step], rows: NDArray[np.float32]) -> None:
        known = 0
        if self._known is not None:
            known = sum(s.step < len(self._known) for s in steps)
            _compare(self._known, steps[:known], self.info.device)
        if steps[known:]:
            self._append(steps[known:], rows[known:])
        self._on_steps(steps)

    def _append(self, steps: Sequence[Step], rows: NDArray[np.float32]) -> None:
        if self._trace is not None and self._layers is not None:
            self._layers.append(rows)
            self._trace.append(lines_of(steps))
        elif self._known is not None:
            self.run = _reopen(self.folder, self.info, len(self._known))
            self._open_and_append(self.run, steps, rows)
        else:
            replacement = Replacement(self.folder, self.info, force=self._force)
            try:
                self._open_and_append(replacement.run, steps, rows)
            except BaseException:
                replacement.undo()
                raise
            replacement.keep()
            self.run = replacement.run

    def _open_and_append(self, run: Run, steps: Sequence[Step], rows: NDArray[np.float32]) -> None:
        # the layers come first: whatever instant a process is killed at, they hold at least the trace's steps
        self._layers = LayersWriter(run.layers, self.names, self.info.norm_type)
        self._layers.append(rows)
        self._trace = AppendOnly(run.trace)
        self._trace.append(lines_of(steps))

    def close(self, status: Status, reason: str | None, notes: Sequence[str]) -> None:
        for file in (self._layers, self._trace):
            if file is not None:
                file.close()
        if self.run is not None:
            self.run = self.run.save(status=status, reason=reason, notes=list(notes), finished=now())


def _known_steps(folder: Path, info: RunInfo) -> Trace:
    """The steps of the run that is to be gone on with. Raises InputError where it cannot be; touches nothing."""
    was = open_run(folder).info
    if was.fingerprint != info.fingerprint:
        raise InputError(
            f"{folder}: was profiled from another spec (or another --seed), so it cannot be gone on with. "
            "Profile into another directory with --out, or replace it with --force."
        )
    if was.environment != info.environment:
        raise InputError(
            f"{folder}: was profiled on another device, number of threads, machine or version, so its steps would not repeat. "
            "Profile into another directory with --out, or replace it with --force."
        )
    path = Run(folder, was).trace
    trace = read_trace(path) if path.exists() and b"\n" in path.read_bytes() else trace_of([])
    if not np.array_equal(trace.step, np.arange(len(trace))):
        raise InputError(
            f"{path}: has lines that cannot be read, so its steps cannot be gone on with. Profile again with --force."
        )
    if len(trace) >= info.steps or was.status == "stopped":
        raise InputError(
            f"{folder}: nothing is left to do ({len(trace)} steps, {was.status}). Ask for more with --steps, or go on "
            f"with `clipcal recommend {folder}`."
        )
    return trace


def _reopen(folder: Path, info: RunInfo, known: int) -> Run:
    """Make a run that was cut short ready to be appended to; what was read from its fewer steps goes."""
    run = open_run(folder)
    if run.trace.exists():
        mend(run.trace)
    if known and run.layers.exists():
        keep_rows(run.layers, known)
    else:
        run.layers.unlink(missing_ok=True)
    for later in (run.recommendation, run.choice, run.verification, run.guarded, run.guarded_layers):
        later.unlink(missing_ok=True)
    return run.save(steps=info.steps, source=info.source, status="running", reason=None, guard=None, finished=None)


def _compare(known: Trace, steps: Sequence[Step], device: str) -> None:
    """A resumed run trains its first steps again; on the CPU they must come out as they were, bit for bit."""
    tolerance = 0.0 if device == "cpu" else 1e-2
    for s in steps:
        was, now_ = float(known.grad_norm[s.step]), s.grad_norm
        if not (was == now_ or (math.isnan(was) and math.isnan(now_)) or math.isclose(was, now_, rel_tol=tolerance)):
            raise InputError(
                f"Step {s.step} does not repeat: its grad norm was {was:.9g} and is {now_:.9g} now, so the recorded steps and new "
                "ones are not one run. The code or the data changed, or they do not follow the seed. Profile again with --force."
            )


def summary(run: Run) -> dict[str, Any]:
    """What a profile came to, in a few numbers."""
    trace = read_trace(run.trace)
    finite = np.where(np.isfinite(trace.grad_norm), trace.grad_norm, -np.inf)
    largest = int(np.argmax(finite))
    any_finite = bool(np.isfinite(trace.grad_norm).any())
    return {
        "schema": "clipcal.profile/1",
        "run": str(run.folder),
        "status": run.info.status,
        "reason": run.info.reason,
        "steps": len(trace),
        "median": float(np.median(trace.grad_norm[np.isfinite(trace.grad_norm)])) if any_finite else math.nan,
        "largest": float(trace.grad_norm[largest]) if any_finite else math.nan,
        "largest_step": int(trace.step[largest]),
        "notes": run.info.notes,
    }
