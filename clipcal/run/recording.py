"""Steps -> the files of a run. They are touched when there is something new to write, and not before: a run that is there
stays as it is until then."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from clipcal.errors import InputError, cannot_write
from clipcal.run.directory import Replacement, Run, RunInfo, Status, now, open_run
from clipcal.run.layers import RowsFile, rank_names
from clipcal.run.step import Step, repeats
from clipcal.run.trace import AppendOnly, Trace, lines_of, mend, read_trace, trace_of

OnSteps = Callable[[Sequence[Step]], None]


class Recording:
    """``write`` takes steps and their rows of per-tensor norms; ``close`` says how the run ended. The norms of ``num_ranks`` ranks are
    kept too, where the steps have them. On ``resume``, steps that are there are compared, and where their layers or ranks are not,
    those are written again. ``run`` is None until something was written. Raises InputError, on ``resume`` already here, where the run
    cannot be resumed or not be written."""

    def __init__(
        self,
        folder: Path,
        info: RunInfo,
        names: Sequence[str],
        *,
        resume: bool,
        force: bool,
        on_steps: OnSteps | None,
        num_ranks: int = 0,
    ) -> None:
        self.folder, self.info, self.names = folder, info, names
        self.run: Run | None = None
        self._force = force
        self._on_steps = on_steps or (lambda steps: None)
        self._known = _known_steps(folder, info) if resume else None
        self._trace: AppendOnly | None = None
        here = Run(folder, info)
        if self._known is not None:
            _refuse_to_resume(here)
        known = 0 if self._known is None else len(self._known)
        self._beside = [RowsFile(here.layers, names, info.norm_type, known=known)]
        if num_ranks:
            self._beside.append(RowsFile(here.ranks, rank_names(num_ranks), 2.0, known=known))

    def write(self, steps: Sequence[Step], rows: NDArray[np.float32]) -> None:
        known = 0
        if self._known is not None:
            known = sum(s.step < len(self._known) for s in steps)
            _compare(self._known, steps[:known], self.info.device)
            for file, part in self._rows(steps[:known], rows[:known]):
                file.repeat(part)
        if steps[known:]:
            self._append(steps[known:], rows[known:])
        self._on_steps(steps)

    def _rows(self, steps: Sequence[Step], rows: NDArray[np.float32]) -> Iterator[tuple[RowsFile, NDArray[np.float32]]]:
        """The files beside the trace, each with its rows of these steps."""
        yield self._beside[0], rows
        for file in self._beside[1:]:
            yield file, rank_rows(steps)

    def _append(self, steps: Sequence[Step], rows: NDArray[np.float32]) -> None:
        replacement = None
        if self._trace is None and self._known is not None:
            try:
                self.run = _reopen(self.folder, self.info, self._beside)
            except OSError as e:
                raise cannot_write(self.folder, e, "What was recorded before is kept.") from None
        elif self._trace is None:
            replacement = Replacement(self.folder, self.info, force=self._force)
        try:
            # the trace comes last: whatever instant a process is killed at, the others hold at least its steps
            for file, part in self._rows(steps, rows):
                file.append(part)
            self._trace = self._trace or AppendOnly(Run(self.folder, self.info).trace)
            self._trace.append(lines_of(steps))
        except BaseException:
            if replacement is not None:
                self._let_go()
                replacement.undo()
            raise
        if replacement is not None:
            replacement.keep()
            self.run = replacement.run

    def _let_go(self) -> None:
        for file in (*self._beside, self._trace):
            if file is not None:
                file.close()
        self._trace = None

    def close(self, status: Status, reason: str | None, notes: Sequence[str]) -> None:
        self._let_go()
        if self.run is not None:
            self.run = self.run.save(status=status, reason=reason, notes=list(notes), finished=now())


def rank_rows(steps: Sequence[Step]) -> NDArray[np.float32]:
    """The norms (steps, ranks) of the ranks' own gradients."""
    return np.array([step.rank_norms for step in steps], dtype=np.float32)


def _known_steps(folder: Path, info: RunInfo) -> Trace:
    """The steps of the run that is to be resumed. Raises InputError where it cannot be; touches nothing."""
    was = open_run(folder).info
    if was.fingerprint != info.fingerprint:
        raise InputError(
            f"{folder}: was profiled from another spec (or another --seed), so it cannot be resumed. "
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
        raise InputError(f"{path}: has lines that cannot be read, so it cannot be resumed. Profile again with --force.")
    if len(trace) >= info.steps or was.status == "stopped":
        raise InputError(
            f"{folder}: nothing is left to do ({len(trace)} steps, {was.status}). Ask for more with --steps, or go on "
            f"with `clipcal recommend {folder}`."
        )
    return trace


def _refuse_to_resume(run: Run) -> None:
    """Raise InputError where nothing can be written to a run, which its steps are trained again for. Leaves no trace."""
    try:
        tempfile.TemporaryFile(dir=run.folder).close()
    except OSError as e:
        raise cannot_write(run.folder, e) from None
    for path in (run.trace, run.layers, run.ranks):
        try:
            if path.exists():
                path.open("ab").close()
        except OSError as e:
            raise cannot_write(path, e) from None


def _reopen(folder: Path, info: RunInfo, beside: Sequence[RowsFile]) -> Run:
    """Make a run that was cut short ready to be appended to; what was read from its fewer steps goes."""
    run = open_run(folder)
    if run.trace.exists():
        mend(run.trace)
    for file in beside:
        file.cut()
    later_files = (run.recommendation, run.choice, run.verification, run.guarded, run.guarded_layers, run.guarded_ranks)
    for later in later_files:
        later.unlink(missing_ok=True)
    return run.save(steps=info.steps, source=info.source, status="running", reason=None, guard=None, finished=None)


def _compare(known: Trace, steps: Sequence[Step], device: str) -> None:
    """A resumed run trains its first steps again, and they must come out as they were."""
    for s in steps:
        was, now_ = float(known.grad_norm[s.step]), s.grad_norm
        if not repeats(was, now_, step=s.step, device=device):
            raise InputError(
                f"Step {s.step} does not repeat: its grad norm was {was:.9g} and is {now_:.9g} now, so the recorded steps and new "
                "ones are not one run. The code or the data changed, or they do not follow the seed. Profile again with --force."
            )
