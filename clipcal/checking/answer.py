"""The answer of ``check``: its types, and the JSON object that they become."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any, Literal

from clipcal.recommendation.answer import Recommendation
from clipcal.recommendation.headline import name_of, percent
from clipcal.recommendation.replay import Verdict
from clipcal.run.jsonfile import plain

SCHEMA = "clipcal.check/1"

Fits = Literal[True, False, "borderline"] | None


@dataclass(frozen=True, kw_only=True)
class Range:
    """The thresholds that fit, ``low`` to ``high``; those from ``too_low`` to ``too_high`` besides are borderline."""

    too_low: float
    low: float
    high: float
    too_high: float


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
    how it acts, and not whether that is right; ``fitting`` are the thresholds that do. ``codes`` are those of the reasons. ``mean_scale`` is the factor that clipping leaves of a step, on average over
    the usable norms, and ``scale_when_clipped`` over those that it clips. ``quarters`` are those of the rows after the
    warm-up, which is ``warm_up``, None where there is none."""

    source: str
    steps: int
    max_norm: float
    max_norm_from: str
    verdict: Verdict | None
    fits: Fits
    fitting: Range | None
    acts: Acts
    mean_scale: float | None
    scale_when_clipped: float | None
    quarters: tuple[Part, ...]
    warm_up: Part | None
    recommendation: Recommendation
    reasons: tuple[str, ...]
    codes: tuple[str, ...]

    @property
    def headline(self) -> str:
        """Whether it fits, and what it does: one sentence of this object's own numbers."""
        name = name_of(self.recommendation.method)
        answer = {True: "fits", False: "does not fit", "borderline": "is borderline", None: "cannot be judged"}[
            self.fits
        ]
        share = self.acts.stable if self.acts.stable is not None else self.acts.share
        if share is None or self.verdict is None:
            return f"{name} {self.max_norm:g} {answer}."
        over = "ordinary steps" if self.acts.stable is not None else "steps"
        spikes = "" if self.acts.spikes is None else f" and {percent(self.acts.spikes)} of the spikes"
        return f"{name} {self.max_norm:g} {answer}: it clips {percent(share)} of the {over}{spikes}."

    def as_dict(self) -> dict[str, Any]:
        """The object that ``check --json`` prints."""
        found: dict[str, Any] = plain(
            {f.name: getattr(self, f.name) for f in fields(self) if f.name != "recommendation"}
        )
        r = self.recommendation.as_dict()
        found["headline"] = self.headline
        found["drift"] = r["drift"]
        found["recommended"] = {k: r[k] for k in ("verdict", "max_norm", "interval", "corridor", "confidence")}
        return {"schema": SCHEMA} | found | {"caveats": r["caveats"]}
