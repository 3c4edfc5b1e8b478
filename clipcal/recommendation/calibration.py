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
    Candidates,
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
from clipcal.recommendation.reasons import FIRM, MIDDLE, Taken, caveats_of, effect_of, why, why_guarded, why_none
from clipcal.run.step import TORCH_EPSILON
from clipcal.stats import NormStats, Steady, summarise
from clipcal.stats.arrays import Array
from clipcal.stats.harm import LOW, is_stuck, loss_response

Column = Sequence[Any] | NDArray[Any]

NET = 1.25  # times the stable p99: a safety net above everything that was seen
WIDE_NET = 1.08  # the same where p99 is far above the median already: what spreads so widely needs no more room
NARROW, WIDE = math.log(3.0), math.log(4.5)  # p99 over the median: between them the net shrinks from one to the other
COMPROMISE = 1.15  # times the stable p99 where larger norms were seen, but no gap below them
REACH = 1.5  # times the stable p99 at most: a far spike is no reason to let everything below it through
LAST_RUN = 50  # rows of the last run in a log, for it to be judged alone: they do for a first number
TINY = 1e-4  # a norm below which a loss that stands still means that no gradient arrives
DEAD = 1e-15  # a norm below which no fp32 weight moves under any optimizer, whatever the loss
LARGEST_LOG, SMALLEST = math.log(1e308), 5e-324


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
    reading: Reading | None = None,
) -> Recommendation:
    """Recommend a clipping threshold from a run's gradient norms before clipping, one per optimizer step.

    ``grad_norms``: shape (n,), any length; NaN and infinities are counted, never fatal. For ``method="value"`` the largest
    absolute gradient element per step, for ``"per_tensor"`` the largest tensor norm per step: the same rule reads them.
    ``losses``, ``lrs`` and ``steps`` (step numbers, 0, 1, ... by default) have the same length. ``guard``: the threshold
    that training was clipped at while these norms were recorded, since it diverges without. ``choice``: the candidate that
    `calibrate` chose by training. ``caveats``: what the caller knows about the trace, added to the answer's own. ``reading``: that of
    an earlier answer to the same columns, which are not read again then. Raises InputError for arguments that fit no trace.
    """
    if method not in METHODS:
        raise InputError(f"method={method!r} is not a way to clip.{nearest(str(method), METHODS)}")
    if isinstance(norm_type, bool) or not isinstance(norm_type, (int, float)) or not norm_type > 0:
        raise InputError(f"norm_type={norm_type!r} is not a norm: it must be a number above 0, such as 2.0 or inf.")
    if reading is None:
        reading = read_columns(grad_norms, losses, steps, lrs)
    stats = reading.stats
    with np.errstate(all="ignore"):
        found: dict[str, Any] = {}
        read = _verdict(reading)
        verdict: Verdict = read if guard is None else "diverging"
        if read == "vanishing" or stats.steady is None:
            reasons = [why_none(reading, read)]
        else:
            found, reasons = _threshold_and_evidence(reading, stats.steady, choice, lost=verdict == "diverging")
        small = method != "value" and found.get("max_norm", math.inf) <= 100 * TORCH_EPSILON
        known = caveats_of(reading, verdict, guard, too_small=found["max_norm"] if small else None)
        usable = reading.norms[reading.usable]
        values = {n: rule(usable) if usable.size or n == "default_1.0" else math.nan for n, rule in BASELINES.items()}
    if guard is not None:
        reasons.insert(0, why_guarded(guard))
    return Recommendation(
        source=source,
        steps=stats.counts.steps,
        verdict=verdict,
        method=method,
        norm_type=float(norm_type),
        nonfinite=Nonfinite(count=stats.counts.nonfinite, first_step=reading.step(stats.counts.first_nonfinite)),
        zeros=stats.counts.zeros,
        reasons=tuple(reasons),
        caveats=(*known, *([reading.joined] if reading.joined else []), *caveats),
        baselines={name: value if math.isfinite(value) else None for name, value in values.items()},
        reading=reading,
        **found,
    )


def read_columns(
    grad_norms: Column, losses: Column | None = None, steps: Column | None = None, lrs: Column | None = None
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
    norms = norms[first:]
    with np.errstate(all="ignore"):
        stats = summarise(norms)
    return Reading(
        norms=norms,
        losses=None if losses is None else _column(losses, "losses", numbers.size)[first:],
        lrs=None if lrs is None else _column(lrs, "lrs", numbers.size)[first:],
        steps=numbers[first:],
        stats=stats,
        joined=joined,
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
            # Zeros alone do not tell a dead network from norms that were never computed; a loss that stands still does.
            return "vanishing" if stuck and stats.counts.zeros > 0.5 * stats.counts.steps else "insufficient"
        case "diverged":
            return "diverging"
        case "vanished":
            return "vanishing"
        case "clipped":
            return "clipped"


def _gentle(log_p99: Array, steady: Steady) -> Array:
    """The log of the gentle threshold for log p99 (k,): a net above the stable norms, midway below the smallest spike."""
    if steady.smallest_spike is None:
        spread = math.log(steady.p99) - math.log(steady.median)
        net = float(np.interp(spread, [NARROW, WIDE], [NET, WIDE_NET]))
        return log_p99 + math.log(COMPROMISE if steady.num_far else net)
    midway = 0.5 * (log_p99 + math.log(steady.smallest_spike))
    return np.asarray(np.minimum(midway, log_p99 + math.log(REACH)), dtype=np.float64)


def _threshold_and_evidence(
    reading: Reading, steady: Steady, choice: Choice | None, *, lost: bool
) -> tuple[dict[str, Any], list[str]]:
    stable, spikes = reading.norms[steady.stable_rows], reading.norms[steady.spike_rows]
    corridor = (steady.median, math.inf if steady.smallest_spike is None else steady.smallest_spike)
    log_gentle = float(_gentle(np.log([steady.p99]), steady)[0])
    gentle = rounded(_exp(log_gentle), corridor)
    firm, middle = (min(gentle, rounded(times * steady.median, corridor)) for times in (FIRM, MIDDLE))
    response = None if reading.losses is None else loss_response(steady.excess, reading.losses)
    effect = "unknown" if response is None else effect_of(response)
    if (lost and reading.losses is not None) or (response is not None and effect == "harm" and response.level in LOW):
        chosen = firm
    else:
        chosen = gentle if effect in ("none", "unknown") else middle
    if choice is not None:
        chosen = choice.max_norm
    interval = _interval(chosen, gentle, steady, corridor)
    evidence: dict[str, Any] = {
        "max_norm": chosen,
        "interval": interval,
        "corridor": corridor,
        "confidence": _confidence(reading.stats, stable.size, interval),
        "stable": Stable(
            first_step=int(reading.steps[steady.first_row]),
            steps=int(stable.size),
            median=steady.median,
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
        "drift": Drift(ratio=steady.drift_ratio, direction=steady.direction),
        "clipped": Clipped(
            stable=float(np.mean(stable > chosen)), spikes=float(np.mean(spikes > chosen)) if spikes.size else None
        ),
        "candidates": Candidates(gentle=gentle, middle=middle, firm=firm),
    }
    if response is not None and effect != "unclear":
        evidence["harm"] = Harm(
            threshold=rounded(response.level * steady.median, corridor),
            steps_above=response.steps_above,
            loss_change_above=response.change_above,
            loss_change_below=response.change_below,
        )
    taken: Taken = "gentle" if chosen == gentle else "middle" if chosen == middle else "firm"
    reasons = why(reading, steady, chosen, response, taken=None if choice is not None else taken)
    return evidence, [choice.reason, *reasons] if choice is not None and choice.reason else reasons


def _interval(chosen: float, gentle: float, steady: Steady, corridor: tuple[float, float]) -> tuple[float, float]:
    """The bootstrap interval of ``chosen``: gentle stands on the 99% point, the others on the median.

    Its ends are rounded outwards as thresholds are, so that a threshold inside it stays inside when it is rounded.
    """
    if chosen == gentle:
        logs = _gentle(steady.log_p99, steady)
    else:
        logs = math.log(chosen) + steady.log_median - math.log(steady.median)
    low, high = (_exp(float(v)) for v in np.quantile(logs, [0.05, 0.95]))
    ends = [min(float(f"{low:.3g}"), rounded(low, corridor)), max(float(f"{high:.3g}"), rounded(high, corridor))]
    return min(ends[0], chosen), max(ends[1], chosen)


def _exp(log: float) -> float:
    return max(math.exp(min(log, LARGEST_LOG)), SMALLEST)


def rounded(value: float, corridor: tuple[float, float]) -> float:
    """``value`` to two significant digits where that stays inside the corridor, else to as many more as it takes."""
    for digits in range(2, 17):
        short = float(f"{value:.{digits - 1}e}")
        if corridor[0] < short < corridor[1] and math.isfinite(short):
            return short
    return value


def _confidence(stats: NormStats, steps: int, interval: tuple[float, float]) -> Confidence:
    """200 steps after the warm-up are adequate, 50 a first number; interval widths there were 0.3 and 0.6 (measured)."""
    width = math.log(interval[1] / interval[0])
    if steps < 50 or width > 0.7:
        return "low"
    return "high" if steps >= 200 and width <= 0.35 and stats.kind == "steady" else "medium"
