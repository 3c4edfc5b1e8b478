"""``torchrun -m clipcal``: ranks that train one arm leave what a single process leaves on the joined batch."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from conftest import Project
from numpy.typing import NDArray
from nursery import PYTHON, as_ranks, run_forked

from benchmarks.at_scale import allocated, collectives, model_on_meta
from clipcal.run.layers import read_layers

NET = '''
import os, time
import torch
from torch import nn


class Net(nn.Module):
    """Blocks to shard, one that is never used, and a tensor that does not divide by the ranks."""

    def __init__(self):
        super().__init__()
        self.blocks = nn.ModuleList([nn.Linear(5, 7), nn.Linear(7, 7)])
        self.unused = nn.Linear(3, 3)
        self.outer = nn.Linear(7, 1)

    def forward(self, x):
        for block in self.blocks:
            x = torch.tanh(block(x))
        return self.outer(x)


def batches(seed=0, wait=0.0, fails_on=None, bad_rank=None, of=2, bad_steps=(12,)):
    g = torch.Generator().manual_seed(seed)
    i = 0
    while True:
        if fails_on is not None and i >= 20 and os.environ.get("RANK") == fails_on:
            raise ValueError("a shard that cannot be read")
        time.sleep(wait)
        x = torch.randn(8, 5, generator=g)
        loud = 50.0 if bad_rank is not None and i % of == bad_rank and i // of in bad_steps else 1.0
        yield x, loud * x.sum(1, keepdim=True)
        i += 1
'''


def spec(project: Project, **changes: Any) -> Path:
    project.code(NET, "net.py")
    fields = {
        "model": {"_target_": "net.Net"},
        "data": {"_target_": "net.batches"},
        "loss": {"_target_": "torch.nn.MSELoss"},
        "optimizer": {"_target_": "torch.optim.Adam", "lr": 0.01},
        "steps": 20,
        "device": "cpu",
    }
    path = project.folder / f"{changes.get('name', 'spec')}.yaml"
    path.write_text(json.dumps(fields | changes))
    return path


def torchrun(
    project: Project, ranks: int, *words: str, options: tuple[str, ...] = (), python: str | None = None
) -> list[str]:
    launcher = [python or str(PYTHON), "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(ranks)]
    return [*launcher, *options, "-m", "clipcal", *words]


def alone(project: Project, environment: dict[str, str], *words: str) -> subprocess.CompletedProcess[str]:
    """``clipcal`` without ranks."""
    return run_forked(["-m", "clipcal", *words], project.folder, environment)


def together(
    project: Project, environment: dict[str, str], ranks: int, *words: str
) -> subprocess.CompletedProcess[str]:
    """``clipcal`` on so many ranks, as torchrun starts them, which takes seconds more."""
    return run_forked(["-m", "clipcal", *words], project.folder, environment, beside=as_ranks(ranks))


def run(project: Project, environment: dict[str, str], command: list[str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command, cwd=project.folder, env=environment, capture_output=True, text=True, timeout=240, check=False
    )


def trace(folder: Path, name: str = "trace.jsonl") -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / name).read_text().splitlines()]


def info(folder: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((folder / "run.json").read_text())
    return found


def by_hand(
    ranks: int, steps: int, *, accumulate: int = 1, skipped: Sequence[int] = (), **data: Any
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """The norm (steps, ranks) of the gradient of each rank's own batches, and that of their mean (steps,), with torch in this process
    alone."""
    code: dict[str, Any] = {}
    exec(NET, code)
    torch.manual_seed(0)
    net = code["Net"]()
    batches = code["batches"](**data)
    optimizer = torch.optim.Adam(net.parameters(), lr=0.01)
    norms, whole = np.zeros((steps, ranks), dtype=np.float32), np.zeros(steps, dtype=np.float32)
    for step in range(steps):
        given = [next(batches) for _ in range(ranks * accumulate)]
        means: list[torch.Tensor] | None = None
        for rank in range(ranks):
            net.zero_grad()
            for x, y in given[rank::ranks]:
                loss: Any = torch.nn.functional.mse_loss(net(x), y) / accumulate
                loss.backward()
            own = [torch.zeros_like(p) if p.grad is None else p.grad.clone() for p in net.parameters()]
            norms[step, rank] = float(torch.nn.utils.get_total_norm(own))
            means = [g / ranks + m for g, m in zip(own, means or [torch.zeros_like(g) for g in own], strict=True)]
        assert means is not None
        whole[step] = float(torch.nn.utils.get_total_norm(means))
        for p, g in zip(net.parameters(), means, strict=True):
            p.grad = g
        if step not in skipped:
            optimizer.step()
    return norms, whole


def same(a: list[dict[str, Any]], b: list[dict[str, Any]], *keys: str) -> None:
    assert len(a) == len(b)
    for one, other in zip(a, b, strict=True):
        for key in keys:
            assert one[key] == pytest.approx(other[key], rel=1e-5), (key, one["step"])


@pytest.fixture
def environment(environment: dict[str, str]) -> dict[str, str]:
    return {k: v for k, v in environment.items() if k not in ("RANK", "WORLD_SIZE", "LOCAL_RANK")}


@pytest.mark.parametrize(("kind", "ranks"), [("ddp", 2), ("fsdp2", 2), ("fsdp2", 4), ("ddp", 4)])
def test_ranks_are_one_process_on_the_joined_batch(
    project: Project, environment: dict[str, str], kind: str, ranks: int
) -> None:
    spec(project, name="ranks", parallel=kind, accumulate=2)
    spec(project, name="one", accumulate=2 * ranks)
    words = ("profile", "ranks.yaml", "-q", "--json")
    if ranks == 2:
        launcher = torchrun(project, ranks, *words, python=sys.executable if kind == "ddp" else None)
        done = run(project, environment, launcher)
    else:
        done = together(project, environment, ranks, *words)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["steps"] == 20, "stdout is rank 0's answer alone"
    assert alone(project, environment, "profile", "one.yaml", "-q").returncode == 0
    ours, single = project.folder / "runs" / "ranks", project.folder / "runs" / "one"
    same(trace(ours), trace(single), "grad_norm", "grad_max", "loss", "lr")
    assert info(ours)["world_size"] == ranks
    layers = [read_layers(folder / "layers.f32") for folder in (ours, single)]
    assert layers[0].names == layers[1].names
    np.testing.assert_allclose(layers[0].norms, layers[1].norms, rtol=1e-5, atol=1e-7)
    assert not (single / "ranks.f32").exists()
    if kind == "fsdp2":
        assert not any("rank_spread" in row for row in trace(ours)), "no rank has a gradient of its own"
        assert not (ours / "ranks.f32").exists()
        return
    local = read_layers(ours / "ranks.f32")
    assert local.names == tuple(f"rank {i}" for i in range(ranks))
    np.testing.assert_allclose(local.norms, by_hand(ranks, 20, accumulate=2)[0], rtol=1e-4)
    spread = local.norms.max(axis=1) / np.median(local.norms, axis=1)
    np.testing.assert_allclose([row["rank_spread"] for row in trace(ours)], spread, rtol=1e-5)


BAD: dict[str, Any] = {"bad_rank": 2, "of": 4, "bad_steps": [40, 48, 60, 75, 88, 97, 105, 111]}


def test_a_bad_shard_is_named(project: Project, environment: dict[str, str]) -> None:
    spec(project, parallel="ddp", data={"_target_": "net.batches"} | BAD, steps=120)
    done = together(project, environment, 4, "profile", "spec.yaml", "-q", "--json")
    assert "Traceback" not in done.stderr.replace("torchrun", ""), done.stderr
    folder = project.folder / "runs" / "spec"
    spread = np.array([row["rank_spread"] for row in trace(folder)])
    assert sorted(np.argsort(spread)[-8:]) == BAD["bad_steps"]
    np.testing.assert_allclose(read_layers(folder / "ranks.f32").norms, by_hand(4, 120, **BAD)[0], rtol=1e-3)
    part = alone(project, environment, "recommend", "runs/spec/ranks.f32")
    assert "runs/spec/ranks.f32: is a part of a run" in part.stderr
    recommended = json.loads(alone(project, environment, "recommend", "runs/spec", "--json").stdout)
    assert recommended["spikes"]["steps"] == BAD["bad_steps"], "the premise"
    said = recommended["reasons"][-1]
    assert said.startswith("8 of 8 spikes come from rank 2: its own gradient was ")
    assert said.endswith("Look at its shard of the data.")
    shown = alone(project, environment, "recommend", "runs/spec").stdout
    assert "8 of 8 spikes come from rank 2" in " ".join(shown.split())
    assert alone(project, environment, "report", "runs/spec", "-q").returncode == 0
    assert "8 of 8 spikes come from rank 2" in (folder / "report.html").read_text()
    (folder / "ranks.f32").write_bytes(b"damaged")
    damaged = alone(project, environment, "recommend", "runs/spec", "--json")
    assert json.loads(damaged.stdout)["max_norm"] == recommended["max_norm"]
    assert "ranks.f32 cannot be read" in json.loads(damaged.stdout)["caveats"][-1]


def test_a_resumed_run_has_the_ranks_of_all_steps(project: Project, environment: dict[str, str]) -> None:
    spec(project, parallel="ddp", data={"_target_": "net.batches", "bad_rank": 1}, steps=30)
    assert together(project, environment, 2, "profile", "spec.yaml", "-q", "-o", "whole").returncode == 0
    whole = (project.folder / "whole" / "ranks.f32").read_bytes()
    np.testing.assert_allclose(
        read_layers(project.folder / "whole" / "ranks.f32").norms, by_hand(2, 30, bad_rank=1)[0], rtol=1e-3
    )
    cut = project.folder / "cut"
    for rows in (None, 3, 25):  # none, as of an older version; too few; and some more than the trace
        shutil.rmtree(cut, ignore_errors=True)
        shutil.copytree(project.folder / "whole", cut)
        lines = (cut / "trace.jsonl").read_bytes().splitlines(keepends=True)
        (cut / "trace.jsonl").write_bytes(b"".join(lines[:20]) + lines[20][:30])
        header = whole.index(b"\n") + 1
        (cut / "ranks.f32").write_bytes(whole[: header + 8 * (rows or 0) + 3])
        if rows is None:
            (cut / "ranks.f32").unlink()
        fields = info(cut) | {"status": "running"}
        (cut / "run.json").write_text(json.dumps(fields))
        again = together(project, environment, 2, "profile", "spec.yaml", "-q", "-o", "cut", "--resume")
        assert again.returncode == 0, again.stderr
        assert (cut / "ranks.f32").read_bytes() == whole
        assert len(trace(cut)) == 30
        assert sorted(p.name for p in cut.iterdir()) == ["layers.f32", "ranks.f32", "run.json", "trace.jsonl"]
    spec(project, name="one")
    one = alone(project, environment, "profile", "one.yaml", "-o", "cut", "--force")
    assert one.returncode == 0, one.stderr
    assert sorted(p.name for p in cut.iterdir()) == ["layers.f32", "run.json", "trace.jsonl"]


def test_a_run_that_is_lost_at_once_keeps_the_ranks_of_its_guarded_steps(
    project: Project, environment: dict[str, str]
) -> None:
    model = {"_target_": "torch.nn.Linear", "in_features": 5, "out_features": 1}
    optimizer = {"_target_": "torch.optim.SGD", "lr": 3.0}
    spec(project, parallel="ddp", model=model, optimizer=optimizer, steps=60)
    done = together(project, environment, 2, "profile", "spec.yaml", "-q")
    assert done.returncode == 0, done.stderr
    folder = project.folder / "runs" / "spec"
    kept = read_layers(folder / "guarded-ranks.f32")
    assert (len(kept.norms), len(trace(folder, "guarded.jsonl"))) == (60, 60)
    assert len(read_layers(folder / "ranks.f32").norms) == len(trace(folder))
    spread = kept.norms.max(axis=1) / kept.norms.mean(axis=1)
    np.testing.assert_allclose([row["rank_spread"] for row in trace(folder, "guarded.jsonl")], spread, rtol=1e-5)
    assert not list(folder.glob("*.partial"))


@pytest.mark.parametrize(("precision", "tolerance"), [("bf16", 0.03), ("fp16", 0.005)])
def test_half_precision_on_two_ranks(
    project: Project, environment: dict[str, str], precision: str, tolerance: float
) -> None:
    """Norms under a GradScaler are those of the unscaled gradients, also the ranks' own."""
    spec(project, name="ranks", parallel="ddp", precision=precision)
    done = together(project, environment, 2, "profile", "ranks.yaml", "-q")
    assert done.returncode == 0, done.stderr
    rows = trace(project.folder / "runs" / "ranks")
    skipped = [row["step"] for row in rows if row.get("skipped")]
    assert (precision == "fp16") >= bool(skipped)
    assert len(skipped) < 10
    taken = np.setdiff1d(np.arange(20), skipped)
    local, whole = by_hand(2, 20, skipped=skipped)
    kept = read_layers(project.folder / "runs" / "ranks" / "ranks.f32").norms
    np.testing.assert_allclose(kept[taken], local[taken], rtol=tolerance)
    np.testing.assert_allclose([rows[i]["grad_norm"] for i in taken], whole[taken], rtol=tolerance)
    if precision == "bf16":  # the losses of micro-batches are halved, so that a scaler drops other steps
        spec(project, name="one", accumulate=2, precision=precision)
        one = alone(project, environment, "profile", "one.yaml", "-q")
        assert one.returncode == 0, one.stderr
        for ours, single in zip(rows, trace(project.folder / "runs" / "one"), strict=True):
            for key in ("grad_norm", "grad_max", "loss"):
                assert ours[key] == pytest.approx(single[key], rel=1e-2), (key, ours["step"])


def test_shards_have_no_scaler(project: Project, environment: dict[str, str]) -> None:
    spec(project, parallel="fsdp2", precision="fp16")
    done = together(project, environment, 2, "profile", "spec.yaml", "-q")
    assert done.returncode != 0
    errors = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    assert len(errors) == 1
    assert "Use bf16" in errors[0]


def test_arms_of_ranks_are_traces_alone(project: Project, environment: dict[str, str]) -> None:
    spec(project, parallel="ddp")
    done = together(project, environment, 2, "calibrate", "spec.yaml", "--seeds", "1", "-q", "--json")
    assert "Traceback" not in done.stderr.replace("torchrun", ""), done.stderr
    arms = project.folder / "runs" / "spec" / "arms"
    assert list(arms.glob("*.jsonl"))
    assert not list(arms.glob("*.f32"))


def test_clipping_on_shards_is_clipping_of_the_whole(project: Project, environment: dict[str, str]) -> None:
    spec(project, name="ranks", parallel="fsdp2")
    spec(project, name="one", accumulate=2)
    both = ("verify", "--max-norm", "0.5", "--seeds", "1", "-q")
    for command in (("profile", "ranks.yaml", "-q"), (both[0], "runs/ranks", *both[1:])):
        done = together(project, environment, 2, *command)
        assert "Traceback" not in done.stderr.replace("torchrun", ""), done.stderr
    for command in (("profile", "one.yaml", "-q"), (both[0], "runs/one", *both[1:])):
        alone(project, environment, *command)
    arms = [project.folder / "runs" / name / "arms" for name in ("ranks", "one")]
    ours, single = (trace(arm, "max_norm=0.5-seed0.jsonl") for arm in arms)
    same(ours, single, "grad_norm", "loss", "scale")
    assert any(row["scale"] < 1 for row in ours)


def test_a_rank_that_fails_ends_the_run_with_its_reason(project: Project, environment: dict[str, str]) -> None:
    spec(project, parallel="ddp", data={"_target_": "net.batches", "fails_on": "1"})
    done = run(project, environment, torchrun(project, 2, "profile", "spec.yaml", "-q", python=sys.executable))
    assert done.returncode != 0
    assert "net.py" in done.stderr, "the user's own traceback"
    assert "error: Rank 1 failed: The data raised ValueError: a shard that cannot be read" in done.stderr, done.stderr
    folder = project.folder / "runs" / "spec"
    assert len(trace(folder)) == 10
    assert (info(folder)["status"], "a shard that cannot be read" in info(folder)["reason"]) == ("failed", True)


def ranks_of(project: Project) -> dict[str, int]:
    """The processes that train in the project's folder, by their rank."""
    found = {}
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            variables = dict(v.partition("=")[::2] for v in (entry / "environ").read_text().split("\0"))
            waits_for_a_fork = "-IS" in (entry / "cmdline").read_text().split("\0")
            if "RANK" in variables and (entry / "cwd").readlink() == project.folder and not waits_for_a_fork:
                found[variables["RANK"]] = int(entry.name)
        except (OSError, ValueError):
            continue
    return found


def begin(project: Project, environment: dict[str, str], command: list[str]) -> subprocess.Popen[str]:
    """Started, with some rows recorded."""
    process = subprocess.Popen(
        command, cwd=project.folder, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    file = project.folder / "runs" / "spec" / "trace.jsonl"
    until = time.monotonic() + 60
    while not (file.exists() and file.read_bytes().count(b"\n") > 20):
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < until
        time.sleep(0.05)
    return process


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")
def test_a_rank_is_killed(project: Project, environment: dict[str, str]) -> None:
    spec(project, parallel="ddp", steps=2000, data={"_target_": "net.batches", "wait": 0.005})
    process = begin(project, environment, torchrun(project, 2, "profile", "spec.yaml", "-q"))
    children = ranks_of(project)
    os.kill(children["1"], signal.SIGKILL)
    _, stderr = process.communicate(timeout=60)
    assert process.returncode != 0
    assert "error: Another rank is gone" in stderr, stderr
    folder = project.folder / "runs" / "spec"
    assert [row["step"] for row in trace(folder)] == list(range(len(trace(folder))))
    assert len(read_layers(folder / "ranks.f32").norms) >= len(trace(folder)) > 20
    assert info(folder)["status"] == "failed"
    assert not Path(f"/proc/{children['0']}").exists()


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")
def test_ctrl_c(project: Project, environment: dict[str, str]) -> None:
    """All ranks stop after the same step, and what is said to go on with is how it was begun."""
    spec(project, parallel="ddp", steps=2000, data={"_target_": "net.batches", "wait": 0.005})
    process = begin(project, environment, torchrun(project, 2, "profile", "spec.yaml"))
    process.send_signal(signal.SIGINT)  # torchrun tells its ranks
    _, stderr = process.communicate(timeout=60)
    assert "interrupted after step" in stderr
    assert "torchrun --nproc-per-node 2 -m clipcal profile spec.yaml" in stderr
    folder = project.folder / "runs" / "spec"
    assert info(folder)["status"] == "interrupted"
    assert len(trace(folder)) > 20


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")
def test_torchrun_starts_them_again(project: Project, environment: dict[str, str]) -> None:
    """The run goes on: no row twice, none lost, and the same as without the accident."""
    spec(project, parallel="ddp", steps=120, data={"_target_": "net.batches", "wait": 0.01})
    again = torchrun(project, 2, "profile", "spec.yaml", "-q", options=("--max-restarts", "1"))
    process = begin(project, environment, again)
    os.kill(ranks_of(project)["1"], signal.SIGKILL)
    _, stderr = process.communicate(timeout=120)
    assert process.returncode == 0, stderr
    folder = project.folder / "runs" / "spec"
    assert info(folder)["status"] == "complete"
    rows = trace(folder)
    assert [row["step"] for row in rows] == list(range(120))
    spec(project, name="one", accumulate=2, steps=120)
    run(project, environment, [str(PYTHON), "-m", "clipcal", "profile", "one.yaml", "-q"])
    same(rows, trace(project.folder / "runs" / "one"), "grad_norm", "loss")
    np.testing.assert_allclose(read_layers(folder / "ranks.f32").norms, by_hand(2, 120)[0], rtol=1e-3)


@pytest.mark.parametrize(
    ("kind", "ranks", "words", "said"),
    [
        ("ddp", 1, ("profile", "spec.yaml"), "torchrun --nproc-per-node"),
        ("none", 2, ("profile", "spec.yaml"), "parallel: ddp"),
        ("fsdp2", 2, ("profile", "spec.yaml", "--steps", "0"), "--steps"),
    ],
)
def test_usage(
    project: Project, environment: dict[str, str], kind: str, ranks: int, words: tuple[str, ...], said: str
) -> None:
    """Said once, and nobody is left waiting."""
    spec(project, parallel=kind)
    command = torchrun(project, ranks, *words) if ranks > 1 else [str(PYTHON), "-m", "clipcal", *words]
    done = run(project, environment, command)
    assert done.returncode != 0
    errors = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    assert len(errors) == 1
    assert said in errors[0]


def test_what_trains_nothing_is_not_for_ranks_together(project: Project, environment: dict[str, str]) -> None:
    """A script under torchrun may ask something of clipcal on any rank: nobody waits for the others."""
    (project.folder / "log.jsonl").write_text(
        "".join(f'{{"step": {i}, "grad_norm": {1 + i % 7 / 10}}}\n' for i in range(99))
    )
    launched = environment | {
        "RANK": "1",
        "LOCAL_RANK": "1",
        "WORLD_SIZE": "2",
        "MASTER_ADDR": "nowhere",
        "MASTER_PORT": "1",
    }
    command = [str(PYTHON), "-m", "clipcal", "check", "log.jsonl", "--max-norm", "9"]
    assert run(project, launched, command).stdout == run(project, environment, command).stdout != ""


def test_arms_are_trained_as_the_profile_was(project: Project, environment: dict[str, str]) -> None:
    spec(project, parallel="ddp")
    assert together(project, environment, 2, "profile", "spec.yaml", "-q").returncode == 0
    by_itself = alone(project, environment, "verify", "runs/spec", "--max-norm", "1")
    assert by_itself.returncode == 2
    assert "torchrun --nproc-per-node 2 -m clipcal verify" in by_itself.stderr


def test_measuring_shards_takes_two_small_collectives(
    environment: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever the number of tensors (here 40), and no copy of a gradient."""
    for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK"):
        monkeypatch.delenv(name, raising=False)
    assert collectives() == {"c10d.allreduce_": 2}
    params = model_on_meta()
    assert sum(p.numel() for p in params) == pytest.approx(70.55e9, rel=1e-3), "what its paper says"
    made, shard = allocated(params)
    assert made < 0.05 * shard
