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
