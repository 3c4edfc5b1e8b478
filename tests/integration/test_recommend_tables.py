"""`recommend --compare` and `recommend --layers`, on small real trainings."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from conftest import Clipcal, Project, write_trace

from clipcal.run.layers import read_layers
from clipcal.run.trace import read_trace

SPIKY = '''
class Deep(nn.Module):
    """One layer whose gradient explodes in every 25th step: its own scale does it, the others never see it."""

    def __init__(self):
        super().__init__()
        self.inner = nn.Linear(4, 8)
        self.odd = nn.Linear(8, 8)
        self.outer = nn.Linear(8, 1)
        self.frozen = nn.Parameter(torch.zeros(3))
        self.calls = 0
        self.odd.weight.register_hook(self.explode)

    def explode(self, grad):
        self.calls += 1
        return grad * (80.0 if self.calls % 25 == 0 else 1.0)

    def forward(self, x):
        return self.outer(torch.tanh(self.odd(torch.tanh(self.inner(x)))))


def outliers(seed=0):
    for i, (x, y) in enumerate(batches(seed=seed)):
        yield x, y + 40 * (i % 25 == 24)
'''
SLOW = {"_target_": "torch.optim.SGD", "lr": 1e-4}


@pytest.fixture
def run(project: Project, clipcal: Clipcal) -> str:
    project.code(SPIKY)
    project.spec(model={"_target_": "toy.Deep"}, optimizer=SLOW, steps=200)
    clipcal("profile", "spec.yaml").ok()
    return "runs/spec"


def test_compare_adds_a_table_after_the_answer(run: str, clipcal: Clipcal) -> None:
    alone, compared = clipcal("recommend", run).ok(), clipcal("recommend", run, "--compare").ok()
    assert compared.stdout.startswith(alone.stdout)
    table = compared.stdout.removeprefix(alone.stdout).splitlines()
    assert table[1].startswith("Compared on ")
    assert sum(line.startswith("  > ") for line in table) == 1
    assert any(line.startswith("    default_1.0 ") for line in table)
    assert compared.stderr == alone.stderr == ""


def test_compare_in_json_counts_the_steps_of_the_trace(run: str, clipcal: Clipcal) -> None:
    whole = clipcal("recommend", run, "--compare", "--json").ok().json()
    plain = clipcal("recommend", run, "--json").ok().json()
    rows = whole.pop("comparison")
    assert whole == plain
    assert "layers" not in whole
    saved = json.loads(Path(run, "recommendation.json").read_text())
    assert saved == plain
    assert whole["verdict"] == "spikes"
    norms, spikes = read_trace(f"{run}/trace.jsonl").grad_norm, whole["spikes"]["steps"]
    stable = np.setdiff1d(np.arange(whole["stable"]["first_step"], len(norms)), spikes)
    by_name = {row["name"]: row for row in rows}
    assert by_name.keys() - {"chosen", "leaning"} == whole["candidates"].keys() | whole["baselines"].keys()
    for name in ("median", "p95", "pascanu_10x"):
        row, threshold = by_name[name], whole["baselines"][name]
        assert row["clipped"] == pytest.approx(np.mean(norms[stable] > threshold))
        assert row["clipped_spikes"] == pytest.approx(np.mean(norms[spikes] > threshold))
    chosen = [row for row in rows if row["chosen"]]
    assert [row["threshold"] for row in chosen] == [whole["max_norm"]]
    assert (chosen[0]["clipped"], chosen[0]["clipped_spikes"]) == (
        whole["clipped"]["stable"],
        whole["clipped"]["spikes"],
    )


def test_layers_names_the_layer_that_makes_the_spikes(run: str, clipcal: Clipcal) -> None:
    answer = clipcal("recommend", run, "--layers").ok().stdout
    assert "One layer makes the spikes: `odd` (" in answer
    assert "1 of 7 tensors never got a gradient: frozen." in answer
    found = clipcal("recommend", run, "--layers", "--json").ok().json()["layers"]
    assert (found["peaks"], found["finding"], found["culprits"]) == ("spikes", "one", ["odd"])
    layers = read_layers(Path(run, "layers.f32"))
    spikes = list(range(24, 200, 25))
    share = np.mean(
        [row[layers.names.index("odd.weight")] ** 2 / (row.astype(float) ** 2).sum() for row in layers.norms[spikes]]
    )
    first = found["layers"][0]["tensors"][0]
    assert first["name"] == "odd.weight"
    assert first["share"] == pytest.approx(share, rel=1e-6)


def test_a_bad_batch_is_no_layers_fault(project: Project, clipcal: Clipcal) -> None:
    project.code(SPIKY)
    project.spec(data={"_target_": "toy.outliers"}, optimizer=SLOW, steps=200)
    clipcal("profile", "spec.yaml").ok()
    answer = clipcal("recommend", "runs/spec", "--layers", "--compare").ok().stdout
    assert "The layers rise together: all 2 layers" in answer
    assert "look at what steps 24, 49, 74, 99, 124, ... were trained on" in answer
    assert answer.index("Compared on") < answer.index("Layers at")


def test_both_where_no_threshold_can_be_named(project: Project, clipcal: Clipcal) -> None:
    clipcal("profile", "spec.yaml", "-n", 5).ok()
    answer = clipcal("recommend", "runs/spec", "--compare", "--layers")
    assert answer.code == 3
    assert "Compared on 5 steps with a finite norm" in answer.stdout
    assert "layers at the largest 1% of the steps (1), against the other 4" in answer.stdout
    both = clipcal("recommend", "runs/spec", "--compare", "--layers", "--json")
    assert both.code == 3
    assert {"comparison", "layers"} <= both.json().keys()


def test_a_trace_by_itself_can_be_compared_and_has_no_layers(project: Project, clipcal: Clipcal) -> None:
    norms = np.random.default_rng(0).lognormal(0, 0.2, 100)
    write_trace(project.folder / "alone.jsonl", [*norms.tolist(), float("nan")])
    clipcal("recommend", "alone.jsonl", "--compare").ok()
    clipcal("recommend", "alone.jsonl", "--layers").refused("alone.jsonl", "is a trace by itself", "run directory")


def test_what_the_layers_lack_is_said_before_any_answer(run: str, clipcal: Clipcal, project: Project) -> None:
    path = project.folder / run / "layers.f32"
    data = path.read_bytes()
    path.write_bytes(data[: len(data) // 2])
    clipcal("recommend", run, "--layers").refused("layers.f32", "the trace goes to step 199", "--force")
    path.unlink()
    clipcal("recommend", run, "--layers").refused("layers.f32", "is not there", "--force")
    clipcal("recommend", run, "--compare").ok()


@pytest.mark.parametrize("flags", [("--compare",), ("--layers",), ("--compare", "--layers")])
def test_a_snippet_alone_leaves_no_place_for_tables(clipcal: Clipcal, flags: tuple[str, ...]) -> None:
    clipcal("recommend", "runs/spec", "--for", "hf", *flags).refused("--for", *flags)


def test_a_resumed_run_has_the_layers_of_all_its_steps(project: Project, clipcal: Clipcal) -> None:
    project.spec(optimizer=SLOW)
    clipcal("profile", "spec.yaml", "-n", 60).ok()
    clipcal("profile", "spec.yaml", "-n", 120, "--resume").ok()
    clipcal("profile", "spec.yaml", "-n", 120, "--out", "whole").ok()
    resumed, whole = (
        clipcal("recommend", r, "--layers", "--json").ok().json()["layers"] for r in ("runs/spec", "whole")
    )
    assert resumed == whole
    assert resumed["num_peaks"] + resumed["num_stable"] <= 120
