"""The rules of others: known answers on small arrays."""

from __future__ import annotations

import numpy as np
import pytest

from clipcal.baselines import BASELINES

NORMS = np.arange(1.0, 12.0)


@pytest.mark.parametrize(
    ("name", "expected"),
    [("default_1.0", 1.0), ("median", 6.0), ("p90", 10.0), ("autoclip_p10", 2.0), ("pascanu_mean", 6.0)],
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


@pytest.mark.parametrize("name", BASELINES)
def test_every_rule_names_its_source(name: str) -> None:
    assert BASELINES[name].__doc__


@pytest.mark.parametrize("name", sorted(set(BASELINES) - {"default_1.0"}))
def test_every_rule_but_the_default_follows_the_scale(name: str) -> None:
    norms = np.exp(np.random.default_rng(0).normal(size=200))
    assert BASELINES[name](norms * 8) == pytest.approx(8 * BASELINES[name](norms))
