"""Losses after large norms: rises are told from ordinary progress."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from clipcal.stats.harm import is_stuck, loss_response, rank_test

Array = NDArray[np.float64]


def run(effect: float, *, n: int = 300, every: int = 20, seed: int = 0, shift: float = 0.0) -> tuple[Array, Array]:
    """Excess and losses (n,): each 20th norm is five times the level, and moves the log loss after it by ``effect``."""
    rng = np.random.default_rng(seed)
    excess = np.exp(rng.normal(0, 0.1, n))
    log_loss = rng.normal(0, 0.03, n) - 0.003 * np.arange(n)
    for step in range(every, n, every):
        excess[step] = 5.0
        log_loss[step + 1 : step + 5] += effect
    return excess, np.exp(log_loss) - shift


def test_rises_after_large_norms_are_seen() -> None:
    response = loss_response(*run(0.2))
    assert response is not None
    assert response.p < 0.01
    assert response.change_above > 0.1 > response.change_below
    assert response.steps_above == 14


def test_progress_after_large_norms_is_no_harm() -> None:
    response = loss_response(*run(-0.1))
    assert response is not None
    assert response.p > 0.9


def test_losses_below_zero_are_read_too() -> None:
    response = loss_response(*run(0.3, shift=5.0))
    assert response is not None
    assert response.p < 0.01


def test_no_effect_gives_a_uniform_p() -> None:
    ps = []
    for seed in range(60):
        response = loss_response(*run(0.0, seed=seed))
        assert response is not None
        ps.append(response.p)
    assert 0.35 < float(np.mean(ps)) < 0.65


@pytest.mark.parametrize("every", [100, 1000])
def test_too_few_large_norms_say_nothing(every: int) -> None:
    assert loss_response(*run(0.2, every=every)) is None


def test_nan_losses_are_left_out() -> None:
    excess, losses = run(0.2)
    losses[::50] = np.nan
    response = loss_response(excess, losses)
    assert response is not None
    assert response.p < 0.05


def test_all_nan_losses_say_nothing() -> None:
    assert loss_response(np.full(50, 3.0), np.full(50, np.nan)) is None


def test_rank_test_by_hand() -> None:
    # U = 9 of 9, mean 4.5, variance 5.25: z = (9 - 4.5 - 0.5) / 2.291 = 1.746.
    assert rank_test(np.array([4.0, 5.0, 6.0]), np.array([1.0, 2.0, 3.0])) == pytest.approx(0.0404, abs=1e-3)


def test_rank_test_of_equal_values_is_undecided() -> None:
    assert rank_test(np.ones(5), np.ones(8)) == 1.0


@pytest.mark.parametrize(("slope", "expected"), [(0.0, True), (-0.5, False), (0.5, False)])
def test_stuck_losses(slope: float, expected: bool) -> None:
    losses = 2.3 + slope * np.linspace(0, 1, 200) + np.random.default_rng(0).normal(0, 0.01, 200)
    assert is_stuck(losses) is expected


def test_a_short_loss_is_never_stuck() -> None:
    assert not is_stuck(np.full(10, 2.3))
