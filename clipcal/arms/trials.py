"""A run -> further arms of it, on disk: trained where they are not there yet, and read where they are."""

from __future__ import annotations

import itertools
import json
import shutil
from collections.abc import Sequence
from pathlib import Path

from clipcal.arms.pool import Arm, OnProgress, Progress, arm_of
from clipcal.arms.trainers import ArmOptions, trainer_of
from clipcal.arms.unreached import is_unreached, write_as_unclipped
from clipcal.errors import InputError
from clipcal.run.directory import Run
from clipcal.run.jsonfile import write_json
from clipcal.run.step import repeats
from clipcal.run.trace import Trace, read_arm, read_trace


class Trials:
    """The arms of one run, all of one length, from one machine, and each from the same start as the others of its seed.

    Arms of another length or machine are set aside; ``force`` drops all that are there. Raises InputError for a run that
    cannot be trained again.
    """

    def __init__(self, run: Run, options: ArmOptions) -> None:
        self._trainer = trainer_of(run, options)
        self.run, self.options, self.steps = run, options, options.steps or run.info.steps
        self.first_seed = run.info.seeds[0]
        self._trained: dict[Arm, Trace] = {}
        self._is_ready = False

    def train(self, planned: Sequence[Arm]) -> list[tuple[Arm, Trace]]:
        """The traces of these arms. Raises InputError, or what the user's code raises."""
        if not self._is_ready:
            _clear_stale(self.run, self.steps, self._trainer.machine, force=self.options.force)
            self._is_ready = True
        todo = [a for a in planned if not self._path(a).exists()]
        if self.options.on_plan:
            self.options.on_plan(todo, [a for a in planned if a not in todo and a not in self._trained])
        report = self.options.on_progress or (lambda progress: None)
        # an arm that no step of the unclipped one may reach waits for it: most likely it is the same training
        later = [a for a in todo if _unclipped(a) in todo and self._is_unreached(a, self.run.trace)]
        for arms in ([a for a in todo if a not in later], later):
            missing = [(a, self._path(a)) for a in arms if not self._is_as_unclipped(a, report)]
            self._trainer.train(missing, steps=self.steps, report=report)
        for arm in planned:
            if arm not in self._trained:
                path = self._path(arm)
                self._trained[arm] = read_trace(path) if path == self.run.trace else read_arm(path)
        _check_same_start(list(self._trained.items()), self._trainer.device)
        return [(a, self._trained[a]) for a in planned]

    def _is_unreached(self, arm: Arm, path: Path) -> bool:
        """Whether clipping as ``arm`` does would act on no step of the unclipped trace in a file. False where there is none."""
        if arm.max_norm is None or not path.exists():
            return False
        return is_unreached(read_trace(path), arm.max_norm, self.run.info.method)

    def _is_as_unclipped(self, arm: Arm, report: OnProgress) -> bool:
        """Whether the arm's trace is the unclipped one's, since clipping would act on no step of it; it is written then."""
        path = self._path(_unclipped(arm))
        if not self._is_unreached(arm, path):
            return False
        last = write_as_unclipped(path, self._path(arm))
        for done in (False, True):
            report(Progress(arm=arm, steps=last.step + 1, loss=last.loss, done=done))
        return True

    def _path(self, arm: Arm) -> Path:
        """The profile's own trace is the unclipped arm of its seed, where it was trained to the same length."""
        info = self.run.info
        is_profile = arm.max_norm is None and arm.lr_scale == 1.0 and arm.seed == info.seeds[0]
        whole = info.status in ("complete", "stopped") and info.steps == self.steps
        if is_profile and whole and self._trainer.same_machine:
            return self.run.trace
        return self.run.arm(arm.name, arm.seed)


def _unclipped(arm: Arm) -> Arm:
    """The arm that differs from this one by its clipping alone."""
    return arm_of(None, arm.seed, arm.lr_scale)


def _check_same_start(trained: Sequence[tuple[Arm, Trace]], device: str) -> None:
    """Arms of one seed share their weights and their first batch, so their first gradients are equal, bit for bit on the CPU.

    Where they are not, the arms are not one experiment, and comparing them would say nothing.
    """
    for seed in dict.fromkeys(arm.seed for arm, _ in trained):
        first = [(arm.name, float(trace.grad_norm[0])) for arm, trace in trained if arm.seed == seed]
        name, norm = first[0]
        for other, value in first[1:]:
            if not repeats(value, norm, step=0, device=device):
                raise InputError(
                    f"The arms of seed {seed} do not start alike: the first grad norm is {norm:.9g} in {name} and {value:.9g} in "
                    f"{other}, so they cannot be compared. The code or the data changed since the profile (profile again with "
                    "--force), they do not follow the seed (give the factory an argument named `seed`), or something in a module is kept "
                    "from one training to the next (a counter, a cache)."
                )


def _clear_stale(run: Run, steps: int, machine: dict[str, str], *, force: bool) -> None:
    """Arms of another length or machine cannot stand beside new ones: they are set aside as arms-1, arms-2, ...; only
    ``force`` drops any."""
    folder = run.folder / "arms"
    key = {"steps": steps, "machine": machine}
    note = folder / "arms.json"
    try:
        stale = json.loads(note.read_text(encoding="utf-8")) != key
    except (OSError, ValueError):
        stale = True
    try:
        if force and folder.exists():
            shutil.rmtree(folder)
        elif stale and any(folder.glob("*.jsonl")):
            asides = (run.folder / f"arms-{k}" for k in itertools.count(1))
            folder.rename(next(path for path in asides if not path.exists()))
        folder.mkdir(exist_ok=True)
    except OSError as e:
        raise InputError(f"{folder}: cannot be written ({e.strerror}). Copy the run to where you may write.") from None
    write_json(note, key)
