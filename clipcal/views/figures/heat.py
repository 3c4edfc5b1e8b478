"""The norms of the tensors -> a map of layer by step: which layers rise when the norm does."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from clipcal.recommendation.answer import Recommendation
from clipcal.recommendation.attribution import combined, grouped
from clipcal.recommendation.culprits import OVERFLOW, Culprits, aligned
from clipcal.recommendation.evidence import Evidence
from clipcal.recommendation.peaks import evenly
from clipcal.run.trace import Floats

MOST_LAYERS, MOST_COLUMNS = 28, 400
SAMPLE = 2000  # stable steps from which a layer's usual norm is taken
CHUNK = 4096
MOST_RISE = 1e30


@dataclass(frozen=True, kw_only=True)
class Heat:
    """``rise`` (layers, columns): the largest norm of the layer in the column's steps over its usual norm, NaN where it had no gradient.
    ``first`` (columns,) is each column's first step, ``last`` the last step of all. ``shares`` (layers,) of the peaks' power sum. ``num_others`` layers
    with less are not shown; ``conclusion`` says in words what made the peaks."""

    names: tuple[str, ...]
    shares: Floats
    rise: NDArray[np.float32]
    first: Floats
    last: int
    num_others: int
    conclusion: str


def heat(evidence: Evidence, recommendation: Recommendation, found: Culprits | None) -> Heat | None:
    """``found`` is what makes the peaks; None where that is not known, or where there is one layer in all."""
    if found is None:
        return None
    layers, rows = aligned(evidence)
    names, of_layer = grouped(layers.names)
    if len(names) < 2 or rows.size < 2:
        return None

    def norms_at(some: NDArray[np.intp]) -> Floats:
        """The norms (k, layers) of these rows; what overflowed is held at a number that can be squared."""
        part = np.asarray(layers.norms[rows[some]], dtype=np.float64)
        return combined(np.nan_to_num(part, nan=OVERFLOW, posinf=OVERFLOW), layers.norm_type, of_layer)

    stable, _ = recommendation.seen_rows()
    sample = stable if stable.size else np.arange(rows.size)
    usual = np.median(norms_at(evenly(sample, SAMPLE)), axis=0)
    share = {layer.name: layer.share for layer in found.attribution.layers}
    shown = np.sort(np.argsort([-share.get(name, 0.0) for name in names], kind="stable")[:MOST_LAYERS])
    num_columns = min(rows.size, MOST_COLUMNS)
    starts = np.arange(num_columns) * rows.size // num_columns
    ends = np.append(starts[1:], rows.size)
    highest = np.zeros((num_columns, shown.size))
    column = 0
    while column < num_columns:  # in pieces, so that a long run need not fit into memory
        until = max(int(np.searchsorted(ends, starts[column] + CHUNK, side="right")), column + 1)
        part = norms_at(np.arange(starts[column], ends[until - 1]))[:, shown]
        highest[column:until] = np.maximum.reduceat(part, starts[column:until] - starts[column], axis=0)
        column = until
    with np.errstate(divide="ignore", invalid="ignore"):
        rise = np.where((highest > 0) & (usual[shown] > 0), np.minimum(highest / usual[shown], MOST_RISE), np.nan)
    return Heat(
        names=tuple(names[i] for i in shown),
        shares=np.array([share.get(names[i], 0.0) for i in shown]),
        rise=rise.T.astype(np.float32),
        first=evidence.trace.step[starts].astype(np.float64),
        last=int(evidence.trace.step[-1]),
        num_others=len(names) - shown.size,
        conclusion=found.conclusion,
    )
