"""How a threshold acts, beside what is recommended -> whether it fits, and why, in plain words."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from clipcal.checking.answer import Acts, Check, Fits, Range
from clipcal.recommendation.answer import Recommendation
from clipcal.recommendation.evidence import Evidence, read_choice
from clipcal.recommendation.headline import name_of, percent
from clipcal.recommendation.reasons import Said
from clipcal.run.trace import Floats

COSTS, TOO_MUCH = 0.15, 0.35
"""Shares of the learning rate under plain SGD that a threshold takes from ordinary steps. In `benchmarks.regret.costs` a threshold that takes
the first costs 0.03 of what there is to win at most, one that takes the second up to 0.23, and half of the rate up to 0.46."""
OFTEN, MOSTLY = 0.25, 0.5  # shares of the ordinary steps that it acts on, under such an optimizer
SCALE_FREE = 0.2
"""What such a share is under an optimizer that divides the gradient by its own size: there, a threshold that takes 0.9 costs 0.03 at most in
eight of nine trainings. In Q-learning, whose targets grow, it costs 0.28."""
SCALE_FREE_OPTIMIZERS = (
    "adam",
    "rmsprop",
    "adagrad",
    "adadelta",
    "adafactor",
    "lion",
    "muon",
    "rprop",
    "lamb",
    "sophia",
    "adopt",
)
VANISHED = 0.02  # of the median: below, an optimizer's own epsilon meets the gradient
FAR_ABOVE, FARTHER = 10.0, 30.0
"""Times the 99% point of the stable norms: a threshold from there on lets a spike of ten times pass, and guards nothing."""
LET_PASS, PASS_HALF = 0.1, 0.5
"""The shares of the spikes that may pass below a threshold that fits, and below one that is borderline."""
MARGIN = 1.15  # times, at least, between a threshold that fits and one that does not
SAME = 0.005
"""Relative difference to the recommended threshold, from which on it is another: half of the second digit, at the least."""


@dataclass(frozen=True, kw_only=True)
class Context:
    """What the check knows besides: which optimizer divides the learning rate out (None: unknown), whether training chose the recommended
    threshold, the value that norms after clipping pile up at, and whether it is a log of a run that was clipped, or our own record."""

    optimizer: str | None
    is_choice: bool
    in_use: float | None
    pile: float | None
    is_log: bool

    @classmethod
    def of(cls, evidence: Evidence, pile: float | None) -> Context:
        return cls(
            optimizer=evidence.optimizer,
            is_choice=evidence.run is not None and read_choice(evidence.run) is not None,
            in_use=evidence.in_use,
            pile=pile,
            is_log=evidence.run is None,
        )

    @property
    def scale_free(self) -> bool:
        return self.optimizer is not None and is_scale_free(self.optimizer)


def is_scale_free(optimizer: str) -> bool:
    """Whether an optimizer of that class divides the gradient by its own size, or forgets the size."""
    return any(name in optimizer.lower() for name in SCALE_FREE_OPTIMIZERS)


def range_of(r: Recommendation, context: Context) -> Range | None:
    """The thresholds that fit, and those that nearly do: below, one takes too much of the learning rate from ordinary steps, now or over
    the whole trace; above, it guards nothing. None where no threshold can be recommended."""
    if r.stable is None or r.max_norm is None:
        return None
    norms = r.reading.norms
    rows, spike_rows = r.judged_rows()
    late = np.arange(int(rows[0]) if rows.size else 0, norms.size)
    late = late[-max(late.size // 4, 1) :]
    late = late[np.isin(late, np.concatenate([rows, spike_rows]))]
    parts = [norms[rows], *([norms[late]] if late.size >= 10 else [])]
    if context.scale_free:
        low, too_low = _where_it_takes(parts, COSTS / SCALE_FREE), VANISHED * r.stable.median
    else:
        low, too_low = (
            max(_where_it_takes(parts, takes), *(float(np.quantile(part, 1 - acts)) for part in parts))
            for takes, acts in ((COSTS, OFTEN), (TOO_MUCH, MOSTLY))
        )
    if spike_rows.size:
        spikes = np.sort(norms[spike_rows])
        high, too_high = (
            float(spikes[min(int(share * spikes.size), spikes.size - 1)]) for share in (LET_PASS, PASS_HALF)
        )
    else:
        high, too_high = (times * r.stable.p99 for times in (FAR_ABOVE, FARTHER))
    low, high = min(low, r.max_norm), max(high, r.max_norm)
    if context.in_use is not None and r.verdict == "diverging" and math.isfinite(context.in_use):
        too_high = min(too_high, context.in_use / (1 + SAME))  # the run diverged although it was clipped there
        high = min(high, too_high / MARGIN)
        low = min(low, high)
    else:
        too_high = max(too_high, high * MARGIN)
    return Range(too_low=min(too_low, low / MARGIN), low=low, high=high, too_high=too_high)


def _where_it_takes(parts: list[Floats], share: float) -> float:
    """The lowest threshold that takes no more than ``share`` of the length of the steps of any part, on average."""

    def takes(log: float) -> float:
        return max(1 - float(np.mean(np.minimum(math.exp(log) / part, 1.0))) for part in parts)

    high = math.log(max(float(np.max(part)) for part in parts))
    low = math.log(min(float(np.min(part)) for part in parts))
    for _ in range(40):
        middle = 0.5 * (low + high)
        low, high = (low, middle) if takes(middle) <= share else (middle, high)
    return math.exp(high)


def judged(c: Check, context: Context) -> tuple[Fits, list[Said]]:
    """Whether the threshold of a check fits, and why, the decisive reason first: what the check itself does not have yet."""
    r, at = c.recommendation, c.fitting
    x = f"{name_of(r.method)} {c.max_norm:g}"
    if context.pile is not None:
        return _after_clipping(c, x, context.pile)
    how = Said("acts", _how(c, x))
    if at is None or r.max_norm is None or r.interval is None:
        because = f"{r.reasons[0][:1].lower()}{r.reasons[0][1:]}"
        return None, [how, Said("cannot_be_told", f"Whether that is right cannot be told: {because}")]
    if context.is_log and r.verdict == "diverging" and c.quarters[-1].verdict == "brake":
        at_step = r.reading.step(min(r.reading.stats.healthy_rows, r.reading.steps.size - 1))
        text = f"The norms run away from step {at_step} on, and {x} acts on {percent(c.quarters[-1].clipped)} of the last quarter: it does not "
        return False, [Said("runs_away", f"{text}keep the run stable."), *_drift(c)]
    fits: Fits = True
    if not at.low <= c.max_norm <= at.high:
        fits = "borderline" if at.too_low <= c.max_norm <= at.too_high else False
    notes = [*_costs(c, context), *_drift(c)]
    interval = f"{r.interval[0]:.3g} to {r.interval[1]:.3g}"
    same = math.isclose(c.max_norm, r.max_norm, rel_tol=SAME)
    if same and fits is True:
        return fits, [*_recommended(c, interval, how, context.is_choice), *notes]
    instead = Said("recommended", f"Recommended{' instead' if fits is False else ''}: {r.max_norm:g} ({interval}).")
    if fits is True:
        return fits, [how, *notes, instead]
    first = _too_high(c, x, context) if c.max_norm > at.high else _too_low(c, x)
    if first.code == "diverged_clipped" and r.max_norm >= c.max_norm:
        text = "A higher threshold clips less: lower the learning rate, or look at the batches before the run diverged."
        instead = Said("clipping_did_not_help", text)
    border = [] if fits is False else [Said("borderline", _border(c))]
    said = first.code in ("takes_too_much", "no_longer", "takes_much")
    return fits, [first, *border, *([] if said else [how]), *notes, *([] if same else [instead])]


def _recommended(c: Check, interval: str, how: Said, is_choice: bool) -> list[Said]:
    if not is_choice:
        return [Said("is_recommended", f"It is the recommended threshold ({interval})."), how]
    chosen = "It is the recommended threshold: training side by side chose it"
    if not c.acts.stable:
        return [Said("is_chosen", f"{chosen}."), how]
    said = [Said("is_chosen", f"{chosen}, although it acts on {percent(c.acts.stable)} of the stable steps.")]
    return said if c.acts.spikes is None else [*said, how]


def _border(c: Check) -> str:
    at = c.fitting
    assert at is not None
    below = c.max_norm < at.low
    edge, away = (at.low, at.too_low) if below else (at.high, at.too_high)
    return (
        f"That is borderline: {'from' if below else 'up to'} {edge:.3g} it would fit, and {'below' if below else 'above'} {away:.3g} it "
        "would not."
    )


def _too_low(c: Check, x: str) -> Said:
    """Why the threshold is below those that fit."""
    now = c.quarters[-1]
    acts = f"{x} acts on {percent(c.acts.stable)} of the stable steps"
    if now.mean_scale is not None and c.acts.stable_scale is not None and now.mean_scale < c.acts.stable_scale - 0.1:
        return Said(
            "no_longer",
            f"{acts}, but on {percent(now.clipped)} of the last quarter, where the median norm is {now.median:.3g} and it takes "
            f"{_taken(now.mean_scale)} of the learning rate under plain SGD.",
        )
    code, more = ("takes_much", "") if c.fitting and c.max_norm >= c.fitting.too_low else ("takes_too_much", ": ")
    more = f"{more}that is a second, lower learning rate rather than a guard" if more else ""
    return Said(code, f"{acts}, and takes {_taken(c.acts.stable_scale)} of the learning rate under plain SGD{more}.")


def _taken(scale: float | None) -> str:
    return percent(None if scale is None else 1 - scale)


def _too_high(c: Check, x: str, context: Context) -> Said:
    """Why the threshold is above those that fit."""
    acts, r = c.acts, c.recommendation
    stable, spikes = r.stable, r.spikes
    assert stable is not None
    if r.verdict == "diverging" and context.in_use is not None:
        return Said(
            "diverged_clipped",
            f"The run diverges although it was clipped at {context.in_use:g}, so {x} does not keep it stable.",
        )
    if r.verdict == "diverging":
        return Said(
            "acts_too_late",
            f"The run diverges, and {x} is {c.max_norm / stable.p99:.3g} times the 99% point before it does.",
        )
    if spikes.count and spikes.min is not None:
        passing = round((1 - (acts.spikes or 0.0)) * spikes.count)
        return Said(
            "lets_pass", f"It lets {passing} of {spikes.count} spikes pass, of which the smallest is {spikes.min:.3g}."
        )
    return Said(
        "guards_nothing",
        f"{x} is {c.max_norm / stable.p99:.3g} times the 99% point of stable training, {stable.p99:.3g}: a spike of {FAR_ABOVE:g} times "
        "passes.",
    )


def _after_clipping(c: Check, x: str, pile: float) -> tuple[Fits, list[Said]]:
    after = Said("after_clipping", f"The norms were logged after clipping: they pile up at {pile:.4g}.")
    if c.verdict is None:
        return None, [
            after,
            Said(
                "cannot_be_told",
                f"How often {x} would act cannot be told from them; log the value that clip_grad_norm_ returns.",
            ),
        ]
    often = f"{x} acted on {percent(c.acts.share)} of the lines; the norms do not show how strongly."
    if c.verdict == "brake":
        return False, [
            Said("acts_always", f"{often} That is a second, lower learning rate rather than a guard."),
            after,
        ]
    return None, [Said("acts", often), after]


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


def _costs(c: Check, context: Context) -> list[Said]:
    """What is left of the learning rate, where the threshold acts often."""
    scales = [q.mean_scale for q in c.quarters if q.mean_scale is not None]
    often = c.acts.share if c.acts.stable is None else c.acts.stable
    if not often or c.verdict not in ("limiter", "brake") or not scales:
        return []
    left = f"{min(scales):.0%} to {max(scales):.0%}" if min(scales) < max(scales) else f"{scales[0]:.0%}"
    if context.scale_free:
        return [
            Said(
                "cost",
                f"Under {context.optimizer} that costs little: it divides a steady factor ({left} here, by quarter) out of its step again, and "
                "what remains is that large steps count no more than others.",
            )
        ]
    known = "" if context.optimizer is not None else "; Adam divides most of a steady factor out again"
    return [Said("cost", f"Under plain SGD that leaves {left} of the learning rate, by quarter{known}.")]


def _drift(c: Check) -> list[Said]:
    """How what the threshold does has changed from the first quarter to the last, where that is another role."""
    first, last = c.quarters[0], c.quarters[-1]
    if first.clipped is None or last.clipped is None or len(c.quarters) < 4 or first.verdict == last.verdict:
        return []
    way = "more" if last.clipped > first.clipped else "less"
    after = " after the warm-up" if first.first_step > c.recommendation.reading.steps[0] else ""
    return [
        Said(
            f"acts_{way}",
            f"It acts {way} as training goes: on {percent(first.clipped)} of the first quarter{after}, {percent(last.clipped)} of the last.",
        )
    ]
