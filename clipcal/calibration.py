"""Gradient norms (and losses, where there are any) -> a Recommendation: one threshold, its evidence, its limits."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from clipcal.baselines import BASELINES
from clipcal.errors import InputError, nearest
from clipcal.recommendation import (
    METHODS,
    Candidates,
    Clipped,
    Confidence,
    Drift,
    Harm,
    Method,
    Nonfinite,
    Recommendation,
    Spikes,
    Stable,
    Verdict,
)
from clipcal.stats import FEWEST, NormStats, summarise
from clipcal.stats.harm import LossResponse, loss_response

Array = NDArray[np.float64]

NET = 1.25  # times the stable p99: a safety net above everything that was seen
COMPROMISE = 1.0
REACH = 1.5  # times the stable p99 at most: a far spike is no reason to let everything below it through
FIRM = 2.0  # times the stable median: the rule that trained best where large norms did harm
HARMFUL = 0.2  # one-sided p below which the losses choose firm over gentle
MOST = 0.25  # of stable steps above 1.8 x p99 that a trace without a gap may have before its tail is called heavy
LARGEST = math.log(np.finfo(np.float64).max) - 1


def recommend(
    grad_norms: Sequence[float] | NDArray[Any],
    losses: Sequence[float] | NDArray[Any] | None = None,
    *,
    steps: Sequence[int] | NDArray[Any] | None = None,
    lrs: Sequence[float] | NDArray[Any] | None = None,
    method: Method = "norm",
    norm_type: float = 2.0,
    source: str | None = None,
    caveats: Iterable[str] = (),
) -> Recommendation:
    """Recommend a clipping threshold from a run's gradient norms before clipping, one per optimizer step.

    ``grad_norms``: shape (n,), any length; NaN and infinities are counted, never fatal. For ``method="value"`` the largest
    absolute gradient element per step, for ``"per_tensor"`` the largest tensor norm per step: the same rule reads them.
    ``losses``, ``steps`` (step numbers; 0, 1, ... by default) and ``lrs``: the same length. ``caveats``: what the caller
    knows about the trace, added to the answer's own. Raises InputError for arguments that fit no trace.
    """
    if method not in METHODS:
        raise InputError(f"method={method!r} is not a way to clip.{nearest(str(method), METHODS)}")
    if not (isinstance(norm_type, (int, float)) and norm_type > 0):
        raise InputError(f"norm_type={norm_type!r} is not a norm: it must be a number above 0, such as 2.0 or inf.")
    norms = _column(grad_norms, "grad_norms", None)
    loss = None if losses is None else _column(losses, "losses", norms.size)
    lr = None if lrs is None else _column(lrs, "lrs", norms.size)
    numbers = np.arange(norms.size) if steps is None else _steps(steps, norms.size)
    trace = _Trace(norms=norms, losses=loss, lrs=lr, steps=numbers)
    with np.errstate(all="ignore"):
        return _answer(trace, summarise(norms), method, float(norm_type), source, tuple(caveats))


@dataclass(frozen=True, kw_only=True)
class _Trace:
    norms: Array
    losses: Array | None
    lrs: Array | None
    steps: NDArray[np.int64]


def _column(values: Sequence[float] | NDArray[Any], name: str, length: int | None) -> Array:
    try:
        column = np.asarray(values, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise InputError(f"{name} must be numbers, one per optimizer step: {error}.") from None
    if column.ndim != 1:
        raise InputError(f"{name} has shape {column.shape}; expected one number per optimizer step, shape (n,).")
    if length is not None and column.size != length:
        raise InputError(f"{name} has {column.size} values and grad_norms has {length}: give one of each per step.")
    return column


def _steps(values: Sequence[int] | NDArray[Any], length: int) -> NDArray[np.int64]:
    column = _column(values, "steps", length)
    if not np.all(np.isfinite(column)):
        raise InputError("steps holds a non-finite number: every row needs its step number, or leave steps out.")
    return column.astype(np.int64)


def _threshold(log_p99: Array, smallest_spike: float | None, num_far: int) -> Array:
    """The log of the gentle threshold for log p99 (k,): a net above the stable norms, midway below the smallest spike."""
    if smallest_spike is None:
        return log_p99 + math.log(NET if num_far == 0 else COMPROMISE)
    midway = 0.5 * (log_p99 + math.log(smallest_spike))
    return np.asarray(np.minimum(midway, log_p99 + math.log(REACH)), dtype=np.float64)


def _answer(
    trace: _Trace, stats: NormStats, method: Method, norm_type: float, source: str | None, caveats: tuple[str, ...]
) -> Recommendation:
    verdict = _verdict(stats)
    if stats.kind == "steady" and _stuck_and_tiny(trace, stats):
        verdict = "vanishing"
    usable = trace.norms[np.isfinite(trace.norms) & (trace.norms > 0)]
    found: dict[str, Any] = {
        "max_norm": None,
        "interval": None,
        "corridor": None,
        "confidence": "none",
        "stable": None,
        "spikes": Spikes(count=0, rate=0.0, min=None, max=None, steps=()),
        "drift": Drift(ratio=None, direction="flat"),
        "clipped": Clipped(stable=None, spikes=None),
        "candidates": Candidates(gentle=None, firm=None),
        "harm": None,
    }
    reasons: list[str] = []
    notes: list[str] = []
    if stats.stable_rows is not None and verdict != "vanishing":
        found |= _threshold_and_evidence(trace, stats, verdict, reasons, notes)
    else:
        reasons += _why_none(trace, stats, verdict)
    notes += _notes(trace, stats, verdict)
    first = stats.first_nonfinite
    return Recommendation(
        source=source,
        steps=stats.num_steps,
        verdict=verdict,
        method=method,
        norm_type=norm_type,
        nonfinite=Nonfinite(count=stats.num_nonfinite, first_step=None if first is None else int(trace.steps[first])),
        zeros=stats.num_zeros,
        reasons=tuple(reasons),
        caveats=(*notes, *caveats),
        baselines=_baselines(usable),
        **found,
    )


def _verdict(stats: NormStats) -> Verdict:
    if stats.kind == "steady":
        if stats.spike_rows is not None and stats.spike_rows.size:
            return "spikes"
        return "heavy_tail" if stats.num_far else "stable"
    names: dict[str, Verdict] = {
        "diverged": "diverging",
        "vanished": "vanishing",
        "clipped": "clipped",
        "insufficient": "insufficient",
    }
    return names[stats.kind]


def _threshold_and_evidence(
    trace: _Trace, stats: NormStats, verdict: Verdict, reasons: list[str], notes: list[str]
) -> dict[str, Any]:
    assert stats.stable_rows is not None and stats.spike_rows is not None and stats.log_p99 is not None
    stable, spikes = trace.norms[stats.stable_rows], trace.norms[stats.spike_rows]
    point = float(_threshold(np.array([math.log(max(stats.p99, 5e-324))]), stats.smallest_spike, stats.num_far)[0])
    replicates = _threshold(stats.log_p99, stats.smallest_spike, stats.num_far)
    top = math.inf if stats.smallest_spike is None else stats.smallest_spike
    corridor = (stats.median, top)
    gentle = rounded(_exp(point), corridor)
    firm = min(gentle, rounded(FIRM * stats.median, corridor))
    harm = _harm(trace, stats, gentle, firm)
    chosen = firm if harm is not None and harm.p < HARMFUL else gentle
    low, high = (math.log(chosen / gentle) + q for q in np.quantile(replicates, [0.05, 0.95]))
    interval = (min(_exp(low), chosen), max(_exp(high), chosen))
    confidence = _confidence(stats, interval)
    rate = spikes.size / max(stats.stable_rows.size + spikes.size, 1)
    reasons += _why(stats, verdict, stable, spikes, chosen, harm)
    if verdict == "diverging":
        first = int(trace.steps[min(stats.healthy_steps, trace.steps.size - 1)])
        reasons.insert(
            0,
            f"The norms run away or go non-finite from step {first} on: only the {stats.healthy_steps} steps before that "
            "count.",
        )
    return {
        "max_norm": chosen,
        "interval": interval,
        "corridor": corridor,
        "confidence": confidence,
        "stable": Stable(
            first_step=int(trace.steps[stats.first_row]),
            steps=int(stable.size),
            median=stats.median,
            p95=stats.p95,
            p99=stats.p99,
            max=float(np.max(stable)),
        ),
        "spikes": Spikes(
            count=int(spikes.size),
            rate=rate,
            min=float(np.min(spikes)) if spikes.size else None,
            max=float(np.max(spikes)) if spikes.size else None,
            steps=tuple(int(s) for s in trace.steps[stats.spike_rows]),
        ),
        "drift": Drift(ratio=stats.drift_ratio, direction=stats.direction),
        "clipped": Clipped(
            stable=float(np.mean(stable > chosen)), spikes=float(np.mean(spikes > chosen)) if spikes.size else None
        ),
        "candidates": Candidates(gentle=gentle, firm=firm),
        "harm": None
        if harm is None
        else Harm(
            threshold=harm.threshold,
            steps_above=harm.steps_above,
            loss_change_above=harm.change_above,
            loss_change_below=harm.change_below,
        ),
    }


def _exp(log: float) -> float:
    return math.exp(min(log, LARGEST))


def rounded(value: float, corridor: tuple[float, float]) -> float:
    """``value`` to two significant digits where that stays inside the corridor, else to as many more as it takes."""
    for digits in range(2, 17):
        short = float(f"{value:.{digits - 1}e}")
        if corridor[0] < short < corridor[1] and short > 0:
            return short
    return value


def _harm(trace: _Trace, stats: NormStats, gentle: float, firm: float) -> LossResponse | None:
    if trace.losses is None or stats.excess is None or firm >= gentle:
        return None
    return loss_response(stats.excess, trace.losses, firm)


def _confidence(stats: NormStats, interval: tuple[float, float]) -> Confidence:
    """200 steps after the warm-up are adequate, 50 a first number (measured: interval widths 0.3 and 0.6)."""
    assert stats.stable_rows is not None
    width = math.log(interval[1] / interval[0]) if interval[0] > 0 else math.inf
    if stats.kind == "diverged" or stats.stable_rows.size < 50 or width > 0.7:
        return "low"
    return "high" if stats.stable_rows.size >= 200 and width <= 0.35 else "medium"


def _stuck_and_tiny(trace: _Trace, stats: NormStats) -> bool:
    return False


def _why(
    stats: NormStats, verdict: Verdict, stable: Array, spikes: Array, chosen: float, harm: LossResponse | None
) -> list[str]:
    seen = stable.size + spikes.size
    out = []
    if spikes.size:
        out.append(
            f"{spikes.size} of {seen} steps ({100 * spikes.size / seen:.1f}%) stand clear of the rest: the smallest is "
            f"{np.min(spikes):.3g}, stable training stays below {stats.p99:.3g} in 99% of steps."
        )
    elif verdict == "heavy_tail":
        out.append(
            f"{stats.num_far} of {seen} steps lie far above the stable 99% point of {stats.p99:.3g}, but no gap sets them "
            "apart: the threshold is a compromise."
        )
    else:
        out.append(
            f"No step of {seen} stands clear of the rest; if steps are independent, spikes are rarer than {3 / seen:.2g}."
        )
    out.append(
        f"The threshold {chosen:.3g} would have clipped {100 * np.mean(stable > chosen):.1f}% of the stable steps."
    )
    return out


def _why_none(trace: _Trace, stats: NormStats, verdict: Verdict) -> list[str]:
    return [f"{stats.num_usable} usable norms of {stats.num_steps}; needs at least {FEWEST}."]


def _notes(trace: _Trace, stats: NormStats, verdict: Verdict) -> list[str]:
    return []


def _baselines(usable: Array) -> dict[str, float | None]:
    values = {
        name: rule(usable) if usable.size or name == "default_1.0" else math.nan for name, rule in BASELINES.items()
    }
    return {name: value if math.isfinite(value) else None for name, value in values.items()}
