"""The answer of ``check``: its types, and the JSON object that they become."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any

from clipcal.recommendation.answer import Recommendation
from clipcal.recommendation.replay import Verdict
from clipcal.run.jsonfile import plain

SCHEMA = "clipcal.check/1"


@dataclass(frozen=True, kw_only=True)
class Part:
    """A part of the rows. ``clipped`` is the share of its usable norms above the threshold, ``mean_scale`` the factor that
    clipping leaves of the gradients on average; None where none is usable."""

    first_step: int
    last_step: int
    rows: int
    median: float | None
    clipped: float | None
    mean_scale: float | None
    verdict: Verdict | None


@dataclass(frozen=True, kw_only=True)
class Acts:
    """How often a threshold acts: ``share`` of all usable norms, ``stable`` of the stable steps, ``spikes`` of the spikes
    (None where there are none), on ``rows`` rows from ``first_step`` to ``last_step``. ``stable_scale`` is the factor that
    clipping leaves of a stable step, on average."""

    share: float | None
    stable: float | None
    spikes: float | None
    rows: int
    first_step: int | None
    last_step: int | None
    stable_scale: float | None


@dataclass(frozen=True, kw_only=True)
class Check:
    """``verdict`` is what the threshold is to this training, None where the norms cannot tell; ``fits`` None where they tell
    how it acts, and not whether that is right. ``mean_scale`` is the factor that clipping leaves of a step, on average over
    the usable norms, and ``scale_when_clipped`` over those that it clips. ``quarters`` are those of the rows after the
    warm-up, which is ``warm_up``, None where there is none."""

    source: str
    steps: int
    max_norm: float
    max_norm_from: str
    verdict: Verdict | None
    fits: bool | None
    acts: Acts
    mean_scale: float | None
    scale_when_clipped: float | None
    quarters: tuple[Part, ...]
    warm_up: Part | None
    recommendation: Recommendation
    reasons: tuple[str, ...]

    def as_dict(self) -> dict[str, Any]:
        """The object that ``check --json`` prints."""
        found: dict[str, Any] = plain(
            {f.name: getattr(self, f.name) for f in fields(self) if f.name != "recommendation"}
        )
        r = self.recommendation.as_dict()
        found["drift"] = r["drift"]
        found["recommended"] = {k: r[k] for k in ("verdict", "max_norm", "interval", "corridor", "confidence")}
        return {"schema": SCHEMA} | found | {"caveats": r["caveats"]}
