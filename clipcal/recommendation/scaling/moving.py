"""A recommendation and the probe of its run -> the recommendation for a multiple of the batch: ``recommend --scale``."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np

from clipcal.errors import InputError
from clipcal.recommendation.answer import Candidates, Confidence, Recommendation, Spikes
from clipcal.recommendation.calibration import recommend
from clipcal.recommendation.evidence import Evidence
from clipcal.recommendation.scaling.probed import Probed, Reduction, read_probed
from clipcal.recommendation.scaling.transfer import Transfer, transfer
from clipcal.recommendation.thresholds import rounded
from clipcal.run.directory import Run

RUNS = 0.6  # in logs: at one and the same batch, 9 of 10 thresholds of two seeds lie within x 1.8 (benchmarks.transfer --workloads)
CROWDED = 0.1  # of the steps: where so many hold a spike, they are the level, and no probe of fewer has seen that level
PATHS = 1.25  # of a drift, either way: the two trainings went ways of their own, and a third goes another
ONE_WAY = 0.5  # of a spike that all batches share: above, it is the whole loss's
Name = Literal["firm", "middle", "gentle"]
Taken = tuple[Name | None, Name | None]


@dataclass(frozen=True, kw_only=True)
class Moved:
    """``recommendation`` is for ``transfer.times`` the batch of the run that ``transfer`` was measured on; its reading is still that of
    the profile. ``taken`` are the candidates that the profile and the probe take, None for a threshold that is none of them."""

    recommendation: Recommendation
    transfer: Transfer
    reduction: Reduction
    taken: Taken

    def as_dict(self) -> dict[str, Any]:
        """The object that ``--json`` has as ``transfer``."""
        t = self.transfer
        found = {k: list(v) if isinstance(v, tuple) else v for k, v in asdict(t).items()}
        taken = dict(zip(("profile", "probe"), self.taken, strict=True))
        return found | {"noise_scale": t.noise_scale, "reduction": self.reduction, "taken": taken}


def move(at_batch: Recommendation, probed: Probed, times: int) -> Moved:
    """Move a recommendation with a threshold to ``times`` the batch. Raises InputError where there is too little to move it by."""
    assert at_batch.max_norm is not None
    there = recommend(probed.norms, probed.loss if np.isfinite(probed.loss).any() else None)
    summed, spike = probed.reduction == "sum", at_batch.spikes.min
    t = transfer(at_batch.reading, there.reading, probed.parts, times=times, summed=summed, spike=spike)
    taken = name_of(at_batch), name_of(there)
    return Moved(recommendation=_moved(at_batch, t, probed, taken), transfer=t, reduction=probed.reduction, taken=taken)


def name_of(r: Recommendation) -> Name | None:
    """Which candidate a recommendation stands for; None for one between them, or that training chose from elsewhere."""
    names: tuple[Name, ...] = ("firm", "middle", "gentle")
    return next((n for n in names if getattr(r.candidates, n) == r.max_norm), None)


def probe_of(evidence: Evidence) -> Probed:
    """The probe of a run. Raises InputError that says how to take one."""
    run = evidence.run
    if run is None:
        raise InputError(
            f"{evidence.source}: --scale needs a run that was probed at a larger batch, and this is a log. Profile a spec with "
            "`clipcal profile SPEC --scale batch=2`."
        )
    if run.info.guard is not None:
        raise InputError(
            f"{run.folder}: is lost at once without clipping, so its norms say nothing of another batch. Profile at the larger batch itself."
        )
    if run.info.source.kind != "spec":
        raise InputError(
            f"{run.folder}: was profiled from a script, which is run as it is, at its own batch. Profile it at the larger batch, or give a spec to "
            "`clipcal profile SPEC --scale batch=2`."
        )
    if not run.scale.exists():
        raise InputError(
            f"{run.folder}: has no probe at a larger batch, which --scale needs. Take one with "
            f"`clipcal profile {Path(run.info.source.path)} --out {run.folder} --resume --scale batch=2`."
        )
    return read_probed(run.scale)


def named(run: Run, times: int) -> Run:
    """The run as the source of a snippet's comment: the batch that stands there is not the one that the threshold is for."""
    path = f"{run.info.source.path_or(run.folder)} (moved to {times} x its batch)"
    return Run(run.folder, replace(run.info, source=run.info.source.changed(path=path)))


def _moved(r: Recommendation, t: Transfer, probed: Probed, taken: Taken) -> Recommendation:
    assert r.max_norm is not None
    assert r.corridor is not None
    assert r.stable is not None
    f = t.factor
    spikes = _spikes(r, t)
    lower = r.corridor[0] * f
    upper = spikes.min if spikes.min is not None and spikes.min > lower else math.inf
    max_norm = rounded(r.max_norm * f, (lower, upper) if lower < r.max_norm * f < upper else (0.0, math.inf))
    interval = _interval(r, t, taken)
    moved = replace(
        r,
        max_norm=max_norm,
        interval=(min(interval[0], max_norm), max(interval[1], max_norm)),
        corridor=(lower, upper),
        confidence=_confidence(r, t, spikes, taken),
        stable=replace(
            r.stable, **{k: getattr(r.stable, k) * f for k in ("median", "median_seen", "p95", "p99", "max")}
        ),
        spikes=spikes,
        candidates=Candidates(**{k: _times(v, f) for k, v in asdict(r.candidates).items()}),
        harm=None if r.harm is None else replace(r.harm, threshold=r.harm.threshold * f),
        baselines={k: v if k == "default_1.0" else _times(v, f) for k, v in r.baselines.items()},
    )
    reasons, caveats = _reasons(r, t, probed, max_norm), _caveats(r, t, probed, spikes, max_norm, taken)
    return moved.saying([("moved", text) for text in reasons], [("moved", text) for text in caveats], at=0)


def _times(value: float | None, factor: float) -> float | None:
    return None if value is None else float(f"{value * factor:.3g}")


def _interval(r: Recommendation, t: Transfer, taken: Taken) -> tuple[float, float]:
    """The threshold's own uncertainty, the factor's, and what runs differ by, as independent ones, in logs; around the candidates that the profile and
    the probe take, since losses decide anew at every batch."""
    assert r.max_norm is not None
    assert r.interval is not None
    down = math.hypot(math.log(r.max_norm / r.interval[0]), math.log(t.factor / t.interval[0]), RUNS)
    up = math.hypot(math.log(r.interval[1] / r.max_norm), math.log(t.interval[1] / t.factor), RUNS)
    other = r.max_norm if taken[1] is None else getattr(r.candidates, taken[1]) or r.max_norm
    low, high = min(r.max_norm, other) * t.factor, max(r.max_norm, other) * t.factor
    return float(f"{low * math.exp(-down):.3g}"), float(f"{high * math.exp(up):.3g}")


def _spikes(r: Recommendation, t: Transfer) -> Spikes:
    """Spikes of single batches come in more steps and are smaller there; those of the whole loss stay what they are. What no
    probe saw is taken as the former, which keeps the corridor narrow."""
    s = r.spikes
    if s.min is None or s.max is None:
        return s
    shared = t.shared or 0.0
    size = shared + (1 - shared) / t.times
    rate = s.rate if shared > ONE_WAY else 1 - (1 - s.rate) ** t.times
    return replace(s, rate=rate, min=s.min * size, max=s.max * size)


def _confidence(r: Recommendation, t: Transfer, spikes: Spikes, taken: Taken) -> Confidence:
    """Never high, since the threshold was not read at its own batch; low beyond the probe, where nothing was
    measured, and where the two trainings take different candidates."""
    if r.confidence == "low" or taken[0] != taken[1] or spikes.rate > CROWDED or t.times > t.probed:
        return "low"
    return "medium"


def _reasons(r: Recommendation, t: Transfer, probed: Probed, max_norm: float) -> list[str]:
    beyond = "" if t.times <= t.probed else f", {t.times / t.probed:.2g} times the probe's"
    what = {"mean": "a mean", "sum": "a sum", "unknown": "taken for a mean"}[probed.reduction]
    scale = f"{t.noise_scale:.2g} of the profile's batches" if t.noise < 1 else "so large that it was not measured"
    return [
        f"At {t.times} times the batch{beyond}, {r.max_norm:g} becomes {max_norm:g}: x {t.factor:.2g} ({t.interval[0]:.2g} to {t.interval[1]:.2g}).",
        f"The loss is {what} over its batch. Of the squared norm of an ordinary step {t.noise:.0%} is noise ({t.noise_interval[0]:.0%} to "
        f"{t.noise_interval[1]:.0%}, {t.steps} steps): |G| {t.signal_norm:.3g}, noise {t.noise_norm:.3g}, a noise scale of {scale}.",
        f"At {t.probed} times the batch the level of the norms is x {t.measured:.2g} of the profile's; noise alone would make it x "
        f"{t.measured / t.drift:.2g}, and the path that training takes with less of it makes the rest, x {t.drift:.2g}.",
        f"The interval is for a training of its own at that batch, about 90%. Another seed alone moves a threshold by up to x {math.exp(RUNS):.2g} in nine of ten. What "
        "follows is said of the profile, at its own batch.",
    ]


def _caveats(
    r: Recommendation, t: Transfer, probed: Probed, spikes: Spikes, max_norm: float, taken: Taken
) -> list[str]:
    notes = []
    if taken[1] not in (None, taken[0]):
        unnamed = (
            "Training chose the profile's threshold"
            if r.is_choice
            else "The profile's threshold leans between its candidates"
        )
        here = f"The profile takes its {taken[0]} candidate" if taken[0] else unnamed
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
