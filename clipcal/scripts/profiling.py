"""Script -> run directory: run it with clipping off, and keep what every step measured."""

from __future__ import annotations

import contextlib
import math
import os
import platform
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from clipcal._version import __version__
from clipcal.errors import ClipcalError, UserCodeError
from clipcal.recommendation.evidence import guard_for
from clipcal.recommendation.guarding import OnGuard
from clipcal.run.directory import Run, RunInfo, Status, now, refuse_to_replace
from clipcal.run.layers import LayersWriter
from clipcal.run.recording import OnSteps, Recording
from clipcal.run.step import TORCH_ADDS, Step
from clipcal.run.trace import AppendOnly, lines_of, read_trace
from clipcal.scripts import findings
from clipcal.scripts.child.session import Config
from clipcal.scripts.gathering import Gathering, Rows
from clipcal.scripts.running import Ending, ended, hint, run
from clipcal.sources.script import Script
from clipcal.training.patience import Patience, why_gone

HELD = 10
"""Steps that are held back before anything is written: a script that clips by hand shows itself in them."""


def profile(
    script: Script,
    folder: Path | str,
    *,
    force: bool = False,
    resume: bool = False,
    on_steps: OnSteps | None = None,
    on_guard: OnGuard | None = None,
    should_stop: Callable[[], bool] = lambda: False,
    command: Sequence[str] = (),
) -> Run:
    """Run the script without clipping and record it in ``folder``, as ``clipcal.training.profiling.profile`` does a spec.

    Where it is lost too early, it is run once more under a temporary guard. Raises InputError where the script cannot be watched,
    UserCodeError where it fails; what was recorded before is kept.
    """
    folder = Path(folder)
    if not resume:
        refuse_to_replace(folder, force=force)
    keeper = _Keeper(script, folder, resume=resume, force=force, on_steps=on_steps, command=command)
    status: Status = "failed"
    reason: str | None = "the process ended in the middle of training"
    notes: list[str] = []
    try:
        ending = run(
            script,
            Config(steps=script.steps, optimizer=script.optimizer),
            seed=script.seed,
            on_rows=keeper.take,
            should_stop=lambda: should_stop() or keeper.is_lost,
        )
        keeper.flush(ending.gathering)
        status, reason = _status(script, ending, keeper, asked=should_stop())
        notes = ending.notes
    except ClipcalError as e:
        reason = str(e).splitlines()[0]
        raise
    except KeyboardInterrupt:
        status, reason = "interrupted", "interrupted"
        raise
    finally:
        with contextlib.suppress(ClipcalError) if status == "failed" else contextlib.nullcontext():
            made = keeper.close(status, reason, notes)
    assert made is not None, "a script without a step is refused before"
    if status == "failed":
        raise UserCodeError(f"`{script.shown()}` {reason}. Its steps are kept in {folder}.{hint(script)}")
    guard = guard_for(made)
    if guard is None:
        return made
    if on_guard:
        on_guard(guard)
    return _profile_under(guard, made, on_steps or (lambda steps: None), should_stop)


def _status(script: Script, ending: Ending, keeper: _Keeper, *, asked: bool) -> tuple[Status, str | None]:
    if keeper.is_lost:
        return "stopped", why_gone(keeper.patience.gone_at)
    if asked and ending.steps < script.steps:
        return "interrupted", f"interrupted after step {ending.steps - 1}"
    if ending.failed and keeper.ends_badly and ending.code is not None:
        return (
            "stopped",
            f"the script {ended(ending.code)} when its loss or its gradients were not finite, after step {ending.steps - 1}",
        )
    if ending.failed and ending.code is not None:
        return "failed", f"{ended(ending.code)} after {ending.steps} of {script.steps} steps"
    if ending.steps < script.steps:
        ending.notes.append(f"{script.path} ended by itself after {ending.steps} of {script.steps} steps")
    return "complete", None


class _Keeper:
    """Steps as they are gathered -> the run directory, from the moment on that the script is known to be one that can be read."""

    def __init__(
        self,
        script: Script,
        folder: Path,
        *,
        resume: bool,
        force: bool,
        on_steps: OnSteps | None,
        command: Sequence[str],
    ) -> None:
        self.script, self.folder = script, folder
        self.patience = Patience()
        self._options: dict[str, Any] = {"resume": resume, "force": force, "on_steps": on_steps}
        self._command = list(command)
        self._recording: Recording | None = None
        self._gathering: Gathering | None = None
        self._last: Step | None = None
        self._held: list[tuple[Sequence[Step], Rows]] = []

    @property
    def is_lost(self) -> bool:
        return self.patience.gone_at is not None

    @property
    def ends_badly(self) -> bool:
        """Whether the last step was not finite: many scripts end with an error then, which is their training's fault."""
        last = self._last
        return last is not None and not (math.isfinite(last.loss) and math.isfinite(last.grad_norm))

    def take(self, gathering: Gathering, steps: Sequence[Step], rows: Rows) -> None:
        kept = self.patience.kept(steps)
        if kept:
            self._last = steps[kept - 1]
            self._held.append((steps[:kept], rows[:kept]))
        if gathering.given >= HELD or self.is_lost:
            self.flush(gathering)

    def flush(self, gathering: Gathering) -> None:
        if not self._held:
            return
        self._gathering = gathering
        findings.check_changes(self.script, gathering)
        if self._recording is None:
            info = info_of(self.script, self.folder, gathering, self._command)
            self._recording = Recording(self.folder, info, gathering.lead["names"], **self._options)
        held, self._held = self._held, []
        for steps, rows in held:
            self._recording.write(steps, rows)

    def close(self, status: Status, reason: str | None, notes: Sequence[str]) -> Run | None:
        if self._recording is None or self._gathering is None:
            return None
        own: list[str] = []
        if self._recording.run is not None:
            own = findings.notes_on(self.script, self._gathering, read_trace(self._recording.run.trace))
        self._recording.close(status, reason, [*own, *notes])
        made = self._recording.run
        if made is None:
            return None
        picked = replace(self.script, optimizer=int(self._gathering.lead["number"]))
        ended_by_itself = status == "complete" and self._gathering.given < self.script.steps
        return made.save(
            source=picked.source() | {"framework": findings.framework(self._gathering)},
            in_use=findings.in_use(self._gathering),
            steps=self._gathering.given if ended_by_itself else self.script.steps,
        )


def info_of(script: Script, folder: Path, gathering: Gathering, command: Sequence[str]) -> RunInfo:
    """What run.json says of a script, in the words of the process that trained."""
    lead = gathering.lead
    return RunInfo(
        name=folder.name,
        source=script.source(),
        fingerprint=script.fingerprint,
        steps=script.steps,
        seeds=[script.seed],
        device=str(lead["device"]),
        threads=int(lead["threads"]),
        world_size=gathering.world,
        num_parameters=int(lead["num_parameters"]),
        versions={"clipcal": __version__} | dict(lead["versions"]),
        platform=f"{platform.platform()} {lead['capability']}",
        command=list(command),
        started=now(),
    )


def _profile_under(guard: float, made: Run, on_steps: OnSteps, should_stop: Callable[[], bool]) -> Run:
    """Run the same script clipped at ``guard``; its trace grows under another name and is the run's when whole."""
    from clipcal.sources.script import from_source

    script = from_source(made.info.source)
    growing = [path.with_name(path.name + ".partial") for path in (made.guarded_layers, made.guarded)]
    for path in growing:
        path.unlink(missing_ok=True)
    patience, files = Patience(), contextlib.ExitStack()
    layers: LayersWriter | None = None
    trace: AppendOnly | None = None

    def write(gathering: Gathering, steps: Sequence[Step], rows: Rows) -> None:
        nonlocal layers, trace
        kept = patience.kept(steps)
        if not kept:
            return
        if layers is None or trace is None:
            layers = files.enter_context(contextlib.closing(LayersWriter(growing[0], gathering.lead["names"], 2.0)))
            trace = files.enter_context(contextlib.closing(AppendOnly(growing[1])))
        clipped = [clipped_at(guard, s) for s in steps[:kept]]
        layers.append(rows[:kept])
        trace.append(lines_of(clipped))
        on_steps(clipped)

    try:
        with files:
            ending = run(
                script,
                Config(steps=script.steps, optimizer=script.optimizer, max_norm=guard),
                seed=script.seed,
                on_rows=write,
                should_stop=lambda: should_stop() or patience.gone_at is not None,
            )
        if should_stop() and ending.steps < script.steps:
            raise KeyboardInterrupt
        for path, whole in zip(growing, (made.guarded_layers, made.guarded), strict=True):
            os.replace(path, whole)
    except BaseException:
        for path in growing:
            path.unlink(missing_ok=True)
        raise
    return made.save(guard=guard)


def clipped_at(max_norm: float, step: Step) -> Step:
    """The step, with the factor by which torch's clip_grad_norm_ scaled it."""
    factor = max_norm / (step.grad_norm + TORCH_ADDS)
    return replace(step, scale=min(1.0, factor) if factor == factor else factor)
