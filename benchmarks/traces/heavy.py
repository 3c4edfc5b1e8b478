"""Regimes whose stable norms have heavier tails than those in training.py, move besides, or are few."""

from __future__ import annotations

import math

from numpy.random import Generator

from benchmarks.traces.labels import Labelled, steady
from benchmarks.traces.process import Law, drift, length, level, log_t, log_uniform, lognormal, pareto, scale


def _tailed(rng: Generator) -> Law:
    wide = log_uniform(rng, 0.15, 0.4)
    if rng.random() < 0.5:
        return pareto(wide, rng.uniform(1.3, 3.0), rng.uniform(0.05, 0.25))
    return log_t(wide, rng.uniform(2.0, 5.0))


def very_heavy(rng: Generator) -> Labelled:
    """Pareto with an index of 0.9 to 1.4 from the upper tenth to 40% on: a mean that hardly exists."""
    law = pareto(log_uniform(rng, 0.2, 0.5), rng.uniform(0.9, 1.4), rng.uniform(0.1, 0.4))
    return steady(rng, law, level(length(rng)), unit=scale(rng), heavy=True)


def wide_log_normal(rng: Generator) -> Labelled:
    """Log-normal with a spread of 0.7 to 1.3, as the norms of policy gradients: p99 is 5 to 20 times the median."""
    return steady(rng, lognormal(rng.uniform(0.7, 1.3)), level(length(rng)), unit=scale(rng), heavy=True)


def heavy_on_drift(rng: Generator) -> Labelled:
    """Heavy tails around a level that moves by 1.5 to 4 times."""
    change = math.log(log_uniform(rng, 1.5, 4.0)) * rng.choice([-1.0, 1.0])
    return steady(rng, _tailed(rng), drift(rng, length(rng), change), unit=scale(rng), heavy=True)


def few_heavy(rng: Generator) -> Labelled:
    """Heavy tails in 50 to 150 steps."""
    return steady(rng, _tailed(rng), level(length(rng, 50, 150)), unit=scale(rng), heavy=True)
