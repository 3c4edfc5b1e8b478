"""The snippets for sharded models, on two processes: the gradients of both together are clipped as one."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import Any

import numpy as np
import pytest
import torch
from nursery import PYTHON

from clipcal.frameworks.snippets import snippet
from clipcal.frameworks.table import FRAMEWORKS
from clipcal.recommendation.answer import Method

MAX_NORM = 0.024
CASES: list[tuple[str, Method, float]] = [
    (name, method, norm_type)
    for name in ("fsdp", "fsdp2")
    for method in FRAMEWORKS[name].methods
    for norm_type in ((2.0,) if method == "value" else (2.0, 3.5, float("inf")))
]

# Each rank has batches of its own. With a rate of 1 the weights move by the clipped gradient.
WORKER = """\
import json, os, sys, warnings
import torch
from torch import distributed as dist, multiprocessing

def build():
    torch.manual_seed(0)
    return torch.nn.Sequential(torch.nn.Linear(6, 5), torch.nn.Tanh(), torch.nn.Linear(5, 3))

def batch(rank):
    return torch.randn(8, 6, generator=torch.Generator().manual_seed(rank))

def moved(text, kind, rank):
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import FullyShardedDataParallel, fully_shard
    if kind == "fsdp2":
        model = fully_shard(build(), mesh=init_device_mesh("cpu", (2,)))
        weights = lambda: [p.full_tensor().detach().clone() for p in model.parameters()]
    else:
        model = FullyShardedDataParallel(build(), device_id=torch.device("cpu"))
        def weights():
            with FullyShardedDataParallel.summon_full_params(model):
                return [p.detach().clone() for p in model.parameters()]
    optimizer = torch.optim.SGD(model.parameters(), lr=1.0)
    before = weights()
    names = {"torch": torch, "model": model, "optimizer": optimizer, "loss": 100 * model(batch(rank)).square().mean()}
    exec(text, names)
    reported = names.get("grad_norm")
    return {
        "moved": [(b - a).tolist() for b, a in zip(before, weights())],
        "reported": None if reported is None else float(reported.full_tensor()),
    }

def work(rank, folder):
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=2)
    asked = json.loads(open(f"{folder}/asked.json").read())
    answers = [moved(text, kind, rank) for kind, text in asked]
    if rank == 0:
        with open(f"{folder}/answers.json", "w") as f:
            f.write(json.dumps(answers))
    dist.barrier()
    os._exit(0)  # gloo's threads may abort the process while the interpreter takes itself apart

if __name__ == "__main__":
    multiprocessing.start_processes(work, (sys.argv[1],), nprocs=2, start_method="fork")
"""


@pytest.fixture(scope="module")
def answers(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    """What every case, and then the plain loop's snippet under FSDP1, did to the weights."""
    folder = tmp_path_factory.mktemp("sharded")
    asked = [(n, snippet(n, max_norm=MAX_NORM, method=m, norm_type=p)) for n, m, p in CASES]
    asked.append(("fsdp", snippet("pytorch", max_norm=MAX_NORM)))
    (folder / "asked.json").write_text(json.dumps(asked))
    (folder / "worker.py").write_text(WORKER)
    done = subprocess.run(
        [str(PYTHON), str(folder / "worker.py"), str(folder)],
        env=os.environ | {"OMP_NUM_THREADS": "1", "GLOO_SOCKET_IFNAME": "lo0" if sys.platform == "darwin" else "lo"},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    read: list[dict[str, Any]] = json.loads((folder / "answers.json").read_text())
    return read


@pytest.fixture(scope="module")
def exact() -> list[np.ndarray]:
    """The gradients of both ranks' batches, of the same model on one process."""
    torch.manual_seed(0)
    model = torch.nn.Sequential(torch.nn.Linear(6, 5), torch.nn.Tanh(), torch.nn.Linear(5, 3))
    batch = torch.cat([torch.randn(8, 6, generator=torch.Generator().manual_seed(rank)) for rank in (0, 1)])
    loss = 100 * model(batch).square().mean()
    return [g.numpy().astype(np.float64) for g in torch.autograd.grad(loss, list(model.parameters()))]


def clipped(gradients: list[np.ndarray], method: Method, norm_type: float) -> list[np.ndarray]:
    if method == "value":
        return [g.clip(-MAX_NORM, MAX_NORM) for g in gradients]
    if method == "per_tensor":
        return [g * min(1.0, MAX_NORM / float(np.linalg.norm(g.ravel(), norm_type))) for g in gradients]
    total = float(np.linalg.norm(np.concatenate([g.ravel() for g in gradients]), norm_type))
    return [g * min(1.0, MAX_NORM / total) for g in gradients]


@pytest.mark.parametrize("case", range(len(CASES)), ids=["-".join(map(str, case)) for case in CASES])
def test_clips_the_whole_gradient(case: int, answers: list[dict[str, Any]], exact: list[np.ndarray]) -> None:
    name, method, norm_type = CASES[case]
    moved = [np.asarray(g) for g in answers[case]["moved"]]
    for got, expected in zip(moved, clipped(exact, method, norm_type), strict=True):
        np.testing.assert_allclose(got, expected, rtol=2e-3, atol=2e-7)
    if (name, method) == ("fsdp2", "norm"):
        total = float(np.linalg.norm(np.concatenate([g.ravel() for g in exact]), norm_type))
        assert answers[case]["reported"] == pytest.approx(total, rel=1e-4)


def test_the_trap_is_one(answers: list[dict[str, Any]]) -> None:
    # Under FSDP1 torch's own function clips each of the two shards to the threshold: together the root of 2 too much.
    moved = np.concatenate([np.ravel(g) for g in answers[-1]["moved"]])
    assert np.linalg.norm(moved) == pytest.approx(MAX_NORM * 2**0.5, rel=1e-3)
