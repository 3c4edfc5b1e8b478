"""Regimes where training does not go on: it diverges, vanishes, or the log cannot tell."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.random import Generator

from benchmarks.traces.labels import (
    CLIPPED,
    DIVERGING,
    INSUFFICIENT,
    SPIKES,
    VANISHING,
    Labelled,
    steady,
    truth_of,
)
from benchmarks.traces.process import (
    Array,
    Law,
    length,
    level,
    log_uniform,
    lognormal,
    scale,
    significant,
    spread,
    warm_up,
)
from benchmarks.traces.training import draw_spikes

DIVERGED = frozenset([DIVERGING])
LARGEST = float(np.finfo(np.float32).max)  # norms are computed in fp32: what lies above is inf


def _before(rng: Generator, n: int, num_healthy: int) -> tuple[Array, Law, float]:
    """Stable norms (n,), of which the first ``num_healthy`` are to be kept, with their law and level."""
    law, unit = lognormal(spread(rng, 0.4)), scale(rng)
    norms = unit * law(rng, n)
    if rng.random() < 0.5 and num_healthy >= 60:
        norms[:num_healthy] *= warm_up(rng, num_healthy)
    return norms, law, unit


def _overflown(norms: Array) -> Array:
    return np.where(norms > LARGEST, np.inf, norms)


def growth(rng: Generator) -> Labelled:
    """Exponential growth from somewhere in the middle on, by 1e4 at least, mostly until it overflows."""
    n = length(rng)
    start = round(rng.uniform(0.35, 0.85) * n)
    norms, law, unit = _before(rng, n, start)
    total = log_uniform(rng, np.log(1e4), 200.0)
    norms[start:] *= np.exp(np.linspace(0, total, n - start))
    return Labelled(norms=_overflown(norms), verdicts=DIVERGED, truth=truth_of(rng, law, np.array([unit])))


def plateau(rng: Generator) -> Labelled:
    """The loss leaps within a few steps and stays where it is, and the norms with it, 20 to 10,000 times higher."""
    n = length(rng)
    start = round(rng.uniform(0.35, 0.85) * n)
    norms, law, unit = _before(rng, n, start)
    climb = np.minimum((1 + np.arange(n - start)) / rng.integers(1, 6), 1.0)
    norms[start:] *= log_uniform(rng, 20.0, 1e4) ** climb * np.exp(
        rng.uniform(0.0, 0.5) * rng.standard_normal(n - start)
    )
    return Labelled(norms=norms, verdicts=DIVERGED, truth=truth_of(rng, law, np.array([unit])))


def nan_tail(rng: Generator) -> Labelled:
    """From one step to the next all NaN, as after a NaN in the weights."""
    n = length(rng)
    start = round(rng.uniform(0.35, 0.98) * n)
    norms, law, unit = _before(rng, n, start)
    norms[min(start, n - 3) :] = np.nan
    return Labelled(norms=norms, verdicts=DIVERGED, truth=truth_of(rng, law, np.array([unit])))


def late_growth(rng: Generator) -> Labelled:
    """The last 10 steps to 6% grow a hundredfold or more; where they are fewer than 20, "spikes" is no lie either."""
    n = length(rng)
    num_last = max(round(rng.uniform(0.02, 0.06) * n), 10)
    norms, law, unit = _before(rng, n, n - num_last)
    norms[-num_last:] *= np.exp(np.linspace(0, np.log(log_uniform(rng, 100.0, 1e5)), num_last))
    verdicts = DIVERGED if num_last >= 20 else frozenset([DIVERGING, SPIKES])
    return Labelled(norms=norms, verdicts=verdicts, truth=truth_of(rng, law, np.array([unit])))


def only_inf(rng: Generator) -> Labelled:
    """6 to 25 good norms, then nothing finite any more."""
    good = int(rng.integers(6, 26))
    n = good + length(rng, 10, 300)
    norms, law, unit = _before(rng, n, good)
    norms[good:] = np.inf if rng.random() < 0.5 else np.nan
    norms[good] = np.inf
    return Labelled(norms=norms, verdicts=DIVERGED, truth=truth_of(rng, law, np.array([unit])))


def spikes_then_end(rng: Generator) -> Labelled:
    """Spikes in the healthy part, then growth, a plateau or NaN: the spikes are no part of either."""
    n = length(rng, 300)
    start = round(rng.uniform(0.4, 0.85) * n)
    law, unit = lognormal(spread(rng, 0.4)), scale(rng)
    spikes = draw_spikes(rng, start, log_uniform(rng, 0.005, 0.03), smallest=log_uniform(rng, 3.0, 8.0))
    healthy = steady(rng, law, level(start), unit=unit, spikes=spikes)
    rest = unit * law(rng, n - start)
    match int(rng.integers(3)):
        case 0:
            rest *= np.exp(np.linspace(0, log_uniform(rng, np.log(1e4), 200.0), n - start))
        case 1:
            rest *= log_uniform(rng, 50.0, 1e4)
        case _:
            rest[:] = np.nan
    return replace(healthy, norms=_overflown(np.concatenate([healthy.norms, rest])), verdicts=DIVERGED)


def vanishing(rng: Generator) -> Labelled:
    """By decay through four orders of magnitude and more, by sudden death, or down to exact zeros."""
    n = length(rng)
    norms, _, _ = _before(rng, n, n)
    kind = rng.integers(3)
    start = round(rng.uniform(0.1, 0.7) * n)
    if kind == 0:
        norms *= np.exp(-np.linspace(0, np.log(log_uniform(rng, 1e5, 1e9)), n))
    elif kind == 1:
        norms[start:] *= log_uniform(rng, 1e-8, 1e-5)
    else:
        norms[start:] = 0.0
    return Labelled(norms=norms, verdicts=frozenset([VANISHING]), truth=None)


def _clipped(rng: Generator) -> tuple[Array, float]:
    """Norms (n,) after clipping at a usual ``max_norm``, and that: a fifth to 19 of 20 steps were above it."""
    max_norm = float(rng.choice([0.1, 0.25, 0.5, 1.0, 2.0, 5.0]))
    norms = lognormal(spread(rng))(rng, length(rng))
    norms *= max_norm / np.quantile(norms, 1 - rng.uniform(0.2, 0.95))
    return np.minimum(norms, max_norm), max_norm


def clipped(rng: Generator) -> Labelled:
    """Clipped norms, as fp32 computes them again: each off by a few 1e-7, and by torch's 1e-6 over the norm."""
    norms, max_norm = _clipped(rng)
    norms *= 1 + 2e-7 * rng.standard_normal(norms.size) - (norms == max_norm) * 1e-6 * rng.random(norms.size)
    return Labelled(norms=norms, verdicts=frozenset([CLIPPED]), truth=None)


def clipped_log(rng: Generator) -> Labelled:
    """The same as people log it: to 2 to 4 decimals or 3 to 4 significant digits."""
    norms, _ = _clipped(rng)
    if rng.random() < 0.5:
        norms = np.round(norms, int(rng.integers(2, 5)))
    else:
        norms = significant(norms, int(rng.integers(3, 5)))
    return Labelled(norms=norms, verdicts=frozenset([CLIPPED]), truth=None)


def nothing(rng: Generator) -> Labelled:
    """No threshold can be read: all NaN, all zero, fewer than 8 steps, or one constant."""
    n = length(rng, 20, 500)
    insufficient = frozenset([INSUFFICIENT])
    match int(rng.integers(4)):
        case 0:
            return Labelled(norms=np.full(n, np.nan), verdicts=insufficient, truth=None)
        case 1:
            return Labelled(norms=np.zeros(n), verdicts=insufficient | {VANISHING}, truth=None)
        case 2:
            norms = lognormal(spread(rng))(rng, int(rng.integers(0, 8)))
            return Labelled(norms=norms, verdicts=insufficient, truth=None)
        case _:
            norms = np.full(n, float(rng.choice([0.1, 0.5, 1.0])))
            return Labelled(norms=norms, verdicts=frozenset([CLIPPED]), truth=None)
