"""A recommendation -> how often each norm occurs, what each threshold would have done, and where everybody's thresholds lie."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Literal

import numpy as np

from clipcal.recommendation.answer import Recommendation
from clipcal.recommendation.baselines import BASELINES
from clipcal.recommendation.headline import name_of
from clipcal.run.trace import Floats
from clipcal.views.figures.course import RUNAWAY

Kind = Literal["chosen", "candidate", "in use", "rule"]
MOST_BINS = 120
NUM_THRESHOLDS = 240


@dataclass(frozen=True, kw_only=True)
class Mark:
    """A threshold with its name, and whose it is; ``key`` is that of the rule in ``BASELINES``, empty for ours."""

    name: str
    value: float
    kind: Kind
    key: str = ""


@dataclass(frozen=True, kw_only=True)
class Distribution:
    """Counts (k,) of the stable steps, the spikes and the other steps (warm-up, a runaway end) between ``edges`` (k + 1,), equal steps
    of the log. ``left_out`` norms are zero or not finite, ``beyond`` lie so far above all others that an axis with them in it shows nothing
    else."""

    edges: Floats
    stable: Floats
    spikes: Floats
    others: Floats
    left_out: int
    beyond: int
    marks: tuple[Mark, ...]


def distribution(recommendation: Recommendation, *, in_use: float | None = None) -> Distribution | None:
    """None where no norm is positive and finite. Bins by the rule of Freedman and Diaconis on the logs of the stable steps."""
    norms, usable = recommendation.reading.norms, recommendation.reading.usable
    if not usable.any():
        return None
    stable, spikes = recommendation.judged_rows()
    kind = np.zeros(norms.size, dtype=np.int8)
    if recommendation.stable is not None:
        kind[stable], kind[spikes] = 1, 2
    logs = np.log10(np.where(usable, norms, 1.0))
    found = marks(recommendation, in_use=in_use)
    ours = [math.log10(m.value) for m in found if m.kind != "rule"]
    low, high = float(min(logs[usable].min(), *ours, math.inf)), float(max(logs[usable].max(), *ours, -math.inf))
    if (kind > 0).any():
        most = float(max(logs[usable & (kind > 0)].max(), *ours, -math.inf))
        high = min(high, most + math.log10(RUNAWAY))
    room = max(0.02 * (high - low), 0.02)
    low, high = low - room, high + room
    body = logs[usable & (kind == 1)] if (kind == 1).any() else logs[usable]
    quarter, three = np.quantile(body, [0.25, 0.75])
    width = max(2 * float(three - quarter) / body.size ** (1 / 3), (high - low) / MOST_BINS)
    num_bins = int(np.clip(math.ceil((high - low) / width), 12, MOST_BINS))
    edges = np.linspace(low, high, num_bins + 1)
    others, calm, peaks = (np.histogram(logs[usable & (kind == k)], edges)[0].astype(np.float64) for k in (0, 1, 2))
    return Distribution(
        edges=10.0**edges,
        stable=calm,
        spikes=peaks,
        others=others,
        left_out=int((~usable).sum()),
        beyond=int((logs[usable] > high).sum()),
        marks=found,
    )


@dataclass(frozen=True, kw_only=True)
class ClippedShare:
    """For each of ``thresholds`` (m,), rising: the share of the stable steps and of the spikes (None where there are none) that it
    clips, and the mean factor that clipping would have left of the stable steps."""

    thresholds: Floats
    stable: Floats
    spikes: Floats | None
    scale: Floats
    corridor: tuple[float, float] | None
    marks: tuple[Mark, ...]
    is_stable: bool


def clipped_share(recommendation: Recommendation, *, in_use: float | None = None) -> ClippedShare | None:
    """None where there is nothing to clip. Where no stable part was found, all finite steps stand for it (``is_stable`` false)."""
    calm, peaks = (np.sort(recommendation.reading.norms[rows]) for rows in recommendation.judged_rows())
    calm = calm[calm > 0]
    if calm.size == 0:
        return None
    found = marks(recommendation, in_use=in_use)
    ours = [m.value for m in found if m.kind != "rule"]
    low = math.log10(min(float(np.quantile(calm, 0.005)), *ours, math.inf))
    high = math.log10(max(float(calm[-1]), float(peaks[-1]) if peaks.size else 0.0, *ours))
    room = max(0.03 * (high - low), 0.05)
    thresholds = np.logspace(low - room, high + room, NUM_THRESHOLDS)
    kept = np.searchsorted(calm, thresholds, side="right")
    inverse = np.concatenate([np.cumsum((1.0 / calm)[::-1])[::-1], [0.0]])
    return ClippedShare(
        thresholds=thresholds,
        stable=1 - kept / calm.size,
        spikes=1 - np.searchsorted(peaks, thresholds, side="right") / peaks.size if peaks.size else None,
        scale=(kept + thresholds * inverse[kept]) / calm.size,
        corridor=recommendation.corridor,
        marks=found,
        is_stable=recommendation.stable is not None,
    )


def marks(recommendation: Recommendation, *, in_use: float | None = None) -> tuple[Mark, ...]:
    """Ours, the one in use, and the constants that other people's rules name, each once."""
    r, name = recommendation, name_of(recommendation.method)
    ours = [] if r.max_norm is None else [Mark(name=name, value=r.max_norm, kind="chosen")]
    used = [] if in_use is None else [Mark(name="in use", value=in_use, kind="in use")]
    others = {k: v for k, v in asdict(r.candidates).items() if v is not None and v != r.max_norm}
    rules = {k: v for k, v in r.baselines.items() if v is not None and k in BASELINES}
    found = [*ours, *used, *(Mark(name=k, value=v, kind="candidate") for k, v in others.items())]
    found += [Mark(name=BASELINES[k].label, value=v, kind="rule", key=k) for k, v in rules.items()]
    return tuple(m for m in found if 0 < m.value < math.inf)
