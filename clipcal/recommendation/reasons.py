"""NormStats and the losses -> why: the reasons and caveats of a recommendation, in plain words with the numbers in them."""

from __future__ import annotations

import math
from typing import Literal

import numpy as np

from clipcal.recommendation.answer import Reading, Verdict
from clipcal.recommendation.guarding import ENOUGH, GUARD, guard_of
from clipcal.run.step import TORCH_EPSILON
from clipcal.run.trace import Trace
from clipcal.stats import FEWEST, FEWEST_BEFORE_END, Steady
from clipcal.stats.harm import LOW, LossResponse

Effect = Literal["harm", "none", "unclear"]
Taken = Literal["gentle", "middle", "firm"]

FIRM = 1.2  # times the stable median: trained best where large norms did harm
MIDDLE = 2.0  # times the stable median: cost least where nothing was known of the losses
HARMFUL = 0.2  # p below which a rise of the loss after large norms is harm; above 1 - p they are ordinary training
SLIGHT = 0.01  # log-change of the loss: a long log finds smaller rises beyond chance, and none that costs anything
AT_ONCE = 20  # steps: what is lost so soon was never stable
WILD = 200.0  # largest norm over the median: seen only where the learning rate was far too high


def percent(share: float | None) -> str:
    """A share for reading: 2.5%, 12%, under 0.1%."""
    if share is None:
        return "none"
    if 0 < share < 0.001:
        return "under 0.1%"
    return f"{share:.0%}" if share in (0.0, 1.0) or 0.1 <= share < 0.995 else f"{share:.1%}"


def why(
    reading: Reading, steady: Steady, chosen: float, response: LossResponse | None, *, taken: Taken | None
) -> list[str]:
    """The reasons of a threshold; ``taken`` is the candidate that it is, None where it was chosen by other means than these."""
    stable, spikes = reading.norms[steady.stable_rows], reading.norms[steady.spike_rows]
    seen = stable.size + spikes.size
    reasons = []
    if reading.stats.kind == "diverged":
        reasons.append(
            f"From step {reading.step(min(reading.stats.healthy_rows, reading.steps.size - 1))} on the norms run away or are not "
            f"finite: the threshold comes from {seen} usable steps before that."
        )
    if spikes.size:
        reasons.append(
            f"{spikes.size} of {seen} steps ({100 * spikes.size / seen:.1f}%) stand clear of the rest: the smallest is "
            f"{np.min(spikes):.3g}, stable training stays below {steady.p99:.3g} in 99% of steps."
        )
    elif steady.num_far:
        reasons.append(
            f"{steady.num_far} of {seen} steps {'lies' if steady.num_far == 1 else 'lie'} far above the stable 99% point of {steady.p99:.3g}, but no gap sets "
            f"them apart: {chosen:.3g} is a compromise and would have clipped {100 * np.mean(stable > chosen):.1f}% of all steps."
        )
    else:
        reasons.append(
            f"None of {seen} steps stands clear of the rest, which bounds the rate of spikes to about {300 / seen:.2g}%; "
            f"stable training stays below {steady.p99:.3g} in 99% of steps."
        )
    if response is not None:
        reasons.append(
            f"After {response.steps_above} steps above {response.level:g} x the local median the loss changed by "
            f"{_change(response.change_above)}, after the others by {_change(response.change_below)} (p = {response.p:.2g}): "
            + f"{_found(response)}{'' if taken is None else _therefore(response, taken)}."
        )
    if steady.direction in ("up", "down"):
        reasons.append(
            f"The stable level moved {steady.drift_ratio:.2g}-fold over the trace: the threshold is meant for the level "
            f"ahead, around {steady.median:.3g}."
        )
    return reasons


def too_high_rate(unclipped: Trace) -> str | None:
    """What a run (unclipped) says that is lost within its first steps; None where it is not."""
    norms = np.where(np.isfinite(unclipped.loss), unclipped.grad_norm, np.nan)
    lost = np.flatnonzero(~(norms <= 100 * np.median(norms[:3])))
    if not lost.size or lost[0] > AT_ONCE:
        return None
    known = unclipped.lr[np.isfinite(unclipped.lr)]
    at = f" ({known[0]:.3g} at the start)" if known.size else ""
    return (
        f"Unclipped, training is lost by step {int(unclipped.step[lost[0]])}: the learning rate{at} is plainly too high; lower it, "
        "about 10x. A threshold can keep such a run alive, but as a second learning rate."
    )


def _found(response: LossResponse) -> str:
    """What the losses say."""
    match effect_of(response):
        case "harm" if response.level in LOW:
            return "large norms do harm here"
        case "harm":
            return "norms that large do harm here"
        case "none":
            return "large norms are ordinary training here"
        case _ if effect_at(response.p) == "harm":
            return "that is too little to say that large norms do harm"
        case _:
            return "that does not tell whether large norms do harm"


def _therefore(response: LossResponse, taken: Taken) -> str:
    """What follows from it for the threshold: gentle, middle and firm may be one number."""
    effect, low = effect_of(response), response.level in LOW
    if taken == "firm":
        return f"{', so' if effect == 'harm' and low else '; the run diverges, so'} the threshold is firm"
    if taken == "middle":
        return f", so the threshold is in the middle{', well below them' * (effect == 'harm')}"
    if effect == "harm":
        return f", and the gentle threshold is {'firm' if low else 'well below them'} already"
    return ", so they are left alone" if effect == "none" else ", so the gentle threshold is taken"


def effect_of(response: LossResponse) -> Effect:
    """What the losses say of large norms: a rise that is sure and slight says as little as one that is not sure."""
    effect = effect_at(response.p)
    return "unclear" if effect == "harm" and response.change_above - response.change_below < SLIGHT else effect


def effect_at(p: float) -> Effect:
    """What a chance of ``p`` says, where nothing but chance would make it uniform."""
    return "harm" if p < HARMFUL else "none" if p > 1 - HARMFUL else "unclear"


def why_guarded(guard: float) -> str:
    return (
        f"Without clipping the run is lost too early to read a threshold from it: the norms before clipping were recorded "
        f"again under a temporary guard of {guard:g} ({GUARD:g} x the median of the first norms)."
    )


def _change(log_change: float) -> str:
    return f"{100 * math.expm1(min(log_change, 50.0)):+.1f}%"


def why_none(reading: Reading, verdict: Verdict) -> str:
    stats, losses = reading.stats, reading.losses
    counts = stats.counts
    n = counts.steps
    if verdict == "vanishing":
        if stats.steady is not None:
            still = "" if losses is None else " and the loss does not move"
            return f"The norms are near zero (median {stats.steady.median:.2g}){still}: clipping cannot help."
        if stats.kind == "insufficient":
            return f"{counts.zeros} of {n} norms are zero and the loss does not move: no gradient arrives, nothing to clip."
        return "The norms fall to near zero and stay there: clipping cannot help vanishing gradients."
    if verdict == "clipped":
        return (
            f"The norms pile up at {stats.pile:.4g}: they were recorded after clipping, or do not vary at all, and no "
            "threshold can be read from them. Record the norm before clipping."
        )
    if verdict == "diverging":
        return (
            f"The norms run away or are not finite from step {reading.step(stats.healthy_rows)} on: of the "
            f"{stats.healthy_rows} steps before that too few are usable, {FEWEST_BEFORE_END} are needed at least."
        )
    if n == 0:
        return f"The trace is empty: a first number needs about 50 steps, and at least {FEWEST} usable ones."
    if counts.nonfinite == n:
        lost = losses is not None and not np.isfinite(losses).any()
        return f"None of {n} norms is finite: {'the loss too' if lost else 'they'} went NaN or infinite from the first step on."
    if counts.zeros == n - counts.nonfinite:
        return f"Every finite norm of {n} is zero: norms were not computed here, or no gradient arrives at all."
    return (
        f"{counts.usable} of {n} norms are usable (finite, above zero): at least {FEWEST} and a tenth of the trace are "
        "needed, about 50 for a first number, 200 after the warm-up for a good one."
    )


def caveats_of(reading: Reading, verdict: Verdict, guard: float | None, *, too_small: float | None) -> list[str]:
    """``too_small`` is the threshold, where what torch adds to every norm is no small part of it."""
    notes, stats = [], reading.stats
    counts, steady = stats.counts, None if verdict == "vanishing" else stats.steady
    stable_steps = 0 if steady is None else steady.stable_rows.size
    if verdict == "diverging" and stable_steps < ENOUGH and guard is None:
        value = guard_of(reading.norms[: max(stats.healthy_rows, 1)])
        at_value = "" if value is None else f" max_norm={value:g} ({GUARD:g} x the median of the first norms)"
        notes.append(
            f"Only {stable_steps} healthy steps: profile again under a temporary guard{at_value}, recording norms before clipping."
        )
    if _learning_rate_too_high(reading):
        lrs = np.empty(0) if reading.lrs is None else reading.lrs
        known = lrs[np.isfinite(lrs)]
        at = f" (up to {np.max(known):.3g} here)" if known.size else ""
        notes.append(
            "The loss ends no lower than it began while norms reach hundreds of times their median: lower the learning "
            f"rate{at}, about 10x. `verify` tries that beside the threshold."
        )
    elif guard is not None and steady is None:
        notes.append("Clipping does not keep this run alive: lower the learning rate, about 10x, and profile again.")
    elif verdict == "diverging":
        notes.append("If the run diverges with clipping too, lower the learning rate, about 10x.")
    if steady is not None and stats.kind == "steady" and stable_steps < 50:
        notes.append(f"Only {stable_steps} stable steps: 50 do for a first number, 200 after the warm-up are adequate.")
    if steady is not None and 0 < steady.spike_rows.size < 10:
        k = steady.spike_rows.size
        notes.append(
            f"With {k} {'spike' if k == 1 else 'spikes'} seen, the next is smaller than all with chance 1/{k + 1}."
        )
    if steady is not None and steady.direction == "up":
        notes.append(
            "Norms are rising: if that lasts, the threshold becomes a brake, so check it again later in training."
        )
    if counts.nonfinite and verdict not in ("diverging", "insufficient"):
        notes.append(
            f"{counts.nonfinite} norms are NaN or infinite, the first at step {reading.step(counts.first_nonfinite)}: "
            "clipping does not repair such a step."
        )
    if counts.negative:
        notes.append(f"{counts.negative} norms are negative and were left out: a norm never is, so check the column.")
    if too_small is not None:
        notes.append(
            f"torch's clip_grad_norm_ adds {TORCH_EPSILON:g} to the norm, so a threshold of {too_small:g} also scales down steps below "
            "it: multiply the loss by a constant, and calibrate again."
        )
    return notes


def _learning_rate_too_high(reading: Reading) -> bool:
    """Loss stuck or above its start, and the largest norm hundreds of times the median (measured on such runs)."""
    stats, usable = reading.stats, reading.norms[reading.usable]
    if reading.losses is None or stats.kind not in ("steady", "diverged") or usable.size == 0:
        return False
    middle = stats.steady.median if stats.steady is not None else float(np.median(usable))
    if np.max(usable) < WILD * middle:
        return False
    losses = np.where(np.isnan(reading.losses), np.inf, reading.losses)
    start, end = float(np.median(losses[:5])), float(np.median(losses[-max(losses.size // 4, 1) :]))
    return math.isfinite(start) and end > start - 0.02 * abs(start)
