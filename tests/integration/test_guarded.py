"""Training that is lost at once without clipping: profiled again under a guard, against loops written by hand."""

from __future__ import annotations

import json
import math
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from click.testing import Result
from conftest import rows_of, snapshot
from torch import nn
from typer.testing import CliRunner

from clipcal.cli.main import app
from clipcal.run.layers import read_layers
from clipcal.run.trace import Floats, read_trace

NAME = "toy_that_is_lost"
TOY = '''\
import os, signal, time
import torch
from torch import nn


class Deep(nn.Module):
    """Three nearly linear layers: with a target far from zero, the first gradients are large, and lead to larger ones."""

    def __init__(self, width=32):
        super().__init__()
        self.net = nn.Sequential(
            nn.Linear(8, width), nn.LeakyReLU(0.5), nn.Linear(width, width), nn.LeakyReLU(0.5), nn.Linear(width, 1)
        )

    def forward(self, x):
        return self.net(x)


class Again(Deep):
    """Does something at a forward pass of the second training, once: the first one leaves a file behind, and so does this."""

    def __init__(self, at=5, signals=0, fails=False, delay=0.0):
        super().__init__()
        self.second = os.path.exists("built")
        open("built", "w").close()
        self.at, self.signals, self.fails, self.delay, self.calls = at, signals, fails, delay, 0

    def forward(self, x):
        self.calls += 1
        if self.second:
            time.sleep(self.delay)
        if self.second and self.calls == self.at and not os.path.exists("done"):
            open("done", "w").close()
            for _ in range(self.signals):
                os.kill(os.getpid(), signal.SIGINT)
            if self.fails:
                raise RuntimeError("the second training has failed")
        return super().forward(x)


def batches(seed, mean=20.0):
    g = torch.Generator().manual_seed(seed)
    w = torch.randn(8, 1, generator=g)
    while True:
        x = torch.randn(32, 8, generator=g)
        yield x, x @ w + mean + 0.1 * torch.randn(32, 1, generator=g)
'''
LR, STEPS, GUARDED = 0.03, 120, ("guarded.jsonl", "guarded-layers.f32")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("guarded")
    (path / f"{NAME}.py").write_text(TOY)
    return path


def spec(folder: Path, file: str = "spec.yaml", **changes: Any) -> Path:
    fields: dict[str, Any] = {
        "name": "toy",
        "model": {"_target_": f"{NAME}.Deep"},
        "data": {"_target_": f"{NAME}.batches"},
        "loss": {"_target_": "torch.nn.MSELoss"},
        "optimizer": {"_target_": "torch.optim.SGD", "lr": LR},
        "steps": STEPS,
        "device": "cpu",
    } | changes
    path = folder / file
    path.write_text(yaml.safe_dump(fields))
    return path


def clipcal(*args: str | Path) -> Result:
    return CliRunner().invoke(app, [str(a) for a in args], catch_exceptions=False)  # type: ignore[return-value]


def info(run: Path) -> dict[str, Any]:
    value: dict[str, Any] = json.loads((run / "run.json").read_text())
    return value


def guarded_files(run: Path) -> list[str]:
    """Whatever is there of a guarded trace, whole or not."""
    return sorted(p.name for p in run.iterdir() if p.name.startswith("guarded"))


@pytest.fixture(scope="module")
def profiled(folder: Path) -> tuple[Result, Path]:
    out = folder / "runs" / "toy"
    return clipcal("profile", spec(folder), "-o", out), out


@pytest.fixture(scope="module")
def run(profiled: tuple[Result, Path]) -> Path:
    assert profiled[0].exit_code == 0, profiled[0].output
    return profiled[1]


@pytest.fixture
def copied(run: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(run, tmp_path / "run"))


class Hand:
    """The loop that a user writes: seed, build, and clip with torch's own functions."""

    def __init__(self, folder: Path, seed: int = 0) -> None:
        namespace: dict[str, Any] = {}
        exec(compile((folder / f"{NAME}.py").read_text(), NAME, "exec"), namespace)
        torch.manual_seed(seed)
        self.model: nn.Module = namespace["Deep"]()
        self.batches = namespace["batches"](seed)
        self.optimizer = torch.optim.SGD(self.model.parameters(), lr=LR)

    def train(self, clip: Callable[[list[nn.Parameter]], torch.Tensor]) -> tuple[Floats, Floats]:
        """The losses, and what ``clip`` gave, of all steps."""
        losses, norms = [], []
        for _ in range(STEPS):
            x, y = next(self.batches)
            self.optimizer.zero_grad()
            loss: Any = nn.functional.mse_loss(self.model(x), y)
            loss.backward()
            norms.append(float(clip(list(self.model.parameters()))))
            self.optimizer.step()
            losses.append(float(loss.detach()))
        return np.array(losses), np.array(norms)


# What is recorded


def test_the_run_is_lost_and_profiled_again_under_a_guard_from_its_first_norms(profiled: tuple[Result, Path]) -> None:
    result, run = profiled
    assert result.exit_code == 0
    unclipped = read_trace(run / "trace.jsonl")
    expected = float(f"{0.3 * np.median(unclipped.grad_norm[:3]):.1e}")
    assert info(run)["guard"] == expected
    assert f"profiling again under a temporary guard of {expected:g}" in result.stderr
    assert "Traceback" not in result.stderr
    assert (info(run)["status"], len(unclipped)) == ("stopped", len(rows_of(run / "trace.jsonl")))
    assert len(unclipped) < 30
    assert np.isnan(unclipped.scale).all(), "the first trace is unclipped"
    assert guarded_files(run) == sorted(GUARDED)


def test_the_guarded_trace_has_every_step_and_every_layer(run: Path) -> None:
    guarded, layers = read_trace(run / "guarded.jsonl"), read_layers(run / "guarded-layers.f32")
    assert list(guarded.step) == list(range(STEPS))
    assert layers.norms.shape == (STEPS, 6)
    assert layers.names == read_layers(run / "layers.f32").names
    np.testing.assert_allclose(np.sqrt((layers.norms.astype(np.float64) ** 2).sum(1)), guarded.grad_norm, rtol=1e-6)
    guard = info(run)["guard"]
    np.testing.assert_allclose(guarded.scale, np.minimum(1, guard / (guarded.grad_norm + 1e-6)), rtol=1e-6)
    assert (guarded.grad_norm > guard).any(), "norms are those before clipping"


def test_the_guarded_norms_are_those_of_a_plain_torch_loop(run: Path, folder: Path) -> None:
    guard = info(run)["guard"]
    losses, norms = Hand(folder).train(lambda params: nn.utils.clip_grad_norm_(params, guard))
    guarded = read_trace(run / "guarded.jsonl")
    np.testing.assert_array_equal(guarded.grad_norm, norms)
    np.testing.assert_array_equal(guarded.loss, losses)
    first = read_trace(run / "trace.jsonl")
    assert (guarded.grad_norm[0], guarded.loss[0]) == (first.grad_norm[0], first.loss[0])


@pytest.mark.parametrize("method", ["value", "per_tensor"])
def test_a_guard_clips_as_the_spec_will(folder: Path, tmp_path: Path, method: str) -> None:
    out = tmp_path / "run"
    assert clipcal("profile", spec(folder, f"{method}.yaml", clip={"method": method}), "-o", out).exit_code == 0
    guard = info(out)["guard"]

    def by_value(params: list[nn.Parameter]) -> torch.Tensor:
        largest = torch.stack([p.grad.abs().max() for p in params if p.grad is not None]).max()
        nn.utils.clip_grad_value_(params, guard)
        return largest

    def each(params: list[nn.Parameter]) -> torch.Tensor:
        return torch.stack([nn.utils.clip_grad_norm_([p], guard) for p in params]).max()

    losses, seen = Hand(folder).train(by_value if method == "value" else each)
    rows = read_layers(out / "layers.f32").norms
    first = read_trace(out / "trace.jsonl").grad_max if method == "value" else rows.max(1).astype(np.float64)
    assert guard == float(f"{0.3 * np.median(first[:3]):.1e}")
    guarded = read_trace(out / "guarded.jsonl")
    recorded = guarded.grad_max if method == "value" else read_layers(out / "guarded-layers.f32").norms.max(1)
    np.testing.assert_array_equal(recorded, seen)
    np.testing.assert_array_equal(guarded.loss, losses)
    r = json.loads(clipcal("recommend", out, "--json").stdout)
    assert (r["method"], r["verdict"], r["steps"]) == (method, "diverging", STEPS)
    assert r["corridor"][0] < r["max_norm"] < float(recorded.max()) * 1.5


def test_recommend_reads_the_guarded_trace_and_names_the_guard(run: Path) -> None:
    result = clipcal("recommend", run, "--json")
    assert result.exit_code == 0
    assert result.stderr == ""
    r = json.loads(result.stdout)
    guard = info(run)["guard"]
    assert (r["verdict"], r["steps"]) == ("diverging", STEPS)
    assert math.isfinite(r["max_norm"])
    assert r["max_norm"] > 0
    assert f"guard of {guard:g}" in r["reasons"][0]
    assert "the learning rate" in r["reasons"][1]
    assert "is plainly too high; lower it" in r["reasons"][1]
    guarded = read_trace(run / "guarded.jsonl").grad_norm
    assert guarded.min() < r["max_norm"] < guarded.max()
    assert not any("stopped early" in c for c in r["caveats"])
    text = clipcal("recommend", run).stdout
    assert text.startswith(f"max_norm {r['max_norm']:g}   diverging")
    assert f"max_norm={float(r['max_norm'])!r}" in clipcal("recommend", run, "--for", "pytorch").stdout


def test_layers_and_rules_are_read_from_the_guarded_trace_too(run: Path) -> None:
    result = clipcal("recommend", run, "--layers", "--compare", "--json")
    assert result.exit_code == 0, result.output
    r = json.loads(result.stdout)
    ours = next(c for c in r["comparison"] if c["chosen"])
    stable = r["stable"]["steps"]
    assert ours["num_steps"] == stable
    assert r["layers"]


def test_without_the_record_of_the_guard_the_first_trace_speaks(copied: Path) -> None:
    """A process killed between the two has guarded files and no guard in run.json."""
    raw = info(copied)
    (copied / "run.json").write_text(json.dumps(raw | {"guard": None}))
    r = json.loads(clipcal("recommend", copied, "--json").stdout)
    assert r["steps"] == len(read_trace(copied / "trace.jsonl"))
    (copied / "run.json").write_text(json.dumps(raw))
    for name in GUARDED:
        (copied / name).unlink()
    again = json.loads(clipcal("recommend", copied, "--json").stdout)
    assert again | {"source": ""} == r | {"source": ""}


# What comes of it


def test_calibrate_ends_with_a_threshold_under_which_training_is_not_lost(folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    result = clipcal("calibrate", spec(folder), "-o", out, "--seeds", "2", "--json")
    whole = json.loads(result.stdout)
    v = whole["verification"]
    assert v["verdict"] in ("holds", "no_difference", "costs", "fails")
    assert result.exit_code == (0 if v["verdict"] in ("holds", "no_difference") else 3)
    assert v["verdict"] == "holds"
    assert 0 < whole["max_norm"] < math.inf
    assert f"guard of {info(out)['guard']:g}" in whole["recommendation"]["reasons"][0]
    lost = {(a["name"], a["seed"]): a["diverged_at"] is not None for a in v["arms"]}
    chosen = f"max_norm={whole['max_norm']:g}"
    assert [lost[chosen, s] for s in (0, 1)] == [False, False]
    assert [lost["unclipped", s] for s in (0, 1)] == [True, True]
    assert not (out / "arms" / "unclipped-seed0.jsonl").exists(), "that is the profile's own trace"
    for seed in (0, 1):
        losses, norms = Hand(folder, seed).train(
            lambda params: nn.utils.clip_grad_norm_(params, float(whole["max_norm"]))
        )
        assert np.median(losses[-24:]) < 0.2 * losses[0], "a loop by hand is not lost either"
        arm = read_trace(out / "arms" / f"{chosen}-seed{seed}.jsonl")
        np.testing.assert_array_equal(arm.grad_norm, norms)


def test_a_healthy_run_is_profiled_once(folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    healthy = spec(folder, "healthy.yaml", optimizer={"_target_": "torch.optim.SGD", "lr": LR / 20})
    result = clipcal("profile", healthy, "-o", out)
    assert result.exit_code == 0
    assert "again" not in result.stderr
    assert guarded_files(out) == []
    assert (info(out)["guard"], info(out)["status"]) == (None, "complete")
    assert json.loads(clipcal("recommend", out, "--json").stdout)["verdict"] != "diverging"


@pytest.mark.parametrize("lr", [LR, LR / 20], ids=["lost-again", "healthy-now"])
def test_force_takes_away_what_belonged_to_the_old_run(folder: Path, copied: Path, lr: float) -> None:
    (copied / "choice.json").write_text(json.dumps({"name": "firm", "max_norm": 1234.5, "reason": "Of the old run."}))
    before = snapshot(copied)
    again = spec(folder, "again.yaml", optimizer={"_target_": "torch.optim.SGD", "lr": lr}, steps=90)
    refused = clipcal("profile", again, "-o", copied)
    assert refused.exit_code == 2
    assert snapshot(copied) == before
    assert clipcal("profile", again, "-o", copied, "--force").exit_code == 0
    assert not (copied / "choice.json").exists()
    assert guarded_files(copied) == (sorted(GUARDED) if lr == LR else [])
    assert len(read_trace(copied / ("guarded.jsonl" if lr == LR else "trace.jsonl"))) == 90
    r = json.loads(clipcal("recommend", copied, "--json").stdout)
    assert (r["steps"], "guard" in r["reasons"][0]) == (90, lr == LR)
    assert r["max_norm"] != 1234.5


def test_force_takes_away_what_a_killed_process_left_of_the_old_run(folder: Path, copied: Path) -> None:
    for name in GUARDED:
        (copied / name).rename(copied / f"{name}.partial")
    healthy = spec(folder, "healthy.yaml", optimizer={"_target_": "torch.optim.SGD", "lr": LR / 20})
    assert clipcal("profile", healthy, "-o", copied, "--force").exit_code == 0
    assert guarded_files(copied) == []


# Cut short


@pytest.fixture
def again(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Path]:
    """Writes a spec whose model does something in its second training."""
    monkeypatch.chdir(tmp_path)

    def write(**model: Any) -> Path:
        return spec(folder, f"{tmp_path.name}.yaml", model={"_target_": f"{NAME}.Again"} | model)

    return write


def assert_first_trace_alone(out: Path, whole: Path) -> None:
    """The unclipped trace is there, and no guarded one; the next command can work with it."""
    assert rows_of(out / "trace.jsonl") == rows_of(whole / "trace.jsonl")
    assert (out / "layers.f32").read_bytes() == (whole / "layers.f32").read_bytes()
    assert guarded_files(out) == []
    assert (info(out)["status"], info(out)["guard"]) == ("stopped", None)
    answer = clipcal("recommend", out, "--json")
    assert answer.exit_code in (0, 3)
    assert json.loads(answer.stdout)["steps"] == len(read_trace(whole / "trace.jsonl"))


@pytest.mark.parametrize(("at", "signals"), [(1, 1), (5, 1), (5, 2), (70, 1), (70, 2)])
def test_ctrl_c_in_the_second_training_keeps_the_first(
    again: Callable[..., Path], run: Path, at: int, signals: int
) -> None:
    path, out = again(at=at, signals=signals), Path("run")
    result = clipcal("profile", path, "-o", out)
    assert result.exit_code == 130
    assert result.stdout == ""
    assert "Traceback" not in result.stderr
    assert "interrupted" in result.stderr
    assert_first_trace_alone(out, run)
    assert clipcal("profile", path, "-o", out, "--force").exit_code == 0
    assert rows_of(out / "guarded.jsonl") == rows_of(run / "guarded.jsonl")


def test_ctrl_c_in_the_last_step_of_the_second_training_is_too_late(again: Callable[..., Path], run: Path) -> None:
    """As it is in the first: there is nothing left to stop."""
    clipcal("profile", again(at=STEPS, signals=1), "-o", "run")
    assert info(Path("run"))["guard"] == info(run)["guard"]
    assert rows_of(Path("run/guarded.jsonl")) == rows_of(run / "guarded.jsonl")


def test_code_that_fails_in_the_second_training_is_blamed_and_the_first_is_kept(
    again: Callable[..., Path], run: Path
) -> None:
    result = clipcal("profile", again(fails=True), "-o", "run")
    assert result.exit_code == 4
    assert "the second training has failed" in result.stderr
    assert_first_trace_alone(Path("run"), run)


def test_a_run_that_is_interrupted_and_gone_on_with_is_profiled_again_too(
    again: Callable[..., Path], run: Path
) -> None:
    path, out = again(at=3, signals=1), Path("run")
    Path("built").touch()
    assert clipcal("profile", path, "-o", out).exit_code == 130
    assert (info(out)["status"], guarded_files(out)) == ("interrupted", [])
    (out / "choice.json").write_text(json.dumps({"name": "firm", "max_norm": 1234.5, "reason": "Of fewer steps."}))
    assert clipcal("profile", path, "-o", out, "--resume").exit_code == 0
    assert rows_of(out / "trace.jsonl") == rows_of(run / "trace.jsonl")
    assert rows_of(out / "guarded.jsonl") == rows_of(run / "guarded.jsonl")
    assert info(out)["guard"] == info(run)["guard"]
    assert not (out / "choice.json").exists()


@pytest.mark.skipif(os.name != "posix", reason="sends a signal to a process group, as a terminal does")
def test_ctrl_c_from_a_terminal_in_the_second_training_keeps_the_first(again: Callable[..., Path], run: Path) -> None:
    path, out = again(delay=0.05), Path("run")
    process = subprocess.Popen(
        [sys.executable, "-m", "clipcal", "profile", str(path), "-o", str(out)],
        env=os.environ | {"PYTHONDONTWRITEBYTECODE": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    growing, deadline = out / "guarded.jsonl.partial", time.monotonic() + 60
    try:
        while not (growing.exists() and growing.stat().st_size):
            assert process.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.01)
        os.killpg(process.pid, signal.SIGINT)
        stdout, stderr = process.communicate(timeout=60)
    finally:
        process.kill()
        process.wait(timeout=60)
    assert (process.returncode, stdout) == (130, "")
    assert "profiling again" in stderr
    assert "Traceback" not in stderr
    assert_first_trace_alone(out, run)
