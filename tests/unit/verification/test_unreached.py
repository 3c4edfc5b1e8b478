"""A threshold is unreached only where torch's own clipping multiplies by exactly 1."""

from __future__ import annotations

import numpy as np
import torch

from clipcal.arms.unreached import is_unreached
from clipcal.run.step import Step
from clipcal.run.trace import trace_of


def test_what_counts_as_unreached_changes_no_bit_of_a_gradient() -> None:
    """Also where rounding to float32 decides."""
    rng = np.random.default_rng(0)
    norms = np.exp(rng.uniform(-6, 6, 4000)).astype(np.float32)
    told = 0
    for norm, excess in zip(norms, rng.uniform(-1e-7, 3e-6, norms.size), strict=True):
        threshold = (float(norm) + 1e-6) * (1 + excess)
        trace = trace_of([Step(step=0, loss=1.0, grad_norm=float(norm), grad_max=1.0, lr=0.1, seconds=0.1)])
        if is_unreached(trace, threshold, "norm"):
            told += 1
            parameter = torch.nn.Parameter(torch.ones(1))
            parameter.grad = torch.ones(1)
            torch.nn.utils.clip_grads_with_norm_([parameter], threshold, torch.tensor(norm))
            assert parameter.grad.item() == 1.0, (norm, threshold)
    assert told > 1000
