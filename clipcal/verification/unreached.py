"""The unclipped arm of a seed and a threshold that none of its steps reaches -> the clipped arm, which is the same training.

Clipping multiplies gradients by min(1, max_norm / (norm + 1e-6)) (torch.nn.utils.clip_grads_with_norm_), and by 1 at every one of these steps, which changes
no bit. So the arm need not be trained.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from clipcal.recommendation.answer import Method
from clipcal.run.files import write_whole
from clipcal.run.jsonfile import dumps, number
from clipcal.run.step import TORCH_ADDS, Step
from clipcal.run.trace import Trace
from clipcal.training.patience import Patience

_ROUNDED = 1 + 1e-6
"""More than what torch's float32 makes of the sum and the quotient."""


def is_unreached(trace: Trace, threshold: float, method: Method) -> bool:
    """Whether clipping at ``threshold`` would have acted on no step of an unclipped ``trace``. False where that cannot be told."""
    if method == "per_tensor" or trace.problems or not len(trace):
        return False
    reached = trace.grad_max if method == "value" else (trace.grad_norm + TORCH_ADDS) * _ROUNDED
    return bool(np.all(reached <= threshold))


def write_as_unclipped(unclipped: Path, path: Path) -> int:
    """The unclipped arm's trace as that of an arm that clipped nothing: every line with a ``scale`` of 1, up to where an arm is given
    up, which a profile is not. Gives the number of lines."""
    rows = [json.loads(line) for line in unclipped.read_text(encoding="utf-8").splitlines() if line.strip()]
    kept = Patience(give_up=True).kept([_step(row, i) for i, row in enumerate(rows)])
    write_whole(path, "".join(dumps(row | {"scale": 1.0}) + "\n" for row in rows[:kept]))
    return kept


def _step(row: dict[str, Any], line: int) -> Step:
    floats = {key: number(row.get(key)) for key in ("loss", "grad_norm", "grad_max", "lr", "seconds")}
    return Step(step=int(row.get("step", line)), skipped=row.get("skipped") is True, rank_norms=None, **floats)
