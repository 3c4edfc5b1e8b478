"""The factor of a clip call -> what torch.nn.utils.clip_grad_norm_ multiplies gradients by."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from clipcal.run.step import clip_scale


@pytest.mark.parametrize("norm", [0.0, 1e-9, 0.5, 1.0, 1.0 + 1e-5, 3.0, 1e6])
def test_it_is_torchs(norm: float) -> None:
    weight = torch.nn.Parameter(torch.zeros(1, dtype=torch.float64))
    weight.grad = torch.tensor([norm], dtype=torch.float64)
    torch.nn.utils.clip_grad_norm_([weight], 1.0)
    assert clip_scale(norm, 1.0) * norm == pytest.approx(weight.grad.item(), rel=1e-12)


def test_floats_arrays_and_tensors_are_limited_alike() -> None:
    norms = [0.0, 0.5, 4.0, math.inf, math.nan]
    floats = [clip_scale(norm, 2.0) for norm in norms]
    assert floats[:2] == [1.0, 1.0]
    assert floats[2] == pytest.approx(0.5)
    assert floats[3] == 0.0
    assert math.isnan(floats[4])
    np.testing.assert_array_equal(clip_scale(np.array(norms), 2.0), floats)
    np.testing.assert_array_equal(clip_scale(torch.tensor(norms, dtype=torch.float64), 2.0).numpy(), floats)
