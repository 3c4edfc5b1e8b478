"""Regimes of training that goes on: how its norms scatter, move, and spike."""

from __future__ import annotations

import math

import numpy as np
from numpy.random import Generator

from benchmarks.traces.labels import HEAVY, STABLE, Labelled, Spikes, steady, truth_of
from benchmarks.traces.process import (
    Array,
    autocorrelated,
    drift,
    gamma,
    length,
    level,
    log_t,
    log_uniform,
    lognormal,
    pareto,
    periodic,
    scale,
    second_mode,
    shaped,
    skewed,
    spread,
    staircase,
    two_sources,
    u_shape,
    warm_up,
)

NEAREST = 2.0  # times the stable p99: spikes that start nearer are hardly ever told apart by anyone


def draw_spikes(rng: Generator, n: int, rate: float, *, first: int = 0, smallest: float | None = None) -> Spikes:
    """Independent spikes: their sizes fall off as a power from a smallest on, which is drawn anew for each trace."""
    at = np.flatnonzero((rng.random(n) < rate) & (np.arange(n) >= first))
    least = log_uniform(rng, NEAREST, 8.0) if smallest is None else smallest
    times = np.minimum(least * (1 - rng.random(at.size)) ** -0.7, 1e4)
    return Spikes(at=at, times=times, after=np.zeros(at.size, dtype=np.bool_))


def log_normal(rng: Generator) -> Labelled:
    return steady(rng, lognormal(spread(rng)), level(length(rng)), unit=10 ** rng.uniform(-10, 5))


def gamma_noise(rng: Generator) -> Labelled:
    return steady(rng, gamma(log_uniform(rng, 2.0, 40.0)), level(length(rng)), unit=scale(rng))


def skewed_noise(rng: Generator) -> Labelled:
    return steady(rng, skewed(log_uniform(rng, 0.06, 0.25)), level(length(rng)), unit=scale(rng))


def warm_start(rng: Generator) -> Labelled:
    n = length(rng)
    return steady(rng, lognormal(spread(rng, 0.45)), level(n), unit=scale(rng), start=warm_up(rng, n))


def drift_up(rng: Generator) -> Labelled:
    course = drift(rng, length(rng), math.log(log_uniform(rng, 1.8, 8.0)))
    return steady(rng, lognormal(spread(rng, 0.45)), course, unit=scale(rng))


def drift_down(rng: Generator) -> Labelled:
    course = drift(rng, length(rng), -math.log(log_uniform(rng, 1.8, 8.0)))
    return steady(rng, lognormal(spread(rng, 0.45)), course, unit=scale(rng))


def late_drift(rng: Generator) -> Labelled:
    """Flat for long; in the last tenth to 30% the level moves, and stays where it is at the end."""
    start, change = rng.uniform(0.7, 0.9), math.log(log_uniform(rng, 1.5, 4.0)) * rng.choice([-1.0, 1.0])
    course = shaped(length(rng), lambda t: change * np.clip((t - start) / (1 - start), 0.0, 1.0))
    return steady(rng, lognormal(spread(rng, 0.4)), course, unit=scale(rng))


def down_and_up(rng: Generator) -> Labelled:
    course = u_shape(length(rng), math.log(log_uniform(rng, 1.5, 6.0)))
    return steady(rng, lognormal(spread(rng, 0.4)), course, unit=scale(rng))


def stairs(rng: Generator) -> Labelled:
    return steady(rng, lognormal(spread(rng, 0.4)), staircase(rng, length(rng)), unit=scale(rng))


def epochs(rng: Generator) -> Labelled:
    """The level climbs (or falls) within an epoch and leaps back when the data start again."""
    climb = math.log(log_uniform(rng, 1.3, 3.0)) * rng.choice([-1.0, 1.0])
    course = periodic(length(rng, 300), rng.uniform(2.5, 12.0), lambda phase: climb * phase)
    return steady(rng, lognormal(spread(rng, 0.4)), course, unit=scale(rng))


def restarts(rng: Generator) -> Labelled:
    """Cosine schedule with restarts: norms rise as the rate falls, or fall with it, and leap at a restart."""
    height = math.log(log_uniform(rng, 1.4, 4.0)) * rng.choice([-1.0, 1.0])
    course = periodic(length(rng, 300), rng.uniform(2.3, 5.0), lambda p: 0.5 * height * (1 - np.cos(np.pi * p)))
    return steady(rng, lognormal(spread(rng, 0.4)), course, unit=scale(rng))


def rare_spikes(rng: Generator) -> Labelled:
    n = length(rng)
    start = warm_up(rng, n) if rng.random() < 0.5 else None
    first = 0 if start is None else round(0.16 * n)
    spikes = draw_spikes(rng, n, log_uniform(rng, 0.002, 0.05), first=first)
    return steady(rng, lognormal(spread(rng, 0.5)), level(n), unit=scale(rng), spikes=spikes, start=start)


def bursts(rng: Generator) -> Labelled:
    """A spike throws the weights off; the norms come back over some steps, each a factor nearer to their level."""
    n = length(rng)
    times = np.zeros(n)
    after = np.zeros(n, dtype=np.bool_)
    least, decay = log_uniform(rng, 3.0, 10.0), rng.uniform(0.3, 0.8)
    for i in np.flatnonzero(rng.random(n) < log_uniform(rng, 0.003, 0.02)).tolist():
        size = min(least * (1 - rng.random()) ** -0.5, 1e3)
        num_after = math.ceil(math.log(size) / -math.log(decay))
        k = np.arange(i, min(i + 1 + num_after, n))
        shock = size * decay ** (k - i)
        larger = shock > times[k]
        times[k[larger]], after[k[larger]] = shock[larger], (k > i)[larger]
    at = np.flatnonzero(times)
    spikes = Spikes(at=at, times=times[at], after=after[at])
    return steady(rng, lognormal(spread(rng, 0.4)), level(n), unit=scale(rng), spikes=spikes)


def many_spikes(rng: Generator) -> Labelled:
    """Every seventh to twentieth step, over two orders of magnitude: enough to move any mean and upper quantile."""
    n = length(rng)
    spikes = draw_spikes(rng, n, rng.uniform(0.05, 0.15), smallest=log_uniform(rng, NEAREST, 5.0))
    return steady(rng, lognormal(spread(rng, 0.4)), level(n), unit=scale(rng), spikes=spikes)


def wide_spikes(rng: Generator) -> Labelled:
    """One to four stretches of 4 to 30 steps (a fifth of the trace at most) far above the level, as from a bad shard of data; none at the end."""
    n = length(rng, 300)
    inside = np.zeros(n, dtype=np.bool_)
    for first in rng.uniform(0.2, 0.85, int(rng.integers(1, 5))):
        inside[int(first * n) :][: int(rng.integers(4, min(n // 20, 30) + 1))] = True
    at = np.flatnonzero(inside)
    times = log_uniform(rng, 3.0, 30.0) * np.exp(np.abs(0.3 * rng.standard_normal(at.size)))
    spikes = Spikes(at=at, times=times, after=np.zeros(at.size, dtype=np.bool_))
    return steady(rng, lognormal(spread(rng, 0.4)), level(n), unit=scale(rng), spikes=spikes)


def spikes_on_drift(rng: Generator) -> Labelled:
    """Spikes ride on the level; the smallest clears what is ahead, however far the level will have moved there."""
    n = length(rng)
    course = drift(rng, n, math.log(log_uniform(rng, 1.5, 5.0)) * rng.choice([-1.0, 1.0]))
    spikes = draw_spikes(rng, n, log_uniform(rng, 0.003, 0.05), smallest=log_uniform(rng, 3.0, 10.0))
    return steady(rng, lognormal(spread(rng, 0.4)), course, unit=scale(rng), spikes=spikes)


def wide_and_near(rng: Generator) -> Labelled:
    """Stable norms that scatter widely, and spikes hardly beyond them: the least room between the two."""
    n = length(rng, 300)
    spikes = draw_spikes(rng, n, log_uniform(rng, 0.005, 0.05), smallest=rng.uniform(NEAREST, 3.0))
    return steady(rng, lognormal(rng.uniform(0.45, 0.75)), level(n), unit=scale(rng), spikes=spikes)


def many_in_few(rng: Generator) -> Labelled:
    n = length(rng, 50, 200)
    spikes = draw_spikes(rng, n, rng.uniform(0.05, 0.2), smallest=log_uniform(rng, 2.5, 6.0))
    return steady(rng, lognormal(spread(rng, 0.4)), level(n), unit=scale(rng), spikes=spikes)


def heavy_tails(rng: Generator) -> Labelled:
    wide = log_uniform(rng, 0.15, 0.4)
    if rng.random() < 0.5:
        law = pareto(wide, rng.uniform(1.3, 3.0), rng.uniform(0.05, 0.25))
    else:
        law = log_t(wide, rng.uniform(2.0, 5.0))
    return steady(rng, law, level(length(rng)), unit=scale(rng), heavy=True)


def slow_noise(rng: Generator) -> Labelled:
    law = autocorrelated(spread(rng, 0.4), rng.uniform(0.3, 0.95))
    return steady(rng, law, level(length(rng)), unit=scale(rng))


def changing_spread(rng: Generator) -> Labelled:
    """The scatter widens or narrows by 1.5 to 3 times over the trace; that of the end goes on."""
    n, wide = length(rng), spread(rng, 0.4)
    spreads = wide * log_uniform(rng, 1.5, 3.0) ** (np.linspace(0, 1, n) * rng.choice([-1.0, 1.0]))
    unit = scale(rng)
    return Labelled(
        norms=unit * np.exp(spreads * rng.standard_normal(n)),
        verdicts=frozenset([STABLE, HEAVY]),
        truth=truth_of(rng, lognormal(float(spreads[-1])), np.array([unit])),
    )


def flat_norms(rng: Generator) -> Labelled:
    """Large batches under Adam: a spread of a few per cent, and a level that hardly moves."""
    course = drift(rng, length(rng), math.log(rng.uniform(0.8, 1.25)))
    return steady(rng, lognormal(log_uniform(rng, 0.02, 0.08)), course, unit=scale(rng))


def two_data_sources(rng: Generator) -> Labelled:
    law = two_sources(rng.uniform(0.08, 0.2), rng.uniform(1.6, 2.5), rng.uniform(0.2, 0.8))
    return steady(rng, law, level(length(rng)), unit=scale(rng))


def mode_near_zero(rng: Generator) -> Labelled:
    law = second_mode(spread(rng, 0.4), rng.uniform(0.1, 0.35), log_uniform(rng, 20.0, 1000.0), rng.uniform(0.3, 1.0))
    return steady(rng, law, level(length(rng)), unit=scale(rng))


def short(rng: Generator) -> Labelled:
    """20 to 60 steps; where there are spikes, they are far: nearer ones, nobody could tell from so few."""
    n = length(rng, 20, 60)
    spikes = draw_spikes(rng, n, rng.choice([0.0, 0.04]), smallest=log_uniform(rng, 4.0, 10.0))
    return steady(rng, lognormal(spread(rng, 0.4)), level(n), unit=scale(rng), spikes=spikes)


def long_quiet(rng: Generator) -> Labelled:
    """100,000 steps, as a log of a whole pre-training run has: any test that errs once in 10,000 steps shows here."""
    n = 100_000
    course = drift(rng, n, -math.log(log_uniform(rng, 1.1, 4.0)))
    start: Array = 1 + log_uniform(rng, 4.0, 30.0) * np.exp(-np.arange(n) / 500)
    return steady(rng, lognormal(spread(rng, 0.3)), course, unit=scale(rng), start=start)


def compound(rng: Generator) -> Labelled:
    """Several of these at once, as real logs have them: a warm-up, a moving level, slow noise, spikes in half of the traces."""
    n = length(rng, 300)
    course = [
        drift(rng, n, math.log(log_uniform(rng, 1.2, 3.0)) * rng.choice([-1.0, 1.0])),
        staircase(rng, n),
        periodic(n, rng.uniform(3, 8), lambda phase: 0.5 * phase),
        level(n),
    ][rng.integers(4)]
    wide = spread(rng, 0.35)
    law = [autocorrelated(wide, rng.uniform(0.2, 0.8)), gamma(log_uniform(rng, 6, 40)), skewed(0.4 * wide)][
        rng.integers(3)
    ]
    start = warm_up(rng, n) if rng.random() < 0.5 else None
    spikes = draw_spikes(
        rng, n, rng.choice([0.0, 0.01, 0.03]), first=round(0.16 * n), smallest=log_uniform(rng, 3.5, 10)
    )
    return steady(rng, law, course, unit=scale(rng), spikes=spikes, start=start)
