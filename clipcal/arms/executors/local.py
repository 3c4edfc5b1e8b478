"""Arms of a spec -> their traces, trained on this machine: side by side, or in turn under torchrun."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from clipcal.arms.pool import Arm, OnProgress, train_arms, train_in_turn
from clipcal.arms.trainers import ArmOptions
from clipcal.errors import InputError
from clipcal.run.directory import Run
from clipcal.sources.ranks import ranks_here
from clipcal.training.building import pick_device
from clipcal.training.profiling import environment, num_threads, was_made_here


class LocalExecutor:
    """Without ``jobs``, as many arms at a time as have cores of their own; one on an accelerator, whose memory they would share."""

    def __init__(self, run: Run, options: ArmOptions) -> None:
        if options.arm_gpus is not None:
            raise InputError("--arm-gpus is for --executor ray: here, arms on a GPU are trained one after another.")
        info = run.info
        self._info = info
        self.device = str(pick_device(info.device))
        cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
        self._jobs = options.jobs or (max(1, cores // info.threads) if self.device.startswith("cpu") else 1)
        self._ranks = ranks_here()
        if info.world_size != (self._ranks.world if self._ranks else 1):
            several = f"torchrun --nproc-per-node {info.world_size} -m clipcal"
            how = several if info.world_size > 1 else "clipcal, without torchrun,"
            raise InputError(
                f"{run.folder}: was profiled on {info.world_size} rank{'s' * (info.world_size > 1)}, and its arms have to be trained in the "
                f"same way: run {how} verify {run.folder}."
            )
        here = environment()
        self.same_machine = was_made_here(info, self.device)
        self.machine: dict[str, str] = here["versions"] | {"platform": here["platform"], "threads": str(info.threads)}

    def train(self, arms: Sequence[tuple[Arm, Path]], *, steps: int, report: OnProgress) -> None:
        if self._ranks is not None:
            with num_threads(self._info.threads):
                train_in_turn(self._info.source, arms, steps=steps, device=self.device, report=report)
            return
        train_arms(
            self._info.source,
            arms,
            steps=steps,
            device=self.device,
            threads=self._info.threads,
            jobs=self._jobs,
            on_progress=report,
        )
