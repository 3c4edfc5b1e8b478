"""How a threshold acts, beside what is recommended -> whether it fits, and why, in plain words."""

from __future__ import annotations

import math
from collections.abc import Sequence

from clipcal.checking.answer import Acts, Part
from clipcal.recommendation.answer import Choice, Recommendation
from clipcal.recommendation.evidence import Evidence, read_choice
from clipcal.recommendation.reasons import percent
from clipcal.recommendation.replay import LIMITER, Verdict

FAR_ABOVE = 10.0
"""Times the 99% point of the stable norms: a threshold from there on lets a spike of ten times pass, and guards nothing."""
NEAR = 1.25
"""A threshold that acts often fits where it is within this factor of the recommended interval: ours may act often too."""
LET_PASS = 0.1
"""The share of the spikes that may pass below a threshold that fits."""
SAME = 0.005
"""Relative difference to the recommended threshold, from which on it is another: half of the second digit, at the least."""


def judged(
    evidence: Evidence,
    r: Recommendation,
    threshold: float,
    verdict: Verdict | None,
    acts: Acts,
    quarters: Sequence[Part],
    pile: float | None,
) -> tuple[bool | None, list[str]]:
    """Whether the threshold fits, and why, the decisive reason first. ``pile``: the value that norms after clipping pile up at."""
    x = f"{'clip_value' if r.method == 'value' else 'max_norm'} {threshold:g}"
    if pile is not None:
        return _after_clipping(x, pile, verdict, acts)
    how = _how(x, verdict, acts, r)
    if r.stable is None or r.corridor is None or r.max_norm is None or r.interval is None:
        return None, [how, f"Whether that is right cannot be told: {_lower(r.reasons[0])}"]
    context = [*_left(acts, quarters), *_drift(quarters, evidence)]
    interval = f"{r.interval[0]:.3g} to {r.interval[1]:.3g}"
    same = math.isclose(threshold, r.max_norm, rel_tol=SAME)
    lost = _lost(x, threshold, evidence, r, acts)
    if same and lost is None:
        return True, [*_recommended(evidence, interval, how, acts), *context]
    first = (
        lost or _acts_too_often(threshold, evidence, r, verdict, acts, quarters) or _guards_nothing(threshold, r, acts)
    )
    if first is None:
        return True, [how, *context, f"Recommended from this log: {r.max_norm:g} ({interval})."]
    said = verdict in ("brake", "limiter") or threshold <= r.corridor[0] or not acts.rows
    instead = [] if same else [f"Recommended instead: {r.max_norm:g} ({interval})."]
    return False, [first, *([] if said else [how]), *context, *instead]


def _recommended(evidence: Evidence, interval: str, how: str, acts: Acts) -> list[str]:
    if _choice(evidence) is None:
        return [f"It is the recommended threshold ({interval}).", how]
    chosen = "It is the recommended threshold: training side by side chose it"
    if not acts.stable:
        return [f"{chosen}.", how]
    said = [f"{chosen}, although it acts on {percent(acts.stable)} of the stable steps."]
    return said if acts.spikes is None else [*said, how]


def _choice(evidence: Evidence) -> Choice | None:
    return None if evidence.run is None else read_choice(evidence.run)


def _lost(x: str, threshold: float, evidence: Evidence, r: Recommendation, acts: Acts) -> str | None:
    if r.verdict != "diverging":
        return None
    if evidence.in_use is not None and threshold >= evidence.in_use:
        return f"The run diverges although it was clipped at {evidence.in_use:g}, so {x} does not keep it stable."
    return None if acts.rows else f"The run diverges, and {x} has not acted on any step before it does."


def _acts_too_often(
    threshold: float,
    evidence: Evidence,
    r: Recommendation,
    verdict: Verdict | None,
    acts: Acts,
    quarters: Sequence[Part],
) -> str | None:
    assert r.corridor is not None
    assert r.interval is not None
    assert r.max_norm is not None
    now, often = quarters[-1], f"It acts on {percent(acts.stable)} of the stable steps"
    below = threshold < r.max_norm  # above it the recommended one acts more often still, and for a reason
    if not below and _choice(evidence) is not None:
        return None
    if verdict == "brake" and below:
        return f"{often}: that is a second, lower learning rate rather than a guard."
    if threshold <= r.corridor[0]:
        return f"It is not above the median of what lies ahead, {r.corridor[0]:.3g}: norms have risen, and it acts on most steps to come."
    if now.verdict == "brake" and now.median is not None:
        return (
            f"It no longer fits: in the last quarter it acts on {percent(now.clipped)} of the steps, where the median norm is "
            f"{now.median:.3g}."
        )
    if verdict == "limiter" and threshold < r.interval[0] / NEAR:
        return f"{often}, most of which need no clipping."
    return None


def _guards_nothing(threshold: float, r: Recommendation, acts: Acts) -> str | None:
    assert r.stable is not None
    passing = round((1 - acts.spikes) * r.spikes.count) if acts.spikes is not None else 0
    if passing and passing >= LET_PASS * r.spikes.count:
        return f"It lets {passing} of {r.spikes.count} spikes pass, of which the smallest is {r.spikes.min:.3g}."
    if not acts.rows and threshold > FAR_ABOVE * r.stable.p99:
        return (
            f"It has never acted and is {threshold / r.stable.p99:.3g} times the 99% point of stable training, "
            f"{r.stable.p99:.3g}: a spike of {FAR_ABOVE:g} times passes."
        )
    return None


def _after_clipping(x: str, pile: float, verdict: Verdict | None, acts: Acts) -> tuple[bool | None, list[str]]:
    after = f"The norms were logged after clipping: they pile up at {pile:.4g}."
    if verdict is None:
        return None, [
            after,
            f"How often {x} would act cannot be told from them; log the value that clip_grad_norm_ returns.",
        ]
    often = f"{x} acted on {percent(acts.share)} of the lines; how strongly is not to be seen."
    if verdict == "brake":
        return False, [f"{often} That is a second, lower learning rate rather than a guard.", after]
    return None, [often, after]


def in_warm_up_alone(acts: Acts, r: Recommendation) -> bool:
    """Whether all rows that the threshold acts on lie before the first that it is judged by."""
    return r.stable is not None and acts.last_step is not None and acts.last_step < r.stable.first_step


def _how(x: str, verdict: Verdict | None, acts: Acts, r: Recommendation) -> str:
    if verdict is None:
        return "No norm is finite and above zero."
    if not acts.rows:
        return f"{x} never acts on these steps."
    if acts.stable is None:
        return f"{x} acts on {percent(acts.share)} of the steps."
    if in_warm_up_alone(acts, r):
        return f"{x} acts in the warm-up alone, up to step {acts.last_step}."
    spikes = "" if acts.spikes is None else f" and {percent(acts.spikes)} of the spikes"
    return f"{x} acts on {percent(acts.stable)} of the stable steps{spikes}."


def _left(acts: Acts, quarters: Sequence[Part]) -> list[str]:
    """What is left of the learning rate, where the threshold acts all the time."""
    scales = [q.mean_scale for q in quarters if q.mean_scale is not None]
    often = acts.share if acts.stable is None else acts.stable
    if not often or often < LIMITER or not scales:
        return []
    return [
        f"Under plain SGD that leaves {min(scales):.0%} to {max(scales):.0%} of the learning rate, by quarter; Adam divides most "
        "of a steady factor out again, and what remains is that large steps count no more than others."
    ]


def _drift(quarters: Sequence[Part], evidence: Evidence) -> list[str]:
    """How what the threshold does has changed from the first quarter to the last, where that is another role."""
    first, last = quarters[0], quarters[-1]
    if first.clipped is None or last.clipped is None or len(quarters) < 4 or first.verdict == last.verdict:
        return []
    way = "more" if last.clipped > first.clipped else "less"
    after = " after the warm-up" if first.first_step > evidence.trace.step[0] else ""
    return [
        f"It acts {way} as training goes: on {percent(first.clipped)} of the first quarter{after}, {percent(last.clipped)} of the "
        "last."
    ]


def _lower(sentence: str) -> str:
    return sentence[:1].lower() + sentence[1:]
