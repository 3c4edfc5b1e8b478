"""A rule's answers on labelled traces -> its scores."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np

import clipcal
from benchmarks.traces.labels import SPIKES, Labelled
from benchmarks.traces.process import Array
from clipcal.recommendation.answer import Recommendation
from clipcal.recommendation.baselines import BASELINES

Threshold = Callable[[Array], float | None]


@dataclass(frozen=True, kw_only=True)
class Score:
    """One answer. None: the measure does not apply to this trace, or to a rule that gives no verdict.

    ``corridor`` and ``good`` as Truth has them. ``over_p99``: the threshold over the stable p99 to come. ``verdict``: a right
    one. ``false_spikes``: spikes are claimed in a trace without any, whose stable norms have a light tail;
    ``tail_as_spikes``: the same where the tail is heavy.
    """

    corridor: bool | None = None
    good: bool | None = None
    over_p99: float | None = None
    verdict: bool | None = None
    false_spikes: bool | None = None
    tail_as_spikes: bool | None = None


MEASURES = ("corridor", "good", "verdict", "false_spikes", "tail_as_spikes")


def score(trace: Labelled, threshold: float | None, verdict: str | None = None) -> Score:
    if threshold is not None and not math.isfinite(threshold):
        threshold = None
    truth = trace.truth
    claimed = None if verdict is None or SPIKES in trace.verdicts else verdict == SPIKES
    return Score(
        corridor=None if truth is None else truth.in_corridor(threshold),
        good=None if truth is None else truth.is_good(threshold),
        over_p99=None if truth is None or threshold is None else threshold / truth.p99,
        verdict=None if verdict is None else verdict in trace.verdicts,
        false_spikes=None if trace.heavy else claimed,
        tail_as_spikes=claimed if trace.heavy else None,
    )


def ours(trace: Labelled) -> Recommendation:
    return clipcal.recommend(trace.norms, steps=trace.steps)


def baselines() -> dict[str, Threshold]:
    """Each on the finite norms above zero, as ``recommend`` calls it."""
    return {name: _on_usable(name) for name in BASELINES}


def _on_usable(name: str) -> Threshold:
    def threshold(norms: Array) -> float | None:
        usable = norms[np.isfinite(norms) & (norms > 0)]
        return float(BASELINES[name](usable)) if usable.size else None

    return threshold


def share(values: Iterable[bool | None]) -> tuple[float, int]:
    """Per cent of true values among those that are not None, and their number."""
    known = [v for v in values if v is not None]
    return (100 * sum(known) / len(known) if known else math.nan), len(known)
