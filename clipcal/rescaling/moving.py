"""A recommendation and the probe of its run -> the recommendation for a multiple of the batch, with what does not move along."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from clipcal.errors import InputError
from clipcal.recommendation.answer import Candidates, Confidence, Recommendation, Spikes
from clipcal.recommendation.calibration import rounded
from clipcal.recommendation.evidence import Evidence
from clipcal.rescaling.probed import Probed, Reduction, read_probed
from clipcal.rescaling.transfer import Transfer, transfer
from clipcal.rundir import Run

CROWDED = 0.1  # of the steps: where so many hold a spike, they are the level, and no probe of fewer has seen that level
PATHS = 1.25  # of a drift, either way: the two trainings went ways of their own, and a third goes another
ONE_WAY = 0.5  # of a spike that all batches share: above, it is the whole loss's
DEFAULT = "default_1.0"


@dataclass(frozen=True, kw_only=True)
class Moved:
    """``recommendation`` is for ``transfer.times`` the batch of the run that ``transfer`` was measured on."""

    recommendation: Recommendation
    transfer: Transfer
    reduction: Reduction

    def as_dict(self) -> dict[str, Any]:
        """The object that ``--json`` has as ``transfer``."""
        t = self.transfer
        found = {k: list(v) if isinstance(v, tuple) else v for k, v in asdict(t).items()}
        return found | {"noise_scale": t.noise_scale, "reduction": self.reduction}


def move(evidence: Evidence, at_batch: Recommendation, times: int) -> Moved:
    """Move a recommendation with a threshold to ``times`` the batch. Raises InputError where nothing was measured to move it by."""
    probed = probe_of(evidence)
    assert at_batch.max_norm is not None
    t = transfer(
        evidence.norms,
        probed.norms,
        probed.parts,
        times=times,
        summed=probed.reduction == "sum",
        spike=at_batch.spikes.min,
    )
    return Moved(recommendation=_moved(at_batch, t, probed), transfer=t, reduction=probed.reduction)


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
    if run.info.source.get("kind") != "spec":
        raise InputError(
            f"{run.folder}: was profiled from a script, which is run as it is, at its own batch. Profile it at the larger batch, or give a spec to "
            "`clipcal profile SPEC --scale batch=2`."
        )
    if not run.scale.exists():
        raise InputError(
            f"{run.folder}: has no probe at a larger batch, which --scale needs. Take one with "
            f"`clipcal profile {Path(str(run.info.source['path']))} --out {run.folder} --resume --scale batch=2`."
        )
    return read_probed(run.scale)


def named(run: Run, times: int) -> Run:
    """The run as the source of a snippet's comment: the batch that stands there is not the one that the threshold is for."""
    path = f"{run.info.source.get('path', run.folder)} (moved to {times} x its batch)"
    return Run(run.folder, replace(run.info, source=run.info.source | {"path": path}))


def _moved(r: Recommendation, t: Transfer, probed: Probed) -> Recommendation:
    assert r.max_norm is not None
    assert r.corridor is not None
    assert r.stable is not None
    f = t.factor
    spikes = _spikes(r, t)
    lower = r.corridor[0] * f
    upper = spikes.min if spikes.min is not None and spikes.min > lower else math.inf
    max_norm = rounded(r.max_norm * f, (lower, upper) if lower < r.max_norm * f < upper else (0.0, math.inf))
    interval = _interval(r, t)
    return replace(
        r,
        max_norm=max_norm,
        interval=(min(interval[0], max_norm), max(interval[1], max_norm)),
        corridor=(lower, upper),
        confidence=_confidence(r, t, spikes, interval),
        stable=replace(r.stable, **{k: getattr(r.stable, k) * f for k in ("median", "p95", "p99", "max")}),
        spikes=spikes,
        candidates=Candidates(**{k: _times(v, f) for k, v in asdict(r.candidates).items()}),
        harm=None if r.harm is None else replace(r.harm, threshold=r.harm.threshold * f),
        baselines={k: v if k == DEFAULT else _times(v, f) for k, v in r.baselines.items()},
        reasons=(*_reasons(r, t, probed, max_norm, interval), *r.reasons),
        caveats=(*_caveats(r, t, probed, spikes, max_norm), *r.caveats),
    )


def _times(value: float | None, factor: float) -> float | None:
    return None if value is None else float(f"{value * factor:.3g}")


def _interval(r: Recommendation, t: Transfer) -> tuple[float, float]:
    """The threshold's own uncertainty and the factor's, as independent ones, in logs."""
    assert r.max_norm is not None
    assert r.interval is not None
    down = math.hypot(math.log(r.max_norm / r.interval[0]), math.log(t.factor / t.interval[0]))
    up = math.hypot(math.log(r.interval[1] / r.max_norm), math.log(t.interval[1] / t.factor))
    middle = r.max_norm * t.factor
    return float(f"{middle * math.exp(-down):.3g}"), float(f"{middle * math.exp(up):.3g}")


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


def _confidence(r: Recommendation, t: Transfer, spikes: Spikes, interval: tuple[float, float]) -> Confidence:
    """Never high, since the threshold was not read at its own batch; low beyond the probe, where moving it was hardly better than
    leaving it (benchmarks/transfer.py)."""
    width = math.log(interval[1] / interval[0])
    if r.confidence == "low" or width > 0.7 or spikes.rate > CROWDED or t.times > t.probed:
        return "low"
    return "medium"


def _reasons(
    r: Recommendation, t: Transfer, probed: Probed, max_norm: float, interval: tuple[float, float]
) -> list[str]:
    assert r.interval is not None
    beyond = (
        ""
        if t.times <= t.probed
        else f", {t.times // t.probed if t.times % t.probed == 0 else t.times / t.probed:.2g} times the probe's"
    )
    wider = math.log(interval[1] / interval[0]) / max(math.log(r.interval[1] / r.interval[0]), 1e-9)
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
        f"The interval is {wider:.2g} times as wide as at the profile's batch, in logs. What follows is said of the profile, at its own batch.",
    ]


def _caveats(r: Recommendation, t: Transfer, probed: Probed, spikes: Spikes, max_norm: float) -> list[str]:
    notes = []
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
            f"Beyond {t.probed} times the batch this is carried on and not measured, and on the sample models it was hardly nearer than the "
            f"threshold left as it is{path}. Probe nearer to it, up to batch=16, or profile at that batch."
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
    return notes
