"""Script -> run directory: run it with clipping off, and keep what every step measured."""

from __future__ import annotations

import platform
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from clipcal._version import __version__
from clipcal.errors import UserCodeError
from clipcal.run.directory import Run, RunInfo, Status, now, refuse_to_replace
from clipcal.run.recording import Recording
from clipcal.run.step import Step
from clipcal.run.trace import read_trace
from clipcal.scripts import findings
from clipcal.scripts.child.session import Config
from clipcal.scripts.gathering import Gathering, Rows
from clipcal.scripts.running import Ending, ended, hint, run
from clipcal.sources.script import Script, from_source
from clipcal.training.keeping import End, Growing, Profiling, ending, with_guard
from clipcal.training.patience import Patience, is_finite

HELD = 10
"""Steps that are held back before anything is written: a script that clips by hand shows itself in them."""


def profile(script: Script, folder: Path | str, how: Profiling) -> Run:
    """Run the script without clipping and record it in ``folder``, as ``clipcal.training.profiling.profile`` does a spec.

    Where it is lost too early, it is run once more under a temporary guard. Raises InputError where the script cannot be watched,
    UserCodeError where it fails; what was recorded before is kept.
    """
    folder = Path(folder)
    if not how.resume:
        refuse_to_replace(folder, force=how.force)
    keeper = _Keeper(script, folder, how)
    with ending(keeper.patience, keeper.close) as end:
        config, stop = Config(steps=script.steps, optimizer=script.optimizer), how.should_stop
        watched = run(script, config, seed=script.seed, on_rows=keeper.take, should_stop=stop, patience=keeper.patience)
        keeper.flush(watched.gathering)
        end.status, end.reason = _status(script, watched, keeper, asked=how.should_stop())
        keeper.notes = watched.notes
    made = keeper.run
    assert made is not None, "a script without a step is refused before"
    if end.status == "failed":
        raise UserCodeError(f"`{script.shown()}` {end.reason}. Its steps are kept in {folder}.{hint(script)}")

    def train_under(guard: float, growing: Growing) -> None:
        """The same script, clipped at ``guard``. Raises KeyboardInterrupt where it was stopped."""
        picked = from_source(made.info.source)
        config = Config(steps=picked.steps, optimizer=picked.optimizer, max_norm=guard)

        def write(gathering: Gathering, steps: Sequence[Step], rows: Rows) -> None:
            growing.names = gathering.lead["names"]
            growing.write(steps, rows)

        watched = run(picked, config, seed=picked.seed, on_rows=write, should_stop=how.should_stop, patience=Patience())
        if how.should_stop() and watched.steps < picked.steps:
            raise KeyboardInterrupt

    return with_guard(made, how.on_guard, how.on_steps, train_under)


def _status(script: Script, watched: Ending, keeper: _Keeper, *, asked: bool) -> tuple[Status, str | None]:
    if asked and watched.steps < script.steps:
        return "interrupted", f"interrupted after step {watched.steps - 1}"
    if watched.failed and watched.code is not None:
        how = ended(watched.code)
        if keeper.last is not None and not is_finite(keeper.last):  # many scripts raise an error then
            last = watched.steps - 1
            return "stopped", f"the script {how} when its loss or its gradients were not finite, after step {last}"
        return "failed", f"{how} after {watched.steps} of {script.steps} steps"
    if watched.steps < script.steps and keeper.patience.gone_at is None:
        watched.notes.append(f"{script.path} ended by itself after {watched.steps} of {script.steps} steps")
    return "complete", None


class _Keeper:
    """Steps as they are gathered -> the run directory, from the moment on that the script is known to be one that can be read."""

    def __init__(self, script: Script, folder: Path, how: Profiling) -> None:
        self.script, self.folder = script, folder
        self.patience = Patience()
        self.last: Step | None = None
        self.notes: list[str] = []
        self.run: Run | None = None
        self._how = how
        self._recording: Recording | None = None
        self._gathering: Gathering | None = None
        self._held: list[tuple[Sequence[Step], Rows]] = []

    def take(self, gathering: Gathering, steps: Sequence[Step], rows: Rows) -> None:
        self.last = steps[-1]
        self._held.append((steps, rows))
        if gathering.given >= HELD or self.patience.gone_at is not None:
            self.flush(gathering)

    def flush(self, gathering: Gathering) -> None:
        if not self._held:
            return
        self._gathering = gathering
        findings.check_changes(self.script, gathering)
        if self._recording is None:
            self._recording = Recording(
                self.folder,
                info_of(self.script, self.folder, gathering, self._how.command),
                gathering.lead["names"],
                resume=self._how.resume,
                force=self._how.force,
                on_steps=self._how.on_steps,
            )
        held, self._held = self._held, []
        for steps, rows in held:
            self._recording.write(steps, rows)

    def close(self, end: End) -> None:
        if self._recording is None or self._gathering is None:
            return
        own: list[str] = []
        if self._recording.run is not None:
            own = findings.notes_on(self.script, self._gathering, read_trace(self._recording.run.trace))
        self._recording.close(end.status, end.reason, [*own, *self.notes])
        made = self._recording.run
        if made is None:
            return
        picked = replace(self.script, optimizer=int(self._gathering.lead["number"]))
        ended_by_itself = end.status == "complete" and self._gathering.given < self.script.steps
        self.run = made.save(
            source=picked.source().changed(framework=findings.framework(self._gathering)),
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
