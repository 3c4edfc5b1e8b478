"""Figures -> the JSON that the page's script draws: long columns as base64 of little-endian numbers, the rest as it is."""

from __future__ import annotations

import base64
import math
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from clipcal.run.trace import Floats
from clipcal.views.figures.arms import ArmCurve, Arms
from clipcal.views.figures.course import Course, shown
from clipcal.views.figures.harm import LossAfter
from clipcal.views.figures.heat import Heat
from clipcal.views.figures.points import positive, sampled
from clipcal.views.figures.thresholds import ClippedShare, Distribution, Mark

Bools = NDArray[np.bool_]

MOST_LEVELS = 1500
"""Points of the local level, which is smooth."""
STEEP = 20.0
"""Times the median loss, from which a largest loss asks for a log axis."""
RISES = 40.0
"""Steps of the heat map's scale per factor of two."""


def f32(values: ArrayLike) -> str:
    """Seven digits, which is more than a picture shows; NaN where there is no number."""
    with np.errstate(over="ignore"):
        return base64.b64encode(np.asarray(values).astype("<f4").tobytes()).decode()


def f64(values: ArrayLike) -> str:
    return base64.b64encode(np.asarray(values).astype("<f8").tobytes()).decode()


def course(c: Course) -> dict[str, Any]:
    steps = c.steps
    even = steps.size > 1 and bool((np.diff(steps) == steps[1] - steps[0]).all())
    level = sampled(np.isfinite(c.level), MOST_LEVELS)
    return {
        "unit": c.unit,
        "steps": [float(steps[0]), float(steps[1] - steps[0]), steps.size] if even else f64(steps),
        "norms": f32(positive(c.norms)),
        "losses": None if c.losses is None else f32(np.where(np.isfinite(c.losses), c.losses, np.nan)),
        "levelRows": level.tolist(),
        "level": _short(c.level[level]),
        "spikes": c.spikes.tolist(),
        "nonfinite": c.nonfinite.tolist(),
        "zeros": np.flatnonzero(c.norms == 0)[:2000].tolist(),
        "median": c.median,
        "maxNorm": c.max_norm,
        "interval": _bounds(c.interval),
        "corridor": _bounds(c.corridor),
        "firstStable": c.first_stable,
        "lastHealthy": c.last_healthy,
        "inUse": c.in_use,
        "guard": c.guard,
        "range": _room(c.shown),
        "lossRange": None if c.losses is None else _loss_range(c.losses, c.healthy),
    }


def _loss_range(losses: Floats, healthy: Bools) -> dict[str, Any]:
    """On a log axis where a few losses far above all others would press the rest onto the axis."""
    finite = np.isfinite(losses)
    low, high = _extremes(losses[finite]) or (0.0, 1.0)
    middle = float(np.median(losses[finite])) if finite.any() else 0.0
    calm = _extremes(losses[finite & healthy])
    if low > 0 and high > STEEP * middle:
        return {"log": True, "range": _room(shown(losses, healthy))}
    if calm and high > calm[1]:
        high = min(high, calm[1] + 2 * (calm[1] - calm[0]))
    room = 0.05 * (high - low) or 0.05 * abs(high) or 1.0
    return {"log": False, "range": [low - room, high + room]}


def distribution(d: Distribution) -> dict[str, Any]:
    return {
        "edges": _short(d.edges),
        "stable": d.stable.tolist(),
        "spikes": d.spikes.tolist(),
        "others": d.others.tolist(),
        "leftOut": d.left_out,
        "beyond": d.beyond,
        "marks": _marks(d.marks),
    }


def share(s: ClippedShare) -> dict[str, Any]:
    return {
        "thresholds": _short(s.thresholds),
        "stable": _short(s.stable),
        "spikes": None if s.spikes is None else _short(s.spikes),
        "scale": _short(s.scale),
        "corridor": _bounds(s.corridor),
        "isStable": s.is_stable,
        "marks": _marks(s.marks),
    }


def harm(h: LossAfter) -> dict[str, Any]:
    """Changes of the log as shares of the loss, no larger than a float of the page."""
    order = np.argsort(h.norms, kind="stable")
    ends = np.array([v if v is not None else np.nan for v in (h.change_below, h.change_above)])
    with np.errstate(over="ignore"):
        changes, (below, above) = ((np.expm1(v) if h.is_relative else v) for v in (h.changes[order], ends))
    return {
        "norms": f32(h.norms[order]),
        "changes": f32(np.clip(changes, -1e30, 1e30)),
        "isRelative": h.is_relative,
        "threshold": h.threshold,
        "below": None if h.change_below is None else float(below),
        "above": None if h.change_above is None else float(above),
        "maxNorm": h.max_norm,
    }


def heat(h: Heat) -> dict[str, Any]:
    """A byte a cell: 255 for no gradient, otherwise the log of the rise, from a tenth to beyond sixty times."""
    with np.errstate(divide="ignore", invalid="ignore"):
        logs = np.log2(h.rise.astype(np.float64))
    cells = np.where(np.isnan(logs), 255, np.clip(np.round(logs * RISES / 2) + 60, 0, 254)).astype(np.uint8)
    return {
        "names": list(h.names),
        "shares": _short(h.shares),
        "cells": base64.b64encode(cells.tobytes()).decode(),
        "first": [float(v) for v in h.first],
        "last": h.last,
    }


def arms(a: Arms) -> dict[str, Any]:
    calm = [c for c in a.curves if c.result.diverged_at is None] or list(a.curves)
    losses = np.concatenate([c.trend for c in calm]) if calm else np.empty(0)
    return {
        "names": list(a.names),
        "maxNorm": a.max_norm,
        "lossRange": _loss_range(losses, np.ones(losses.size, np.bool_)),
        "curves": [_curve(c) for c in a.curves],
    }


def _curve(c: ArmCurve) -> dict[str, Any]:
    return {
        "name": c.result.name,
        "seed": c.result.seed,
        "lostAt": c.result.diverged_at,
        "steps": f64(c.steps),
        "losses": f32(c.trend),
        "norms": f32(np.where(c.norms > 0, c.norms, np.nan)),
    }


def _marks(found: tuple[Mark, ...]) -> list[dict[str, Any]]:
    return [{"name": m.name, "value": m.value, "kind": m.kind} for m in found]


def _extremes(values: Floats) -> tuple[float, float] | tuple[()]:
    return (float(values.min()), float(values.max())) if values.size else ()


def _bounds(pair: tuple[float, float] | None) -> list[float | None] | None:
    """JSON knows no infinity: null is a bound that is not there."""
    return None if pair is None else [v if math.isfinite(v) else None for v in pair]


def _room(ends: tuple[float, float] | None) -> list[float] | None:
    """A range of a log axis around both, a factor of two at least."""
    if ends is None:
        return None
    low, high = (math.log10(v) for v in ends)
    room = max(0.04 * (high - low), (math.log10(2) - (high - low)) / 2, 0.02)
    return [10 ** max(low - room, -307.0), 10 ** min(high + room, 307.0)]


def _short(values: Floats) -> list[float | None]:
    return [float(f"{v:.6g}") if math.isfinite(v) else None for v in values]
