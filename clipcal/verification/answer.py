"""The answer of ``verify``: its types, and the JSON object that they become."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from clipcal.run.jsonfile import plain

SCHEMA = "clipcal.verification/1"

Judgement = Literal["holds", "no_difference", "undecided", "costs", "fails"]
Helped = Literal["clipping", "smaller_rate", "both", "together", "neither"]


@dataclass(frozen=True, kw_only=True)
class ArmResult:
    """One arm's outcome. ``final_loss`` is the median loss of the last fifth of the steps, NaN where it is lost;
    ``diverged_at`` the step from which training was lost; ``mean_scale`` the mean factor that clipping applied."""

    name: str
    max_norm: float | None
    seed: int
    steps: int
    final_loss: float
    diverged_at: int | None
    loss_spikes: int
    clip_fraction: float
    mean_scale: float


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """``loss_difference`` is the clipped arms' final loss less the unclipped arms', paired by seed; ``interval`` is its
    90% interval. Where an arm of them is lost it has no final loss: there is nothing to subtract, and both are None.
    ``interval`` is None too where one seed has too few steps to tell. ``better`` counts the seeds on which the clipped run ends lower,
    or is not lost where the unclipped one is."""

    loss_difference: float | None
    interval: tuple[float, float] | None
    seeds: int
    better: int = 0


@dataclass(frozen=True, kw_only=True)
class Verification:
    """The verdict on one threshold. ``helped`` says, where the learning rate was tried at a tenth too, what cured it. ``codes`` are those
    of the reasons."""

    verdict: Judgement
    max_norm: float
    arms: tuple[ArmResult, ...]
    comparison: Comparison
    reasons: tuple[str, ...]
    codes: tuple[str, ...] = ()
    helped: Helped | None = None

    @property
    def outcome(self) -> str:
        """What training showed, as the end of a sentence."""
        n = self.comparison.seeds
        seeds = f"{n} seed{'s' * (n != 1)}"
        return {
            "holds": f"helped on {self.comparison.better} of {seeds}",
            "no_difference": f"made no difference on {seeds}",
            "undecided": f"{seeds} do{'es' * (n == 1)} not tell whether it helps",
            "costs": f"slows training down on {seeds}",
            "fails": f"does not keep training from being lost on {seeds}",
        }[self.verdict]

    @property
    def headline(self) -> str:
        return f"threshold {self.max_norm:g}: {self.outcome}."

    def as_dict(self) -> dict[str, Any]:
        """The JSON object of ``verify --json``; non-finite numbers are strings."""
        answer: dict[str, Any] = plain(self)
        return {"schema": SCHEMA} | answer | {"headline": self.headline}
