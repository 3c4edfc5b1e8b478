"""Regimes whose level moves at one place: it leaps and stays, or begins to move near the end."""

from __future__ import annotations

import math

import numpy as np
from numpy.random import Generator

from benchmarks.traces.labels import Labelled, steady
from benchmarks.traces.process import length, log_uniform, lognormal, scale, shaped, spread

FEWEST = 25  # steps after a shift: fewer, and nobody could tell it from a stretch of spikes


def _shifted(rng: Generator, earliest: float, latest: float) -> Labelled:
    n = length(rng)
    start = min(rng.uniform(earliest, latest), 1 - FEWEST / n)
    change = math.log(log_uniform(rng, 1.5, 5.0)) * rng.choice([-1.0, 1.0])
    return steady(rng, lognormal(spread(rng, 0.4)), shaped(n, lambda t: change * (t >= start)), unit=scale(rng))


def level_shift(rng: Generator) -> Labelled:
    """From one step to the next the level is 1.5 to 5 times higher or lower, and stays there: a new phase of the data."""
    return _shifted(rng, 0.15, 0.85)


def late_shift(rng: Generator) -> Labelled:
    """The same in the last 15%: most of the trace is of a level that will not come back."""
    return _shifted(rng, 0.85, 0.97)


def late_onset(rng: Generator) -> Labelled:
    """Flat for long; in the last tenth to 30% the level begins to move, and goes on, ever slower, when the trace ends."""
    start, change = rng.uniform(0.7, 0.9), math.log(log_uniform(rng, 1.5, 4.0)) * rng.choice([-1.0, 1.0])
    course = shaped(length(rng), lambda t: -change * np.expm1(-2 * np.maximum(t - start, 0.0) / (1 - start)))
    return steady(rng, lognormal(spread(rng, 0.4)), course, unit=scale(rng))
