"""A process whose parts are known -> a trace of gradient norms with what is true of it."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from benchmarks.traces.process import SAMPLE, Array, Course, Law

APART = 1.8  # times the stable p99: a spike that is nearer cannot be told from the tail, and counts neither way
USELESS = 5.0  # times the stable p99: a net that far above what is to come would never hold
NO_GAP = 1.25  # smallest spike over largest stable step: a log that shows less than that shows no gap
SETTLED = 1.1  # times its level: a step of the warm-up that is nearer is a stable one
QUIET, FAR = 1.5, 2.2  # largest step over the stable p99: below, no tail to speak of; above, a heavy one

STABLE, SPIKES, HEAVY = "stable", "spikes", "heavy_tail"
DIVERGING, VANISHING, CLIPPED, INSUFFICIENT = "diverging", "vanishing", "clipped", "insufficient"


@dataclass(frozen=True, kw_only=True)
class Truth:
    """What a threshold is measured by. The stable norms *ahead* are those that the process would go on with.

    ``lower``: their median. ``p95``, ``p98`` and ``p99``: their quantiles. ``upper``: the smallest spike of the trace that lies
    APART from p99, carried to the level ahead; where there is none, USELESS x p99. ``has_spikes`` tells the two apart.
    """

    lower: float
    p95: float
    p98: float
    p99: float
    upper: float
    has_spikes: bool

    def in_corridor(self, threshold: float | None) -> bool:
        """lower <= threshold < upper: it leaves the typical step alone and holds every spike."""
        return threshold is not None and self.lower <= threshold < self.upper

    def is_good(self, threshold: float | None) -> bool:
        """In the corridor, and at most 2% of the stable steps ahead lie above it."""
        return threshold is not None and self.p98 <= threshold < self.upper

    def is_fair(self, threshold: float | None) -> bool:
        """The same with 5%: a threshold that costs little yet."""
        return threshold is not None and self.p95 <= threshold < self.upper


@dataclass(frozen=True, kw_only=True)
class Labelled:
    """A trace: ``norms`` (n,), any values, one per optimizer step (or per line of a log).

    ``verdicts``: those that are right, one or more. ``truth`` is None where no threshold can be read from the trace.
    ``heavy``: the stable norms have a heavy tail, which no gap sets apart. ``steps`` (n,): step numbers where a log has
    them go back.
    """

    norms: Array
    verdicts: frozenset[str]
    truth: Truth | None
    heavy: bool = False
    steps: NDArray[np.int64] | None = None


@dataclass(frozen=True, kw_only=True)
class Spikes:
    """Steps ``at`` (k,) of a trace, ``times`` (k,) the law's 99% point. ``after``: aftershocks, which follow a spike down to
    the level and count neither way."""

    at: NDArray[np.intp]
    times: Array
    after: NDArray[np.bool_]


def truth_of(rng: Generator, law: Law, ahead: Array, nearest: float = math.inf) -> Truth:
    """``ahead`` (m,): levels to come. ``nearest``: the smallest spike, in times the law's 99% point."""
    draws = law(rng, SAMPLE)
    coming = draws * ahead[rng.integers(ahead.size, size=SAMPLE)]
    median, p95, p98, p99 = np.quantile(coming, [0.5, 0.95, 0.98, 0.99]).tolist()
    smallest = nearest * float(np.quantile(draws, 0.99)) * float(np.median(ahead))
    apart = APART * p99 <= smallest < math.inf
    return Truth(lower=median, p95=p95, p98=p98, p99=p99, upper=smallest if apart else USELESS * p99, has_spikes=apart)


def quiet_verdicts(largest: float) -> frozenset[str]:
    """For a trace without spikes whose largest stable step is ``largest`` times the stable 99% point."""
    return frozenset([STABLE] if largest < QUIET else [HEAVY] if largest > FAR else [STABLE, HEAVY])


def spiky_verdicts(largest: float, times: Array, after: NDArray[np.bool_]) -> frozenset[str]:
    """``largest`` as above, ``times`` and ``after`` as in Spikes: both "spikes" and "heavy_tail" where no gap is to be seen."""
    smallest = float(np.min(times[~after]))
    between = times[after & (times > largest) & (times < smallest)]
    rungs = np.concatenate([[min(largest, smallest)], np.sort(between), [smallest]])
    return frozenset([SPIKES] if np.max(rungs[1:] / rungs[:-1]) > NO_GAP else [SPIKES, HEAVY])


def steady(
    rng: Generator,
    law: Law,
    course: Course,
    *,
    unit: float,
    spikes: Spikes | None = None,
    start: Array | None = None,
    heavy: bool = False,
) -> Labelled:
    """A trace of training that goes on: levels in units of ``unit``, ``start`` (n,) the factors of a warm-up."""
    draws = law(rng, course.seen.size)
    p99 = float(np.quantile(law(rng, SAMPLE), 0.99))
    stable = np.ones(draws.size, dtype=np.bool_) if start is None else start < SETTLED
    nearest = math.inf
    sizes = draws.copy()
    if spikes is not None and spikes.at.size:
        stable[spikes.at] = False
        sizes[spikes.at] = np.maximum(draws[spikes.at], p99 * spikes.times)
        nearest = float(np.min(spikes.times[~spikes.after]))
    largest = float(np.max(draws[stable])) / p99
    verdicts = quiet_verdicts(largest)
    if spikes is not None and spikes.at.size:
        verdicts = spiky_verdicts(largest, spikes.times, spikes.after)
    return Labelled(
        norms=unit * course.seen * (1.0 if start is None else start) * sizes,
        verdicts=verdicts | {HEAVY} if heavy else verdicts,
        truth=truth_of(rng, law, unit * course.ahead, nearest),
        heavy=heavy,
    )
