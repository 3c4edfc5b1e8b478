"""The answer of ``recommend``: its types, and the JSON object that they become."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, fields, replace
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from clipcal.recommendation.headline import headline_of
from clipcal.run.jsonfile import plain
from clipcal.run.records import METHODS as METHODS
from clipcal.run.records import Method as Method
from clipcal.run.trace import Floats
from clipcal.stats import NormStats, Rows
from clipcal.stats.level import Direction
from clipcal.stats.losses import Course

SCHEMA = "clipcal.recommendation/1"

Verdict = Literal["spikes", "stable", "heavy_tail", "diverging", "vanishing", "clipped", "insufficient"]
Confidence = Literal["high", "medium", "low", "none"]
Said = Sequence[tuple[str, str]]
"""Codes, short stable names for programs, and the sentences that they stand for."""


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
    are_neighbours: bool
    course: Course

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
    median_seen: float
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
    """How the stable level moved: ``ratio`` is its late level over its early one, ``leap`` the step from which on it is another one for
    good, None where it is not."""

    ratio: float | None = None
    direction: Direction = "flat"
    leap: int | None = None


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
    """What the loss did after large norms: median log-change of the loss after steps above ``threshold``, which is ``level`` times the local
    median, and after the others. ``rise`` is the difference of the means with its 90% ``interval``, ``p`` the chance of as much without any
    harm. ``unit`` is "log", or "scatter" where the loss goes below zero. ``effect``: "harm" is significant; "none" is what large norms do that are ordinary training."""

    threshold: float
    level: float
    steps_above: int
    loss_change_above: float
    loss_change_below: float
    rise: float
    interval: tuple[float, float]
    p: float
    unit: Literal["log", "scatter"]
    effect: Literal["harm", "hint", "unclear", "none"]


@dataclass(frozen=True, kw_only=True)
class Choice:
    """The candidate that training side by side chose, and why: it outranks what the norms alone say. ``alike`` are the thresholds that the
    seeds did not tell from it, and that another few seeds might have chosen."""

    name: str
    max_norm: float
    reason: str
    alike: tuple[float, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Recommendation:
    """One threshold, or the reason why there is none, with the evidence.

    ``max_norm`` is the number to paste (None where none can be named); for ``method="value"`` it is a ``clip_value``.
    ``interval`` is the bootstrap interval of ``max_norm``, ``corridor`` the thresholds above the stable median and below
    the smallest spike; both are ``(low, high)``, and ``high`` is infinite where nothing bounds it. ``codes`` are those of the reasons, then those of
    the caveats. ``reading`` has the rows that all this is read from; it is no part of the JSON, and answers are compared without it.
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
    codes: tuple[str, ...]
    loss: Course
    candidates: Candidates = Candidates()
    harm: Harm | None = None
    baselines: dict[str, float | None]
    reading: Reading = field(repr=False, compare=False)

    @property
    def headline(self) -> str:
        """What to paste and what it does."""
        return headline_of(self)

    @property
    def last_healthy_row(self) -> int | None:
        """The last row of the reading before the run diverges; None where it does not, or is lost from the first row on."""
        rows = self.reading.stats.healthy_rows
        return rows - 1 if self.verdict == "diverging" and 0 < rows < self.reading.norms.size else None

    @property
    def last_healthy(self) -> int | None:
        """The step number of that row."""
        return self.reading.step(self.last_healthy_row)

    @property
    def is_choice(self) -> bool:
        """Whether training side by side chose the threshold."""
        return "choice" in self.codes

    def saying(self, reasons: Said = (), caveats: Said = (), *, at: int | None = None) -> Recommendation:
        """The same answer with more reasons and caveats, each behind the first ``at`` of its own, or behind all."""
        n = len(self.reasons)
        own = list(zip(self.codes, (*self.reasons, *self.caveats), strict=True))
        parts = [
            [*mine[:at], *more, *(mine[at:] if at is not None else [])]
            for mine, more in ((own[:n], reasons), (own[n:], caveats))
        ]
        return replace(
            self,
            reasons=tuple(text for _, text in parts[0]),
            caveats=tuple(text for _, text in parts[1]),
            codes=tuple(code for part in parts for code, _ in part),
        )

    def judged_rows(self) -> tuple[Rows, Rows]:
        """The rows of the reading that a threshold is judged by, ordinary steps, and those that are spikes; all finite norms and none where
        no stable part was found."""
        steady = self.reading.stats.steady
        return self.seen_rows() if self.stable is None or steady is None else (steady.ordinary_rows, steady.spike_rows)

    def seen_rows(self) -> tuple[Rows, Rows]:
        """The same with all stable steps, also those from before norms fell."""
        steady = self.reading.stats.steady
        if self.stable is not None and steady is not None:
            return steady.stable_rows, steady.spike_rows
        norms = self.reading.norms
        return np.flatnonzero(np.isfinite(norms) & (norms >= 0)), np.empty(0, dtype=np.intp)

    def as_dict(self) -> dict[str, Any]:
        """The JSON object of ``recommend --json``; non-finite numbers are strings."""
        found = {f.name: plain(getattr(self, f.name)) for f in fields(self) if f.compare}
        return {"schema": SCHEMA} | found | {"headline": self.headline}
