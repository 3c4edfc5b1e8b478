"""Norms and losses -> the loss after each step against its norm: whether large norms do harm."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from clipcal.recommendation.answer import Recommendation
from clipcal.run.trace import Floats
from clipcal.stats.harm import loss_changes

FEWEST = 20
MOST = 4000
LARGEST = 200  # points: of more, the largest norms and evenly spaced others are drawn


@dataclass(frozen=True, kw_only=True)
class LossAfter:
    """A point per step: ``norms`` (k,) and ``changes`` (k,), the log change of the loss around the step, where ``is_relative``; otherwise
    in units of the scatter of the loss. ``threshold`` and the medians above and below it are those of ``harm``, None where the losses decide
    nothing."""

    norms: Floats
    changes: Floats
    is_relative: bool
    threshold: float | None
    change_above: float | None
    change_below: float | None
    max_norm: float | None


def loss_after(recommendation: Recommendation) -> LossAfter | None:
    """None where too few losses are known. Of the stable steps and the spikes."""
    losses, norms, h = recommendation.reading.losses, recommendation.reading.norms, recommendation.harm
    if losses is None:
        return None
    changes = loss_changes(losses)
    rows = np.sort(np.concatenate(recommendation.seen_rows()))
    rows = rows[np.isfinite(changes[rows]) & np.isfinite(norms[rows]) & (norms[rows] > 0)]
    if rows.size < FEWEST:
        return None
    if rows.size > MOST:
        by_norm = rows[np.argsort(norms[rows], kind="stable")]
        rest, largest = np.split(by_norm, [-LARGEST])
        rows = np.concatenate([rest[np.linspace(0, rest.size - 1, MOST - LARGEST).astype(np.intp)], largest])
    finite = losses[np.isfinite(losses)]
    return LossAfter(
        norms=norms[rows],
        changes=changes[rows],
        is_relative=bool(finite.min() > 0),
        threshold=h.threshold if h else None,
        change_above=h.loss_change_above if h else None,
        change_below=h.loss_change_below if h else None,
        max_norm=recommendation.max_norm,
    )
