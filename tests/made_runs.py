"""Run directories made of numbers by hand: what a calibration leaves, without training anything."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from clipcal.arms.pool import Arm, arm_name
from clipcal.run.directory import Run, RunInfo
from clipcal.run.jsonfile import write_json
from clipcal.run.layers import LayersWriter
from clipcal.run.source import source_of
from clipcal.run.step import Step
from clipcal.run.trace import lines_of, read_trace
from clipcal.verification.judging import judge

Floats = NDArray[np.float64]
SPEC = "model: {_target_: toy.Net}\nsteps: 400\n"


def quiet(n: int = 400, seed: int = 0) -> Floats:
    """Norms around 1, light-tailed."""
    return np.exp(np.random.default_rng(seed).normal(0, 0.15, n))


def spiky(n: int = 400, seed: int = 0) -> Floats:
    norms = quiet(n, seed)
    norms[n // 8 :: n // 8] *= 40
    return norms


def runaway(n: int = 200, seed: int = 0) -> Floats:
    norms = quiet(n, seed)
    norms[-30:-8] *= np.exp(np.arange(22.0))
    norms[-8:] = np.nan
    return norms


def falling(n: int, seed: int = 0) -> Floats:
    """Losses."""
    return 1 + 3 * np.exp(-np.arange(n) / (n / 4)) + np.random.default_rng(seed + 1).normal(0, 0.03, n)


def steps_of(norms: Floats, losses: Floats, max_norm: float | None = None) -> list[Step]:
    scales = [None] * norms.size if max_norm is None else np.minimum(1.0, max_norm / norms).tolist()
    return [
        Step(step=i, loss=loss, grad_norm=norm, grad_max=norm / 10, lr=0.1, seconds=0.01, scale=scale)
        for i, (norm, loss, scale) in enumerate(zip(norms.tolist(), losses.tolist(), scales, strict=True))
    ]


def make_run(
    folder: Path,
    norms: Floats,
    losses: Floats | None = None,
    *,
    name: str = "made",
    layers: Sequence[str] = (),
    **fields: Any,
) -> Run:
    folder.mkdir(parents=True, exist_ok=True)
    losses = falling(norms.size) if losses is None else losses
    (folder / "trace.jsonl").write_bytes(lines_of(steps_of(norms, losses)))
    if layers:
        shares = np.random.default_rng(2).dirichlet(np.full(len(layers), 5.0), norms.size)
        writer = LayersWriter(folder / "layers.f32", layers, 2.0)
        writer.append((np.sqrt(shares) * norms[:, None]).astype(np.float32))
        writer.close()
    info: dict[str, Any] = {
        "source": source_of(
            {"kind": "spec", "path": "spec.yaml", "folder": ".", "cwd": ".", "text": SPEC, "overrides": {}}
        ),
        "fingerprint": "sha256:0",
        "steps": norms.size,
        "seeds": [0],
        "device": "cpu",
        "threads": 1,
        "status": "complete",
        "started": "2026-01-02T03:04:05+00:00",
        "platform": "a machine",
        "versions": {"torch": "2.13.0"},
        "command": ["clipcal", "profile", "spec.yaml"],
    }
    return Run(folder, RunInfo(name=name, **(info | fields))).save()


def verify_by_hand(run: Run, max_norm: float, *, seeds: int = 3) -> None:
    """Arms whose clipped side ends lower, and the verdict of clipcal's own judge on them."""
    (run.folder / "arms").mkdir(exist_ok=True)
    arms = []
    for seed in range(seeds):
        for threshold in (None, max_norm):
            arm = Arm(name=arm_name(threshold), max_norm=threshold, seed=seed)
            path = run.trace if threshold is None and seed == 0 else run.arm(arm.name, seed)
            if path != run.trace:
                norms = spiky(run.info.steps, seed)
                losses = falling(norms.size, seed) - (0.4 if threshold else 0.0)
                path.write_bytes(lines_of(steps_of(norms, losses, threshold)))
            arms.append((arm, read_trace(path)))
    roles = {"unclipped": arm_name(None), "clipped": arm_name(max_norm)}
    write_json(run.verification, judge(max_norm, arms, roles=roles).as_dict())
