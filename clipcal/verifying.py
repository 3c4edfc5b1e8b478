"""Run -> Verification: train again with clipping on, beside the unclipped arm, from the same seeds and batches."""

from __future__ import annotations

import itertools
import json
import math
import os
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from clipcal.arms import LR_SCALE, Arm, OnProgress, arm_name, train_arms
from clipcal.errors import InputError
from clipcal.jsonfile import write_json
from clipcal.judging import judge, results_of
from clipcal.profiling import environment
from clipcal.rundir import Run
from clipcal.runners.spec import pick_device
from clipcal.spec import from_source
from clipcal.trace import Trace, read_trace
from clipcal.verification import Verification

OnPlan = Callable[[Sequence[Arm], Sequence[Arm]], None]
"""Told, before arms are trained, which those are and which are there already."""


@dataclass(frozen=True, kw_only=True)
class _Arms:
    """The arms of one run and where their traces lie."""

    run: Run
    steps: int
    same_machine: bool

    def path(self, arm: Arm) -> Path:
        """The profile's own trace is the unclipped arm of its seed, where it was trained to the same length."""
        info = self.run.info
        is_profile = arm.max_norm is None and arm.lr_scale == 1.0 and arm.seed == info.seeds[0]
        whole = info.status in ("complete", "stopped") and info.steps == self.steps
        if is_profile and whole and self.same_machine:
            return self.run.trace
        return self.run.arm(arm.name, arm.seed)


def verify(
    run: Run,
    *,
    max_norm: float,
    others: Sequence[float] = (),
    seeds: int = 3,
    steps: int | None = None,
    jobs: int | None = None,
    force: bool = False,
    on_plan: OnPlan | None = None,
    on_progress: OnProgress | None = None,
) -> Verification:
    """Train ``seeds`` pairs of arms, unclipped and clipped at ``max_norm``, and judge; write verification.json.

    ``others`` are further thresholds to train beside. Arms that are there from an earlier call are used again unless
    ``force``. Where an arm is lost, a tenth of the learning rate is tried as well. Raises InputError, or what the user's
    code raises.
    """
    if run.info.source.get("kind") != "spec":
        raise InputError(
            f"{run.folder}: was not made from a spec, so it cannot be trained again. Profile a spec first."
        )
    if seeds < 1 or (steps is not None and steps < 1):
        raise InputError(f"--{'seeds' if seeds < 1 else 'steps'} must be at least 1.")
    for value in (max_norm, *others):
        if not 0 < value < float("inf"):
            raise InputError(f"--max-norm {value:g}: expected a number greater than 0.")
    info = run.info
    steps = steps or info.steps
    spec = from_source(info.source)
    device = str(pick_device(info.device))
    here = environment()
    same = info.versions == here["versions"] and info.platform == here["platform"] and info.device == device
    arms = _Arms(run=run, steps=steps, same_machine=same)
    _clear_stale(
        run, steps, here["versions"] | {"platform": here["platform"], "threads": str(info.threads)}, force=force
    )
    first = spec.fields.seed
    thresholds = [None, max_norm, *(o for o in dict.fromkeys(others) if o != max_norm)]
    plan = [_arm(t, first + k) for k in range(seeds) for t in thresholds]
    jobs = jobs or default_jobs(device, info.threads)

    trained: list[tuple[Arm, Trace]] = []

    def train(planned: Sequence[Arm]) -> list[tuple[Arm, Trace]]:
        todo = [a for a in planned if not arms.path(a).exists()]
        if on_plan:
            on_plan(todo, [a for a in planned if a not in todo])
        train_arms(
            info.source,
            [(a, arms.path(a)) for a in todo],
            steps=steps,
            device=device,
            threads=info.threads,
            jobs=jobs,
            on_progress=on_progress,
        )
        done = [(a, read_trace(arms.path(a))) for a in planned]
        _check_same_start([*trained, *done], device)
        return done

    trained += train(plan)
    roles = {"unclipped": arm_name(None), "clipped": arm_name(max_norm)}
    results, _, _ = results_of(trained)
    if any(r.diverged_at is not None for r in results if r.name in roles.values()):
        roles["smaller_rate"] = arm_name(None, LR_SCALE)
        trained += train([_arm(None, first + k, LR_SCALE) for k in range(seeds)])
        if judge(max_norm, trained, roles=roles).helped == "neither":
            roles["together"] = arm_name(max_norm, LR_SCALE)
            trained += train([_arm(max_norm, first + k, LR_SCALE) for k in range(seeds)])
    verification = judge(max_norm, trained, roles=roles)
    write_json(run.verification, verification.as_dict())
    return verification


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


def _arm(max_norm: float | None, seed: int, lr_scale: float = 1.0) -> Arm:
    return Arm(name=arm_name(max_norm, lr_scale), max_norm=max_norm, seed=seed, lr_scale=lr_scale)


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
