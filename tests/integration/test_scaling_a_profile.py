"""profile --scale and recommend --scale: the profile stays what it was, the probe finds the noise, and a threshold moves by it."""

from __future__ import annotations

import json
import math
import os
from pathlib import Path
from typing import Any

import pytest
from conftest import Clipcal, Project, rows_of

from clipcal.recommendation.scaling.probed import read_probed

NOISY = '''
class Constant(torch.nn.Module):
    """The gradient of its loss is what the batch holds in the mean: (1, 0, ..., 0) and noise, wherever the weights are."""

    def __init__(self, dim=50):
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(dim))

    def forward(self, x):
        return x @ self.weight


def noisy(batch_size=4, dim=50, noise=4.0, seed=0):
    """Rows with |G| = 1 and S = noise^2, so S/B = 4 at a batch of 4."""
    g = torch.Generator().manual_seed(seed)
    while True:
        x = noise / dim**0.5 * torch.randn(batch_size, dim, generator=g)
        x[:, 0] += 1
        yield x, torch.zeros(batch_size)


def mean_of(model, batch):
    return model(batch[0]).mean() + 9


def sum_of(model, batch):
    return model(batch[0]).sum() + 9 * len(batch[0])


def spiky(bad=0.03, seed=0):
    """The same, and some batches are 40 times too large."""
    g = torch.Generator().manual_seed(seed + 1)
    for x, target in noisy(seed=seed):
        yield (40 * x if torch.rand((), generator=g) < bad else x), target


def odd(model, batch):
    assert len(batch[0]) == 4
    return model(batch[0]).mean() + 9
'''


@pytest.fixture
def noisy(project: Project) -> Project:
    project.code(NOISY)
    project.spec(**spec_of("mean_of"))
    return project


def spec_of(step: str, **changes: Any) -> dict[str, Any]:
    return {
        "model": {"_target_": "toy.Constant"},
        "data": {"_target_": "toy.noisy"},
        "loss": None,
        "training_step": {"_target_": f"toy.{step}"},
        "optimizer": {"_target_": "torch.optim.SGD", "lr": 1e-3},
        "steps": 200,
    } | changes


def at(times: float) -> float:
    return math.sqrt((1 + 4 / times) / 5)


def test_the_noise_that_is_there_is_found_and_the_threshold_moves_by_it(noisy: Project, clipcal: Clipcal) -> None:
    clipcal("profile", "spec.yaml", "--scale", "batch=2").ok()
    here = clipcal("recommend", "runs/spec", "--json").ok().json()
    for times in (2, 8, 64):
        there = clipcal("recommend", "runs/spec", "--scale", f"batch={times}", "--json").ok().json()
        found = there["transfer"]
        assert found["reduction"] == "mean"
        assert found["signal_norm"] == pytest.approx(1.0, rel=0.08)
        assert found["noise_norm"] == pytest.approx(2.0, rel=0.05)
        assert found["factor"] == pytest.approx(at(times), rel=0.1)
        assert found["interval"][0] <= at(times) <= found["interval"][1]
        assert there["max_norm"] == pytest.approx(here["max_norm"] * found["factor"], rel=0.06)
        assert there["interval"][1] / there["interval"][0] > here["interval"][1] / here["interval"][0]
        assert there["interval"][0] <= there["max_norm"] <= there["interval"][1]
        assert here.keys() == there.keys() - {"transfer"}
        for name in ("median", "p95", "p99", "max"):
            assert there["stable"][name] == pytest.approx(here["stable"][name] * found["factor"])


@pytest.mark.parametrize("changes", [{}, {"precision": "bf16"}, {"accumulate": 3}])
def test_the_profile_is_the_same_with_the_probe_and_without(
    project: Project, clipcal: Clipcal, changes: dict[str, Any]
) -> None:
    project.spec(model={"_target_": "toy.Net", "dropout": 0.3}, **changes)
    clipcal("profile", "spec.yaml", "--out", "without").ok()
    clipcal("profile", "spec.yaml", "--scale", "batch=3", "--out", "with").ok()
    assert rows_of(Path("without/trace.jsonl")) == rows_of(Path("with/trace.jsonl"))
    assert Path("without/layers.f32").read_bytes() == Path("with/layers.f32").read_bytes()
    assert sorted({p.name for p in Path("with").iterdir()} - {p.name for p in Path("without").iterdir()}) == [
        "scale.jsonl"
    ]


@pytest.mark.parametrize("accumulate", [1, 2])
def test_the_probe_is_the_training_at_the_larger_batch(project: Project, clipcal: Clipcal, accumulate: int) -> None:
    """Its steps are those of a spec that accumulates more, and its first parts the first steps' norms of the profile."""
    project.spec(accumulate=accumulate)
    project.spec("larger.yaml", accumulate=3 * accumulate)
    clipcal("profile", "spec.yaml", "--scale", "batch=3").ok()
    clipcal("profile", "larger.yaml").ok()
    probed = read_probed(project.run() / "scale.jsonl")
    larger = rows_of(project.run("larger") / "trace.jsonl")
    assert probed.norms.tolist() == [row["grad_norm"] for row in larger]
    assert probed.loss.tolist() == [row["loss"] for row in larger]
    assert probed.parts.shape == (20, 3)
    assert probed.parts[0, 0] == pytest.approx(rows_of(project.run() / "trace.jsonl")[0]["grad_norm"], rel=1e-5)


def test_of_a_sum_the_threshold_grows(noisy: Project, clipcal: Clipcal) -> None:
    noisy.spec(**spec_of("sum_of"))
    clipcal("profile", "spec.yaml", "--scale", "batch=2").ok()
    there = clipcal("recommend", "runs/spec", "--scale", "batch=8", "--json").ok().json()
    assert there["transfer"]["reduction"] == "sum"
    assert there["transfer"]["factor"] == pytest.approx(8 * at(8), rel=0.1)
    assert "a sum over its batch" in " ".join(there["reasons"])
    assert "8 times the batch_size" in " ".join(there["caveats"])
    assert read_probed(noisy.run() / "scale.jsonl").norms.mean() == pytest.approx(8 * math.sqrt(5) * at(2), rel=0.05)


def test_spikes_of_single_batches_shrink_and_come_more_often(noisy: Project, clipcal: Clipcal) -> None:
    noisy.spec(**spec_of("mean_of", data={"_target_": "toy.spiky"}, steps=400))
    clipcal("profile", "spec.yaml", "--scale", "batch=2").ok()
    here = clipcal("recommend", "runs/spec", "--json").ok().json()
    assert here["verdict"] == "spikes"
    there = clipcal("recommend", "runs/spec", "--scale", "batch=4", "--json").ok().json()
    assert there["transfer"]["shared"] == pytest.approx(0.0, abs=0.05)
    assert there["spikes"]["min"] == pytest.approx(here["spikes"]["min"] / 4, rel=0.1)
    assert there["spikes"]["rate"] == pytest.approx(4 * here["spikes"]["rate"], rel=0.15)
    assert there["corridor"][1] == pytest.approx(there["spikes"]["min"])
    assert there["stable"]["median"] < there["max_norm"] < there["spikes"]["min"]
    crowded = clipcal("recommend", "runs/spec", "--scale", "batch=8", "--json").ok().json()
    assert crowded["spikes"]["rate"] > 0.1
    assert "they are the level" in " ".join(crowded["caveats"])


def test_what_was_not_measured_is_never_sure(noisy: Project, clipcal: Clipcal) -> None:
    clipcal("profile", "spec.yaml", "--scale", "batch=4").ok()
    answers = {
        m: clipcal("recommend", "runs/spec", "--scale", f"batch={m}", "--json").ok().json() for m in (2, 4, 5, 64)
    }
    assert {m: a["confidence"] for m, a in answers.items()} == {2: "medium", 4: "medium", 5: "low", 64: "low"}
    assert [any(c.startswith("Beyond 4 times") for c in a["caveats"]) for a in answers.values()] == [
        False,
        False,
        True,
        True,
    ]


def test_a_loss_that_cannot_be_told_is_said(noisy: Project, clipcal: Clipcal) -> None:
    noisy.spec(**spec_of("odd"))
    clipcal("profile", "spec.yaml", "--scale", "batch=2").ok()
    there = clipcal("recommend", "runs/spec", "--scale", "batch=8", "--json").ok().json()
    assert there["transfer"]["reduction"] == "unknown"
    assert "mean or a sum over its batch could not be told" in " ".join(there["caveats"])


def test_the_answer_says_what_was_measured_and_what_does_not_transfer(noisy: Project, clipcal: Clipcal) -> None:
    noisy.code(
        NOISY
        + """

class Normed(Constant):
    def __init__(self):
        super().__init__()
        self.norm = nn.BatchNorm1d(50)
"""
    )
    noisy.spec(**spec_of("mean_of", model={"_target_": "toy.Normed"}))
    clipcal("profile", "spec.yaml", "--scale", "batch=2").ok()
    clipcal("recommend", "runs/spec").ok()
    kept = (noisy.run() / "recommendation.json").read_bytes()
    for options in ([], ["--plain"]):
        said = clipcal("recommend", "runs/spec", "--scale", "batch=8", *options).ok().stdout
        assert "At 8 times the batch" in said
        assert "a noise scale of" in said
        assert "Another seed alone moves a threshold" in said
        assert "sequence length" in said
        assert "learning rate" in said
        assert "batch norm" in said
        assert "spec.yaml (moved to 8 x its batch)" in said
        assert "steps: none" not in said
    assert (noisy.run() / "recommendation.json").read_bytes() == kept, "it is for the profile's own batch"
    snippet = clipcal("recommend", "runs/spec", "--scale", "batch=8", "--for", "pytorch").ok().stdout
    assert "moved to 8 x its batch" in snippet


def test_without_a_probe_the_error_says_how_to_take_one_and_that_works(noisy: Project, clipcal: Clipcal) -> None:
    clipcal("profile", "spec.yaml").ok()
    before = (noisy.run() / "trace.jsonl").read_bytes()
    message = clipcal("recommend", "runs/spec", "--scale", "batch=8").refused(
        "has no probe", "--resume --scale batch=2"
    )
    command = message.split("`")[1].split()
    assert command[0] == "clipcal"
    clipcal(*command[1:]).ok()
    assert (noisy.run() / "trace.jsonl").read_bytes() == before
    clipcal("recommend", "runs/spec", "--scale", "batch=8").ok()
    clipcal(*command[1:]).refused("nothing is left to do", "batch=8")


def test_a_probe_that_was_cut_short_is_read_and_gone_on_with(noisy: Project, clipcal: Clipcal) -> None:
    clipcal("profile", "spec.yaml", "--scale", "batch=2").ok()
    path = noisy.run() / "scale.jsonl"
    whole = path.read_bytes()
    os.truncate(path, len(whole) * 2 // 3)
    there = clipcal("recommend", "runs/spec", "--scale", "batch=8", "--json").ok().json()
    assert any(c.startswith("The probe has 1") for c in there["caveats"])
    clipcal("profile", "spec.yaml", "--resume", "--scale", "batch=4").refused("a probe at 2 times", "batch=2")
    clipcal("profile", "spec.yaml", "--resume", "--scale", "batch=2").ok()
    assert path.read_bytes() == whole


def test_a_longer_profile_has_a_longer_probe(noisy: Project, clipcal: Clipcal) -> None:
    clipcal("profile", "spec.yaml", "--scale", "batch=2", "--out", "whole").ok()
    clipcal("profile", "spec.yaml", "-n", 90, "--scale", "batch=2").ok()
    clipcal("profile", "spec.yaml", "--resume", "--scale", "batch=2").ok()
    assert (noisy.run() / "scale.jsonl").read_bytes() == Path("whole/scale.jsonl").read_bytes()
    clipcal("profile", "spec.yaml", "--force").ok()
    assert not (noisy.run() / "scale.jsonl").exists(), "a new run has no probe of the old one"


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"clip": {"method": "value"}}, "spec.yaml:"),
        ({"clip": {"method": "norm", "norm_type": 1.0}}, "2-norm"),
        ({"precision": "fp16"}, "bf16"),
    ],
)
def test_what_the_probe_cannot_measure_is_refused_before_training(
    project: Project, clipcal: Clipcal, changes: dict[str, Any], words: str
) -> None:
    project.spec(**changes)
    clipcal("profile", "spec.yaml", "--scale", "batch=2").refused("--scale", words)
    assert not project.run().exists()


def test_several_ranks_are_refused(project: Project, clipcal: Clipcal, monkeypatch: pytest.MonkeyPatch) -> None:
    project.spec(parallel="ddp")
    for name, value in {"RANK": 0, "LOCAL_RANK": 0, "WORLD_SIZE": 2, "LOCAL_WORLD_SIZE": 2}.items():
        monkeypatch.setenv(name, str(value))
    monkeypatch.setenv("MASTER_ADDR", "127.0.0.1")
    monkeypatch.setenv("MASTER_PORT", "1")
    clipcal("profile", "spec.yaml", "--scale", "batch=2").refused("--scale", "torchrun")


def test_scripts_logs_and_views_of_the_profile_are_refused(noisy: Project, clipcal: Clipcal) -> None:
    noisy.code("print('never')\n", "train.py")
    clipcal("profile", "train.py", "--scale", "batch=2").refused("--scale", "script")
    noisy.text("".join(json.dumps({"step": i, "grad_norm": 1 + i % 3}) + "\n" for i in range(80)), "log.jsonl")
    clipcal("recommend", "log.jsonl", "--scale", "batch=2").refused("log.jsonl", "this is a log")
    clipcal("profile", "spec.yaml", "--scale", "batch=2").ok()
    clipcal("recommend", "runs/spec", "--scale", "batch=8", "--compare").refused("--compare")
    clipcal("recommend", "runs/spec", "--scale", "seq_len=8").refused("batch=K")


def test_a_run_that_needs_a_guard_has_no_probe(project: Project, clipcal: Clipcal) -> None:
    project.spec(optimizer={"_target_": "torch.optim.SGD", "lr": 50.0}, steps=60)
    answer = clipcal("profile", "spec.yaml", "--scale", "batch=2")
    if json.loads((project.run() / "run.json").read_text())["guard"] is None:
        pytest.fail("the spec is meant to be lost at once")
    answer.refused("lost at once", "larger batch itself")
    clipcal("recommend", "runs/spec", "--scale", "batch=2").refused("lost at once")
