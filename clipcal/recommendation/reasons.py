"""NormStats and the losses -> why: the reasons and caveats of a recommendation, in plain words with the numbers in them."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from clipcal.recommendation.answer import Harm, Reading, Verdict
from clipcal.recommendation.guarding import ENOUGH, GUARD, guard_of
from clipcal.recommendation.headline import percent
from clipcal.run.step import TORCH_EPSILON
from clipcal.run.trace import Trace
from clipcal.stats import FEWEST, FEWEST_BEFORE_END, Steady
from clipcal.stats.harm import LOW

AT_ONCE = 20  # steps: what is lost so soon was never stable
GROWN, STEADILY = 10.0, 0.8
"""Times from the first to the last of too few norms, and their rank correlation with time: that is no noise."""
WILD = 200.0  # largest norm over the median: seen only where the learning rate was far too high


class Said(NamedTuple):
    """A sentence and its code, a short stable name for programs."""

    code: str
    text: str


def why(reading: Reading, steady: Steady, found: Mapping[str, Any], *, is_choice: bool) -> list[Said]:
    """The reasons of a threshold. ``found``: the fields of the answer that it has so far, from which all numbers are."""
    spikes, stable, clipped = found["spikes"], found["stable"], found["clipped"]
    seen = stable.steps + spikes.count
    reasons = []
    if reading.stats.kind == "diverged":
        first = reading.step(min(reading.stats.healthy_rows, reading.steps.size - 1))
        reasons.append(
            Said(
                "diverges",
                f"From step {first} on the norms run away or are not finite, or the training is dead: the threshold comes from {seen} usable "
                "steps before that.",
            )
        )
    if spikes.count:
        reasons.append(
            Said(
                "spikes",
                f"{spikes.count} of {seen} steps ({percent(spikes.rate)}) stand clear of the rest: the smallest is {spikes.min:.3g}. Of the "
                f"stable steps to come, 99% are expected below {stable.p99:.3g}.",
            )
        )
    elif steady.num_far:
        reasons.append(
            Said(
                "tail",
                f"{steady.num_far} of {seen} steps {'lies' if steady.num_far == 1 else 'lie'} far above {stable.p99:.3g}, the 99% point of "
                f"stable training, and no gap sets them apart: {found['max_norm']:.3g} is a compromise and would have clipped "
                f"{percent(clipped.stable)} of the ordinary steps.",
            )
        )
    else:
        reasons.append(
            Said(
                "no_spikes",
                f"None of {seen} steps stands clear of the rest, which bounds the rate of spikes to about {300 / seen:.2g}%. Of the stable steps "
                f"to come, 99% are expected below {stable.p99:.3g}.",
            )
        )
    harm = found.get("harm")
    if harm is not None:
        reasons.append(
            Said(
                f"losses_{harm.effect}", _of_losses(found, harm, reading.stats.kind == "diverged", is_choice=is_choice)
            )
        )
    if found["drift"].leap is not None:
        reasons.append(
            Said(
                "level_leapt",
                f"From step {found['drift'].leap} on the stable level is another one: the threshold is meant for that, around "
                f"{stable.median:.3g}, and the shares of clipped steps are those since.",
            )
        )
    if steady.direction in ("up", "down"):
        way = "rose" if steady.direction == "up" else "fell"
        reasons.append(
            Said(
                f"level_{way}",
                f"The stable level {way} {math.exp(min(abs(math.log(steady.drift_ratio)), 700.0)):.2g}-fold over the trace, whose median was "
                f"{stable.median_seen:.3g}: the threshold is meant for the level expected ahead, {stable.median:.3g}.",
            )
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


def _of_losses(found: Mapping[str, Any], harm: Harm, diverges: bool, *, is_choice: bool) -> str:
    """What the losses say, and what follows for the threshold: gentle, middle and firm may be one number."""
    above, below, low, high = (
        _change(v, harm.unit) for v in (harm.loss_change_above, harm.loss_change_below, *harm.interval)
    )
    text = (
        f"After {harm.steps_above} steps above {harm.level:g} x the local median the loss changed by {above}, after the others by {below} "
        f"(p = {harm.p:.2g}, the mean rise between {low} and {high}): "
    )
    text += {
        "harm": "large norms do harm here" if harm.level in LOW else "norms that large do harm here",
        "hint": "a hint that large norms do harm, and no more",
        "unclear": "that does not tell whether large norms do harm",
        "none": "large norms are ordinary training here",
    }[harm.effect]
    if is_choice:
        return f"{text}."
    candidates, chosen = found["candidates"], found["max_norm"]
    if chosen == candidates.gentle:
        return f"{text}, so they are left alone." if harm.effect == "none" else f"{text}. The threshold stays gentle."
    if harm.effect == "harm":
        return f"{text}, so the threshold is {'firm' if harm.level in LOW else 'lower than the norms alone say'}."
    if diverges and chosen == candidates.firm:
        return f"{text}. The run diverges, so the threshold is firm."
    share = percent(found["clipped"].stable)
    return (
        f"{text}. The threshold leans from {candidates.gentle:g}, which the norms alone say, to {chosen:g}: at most, {share} of the ordinary "
        "steps would have been clipped for nothing. `clipcal calibrate` decides."
    )


def why_guarded(guard: float) -> str:
    return (
        f"Without clipping the run is lost too early to read a threshold from it: the norms before clipping were recorded "
        f"again under a temporary guard of {guard:g} ({GUARD:g} x the median of the first norms)."
    )


def _change(change: float, unit: str) -> str:
    return f"{100 * math.expm1(min(change, 50.0)):+.1f}%" if unit == "log" else f"{change:+.2g} x its scatter"


def why_none(reading: Reading, verdict: Verdict) -> Said:
    """Why there is no threshold."""
    stats, losses = reading.stats, reading.losses
    counts = stats.counts
    n = counts.steps
    if verdict == "vanishing":
        if stats.steady is not None:
            still = "" if losses is None else " and the loss does not move"
            text = f"The norms are near zero (median {stats.steady.median:.2g}){still}: clipping cannot help."
        elif stats.kind == "insufficient":
            text = f"{counts.zeros} of {n} norms are zero and the loss does not move: no gradient arrives, nothing to clip."
        else:
            text = "The norms fall to near zero and stay there: clipping cannot help vanishing gradients."
        return Said("vanishes", text)
    if verdict == "clipped":
        return Said(
            "after_clipping",
            f"The norms pile up at {stats.pile:.4g}: they were recorded after clipping, or do not vary at all, and no "
            "threshold can be read from them. Record the norm before clipping.",
        )
    if verdict == "diverging":
        return Said(
            "diverges_too_early",
            f"The norms run away or are not finite from step {reading.step(stats.healthy_rows)} on: of the "
            f"{stats.healthy_rows} steps before that too few are usable, {FEWEST_BEFORE_END} are needed at least.",
        )
    if n == 0:
        return Said(
            "empty", f"The trace is empty: a first number needs about 50 steps, and at least {FEWEST} usable ones."
        )
    if counts.nonfinite == n:
        lost = losses is not None and not np.isfinite(losses).any()
        return Said(
            "none_finite",
            f"None of {n} norms is finite: {'the loss too' if lost else 'they'} went NaN or infinite from the first step on.",
        )
    if counts.zeros == n - counts.nonfinite:
        return Said(
            "all_zero",
            f"Every finite norm of {n} is zero: norms were not computed here, or no gradient arrives at all.",
        )
    return Said(
        "too_few",
        f"{counts.usable} of {n} norms are usable (finite, above zero): at least {FEWEST} and a tenth of the trace are "
        f"needed, about 50 for a first number, 200 after the warm-up for a good one. {_seen(reading)}",
    )


def _seen(reading: Reading) -> str:
    """What too few norms show."""
    norms = reading.norms[reading.usable]
    if not norms.size:
        return "No other one says anything."
    first, last, low, high = (float(v) for v in (norms[0], norms[-1], np.min(norms), np.max(norms)))
    between = f"from {first:.3g} to {last:.3g}"
    grown = math.log(last) - math.log(first)
    order = np.argsort(np.argsort(norms, kind="stable"), kind="stable")
    is_steady = norms.size > 2 and float(np.corrcoef(order, np.arange(norms.size))[0, 1]) > STEADILY
    if norms.size >= FEWEST_BEFORE_END and is_steady and grown > math.log(GROWN):
        return f"They grow {math.exp(grown / (norms.size - 1)):.3g}-fold a row, {between}: the run diverges, and there are too few rows for a threshold."
    return f"They lie between {low:.3g} and {high:.3g}."


def caveats_of(reading: Reading, verdict: Verdict, guard: float | None, *, too_small: float | None) -> list[Said]:
    """``too_small`` is the threshold, where what torch adds to every norm is no small part of it."""
    notes, stats = _of_the_loss(reading, verdict), reading.stats
    counts, steady = stats.counts, None if verdict == "vanishing" else stats.steady
    stable_steps = 0 if steady is None else steady.stable_rows.size
    if verdict == "diverging" and stable_steps < ENOUGH and guard is None:
        value = guard_of(reading.norms[: max(stats.healthy_rows, 1)])
        at_value = "" if value is None else f" max_norm={value:g} ({GUARD:g} x the median of the first norms)"
        notes.append(
            Said(
                "few_healthy",
                f"Only {stable_steps} healthy steps: profile again under a temporary guard{at_value}, recording norms before clipping.",
            )
        )
    if _learning_rate_too_high(reading):
        lrs = np.empty(0) if reading.lrs is None else reading.lrs
        known = lrs[np.isfinite(lrs)]
        at = f" (up to {np.max(known):.3g} here)" if known.size else ""
        notes.append(
            Said(
                "learning_rate",
                "The loss ends no lower than it began while norms reach hundreds of times their median: lower the learning "
                f"rate{at}, about 10x. `verify` tries that beside the threshold.",
            )
        )
    elif guard is not None and steady is None:
        notes.append(
            Said(
                "learning_rate",
                "Clipping does not keep this run alive: lower the learning rate, about 10x, and profile again.",
            )
        )
    elif verdict == "diverging":
        notes.append(
            Said("if_it_diverges", "If the run diverges with clipping too, lower the learning rate, about 10x.")
        )
    if steady is not None and stats.kind == "steady" and stable_steps < 50:
        notes.append(
            Said(
                "few_stable",
                f"Only {stable_steps} stable steps: 50 do for a first number, 200 after the warm-up are adequate.",
            )
        )
    if steady is not None and 0 < steady.spike_rows.size < 10:
        k = steady.spike_rows.size
        notes.append(
            Said(
                "few_spikes",
                f"With {k} {'spike' if k == 1 else 'spikes'} seen, the next is smaller than all with chance 1/{k + 1}.",
            )
        )
    if steady is not None and steady.direction == "up":
        notes.append(
            Said(
                "rising",
                "Norms are rising: if that lasts, the threshold becomes a brake, so check it again later in training.",
            )
        )
    if counts.nonfinite and verdict not in ("diverging", "insufficient"):
        notes.append(
            Said(
                "nonfinite",
                f"{counts.nonfinite} norms are NaN or infinite, the first at step {reading.step(counts.first_nonfinite)}: "
                "clipping does not repair such a step.",
            )
        )
    if counts.negative:
        notes.append(
            Said(
                "negative",
                f"{counts.negative} norms are negative and were left out: a norm never is, so check the column.",
            )
        )
    if too_small is not None:
        notes.append(
            Said(
                "epsilon",
                f"torch's clip_grad_norm_ adds {TORCH_EPSILON:g} to the norm, so a threshold of {too_small:g} also scales down steps below "
                "it: multiply the loss by a constant, and calibrate again.",
            )
        )
    return notes


def _of_the_loss(reading: Reading, verdict: Verdict) -> list[Said]:
    """What the losses say of the whole run, and why they say nothing of large norms."""
    notes, course = [], reading.course
    if course.way == "exploded" and verdict not in ("diverging", "vanishing"):
        notes.append(
            Said(
                "loss_exploded",
                f"The loss went from {course.start:.3g} to {course.end:.3g}: this training does not work, whatever its norms do. Lower the "
                "learning rate, about 10x, before the threshold matters.",
            )
        )
    if reading.losses is not None and not reading.are_neighbours and reading.stats.steady is not None:
        notes.append(
            Said(
                "rows_apart",
                "The rows are not those of neighbouring steps: the losses do not show what single steps did, and do not move the threshold.",
            )
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
