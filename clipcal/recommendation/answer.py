"""The answer of ``recommend``: its types, and the JSON object that they become."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from clipcal.run.jsonfile import plain
from clipcal.run.records import METHODS as METHODS
from clipcal.run.records import Method as Method

SCHEMA = "clipcal.recommendation/1"

Verdict = Literal["spikes", "stable", "heavy_tail", "diverging", "vanishing", "clipped", "insufficient"]
Confidence = Literal["high", "medium", "low", "none"]


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

    count: int
    rate: float
    min: float | None
    max: float | None
    steps: tuple[int, ...]


@dataclass(frozen=True, kw_only=True)
class Nonfinite:
    """Norms that were NaN or infinite. ``first_step`` is a step number."""

    count: int
    first_step: int | None


@dataclass(frozen=True, kw_only=True)
class Drift:
    """How the stable level moved: ``ratio`` is its late level over its early one."""

    ratio: float | None
    direction: Literal["up", "down", "cycle", "flat"]


@dataclass(frozen=True, kw_only=True)
class Clipped:
    """The share of the stable steps, and of the spikes, that ``max_norm`` would have clipped on this trace."""

    stable: float | None
    spikes: float | None


@dataclass(frozen=True, kw_only=True)
class Candidates:
    """``gentle`` leaves about 99% of the stable steps alone; ``firm`` clips their upper shoulder too; ``middle`` is for
    where the losses do not tell which is right."""

    gentle: float | None
    middle: float | None
    firm: float | None


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
    the smallest spike; both are ``(low, high)``, and ``high`` is infinite where nothing bounds it.
    """

    source: str | None
    steps: int
    verdict: Verdict
    max_norm: float | None
    method: Method
    norm_type: float
    interval: tuple[float, float] | None
    corridor: tuple[float, float] | None
    confidence: Confidence
    stable: Stable | None
    spikes: Spikes
    nonfinite: Nonfinite
    zeros: int
    drift: Drift
    clipped: Clipped
    reasons: tuple[str, ...]
    caveats: tuple[str, ...]
    candidates: Candidates
    harm: Harm | None
    baselines: dict[str, float | None]

    def as_dict(self) -> dict[str, Any]:
        """The JSON object of ``recommend --json``; non-finite numbers are strings."""
        answer: dict[str, Any] = plain(self)
        return {"schema": SCHEMA} | answer
