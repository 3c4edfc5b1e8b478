"""A recommendation -> what the clipping of every rule would have done to the steps that it was read from."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from clipcal.recommendation.answer import Recommendation
from clipcal.recommendation.baselines import BASELINES
from clipcal.run.trace import Floats

Verdict = Literal["inactive", "guard", "limiter", "brake"]

LIMITER, BRAKE = 0.05, 0.5
"""Shares of the stable steps. Below the first a rule guards against spikes; from the second on it lowers the learning rate."""

OURS = {
    "gentle": "a net above stable training",
    "middle": "where the losses do not tell which is right",
    "firm": "clips the upper shoulder of the stable steps too",
    "leaning": "between the candidates, as far as the losses lean",
    "chosen": "what training side by side chose",
}


@dataclass(frozen=True, kw_only=True)
class Replayed:
    """What one rule does to a trace of norms before clipping.

    ``threshold`` is in the unit of the norms; of an ``adaptive`` rule it is the last one. ``clipped`` is the share that the
    rule clips of the ``num_steps`` steps that it is judged by: the stable ones, or, where the trace has no stable part
    (``over`` "finite"), all whose norm is finite. ``clipped_spikes`` is that of the ``num_spikes`` spikes. ``mean_scale``
    is the factor that clipping leaves of the gradients, 1.0 for a step that is not clipped, on average over the
    ``num_steps``. Shares of nothing are None. ``chosen`` marks the threshold that is recommended.
    """

    name: str
    label: str
    source: str
    threshold: float
    adaptive: bool
    chosen: bool
    verdict: Verdict
    over: Literal["stable", "finite"]
    num_steps: int
    num_spikes: int
    clipped: float | None
    clipped_spikes: float | None
    mean_scale: float | None


def replay(recommendation: Recommendation) -> tuple[Replayed, ...]:
    """Our candidates and every baseline, on the norms that ``recommendation`` was read from.

    A baseline that names no finite threshold here is left out. Adaptive rules are followed step by step over all usable
    norms (finite, above zero), the warm-up too; for a million steps that takes a second.
    """
    norms, usable = recommendation.reading.norms, recommendation.reading.usable
    steps, spikes = recommendation.judged_rows()
    stable, spiking = norms[steps], norms[spikes]

    def judged(
        name: str, label: str, source: str, threshold: float, limits: Floats | None = None, chosen: bool = False
    ) -> Replayed:
        limit = np.full(steps.size, threshold) if limits is None else limits[steps]
        clipped = limit < stable
        clipped_spikes = (threshold if limits is None else limits[spikes]) < spiking
        scale = np.divide(limit, stable, out=np.ones(steps.size), where=clipped)
        return Replayed(
            name=name,
            label=label,
            source=source,
            threshold=threshold,
            adaptive=limits is not None,
            chosen=chosen,
            verdict=judge(clipped, clipped_spikes),
            over="finite" if recommendation.stable is None else "stable",
            num_steps=int(steps.size),
            num_spikes=int(spikes.size),
            clipped=float(np.mean(clipped)) if steps.size else None,
            clipped_spikes=float(np.mean(clipped_spikes)) if spikes.size else None,
            mean_scale=float(np.mean(scale)) if steps.size else None,
        )

    ours: dict[str, float | None] = asdict(recommendation.candidates)
    if recommendation.max_norm not in ours.values():
        ours["chosen" if recommendation.is_choice else "leaning"] = recommendation.max_norm
    chosen = next(name for name, threshold in ours.items() if threshold == recommendation.max_norm)
    rows = [
        judged(name, OURS[name], "clipcal", threshold, chosen=name == chosen)
        for name, threshold in ours.items()
        if threshold is not None
    ]
    for name, baseline in BASELINES.items():
        threshold, limits = recommendation.baselines[name], None
        if threshold is None:
            continue
        if baseline.limits is not None:
            limits = np.full(norms.size, np.inf)
            limits[usable] = baseline.limits(norms[usable])
        rows.append(judged(name, baseline.label, baseline.source, threshold, limits))
    return tuple(rows)


def judge(clipped: NDArray[np.bool_], clipped_spikes: NDArray[np.bool_]) -> Verdict:
    """What a rule is to this training, by which stable steps (n,) and which spikes (k,) it clips."""
    share = float(np.mean(clipped)) if clipped.size else 0.0
    if share == 0 and not clipped_spikes.any():
        return "inactive"
    return "guard" if share < LIMITER else "limiter" if share < BRAKE else "brake"
