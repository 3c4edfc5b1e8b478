"""Ten to 60 rows cut from longer traces: what is asked of an answer is that it does not go beyond them.

No threshold is right or wrong on them, and so there is no truth. "insufficient" is right, and so is a first number under any
verdict that rows of the whole trace could bear.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.random import Generator

from benchmarks.traces import endings, heavy, moving, training
from benchmarks.traces.labels import DIVERGING, HEAVY, INSUFFICIENT, SPIKES, STABLE, VANISHING, Labelled
from benchmarks.traces.process import log_uniform, lognormal, scale

FIRST_NUMBER = frozenset([INSUFFICIENT, STABLE, SPIKES, HEAVY])
WHOLE = (
    training.log_normal,
    training.warm_start,
    training.drift_up,
    training.drift_down,
    training.late_drift,
    training.stairs,
    training.rare_spikes,
    training.bursts,
    training.many_spikes,
    training.wide_spikes,
    training.heavy_tails,
    training.slow_noise,
    training.mode_near_zero,
    training.compound,
    heavy.wide_log_normal,
    moving.level_shift,
    endings.growth,
    endings.late_growth,
    endings.nan_tail,
    endings.spikes_then_end,
)
"""What is cut from. Traces after clipping are left out: a few rows of them can be all at the threshold, or none."""


def excerpt(rng: Generator) -> Labelled:
    """Neighbouring rows; one in three excerpts holds the start of the trace, one in three its end."""
    whole = WHOLE[rng.integers(len(WHOLE))](rng)
    n = int(rng.integers(10, 61))
    last = whole.norms.size - n
    first = [0, last, int(rng.integers(last + 1))][rng.integers(3)]
    ends = {DIVERGING} & whole.verdicts
    return Labelled(norms=whole.norms[first : first + n], verdicts=FIRST_NUMBER | ends, truth=None)


def steep(rng: Generator) -> Labelled:
    """Rows that grow or fall all the while, by 3 to 10,000 times from the first to the last, straight or at last only."""
    n = int(rng.integers(10, 61))
    up = rng.random() < 0.5
    change = math.log(log_uniform(rng, 3.0, 1e4)) * (1.0 if up else -1.0)
    course = change * np.linspace(0, 1, n) ** rng.choice([1.0, 3.0])
    norms = scale(rng) * np.exp(course) * lognormal(log_uniform(rng, 0.01, 0.3))(rng, n)
    return Labelled(norms=norms, verdicts=FIRST_NUMBER | {DIVERGING if up else VANISHING}, truth=None)
