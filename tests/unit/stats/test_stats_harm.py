"""Losses after large norms: rises are told from ordinary progress."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.stats import rankdata

from clipcal.stats.harm import is_stuck, loss_changes, loss_response

Array = NDArray[np.float64]


def run(effect: float, *, n: int = 300, every: int = 20, seed: int = 0, shift: float = 0.0) -> tuple[Array, Array]:
    """Excess and losses (n,): one norm in ``every`` is five times the level, and moves the log loss after it by ``effect``."""
    rng = np.random.default_rng(seed)
    excess = np.exp(rng.normal(0, 0.1, n))
    log_loss = rng.normal(0, 0.03, n) - 0.003 * np.arange(n)
    for step in rng.choice(np.arange(10, n - 10), max(n // every - 1, 0), replace=False):
        excess[step] = 5.0
        log_loss[step + 1 : step + 5] += effect
    return excess, np.exp(log_loss) - shift


def test_rises_after_large_norms_are_seen() -> None:
    response = loss_response(*run(0.2))
    assert response is not None
    assert response.p < 0.01
    assert response.clearest.change_above > 0.1 > response.clearest.change_below
    assert response.clearest.steps_above == 14
    assert response.clearest.level in (1.5, 2.0, 3.0)


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


def independent_shift_test(excess: Array, losses: Array) -> float:
    """The p of ``loss_response``, shift by shift with plain loops and scipy's ranks."""
    y = np.log(losses)
    n = len(y)
    change = np.full(n, np.nan)
    for t in range(5, n - 3):
        change[t] = np.median(y[t + 1 : t + 4]) - np.median(y[t - 5 : t])
    known = np.isfinite(change)
    ranks = np.zeros(n)
    ranks[known] = rankdata(change[known])
    ranks[known] -= ranks[known].mean()
    columns = []
    for level in (1.5, 2.0, 3.0, 5.0):
        above = known & (excess > level)
        if min(above.sum(), (known & ~above).sum()) < 4:
            continue
        mark = np.where(known, above - above[known].mean(), 0.0)
        sums = np.array([np.dot(mark, np.roll(ranks, -s)) for s in range(n)])
        far = np.array([min(s, n - s) >= 10 for s in range(n)])
        columns.append((sums - sums[far].mean()) / sums[far].std())
    largest = np.max(columns, axis=0)
    return float((1 + np.sum(largest[far] >= largest[0] - 1e-9)) / (1 + far.sum()))


@pytest.mark.parametrize("seed", range(5))
def test_p_is_that_of_every_shift(seed: int) -> None:
    rng = np.random.default_rng(seed)
    excess, losses = np.exp(rng.normal(0, 0.6, 120)), np.exp(rng.normal(0, 0.1, 120))
    response = loss_response(excess, losses)
    assert response is not None
    assert response.p == pytest.approx(independent_shift_test(excess, losses), abs=1e-12)


@pytest.mark.parametrize("onset", [1.5, 3.0])
def test_the_level_is_where_harm_begins(onset: float) -> None:
    rng = np.random.default_rng(1)
    excess = np.exp(rng.normal(0, 0.7, 600))
    log_loss = rng.normal(0, 0.03, 600)
    for step in np.flatnonzero(excess > onset):
        log_loss[step + 1 : step + 4] += 0.3
    response = loss_response(excess, np.exp(log_loss))
    assert response is not None
    assert response.clearest.level == onset
    assert response.p < 0.01


def test_slow_noise_in_both_is_no_evidence() -> None:
    """Norms and losses that drift independently: a test of independent steps calls that harm in a third of such runs."""
    alarms = 0
    for seed in range(60):
        rng = np.random.default_rng(seed)
        slow = np.cumsum(rng.normal(0, 1, (2, 300)), axis=1)
        slow -= slow.mean(axis=1, keepdims=True)
        excess = np.exp(0.9 * slow[0] / slow[0].std() + 0.1 * rng.normal(0, 1, 300))
        losses = np.exp(0.3 * slow[1] / slow[1].std() + 0.03 * rng.normal(0, 1, 300))
        response = loss_response(excess, losses)
        alarms += response is not None and response.p < 0.1
    assert alarms <= 14


@pytest.mark.parametrize(("slope", "expected"), [(0.0, True), (-0.5, False), (0.5, False)])
def test_stuck_losses(slope: float, expected: bool) -> None:
    losses = 2.3 + slope * np.linspace(0, 1, 200) + np.random.default_rng(0).normal(0, 0.01, 200)
    assert is_stuck(losses) is expected


def test_a_short_loss_is_never_stuck() -> None:
    assert not is_stuck(np.full(10, 2.3))


def test_the_estimate_is_that_of_the_means_and_its_error_that_of_other_seeds() -> None:
    """Against numpy: the difference of the mean changes, and how it scatters over seeds without any effect."""
    rises, errors = [], []
    for seed in range(80):
        excess, losses = run(0.0, every=10, seed=seed)
        response = loss_response(excess, losses, among=[2.0])
        assert response is not None
        change = loss_changes(losses)
        known = np.isfinite(change)
        held = np.clip(change, *np.quantile(change[known], [0.05, 0.95]))
        above = known & (excess > 2.0)
        expected = np.mean(held[above]) - np.mean(held[known & ~above])
        at = response.usual
        assert at.rise == pytest.approx(expected, abs=0.3 * at.error)
        rises.append(at.rise)
        errors.append(at.error)
    assert np.std(rises) == pytest.approx(np.mean(errors), rel=0.25)
    assert np.mean(np.abs(rises) > 1.645 * np.array(errors)) < 0.22
