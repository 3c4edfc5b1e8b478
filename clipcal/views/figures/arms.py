"""A run -> the losses and norms of the arms that were trained side by side."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any

import numpy as np

from clipcal.run.directory import Run
from clipcal.run.jsonfile import number
from clipcal.run.records import read_record
from clipcal.run.trace import Floats, Trace, read_arm, read_trace
from clipcal.stats.arrays import running_median
from clipcal.verification.answer import ArmResult

MOST_POINTS = 600
SMOOTH = 25  # windows of the running median that a run is long


@dataclass(frozen=True, kw_only=True)
class ArmCurve:
    """One arm: its outcome, and its course in at most 600 points (k,): the mean loss and the largest norm of as many steps.
    ``trend`` (k,) is the running median of ``losses``, which tells arms apart where the noise of the batches hides it."""

    result: ArmResult
    steps: Floats
    losses: Floats
    trend: Floats
    norms: Floats


@dataclass(frozen=True, kw_only=True)
class Arms:
    """``names`` in the order of their thresholds, unclipped first; ``verdict`` and ``reasons`` are those of the verification."""

    verdict: str
    max_norm: float
    names: tuple[str, ...]
    curves: tuple[ArmCurve, ...]
    reasons: tuple[str, ...]
    comparison: tuple[float, tuple[float, float] | None] | None

    @property
    def seeds(self) -> list[int]:
        return sorted({c.result.seed for c in self.curves})


def arms(run: Run) -> Arms | None:
    """None where the run was not verified. An arm whose trace is gone is left out. Raises InputError where a file of the verification is
    there and cannot be read."""
    raw = read_record(run.verification, todo=f"`clipcal verify {run.folder}` writes it anew.")
    if raw is None:
        return None
    results = [_result(a) for a in raw["arms"]]
    curves = [_curve(result, trace) for result in results if (trace := _trace_of(run, result)) is not None]
    ordered = sorted(curves, key=lambda c: (c.result.max_norm is not None, -(c.result.max_norm or 0)))
    difference, interval = (raw["comparison"][key] for key in ("loss_difference", "interval"))
    between = None if interval is None else (number(interval[0]), number(interval[1]))
    return Arms(
        verdict=raw["verdict"],
        max_norm=number(raw["max_norm"]),
        names=tuple(dict.fromkeys(c.result.name for c in ordered)),
        curves=tuple(curves),
        reasons=tuple(raw["reasons"]),
        comparison=None if difference is None else (number(difference), between),
    )


def _trace_of(run: Run, result: ArmResult) -> Trace | None:
    paths = [run.arm(result.name, result.seed)]
    if result.max_norm is None and result.name == "unclipped" and result.seed == run.info.seeds[0]:
        paths.append(run.trace)  # the profile is the unclipped arm of its seed
    return next((read_arm(path) if path != run.trace else read_trace(path) for path in paths if path.exists()), None)


def _curve(result: ArmResult, trace: Trace) -> ArmCurve:
    n = len(trace)
    starts = np.arange(min(n, MOST_POINTS)) * n // min(n, MOST_POINTS)
    sizes = np.diff(np.append(starts, n))
    with np.errstate(all="ignore"):
        losses = np.add.reduceat(trace.loss, starts) / sizes
    return ArmCurve(
        result=result,
        steps=trace.step[starts].astype(np.float64),
        losses=losses,
        trend=_trend(losses),
        norms=np.maximum.reduceat(trace.grad_norm, starts),
    )


def _trend(losses: Floats) -> Floats:
    """Not finite where the loss is not: a median would hide that an arm is lost."""
    finite = np.isfinite(losses)
    trend = losses.copy()
    if np.count_nonzero(finite) > 2:
        trend[finite] = running_median(losses[finite], max(losses.size // SMOOTH, 1) | 1)
    return trend


def _result(raw: dict[str, Any]) -> ArmResult:
    numbers = {"max_norm", "final_loss", "clip_fraction", "mean_scale"}
    known: dict[str, Any] = {f.name: raw[f.name] for f in fields(ArmResult)}
    known |= {k: number(known[k]) for k in numbers if known[k] is not None}
    return ArmResult(**known)
