"""How stable gradient norms scatter and how their level moves: the parts that labelled traces are built of.

A stable norm is a level times a draw from a law whose median is 1. All constants are ours, from what training logs look
like: minibatch noise is close to log-normal with a spread of 0.05 (Adam, large batches) to 0.7 (small batches, RNNs).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from itertools import accumulate
from statistics import NormalDist

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

Array = NDArray[np.float64]
Law = Callable[[Generator, int], Array]
"""(rng, n) -> n norms over their level, in time order. The long-run median is 1; with two modes, near 1."""

AHEAD = 0.25  # of the trace: how far on "ahead" reaches where a level keeps moving
SAMPLE = 20_000  # draws that a label's quantiles are read from: the 98% point is within 1 or 2%


@dataclass(frozen=True, kw_only=True)
class Course:
    """The level of stable norms: ``seen`` (n,) of the trace's steps, ``ahead`` (m,) of those that would follow."""

    seen: Array
    ahead: Array


def lognormal(spread: float) -> Law:
    return lambda rng, n: np.exp(spread * rng.standard_normal(n))


def gamma(shape: float) -> Law:
    """The sum of ``shape`` exponentials, as squared norms of few directions are; skewed to the left in log."""
    # Wilson and Hilferty (1931): the median of a gamma variable, to within 1% for shapes from 1 on.
    median = shape * (1 - 1 / (9 * shape)) ** 3
    return lambda rng, n: rng.gamma(shape, 1 / median, n)


def skewed(spread: float) -> Law:
    """Gumbel in log: a long upper side of a Pareto kind with index 1 / ``spread``, a short lower one."""
    return lambda rng, n: np.exp(spread * (rng.gumbel(0.0, 1.0, n) + math.log(math.log(2.0))))


def autocorrelated(spread: float, rho: float) -> Law:
    """AR(1) in log with the stationary deviation ``spread``: what slow moves of the loss surface leave."""

    def draw(rng: Generator, n: int) -> Array:
        noise = rng.standard_normal(n) * math.sqrt(1 - rho * rho)
        noise[0] = rng.standard_normal()
        return np.exp(spread * np.array(list(accumulate(noise.tolist(), lambda x, e: rho * x + e))))

    return draw


def pareto(spread: float, index: float, share: float) -> Law:
    """Log-normal below its upper ``share``, Pareto with ``index`` from there on, no gap between: heavy, not spiky."""

    start = math.exp(spread * NormalDist().inv_cdf(1 - share))

    def draw(rng: Generator, n: int) -> Array:
        x = np.exp(spread * rng.standard_normal(n))
        tail = x > start
        x[tail] = start * (1 - rng.random(int(tail.sum()))) ** (-1 / index)
        return x

    return draw


def log_t(spread: float, freedom: float) -> Law:
    """Student's t in log above the median, log-normal below: the heaviest tail here, without any mean."""

    def draw(rng: Generator, n: int) -> Array:
        x = np.abs(rng.standard_t(freedom, n))
        low = rng.random(n) < 0.5
        x[low] = -np.abs(rng.standard_normal(int(low.sum())))
        return np.exp(spread * x)

    return draw


def two_sources(spread: float, ratio: float, share: float) -> Law:
    """``share`` of the batches from a second source whose norms are ``ratio`` times larger."""
    return lambda rng, n: np.exp(spread * rng.standard_normal(n)) * np.where(rng.random(n) < share, ratio, 1.0)


def second_mode(spread: float, share: float, depth: float, low_spread: float) -> Law:
    """``share`` of the steps lie ``depth`` times lower and scatter widely: batches without advantage in policy gradients."""

    def draw(rng: Generator, n: int) -> Array:
        low = rng.random(n) < share
        noise = rng.standard_normal(n)
        return np.where(low, np.exp(low_spread * noise) / depth, np.exp(spread * noise))

    return draw


def level(n: int) -> Course:
    return Course(seen=np.ones(n), ahead=np.ones(1))


def shaped(n: int, log_level: Callable[[Array], Array]) -> Course:
    """A level that follows ``log_level`` of the time in units of the trace's length, and goes on with it."""
    time = (np.arange(n) + 0.5) / n
    return Course(seen=np.exp(log_level(time)), ahead=np.exp(log_level(1 + AHEAD * (np.arange(200) + 0.5) / 200)))


def drift(rng: Generator, n: int, change: float) -> Course:
    """``change``: the log change over the trace; straight in log, slowing down, or a power of time."""
    bend = rng.uniform(1.0, 3.0)
    shapes: tuple[Callable[[Array], Array], ...] = (
        lambda t: t,
        lambda t: np.asarray(-np.expm1(-bend * t) / -np.expm1(-bend)),
        lambda t: np.log1p(10 * t) / np.log1p(10.0),
    )
    shape = shapes[rng.integers(len(shapes))]
    return shaped(n, lambda t: change * shape(t))


def u_shape(n: int, depth: float) -> Course:
    """Down to 1 / e^depth in the middle and back, flat from the end on, as where a schedule has run out."""
    return shaped(n, lambda t: 0.5 * depth * (np.cos(2 * np.pi * np.minimum(t, 1.0)) - 1))


def staircase(rng: Generator, n: int) -> Course:
    """Two to four plateaus, each a factor apart as after a cut of the rate; the last holds a quarter of the trace at least."""
    num_stairs = int(rng.integers(2, 5))
    edges = np.sort(rng.uniform(0.15, 0.75, num_stairs - 1))
    factors = np.where(rng.random(num_stairs - 1) < 0.7, rng.uniform(0.35, 0.8, num_stairs - 1), rng.uniform(1.25, 2.5))
    heights = np.concatenate([[1.0], np.cumprod(factors)])
    return shaped(n, lambda t: np.log(heights[np.searchsorted(edges, t)]))


def periodic(n: int, num_periods: float, log_level: Callable[[Array], Array]) -> Course:
    """``log_level`` of the phase in [0, 1), repeated; ahead lies one whole period."""
    phase = np.mod(num_periods * (np.arange(n) + 0.5) / n, 1.0)
    return Course(seen=np.exp(log_level(phase)), ahead=np.exp(log_level((np.arange(200) + 0.5) / 200)))


def warm_up(rng: Generator, n: int) -> Array:
    """Factors (n,) by which the start exceeds its level: 5 to 50 times, gone (under 1.1) within 15% of the trace."""
    height = math.exp(rng.uniform(math.log(5), math.log(50)))
    length = rng.uniform(0.03, 0.15) * n
    if rng.random() < 0.5:
        return np.asarray(1 + (height - 1) * np.exp(-np.arange(n) / (length / math.log(10 * height))))
    return np.asarray(np.exp(math.log(height) * np.maximum(1 - np.arange(n) / length, 0.0)))


def log_uniform(rng: Generator, low: float, high: float) -> float:
    return math.exp(rng.uniform(math.log(low), math.log(high)))


def length(rng: Generator, shortest: int = 150, longest: int = 3000) -> int:
    return round(log_uniform(rng, shortest, longest))


def scale(rng: Generator) -> float:
    """Median norms from 0.03 to 30, where those of real models mostly lie."""
    return log_uniform(rng, 0.03, 30.0)


def spread(rng: Generator, widest: float = 0.6) -> float:
    return log_uniform(rng, 0.08, widest)


def significant(norms: Array, digits: int) -> Array:
    """Positive norms (n,) to so many significant digits."""
    place = 10.0 ** (np.floor(np.log10(norms)) - digits + 1)
    return np.asarray(np.round(norms / place) * place)
