"""The parts of the statistics, each against signals with a known answer."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from clipcal.stats.arrays import block_medians, line, running_median
from clipcal.stats.bootstrap import effective_steps, replicates
from clipcal.stats.healthy import find_ending, warmup_length
from clipcal.stats.level import find_level
from clipcal.stats.pile import find_pile, rounding
from clipcal.stats.spikes import find_bulk, find_spikes

Array = NDArray[np.float64]


def noise(n: int, sigma: float = 0.2, seed: int = 0) -> Array:
    return np.random.default_rng(seed).normal(0.0, sigma, n)


def autoregressive(n: int, rho: float, seed: int = 0) -> Array:
    fresh = noise(n, np.sqrt(1 - rho**2), seed)
    out = np.empty(n)
    state = 0.0
    for i in range(n):
        state = rho * state + fresh[i]
        out[i] = state
    return out


def test_block_medians_give_the_rest_to_the_last_block() -> None:
    assert block_medians(np.array([1.0, 2.0, 3.0, 10.0, 20.0, 30.0, 40.0]), 3).tolist() == [2.0, 25.0]


def test_block_medians_of_less_than_a_block() -> None:
    assert block_medians(np.array([4.0, 6.0]), 10).tolist() == [5.0]


def test_running_median_cuts_its_window_at_the_ends() -> None:
    assert running_median(np.array([1.0, 9.0, 2.0, 3.0]), 3).tolist() == [5.0, 2.0, 3.0, 2.5]


def test_line_ignores_a_quarter_of_outliers() -> None:
    t = np.arange(12.0)
    y = 0.5 * t + 1
    y[[0, 5, 11]] = 100.0
    assert line(t, y) == pytest.approx((0.5, 1.0))


class TestEnding:
    def test_a_steady_run_has_none(self) -> None:
        ending = find_ending(np.exp(noise(300)))
        assert (ending.kind, ending.healthy) == ("none", 300)

    def test_growth_without_end(self) -> None:
        norms = np.exp(noise(400))
        norms[300:] *= np.exp(0.3 * np.arange(100))
        ending = find_ending(norms)
        assert ending.kind == "diverged"
        assert 270 <= ending.healthy <= 305

    def test_a_tail_of_nan_with_stray_numbers(self) -> None:
        norms = np.exp(noise(200))
        norms[150:] = np.nan
        norms[170] = 1.0
        ending = find_ending(norms)
        assert (ending.kind, ending.healthy) == ("diverged", 150)

    def test_the_rise_into_the_nan_is_left_out(self) -> None:
        norms = np.concatenate([np.exp(noise(100)), [4.0, 15.0, 60.0], np.full(40, np.inf)])
        ending = find_ending(norms)
        assert ending.kind == "diverged"
        assert 95 <= ending.healthy <= 100

    @pytest.mark.parametrize("skipped", [1, 2])
    def test_a_skipped_step_at_the_end_is_none(self, skipped: int) -> None:
        assert find_ending(np.append(np.exp(noise(200)), np.full(skipped, np.inf))).kind == "none"

    def test_a_leap_that_stays(self) -> None:
        norms = np.exp(noise(300))
        norms[250:] *= 40
        ending = find_ending(norms)
        assert ending.kind == "diverged"
        assert 240 <= ending.healthy <= 250

    def test_a_burst_at_the_end_is_none(self) -> None:
        norms = np.exp(noise(300))
        norms[-6:] *= [300, 200, 120, 80, 50, 30]
        assert find_ending(norms).kind == "none"

    def test_a_tenfold_drift_is_none(self) -> None:
        assert find_ending(np.exp(noise(500) + np.linspace(0, np.log(10), 500))).kind == "none"

    def test_norms_that_die_out(self) -> None:
        norms = np.exp(noise(300) - np.clip(np.arange(300) - 150, 0, 60) * 0.3)
        assert find_ending(norms).kind == "vanished"

    def test_norms_that_become_zero(self) -> None:
        norms = np.exp(noise(100))
        norms[70:] = 0.0
        assert find_ending(norms).kind == "vanished"

    def test_a_fall_from_a_high_start_is_none(self) -> None:
        norms = np.exp(noise(400)) * (1 + 200 * np.exp(-np.arange(400) / 20))
        assert find_ending(norms).kind == "none"


class TestWarmup:
    @pytest.mark.parametrize("n", [60, 400, 5000])
    def test_a_high_start_goes(self, n: int) -> None:
        x = noise(n) + 3 * np.exp(-np.arange(n) / (0.04 * n))
        assert 0.06 * n <= warmup_length(x) <= 0.3 * n

    @pytest.mark.parametrize("slope", [-2.0, 0.0, 2.0])
    def test_drift_is_not_warm_up(self, slope: float) -> None:
        assert warmup_length(noise(600) + slope * np.linspace(0, 1, 600)) <= 30

    def test_at_most_a_third_goes(self) -> None:
        assert warmup_length(np.linspace(10, 0, 200) ** 2) <= 70


class TestLevel:
    @pytest.mark.parametrize(
        ("course", "expected"),
        [
            (np.linspace(0, 1.2, 600), "up"),
            (np.linspace(1.2, 0, 600), "down"),
            (np.zeros(600), "flat"),
            (np.linspace(0, 0.2, 600), "flat"),
            (0.7 * np.sin(np.linspace(0, 4 * np.pi, 600)), "cycle"),
        ],
    )
    def test_names_the_drift(self, course: Array, expected: str) -> None:
        assert find_level(course + noise(600)).direction == expected

    def test_follows_the_local_level(self) -> None:
        course = np.sin(np.linspace(0, 6, 2000))
        assert np.max(np.abs(find_level(course + noise(2000, 0.1)).local - course)) < 0.2

    def test_a_rising_level_is_continued(self) -> None:
        level = find_level(np.linspace(0, 1.2, 600) + noise(600, 0.05))
        assert 1.25 < float(np.median(level.ahead)) < 1.5

    def test_a_level_that_has_stopped_rising_is_not(self) -> None:
        level = find_level(np.clip(np.linspace(0, 2.4, 600), 0, 1.2) + noise(600, 0.05))
        assert float(np.max(level.ahead)) < 1.35


class TestBulk:
    def test_normal_residuals(self) -> None:
        bulk = find_bulk(noise(20_000, 0.3), 1e-9, 20_000.0)
        assert bulk.scale == pytest.approx(0.3, rel=0.05)
        assert bulk.p99 == pytest.approx(2.33 * 0.3, rel=0.08)

    def test_a_tenth_of_spikes_moves_it_little(self) -> None:
        r = noise(1000, 0.2)
        r[::10] += 3.0
        assert find_bulk(r, 1e-9, 1000.0).p99 == pytest.approx(2.33 * 0.2, rel=0.35)

    def test_a_mode_near_zero_is_ignored(self) -> None:
        r = noise(1000, 0.2)
        r[::4] -= 5.0
        assert find_bulk(r, 1e-9, 1000.0).p99 < 0.9

    def test_few_steps_widen_it(self) -> None:
        r = noise(30, 0.2)
        assert find_bulk(r, 1e-9, 8.0).p99 > find_bulk(r, 1e-9, 30.0).p99


class TestSpikes:
    def test_clear_spikes_are_found(self) -> None:
        r = noise(500)
        r[[50, 200, 333]] = [2.0, 2.5, 4.0]
        assert find_spikes(r, 1e-9, 500.0)[0].tolist() == [50, 200, 333]

    def test_calm_residuals_have_none(self) -> None:
        found = [find_spikes(noise(300, 0.3, seed), 1e-9, 300.0)[0].size > 0 for seed in range(100)]
        assert sum(found) <= 1

    def test_a_pareto_tail_has_no_gap(self) -> None:
        tails = [np.random.default_rng(seed).exponential(0.5, 400) for seed in range(100)]
        assert sum(find_spikes(r, 1e-9, 400.0)[0].size > 0 for r in tails) <= 8


class TestPile:
    def test_clipped_norms(self) -> None:
        norms = np.minimum(np.exp(noise(200, 0.5)), 1.0) * (1 + 1e-6 * noise(200))
        assert find_pile(norms) == pytest.approx(1.0, rel=1e-4)

    def test_constant_norms(self) -> None:
        assert find_pile(np.full(50, 3.0)) == 3.0

    def test_coarse_rounding_is_no_pile(self) -> None:
        assert find_pile(np.round(np.exp(noise(300, 0.3)), 1).astype(np.float64)) is None

    def test_free_norms_are_no_pile(self) -> None:
        assert find_pile(np.exp(noise(300))) is None

    def test_rounding_is_half_a_step(self) -> None:
        assert rounding(np.array([0.25, 0.26, 0.28])) == pytest.approx(0.005 / 0.26)


class TestUncertainty:
    def test_autocorrelation_costs_steps(self) -> None:
        assert effective_steps(noise(2000)) == pytest.approx(2000, rel=0.15)
        assert effective_steps(autoregressive(2000, 0.8)) == pytest.approx(2000 / 9, rel=0.4)

    def test_the_interval_narrows_with_steps(self) -> None:
        widths = []
        for n in (50, 200, 2000):
            r = noise(n, 0.3)
            _, of_p99 = replicates(r, find_bulk(r, 1e-9, float(n)), float(n))
            low, high = np.quantile(of_p99, [0.05, 0.95])
            widths.append(high - low)
        assert widths[0] > widths[1] > widths[2] > 0.05

    def test_replicates_are_the_same_each_time(self) -> None:
        r = noise(100)
        bulk = find_bulk(r, 1e-9, 100.0)
        assert np.array_equal(replicates(r, bulk, 100.0), replicates(r, bulk, 100.0))

    def test_the_interval_of_the_median_covers_it(self) -> None:
        held = []
        for seed in range(100):
            r = noise(200, 0.4, seed)
            low, high = np.quantile(
                replicates(r, find_bulk(r, 1e-9, 200.0), 200.0)[0] + np.median(r[-66:]), [0.05, 0.95]
            )
            held.append(low <= 0 <= high)
        assert 0.8 <= float(np.mean(held)) <= 1.0
