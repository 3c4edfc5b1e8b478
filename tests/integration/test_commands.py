"""The commands one after the other, as a person types them, on a small real training."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from click.testing import Result
from typer.testing import CliRunner

from clipcal.cli.main import app
from clipcal.run.layers import read_layers
from clipcal.run.trace import read_trace

TOY = """\
import torch


class Net(torch.nn.Module):
    def __init__(self, width=16):
        super().__init__()
        self.layers = torch.nn.Sequential(torch.nn.Linear(8, width), torch.nn.Tanh(), torch.nn.Linear(width, 1))

    def forward(self, x):
        return self.layers(x)


def batches(seed, outliers=0.04):
    g = torch.Generator().manual_seed(seed)
    w = torch.randn(8, 1, generator=g)
    while True:
        x = torch.randn(32, 8, generator=g)
        y = x @ w + 0.1 * torch.randn(32, 1, generator=g)
        if torch.rand((), generator=g) < outliers:
            y = y + 30
        yield x, y


def printing_step(model, batch):
    print("user output")
    x, y = batch
    return torch.nn.functional.mse_loss(model(x), y)
"""
NAME = "toy_for_commands"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("commands")
    (path / f"{NAME}.py").write_text(TOY)
    return path


def spec(folder: Path, **changes: Any) -> Path:
    fields = {
        "name": "toy",
        "model": {"_target_": f"{NAME}.Net"},
        "data": {"_target_": f"{NAME}.batches"},
        "loss": {"_target_": "torch.nn.MSELoss"},
        "optimizer": {"_target_": "torch.optim.SGD", "lr": 0.05},
        "steps": 150,
        "device": "cpu",
    } | changes
    path = folder / f"{abs(hash(json.dumps(changes, sort_keys=True, default=str)))}.yaml"
    path.write_text(yaml.safe_dump({k: v for k, v in fields.items() if v is not None}))
    return path


def clipcal(*args: str | Path) -> Result:
    return CliRunner().invoke(app, [str(a) for a in args])  # type: ignore[return-value]


def answer(*args: str | Path, code: int = 0) -> dict[str, Any]:
    result = clipcal(*args, "--json")
    assert result.exit_code == code, result.output
    parsed: dict[str, Any] = json.loads(result.stdout, parse_constant=lambda word: pytest.fail(f"{word} is not JSON"))
    return parsed


@pytest.fixture(scope="module")
def run(folder: Path) -> Path:
    out = folder / "runs" / "toy"
    result = clipcal("profile", spec(folder), "-o", out)
    assert result.exit_code == 0, result.output
    return out


def test_profile_records_every_step_and_says_where(run: Path) -> None:
    trace = read_trace(run / "trace.jsonl")
    assert list(trace.step) == list(range(150))
    first = json.loads((run / "trace.jsonl").read_text().splitlines()[0])
    assert list(first) == ["step", "loss", "grad_norm", "grad_max", "lr", "seconds"]
    info = json.loads((run / "run.json").read_text())
    assert info["schema"] == "clipcal.run/1"
    assert (info["status"], info["steps"], info["seeds"], info["device"]) == ("complete", 150, [0], "cpu")


def test_recommend_answers_first_in_one_line_then_shows_why_and_what_to_paste(run: Path) -> None:
    result = clipcal("recommend", run)
    assert result.exit_code == 0
    r = json.loads((run / "recommendation.json").read_text())
    lines = result.stdout.splitlines()
    assert lines[0].startswith(f"max_norm {r['max_norm']:g}   {r['verdict']}")
    assert "Why" in lines
    assert any(line.startswith("Paste this") for line in lines)
    assert f"max_norm={float(r['max_norm'])!r}" in result.stdout
    assert result.stderr == ""


def test_recommend_json_is_the_contracts(run: Path) -> None:
    r = answer("recommend", run)
    assert set(r) == {
        "schema", "source", "steps", "verdict", "max_norm", "method", "norm_type", "interval", "corridor", "confidence", "stable",
        "spikes", "nonfinite", "zeros", "drift", "clipped", "reasons", "caveats", "candidates", "harm", "baselines",
        "codes", "headline", "loss",
    }  # fmt: skip
    assert r["schema"] == "clipcal.recommendation/1"
    norms = read_trace(run / "trace.jsonl").grad_norm
    assert np.median(norms) < r["max_norm"] < norms.max()


def test_recommend_for_a_framework_prints_the_snippet_alone(run: Path) -> None:
    max_norm = answer("recommend", run)["max_norm"]
    result = clipcal("recommend", run, "--for", "hf")
    assert result.exit_code == 0
    assert f"max_grad_norm={float(max_norm)!r}" in result.stdout
    assert "Why" not in result.stdout
    wrong = clipcal("recommend", run, "--for", "pytroch")
    assert wrong.exit_code == 2
    assert "'pytorch'" in wrong.stderr


def test_recommend_reads_the_trace_file_alone(run: Path, tmp_path: Path) -> None:
    alone = tmp_path / "copied.jsonl"
    alone.write_bytes((run / "trace.jsonl").read_bytes())
    assert answer("recommend", alone)["max_norm"] == answer("recommend", run)["max_norm"]
    assert clipcal("verify", alone).exit_code == 2


def test_verify_pairs_its_arms_and_uses_again_what_is_there(run: Path) -> None:
    profiled = (run / "trace.jsonl").read_bytes()
    max_norm = answer("recommend", run)["max_norm"]
    first = clipcal("verify", run, "--seeds", "2", "--jobs", "1")
    assert first.exit_code == 3, "two seeds that differ by as much as this do not tell"
    assert "training 3 arms" in first.stderr
    names = {p.name for p in (run / "arms").iterdir()}
    assert names == {"arms.json", "unclipped-seed1.jsonl", *(f"max_norm={max_norm:g}-seed{s}.jsonl" for s in (0, 1))}
    before = {p.name: p.read_bytes() for p in (run / "arms").iterdir()}

    more = clipcal("verify", run, "--seeds", "2", "--jobs", "2", "--max-norm", "0.5")
    assert "training 2 arms (max_norm=0.5); 4 are there already" in more.stderr
    v = json.loads((run / "verification.json").read_text())
    assert {(a["name"], a["seed"]) for a in v["arms"]} == {
        (n, s) for n in ("unclipped", f"max_norm={max_norm:g}", "max_norm=0.5") for s in (0, 1)
    }
    assert {n: b for n, b in before.items() if (run / "arms" / n).read_bytes() != b} == {}
    assert (run / "trace.jsonl").read_bytes() == profiled


def test_arms_are_the_same_bit_for_bit_however_many_run_at_once(run: Path) -> None:
    def columns() -> dict[str, list[float]]:
        return {p.name: list(read_trace(p).grad_norm) for p in (run / "arms").glob("*.jsonl")}

    clipcal("verify", run, "--seeds", "2", "--jobs", "1", "--force")
    one = columns()
    clipcal("verify", run, "--seeds", "2", "--jobs", "2", "--force")
    assert columns() == one
    assert len(one) == 3


def test_a_clipped_arm_starts_as_the_unclipped_one_does(run: Path) -> None:
    unclipped = read_trace(run / "trace.jsonl")
    max_norm = float(f"{1.01 * np.max(unclipped.grad_norm[:5]):.6g}")
    clipcal("verify", run, "--seeds", "1", "--max-norm", str(max_norm))
    clipped = read_trace(run / "arms" / f"max_norm={max_norm:.6g}-seed0.jsonl")
    acted = int(np.argmax(clipped.scale < 1))
    assert acted > 4
    np.testing.assert_array_equal(clipped.grad_norm[: acted + 1], unclipped.grad_norm[: acted + 1])
    np.testing.assert_array_equal(clipped.loss[: acted + 1], unclipped.loss[: acted + 1])
    assert clipped.loss[acted + 1] != unclipped.loss[acted + 1]
    expected = np.minimum(1, max_norm / (clipped.grad_norm + 1e-6))
    np.testing.assert_allclose(clipped.scale, expected, rtol=1e-6)


def test_calibrate_says_it_all_and_its_code_is_the_verdict(folder: Path) -> None:
    out = folder / "runs" / "calibrated"
    result = clipcal("calibrate", spec(folder), "-o", out)
    v = json.loads((out / "verification.json").read_text())
    assert result.exit_code == (0 if v["verdict"] in ("holds", "no_difference") else 3)
    assert v["verdict"] == "holds"  # the outlier batches throw the weights about
    assert "Paste this" in result.stdout
    whole = answer("calibrate", spec(folder), "-o", out, "--seeds", "1", "--force", "-n", "60", "-q", code=3)
    assert whole["verification"]["verdict"] == "undecided", "one seed of 60 steps"
    assert set(whole) == {"schema", "run", "max_norm", "choice", "recommendation", "verification"}


def test_what_the_users_code_prints_never_reaches_stdout(folder: Path) -> None:
    path = spec(folder, loss=None, training_step={"_target_": f"{NAME}.printing_step"}, steps=20)
    result = clipcal("profile", path, "-o", folder / "runs" / "printing", "--json")
    assert json.loads(result.stdout)["steps"] == 20
    assert "user output" in result.stderr


def test_quiet_leaves_stderr_empty(folder: Path) -> None:
    result = clipcal("profile", spec(folder, steps=20), "-o", folder / "runs" / "quiet", "-q")
    assert (result.exit_code, result.stderr) == (0, "")


@pytest.mark.parametrize("method", ["value", "per_tensor"])
def test_other_methods_are_calibrated_on_their_own_numbers(folder: Path, method: str) -> None:
    out = folder / "runs" / method
    done = clipcal("calibrate", spec(folder, clip={"method": method}), "-o", out, "--seeds", "1", "-q", "--json")
    whole = json.loads(done.stdout)
    assert done.exit_code == (0 if whole["verification"]["verdict"] in ("holds", "no_difference") else 3)
    r = whole["recommendation"]
    assert r["method"] == method
    largest = (
        read_trace(out / "trace.jsonl").grad_max
        if method == "value"
        else read_layers(out / "layers.f32").norms.max(axis=1)
    )
    assert r["baselines"]["median"] == pytest.approx(float(np.median(largest)), rel=1e-6)
    clipped = read_trace(next((out / "arms").glob("max_norm=*-seed0.jsonl")))
    assert 0 < float(np.mean(clipped.scale < 1)) < 0.5


def test_a_longer_verification_trains_its_own_unclipped_arm(run: Path) -> None:
    clipcal("verify", run, "--seeds", "1")
    before = {p.name: p.read_bytes() for p in (run / "arms").glob("*.jsonl")}
    longer = clipcal("verify", run, "--seeds", "1", "--steps", "160", "--json")
    assert [a["steps"] for a in json.loads(longer.stdout)["arms"]] == [160, 160]
    assert (run / "arms" / "unclipped-seed0.jsonl").exists()
    kept = {p.name: p.read_bytes() for p in (run / "arms-1").glob("*.jsonl")}
    assert kept == before, "arms of another length are set aside, not lost"


def test_resume_makes_a_run_longer_and_its_first_steps_stay(folder: Path) -> None:
    out = folder / "runs" / "longer"
    clipcal("profile", spec(folder), "-o", out, "-n", "40")
    first = (out / "trace.jsonl").read_bytes()
    result = clipcal("profile", spec(folder), "-o", out, "-n", "60", "--resume")
    assert result.exit_code == 0, result.output
    assert (out / "trace.jsonl").read_bytes().startswith(first)
    fresh = folder / "runs" / "fresh"
    clipcal("profile", spec(folder), "-o", fresh, "-n", "60")
    for column in ("loss", "grad_norm", "grad_max"):
        np.testing.assert_array_equal(
            getattr(read_trace(out / "trace.jsonl"), column), getattr(read_trace(fresh / "trace.jsonl"), column)
        )
    assert (out / "layers.f32").read_bytes() == (fresh / "layers.f32").read_bytes()


def test_a_run_that_is_lost_is_stopped_and_tried_with_a_smaller_rate(folder: Path) -> None:
    out = folder / "runs" / "lost"
    hot = spec(folder, optimizer={"_target_": "torch.optim.SGD", "lr": 2.0}, steps=100)
    result = clipcal("profile", hot, "-o", out)
    assert result.exit_code == 0
    info = json.loads((out / "run.json").read_text())
    assert info["status"] == "stopped"
    assert len(read_trace(out / "trace.jsonl")) < 100
    v = clipcal("verify", out, "--seeds", "1", "--max-norm", "1.0", "--json")
    parsed = json.loads(v.stdout)
    assert "lr=0.1x" in {a["name"] for a in parsed["arms"]}
    assert parsed["helped"] is not None
    assert parsed["comparison"]["loss_difference"] is None, "a lost run has no final loss"


def test_init_writes_a_spec_once(tmp_path: Path) -> None:
    path = tmp_path / "clipcal.yaml"
    assert clipcal("init", path).exit_code == 0
    text = path.read_text()
    assert clipcal("init", path).exit_code == 2
    assert path.read_text() == text
    result = clipcal("calibrate", path)
    assert result.exit_code == 2
    assert f"{path}:5:9: no module named 'my_project'" in result.stderr
    schema = json.loads(clipcal("init", "--schema").stdout)
    assert "model" in schema["properties"]
