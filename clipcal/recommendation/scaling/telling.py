"""A moved recommendation -> why, and what is not to be relied on, in plain words with the numbers in them."""

from __future__ import annotations

import math
from typing import Literal

from clipcal.recommendation.answer import Recommendation, Spikes
from clipcal.recommendation.scaling.probed import Probed
from clipcal.recommendation.scaling.transfer import Transfer

RUNS = 0.6  # in logs: at one and the same batch, 9 of 10 thresholds of two seeds lie within x 1.8 (benchmarks.transfer --workloads)
CROWDED = 0.1  # of the steps: where so many hold a spike, they are the level, and no probe of fewer has seen that level
PATHS = 1.25  # of a drift, either way: the two trainings went ways of their own, and a third goes another
ONE_WAY = 0.5  # of a spike that all batches share: above, it is the whole loss's
Name = Literal["firm", "middle", "gentle"]
Taken = tuple[Name | None, Name | None]


def moved_reasons(r: Recommendation, t: Transfer, probed: Probed, max_norm: float) -> list[str]:
    beyond = (
        ""
        if t.times <= t.probed
        else f", {t.times // t.probed if t.times % t.probed == 0 else t.times / t.probed:.2g} times the probe's"
    )
    what = {
        "mean": "a mean over its batch",
        "sum": "a sum over its batch",
        "unknown": "taken for a mean over its batch",
    }
    scale = (
        "so large that it was not measured"
        if math.isinf(t.noise_scale)
        else f"{t.noise_scale:.2g} of the profile's batches"
    )
    return [
        f"At {t.times} times the batch{beyond}, {r.max_norm:g} becomes {max_norm:g}: x {t.factor:.2g} ({t.interval[0]:.2g} to {t.interval[1]:.2g}).",
        f"The loss is {what[probed.reduction]}. Of the squared norm of an ordinary step {t.noise:.0%} is noise ({t.noise_interval[0]:.0%} to "
        f"{t.noise_interval[1]:.0%}, {t.steps} steps): |G| {t.signal_norm:.3g}, noise {t.noise_norm:.3g}, a noise scale of {scale}.",
        f"At {t.probed} times the batch the level of the norms is x {t.measured:.2g} of the profile's; noise alone would make it x "
        f"{t.measured / t.drift:.2g}, and the path that training takes with less of it makes the rest, x {t.drift:.2g}.",
        f"The interval is for a training of its own at that batch, about 90%. Another seed alone moves a threshold by up to x {math.exp(RUNS):.2g} in nine of ten. What "
        "follows is said of the profile, at its own batch.",
    ]


def moved_caveats(
    r: Recommendation, t: Transfer, probed: Probed, spikes: Spikes, max_norm: float, taken: Taken
) -> list[str]:
    notes = []
    if taken[1] not in (None, taken[0]):
        here = (
            "Training chose the profile's threshold"
            if taken[0] is None
            else f"The profile takes its {taken[0]} candidate"
        )
        notes.append(f"{here}, and the losses of the probe take the {taken[1]} one: the interval holds both.")
    if spikes.min is not None and t.shared is not None:
        kind = "of the whole loss" if t.shared > ONE_WAY else "of single batches"
        notes.append(
            f"The spikes are {kind} ({t.shared:.0%} of one is in all batches of its step): expect them from {spikes.min:.3g} on, in about "
            f"{spikes.rate:.2g} of the steps."
        )
    elif spikes.min is not None:
        notes.append("The probe saw no spike: they are taken for single batches', which shrink with the batch.")
    if spikes.min is not None and spikes.min <= max_norm:
        notes.append(
            "The threshold is not below the spikes any more: averaged over so many batches they do not stand clear."
        )
    if spikes.rate > CROWDED:
        notes.append(
            "So many steps hold a spike then that they are the level, which no probe at a smaller batch has seen: profile at that batch."
        )
    if t.times > t.probed:
        apart = max(t.drift, 1 / t.drift)
        path = f"; here the path alone makes norms differ {apart:.2g}-fold" if apart > PATHS else ""
        notes.append(
            f"Beyond {t.probed} times the batch this is carried on and not measured{path}. Probe nearer to it, up to batch=16, or profile at that batch."
        )
    if probed.reduction == "sum":
        alone = float(f"{max_norm / t.times:.2g}")
        notes.append(
            f"For a loss that is a sum, this holds for {t.times} times the batch_size. Spread over ranks, or accumulated and divided, its gradients are "
            f"averaged: that is {alone:g} there, and the learning rate acts as {t.times} times smaller."
        )
    if probed.reduction == "unknown":
        notes.append(
            "Whether the loss is a mean or a sum over its batch could not be told. For a sum, the norms grow with batch_size instead."
        )
    if probed.batch_norm:
        notes.append(
            "The model has batch norm: measured is accumulation and ranks, where its batches stay as they are, and not a larger batch_size."
        )
    low, high = r.candidates.firm, r.candidates.gentle
    if low is not None and high is not None and low < high:
        notes.append(
            f"Which candidate is right is decided anew at every batch: from firm, {low * t.factor:.2g} there, to gentle, {high * t.factor:.2g}. `calibrate` "
            "there lets training choose."
        )
    notes.append(
        "Measured at the spec's learning rate, schedule and sequence length, and for as many steps: with others, or a learning rate scaled with "
        "the batch, profile again."
    )
    if len(probed.norms) < r.steps:
        notes.append(f"The probe has {len(probed.norms)} steps, the profile {r.steps}.")
    notes += [f"{text[:1].upper()}{text[1:]}." for text in probed.problems]
    return notes
