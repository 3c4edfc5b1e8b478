"""The answer of ``recommend``: its types, and the JSON object that they become."""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from clipcal.run.jsonfile import plain
from clipcal.run.records import METHODS as METHODS
from clipcal.run.records import Method as Method
from clipcal.run.trace import Floats
from clipcal.stats import NormStats, Rows
from clipcal.stats.level import Direction

SCHEMA = "clipcal.recommendation/1"

Verdict = Literal["spikes", "stable", "heavy_tail", "diverging", "vanishing", "clipped", "insufficient"]
Confidence = Literal["high", "medium", "low", "none"]


@dataclass(frozen=True, kw_only=True)
class Reading:
    """The rows that were judged, as columns (n,), and what their norms say: where several runs share a log, the rows of the last
    one, and ``joined`` says so. ``steps`` are step numbers. The rows in ``stats`` count from the first row of these columns."""

    norms: Floats
    losses: Floats | None
    lrs: Floats | None
    steps: NDArray[np.int64]
    stats: NormStats
    joined: str | None

    @property
    def usable(self) -> NDArray[np.bool_]:
        """Which norms (n,) are finite and above zero."""
        return np.isfinite(self.norms) & (self.norms > 0)

    def step(self, row: int | None) -> int | None:
        """The step number of a row."""
        return None if row is None else int(self.steps[row])


@dataclass(frozen=True, kw_only=True)
class Stable:
    """The steps that a threshold should leave alone: after the warm-up, without the spikes, before any divergence."""

    first_step: int
    steps: int
    median: float
    p95: float
    p99: float
    max: float


@dataclass(frozen=True, kw_only=True)
class Spikes:
    """Steps whose norm stands clear above the local level. ``rate`` is per usable step; ``steps`` are step numbers."""

    count: int = 0
    rate: float = 0.0
    min: float | None = None
    max: float | None = None
    steps: tuple[int, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Nonfinite:
    """Norms that were NaN or infinite. ``first_step`` is a step number."""

    count: int
    first_step: int | None


@dataclass(frozen=True, kw_only=True)
class Drift:
    """How the stable level moved: ``ratio`` is its late level over its early one."""

    ratio: float | None = None
    direction: Direction = "flat"


@dataclass(frozen=True, kw_only=True)
class Clipped:
    """The share of the stable steps, and of the spikes, that ``max_norm`` would have clipped on this trace."""

    stable: float | None = None
    spikes: float | None = None


@dataclass(frozen=True, kw_only=True)
class Candidates:
    """``gentle`` leaves about 99% of the stable steps alone; ``firm`` clips their upper shoulder too; ``middle`` is for
    where the losses do not tell which is right."""

    gentle: float | None = None
    middle: float | None = None
    firm: float | None = None


@dataclass(frozen=True, kw_only=True)
class Harm:
    """What the loss did after large norms: median log-change of the loss after steps above ``threshold``, and below."""

    threshold: float
    steps_above: int
    loss_change_above: float
    loss_change_below: float


@dataclass(frozen=True, kw_only=True)
class Choice:
    """The candidate that training side by side chose, and why: it outranks what the norms alone say."""

    name: str
    max_norm: float
    reason: str


@dataclass(frozen=True, kw_only=True)
class Recommendation:
    """One threshold, or the reason why there is none, with the evidence.

    ``max_norm`` is the number to paste (None where none can be named); for ``method="value"`` it is a ``clip_value``.
    ``interval`` is the bootstrap interval of ``max_norm``, ``corridor`` the thresholds above the stable median and below
    the smallest spike; both are ``(low, high)``, and ``high`` is infinite where nothing bounds it. ``reading`` has the rows that
    all this is read from; it is no part of the JSON, and answers are compared without it.
    """

    source: str | None
    steps: int
    verdict: Verdict
    max_norm: float | None = None
    method: Method
    norm_type: float
    interval: tuple[float, float] | None = None
    corridor: tuple[float, float] | None = None
    confidence: Confidence = "none"
    stable: Stable | None = None
    spikes: Spikes = Spikes()
    nonfinite: Nonfinite
    zeros: int
    drift: Drift = Drift()
    clipped: Clipped = Clipped()
    reasons: tuple[str, ...]
    caveats: tuple[str, ...]
    candidates: Candidates = Candidates()
    harm: Harm | None = None
    baselines: dict[str, float | None]
    reading: Reading = field(repr=False, compare=False)

    @property
    def last_healthy_row(self) -> int | None:
        """The last row of the reading before the run diverges; None where it does not, or is lost from the first row on."""
        rows = self.reading.stats.healthy_rows
        return rows - 1 if self.verdict == "diverging" and 0 < rows < self.reading.norms.size else None

    @property
    def last_healthy(self) -> int | None:
        """The step number of that row."""
        return self.reading.step(self.last_healthy_row)

    def judged_rows(self) -> tuple[Rows, Rows]:
        """The rows of the reading that are stable steps, and those that are spikes; all finite norms and none where no stable
        part was found."""
        steady = self.reading.stats.steady
        if self.stable is not None and steady is not None:
            return steady.stable_rows, steady.spike_rows
        norms = self.reading.norms
        return np.flatnonzero(np.isfinite(norms) & (norms >= 0)), np.empty(0, dtype=np.intp)

    def as_dict(self) -> dict[str, Any]:
        """The JSON object of ``recommend --json``; non-finite numbers are strings."""
        return {"schema": SCHEMA} | {f.name: plain(getattr(self, f.name)) for f in fields(self) if f.compare}
