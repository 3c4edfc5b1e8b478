"""Gradient norms -> the thresholds that rules in use would give, for comparison."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

import numpy as np
from numpy.typing import NDArray

Rule = Callable[[NDArray[np.float64]], float]


def default_one(norms: NDArray[np.float64]) -> float:
    """1.0, whatever the norms: the default of Hugging Face Trainer (``max_grad_norm``), nanoGPT, llm.c and many others."""
    return 1.0


def median(norms: NDArray[np.float64]) -> float:
    """The median of the norms (n,): the running-median rule of thumb; half of all steps are clipped."""
    return float(np.median(norms))


def p90(norms: NDArray[np.float64]) -> float:
    """The 90% point of the norms (n,): the usual "percentile" rule; one step in ten is clipped, spiky or not."""
    return float(np.quantile(norms, 0.9))


def autoclip_p10(norms: NDArray[np.float64]) -> float:
    """The 10% point of all norms so far (n,): AutoClip (Seetharaman et al., 2020, arXiv:2007.14469), after the last step."""
    return float(np.quantile(norms, 0.1))


def zclip(norms: NDArray[np.float64]) -> float:
    """Mean + 2.5 standard deviations, both as moving averages: ZClip (Kumar et al., 2025, arXiv:2504.02507).

    Decay 0.97, started on the mean and variance of the first 25 norms; a norm above the threshold enters the averages
    as the paper's reciprocal clipping leaves it: mean + 2.5² / z standard deviations. The threshold after the last step.
    """
    decay, z_threshold, warm_up = 0.97, 2.5, 25
    # After 1,000 steps at this decay a norm weighs 6e-14: older ones cannot be seen in the result.
    recent = norms[-2000:]
    mean = float(np.mean(recent[:warm_up]))
    variance = float(np.mean((recent[:warm_up] - mean) ** 2))
    for norm in recent[warm_up:].tolist():
        deviation = math.sqrt(variance)
        z = (norm - mean) / deviation if deviation > 0 else 0.0
        seen = mean + z_threshold**2 / z * deviation if z > z_threshold else norm
        mean = decay * mean + (1 - decay) * seen
        variance = decay * variance + (1 - decay) * (seen - mean) * (seen - mean)
    return mean + z_threshold * math.sqrt(variance)


def pascanu_mean(norms: NDArray[np.float64]) -> float:
    """The mean of the norms (n,): Pascanu et al. (2013, arXiv:1211.5063) start there and try half to ten times it."""
    return float(np.mean(norms))


BASELINES: Mapping[str, Rule] = {
    "default_1.0": default_one,
    "median": median,
    "p90": p90,
    "autoclip_p10": autoclip_p10,
    "zclip": zclip,
    "pascanu_mean": pascanu_mean,
}
