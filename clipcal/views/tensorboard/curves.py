"""Steps as they are recorded, of a profile and of arms -> TensorBoard runs that lie over each other: DIR/<run>/unclipped and
DIR/<run>/<arm>-seed<K>."""

from __future__ import annotations

import contextlib
import json
import os
import shlex
import tempfile
import time
from collections.abc import Callable, Collection, Sequence
from pathlib import Path

from clipcal.arms.pool import Arm, OnPlan, OnProgress, Progress
from clipcal.errors import InputError
from clipcal.recommendation.answer import Recommendation
from clipcal.recommendation.guarding import OnGuard
from clipcal.run.directory import Run, is_run
from clipcal.run.jsonfile import number
from clipcal.run.step import Step
from clipcal.views.tensorboard import files
from clipcal.views.tensorboard.files import EventFile
from clipcal.views.words import headline

OnSteps = Callable[[Sequence[Step]], None]
UNCLIPPED, GUARDED = "unclipped", "guarded"
TEXT = "clipcal/recommendation"


class Board:
    """The curves of the run in ``folder``, in a folder of its name in ``logdir``.

    What clipcal wrote there of an earlier profile, or of an arm that is trained again, goes when the first new step is there;
    files of others are left alone. Raises InputError where the package is missing, ``logdir`` cannot be written, or holds the
    curves of another run. Later nothing raises: a write that fails ends the curves and not the training, and ``say`` is told.
    """

    def __init__(self, logdir: Path, folder: Path, say: Callable[[str], None]) -> None:
        files.messages()
        # absolute: the user's code may change the working directory
        self._run = Path(os.path.abspath(folder))
        self._home = Path(os.path.abspath(logdir)) / self._run.name
        self._logdir = shlex.quote(str(logdir))
        self._say = say
        self._open: dict[str, EventFile] = {}
        self._growing: dict[str, _Growing] = {}
        self._written: set[str] = set()
        self._profiled = UNCLIPPED
        self._lost = False
        _refuse(logdir, self._home, self._run)

    def of_profile(self, on_steps: OnSteps, on_guard: OnGuard) -> tuple[OnSteps, OnGuard]:
        """What a profile is to call instead, so that its steps are written too."""

        def steps(new: Sequence[Step]) -> None:
            on_steps(new)
            self._try(self._profile, new)

        def guard(value: float) -> None:
            on_guard(value)
            self._profiled = f"{GUARDED}-max_norm={value:.6g}"

        return steps, guard

    def of_arms(self, run: Run, on_plan: OnPlan, on_progress: OnProgress) -> tuple[OnPlan, OnProgress]:
        """What trials are to call instead: arms that are there already are written at once, the others as their traces grow."""

        def plan(todo: Sequence[Arm], there: Sequence[Arm]) -> None:
            on_plan(todo, there)
            self._try(self._plan, run, todo, there)

        def progress(told: Progress) -> None:
            on_progress(told)
            self._try(self._follow, _name(told.arm), run.arm(told.arm.name, told.arm.seed), told.done)

        return plan, progress

    def recommend(self, r: Recommendation) -> None:
        """Write the threshold and its reasons as a text beside the unclipped curves, where those were written."""
        head = headline(r)
        text = "\n\n".join([f"**{head.line}**", head.below, "\n".join(f"- {reason}" for reason in r.reasons)])
        if UNCLIPPED in self._open:
            # a reader of event files takes "max_norm=1" in a text for the threshold that was in use
            self._try(self._open[UNCLIPPED].text, TEXT, text.replace("max_norm=", "max_norm "))

    def close(self) -> None:
        """Write what is left, of arms that were not finished too."""
        self._try(self._write_rest)
        self._shut()

    def _try(self, write: Callable[..., None], *given: object) -> None:
        if self._lost:
            return
        try:
            write(*given)
        except (OSError, InputError, ValueError) as e:
            self._lost = True
            self._shut()
            cause = e.__context__ if isinstance(e, InputError) else e
            why = getattr(cause, "strerror", None) or cause
            self._say(
                f"note: {self._home}: cannot be written ({why}), so the curves for TensorBoard end here. The training goes on, "
                "and the run directory keeps its steps."
            )

    def _shut(self) -> None:
        for file in self._open.values():
            with contextlib.suppress(OSError):
                file.close()
        self._open.clear()
        self._growing.clear()

    def _profile(self, new: Sequence[Step]) -> None:
        if not self._written:
            self._drop_all_but({UNCLIPPED, *self._arms()})  # an earlier profile's arms are gone with it
        self._add(self._profiled, new, time.time())

    def _plan(self, run: Run, todo: Sequence[Arm], there: Sequence[Arm]) -> None:
        profiles = {UNCLIPPED, *(p.name for p in self._home.glob(f"{GUARDED}-*"))}
        self._drop_all_but(self._arms() | profiles | {_name(a) for a in todo})
        for arm in there:
            path = run.arm(arm.name, arm.seed)
            # an arm that is there without a trace of its own is the profile
            name, path = (_name(arm), path) if path.exists() else (UNCLIPPED, run.trace)
            if name not in self._written:
                self._add(name, *_Growing(path).read())

    def _follow(self, name: str, path: Path, done: bool) -> None:
        growing = self._growing.setdefault(name, _Growing(path))
        self._add(name, *growing.read())
        if done:
            self._growing.pop(name)
            if file := self._open.pop(name, None):
                file.finish()
                file.close()

    def _add(self, name: str, steps: Sequence[Step], ended: float) -> None:
        if not steps:
            return
        if name not in self._open:
            files.remove(self._home / name, replaced=True)
            self._open[name] = EventFile(self._home / name, str(self._run))
            if not self._written:
                self._say(f"writing curves to {self._home}; `tensorboard --logdir {self._logdir}` shows them")
            self._written.add(name)
        self._open[name].add(steps, ended=ended)

    def _write_rest(self) -> None:
        for name, growing in self._growing.items():
            self._add(name, *growing.read())
        for file in self._open.values():
            file.finish()

    def _arms(self) -> set[str]:
        return {path.stem for path in (self._run / "arms").glob("*.jsonl")}

    def _drop_all_but(self, kept: Collection[str]) -> None:
        for folder in self._home.glob("*"):
            if folder.name not in kept:
                files.remove(folder)


class _Growing:
    """The trace of an arm, also while it is written under another name."""

    def __init__(self, path: Path) -> None:
        self._names = (path.with_name(path.name + ".partial"), path)
        self._num_read = 0

    def read(self) -> tuple[list[Step], float]:
        """The steps that are there and were not given before, and when the last of them was written."""
        for path in self._names:
            with contextlib.suppress(FileNotFoundError), path.open("rb") as file:
                ended = os.fstat(file.fileno()).st_mtime
                file.seek(self._num_read)
                whole, end, _ = file.read().rpartition(b"\n")
                self._num_read += len(whole + end)
                return [step for line in whole.split(b"\n") if (step := _step(line))], ended
        return [], 0.0


def _step(line: bytes) -> Step | None:
    """None for a line that a damaged disk has made."""
    try:
        row = json.loads(line)
        floats = {name: number(row.get(name)) for name in ("loss", "grad_norm", "grad_max", "lr", "seconds")}
        scale = number(row["scale"]) if "scale" in row else None
        return Step(step=int(row["step"]), scale=scale, skipped=row.get("skipped") is True, rank_norms=None, **floats)
    except (ValueError, KeyError, TypeError, AttributeError):
        return None


def _name(arm: Arm) -> str:
    return f"{arm.name}-seed{arm.seed}"


def _refuse(logdir: Path, home: Path, run: Path) -> None:
    nearest = next(path for path in (home / UNCLIPPED, home, *home.parents) if os.path.lexists(path))
    try:
        tempfile.TemporaryFile(dir=nearest).close()
    except OSError as e:
        raise InputError(
            f"--tensorboard {logdir}: {nearest} cannot be written to ({e.strerror}). Name another directory."
        ) from None
    for path in (path for folder in home.glob("*") for path in files.own_files(folder)):
        owner = Path(files.owner_of(path))
        if owner != run and owner.is_absolute() and is_run(owner):
            raise InputError(
                f"--tensorboard {logdir}: {home} holds the curves of another run, {owner}. Name another directory."
            )
