"""A recommendation -> what to paste and what it does, in one sentence of its own numbers."""

from __future__ import annotations

from typing import TYPE_CHECKING

from clipcal.run.records import Method

if TYPE_CHECKING:
    from clipcal.recommendation.answer import Recommendation

WHY_NONE = {
    "vanishing": "the gradients vanish, and clipping cannot help",
    "clipped": "the norms were recorded after clipping",
    "diverging": "the run diverges too early",
    "insufficient": "there are too few usable steps",
}


def name_of(method: Method) -> str:
    """What the threshold of a method is called in torch's words."""
    return "clip_value" if method == "value" else "max_norm"


def percent(share: float | None) -> str:
    """A share for reading: 2.5%, 12%, under 0.1%."""
    if share is None:
        return "none"
    if 0 < share < 0.001:
        return "under 0.1%"
    return f"{share:.0%}" if share in (0.0, 1.0) or 0.1 <= share < 0.995 else f"{share:.1%}"


def headline_of(r: Recommendation) -> str:
    if r.max_norm is None:
        return f"No threshold: {WHY_NONE[r.verdict]}."
    return f"{name_of(r.method)} {r.max_norm:g}: {does(r)}."


def does(r: Recommendation) -> str:
    """Which of the steps of its own trace the threshold clips."""
    assert r.clipped.stable is not None
    share = percent(r.clipped.stable) if r.clipped.stable else "none"
    ordinary = f"clips {share} of the ordinary steps{_which(r)}"
    if r.clipped.spikes is None:
        return ordinary if r.clipped.stable else f"a safety net that {ordinary}"
    k = r.spikes.count
    caught = round(r.clipped.spikes * k)
    spikes = (
        f"all {k} spikes"
        if caught == k > 1
        else "the one spike"
        if caught == k
        else f"{caught} of {k} spike{'s' * (k > 1)}"
    )
    return f"{ordinary} and {spikes}"


def _which(r: Recommendation) -> str:
    if r.drift.leap is not None:
        return f" since step {r.drift.leap}"
    return " in the last third" if r.drift.direction == "down" else ""
