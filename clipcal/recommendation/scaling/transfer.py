"""What was read of a profile, and of the same arm at K times its batch -> by what factor a threshold moves at m times the batch.

For a loss that is a mean, the squared norm of the gradient of m batches is |G|^2 + (S/B)/m in the mean (McCandlish et al. 2018, the gradient
noise scale). The norms of K batches and of their mean, at the same weights, give the share of the noise. That is half of it: with
less noise training takes another path, on which norms are others at the same batch too. So the level at K is measured, on its
own path, and what it is apart from the noise is called the drift.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from clipcal.errors import InputError
from clipcal.recommendation.answer import Reading
from clipcal.stats import FEWEST, Steady
from clipcal.stats.arrays import Array
from clipcal.stats.bootstrap import BATCHES, REPLICATES

ONWARD = 0.5  # of the drift between 1 and K is expected again from K to K^2: between none of it, and all
INSIDE = (0.05, 0.95)  # quantiles of the replicates, as of the interval of a threshold


@dataclass(frozen=True, kw_only=True)
class Transfer:
    """How a threshold moves to ``times`` the batch, from a probe at ``probed`` times of ``steps`` steps.

    ``noise`` is the share of S/B in |G|^2 + S/B at the profile's batch, ``signal_norm`` and ``noise_norm`` the roots of the two, in the unit of the
    norms. ``measured`` is the level of the norms at the probe's batch over the profile's; ``drift`` is what of it the noise does not
    explain. ``factor`` is the threshold's, ``interval`` about 90%. ``shared`` is the part of a spike that all batches of its step have:
    0 for single bad batches, 1 for spikes of the whole loss, None where the probe saw none.
    """

    times: int
    probed: int
    steps: int
    noise: float
    noise_interval: tuple[float, float]
    signal_norm: float
    noise_norm: float
    measured: float
    drift: float
    factor: float
    interval: tuple[float, float]
    shared: float | None

    @property
    def noise_scale(self) -> float:
        """How many batches of the profile make noise and signal equal."""
        return self.noise / (1 - self.noise) if self.noise < 1 else math.inf


def transfer(
    profile: Reading, probe: Reading, parts: Array, *, times: int, summed: bool = False, spike: float | None = None
) -> Transfer:
    """How a threshold that was read from ``profile`` moves to ``times`` the batch.

    ``probe`` has the norms (k,) of the same arm with K batches a step, and ``parts`` (k, K) the norms of the gradients of these batches, at the
    same weights. ``summed``: the loss is a sum over its batch, so the norms of the probe are those of sums. ``spike``: the smallest spike of the
    profile. Raises InputError where there is too little to go by.
    """
    count, probed = parts.shape[1], probe.norms
    base, level = _steady(profile, "profile"), _steady(probe, f"probe at {count} times the batch")
    rows = level.stable_rows
    means = probed / count if summed else probed
    squares = np.mean(parts**2, axis=1)
    rows = rows[np.isfinite(squares[rows]) & (squares[rows] > 0)]
    if rows.size < FEWEST:
        raise InputError(
            f"The probe holds {rows.size} stable steps, and {FEWEST} are needed at least, about 50 for a first number: "
            "profile more steps."
        )
    ratios = means[rows] ** 2 / squares[rows]
    noise = _noise(float(np.mean(ratios)), count)
    some = _noise(_resampled_mean(ratios), count)
    # what the replicates of the two levels have in common is their seed, and they are independent measurements
    shuffled = np.random.default_rng(2).permutation(level.log_median)
    grown = math.log(count) if summed else 0.0
    measured = math.log(level.median) - math.log(base.median)
    log_factor, reach, drift = _moved(measured - grown, noise, count, times)
    replicates, _, _ = _moved(shuffled - base.log_median - grown, some, count, times)
    low, high = np.quantile(replicates - log_factor, INSIDE)
    whole = float(log_factor) + (math.log(times) if summed else 0.0)
    usual = float(np.median(squares[rows]))
    low_noise, high_noise = np.quantile(some, INSIDE)
    return Transfer(
        times=times,
        probed=count,
        steps=int(rows.size),
        noise=float(noise),
        noise_interval=(float(low_noise), float(high_noise)),
        signal_norm=math.sqrt(usual * (1 - float(noise))),
        noise_norm=math.sqrt(usual * float(noise)),
        measured=math.exp(measured),
        drift=math.exp(float(drift)),
        factor=math.exp(whole),
        interval=(
            math.exp(whole - math.hypot(min(float(low), 0.0), float(reach))),
            math.exp(whole + math.hypot(max(float(high), 0.0), float(reach))),
        ),
        shared=None if spike is None else _shared(means, parts, spike),
    )


def _steady(reading: Reading, what: str) -> Steady:
    found = reading.stats.steady
    if found is None:
        raise InputError(
            f"The {what} has no stable part ({reading.norms.size} steps): how a threshold moves is read from the ordinary steps of "
            "both. Profile more steps, or at the larger batch itself."
        )
    return found


def _noise(ratio: Array | float, count: int) -> Array:
    """The share of the noise, for the squared norm of the mean over the mean of the squared norms: 1/K for noise alone, 1
    without any."""
    return np.clip((1 - np.asarray(ratio, dtype=np.float64)) * count / (count - 1), 0.0, 1.0)


def _log_norm(noise: Array, times: float) -> Array:
    """The log of the norm at ``times`` the batch over the one at the batch itself, at the same weights."""
    return np.asarray(0.5 * np.log(1 - noise + noise / times), dtype=np.float64)


def _moved(measured: Array | float, noise: Array, count: int, times: int) -> tuple[Array, Array, Array]:
    """The log factor, how far drift that was not measured may move it either way, and the log drift at the probe.

    Up to the probe's batch the drift is taken as a power of the batch. Beyond, it may stop or go on like that: half of it is
    expected, and the reach is what it would be in full, so that either lies well inside.
    """
    drift = measured - _log_norm(noise, count)
    far = math.log(times) / math.log(count)
    beyond = max(far - 1, 0.0)
    log_factor = _log_norm(noise, times) + drift * (min(far, 1.0) + ONWARD * beyond)
    return log_factor, np.abs(drift) * beyond, np.asarray(drift)


def _resampled_mean(values: Array) -> Array:
    """Means (REPLICATES,) of batches of neighbouring steps drawn with replacement: steps near each other are alike."""
    blocks = np.array_split(values, min(BATCHES, values.size))
    sums, sizes = np.array([b.sum() for b in blocks]), np.array([b.size for b in blocks])
    draws = np.random.default_rng(0).multinomial(len(blocks), np.full(len(blocks), 1 / len(blocks)), size=REPLICATES)
    return np.asarray(draws @ sums / (draws @ sizes), dtype=np.float64)


def _shared(means: Array, parts: Array, spike: float) -> float | None:
    """How much of a spike all batches of its step have: what is left of the largest batch's norm in the mean, beyond its own share."""
    count = parts.shape[1]
    largest = np.max(parts, axis=1)
    rows = np.flatnonzero(np.isfinite(means) & np.isfinite(largest) & (largest >= spike))
    if not rows.size:
        return None
    left = float(np.median(means[rows] / largest[rows]))
    return float(np.clip((count * left - 1) / (count - 1), 0.0, 1.0))
