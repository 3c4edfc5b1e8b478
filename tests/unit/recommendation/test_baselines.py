"""The rules of others: known answers on small arrays, their authors' code step by step, and the ends of the floats."""

from __future__ import annotations

import math

import numpy as np
import pytest
from pace import loops

from clipcal.recommendation.baselines import BASELINES
from clipcal.run.trace import Floats

NORMS = np.arange(1.0, 12.0)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("default_1.0", 1.0),
        ("median", 6.0),
        ("median_2x", 12.0),
        ("p90", 10.0),
        ("p95", 10.5),
        ("p99", 10.9),
        ("autoclip_p10", 2.0),
        ("pascanu_mean", 6.0),
        ("pascanu_0.5x", 3.0),
        ("pascanu_5x", 30.0),
        ("pascanu_10x", 60.0),
        ("mean_2.5sd", 6 + 2.5 * math.sqrt(10)),
    ],
)
def test_simple_rules(name: str, expected: float) -> None:
    assert BASELINES[name](NORMS) == pytest.approx(expected)


def test_zclip_of_constant_norms_is_their_value() -> None:
    assert BASELINES["zclip"](np.full(60, 3.0)) == pytest.approx(3.0)


def test_zclip_starts_on_the_mean_and_deviation_of_25_norms() -> None:
    first = np.tile([1.0, 3.0], 13)[:25]
    assert BASELINES["zclip"](first) == pytest.approx(first.mean() + 2.5 * first.std())


def test_zclip_lets_a_spike_in_only_as_far_as_it_clips_it() -> None:
    calm = np.tile([0.9, 1.1], 100)
    spiked = np.append(calm, 1000.0)
    before, after = BASELINES["zclip"](calm), BASELINES["zclip"](spiked)
    assert after == pytest.approx(before, rel=0.05)


def test_zclip_forgets_what_is_2000_steps_old() -> None:
    recent = np.tile([0.9, 1.1], 2000)
    old = np.concatenate([np.full(500, 1e6), recent])
    assert BASELINES["zclip"](old) == pytest.approx(BASELINES["zclip"](recent))


def test_the_rules_in_logs() -> None:
    logs = np.log(NORMS)
    mad = np.median(np.abs(logs - np.median(logs)))
    low, high = np.quantile(logs, [0.25, 0.75])
    assert BASELINES["median_3mad"](NORMS) == pytest.approx(math.exp(np.median(logs) + 3 * 1.4826 * mad))
    assert BASELINES["tukey"](NORMS) == pytest.approx(math.exp(high + 1.5 * (high - low)))
    assert BASELINES["tukey"](np.append(NORMS, 0.0)) == pytest.approx(BASELINES["tukey"](NORMS)), "a zero has no log"


@pytest.mark.parametrize("n", [1, 2, 3, 10, 11, 999])
def test_points_are_numpys(n: int) -> None:
    norms = np.random.default_rng(n).lognormal(size=n)
    for name, q in (("autoclip_p10", 0.1), ("median", 0.5), ("p90", 0.9), ("p95", 0.95), ("p99", 0.99)):
        assert BASELINES[name](norms) == pytest.approx(np.quantile(norms, q), rel=1e-14)


def limits(name: str, norms: Floats) -> Floats:
    follow = BASELINES[name].limits
    assert follow is not None
    return follow(norms)


def test_only_autoclip_and_zclip_move() -> None:
    assert [name for name, baseline in BASELINES.items() if baseline.limits is not None] == ["autoclip_p10", "zclip"]


@pytest.mark.parametrize("seed", range(3))
def test_autoclip_clips_to_the_percentile_of_all_norms_so_far(seed: int) -> None:
    norms = np.random.default_rng(seed).lognormal(size=300).round(1)  # rounded: ties
    expected = np.array([np.percentile(norms[: i + 1], 10) for i in range(len(norms))])
    found = limits("autoclip_p10", norms)
    clipped = norms > expected * (1 + 1e-12)
    np.testing.assert_array_equal(np.isfinite(found), clipped)
    np.testing.assert_allclose(found[clipped], expected[clipped], rtol=1e-12)


def test_zclip_clips_what_its_authors_code_clips() -> None:
    """Their class, in plain words: a buffer, then exponential averages of what is let through."""
    rng = np.random.default_rng(0)
    norms = rng.lognormal(0, 0.3, 400)
    norms[[30, 31, 100, 200, 390]] *= 20
    expected = np.full(400, np.inf)
    mean, variance = norms[:25].mean(), norms[:25].var()
    for i in range(25, 400):
        deviation = variance**0.5
        z, seen = (norms[i] - mean) / (deviation + 1e-6), norms[i]
        if z > 2.5:
            seen = expected[i] = mean + 2.5 * deviation / (z / 2.5)
        mean = 0.97 * mean + 0.03 * seen
        variance = 0.97 * variance + 0.03 * (seen - mean) ** 2
    np.testing.assert_allclose(limits("zclip", norms), expected, rtol=1e-5)
    assert np.isfinite(expected[[30, 31, 100, 200, 390]]).all()
    assert BASELINES["zclip"](norms) == pytest.approx(mean + 2.5 * variance**0.5, rel=1e-5)


def test_zclip_lets_constant_norms_and_a_short_trace_through() -> None:
    assert np.isinf(limits("zclip", np.full(100, 0.1))).all()
    assert np.isinf(limits("zclip", np.array([1.0, 1000.0] * 12))).all()


@pytest.mark.parametrize(
    "norms",
    [
        np.full(60, 1.7e308),
        np.zeros(60),
        np.array([0.0]),
        np.full(60, 5e-324),
        np.array([1e308, 0.0, 1e-300] * 30),
        np.array([3.0]),
        np.append(np.full(50, 1e-12), 1e300),
    ],
    ids=["huge", "zeros", "zero", "denormal", "everything", "one", "a leap"],
)
@pytest.mark.parametrize("name", BASELINES)
def test_no_finite_norms_are_too_much(name: str, norms: Floats) -> None:
    with np.errstate(all="raise", under="ignore"):
        threshold = BASELINES[name](norms)
        assert not math.isnan(threshold)
        assert threshold >= 0
        if BASELINES[name].limits is not None:
            found = limits(name, norms)
            assert found.shape == norms.shape
            assert not np.isnan(found).any()
            assert (found >= 0).all()


def test_a_million_norms_take_no_time() -> None:
    norms = np.random.default_rng(0).lognormal(size=1_000_000)
    assert loops(lambda: [baseline(norms) for baseline in BASELINES.values()], best_of=3) < 25  # about 4


@pytest.mark.parametrize("name", BASELINES)
def test_every_rule_names_its_source(name: str) -> None:
    baseline = BASELINES[name]
    assert baseline.origin
    assert 0 < len(baseline.label) <= 35
    assert 0 < len(baseline.source) <= 16, "the table has 80 columns"


@pytest.mark.parametrize("name", sorted(set(BASELINES) - {"default_1.0"}))
def test_every_rule_but_the_default_follows_the_scale(name: str) -> None:
    norms = np.exp(np.random.default_rng(0).normal(size=200))
    assert BASELINES[name](norms * 8) == pytest.approx(8 * BASELINES[name](norms))


@pytest.mark.parametrize("name", ["autoclip_p10", "zclip"])
def test_every_step_of_a_moving_rule_follows_the_scale(name: str) -> None:
    norms = np.exp(np.random.default_rng(0).normal(size=200))
    np.testing.assert_allclose(limits(name, norms * 1e-12), 1e-12 * limits(name, norms))
