"""Regimes of what a log makes of the norms: rounding, gaps, windows, several runs in one file."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.random import Generator

from benchmarks.traces.labels import DIVERGING, HEAVY, SPIKES, STABLE, Labelled, Truth, steady, truth_of
from benchmarks.traces.process import Array, length, level, log_uniform, lognormal, scale, spread, warm_up
from benchmarks.traces.training import draw_spikes


def rounded(rng: Generator) -> Labelled:
    """Norms from 0.05 to 2 to two decimals; a third of the traces have spikes."""
    n = length(rng)
    spikes = draw_spikes(rng, n, rng.choice([0.0, 0.0, 0.02]), smallest=log_uniform(rng, 3.0, 8.0))
    whole = steady(rng, lognormal(spread(rng, 0.4)), level(n), unit=log_uniform(rng, 0.05, 2.0), spikes=spikes)
    return replace(whole, norms=np.round(whole.norms, 2))


def holes(rng: Generator) -> Labelled:
    """NaN, inf (steps that a GradScaler skipped) and zeros between the norms; a third of the traces have spikes."""
    n = length(rng)
    spikes = draw_spikes(rng, n, rng.choice([0.0, 0.0, 0.02]), smallest=log_uniform(rng, 3.0, 8.0))
    whole = steady(rng, lognormal(spread(rng, 0.4)), level(n), unit=scale(rng), spikes=spikes)
    norms = whole.norms.copy()
    for value, most in ((np.nan, 0.1), (np.inf, 0.03), (0.0, 0.1)):
        lost = rng.random(n) < rng.uniform(0, most)
        lost[spikes.at] = False
        norms[lost] = value
    if np.count_nonzero(~np.isfinite(norms[-4:])) >= 3:
        # By chance it ends as a run that broke down does.
        return replace(whole, norms=norms, verdicts=whole.verdicts | {DIVERGING})
    return replace(whole, norms=norms)


def last_of_window(rng: Generator) -> Labelled:
    """A line for every 5 to 50 steps, with the norm of its last step: the same process, seen less often."""
    n = length(rng, 100, 600)
    spikes = draw_spikes(rng, n, rng.choice([0.0, 0.01, 0.03]), smallest=log_uniform(rng, 3.0, 8.0))
    start = warm_up(rng, 10 * n)[::10] if rng.random() < 0.5 and not spikes.at.size else None
    return steady(rng, lognormal(spread(rng, 0.4)), level(n), unit=scale(rng), spikes=spikes, start=start)


def mean_of_window(rng: Generator) -> Labelled:
    """A line for every 2 to 4 steps, with the mean of their norms: narrower than the steps, and spikes are thinned out.

    The truth is that of the steps, since a threshold acts on them; "spikes" is right where the lines still show a gap.
    """
    width = int(rng.integers(2, 5))
    n = width * length(rng, 150, 1500)
    law, unit = lognormal(spread(rng, 0.3)), scale(rng)
    spikes = draw_spikes(rng, n, rng.choice([0.0, 0.0, 0.01]), smallest=log_uniform(rng, 5.0, 20.0))
    steps = steady(rng, law, level(n), unit=unit, spikes=spikes)
    lines = steps.norms.reshape(-1, width).mean(axis=1)
    if not spikes.at.size:
        return replace(steps, norms=lines, verdicts=frozenset([STABLE]))
    spiky = np.unique(spikes.at // width)
    clear = float(np.min(lines[spiky])) > 2.0 * float(np.max(np.delete(lines, spiky)))
    return replace(steps, norms=lines, verdicts=frozenset([SPIKES] if clear else [SPIKES, HEAVY, STABLE]))


def joined_runs(rng: Generator) -> Labelled:
    """Two runs appended to one log, each with a warm-up, the second at half to twice the level: it is the one to go by."""
    first, second = length(rng, 150, 1000), length(rng, 150, 1000)
    law, unit = lognormal(spread(rng, 0.4)), scale(rng)
    other = unit * log_uniform(rng, 0.5, 2.0)
    starts: Array = np.concatenate([unit * warm_up(rng, first), other * warm_up(rng, second)])
    truth: Truth = truth_of(rng, law, np.array([other]))
    return Labelled(
        norms=starts * law(rng, first + second),
        verdicts=frozenset([STABLE]),
        truth=truth,
        steps=np.concatenate([np.arange(first), np.arange(second)]),
    )
