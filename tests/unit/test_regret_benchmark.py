"""The regret benchmark: its arithmetic by hand, its trainings against plain loops, and the README against its results."""

from __future__ import annotations

import json
import math
import re
from pathlib import Path

import numpy as np
import pytest
import torch

from benchmarks.regret.arms import Arms, Key, train
from benchmarks.regret.costs import threshold_that_takes, too_low
from benchmarks.regret.sweep import Curve
from benchmarks.regret.workloads import WORKLOADS

ROOT = Path(__file__).parents[2]
CURVE = Curve(logs=[0.0, math.log(10.0)], losses=[0.5, 0.7], unclipped=1.2, reference=1.0, unit=1.0)


@pytest.mark.parametrize(
    ("max_norm", "regret"),
    [(1.0, 0.0), (10.0, 0.4), (math.sqrt(10.0), 0.2), (0.01, 0.0), (1000.0, 0.4), (None, 1.0)],
)
def test_regret_by_hand(max_norm: float | None, regret: float) -> None:
    assert CURVE.regret(max_norm) == pytest.approx(regret)


def test_where_nothing_is_learned_nothing_is_regretted() -> None:
    stuck = Curve(logs=[0.0], losses=[0.999], unclipped=1.0, reference=1.0, unit=1.0)
    assert stuck.regret(None) == 0.0


@pytest.mark.parametrize("name", WORKLOADS)
def test_a_training_repeats_and_starts_to_learn(name: str) -> None:
    key = Key(workload=name, seed=3, rule="unclipped", steps=3, traced=True)
    first, again = train(key), train(key)
    assert first == again
    assert len(first.norms) == 3
    assert math.isfinite(first.start)
    assert first.trivial > 0


def test_a_clipped_arm_is_a_hand_written_loop() -> None:
    outcome = train(Key(workload="bad_init", seed=1, rule="max_norm=0.7", steps=5, traced=True))
    training = WORKLOADS["bad_init"].build(1)
    norms, losses = [], []
    for _ in range(5):
        training.optimizer.zero_grad()
        loss = training.loss(training.model, next(training.batches))
        torch.autograd.backward(loss)
        norms.append(float(torch.nn.utils.clip_grad_norm_(training.model.parameters(), 0.7)))
        training.optimizer.step()
        losses.append(loss.item())
    np.testing.assert_allclose(outcome.norms, norms, rtol=1e-3)
    np.testing.assert_allclose(outcome.losses, losses, rtol=1e-3)


def test_arms_are_kept_and_packed(tmp_path: Path) -> None:
    path = tmp_path / "arms.jsonl.gz"
    keys = [Key(workload="bad_init", seed=s, rule="unclipped", steps=2, traced=True) for s in (0, 1)]
    arms = Arms(path)
    arms.train(keys)
    assert Arms(path, frozen=True)[keys[0]] == arms[keys[0]]
    arms.pack()
    packed = Arms(path, frozen=True)
    assert packed.known == {keys[0]: arms[keys[0]]}
    with pytest.raises(SystemExit, match="1 arms are not in"):
        packed.train(keys)


@pytest.mark.parametrize("rule", ["clipcal calibrate", "clipcal recommend"])
def test_the_readme_says_what_was_measured(rule: str) -> None:
    results = json.loads((ROOT / "benchmarks" / "results" / "regret.json").read_text())["results"]["rules"]
    row = next(r for r in results if r["rule"] == rule)
    line = next(x for x in (ROOT / "README.md").read_text().splitlines() if x.startswith(f"| **`{rule}`**"))
    numbers = [float(n) for n in re.findall(r"\d+\.\d+|\d[\d,]*(?=\s*\|$)", line.replace(",", ""))]
    assert numbers == [round(row["mean"], 3), round(row["worst"], 2), round(row["left_out"], 3), round(row["steps"])]


def test_the_docs_say_what_was_covered() -> None:
    coverage = json.loads((ROOT / "benchmarks" / "results" / "coverage.json").read_text())["results"]["coverage"]
    text = (ROOT / "docs" / "recommendation.md").read_text()
    for steps in (50, 200, 1000, 5000):
        covered = coverage[f"all, {steps} steps"]["covered"]
        assert f"{covered:.1f}%" in text
        if steps >= 1000:  # below, the largest norm bounds what it may say, and the page says what it holds
            assert abs(covered - 90) <= 3


def test_the_docs_say_how_often_another_run_is_in_the_interval() -> None:
    found = json.loads((ROOT / "benchmarks" / "results" / "pairs.json").read_text())["results"]["by_confidence"]
    page = re.sub(r"\s+", " ", (ROOT / "docs" / "recommendation.md").read_text())
    high, medium, low = (f"{found[level]['held']} of {found[level]['pairs']}" for level in ("high", "medium", "low"))
    assert (
        f"{high} thresholds lie in the interval of the other where its confidence is high, {medium} where it is medium"
        in page
    )
    assert f"and {low} where it is low" in page
    assert found["high"]["held"] >= 0.9 * found["high"]["pairs"]


def test_the_docs_say_what_a_threshold_costs() -> None:
    found = json.loads((ROOT / "benchmarks" / "results" / "costs.json").read_text())["results"]
    page = re.sub(r"\s+", " ", (ROOT / "docs" / "logs.md").read_text())
    of = {kind: dict(zip(found["shares"], values, strict=True)) for kind, values in found["worst"].items()}
    sgd, free = of["SGD and its like"], of["scale-free"]
    assert f"takes 15% costs {sgd[0.15]:.2f} of what there is to win at most" in page
    assert f"takes 35% costs up to {sgd[0.35]:.2f}" in page
    assert f"and {free[0.9]:.2f} in Q-learning" in page
    rule = re.sub(r"\s+", " ", (ROOT / "docs" / "recommendation.md").read_text())
    rows = found["workloads"].values()
    assert f"gentle costs up to {max(r['gentle'] for r in rows):.2f} where large norms do harm" in rule
    assert (
        f"middle {max(r['middle'] for r in rows if r['gentle'] < 0.01):.2f} at most where gentle costs less than 0.01"
        in rule
    )


def test_what_is_too_low_is_not_what_is_too_high() -> None:
    curve = Curve(logs=[0.0, 1.0, 2.0], losses=[0.9, 0.5, 0.7], unclipped=0.8, reference=1.0, unit=1.0)
    assert too_low(curve, 1.0) == pytest.approx(0.8), "a higher one is better"
    assert too_low(curve, math.e**2) == 0.0, "only lower ones are"
    norms = np.array([1.0, 2.0, 4.0])
    at = threshold_that_takes(0.25, [norms])
    assert 1 - np.mean(np.minimum(1, at / norms)) == pytest.approx(0.25, abs=1e-6)
