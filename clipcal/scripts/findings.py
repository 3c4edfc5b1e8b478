"""What was seen of a script's run -> what people should know of it: its own clipping, other optimizers, changes by hand."""

from __future__ import annotations

from typing import Any

import numpy as np

from clipcal.errors import InputError
from clipcal.run.trace import Trace
from clipcal.scripts.gathering import Gathering
from clipcal.sources.script import Script

CONSTANT = 1e-3
"""Factors that differ by less are one: a mean over micro-batches or ranks, taken by hand."""
FRAMEWORKS = {
    "transformers": "huggingface",
    "trl": "trl",
    "accelerate": "accelerate",
    "lightning": "lightning",
    "pytorch_lightning": "lightning",
    "mmengine": "mmengine",
    "stable_baselines3": "stable-baselines3",
}
"""The package that a script lets clip -> whose snippet is pasted."""
FUNCTIONS = {"norm": "clip_grad_norm_", "value": "clip_grad_value_"}


def check_changes(script: Script, gathering: Gathering) -> None:
    """Raise InputError where the script clips by hand: that cannot be turned off, and the norms are those after it."""
    for rank in gathering.picked:
        changes: dict[str, Any] = rank.seen.get("changes") or {}
        changed, compared = int(changes.get("changed", 0)), int(changes.get("compared", 0))
        if not changed:
            continue
        lowest, highest = float(changes["lowest"]), float(changes["highest"])
        constant = changed >= compared and highest - lowest <= CONSTANT * abs(highest)
        if constant or highest > 1.0 + CONSTANT:
            continue
        raise InputError(
            f"{script.path}: scales its gradients by hand between the backward pass and optimizer.step() (by {lowest:.3g} to {highest:.3g}), "
            "which cannot be turned off from outside, so these norms are not those before clipping. Use "
            "torch.nn.utils.clip_grad_norm_ there, or take that line out while profiling."
        )


def notes_on(script: Script, gathering: Gathering, trace: Trace) -> list[str]:
    """Sentences, the script's own clipping first."""
    lead = gathering.lead
    clips = [c for c in gathering.clips if c["threshold"] < float("inf")]  # inf: somebody's way to measure
    notes = [_own_clipping(clip, trace, len(lead["names"])) for clip in clips]
    if inner := lead.get("inner_clipping"):
        options = ", ".join(f"{k}={v}" for k, v in inner.items())
        notes.append(f"{lead['optimizer']} clips by itself inside step ({options}); that stays on")
    optimizers = gathering.optimizers()
    if len(optimizers) > 1:
        notes.append(
            f"{len(optimizers)} optimizers step here: {'; '.join(optimizers)}. Recorded is {lead['number']}; --optimizer picks another"
        )
    changes: dict[str, Any] = gathering.picked[0].seen.get("changes") or {}
    if changes.get("changed") and float(changes["highest"]) > 1.0 + CONSTANT:
        notes.append(
            "something changes the gradients between the backward pass and the step; the norms are those at the step"
        )
    if gathering.num_unlike:
        notes.append(
            f"the ranks have different gradients at {gathering.num_unlike} of {len(trace)} steps, so nothing sums them up before the step "
            "(is the model wrapped in DistributedDataParallel?); the norms are those of rank 0"
        )
    if trace.skipped.any():
        notes.append(f"the GradScaler dropped {int(trace.skipped.sum())} of {len(trace)} steps; they are marked")
    return notes


def in_use(gathering: Gathering) -> float | None:
    """The max_norm of the script's own clipping, where there is one for all of its parameters."""
    num_tensors = len(gathering.lead["names"])
    thresholds = [
        c["threshold"]
        for c in gathering.clips
        if c["by"] == "norm" and c["tensors"] >= num_tensors and 0 < c["threshold"] < float("inf")
    ]
    return float(thresholds[0]) if thresholds else None


def framework(gathering: Gathering) -> str | None:
    """Whose words the threshold is pasted in, where the script's clip call shows it: ``train.py:12 (transformers)``."""
    for clip in gathering.clips:
        package = str(clip["where"]).rpartition("(")[2].removesuffix(")")
        if package in FRAMEWORKS:
            return FRAMEWORKS[package]
    return None


def _own_clipping(clip: dict[str, Any], trace: Trace, num_tensors: int) -> str:
    threshold = float(clip["threshold"])
    what = f"{clip['where']} clips at {threshold:g} ({FUNCTIONS[clip['by']]})"
    if clip["tensors"] < num_tensors:
        return f"{what}, {clip['tensors']} of {num_tensors} tensors; it was off here"
    values = trace.taken().grad_norm if clip["by"] == "norm" else trace.taken().grad_max
    share = float(np.mean(values[np.isfinite(values)] > threshold)) if np.isfinite(values).any() else 0.0
    return f"{what}; it was off here, and would have acted on {share:.0%} of these steps"
