"""A profile that is done -> what it came to, in a few numbers."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from clipcal.run.directory import Run
from clipcal.run.trace import read_trace


def summary(run: Run) -> dict[str, Any]:
    """What a profile came to, in a few numbers."""
    trace = read_trace(run.trace)
    finite = np.where(np.isfinite(trace.grad_norm), trace.grad_norm, -np.inf)
    largest = int(np.argmax(finite))
    any_finite = bool(np.isfinite(trace.grad_norm).any())
    return {
        "schema": "clipcal.profile/1",
        "run": str(run.folder),
        "status": run.info.status,
        "reason": run.info.reason,
        "steps": len(trace),
        "median": float(np.median(trace.grad_norm[np.isfinite(trace.grad_norm)])) if any_finite else math.nan,
        "largest": float(trace.grad_norm[largest]) if any_finite else math.nan,
        "largest_step": int(trace.step[largest]),
        "notes": run.info.notes,
    }
