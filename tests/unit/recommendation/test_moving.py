"""What `recommend --scale` says of a probe: the candidates of both trainings, and how wide an answer for another training is."""

from __future__ import annotations

import math

import numpy as np
import pytest
from numpy.typing import NDArray

from clipcal import Recommendation
from clipcal.recommendation.answer import Choice
from clipcal.recommendation.calibration import recommend
from clipcal.recommendation.scaling.moving import move, name_of
from clipcal.recommendation.scaling.probed import Probed

Array = NDArray[np.float64]


def training(seed: int, *, harmful: bool, steps: int = 400) -> tuple[Array, Array]:
    """Norms around 1 with a long shoulder, and losses that fall, and jump after a large norm where it is ``harmful``."""
    rng = np.random.default_rng(seed)
    norms = np.exp(rng.normal(0, 0.25, steps))
    large = np.flatnonzero(rng.random(steps) < 0.06)
    norms[large] = rng.uniform(2.2, 3.2, large.size)
    losses = 3.0 * np.exp(-np.arange(steps) / 300) + rng.normal(0, 0.01, steps)
    if harmful:
        for i in large:
            losses[i + 1 : i + 6] += 0.8
    return norms, losses


def probe_of(norms: Array, losses: Array) -> Probed:
    """Of batches that are alike: without noise, so that nothing moves but the candidate."""
    return Probed(
        times=2,
        reduction="mean",
        batch_norm=False,
        step=np.arange(norms.size),
        loss=losses,
        norms=norms,
        parts=np.stack([norms, norms], axis=1),
    )


@pytest.fixture(scope="module")
def harmful() -> Recommendation:
    norms, losses = training(0, harmful=True)
    found = recommend(norms, losses)
    assert name_of(found) == "firm"
    return found


def test_the_interval_holds_the_candidates_of_both_trainings(harmful: Recommendation) -> None:
    at_batch = harmful
    other = training(1, harmful=False)
    name = name_of(recommend(*other))
    assert name not in ("firm", None)
    apart = move(at_batch, probe_of(*other), 2)
    alike = move(at_batch, probe_of(*training(1, harmful=True)), 2)
    assert apart.as_dict()["taken"] == {"profile": "firm", "probe": name}
    assert alike.as_dict()["taken"] == {"profile": "firm", "probe": "firm"}
    reached = getattr(at_batch.candidates, str(name)) * apart.transfer.factor
    assert apart.recommendation.interval is not None
    assert alike.recommendation.interval is not None
    assert apart.recommendation.interval[0] < at_batch.candidates.firm * apart.transfer.factor  # type: ignore[operator]
    assert apart.recommendation.interval[1] > reached > alike.recommendation.max_norm
    assert apart.recommendation.interval[1] > 1.1 * alike.recommendation.interval[1]
    assert apart.recommendation.confidence == "low"
    assert any("takes its firm candidate" in c for c in apart.recommendation.caveats)
    assert not any("takes its firm candidate" in c for c in alike.recommendation.caveats)


@pytest.mark.parametrize("times", [2, 8])
def test_the_interval_is_for_another_training_and_never_as_narrow_as_that_of_one(
    harmful: Recommendation, times: int
) -> None:
    moved = move(harmful, probe_of(*training(1, harmful=True)), times).recommendation
    assert moved.interval is not None
    assert moved.max_norm is not None
    assert moved.max_norm / moved.interval[0] > math.exp(0.55)
    assert moved.interval[1] / moved.max_norm > math.exp(0.55)


def test_a_threshold_that_training_chose_is_no_candidate() -> None:
    chosen = recommend(
        *training(0, harmful=True), choice=Choice(name="default", max_norm=1.0, reason="It trains best.")
    )
    moved = move(chosen, probe_of(*training(1, harmful=True)), 2)
    assert moved.as_dict()["taken"] == {"profile": None, "probe": "firm"}
    assert any(c.startswith("Training chose the profile's threshold") for c in moved.recommendation.caveats)


def test_a_moved_answer_has_a_code_for_each_of_its_sentences_and_one_factor_on_all_levels(
    harmful: Recommendation,
) -> None:
    found = move(harmful, probe_of(*training(1, harmful=True)), 2)
    moved, f = found.recommendation, found.transfer.factor
    assert len(moved.codes) == len(moved.reasons) + len(moved.caveats)
    assert moved.codes[-len(harmful.caveats) :] == harmful.codes[len(harmful.reasons) :] or not harmful.caveats
    n = len(moved.reasons) - len(harmful.reasons)
    assert moved.codes[:n] == ("moved",) * n
    assert moved.codes[n : len(moved.reasons)] == harmful.codes[: len(harmful.reasons)]
    assert harmful.stable is not None
    assert moved.stable is not None
    for level in ("median", "median_seen", "p95", "p99", "max"):
        assert getattr(moved.stable, level) == pytest.approx(f * getattr(harmful.stable, level))


def leaning(seed: int = 0) -> Recommendation:
    rng = np.random.default_rng(seed)
    found = recommend(np.exp(0.8 * rng.standard_normal(200)), np.exp(rng.normal(0, 0.2, 200)))
    assert name_of(found) is None, "the premise"
    return found


def test_a_threshold_that_leans_was_not_chosen_by_training() -> None:
    moved = move(leaning(), probe_of(*training(1, harmful=True)), 2)
    assert moved.as_dict()["taken"] == {"profile": None, "probe": "firm"}
    assert not any("Training chose" in c for c in moved.recommendation.caveats)
    assert any(
        c.startswith("The profile's threshold leans between its candidates") for c in moved.recommendation.caveats
    )
