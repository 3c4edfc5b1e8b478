"""What the losses did after large norms -> whether that is harm, and how far a threshold leans from gentle towards firm."""

from __future__ import annotations

from dataclasses import dataclass, replace
from statistics import NormalDist
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from clipcal.stats.arrays import Array
from clipcal.stats.harm import LOW, LossResponse

Effect = Literal["harm", "hint", "none", "unclear"]

SIGNIFICANT = 0.05
"""p below which a rise of the loss after large norms is harm, all levels together: the usual sense."""
SLIGHT, SLIGHT_SCATTER = 0.01, 0.1
"""Log rise of the loss, and one in units of its scatter: a long record finds smaller ones beyond chance, and none that costs anything."""
LIKELY = 0.2  # p below which a rise is a hint
FIRMER = 0.5
"""How far towards firm a chance of harm leans, per chance above a half: short of firm, which only significant harm reaches."""
SURE = 0.02  # the chance of such a rise, below which large norms are ordinary training
COST = 0.05
"""What the middle costs where large norms are harmless, over what gentle costs where they do harm: a twentieth (`benchmarks/regret`)."""


@dataclass(frozen=True, kw_only=True)
class Leaning:
    """``effect`` is what the losses say; "hint" and "unclear" move a threshold by an estimate alone. ``weight`` says how far: 0 gentle,
    0.5 middle, 1 firm. ``weights`` (k,) are replicates of it, ``sure`` (k,) in which of them that is certain, and ``is_sure`` whether
    it is: the harm is significant, or the run was lost. ``level`` is where harm begins, in times the local median."""

    effect: Effect
    level: float
    weight: float
    weights: Array
    sure: NDArray[np.bool_]
    is_sure: bool

    def lost(self, *, guarded: bool) -> Leaning:
        """The same for a run that is lost unclipped, whatever its losses said before: middle at least, and firm where it can be recorded
        ``guarded`` alone."""
        at_least = 1.0 if guarded else 0.5
        return replace(
            self,
            level=LOW[0] if guarded else self.level,
            weight=max(self.weight, at_least),
            weights=np.maximum(self.weights, at_least),
            is_sure=self.is_sure or guarded,
            sure=self.sure | guarded,
        )


def lean(response: LossResponse | None, noise: Array) -> Leaning:
    """``noise`` (k,): deviations of the estimate for the replicates, in standard errors. Nothing known moves nothing."""
    if response is None:
        nothing = np.zeros(noise.size)
        return Leaning(effect="unclear", level=LOW[0], weight=0.0, weights=nothing, sure=nothing > 0, is_sure=False)
    usual, best = response.usual, response.clearest
    slight = SLIGHT if response.is_relative else SLIGHT_SCATTER
    centre = (usual.rise - slight) / max(usual.error, 1e-12)
    chances = np.array([NormalDist().cdf(float(z)) for z in (centre, *(centre + noise))])
    is_large = best.change_above - best.change_below >= slight
    sure = np.array([response.p < SIGNIFICANT, *(best.z + noise > response.critical)]) & is_large
    # By what it costs on average: half of the way to firm where harm is likely, all of it where it is significant.
    weights = 0.5 * chances / (chances + COST * (1 - chances)) + FIRMER * np.maximum(chances - 0.5, 0.0)
    weights = np.where(chances < SURE, 0.0, weights)
    is_hint = chances[0] > 0.5 and response.p < LIKELY
    effect: Effect = "harm" if sure[0] else "none" if chances[0] < SURE else "hint" if is_hint else "unclear"
    return Leaning(
        effect=effect,
        level=best.level,
        weight=float(weights[0]),
        weights=weights[1:],
        sure=sure[1:],
        is_sure=bool(sure[0]),
    )


def effect_at(p: float) -> Effect:
    """What a chance of ``p`` says for training side by side, where a wrong guess is found out."""
    return "harm" if p < LIKELY else "none" if p > 1 - LIKELY else "unclear"
