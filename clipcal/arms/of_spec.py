"""A run that was made from a spec -> further arms of it, trained by an executor."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from clipcal.arms.executors import executor_of
from clipcal.arms.pool import Arm, OnProgress
from clipcal.run.directory import Run
from clipcal.sources.spec import from_source


class SpecTrainer:
    """``jobs``: how many arms are trained at a time, None for as many as there is room for."""

    def __init__(self, run: Run, jobs: int | None, executor: str = "local", arm_gpus: float | None = None) -> None:
        self.first_seed: int = from_source(run.info.source).fields.seed
        self._executor = executor_of(executor, run, jobs, arm_gpus)
        self.device = self._executor.device
        self.same_machine = self._executor.same_machine
        self.machine = self._executor.machine

    def train(self, arms: Sequence[tuple[Arm, Path]], *, steps: int, on_progress: OnProgress | None) -> None:
        self._executor.train(arms, steps=steps, on_progress=on_progress)
