"""The source of a run -> what trains further arms of it: a table of kinds."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Protocol

from clipcal.arms.executors import check_executor
from clipcal.arms.pool import Arm, OnProgress
from clipcal.errors import InputError, need_torch
from clipcal.run.directory import Run


class Trainer(Protocol):
    """``same_machine``: the profile's own trace is what the unclipped arm would be here. ``machine`` is what arms that stand beside
    each other must share; ``device`` decides how equal their starts must be."""

    first_seed: int
    device: str
    same_machine: bool
    machine: dict[str, str]

    def train(self, arms: Sequence[tuple[Arm, Path]], *, steps: int, on_progress: OnProgress | None) -> None:
        """Train every arm and write its trace to its path, whole or not at all. Raises InputError, or UserCodeError."""
        ...


def _of_spec(run: Run, jobs: int | None, executor: str, arm_gpus: float | None) -> Trainer:
    need_torch("clipcal.verify of a spec's run")
    from clipcal.arms.of_spec import SpecTrainer

    return SpecTrainer(run, jobs, executor, arm_gpus)


def _of_script(run: Run, jobs: int | None, executor: str, arm_gpus: float | None) -> Trainer:
    from clipcal.arms.of_script import ScriptTrainer

    if executor != "local":
        raise InputError(
            f"--executor {executor}: {run.folder} was made from a script, which runs from its own folder, with its own launcher and beside "
            "its own files. Leave --executor out, or write a spec of the training (`clipcal init`)."
        )
    if arm_gpus is not None:
        raise InputError("--arm-gpus is for --executor ray; a script picks its own devices.")
    return ScriptTrainer(run, jobs)


TRAINERS: dict[str, Callable[[Run, int | None, str, float | None], Trainer]] = {
    "spec": _of_spec,
    "script": _of_script,
}


def trainer_of(run: Run, jobs: int | None, executor: str = "local", arm_gpus: float | None = None) -> Trainer:
    """Raises InputError for a run that cannot be trained again, or not by this executor."""
    check_executor(executor)
    kind = run.info.source.kind
    if kind is None:
        raise InputError(
            f"{run.folder / 'run.json'}: its 'source.kind' is missing (expected one of {', '.join(TRAINERS)}), so it cannot be trained again. "
            "Profile again into another directory with --out."
        )
    if kind not in TRAINERS:
        raise InputError(
            f"{run.folder}: was recorded during a training of its own, so it cannot be trained again. Profile a spec or a script "
            "(`clipcal profile train.py -- ITS ARGUMENTS`)."
        )
    return TRAINERS[kind](run, jobs, executor, arm_gpus)
