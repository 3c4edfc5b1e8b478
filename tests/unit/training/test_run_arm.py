"""run_arm: every step goes to the sink, whatever ends the training, and how it ended is said."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from clipcal.errors import UserCodeError
from clipcal.run.step import Step
from clipcal.training.gradnorm import ClipRule
from clipcal.training.loop import Parts
from clipcal.training.patience import PATIENCE, Patience
from clipcal.training.recorder import run_arm


class Model(nn.Module):
    """Of two tensors, one of which is not used."""

    def __init__(self) -> None:
        super().__init__()
        self.used = nn.Parameter(torch.ones(3))
        self.unused = nn.Parameter(torch.ones(2))


class Kept:
    """A sink."""

    def __init__(self) -> None:
        self.steps: list[Step] = []
        self.rows: list[list[float]] = []

    def __call__(self, steps: Sequence[Step], rows: Any) -> None:
        self.steps += steps
        self.rows += rows.tolist()


def parts(of_step: Callable[[int], float] = lambda step: 1.0) -> Parts:
    """A gradient of (f, f, f), where f is what ``of_step`` gives."""
    model, step = Model(), iter(range(1000))

    def loss(model: Any, batch: Any) -> Any:
        return (model.used * of_step(next(step))).sum()

    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    cpu = torch.device("cpu")
    return Parts(model=model, data=lambda: [0], batch_loss=loss, optimizer=optimizer, scheduler=None, device=cpu)


def test_all_steps_and_what_never_had_a_gradient() -> None:
    arm, kept = parts(lambda step: step + 1.0), Kept()
    end = run_arm(arm, None, kept, steps=4)
    assert (end.status, end.reason) == ("complete", None)
    expected = [math.sqrt(3) * n for n in (1, 2, 3, 4)]
    assert [s.grad_norm for s in kept.steps] == pytest.approx(expected)
    np.testing.assert_allclose(kept.rows, [[norm, 0.0] for norm in expected], rtol=1e-6)
    assert "1 of 2 parameter tensors never got a gradient (unused): frozen, or not used by the loss" in arm.notes


def test_a_rule_clips_and_its_factor_is_kept() -> None:
    kept = Kept()
    run_arm(parts(), ClipRule(threshold=0.5), kept, steps=2)
    assert [s.scale for s in kept.steps] == pytest.approx([0.5 / (math.sqrt(3) + 1e-6)] * 2)


def test_it_is_asked_to_stop_after_every_step_but_the_last() -> None:
    kept, asked = Kept(), iter([False, True, True])
    end = run_arm(parts(), None, kept, lambda: next(asked), steps=3)
    assert (end.status, end.reason) == ("interrupted", "interrupted after step 1")
    assert [s.step for s in kept.steps] == [0, 1]
    asked = iter([False])
    assert run_arm(parts(), None, Kept(), lambda: next(asked), steps=2).status == "complete"


def test_it_ends_where_patience_has_run_out() -> None:
    kept, patience = Kept(), Patience()
    run_arm(parts(lambda step: math.nan if step > 2 else 1.0), None, kept, steps=500, patience=patience)
    assert patience.gone_at == 3
    assert [s.step for s in kept.steps] == list(range(3 + PATIENCE))


def test_steps_before_an_error_are_kept_and_the_first_error_counts() -> None:
    failed: list[int] = []

    def fails(step: int) -> float:
        if step == 2:
            failed.append(step)
            raise ZeroDivisionError
        return 1.0

    kept = Kept()
    with pytest.raises(UserCodeError, match="ZeroDivisionError at step 2"):
        run_arm(parts(fails), None, kept, steps=5)
    assert [s.step for s in kept.steps] == [0, 1]

    failed.clear()

    def broken(steps: Sequence[Step], rows: Any) -> None:
        if failed:
            raise RuntimeError("the device is gone")

    with pytest.raises(UserCodeError, match="ZeroDivisionError at step 2"):
        run_arm(parts(fails), None, broken, steps=5)
