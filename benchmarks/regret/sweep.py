"""The fine sweep of every workload: what each threshold, and each package, comes to when training is run to its end."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from benchmarks.regret.arms import PACKAGES, PROFILE, Arms, Key, Outcome, rule_of
from benchmarks.regret.workloads import WORKLOADS

SEEDS = (0, 1, 2)
MULTIPLES = (0.01, 0.03, 0.1, 0.25, 0.5, 0.75, 1.0, 1.25, 1.5, 2.0, 3.0, 4.5, 7.0, 10.0, 30.0, 100.0)
GUARD = 0.3
LEARNED = 0.02
"""Of the loss at the start: with less to be had at any threshold, nothing is learned."""


def profiled(workload: str, seed: int, rule: str = "unclipped") -> Key:
    return Key(workload=workload, seed=seed, rule=rule, steps=PROFILE, traced=True)


def scale(arms: Arms, workload: str) -> float:
    """The median of unclipped norms in the profile, over the seeds; under a guard where training is lost without one."""
    medians = []
    for seed in SEEDS:
        outcome = arms[profiled(workload, seed)]
        if _lost(outcome):
            guard = float(f"{GUARD * float(np.median(outcome.norms[:10])):.3g}")
            outcome = arms[profiled(workload, seed, rule_of(guard))]
        norms = np.array(outcome.norms)
        medians.append(float(np.median(norms[np.isfinite(norms)])))
    return float(np.median(medians))


def _lost(outcome: Outcome) -> bool:
    losses = np.array(outcome.losses)
    start = float(np.median(losses[:5]))
    return len(losses) < PROFILE or not np.isfinite(losses[-1]) or float(np.median(losses[-20:])) > 1.5 * start + 0.5


def keys(arms: Arms, workload: str) -> list[Key]:
    """The full-length arms of the sweep; the packages run where the learning rate is right."""
    unit = scale(arms, workload)
    thresholds = [float(f"{unit * m:.3g}") for m in MULTIPLES]
    packages = () if WORKLOADS[workload].wrong_rate else PACKAGES
    rules = ["unclipped", *map(rule_of, thresholds), *packages]
    return [Key(workload=workload, seed=seed, rule=rule) for rule in rules for seed in SEEDS]


def sweep(arms: Arms) -> None:
    """Train whatever is missing."""
    arms.train([profiled(w, seed) for w in WORKLOADS for seed in SEEDS])
    for workload in WORKLOADS:
        arms.train(keys(arms, workload))


def _level(outcomes: Sequence[Outcome]) -> float:
    """The mean held-out loss over seeds, each at most the reference: a diverged run counts as one that learned nothing."""
    return float(np.mean([min(o.final, _reference(o)) if math.isfinite(o.final) else _reference(o) for o in outcomes]))


def _reference(outcome: Outcome) -> float:
    return min(outcome.start, outcome.trivial)


@dataclass(frozen=True, kw_only=True)
class Curve:
    """A workload's loss against its threshold. ``logs`` and ``losses`` are those of the sweep, ``unclipped`` the loss
    without a threshold, ``reference`` what a model that learned nothing has, ``unit`` the unclipped median norm."""

    logs: Sequence[float]
    losses: Sequence[float]
    unclipped: float
    reference: float
    unit: float

    @property
    def best(self) -> float:
        return min(*self.losses, self.unclipped)

    @property
    def best_at(self) -> str:
        if self.unclipped <= min(self.losses):
            return "unclipped"
        return f"{math.exp(self.logs[int(np.argmin(self.losses))]) / self.unit:.2f} x"

    def of_loss(self, loss: float) -> float:
        """clip((L - best) / (L_ref - best), 0, 1). Where nothing is learned at any threshold, none is to be regretted."""
        room = self.reference - self.best
        if room < LEARNED * self.reference:
            return 0.0
        return min(max((loss - self.best) / room, 0.0), 1.0)

    def regret(self, max_norm: float | None) -> float:
        """That of a threshold, on the line between those of the sweep beside it."""
        if max_norm is None:
            return self.of_loss(self.unclipped)
        return self.of_loss(float(np.interp(math.log(max_norm), self.logs, self.losses)))


def curve_of(arms: Arms, workload: str) -> Curve:
    unit = scale(arms, workload)
    thresholds = [float(f"{unit * m:.3g}") for m in MULTIPLES]
    outcomes = {t: [arms[Key(workload=workload, seed=s, rule=rule_of(t))] for s in SEEDS] for t in (*thresholds, None)}
    return Curve(
        logs=[math.log(t) for t in thresholds],
        losses=[_level(outcomes[t]) for t in thresholds],
        unclipped=_level(outcomes[None]),
        reference=float(np.mean([_reference(o) for o in outcomes[None]])),
        unit=unit,
    )


def package_regret(arms: Arms, workload: str, package: str) -> float:
    """That of a package, which sets its own threshold at every step of the full run."""
    outcomes = [arms[Key(workload=workload, seed=s, rule=package)] for s in SEEDS]
    return curve_of(arms, workload).of_loss(_level(outcomes))
