"""Logs and runs as a team has them: made here, with thresholds of which is known what they are."""

from __future__ import annotations

import json
from pathlib import Path

from made_runs import Floats

from clipcal.surveying.finding import Found


def trainer_state(folder: Path, norms: Floats, max_grad_norm: float | None = None) -> Path:
    """The state of a checkpoint, and beside it the arguments of the training."""
    folder.mkdir(parents=True)
    rows = [
        {"step": i, "epoch": i / 400, "loss": 3 - i / 400, "grad_norm": norm, "learning_rate": 1e-4}
        for i, norm in enumerate(norms.tolist(), 1)
    ]
    path = folder / "trainer_state.json"
    path.write_text(json.dumps({"global_step": norms.size, "log_history": rows, "logging_steps": 1}))
    if max_grad_norm is not None:
        (folder / "args.json").write_text(json.dumps({"max_grad_norm": max_grad_norm}))
    return path


def table(path: Path, norms: Floats) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("step,grad_norm\n" + "".join(f"{i},{norm}\n" for i, norm in enumerate(norms.tolist())))
    return path


def found(path: Path) -> Found:
    return Found(path=path, files=(path,), how="named")
