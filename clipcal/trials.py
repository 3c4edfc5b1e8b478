"""A run -> further arms of it, on disk: trained where they are not there yet, and read where they are."""

from __future__ import annotations

import itertools
import json
import math
import os
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path

import torch

from clipcal.arms import Arm, OnProgress, train_arms
from clipcal.errors import InputError
from clipcal.jsonfile import write_json
from clipcal.profiling import environment
from clipcal.rundir import Run
from clipcal.runners.spec import pick_device
from clipcal.spec import from_source
from clipcal.trace import Trace, read_trace

OnPlan = Callable[[Sequence[Arm], Sequence[Arm]], None]
"""Told, before arms are trained, which those are and which are there already."""


class Trials:
    """The arms of one run, all of one length, from one machine, and each from the same start as the others of its seed.

    Arms of another length or machine are set aside; ``force`` drops all that are there. Raises InputError for a run that
    cannot be trained again.
    """

    def __init__(
        self,
        run: Run,
        *,
        steps: int | None = None,
        jobs: int | None = None,
        force: bool = False,
        on_plan: OnPlan | None = None,
        on_progress: OnProgress | None = None,
    ) -> None:
        info = run.info
        if info.source.get("kind") != "spec":
            raise InputError(
                f"{run.folder}: was not made from a spec, so it cannot be trained again. Profile a spec first."
            )
        self.run, self.steps = run, steps or info.steps
        self.first_seed: int = from_source(info.source).fields.seed
        self._device = str(pick_device(info.device))
        self._jobs = jobs or default_jobs(self._device, info.threads)
        self._on_plan, self._on_progress = on_plan, on_progress
        here = environment()
        self._same_machine = (
            info.versions == here["versions"] and info.platform == here["platform"] and info.device == self._device
        )
        self._trained: dict[Arm, Trace] = {}
        machine = here["versions"] | {"platform": here["platform"], "threads": str(info.threads)}
        _clear_stale(run, self.steps, machine, force=force)

    def train(self, planned: Sequence[Arm]) -> list[tuple[Arm, Trace]]:
        """The traces of these arms. Raises InputError, or what the user's code raises."""
        todo = [a for a in planned if not self._path(a).exists()]
        if self._on_plan:
            self._on_plan(todo, [a for a in planned if a not in todo and a not in self._trained])
        train_arms(
            self.run.info.source,
            [(a, self._path(a)) for a in todo],
            steps=self.steps,
            device=self._device,
            threads=self.run.info.threads,
            jobs=self._jobs,
            on_progress=self._on_progress,
        )
        for arm in planned:
            if arm not in self._trained:
                self._trained[arm] = read_trace(self._path(arm))
        _check_same_start(list(self._trained.items()), self._device)
        return [(a, self._trained[a]) for a in planned]

    def _path(self, arm: Arm) -> Path:
        """The profile's own trace is the unclipped arm of its seed, where it was trained to the same length."""
        info = self.run.info
        is_profile = arm.max_norm is None and arm.lr_scale == 1.0 and arm.seed == info.seeds[0]
        whole = info.status in ("complete", "stopped") and info.steps == self.steps
        if is_profile and whole and self._same_machine:
            return self.run.trace
        return self.run.arm(arm.name, arm.seed)


def _check_same_start(trained: Sequence[tuple[Arm, Trace]], device: str) -> None:
    """Arms of one seed share their weights and their first batch, so their first gradients are equal, bit for bit on the CPU.

    Where they are not, the arms are not one experiment, and comparing them would say nothing.
    """
    tolerance = 0.0 if torch.device(device).type == "cpu" else 1e-3
    for seed in dict.fromkeys(arm.seed for arm, _ in trained):
        first = [(arm.name, float(trace.grad_norm[0])) for arm, trace in trained if arm.seed == seed]
        name, norm = first[0]
        for other, value in first[1:]:
            if not (
                value == norm
                or math.isclose(value, norm, rel_tol=tolerance)
                or (math.isnan(value) and math.isnan(norm))
            ):
                raise InputError(
                    f"The arms of seed {seed} do not start alike: the first grad norm is {norm:.9g} in {name} and {value:.9g} in "
                    f"{other}, so they cannot be compared. The code or the data changed since the profile (profile again with "
                    "--force), or they do not follow the seed (give the factory an argument named `seed`)."
                )


def default_jobs(device: str, threads: int) -> int:
    """As many arms side by side as have cores of their own; one on an accelerator, whose memory they would share."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, cores // threads) if torch.device(device).type == "cpu" else 1


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
