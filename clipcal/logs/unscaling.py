"""Norms beside the loss scale of their rows -> whether they were taken before unscaling, and the norms without it.

Mixed precision multiplies the loss, and so every gradient, by a scale that a GradScaler moves by factors of two. A norm that is logged
before ``scaler.unscale_`` jumps wherever the scale does, by the same factor; one that is logged behind it does not.
"""

from __future__ import annotations

import math
from itertools import pairwise

import numpy as np

from clipcal.logs.log import Floats

_BESIDE = 8
"""Rows on either side of a change of the scale that it is judged by."""
_SURE = 4.0
"""Standard errors that the slope of the norms over the scale has to lie above 0."""
_LARGE = 100.0
"""A median norm from which on a scale that never changes is asked about: unscaled ones are rarely so large."""


def unscaled(norms: Floats, scale: Floats | None) -> tuple[Floats, str | None]:
    """The norms (n,) as they act on the weights, and what has to be said of that. ``scale`` is (n,), NaN where unknown."""
    if scale is None:
        return norms, None
    known = scale[np.isfinite(scale) & (scale > 0)]
    if not known.size:
        return norms, None
    if np.all(known == known[0]):
        return norms, _asked(norms, float(known[0]))
    if not _follow(norms, scale):
        return norms, None
    # a row without a scale of its own has that of the row before
    at = np.maximum.accumulate(np.where(np.isfinite(scale), np.arange(scale.size), -1))
    own = np.where(at >= 0, scale[np.maximum(at, 0)], known[0])
    said = "The norms jump with the loss scale of their rows, by the same factor: they were taken before unscaling, and were divided by it."
    return norms / own, said


def _asked(norms: Floats, scale: float) -> str | None:
    finite = norms[np.isfinite(norms)]
    if scale <= 1 or not finite.size or float(np.median(finite)) < _LARGE:
        return None
    return (
        f"The loss scale stands at {scale:g} in every row, and the norms are large. If they were taken before unscaling, divide the "
        "threshold by the scale: the log alone does not tell."
    )


def _follow(norms: Floats, scale: Floats) -> bool:
    """Whether the norms change with the scale, factor for factor."""
    usable = np.isfinite(norms) & (norms > 0) & np.isfinite(scale) & (scale > 0)
    level, factor = np.log(norms[usable]), np.log(scale[usable])
    changes = np.flatnonzero(np.diff(factor)) + 1
    if not changes.size or level.size < 2 * 3:
        return False
    borders = [0, *changes.tolist(), level.size]
    steady = np.concatenate([np.diff(level[a:b]) for a, b in pairwise(borders)])
    scatter = 1.4826 * float(np.median(np.abs(steady))) / math.sqrt(2) if steady.size else math.inf
    rises, asked, errors = [], [], []
    for before, at, after in zip(borders[:-2], borders[1:-1], borders[2:], strict=True):
        left, right = level[max(before, at - _BESIDE) : at], level[at : min(after, at + _BESIDE)]
        rises.append(float(np.median(right) - np.median(left)))
        asked.append(float(factor[at] - factor[at - 1]))
        errors.append(1.25 * max(scatter, 1e-3) * math.sqrt(1 / left.size + 1 / right.size))
    rise, wanted, weight = np.array(rises), np.array(asked), np.array(errors) ** -2.0
    power = float(np.sum(weight * wanted**2))
    slope = float(np.sum(weight * wanted * rise)) / power
    return 0.6 < slope < 1.4 and slope * math.sqrt(power) > _SURE and abs(1 - slope) < abs(slope)
