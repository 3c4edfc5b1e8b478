"""A run and how its arms are to be trained -> what trains them: a table of sources, and one of executors for arms of a spec."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from clipcal.arms.pool import Arm, OnPlan, OnProgress
from clipcal.errors import InputError, nearest, need_torch
from clipcal.run.directory import Run


@dataclass(frozen=True, kw_only=True)
class ArmOptions:
    """How the arms of a run are trained. ``steps`` of each, None for as many as the profile has; ``jobs`` at a time, None for as many as
    there is room for; ``executor`` says where: ``local``, or ``ray`` for a cluster, in which an arm is given the part ``arm_gpus`` of a
    GPU. ``force`` drops the arms that are there."""

    steps: int | None = None
    jobs: int | None = None
    executor: str = "local"
    arm_gpus: float | None = None
    force: bool = False
    on_plan: OnPlan | None = None
    on_progress: OnProgress | None = None


class Trainer(Protocol):
    """``same_machine``: the profile's own trace is what the unclipped arm would be there. ``machine`` is what arms that stand beside
    each other must share; ``device`` decides how equal their starts must be."""

    device: str
    same_machine: bool
    machine: dict[str, str]

    def train(self, arms: Sequence[tuple[Arm, Path]], *, steps: int, report: OnProgress) -> None:
        """Train every arm and write its trace to its path, whole or not at all. Raises InputError, or UserCodeError."""
        ...


Make = Callable[[Run, ArmOptions], Trainer]


def _local(run: Run, options: ArmOptions) -> Trainer:
    from clipcal.arms.executors.local import LocalExecutor

    return LocalExecutor(run, options)


def _ray(run: Run, options: ArmOptions) -> Trainer:
    from clipcal.arms.executors.cluster import RayExecutor

    return RayExecutor(run, options)


EXECUTORS: dict[str, Make] = {"local": _local, "ray": _ray}


def _of_spec(run: Run, options: ArmOptions) -> Trainer:
    need_torch("clipcal.verify of a spec's run")
    from clipcal.sources.spec import from_source

    from_source(run.info.source)
    return EXECUTORS[options.executor](run, options)


def _of_script(run: Run, options: ArmOptions) -> Trainer:
    from clipcal.arms.of_script import ScriptTrainer

    return ScriptTrainer(run, options)


TRAINERS: dict[str, Make] = {"spec": _of_spec, "script": _of_script}


def trainer_of(run: Run, options: ArmOptions) -> Trainer:
    """Raises InputError for a run that cannot be trained again, or not by this executor."""
    name = options.executor
    if name not in EXECUTORS:
        raise InputError(f"--executor {name}: expected {' or '.join(EXECUTORS)}.{nearest(name, EXECUTORS)}")
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
    return TRAINERS[kind](run, options)
