"""A run and where its arms are to be trained -> what trains them: a table of executors."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Protocol

from clipcal.arms.pool import Arm, OnProgress
from clipcal.errors import InputError, nearest
from clipcal.run.directory import Run


class Executor(Protocol):
    """``same_machine``: the profile's own trace is what the unclipped arm would be there. ``machine`` is what arms that stand beside
    each other must share."""

    device: str
    same_machine: bool
    machine: dict[str, str]

    def train(self, arms: Sequence[tuple[Arm, Path]], *, steps: int, on_progress: OnProgress | None) -> None:
        """Train every arm and write its trace to its path, whole or not at all. Raises InputError, or UserCodeError."""
        ...


def _local(run: Run, jobs: int | None, arm_gpus: float | None) -> Executor:
    from clipcal.arms.executors.local import LocalExecutor

    if arm_gpus is not None:
        raise InputError("--arm-gpus is for --executor ray: here, arms on a GPU are trained one after another.")
    return LocalExecutor(run, jobs)


def _ray(run: Run, jobs: int | None, arm_gpus: float | None) -> Executor:
    from clipcal.arms.executors.cluster import RayExecutor

    return RayExecutor(run, jobs, arm_gpus)


EXECUTORS: dict[str, Callable[[Run, int | None, float | None], Executor]] = {"local": _local, "ray": _ray}


def check_executor(name: str) -> None:
    """Raise InputError for a name that stands in no row of the table."""
    if name not in EXECUTORS:
        raise InputError(f"--executor {name}: expected {' or '.join(EXECUTORS)}.{nearest(name, EXECUTORS)}")


def executor_of(name: str, run: Run, jobs: int | None, arm_gpus: float | None) -> Executor:
    """Raises InputError for a run that it cannot train."""
    check_executor(name)
    return EXECUTORS[name](run, jobs, arm_gpus)
