"""Gradient norms (and losses, where there are any) -> a Recommendation: one threshold, its evidence, its limits."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from clipcal.errors import InputError, nearest
from clipcal.recommendation.answer import (
    METHODS,
    Choice,
    Clipped,
    Confidence,
    Drift,
    Harm,
    Method,
    Nonfinite,
    Reading,
    Recommendation,
    Spikes,
    Stable,
    Verdict,
)
from clipcal.recommendation.baselines import BASELINES
from clipcal.recommendation.leaning import lean
from clipcal.recommendation.reasons import Said, caveats_of, why, why_guarded, why_none
from clipcal.recommendation.thresholds import OTHER_RUN, rounded, threshold_of
from clipcal.run.step import TORCH_EPSILON
from clipcal.stats import Steady, summarise
from clipcal.stats.arrays import Array
from clipcal.stats.harm import is_stuck, loss_response
from clipcal.stats.losses import course_of

Column = Sequence[Any] | NDArray[Any]

SETTLED = math.log(1.25)  # change of the level over the trace, from which on it is not known where it settles
NINE_IN_TEN = 1.645  # standard errors on either side of a normal estimate
LAST_RUN = 50  # rows of the last run in a log, for it to be judged alone: they do for a first number
TINY = 1e-4  # a norm below which a loss that stands still means that no gradient arrives
DEAD = 1e-15  # a norm below which no fp32 weight moves under any optimizer, whatever the loss


def recommend(
    grad_norms: Sequence[float] | NDArray[Any],
    losses: Sequence[float] | NDArray[Any] | None = None,
    *,
    steps: Sequence[int] | NDArray[Any] | None = None,
    lrs: Sequence[float] | NDArray[Any] | None = None,
    method: Method = "norm",
    norm_type: float = 2.0,
    guard: float | None = None,
    choice: Choice | None = None,
    source: str | None = None,
    caveats: Iterable[str] = (),
    single_steps: bool = True,
    reading: Reading | None = None,
) -> Recommendation:
    """Recommend a clipping threshold from a run's gradient norms before clipping, one per optimizer step.

    ``grad_norms``: shape (n,), any length; NaN and infinities are counted, never fatal. For ``method="value"`` the largest
    absolute gradient element per step, for ``"per_tensor"`` the largest tensor norm per step: the same rule reads them.
    ``losses``, ``lrs`` and ``steps`` (step numbers, 0, 1, ... by default) have the same length. ``guard``: the threshold
    that training was clipped at while these norms were recorded, since it diverges without. ``choice``: the candidate that
    `calibrate` chose by training. ``caveats``: what the caller knows about the trace, added to the answer's own. ``single_steps``:
    whether each row is a step and next to the one before; the losses of others say nothing of what a step did.
    ``reading``: that of an earlier answer to the same columns, which are not read again then. Raises InputError for arguments that fit no trace.
    """
    if method not in METHODS:
        raise InputError(f"method={method!r} is not a way to clip.{nearest(str(method), METHODS)}")
    if isinstance(norm_type, bool) or not isinstance(norm_type, (int, float)) or not norm_type > 0:
        raise InputError(f"norm_type={norm_type!r} is not a norm: it must be a number above 0, such as 2.0 or inf.")
    if reading is None:
        reading = read_columns(grad_norms, losses, steps, lrs, single_steps=single_steps)
    stats = reading.stats
    with np.errstate(all="ignore"):
        found: dict[str, Any] = {}
        read = _verdict(reading)
        verdict: Verdict = read if guard is None else "diverging"
        if read == "vanishing" or stats.steady is None:
            reasons = [why_none(reading, read)]
        else:
            found, reasons = _threshold_and_evidence(
                reading, stats.steady, choice, lost=verdict == "diverging", guarded=guard is not None
            )
        small = method != "value" and found.get("max_norm", math.inf) <= 100 * TORCH_EPSILON
        known = caveats_of(reading, verdict, guard, too_small=found["max_norm"] if small else None)
        usable = reading.norms[reading.usable]
        values = {n: rule(usable) if usable.size or n == "default_1.0" else math.nan for n, rule in BASELINES.items()}
    if guard is not None:
        reasons.insert(0, Said("guarded", why_guarded(guard)))
    if reading.joined:
        known.append(Said("joined", reading.joined))
    known += [Said("source", caveat) for caveat in caveats]
    return Recommendation(
        source=source,
        steps=stats.counts.steps,
        verdict=verdict,
        method=method,
        norm_type=float(norm_type),
        nonfinite=Nonfinite(count=stats.counts.nonfinite, first_step=reading.step(stats.counts.first_nonfinite)),
        zeros=stats.counts.zeros,
        reasons=tuple(reason.text for reason in reasons),
        caveats=tuple(caveat.text for caveat in known),
        codes=tuple(said.code for said in (*reasons, *known)),
        loss=reading.course,
        baselines={name: value if math.isfinite(value) else None for name, value in values.items()},
        reading=reading,
        **found,
    )


def read_columns(
    grad_norms: Column,
    losses: Column | None = None,
    steps: Column | None = None,
    lrs: Column | None = None,
    *,
    single_steps: bool = True,
) -> Reading:
    """The columns that ``recommend`` is given -> the rows to judge, and their statistics: computed here, and nowhere again."""
    norms = _column(grad_norms, "grad_norms")
    numbers = np.arange(norms.size) if steps is None else _column(steps, "steps", norms.size)
    if not np.all(np.isfinite(numbers)):
        raise InputError("steps holds a non-finite number: give every row its step number, or leave steps out.")
    if np.any(np.abs(numbers) > 2.0**53):
        raise InputError("steps holds a number beyond 2^53, which is no step: give every row its step number.")
    numbers = numbers.astype(np.int64)
    first, joined = last_run(numbers)
    norms, numbers = norms[first:], numbers[first:]
    kept = None if losses is None else _column(losses, "losses", first + numbers.size)[first:]
    with np.errstate(all="ignore"):
        stats, course = summarise(norms, kept), course_of(kept)
    return Reading(
        norms=norms,
        losses=kept,
        lrs=None if lrs is None else _column(lrs, "lrs", first + numbers.size)[first:],
        steps=numbers,
        stats=stats,
        joined=joined,
        are_neighbours=single_steps and (numbers.size < 2 or float(np.median(np.diff(numbers))) <= 1),
        course=course,
    )


def last_run(steps: NDArray[np.int64]) -> tuple[int, str | None]:
    """The first row of the last of the runs that share a log, where the step numbers (n,) go back, and a caveat; row 0 where
    that run is too short to be judged alone."""
    starts = np.flatnonzero(np.diff(steps) <= 0) + 1
    if not starts.size:
        return 0, None
    first = int(starts[-1])
    rows = steps.size - first
    times = f"The step numbers go back {starts.size} time{'s' * (starts.size != 1)}: several runs share this log"
    if rows < max(LAST_RUN, 0.1 * steps.size):
        return 0, f"{times} and were judged as one, since the last has {rows} rows only."
    return first, f"{times}. The last one is judged, its {rows} rows from step {steps[first]} on."


def _column(values: Column, name: str, length: int | None = None) -> Array:
    try:
        with np.errstate(over="ignore"):
            column = np.asarray(values)
            if column.dtype.kind == "c":
                raise TypeError
            column = column.astype(np.float64)
    except (TypeError, ValueError, OverflowError, RuntimeError):
        raise InputError(
            f"{name} must be a flat list of numbers, one per optimizer step (NaN where unknown)."
        ) from None
    if column.ndim != 1:
        raise InputError(f"{name} has shape {column.shape}: give one number per optimizer step, shape (n,).")
    if length is not None and column.size != length:
        raise InputError(f"{name} has {column.size} values and grad_norms has {length}: give one of each per step.")
    return column


def _verdict(reading: Reading) -> Verdict:
    stats, losses = reading.stats, reading.losses
    stuck = losses is not None and is_stuck(losses)
    match stats.kind:
        case "steady":
            assert stats.steady is not None
            if stats.steady.median < (DEAD if losses is None else TINY) and (losses is None or stuck):
                return "vanishing"
            if stats.steady.spike_rows.size:
                return "spikes"
            return "heavy_tail" if stats.steady.num_far else "stable"
        case "insufficient":
            # Zeros alone do not tell a dead network from norms that were never computed, nor, among others, from steps without signal;
            # a loss that stands still does, other than at the zero that GRPO prints.
            dead = stats.counts.zeros > 0.5 * stats.counts.steps and not stats.counts.usable
            moved = losses is not None and bool(np.any(losses[np.isfinite(losses)] != 0))
            return "vanishing" if stuck and dead and moved else "insufficient"
        case "diverged":
            return "diverging"
        case "vanished":
            return "vanishing"
        case "clipped":
            return "clipped"


def _threshold_and_evidence(
    reading: Reading, steady: Steady, choice: Choice | None, *, lost: bool, guarded: bool
) -> tuple[dict[str, Any], list[Said]]:
    stable, spikes = reading.norms[steady.stable_rows], reading.norms[steady.spike_rows]
    ordinary = reading.norms[steady.ordinary_rows]
    tells = reading.losses is not None and reading.are_neighbours
    response = loss_response(steady.excess, reading.losses) if tells and reading.losses is not None else None
    leans = lean(response, np.random.default_rng(3).standard_normal(steady.log_median.size))
    if lost and tells:
        leans = leans.lost(guarded=guarded)
    found = threshold_of(reading, steady, leans, choice)
    chosen = found.max_norm
    is_told = (not tells or leans.effect in ("harm", "none")) if choice is None else not choice.alike
    clipped = Clipped(
        stable=float(np.mean(ordinary > chosen)), spikes=float(np.mean(spikes > chosen)) if spikes.size else None
    )
    evidence: dict[str, Any] = {
        "max_norm": chosen,
        "interval": found.interval,
        "corridor": found.corridor,
        "confidence": _confidence(reading, steady, found.interval, is_told=is_told),
        "stable": Stable(
            first_step=int(reading.steps[steady.first_row]),
            steps=int(stable.size),
            median=steady.median,
            median_seen=steady.median_seen,
            p95=steady.p95,
            p99=steady.p99,
            max=float(np.max(stable)),
        ),
        "spikes": Spikes(
            count=int(spikes.size),
            rate=spikes.size / (stable.size + spikes.size),
            min=float(np.min(spikes)) if spikes.size else None,
            max=float(np.max(spikes)) if spikes.size else None,
            steps=tuple(int(s) for s in reading.steps[steady.spike_rows]),
        ),
        "drift": Drift(ratio=steady.drift_ratio, direction=steady.direction, leap=reading.step(steady.leap_row)),
        "clipped": clipped,
        "candidates": found.candidates,
    }
    if response is not None and not (leans.effect == "unclear" and chosen == found.candidates.gentle):
        at = response.clearest if leans.effect == "harm" else response.usual
        evidence["harm"] = Harm(
            threshold=rounded(at.level * steady.median, found.corridor),
            level=at.level,
            steps_above=at.steps_above,
            loss_change_above=at.change_above,
            loss_change_below=at.change_below,
            rise=at.rise,
            interval=(at.rise - NINE_IN_TEN * at.error, at.rise + NINE_IN_TEN * at.error),
            p=response.p,
            unit="log" if response.is_relative else "scatter",
            effect=leans.effect,
        )
    reasons = why(reading, steady, evidence, is_choice=choice is not None)
    return evidence, [Said("choice", choice.reason), *reasons] if choice is not None and choice.reason else reasons


def _confidence(reading: Reading, steady: Steady, interval: tuple[float, float], *, is_told: bool) -> Confidence:
    """200 steps after the warm-up are adequate, 50 a first number; interval widths there were 0.3 and 0.6 (measured). Where the level
    moves, the one ahead is a guess, and where it is not ``is_told`` whether large norms do harm, another seed may take another
    candidate: neither is of high confidence."""
    steps, width = steady.stable_rows.size, math.log(interval[1] / interval[0])
    if steps < 50 or width > 0.7 * OTHER_RUN or reading.course.way == "exploded":
        return "low"
    is_settled = steady.direction == "flat" and abs(math.log(steady.drift_ratio)) < SETTLED
    is_whole = reading.stats.kind == "steady"
    return "high" if steps >= 200 and width <= 0.35 * OTHER_RUN and is_settled and is_whole and is_told else "medium"
