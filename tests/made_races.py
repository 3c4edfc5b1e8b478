"""Arms that were never trained -> a race of them: losses and norms with a known end, by threshold and seed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from clipcal.arms.pool import Arm
from clipcal.run.trace import Floats, Trace
from clipcal.verification.racing import (
    Candidate,
    Race,
    effect_on,
    race,
    score_of,
)

N = 120
GENTLE, FIRM, SNUG = (
    Candidate(name="gentle", max_norm=4.0),
    Candidate(name="firm", max_norm=2.0),
    Candidate(name="snug", max_norm=1.0),
)
FIELD = (GENTLE, FIRM, SNUG)

End = float | str
"""The level that a loss falls to from 3, or how it is lost: "nan", "runaway"."""


def falling(end: float, seed: int, n: int = N) -> Floats:
    """A loss whose noise depends on the seed (the batches) alone."""
    noise = 0.02 * np.random.default_rng(seed).normal(size=n)
    return end + (3.0 - end) * np.exp(-np.arange(n) / (n / 8)) + noise


def loss_of(end: End, seed: int, n: int = N) -> Floats:
    if not isinstance(end, str):
        return falling(end, seed, n)
    loss, late = falling(1.0, seed, n), 2 * n // 3
    if end == "nan":
        loss[late:] = np.nan
        return loss[: late + 10]
    loss[late:] *= np.exp(np.arange(n - late) / 8)
    return loss


def trace(loss: Floats, norms: Floats | None = None) -> Trace:
    nan = np.full(len(loss), np.nan)
    norms = np.ones(len(loss)) if norms is None else norms
    return Trace(
        step=np.arange(len(loss)),
        loss=loss,
        grad_norm=norms,
        grad_max=norms,
        lr=nan,
        seconds=nan,
        scale=nan,
        skipped=np.zeros(len(loss), dtype=np.bool_),
    )


def unlike(seed: int, rise: float, away: int = 1) -> Trace:
    """An unclipped arm with 20 large norms among 240; ``away`` steps after each the loss stands ``rise`` higher for a while."""
    rng = np.random.default_rng(seed)
    norms, loss = np.exp(rng.normal(0, 0.2, 240)), falling(1.0, seed, 240)
    large = np.arange(10, 240, 12) + rng.integers(-3, 4, 20)
    norms[large[large < 240]] *= 5
    for row in large + away:
        loss[row : row + 3] += rise
    return trace(loss, norms)


def effect(unclipped: Sequence[Trace]) -> str:
    return effect_on(unclipped, [score_of(t) for t in unclipped])


class Training:
    """Trains arms whose ``ends`` by threshold (None: unclipped) are one for every seed, or one for each; knows what was
    asked for."""

    def __init__(self, ends: Mapping[float | None, End | Sequence[End]], *, first: int = 0, n: int = N) -> None:
        self.ends, self.first, self.n = ends, first, n
        self.asked: list[Arm] = []
        self.calls = 0

    def __call__(self, arms: Sequence[Arm]) -> list[tuple[Arm, Trace]]:
        self.calls += 1
        self.asked += arms
        return [(arm, self.trace(arm)) for arm in arms]

    def end(self, max_norm: float | None, seed: int) -> End:
        ends = self.ends[max_norm]
        return ends if isinstance(ends, (str, float, int)) else ends[seed - self.first]

    def trace(self, arm: Arm) -> Trace:
        return trace(loss_of(self.end(arm.max_norm, arm.seed), arm.seed, self.n))

    def seeds_of(self, candidate: Candidate | None) -> list[int]:
        return [a.seed for a in self.asked if a.max_norm == (candidate.max_norm if candidate else None)]


class WithNorms(Training):
    """The same, with norms in the unclipped arms, after the large ones of which the loss rises, or falls."""

    rise = 0.0
    away = 1

    def trace(self, arm: Arm) -> Trace:
        return unlike(arm.seed, self.rise, self.away) if arm.max_norm is None else super().trace(arm)


def raced(training: Training, seeds: int = 3, field: Sequence[Candidate] = FIELD) -> Race:
    return race(field, training, first_seed=training.first, seeds=seeds)
