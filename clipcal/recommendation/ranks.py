"""The norms of the ranks' own gradients beside a trace, and what was recommended -> which ranks the spikes come from, in words."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from clipcal.errors import InputError
from clipcal.recommendation.answer import Recommendation
from clipcal.recommendation.peaks import apart_of, evenly
from clipcal.recommendation.shards import Shards, find_shards
from clipcal.run.layers import Layers, rank_names, read_layers
from clipcal.run.trace import Trace
from clipcal.stats import Rows

SAME = 0.01  # the norm of the mean gradient is at most the mean of the norms, but for rounding
LISTED = 8  # ranks by number


def told_by_ranks(path: Path, trace: Trace, recommendation: Recommendation) -> tuple[list[str], list[str]]:
    """The reasons and caveats that the norms of the ranks in ``path`` add, where they are known and there is something to explain:
    spikes, a heavy tail, or a step without a finite norm. ``trace`` is what the recommendation was read from."""
    if not path.exists():
        return [], []
    apart = apart_of(recommendation)
    broken = np.flatnonzero(~np.isfinite(recommendation.reading.norms))
    if apart is None and not broken.size:
        return [], []
    try:
        ranks = _read(path, trace, recommendation.norm_type)
    except InputError as e:
        return [], [str(e)]
    reasons = []
    if apart is not None:
        kind, spikes, stable = apart
        found = find_shards(ranks, spikes, stable)
        reasons += _sentence(found, ranks.shape[1], "spikes" if kind == "spikes" else "large steps")
    if broken.size:
        reasons += _not_finite(ranks[broken[0]], int(trace.step[broken[0]]))
    return reasons, []


def _read(path: Path, trace: Trace, norm_type: float) -> NDArray[np.float32]:
    """The norms of the ranks (n, ranks) in the rows of the trace. Raises InputError where they are of no use."""
    unknown = "so which rank the spikes come from is not known. Profile again with --force to know it."
    try:
        kept = read_layers(path)
        if len(kept.names) < 2 or list(kept.names) != rank_names(len(kept.names)):
            raise InputError("names other than those of ranks")
    except InputError:
        raise InputError(f"{path} cannot be read as the norms of ranks, {unknown}") from None
    steps = trace.step
    if (unlike := unlike_trace(kept, steps)) is not None:
        raise InputError(f"{path} {unlike}, {unknown}")
    rows: NDArray[np.float32] = kept.norms if np.array_equal(steps, np.arange(len(steps))) else kept.norms[steps]
    looked_at: Rows = evenly(np.arange(len(steps), dtype=np.intp), 2_000)
    with np.errstate(all="ignore"):
        over = trace.grad_norm[looked_at] / np.mean(rows[looked_at], axis=1, dtype=np.float64)
    over = over[np.isfinite(over)]
    if norm_type >= 2 and over.size and np.median(over) > 1 + SAME:
        raise InputError(
            f"{path} does not fit the trace (the ranks' norms are smaller than that of their mean), {unknown}"
        )
    return rows


def unlike_trace(kept: Layers, steps: NDArray[np.int64]) -> str | None:
    """Why the rows that were kept beside a trace are not those of its ``steps`` (n,), as the end of a sentence; None where row k is
    of step k."""
    if not kept.names or np.any(np.diff(steps) <= 0) or np.any(steps < 0):
        return "cannot be told which of its rows is which step of the trace"
    if len(steps) and steps[-1] >= len(kept.norms):
        return f"holds {len(kept.norms)} steps and the trace goes to step {steps[-1]}"
    return None


def _sentence(found: Shards, num_ranks: int, what: str) -> list[str]:
    def fold(of: str) -> str:
        """How far what stands above the other ranks, at the spikes and else."""
        if not (math.isfinite(found.spread) and math.isfinite(found.stable_spread)):
            return ""
        others = "the norm of the other" if num_ranks == 2 else "the median of the other ranks"
        return f"{of} {_times(found.spread)} times {others} there, {_times(found.stable_spread)} times at stable steps"

    some = f"{found.num_explained} of {found.num_spikes} {what} come from"
    match found.finding:
        case "shards":
            whose = "its own gradient" if len(found.ranks) == 1 else "the largest gradient of these"
            return [f"{some} {_listed(found.ranks)}{fold(f': {whose} was')}. Look at {_data_of(found.ranks)}."]
        case "batches":
            return [
                f"{some} a part of the ranks each, now from one and now from another ({len(found.ranks)} of {num_ranks} have some): single "
                "batches make them, not one shard of the data."
            ]
        case "alike":
            how = fold("the largest local norm is")
            return [
                f"The {what} are on all ranks alike{f' ({how})' * bool(how)}: the cause is not one shard of the data."
            ]
        case "unclear":
            return []


def _not_finite(row: NDArray[np.float32], step: int) -> list[str]:
    """Who is the first to have no finite gradient, where not all ranks are."""
    bad = np.flatnonzero(~np.isfinite(row)).tolist()
    if not 0 < len(bad) < len(row):
        return []
    return [
        f"Step {step}, the first without a finite norm, comes from {_listed(bad)}: the gradients of the other ranks are finite there. Look "
        f"at {_data_of(bad)}."
    ]


def _data_of(ranks: Sequence[int]) -> str:
    return "its shard of the data" if len(ranks) == 1 else "their shards of the data"


def _listed(ranks: Sequence[int]) -> str:
    if len(ranks) == 1:
        return f"rank {ranks[0]}"
    if len(ranks) > LISTED:
        return f"{len(ranks)} ranks ({', '.join(map(str, ranks[:LISTED]))}, ...)"
    return f"ranks {', '.join(map(str, ranks[:-1]))} and {ranks[-1]}"


def _times(fold: float) -> str:
    if 100 <= fold < 1e6:
        return f"{float(f'{fold:.2g}'):,.0f}"
    return f"{fold:.1f}" if 0.95 <= fold < 9.95 else f"{fold:.2g}"
