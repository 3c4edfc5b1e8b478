"""How a threshold acts, beside what is recommended -> whether it fits, and why, in plain words."""

from __future__ import annotations

import math

from clipcal.checking.answer import Acts, Check
from clipcal.recommendation.answer import Recommendation
from clipcal.recommendation.evidence import Evidence, read_choice
from clipcal.recommendation.reasons import percent
from clipcal.recommendation.replay import LIMITER

FAR_ABOVE = 10.0
"""Times the 99% point of the stable norms: a threshold from there on lets a spike of ten times pass, and guards nothing."""
NEAR = 1.25
"""A threshold that acts often fits where it is within this factor of the recommended interval: ours may act often too."""
LET_PASS = 0.1  # the share of the spikes that may pass below a threshold that fits
SAME = 0.005
"""Relative difference to the recommended threshold, from which on it is another: half of the second digit, at the least."""


def judged(c: Check, evidence: Evidence, pile: float | None) -> tuple[bool | None, list[str]]:
    """Whether the threshold of a check fits, and why, the decisive reason first: what the check itself does not have yet. ``pile``:
    the value that norms after clipping pile up at."""
    r = c.recommendation
    x = f"{'clip_value' if r.method == 'value' else 'max_norm'} {c.max_norm:g}"
    if pile is not None:
        return _after_clipping(c, x, pile)
    how = _how(c, x)
    if r.stable is None or r.corridor is None or r.max_norm is None or r.interval is None:
        return None, [how, f"Whether that is right cannot be told: {r.reasons[0][:1].lower()}{r.reasons[0][1:]}"]
    context = [*_left(c), *_drift(c)]
    interval = f"{r.interval[0]:.3g} to {r.interval[1]:.3g}"
    same = math.isclose(c.max_norm, r.max_norm, rel_tol=SAME)
    is_choice = evidence.run is not None and read_choice(evidence.run) is not None
    lost = _lost(c, x, evidence.in_use)
    if same and lost is None:
        return True, [*_recommended(c, interval, how, is_choice), *context]
    first = lost or _acts_too_often(c, is_choice) or _guards_nothing(c)
    if first is None:
        return True, [how, *context, f"Recommended from this log: {r.max_norm:g} ({interval})."]
    said = c.verdict in ("brake", "limiter") or c.max_norm <= r.corridor[0] or not c.acts.rows
    instead = [] if same else [f"Recommended instead: {r.max_norm:g} ({interval})."]
    return False, [first, *([] if said else [how]), *context, *instead]


def _recommended(c: Check, interval: str, how: str, is_choice: bool) -> list[str]:
    if not is_choice:
        return [f"It is the recommended threshold ({interval}).", how]
    chosen = "It is the recommended threshold: training side by side chose it"
    if not c.acts.stable:
        return [f"{chosen}.", how]
    said = [f"{chosen}, although it acts on {percent(c.acts.stable)} of the stable steps."]
    return said if c.acts.spikes is None else [*said, how]


def _lost(c: Check, x: str, in_use: float | None) -> str | None:
    if c.recommendation.verdict != "diverging":
        return None
    if in_use is not None and c.max_norm >= in_use:
        return f"The run diverges although it was clipped at {in_use:g}, so {x} does not keep it stable."
    return None if c.acts.rows else f"The run diverges, and {x} has not acted on any step before it does."


def _acts_too_often(c: Check, is_choice: bool) -> str | None:
    r = c.recommendation
    assert r.corridor is not None
    assert r.interval is not None
    assert r.max_norm is not None
    now, often = c.quarters[-1], f"It acts on {percent(c.acts.stable)} of the stable steps"
    below = c.max_norm < r.max_norm  # above it the recommended one acts more often still, and for a reason
    if not below and is_choice:
        return None
    if c.verdict == "brake" and below:
        return f"{often}: that is a second, lower learning rate rather than a guard."
    if c.max_norm <= r.corridor[0]:
        return f"It is not above the expected median, {r.corridor[0]:.3g}: norms have risen, and it acts on most steps to come."
    if now.verdict == "brake" and now.median is not None:
        return (
            f"It no longer fits: in the last quarter it acts on {percent(now.clipped)} of the steps, where the median norm is "
            f"{now.median:.3g}."
        )
    if c.verdict == "limiter" and c.max_norm < r.interval[0] / NEAR:
        return f"{often}, most of which need no clipping."
    return None


def _guards_nothing(c: Check) -> str | None:
    acts, stable, spikes = c.acts, c.recommendation.stable, c.recommendation.spikes
    assert stable is not None
    passing = round((1 - acts.spikes) * spikes.count) if acts.spikes is not None else 0
    if passing and passing >= LET_PASS * spikes.count:
        return f"It lets {passing} of {spikes.count} spikes pass, of which the smallest is {spikes.min:.3g}."
    if not acts.rows and c.max_norm > FAR_ABOVE * stable.p99:
        return (
            f"It has never acted and is {c.max_norm / stable.p99:.3g} times the 99% point of stable training, "
            f"{stable.p99:.3g}: a spike of {FAR_ABOVE:g} times passes."
        )
    return None


def _after_clipping(c: Check, x: str, pile: float) -> tuple[bool | None, list[str]]:
    after = f"The norms were logged after clipping: they pile up at {pile:.4g}."
    if c.verdict is None:
        return None, [
            after,
            f"How often {x} would act cannot be told from them; log the value that clip_grad_norm_ returns.",
        ]
    often = f"{x} acted on {percent(c.acts.share)} of the lines; the norms do not show how strongly."
    if c.verdict == "brake":
        return False, [f"{often} That is a second, lower learning rate rather than a guard.", after]
    return None, [often, after]


def in_warm_up_alone(acts: Acts, r: Recommendation) -> bool:
    """Whether all rows that the threshold acts on lie before the first that it is judged by."""
    return r.stable is not None and acts.last_step is not None and acts.last_step < r.stable.first_step


def _how(c: Check, x: str) -> str:
    acts = c.acts
    if c.verdict is None:
        return "No norm is finite and above zero."
    if not acts.rows:
        return f"{x} never acts on these steps."
    if acts.stable is None:
        return f"{x} acts on {percent(acts.share)} of the steps."
    if in_warm_up_alone(acts, c.recommendation):
        return f"{x} acts in the warm-up alone, up to step {acts.last_step}."
    spikes = "" if acts.spikes is None else f" and {percent(acts.spikes)} of the spikes"
    return f"{x} acts on {percent(acts.stable)} of the stable steps{spikes}."


def _left(c: Check) -> list[str]:
    """What is left of the learning rate, where the threshold acts all the time."""
    scales = [q.mean_scale for q in c.quarters if q.mean_scale is not None]
    often = c.acts.share if c.acts.stable is None else c.acts.stable
    if not often or often < LIMITER or not scales:
        return []
    return [
        f"Under plain SGD that leaves {min(scales):.0%} to {max(scales):.0%} of the learning rate, by quarter; Adam divides most "
        "of a steady factor out again, and what remains is that large steps count no more than others."
    ]


def _drift(c: Check) -> list[str]:
    """How what the threshold does has changed from the first quarter to the last, where that is another role."""
    first, last = c.quarters[0], c.quarters[-1]
    if first.clipped is None or last.clipped is None or len(c.quarters) < 4 or first.verdict == last.verdict:
        return []
    way = "more" if last.clipped > first.clipped else "less"
    after = " after the warm-up" if first.first_step > c.recommendation.reading.steps[0] else ""
    return [
        f"It acts {way} as training goes: on {percent(first.clipped)} of the first quarter{after}, {percent(last.clipped)} of the "
        "last."
    ]
