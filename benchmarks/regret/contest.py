"""A workload's profile -> the threshold that each rule names for it, and the training steps that it takes to name it."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

import clipcal
from benchmarks.regret.arms import PROFILE, Arms, Key, Outcome, rule_of
from clipcal.arms.pool import Arm
from clipcal.recommendation.baselines import BASELINES
from clipcal.recommendation.guarding import guard_of, needs_guard
from clipcal.run.step import Step
from clipcal.run.trace import Trace, trace_of
from clipcal.verification.racing import Race, candidates_of, race


@dataclass(frozen=True, kw_only=True)
class Answer:
    """``max_norm`` None leaves training unclipped."""

    max_norm: float | None
    steps: int


def short_arm(workload: str, arm: Arm) -> Key:
    return Key(
        workload=workload,
        seed=arm.seed,
        rule=rule_of(arm.max_norm),
        steps=PROFILE,
        lr_scale=arm.lr_scale,
        traced=True,
    )


def recommended(arms: Arms, workload: str, seed: int) -> tuple[clipcal.Recommendation, int]:
    """What `clipcal profile` and `clipcal recommend` come to, and the steps trained for it."""
    outcome = arms[short_arm(workload, Arm(name="unclipped", max_norm=None, seed=seed))]
    r = clipcal.recommend(outcome.norms, outcome.losses)
    steps = len(outcome.norms)
    if needs_guard(r) and (guard := guard_of(np.array(outcome.norms))) is not None:
        guarded = arms[short_arm(workload, Arm(name="guard", max_norm=guard, seed=seed))]
        r = clipcal.recommend(guarded.norms, guarded.losses, guard=guard)
        steps += len(guarded.norms)
    return r, steps


def calibrated(arms: Arms, workload: str, seed: int, *, seeds: int = 3) -> tuple[Answer, Race | None]:
    """What `clipcal calibrate` comes to."""
    r, steps = recommended(arms, workload, seed)
    candidates = candidates_of(r)
    if not candidates:
        return Answer(max_norm=r.max_norm, steps=steps), None
    spent = 0

    def train(plan: Sequence[Arm]) -> list[tuple[Arm, Trace]]:
        nonlocal spent
        keys = [short_arm(workload, arm) for arm in plan]
        arms.train(keys)
        spent += sum(len(arms[key].norms) for key in keys if (key.rule, key.seed) != ("unclipped", seed))
        return [(arm, trace_from(arms[key], arm)) for arm, key in zip(plan, keys, strict=True)]

    result = race(candidates, train, first_seed=seed, seeds=seeds)
    return Answer(max_norm=result.chosen.max_norm, steps=steps + spent), result


def trace_from(outcome: Outcome, arm: Arm) -> Trace:
    """A kept arm as the trace that clipcal would have written."""
    limit = math.inf if arm.max_norm is None else arm.max_norm
    return trace_of(
        [
            Step(
                step=i,
                loss=loss,
                grad_norm=norm,
                grad_max=math.nan,
                lr=math.nan,
                seconds=0.0,
                scale=min(1.0, limit / (norm + 1e-6)) if math.isfinite(norm) else 0.0,
                skipped=False,
            )
            for i, (loss, norm) in enumerate(zip(outcome.losses, outcome.norms, strict=True))
        ]
    )


def baselines(arms: Arms, workload: str, seed: int) -> Mapping[str, Answer]:
    """What the rules in use say of the same profile."""
    outcome = arms[short_arm(workload, Arm(name="unclipped", max_norm=None, seed=seed))]
    norms = np.array(outcome.norms)
    usable = norms[np.isfinite(norms) & (norms > 0)]
    return {name: Answer(max_norm=rule(usable), steps=len(norms)) for name, rule in BASELINES.items()}
