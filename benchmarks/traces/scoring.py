"""A rule's answers on labelled traces -> its scores."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace

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

    ``corridor``, ``good`` and ``fair`` as Truth has them. ``over_p99``: the threshold over the stable p99 to come. ``verdict``: a right
    one. ``false_spikes``: spikes are claimed in a trace without any, whose stable norms have a light tail;
    ``tail_as_spikes``: the same where the tail is heavy. ``beyond``: the answer names a number that the trace rules out (is_beyond).
    """

    corridor: bool | None = None
    good: bool | None = None
    fair: bool | None = None
    over_p99: float | None = None
    verdict: bool | None = None
    false_spikes: bool | None = None
    tail_as_spikes: bool | None = None
    beyond: bool | None = None


MEASURES = ("corridor", "good", "fair", "verdict", "false_spikes", "tail_as_spikes", "beyond")
NET, NET_OF_FEW, FEW = 1.25, 1.5, 50
"""Times the largest norm of a trace: how far above it a safety net may stand, and the same under so many rows."""
ROUNDING = 1e-9


def score(trace: Labelled, threshold: float | None, verdict: str | None = None) -> Score:
    if threshold is not None and not math.isfinite(threshold):
        threshold = None
    truth = trace.truth
    claimed = None if verdict is None or SPIKES in trace.verdicts else verdict == SPIKES
    return Score(
        corridor=None if truth is None else truth.in_corridor(threshold),
        good=None if truth is None else truth.is_good(threshold),
        fair=None if truth is None else truth.is_fair(threshold),
        over_p99=None if truth is None or threshold is None else threshold / truth.p99,
        verdict=None if verdict is None else verdict in trace.verdicts,
        false_spikes=None if trace.heavy else claimed,
        tail_as_spikes=claimed if trace.heavy else None,
    )


def score_of(trace: Labelled, answer: Recommendation) -> Score:
    """That of an answer of clipcal's, which says more than a threshold."""
    return replace(score(trace, answer.max_norm, answer.verdict), beyond=is_beyond(trace, answer))


def is_beyond(trace: Labelled, answer: Recommendation) -> bool:
    """Whether the median or the p99 of stable steps lies above the largest finite norm of the trace or below the smallest
    positive one, or the threshold, or an end of its interval, below the smallest or above a safety net over the largest."""
    usable = trace.norms[np.isfinite(trace.norms) & (trace.norms > 0)]
    named = [] if answer.stable is None else [answer.stable.median, answer.stable.p99]
    pasted = [*(answer.interval or ()), *([] if answer.max_norm is None else [answer.max_norm])]
    if not usable.size:
        return bool(named or pasted)
    low, high = (1 - ROUNDING) * float(np.min(usable)), (1 + ROUNDING) * float(np.max(usable))
    net = NET if trace.norms.size >= FEW else NET_OF_FEW
    return any(not low <= v <= high for v in named) or any(not low <= v <= net * high for v in pasted)


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
