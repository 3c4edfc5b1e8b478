"""Scripts under torchrun: the norm of a step is the global one, whatever part of it a rank holds."""

from __future__ import annotations

import subprocess
from pathlib import Path

import numpy as np
import pytest
import torch
from nursery import PYTHON
from script_runs import PROLOGUE, Kind, check, environment

from clipcal.run.layers import read_layers
from clipcal.run.trace import read_trace

pytestmark = pytest.mark.skipif(not torch.distributed.is_available(), reason="torch without torch.distributed")

RANKS = """
import os
import torch.distributed as dist

dist.init_process_group("gloo")
rank, world = dist.get_rank(), dist.get_world_size()
net = nn.Sequential(nn.Linear(8, 17), nn.Tanh(), nn.Linear(17, 3), nn.Linear(3, 1))
"""
LOOP = """
g = torch.Generator().manual_seed(rank)
for step in range(args.steps):
    x = torch.randn(8, 8, generator=g)
    optimizer.zero_grad()
    loss = nn.functional.mse_loss(model(x), x.sum(1, keepdim=True))
    loss.backward()
    note_global(model)
    if args.clip:
        torch.nn.utils.clip_grad_norm_(model.parameters(), args.clip)
    optimizer.step()
finish_on_ranks(model)
dist.barrier()
os._exit(0)  # gloo's threads may abort the process while the interpreter takes itself apart
"""
DDP = (
    PROLOGUE
    + RANKS
    + """
from torch.nn.parallel import DistributedDataParallel

model = DistributedDataParallel(net)
optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)


def note_global(model):
    note(model.parameters())


def finish_on_ranks(model):
    if rank == 0:
        finish(model.module)

"""
    + LOOP
)
FSDP2 = (
    PROLOGUE
    + RANKS
    + """
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard

mesh = init_device_mesh("cpu", (world,))
fully_shard(net[0], mesh=mesh)
model = fully_shard(net, mesh=mesh)
optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)


def note_global(model):
    if args.norms:
        norms.append(float(torch.nn.utils.get_total_norm([p.grad for p in model.parameters()]).full_tensor()))


def finish_on_ranks(model):
    state = {k: v.full_tensor() for k, v in model.state_dict().items()}
    if rank == 0:
        model.state_dict = lambda: state
        finish(model)

"""
    + LOOP
)
KINDS = {"ddp": DDP, "fsdp2": FSDP2}


@pytest.mark.parametrize("name", KINDS)
def test_two_ranks(tmp_path: Path, name: str) -> None:
    (tmp_path / "train.py").write_text(KINDS[name])
    launch = ("-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2")
    run = check(Kind(tmp_path, "train.py", launch, steps=8), clip=1.0, force=0.5, real=name == "ddp")
    assert run.info.world_size == 2
    assert run.info.source.path == "train.py"
    layers, trace = read_layers(run.layers), read_trace(run.trace)
    assert list(layers.names) == [f"{i}.{kind}" for i in (0, 2, 3) for kind in ("weight", "bias")]
    np.testing.assert_allclose(np.linalg.norm(layers.norms, axis=1), trace.grad_norm, rtol=1e-6)


def test_flat_shards_are_refused(tmp_path: Path) -> None:
    """FSDP1 clips by a method of its own."""
    text = """
from torch.distributed.fsdp import FullyShardedDataParallel

model = FullyShardedDataParallel(net, device_id=torch.device("cpu"))
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
for step in range(20):
    optimizer.zero_grad()
    model(torch.randn(3, 8)).pow(2).mean().backward()
    model.clip_grad_norm_(1.0)
    optimizer.step()
os._exit(0)
"""
    (tmp_path / "train.py").write_text(PROLOGUE + RANKS + text)
    words = [str(PYTHON), "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "1", "train.py"]
    done = subprocess.run(
        [str(PYTHON), "-m", "clipcal", "profile", "--", *words],
        cwd=tmp_path,
        env=environment(),
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 2, done.stderr
    assert "FullyShardedDataParallel (FSDP1)" in done.stderr
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "runs").exists()
