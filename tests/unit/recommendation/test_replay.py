"""What every rule would have clipped: counted again by hand, on traces with and without a stable part."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest

from clipcal.recommendation.answer import Choice, Recommendation
from clipcal.recommendation.baselines import BASELINES
from clipcal.recommendation.calibration import recommend
from clipcal.recommendation.replay import OURS, Replayed, judge, replay
from clipcal.run.trace import Floats


def spiky(n: int = 400) -> Floats:
    norms = np.random.default_rng(0).lognormal(0.0, 0.2, n)
    norms[[50, 120, 200, 260, 390]] = [12.0, 30.0, 15.0, 22.0, 18.0]
    return norms


def replayed(norms: Floats) -> tuple[Recommendation, dict[str, Replayed]]:
    recommendation = recommend(norms)
    return recommendation, {row.name: row for row in replay(recommendation)}


def test_every_rule_has_a_row_and_ours_come_first() -> None:
    r, rows = replayed(spiky())
    assert list(rows) == [*dataclasses.asdict(r.candidates), *BASELINES]
    assert set(dataclasses.asdict(r.candidates)) <= set(OURS)
    assert [row.adaptive for row in rows.values()].count(True) == 2
    assert rows["zclip"].source == "ZClip 2025"


def test_a_threshold_between_the_candidates_is_called_what_it_is() -> None:
    rng = np.random.default_rng(0)
    norms, losses = np.exp(0.8 * rng.standard_normal(200)), np.exp(rng.normal(0, 0.2, 200))
    leaning = recommend(norms, losses)
    assert leaning.max_norm not in dataclasses.asdict(leaning.candidates).values(), "the premise"
    chosen = recommend(norms, losses, choice=Choice(name="default", max_norm=1.9, reason="It trains best."))
    for answer, name, word in ((leaning, "leaning", "lean"), (chosen, "chosen", "training side by side chose")):
        rows = {row.name: row for row in replay(answer)}
        assert rows[name].chosen
        assert rows[name].threshold == answer.max_norm
        assert word in rows[name].label
        assert len({"leaning", "chosen"} & set(rows)) == 1


def test_shares_and_scale_are_those_counted_by_hand() -> None:
    norms = spiky()
    r, rows = replayed(norms)
    spikes = np.array(r.spikes.steps)
    assert r.stable is not None
    stable = np.setdiff1d(np.arange(r.stable.first_step, norms.size), spikes)
    assert (len(stable), len(spikes)) == (r.stable.steps, 5)
    for name, row in rows.items():
        if row.adaptive:
            continue
        threshold = row.threshold
        assert threshold == (dataclasses.asdict(r.candidates) | r.baselines)[name]
        assert (row.over, row.num_steps, row.num_spikes) == ("stable", len(stable), 5)
        assert row.clipped == pytest.approx(np.mean(norms[stable] > threshold))
        assert row.clipped_spikes == pytest.approx(np.mean(norms[spikes] > threshold))
        assert row.mean_scale == pytest.approx(np.mean(np.minimum(1, threshold / norms[stable])))
    assert rows["gentle"].clipped == r.clipped.stable
    assert rows["gentle"].clipped_spikes == r.clipped.spikes == 1.0


def test_a_moving_rule_is_followed_step_by_step() -> None:
    norms = spiky()
    norms[70] = np.nan  # not there for the rules, and not counted
    r, rows = replayed(norms)
    usable = np.delete(norms, 70)
    thresholds = np.array([np.percentile(usable[: i + 1], 10) for i in range(usable.size)])
    spikes = np.array([50, 119, 199, 259, 389])
    assert r.stable is not None
    stable = np.setdiff1d(np.arange(r.stable.first_step, usable.size), spikes)
    scale = np.minimum(1, thresholds / usable)[stable]
    row = rows["autoclip_p10"]
    assert row.num_steps == stable.size
    assert row.clipped == pytest.approx(np.mean(scale < 1 - 1e-12))
    assert row.mean_scale == pytest.approx(np.mean(scale))
    assert row.threshold == r.baselines["autoclip_p10"] == pytest.approx(thresholds[-1])


def test_the_chosen_row_is_marked_once() -> None:
    r, rows = replayed(spiky())
    assert r.max_norm == r.candidates.gentle
    assert [name for name, row in rows.items() if row.chosen] == ["gentle"]
    other = dataclasses.replace(r, max_norm=r.candidates.firm)
    assert [row.name for row in replay(other) if row.chosen] == ["firm"]
    another = dataclasses.replace(r, max_norm=1.0, codes=("choice", *r.codes))
    assert [(row.name, row.threshold) for row in replay(another) if row.chosen] == [("chosen", 1.0)]


@pytest.mark.parametrize(
    ("clipped", "spikes", "verdict"),
    [
        (0.0, 0.0, "inactive"),
        (0.0, 1.0, "guard"),
        (0.01, 0.0, "guard"),
        (0.049, 1.0, "guard"),
        (0.05, 1.0, "limiter"),
        (0.499, 1.0, "limiter"),
        (0.5, 1.0, "brake"),
        (1.0, 1.0, "brake"),
    ],
)
def test_verdicts(clipped: float, spikes: float, verdict: str) -> None:
    assert judge(np.arange(1000) < round(1000 * clipped), np.arange(4) < round(4 * spikes)) == verdict


@pytest.mark.parametrize(
    ("norms", "verdict", "num"),
    [
        (np.append([1.0, 2.0, np.nan], [0.0, 4.0]), "insufficient", 4),
        (np.full(100, 3.0), "clipped", 100),
        (np.full(30, np.nan), "insufficient", 0),
        (np.zeros(40), "insufficient", 40),
        (np.empty(0), "insufficient", 0),
    ],
)
def test_without_a_stable_part_every_finite_norm_counts(norms: Floats, verdict: str, num: int) -> None:
    r, rows = replayed(norms)
    assert r.verdict == verdict
    assert not set(OURS) & set(rows)
    row = rows["default_1.0"]
    finite = norms[np.isfinite(norms)]
    assert (row.over, row.num_steps, row.num_spikes, row.clipped_spikes) == ("finite", num, 0, None)
    assert row.clipped == (pytest.approx(np.mean(finite > 1)) if num else None)
    assert (row.mean_scale is None) == (num == 0)
    if not (finite > 0).any():
        assert list(rows) == ["default_1.0"]


def test_norms_at_the_end_of_the_floats() -> None:
    norms = np.random.default_rng(0).lognormal(0.0, 0.2, 300) * 5e307
    with np.errstate(all="raise", under="ignore"):
        rows = replay(recommend(norms))
    assert "pascanu_10x" not in {row.name for row in rows}, "a threshold beyond the floats is none"
    for row in rows:
        assert row.mean_scale is not None
        assert math.isfinite(row.threshold)
        assert 0 <= row.mean_scale <= 1
