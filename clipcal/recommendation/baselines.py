"""Gradient norms -> the thresholds that rules in use would give, for comparison."""

from __future__ import annotations

import heapq
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from clipcal.run.trace import Floats

Rule = Callable[[Floats], float]


@dataclass(frozen=True, kw_only=True)
class Baseline:
    """A rule in use. Called with norms (n,), finite, in the order of the steps and not empty, it gives its threshold.

    Any finite norms will do: up to 1e308, with zeros; a threshold beyond the floats is infinite. ``label`` says in a line
    what the rule is, ``source`` in a word or two whose, ``origin`` where it comes from. An adaptive rule moves its threshold from
    step to step: ``limits`` gives the norm (n,) that each step is clipped to, infinite where it is let through, and the rule its
    last threshold.
    """

    rule: Rule
    label: str
    source: str
    origin: str
    limits: Callable[[Floats], Floats] | None = None

    def __call__(self, norms: Floats) -> float:
        return self.rule(norms)


def median_3mad(norms: Floats) -> float:
    """Median + 3 MAD of the log norms (n,): Hampel's identifier (Hampel, 1974, JASA 69:383), with 1.4826 MAD for a
    standard deviation; in logs, since norms spread by factors. Zeros have no log and are left out."""
    logs = _logs(norms)
    if not logs.size:
        return 0.0
    middle = _quantile(logs, 0.5)
    return _exp(middle + 3 * 1.4826 * _quantile(np.abs(logs - middle), 0.5))


def tukey(norms: Floats) -> float:
    """Q3 + 1.5 IQR of the log norms (n,): the fence of the box plot (Tukey, 1977, Exploratory Data Analysis). Zeros have
    no log and are left out."""
    logs = _logs(norms)
    if not logs.size:
        return 0.0
    low, high = _quantile(logs, 0.25), _quantile(logs, 0.75)
    return _exp(high + 1.5 * (high - low))


def mean_25sd(norms: Floats) -> float:
    """Mean + 2.5 standard deviations of the norms (n,): the z-score rule, with ZClip's 2.5 and without its moving averages."""
    scaled, exponent = _scaled(norms)
    mean = float(np.mean(scaled))
    return _ldexp(mean + 2.5 * math.sqrt(float(np.mean((scaled - mean) ** 2))), exponent)


AUTOCLIP = 0.1
"""The share of the norms below AutoClip's threshold: the 10th percentile, the setting that the paper recommends."""


def autoclip_limits(norms: Floats) -> Floats:
    """AutoClip (Seetharaman et al., 2020, arXiv:2007.14469): what it clips each of the norms (n,) to: the 10% point of all norms up to and with this one, as in its authors'
    code (github.com/pseeth/autoclip: the norm joins the history first). Exact; two heaps, so n log n steps of work."""
    low: list[float] = []  # the norms up to the 10% point, negated, the largest first
    high: list[float] = []  # the others, the smallest first
    limits = np.full(norms.size, np.inf)
    for i, norm in enumerate(norms.tolist()):
        place = AUTOCLIP * i
        if len(low) <= int(place):
            heapq.heappush(low, -heapq.heappushpop(high, norm))
        else:
            heapq.heappush(high, -heapq.heappushpop(low, -norm))
        below = -low[0]
        limit = below + (high[0] - below) * (place - int(place)) if high else below
        if limit < norm:
            limits[i] = limit
    return limits


ZCLIP_DECAY, ZCLIP_Z, ZCLIP_WARM_UP = 0.97, 2.5, 25
"""The settings of ZClip's paper, and the defaults of its authors' code."""


def zclip(norms: Floats) -> float:
    """Mean + 2.5 standard deviations, both as moving averages: ZClip (Kumar et al., 2025, arXiv:2504.02507).

    Decay 0.97, started on the mean and variance of the first 25 norms; a norm above the threshold enters the averages
    as the paper's reciprocal clipping leaves it: mean + 2.5² / z standard deviations. The threshold after the last step.
    """
    # After 1,000 steps at this decay a norm weighs 6e-14: older ones cannot be seen in the result.
    scaled, exponent = _scaled(norms[-2000:])
    _, mean, deviation = _zclip(scaled.tolist())
    return _ldexp(mean + ZCLIP_Z * deviation, exponent)


def zclip_limits(norms: Floats) -> Floats:
    """What ZClip clips each of the norms (n,) to: nothing in the first 25 steps; then a norm of z > 2.5, by the averages
    before it, to mean + 2.5² / z standard deviations, as in its authors' code (github.com/bluorion-com/ZClip, "zscore" and
    "adaptive_scaling"). Without that code's cap of ``max_grad_norm=1.0`` on top, which the paper does not have."""
    scaled, exponent = _scaled(norms)
    limits, _, _ = _zclip(scaled.tolist())
    return np.ldexp(limits, exponent)


def _zclip(norms: list[float]) -> tuple[list[float], float, float]:
    """The limits, the last mean and the last standard deviation. The code's epsilon of 1e-6 beside the deviation is taken
    relative to the mean here, so that the rule follows the scale of the norms."""
    first = norms[:ZCLIP_WARM_UP]
    mean = sum(first) / len(first)
    variance = sum((norm - mean) ** 2 for norm in first) / len(first)
    deviation = math.sqrt(variance)
    limits = [math.inf] * len(norms)
    for i in range(ZCLIP_WARM_UP, len(norms)):
        seen = norms[i]
        unit = deviation + 1e-6 * mean
        if seen - mean > ZCLIP_Z * unit:
            seen = limits[i] = mean + ZCLIP_Z**2 * deviation * unit / (seen - mean)
        mean = ZCLIP_DECAY * mean + (1 - ZCLIP_DECAY) * seen
        variance = ZCLIP_DECAY * variance + (1 - ZCLIP_DECAY) * (seen - mean) * (seen - mean)
        deviation = math.sqrt(variance)
    return limits, mean, deviation


def _quantile(values: Floats, q: float) -> float:
    """As numpy.quantile, in a tenth of its time on a million values."""
    place = q * (values.size - 1)
    i = int(place)
    part = np.partition(values, i)
    low = float(part[i])
    return low + (float(np.min(part[i + 1 :])) - low) * (place - i) if place > i else low


def _at(q: float) -> Rule:
    return lambda norms: _quantile(norms, q)


def _times(factor: float, rule: Rule) -> Rule:
    return lambda norms: factor * rule(norms)


def _logs(norms: Floats) -> Floats:
    return np.log(norms[norms > 0])


def _exp(log: float) -> float:
    return math.exp(log) if log < 709.78 else math.inf


def _scaled(norms: Floats) -> tuple[Floats, int]:
    """The norms over a power of two, all below 1, so that neither their sum nor their squares overflow; and the power."""
    _, exponent = math.frexp(float(np.max(norms)))
    return np.ldexp(norms, -exponent), exponent


def _ldexp(value: float, exponent: int) -> float:
    try:
        return math.ldexp(value, exponent)
    except OverflowError:
        return math.inf


def _mean(norms: Floats) -> float:
    scaled, exponent = _scaled(norms)
    return _ldexp(float(np.mean(scaled)), exponent)


_PASCANU = "Pascanu et al., 2013, arXiv:1211.5063, section 3.2: half to ten times the average norm over many updates"
# what it is, whose, the rule, and where it comes from
_RULES: Mapping[str, tuple[str, str, Rule, str]] = {
    "default_1.0": ("1.0, whatever the norms", "Hugging Face", lambda _: 1.0, "Trainer, nanoGPT, llm.c, many others"),
    "median": ("the median", "rule of thumb", _at(0.5), "the running median; half of all steps are clipped"),
    "p90": ("the 90% point", "QuantileClip", _at(0.9), "default in the package autoclip (there of the last 1,000)"),
    "autoclip_p10": ("the 10% point of all norms so far", "AutoClip 2020", _at(AUTOCLIP), "arXiv:2007.14469"),
    "zclip": ("moving mean + 2.5 sd", "ZClip 2025", zclip, "Kumar et al., 2025, arXiv:2504.02507"),
    "pascanu_mean": ("the mean", "Pascanu 2013", _mean, _PASCANU),
    "pascanu_0.5x": ("half the mean", "Pascanu 2013", _times(0.5, _mean), _PASCANU),
    "pascanu_5x": ("5 x the mean", "Pascanu 2013", _times(5, _mean), _PASCANU),
    "pascanu_10x": ("10 x the mean", "Pascanu 2013", _times(10, _mean), _PASCANU),
    "median_2x": ("2 x the median", "rule of thumb", _times(2, _at(0.5)), "the best simple rule in our sweeps"),
    "median_3mad": ("median + 3 MAD, in logs", "Hampel 1974", median_3mad, "Hampel, 1974, JASA 69:383"),
    "p95": ("the 95% point", "TRELLIS 2024", _at(0.95), "AdaptiveGradClipper, arXiv:2412.01506 (last 1,000 there)"),
    "p99": ("the 99% point", "rule of thumb", _at(0.99), "a spike itself where more than one step in a hundred is"),
    "tukey": ("Q3 + 1.5 IQR, in logs", "Tukey 1977", tukey, "Exploratory Data Analysis: the fence of the box plot"),
    "mean_2.5sd": ("mean + 2.5 sd", "z-score rule", mean_25sd, "ZClip's 2.5, without its moving averages"),
}
_LIMITS = {"autoclip_p10": autoclip_limits, "zclip": zclip_limits}
BASELINES: Mapping[str, Baseline] = {
    name: Baseline(label=label, source=source, rule=rule, origin=origin, limits=_LIMITS.get(name))
    for name, (label, source, rule, origin) in _RULES.items()
}
