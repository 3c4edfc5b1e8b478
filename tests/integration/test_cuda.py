"""On a GPU: the norms of the CPU, no step that waits, and the same training with us and without. Skipped where there is none.

What can be said without one is in test_no_sync.py and test_pretended_device.py.
"""

from __future__ import annotations

import copy
import importlib.util
import itertools
import json
import math
import subprocess
import sys
import warnings
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from conftest import Clipcal, Project, rows_of
from torch import Tensor, nn

import clipcal as api
from benchmarks.on_gpu import profiled, waits_in
from clipcal.errors import UserCodeError
from clipcal.run.layers import read_layers
from clipcal.run.step import Step
from clipcal.training.gradnorm import measure
from clipcal.training.loop import Observation, Parts, train
from clipcal.training.recorder import Recorder

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="torch sees no GPU")

CUDA = torch.device("cuda")
STEPS = 20
MODELS = '''
class Deep(nn.Module):
    """No dropout: a GPU draws other numbers than the CPU."""
    def __init__(self, width=64):
        super().__init__()
        self.net = nn.Sequential(nn.Linear(4, width), nn.LayerNorm(width), nn.GELU(), nn.Linear(width, width), nn.Tanh(), nn.Linear(width, 1))
    def forward(self, x):
        return self.net(x)

def compiled(mode="default"):
    return torch.compile(Deep(), mode=mode)

def overflowing(at=12, seed=0):
    for i, (x, y) in enumerate(batches(seed=seed)):
        yield (1e30 * x if i == at else x), y
'''
SPEC: dict[str, Any] = {"model": {"_target_": "toy.Deep"}, "steps": STEPS}
SCRIPT = """
import torch
from torch import nn

torch.manual_seed(0)
model = nn.Sequential(nn.Linear(4, 16), nn.Tanh(), nn.Linear(16, 1)).to("cuda")
optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
g = torch.Generator().manual_seed(0)
for step in range(30):
    x = torch.randn(8, 4, generator=g)
    loss = nn.functional.mse_loss(model(x.to("cuda")), x.sum(1, keepdim=True).to("cuda"))
    optimizer.zero_grad()
    loss.backward()
    torch.nn.utils.clip_grad_norm_(model.parameters(), 0.5)
    optimizer.step()
"""
RANK = """
import json
import os
import sys
import torch
from torch import nn
from clipcal.training.parallel.group import Group
from clipcal.training.parallel.spreading import Together, spread
from clipcal.sources.ranks import Ranks
from clipcal.training.loop import Parts, train

device = torch.device("cuda", 0)
group = Group(Ranks(rank=0, world=1, local_rank=0))
group.begin(device)
torch.manual_seed(0)
inner = nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 1)).to(device)
model = spread(inner, sys.argv[1], device)
batch = torch.ones(8, 4), torch.ones(8, 1)
parts = Parts(
    model=model,
    inner=inner,
    data=lambda: [batch],
    batch_loss=lambda model, batch: nn.functional.mse_loss(model(batch[0]), batch[1]),
    optimizer=torch.optim.SGD(model.parameters(), lr=0.01),
    scheduler=None,
    device=device,
    ranks=Together(group, model),
)
seen = []
for step in train(parts, steps=8):
    seen.append(step.norms.total)
    if step.step == 2:
        torch.cuda.set_sync_debug_mode("error")
torch.cuda.set_sync_debug_mode("default")
print(json.dumps([t.item() for t in seen]))
sys.stdout.flush()
group.close()
"""


def waiting_is(mode: str) -> None:
    """``error``: from now on torch raises where an operation makes the host wait. It warns that it does not know all of them."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.cuda.set_sync_debug_mode(mode)


@pytest.fixture(autouse=True)
def _fp32_is_fp32() -> Iterator[None]:
    """TF32 has 10 bits of a mantissa, and no norm of it is that of the CPU to 1e-4."""
    matmul, cudnn = torch.backends.cuda.matmul, torch.backends.cudnn
    before = matmul.allow_tf32, cudnn.allow_tf32
    matmul.allow_tf32 = cudnn.allow_tf32 = False
    yield
    matmul.allow_tf32, cudnn.allow_tf32 = before
    waiting_is("default")


@pytest.fixture
def written(project: Project) -> Project:
    project.code(MODELS)
    project.spec(**SPEC)
    return project


def net(device: torch.device) -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(4, 32), nn.LayerNorm(32), nn.Tanh(), nn.Linear(32, 1)).to(device)


def batches(first: int = 0) -> Iterator[tuple[Tensor, Tensor]]:
    g = torch.Generator().manual_seed(0)
    for i in itertools.count():
        x = torch.randn(16, 4, generator=g)
        if i >= first:
            yield x, x.sum(1, keepdim=True)


def loss_of(model: nn.Module, batch: Any) -> Tensor:
    return nn.functional.mse_loss(model(batch[0]).float(), batch[1])


def parts(device: torch.device, precision: str = "fp32", batch_loss: Any = loss_of, first: int = 0) -> Parts:
    model = net(device)
    return Parts(
        model=model,
        data=lambda: batches(first),
        batch_loss=batch_loss,
        optimizer=torch.optim.AdamW(model.parameters(), lr=0.01),
        scheduler=None,
        device=device,
        precision=precision,
    )


def never(recorded: list[Step] | None = None) -> Recorder:
    """A recorder that fetches when it is told to."""
    kept: list[Step] = [] if recorded is None else recorded
    return Recorder(num_tensors=6, sink=lambda steps, rows: kept.extend(steps), batch=10**9, seconds=math.inf)


# The norms are those of the CPU


@pytest.mark.parametrize("norm_type", [2.0, 1.0, math.inf], ids=["L2", "L1", "inf"])
def test_a_spec_has_the_norms_that_it_has_on_the_cpu(written: Project, clipcal: Clipcal, norm_type: float) -> None:
    written.spec(**SPEC | {"clip": {"norm_type": norm_type}})
    for device, out in (("cpu", "here"), ("cuda", "there")):
        clipcal("profile", "spec.yaml", "--device", device, "--out", out).ok()
    here, there = (rows_of(written.folder / out / "trace.jsonl") for out in ("here", "there"))
    assert len(here) == len(there) == STEPS
    for key in ("loss", "grad_norm"):
        np.testing.assert_allclose([r[key] for r in there], [r[key] for r in here], rtol=1e-4, err_msg=key)
    assert there[0]["grad_max"] == pytest.approx(here[0]["grad_max"], rel=1e-4)
    np.testing.assert_allclose([r["grad_max"] for r in there], [r["grad_max"] for r in here], rtol=1e-3)
    layers = [read_layers(written.folder / out / "layers.f32") for out in ("here", "there")]
    assert layers[0].names == layers[1].names
    np.testing.assert_allclose(layers[1].norms[0], layers[0].norms[0], rtol=1e-4)
    np.testing.assert_allclose(layers[1].norms, layers[0].norms, rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("norm_type", [1.0, 2.0, math.inf])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16, torch.float64])
def test_norms_of_any_precision_are_those_of_float64(dtype: torch.dtype, norm_type: float) -> None:
    g = torch.Generator().manual_seed(0)
    grads = [torch.randn(shape, generator=g).to(dtype) for shape in ((1000, 1000), (30, 40), (7,), ())]
    norms = measure([x.to(CUDA) for x in grads], norm_type)
    wide = [x.double().numpy().ravel() for x in grads]
    per_tensor = [np.linalg.norm(x, norm_type) for x in wide]
    assert norms.total.device.type == norms.per_tensor.device.type == "cuda"
    assert norms.per_tensor.dtype == (torch.float64 if dtype is torch.float64 else torch.float32)
    np.testing.assert_allclose(norms.per_tensor.cpu().numpy(), per_tensor, rtol=1e-5)
    assert norms.total.item() == pytest.approx(np.linalg.norm(np.concatenate(wide), norm_type), rel=1e-5)
    assert norms.grad_max.item() == max(np.abs(x).max() for x in wide)


def test_gradients_of_two_precisions_and_one_on_the_cpu_are_one_norm() -> None:
    grads = [
        torch.full((4,), 3.0),
        torch.full((4,), 4.0, device=CUDA, dtype=torch.bfloat16),
        torch.zeros(0, device=CUDA),
    ]
    waiting_is("error")
    norms = measure(grads, 2.0)
    waiting_is("default")
    assert norms.total.item() == pytest.approx(10.0)
    assert norms.per_tensor.tolist() == pytest.approx([6.0, 8.0, 0.0])
    assert norms.grad_max.item() == 4.0


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_one_bad_element_shows(value: float) -> None:
    norms = measure([torch.ones(4, device=CUDA), torch.tensor([1.0, value, 2.0], device=CUDA)], 2.0)
    assert str(norms.total.item()) == str(abs(value))
    assert str(norms.grad_max.item()) == str(abs(value))


# No step waits


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_no_step_waits_between_fetches(precision: str) -> None:
    """torch raises where an operation makes the host wait."""
    recorded: list[Step] = []
    recorder = never(recorded)
    for step in train(parts(CUDA, precision), steps=STEPS):
        recorder.add(step)
        waiting_is("error")
    waiting_is("default")
    recorder.flush()
    assert len(recorded) == STEPS


def test_a_loss_that_is_logged_would_be_seen() -> None:
    def logged(model: nn.Module, batch: Any) -> Tensor:
        loss = loss_of(model, batch)
        loss.item()
        return loss

    waiting_is("error")
    with pytest.raises(UserCodeError, match="synchronizing"):
        list(train(parts(CUDA, batch_loss=logged), steps=1))


def plain_steps(precision: str, start: Callable[[], AbstractContextManager[Any]], after: int, steps: int) -> Any:
    """The loop by hand; what ``start`` gives is open for its last steps."""
    own = parts(CUDA, precision)
    scaler = torch.amp.GradScaler("cuda") if precision == "fp16" else None
    dtype = {"bf16": torch.bfloat16, "fp16": torch.float16}.get(precision)
    feed = batches()

    def step() -> None:
        batch = [t.to(CUDA, non_blocking=True) for t in next(feed)]
        own.optimizer.zero_grad(set_to_none=True)
        cast: AbstractContextManager[Any] = torch.autocast("cuda", dtype=dtype) if dtype else nullcontext()
        with cast:
            loss = loss_of(own.model, batch)
        torch.autograd.backward(scaler.scale(loss) if scaler else loss)
        if scaler:
            scaler.unscale_(own.optimizer)
            scaler.step(own.optimizer)
            scaler.update()
        else:
            own.optimizer.step()

    for _ in range(after):
        step()
    with start() as seen:
        for _ in range(steps):
            step()
    return seen


@pytest.mark.parametrize("precision", ["fp32", "bf16", "fp16"])
def test_the_host_waits_no_more_often_than_in_a_loop_by_hand(precision: str) -> None:
    """As torch's profiler sees it. A GradScaler asks by itself whether it may step."""
    by_hand = plain_steps(precision, lambda: profiled(CUDA), after=5, steps=10)
    recorder = never()
    training = train(parts(CUDA, precision), steps=16)
    for step in itertools.islice(training, 5):
        recorder.add(step)
    with profiled(CUDA) as ours:
        for step in itertools.islice(training, 10):
            recorder.add(step)
    assert waits_in(ours) == waits_in(by_hand)
    recorder.flush()


# fp16


def test_norms_of_fp16_are_unscaled() -> None:
    steps: list[Step] = []
    recorder = never(steps)
    for step in train(parts(CUDA, "fp16"), steps=STEPS):
        recorder.add(step)
    recorder.flush()
    first = next(i for i, s in enumerate(steps) if not s.skipped)  # a scale that is too large drops the first ones
    observed: list[Observation] = list(train(parts(CUDA, first=first), steps=1))
    assert steps[first].grad_norm == pytest.approx(float(observed[0].norms.total), rel=0.03)
    assert steps[first].grad_max == pytest.approx(float(observed[0].norms.grad_max), rel=0.05)
    assert steps[first].loss == pytest.approx(float(observed[0].loss), rel=0.03)


def test_a_step_that_overflows_is_skipped_and_no_spike(written: Project, clipcal: Clipcal) -> None:
    written.spec(**SPEC | {"data": {"_target_": "toy.overflowing", "at": 40}, "precision": "fp16", "steps": 100})
    clipcal("profile", "spec.yaml", "--device", "cuda").ok()
    rows = rows_of(written.run() / "trace.jsonl")
    assert rows[40]["skipped"]
    assert not any(r.get("skipped") for r in rows[41:])
    answer = clipcal("recommend", "runs/spec", "--json").json()
    assert 40 not in answer["spikes"]["steps"]


# torch.compile


@pytest.mark.skipif(importlib.util.find_spec("triton") is None, reason="torch.compile needs triton on a GPU")
@pytest.mark.parametrize("mode", ["default", "reduce-overhead"])
def test_a_compiled_model_has_the_norms_of_the_model(
    written: Project, clipcal: Clipcal, clipcal_process: Clipcal, mode: str
) -> None:
    """With CUDA graphs (reduce-overhead) the next step writes to where the last one's tensors were."""
    clipcal("profile", "spec.yaml", "--device", "cuda", "--out", "eager").ok()
    written.spec(**SPEC | {"model": {"_target_": "toy.compiled", "mode": mode}})
    clipcal_process("profile", "spec.yaml", "--device", "cuda", "--out", "compiled").ok()
    eager, compiled = (rows_of(written.folder / name / "trace.jsonl") for name in ("eager", "compiled"))
    for key in ("loss", "grad_norm", "grad_max"):
        np.testing.assert_allclose([r[key] for r in compiled], [r[key] for r in eager], rtol=1e-3, err_msg=key)


# A script of somebody's


def loop(model: nn.Module, watch: Callable[[torch.optim.Optimizer], Any], scaled: bool) -> tuple[list[float], Any]:
    """A loop with a clip call; gives its losses, and what ``watch`` made of its optimizer."""
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.01)
    scaler = torch.amp.GradScaler("cuda", enabled=scaled)
    watched, losses = watch(optimizer), []
    for _, (x, y) in zip(range(60), batches(), strict=False):
        optimizer.zero_grad()
        with torch.autocast("cuda", dtype=torch.float16, enabled=scaled):
            loss = loss_of(model, (x.to(CUDA), y.to(CUDA)))
        torch.autograd.backward(scaler.scale(loss))
        scaler.unscale_(optimizer)
        nn.utils.clip_grad_norm_(model.parameters(), 0.5)
        scaler.step(optimizer)
        scaler.update()
        losses.append(loss.detach())
    return torch.stack(losses).tolist(), watched


@pytest.mark.parametrize("scaled", [False, True], ids=["fp32", "fp16"])
def test_a_watched_loop_is_the_loop_bit_for_bit(tmp_path: Path, scaled: bool) -> None:
    alone, model = net(CUDA), net(CUDA)
    expected, _ = loop(alone, lambda optimizer: None, scaled)
    losses, watch = loop(model, lambda optimizer: api.watch(model, optimizer, tmp_path / "run"), scaled)
    watch.close()
    assert losses == expected
    for p, q in zip(alone.parameters(), model.parameters(), strict=True):
        assert torch.equal(p, q)
    trace = api.read_trace(tmp_path / "run" / "trace.jsonl")
    assert len(trace) == 60
    np.testing.assert_allclose(trace.loss, expected, rtol=1e-6)
    assert watch.run.info.device.startswith("cuda")


def test_a_watched_step_does_not_wait(tmp_path: Path) -> None:
    model = net(CUDA)
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.01)

    def step(x: Tensor, y: Tensor) -> None:
        optimizer.zero_grad()
        torch.autograd.backward(loss_of(model, (x.to(CUDA, non_blocking=True), y.to(CUDA, non_blocking=True))))
        nn.utils.clip_grad_norm_(model.parameters(), 0.5)
        optimizer.step()

    feed = batches()
    for _ in range(3):
        step(*next(feed))
    torch.cuda.synchronize()
    before = copy.deepcopy([p.detach() for p in model.parameters()])
    with api.watch(model, optimizer, tmp_path / "run"):
        waiting_is("error")
        for _ in range(10):  # sooner over than the half second after which it fetches
            step(*next(feed))
        waiting_is("default")
    assert len(api.read_trace(tmp_path / "run" / "trace.jsonl")) == 10
    assert not torch.equal(before[0], next(model.parameters()))


def test_a_script_as_it_is(project: Project, clipcal: Clipcal) -> None:
    project.code(SCRIPT, "train.py")
    clipcal("profile", "train.py", "-n", 20, "--quiet").ok()
    rows = rows_of(project.run("train") / "trace.jsonl")
    assert [r["step"] for r in rows] == list(range(20))
    clipcal("profile", "train.py", "-n", 20, "--quiet", "--out", "again").ok()
    again = rows_of(project.folder / "again" / "trace.jsonl")
    np.testing.assert_allclose([r["grad_norm"] for r in again], [r["grad_norm"] for r in rows], rtol=1e-5)


# The commands


@pytest.mark.parametrize("device", ["cuda", "cuda:0", "auto"])
def test_the_commands(written: Project, clipcal: Clipcal, device: str) -> None:
    written.spec(**SPEC | {"steps": 120, "device": "cpu"})
    clipcal("profile", "spec.yaml", "--device", device).ok()
    run = api.open_run(written.run())
    assert run.info.device.startswith("cuda")
    assert len(api.read_trace(run.trace)) == 120
    answer = clipcal("recommend", "runs/spec", "--json").json()
    assert answer["verdict"] in ("stable", "spikes", "heavy_tail")
    assert answer["max_norm"] > 0


def test_arms_are_trained_on_the_gpu_too(written: Project, clipcal_process: Clipcal) -> None:
    written.spec(**SPEC | {"steps": 100})
    clipcal_process("profile", "spec.yaml", "--device", "cuda", "--quiet").ok()
    answer = clipcal_process("verify", "runs/spec", "--max-norm", 1000, "--seeds", 1, "--quiet", "--json")
    assert answer.code in (0, 3), answer.stderr
    clipped = next(arm for arm in answer.json()["arms"] if arm["max_norm"] == 1000)
    assert clipped["clip_fraction"] == 0.0
    assert clipped["steps"] == 100


# Ranks


def torchrun(
    project: Project, environment: dict[str, str], ranks: int, *words: str
) -> subprocess.CompletedProcess[str]:
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(ranks)]
    root = str(Path(__file__).parents[2])
    return subprocess.run(
        [*launch, *words],
        cwd=project.folder,
        env=environment | {"PYTHONPATH": root},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )


needs_nccl = pytest.mark.skipif(
    not (torch.distributed.is_available() and torch.distributed.is_nccl_available()), reason="torch without nccl"
)


@needs_nccl
@pytest.mark.parametrize("kind", ["ddp", "fsdp2"])
def test_a_rank_does_not_wait_for_its_collectives(project: Project, environment: dict[str, str], kind: str) -> None:
    """One rank, with the collectives that several make."""
    project.code(RANK, "rank.py")
    done = torchrun(project, environment, 1, "rank.py", kind)
    assert done.returncode == 0, done.stderr
    norms = json.loads(done.stdout.splitlines()[-1])
    assert len(norms) == 8
    assert norms[0] > norms[-1] > 0


@needs_nccl
@pytest.mark.skipif(torch.cuda.device_count() < 2, reason="needs two GPUs")
@pytest.mark.parametrize("kind", ["ddp", "fsdp2"])
def test_two_ranks_are_one_process_on_the_joined_batch(
    written: Project, clipcal: Clipcal, environment: dict[str, str], kind: str
) -> None:
    written.spec("ranks.yaml", **SPEC | {"parallel": kind, "device": "cuda"})
    written.spec("one.yaml", **SPEC | {"accumulate": 2})
    done = torchrun(written, environment, 2, "-m", "clipcal", "profile", "ranks.yaml", "--quiet")
    assert done.returncode == 0, done.stderr
    clipcal("profile", "one.yaml", "--device", "cuda", "--quiet").ok()
    ranks, one = (rows_of(written.run(name) / "trace.jsonl") for name in ("ranks", "one"))
    for key in ("loss", "grad_norm"):
        np.testing.assert_allclose([r[key] for r in ranks], [r[key] for r in one], rtol=1e-4, err_msg=key)
