"""Norms, and a threshold that is in use on them -> how it acts, and whether it still fits."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from clipcal.errors import InputError
from clipcal.evidence import Evidence
from clipcal.jsonfile import plain
from clipcal.recommendation import Recommendation
from clipcal.replay import LIMITER, Verdict, judge, judged_rows
from clipcal.stats import summarise

Floats = NDArray[np.float64]

SCHEMA = "clipcal.check/1"
FAR_ABOVE = 10.0
"""Times the 99% point of the stable norms: a threshold from there on lets a spike of ten times pass, and guards nothing."""
NEAR = 1.25
"""A threshold that acts often fits where it is within this factor of the recommended interval: ours may act often too."""
LET_PASS = 0.1
"""The share of the spikes that may pass below a threshold that fits."""
AT_PILE = 0.01


@dataclass(frozen=True, kw_only=True)
class Quarter:
    """A quarter of the rows. ``clipped`` is the share of its usable norms above the threshold, ``mean_scale`` the factor that
    clipping leaves of the gradients on average; None where none is usable."""

    first_step: int
    last_step: int
    rows: int
    median: float | None
    clipped: float | None
    mean_scale: float | None
    verdict: Verdict | None


@dataclass(frozen=True, kw_only=True)
class Acts:
    """How often a threshold acts: ``share`` of all usable norms, ``stable`` of the stable steps, ``spikes`` of the spikes
    (None where there are none), on ``rows`` rows from ``first_step`` to ``last_step``."""

    share: float | None
    stable: float | None
    spikes: float | None
    rows: int
    first_step: int | None
    last_step: int | None


@dataclass(frozen=True, kw_only=True)
class Check:
    """``verdict`` is what the threshold is to this training, None where the norms cannot tell; ``fits`` None where they tell
    how it acts, and not whether that is right. ``mean_scale`` is the factor that clipping leaves of a step, on average over
    the usable norms, and ``scale_when_clipped`` over those that it clips."""

    source: str
    steps: int
    max_norm: float
    max_norm_from: str
    verdict: Verdict | None
    fits: bool | None
    acts: Acts
    mean_scale: float | None
    scale_when_clipped: float | None
    quarters: tuple[Quarter, ...]
    recommendation: Recommendation
    reasons: tuple[str, ...]

    def as_dict(self) -> dict[str, Any]:
        """The object that ``check --json`` prints."""
        found: dict[str, Any] = plain(self)
        r = found.pop("recommendation")
        found["drift"] = r["drift"]
        found["recommended"] = {k: r[k] for k in ("verdict", "max_norm", "interval", "corridor", "confidence")}
        return {"schema": SCHEMA} | found | {"caveats": r["caveats"]}


def check(evidence: Evidence, max_norm: float | None = None) -> Check:
    """What ``max_norm`` is to the training that ``evidence`` was recorded from; without one, the threshold that the log says
    was in use. Raises InputError where the log says nothing, or ``max_norm`` is no threshold."""
    threshold, said = _in_use(evidence, max_norm)
    r = evidence.recommend()
    norms, steps = evidence.norms, evidence.trace.step
    usable = np.isfinite(norms) & (norms > 0)
    pile = summarise(norms).pile if r.verdict == "clipped" else None
    above = usable & (norms > threshold)
    if pile is not None:  # norms after clipping reach the threshold, and do not pass it
        above = usable & (norms >= pile * (1 - AT_PILE)) & (abs(threshold / pile - 1) < AT_PILE)
    scale = np.divide(threshold, norms, out=np.ones(norms.size), where=above & (norms > threshold))
    stable, spikes = judged_rows(norms, r)
    verdict: Verdict | None = judge(above[stable], above[spikes])
    if verdict == "inactive" and above.any():
        verdict = "guard"  # it acts in the warm-up alone
    at = np.flatnonzero(above)
    acts = Acts(
        share=_mean(above[usable]),
        stable=_mean(above[stable]) if r.stable is not None else None,
        spikes=_mean(above[spikes]),
        rows=int(at.size),
        first_step=int(steps[at[0]]) if at.size else None,
        last_step=int(steps[at[-1]]) if at.size else None,
    )
    if (pile is not None and not at.size) or not usable.any():
        verdict = None
    quarters = _quarters(norms, steps, usable, above, scale, measured=pile is None)
    fits, reasons = _judged(evidence, r, threshold, verdict, acts, quarters, pile)
    known = usable.any() and pile is None
    return Check(
        source=evidence.source,
        steps=int(norms.size),
        max_norm=threshold,
        max_norm_from=said,
        verdict=verdict,
        fits=fits,
        acts=acts,
        mean_scale=_mean(scale[usable]) if known else None,
        scale_when_clipped=_mean(scale[above]) if known else None,
        quarters=quarters,
        recommendation=r,
        reasons=tuple(reasons),
    )


def _in_use(evidence: Evidence, max_norm: float | None) -> tuple[float, str]:
    if max_norm is not None:
        if not (math.isfinite(max_norm) and max_norm > 0):
            raise InputError(f"--max-norm must be a positive number, not {max_norm:g}.")
        return max_norm, "--max-norm"
    if evidence.in_use is None:
        raise InputError(
            f"{evidence.source}: does not say which threshold was in use. Give it with --max-norm "
            "(Trainer, LLaMA-Factory, TRL and DeepSpeed clip at 1.0 where nothing else is set; Lightning not at all)."
        )
    if not math.isfinite(evidence.in_use):
        raise InputError(
            f"{evidence.source}: its run was not clipped ({evidence.in_use_from}). Give a threshold to judge with --max-norm, "
            f"or ask for one: clipcal recommend {evidence.source}"
        )
    return evidence.in_use, evidence.in_use_from


def _mean(values: NDArray[Any]) -> float | None:
    return float(np.mean(values)) if values.size else None


def _quarters(
    norms: Floats,
    steps: NDArray[np.int64],
    usable: NDArray[np.bool_],
    above: NDArray[np.bool_],
    scale: Floats,
    *,
    measured: bool,
) -> tuple[Quarter, ...]:
    found = []
    for rows in np.array_split(np.arange(norms.size), 4):
        if not rows.size:
            continue
        ok = rows[usable[rows]]
        found.append(
            Quarter(
                first_step=int(steps[rows[0]]),
                last_step=int(steps[rows[-1]]),
                rows=int(rows.size),
                median=float(np.median(norms[ok])) if ok.size else None,
                clipped=_mean(above[ok]),
                mean_scale=_mean(scale[ok]) if measured else None,
                verdict=judge(above[ok], np.empty(0, dtype=bool)) if ok.size else None,
            )
        )
    return tuple(found)


def _judged(
    evidence: Evidence,
    r: Recommendation,
    threshold: float,
    verdict: Verdict | None,
    acts: Acts,
    quarters: tuple[Quarter, ...],
    pile: float | None,
) -> tuple[bool | None, list[str]]:
    """Whether the threshold fits, and why, the decisive reason first."""
    x = f"{threshold:g}"
    if pile is not None:
        return _after_clipping(x, pile, verdict, acts)
    if r.stable is None or r.corridor is None or r.max_norm is None or r.interval is None:
        return None, [_how(x, verdict, acts, r), f"Whether that is right cannot be told: {_lower(r.reasons[0])}"]
    low, _ = r.corridor
    instead = f"Recommended instead: {r.max_norm:g} ({r.interval[0]:.3g} to {r.interval[1]:.3g})."
    how, left = _how(x, verdict, acts, r), _left(acts, quarters)
    first = _objection(x, threshold, evidence, r, verdict, acts, quarters)
    if first is None:
        return True, [how, *left, *_drift(quarters), instead.replace("instead", "from this log")]
    said = verdict in ("brake", "limiter") or threshold <= low or not acts.rows
    return False, [first, *([] if said else [how]), *left, *_drift(quarters), instead]


def _objection(
    x: str,
    threshold: float,
    evidence: Evidence,
    r: Recommendation,
    verdict: Verdict | None,
    acts: Acts,
    quarters: tuple[Quarter, ...],
) -> str | None:
    """Why the threshold does not fit; None where it does."""
    assert r.stable is not None
    assert r.corridor is not None
    assert r.interval is not None
    now, often = quarters[-1], f"It acts on {_percent(acts.stable)} of the stable steps"
    passing = round((1 - acts.spikes) * r.spikes.count) if acts.spikes is not None else 0
    if r.verdict == "diverging" and evidence.in_use is not None and threshold >= evidence.in_use:
        return f"The run diverges although it was clipped at {evidence.in_use:g}, so {x} does not keep it stable."
    if r.verdict == "diverging" and not acts.rows:
        return f"The run diverges, and {x} has not acted on any step before it does."
    if verdict == "brake":
        return f"{often}: that is a second, lower learning rate rather than a guard."
    if threshold <= r.corridor[0]:
        return f"It is not above the median of what lies ahead, {r.corridor[0]:.3g}: norms have risen, and it acts on most steps to come."
    if now.verdict == "brake" and now.median is not None:
        return (
            f"It no longer fits: in the last quarter it acts on {_percent(now.clipped)} of the steps, where the median norm is "
            f"{now.median:.3g}."
        )
    if passing and passing >= LET_PASS * r.spikes.count:
        return f"It lets {passing} of {r.spikes.count} spikes pass, of which the smallest is {r.spikes.min:.3g}."
    if verdict == "limiter" and threshold < r.interval[0] / NEAR:
        return f"{often}, most of which need no clipping."
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
    often = f"{x} acted on {_percent(acts.share)} of the lines; how strongly is not to be seen."
    if verdict == "brake":
        return False, [f"{often} That is a second, lower learning rate rather than a guard.", after]
    return None, [often, after]


def _how(x: str, verdict: Verdict | None, acts: Acts, r: Recommendation) -> str:
    if verdict is None:
        return "No norm is finite and above zero."
    if not acts.rows:
        return f"{x} never acts on these steps."
    if acts.stable is None:
        return f"{x} acts on {_percent(acts.share)} of the steps."
    if not acts.stable and not acts.spikes and r.stable is not None and (acts.last_step or 0) < r.stable.first_step:
        return f"{x} acts in the warm-up alone, up to step {acts.last_step}."
    spikes = "" if acts.spikes is None else f" and {_percent(acts.spikes)} of the spikes"
    return f"{x} acts on {_percent(acts.stable)} of the stable steps{spikes}."


def _left(acts: Acts, quarters: tuple[Quarter, ...]) -> list[str]:
    """What is left of the learning rate, where the threshold acts all the time."""
    scales = [q.mean_scale for q in quarters if q.mean_scale is not None]
    if not acts.share or acts.share < LIMITER or not scales:
        return []
    return [
        f"Under plain SGD that leaves {min(scales):.0%} to {max(scales):.0%} of the learning rate, by quarter; Adam divides most "
        "of a steady factor out again, and what remains is that large steps count no more than others."
    ]


def _drift(quarters: tuple[Quarter, ...]) -> list[str]:
    """How what the threshold does has changed from the first quarter to the last, where that is another role."""
    first, last = quarters[0], quarters[-1]
    if first.clipped is None or last.clipped is None or len(quarters) < 4 or first.verdict == last.verdict:
        return []
    way = "more" if last.clipped > first.clipped else "less"
    return [
        f"It acts {way} as training goes: on {_percent(first.clipped)} of the first quarter, {_percent(last.clipped)} of the last."
    ]


def _percent(share: float | None) -> str:
    if share is None:
        return "none"
    if 0 < share < 0.001:
        return "under 0.1%"
    return f"{share:.0%}" if share in (0.0, 1.0) or 0.1 <= share < 0.995 else f"{share:.1%}"


def _lower(sentence: str) -> str:
    return sentence[:1].lower() + sentence[1:]
