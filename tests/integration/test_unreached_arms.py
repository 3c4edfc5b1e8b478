"""A threshold that no step reaches: its arm is the unclipped training, bit for bit, and is not trained a second time."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from conftest import Clipcal, Project

from clipcal.arms.pool import Arm, arm_name, train_arm
from clipcal.sources.spec import load_spec

COUNTED = """

def counted(seed=0):
    with open("starts.txt", "a") as f:
        f.write(f"{seed}\\n")
    return batches(seed=seed)
"""


@pytest.fixture
def counting(project: Project) -> Project:
    project.code(COUNTED)
    project.spec(data={"_target_": "toy.counted"})
    return project


def rows(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) | {"seconds": 0} for line in path.read_text().splitlines()]


def trained(project: Project, max_norm: float, seed: int) -> list[dict[str, Any]]:
    """The arm as training gives it."""
    from clipcal.training.gradnorm import ClipRule

    spec = load_spec("spec.yaml", seed=seed)
    arm = Arm(name=arm_name(max_norm), max_norm=max_norm, seed=seed)
    rule = ClipRule(method=spec.fields.clip.method, threshold=max_norm, norm_type=spec.fields.clip.norm_type)
    train_arm(spec, arm, rule, Path("trained.jsonl"), "cpu")
    return rows(Path("trained.jsonl"))


def starts() -> list[str]:
    path = Path("starts.txt")
    return path.read_text().split() if path.exists() else []


@pytest.mark.parametrize("clip", [{"method": "norm"}, {"method": "norm", "norm_type": 1.0}, {"method": "value"}])
def test_the_arm_is_what_training_would_have_given(counting: Project, clipcal: Clipcal, clip: dict[str, Any]) -> None:
    counting.spec(data={"_target_": "toy.counted"}, clip=clip)
    clipcal("profile", "spec.yaml").ok()
    before = len(starts())
    answer = clipcal("verify", "runs/spec", "--max-norm", 1e4, "--seeds", 2, "--json", "--jobs", 1)
    assert sorted(starts()[before:]) == ["1"], "the unclipped arm of the second seed alone has to be trained"
    arms = {(a["name"], a["seed"]): a for a in answer.json()["arms"]}
    for seed in (0, 1):
        kept = rows(counting.run() / "arms" / f"max_norm=10000-seed{seed}.jsonl")
        assert kept == trained(counting, 1e4, seed)
        assert arms["max_norm=10000", seed]["final_loss"] == arms["unclipped", seed]["final_loss"]
        assert arms["max_norm=10000", seed]["clip_fraction"] == 0.0


def test_a_threshold_that_a_step_reaches_is_trained(counting: Project, clipcal: Clipcal) -> None:
    """At the largest norm itself the factor is a little below 1, as torch adds 1e-6 to the norm."""
    clipcal("profile", "spec.yaml").ok()
    largest = max(row["grad_norm"] for row in rows(counting.run() / "trace.jsonl"))
    before = len(starts())
    clipcal("verify", "runs/spec", "--max-norm", repr(largest), "--seeds", 1, "--jobs", 1)
    assert starts()[before:] == ["0"]
    kept = counting.run() / "arms" / f"max_norm={largest:.6g}-seed0.jsonl"
    assert min(row["scale"] for row in rows(kept)) < 1.0


@pytest.mark.parametrize("clip", [{"method": "per_tensor"}])
def test_of_single_tensors_it_is_not_known(counting: Project, clipcal: Clipcal, clip: dict[str, Any]) -> None:
    counting.spec(data={"_target_": "toy.counted"}, clip=clip)
    clipcal("profile", "spec.yaml").ok()
    before = len(starts())
    clipcal("verify", "runs/spec", "--max-norm", 1e4, "--seeds", 1, "--jobs", 1)
    assert len(starts()) - before == len(list((counting.run() / "arms").glob("*.jsonl")))


def test_non_finite_norms_are_reached(counting: Project, clipcal: Clipcal) -> None:
    """Clipping by a norm that is not finite changes every gradient, whatever the threshold is."""
    counting.spec(data={"_target_": "toy.counted"}, optimizer={"_target_": "torch.optim.SGD", "lr": 1e6})
    clipcal("profile", "spec.yaml")
    before = len(starts())
    clipcal("verify", "runs/spec", "--max-norm", 1e30, "--seeds", 1, "--jobs", 1)
    kept = rows(counting.run() / "arms" / "max_norm=1e+30-seed0.jsonl")
    assert "0" in starts()[before:]
    assert kept == trained(counting, 1e30, 0)
