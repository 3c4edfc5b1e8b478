"""What recording costs a model of 70 billion parameters on 512 GPUs, from pieces that can be measured on a laptop.

Measured here: the tensors and parameters of the model (on the meta device), what measuring a rank's shard allocates (torch's profiler),
what a step writes, what two ranks of gloo send in a step (``CommDebugMode``, in a torchrun of its own), and what rank 0 keeps until it
fetches. Taken from elsewhere: the memory bandwidth of an H100 (NVIDIA's data sheet: 3.35 TB/s for the SXM5), and a step that takes the
time of 6 FLOP per parameter and token at 40% of its 989 dense bf16 TFLOP/s (Kaplan et al. 2020, arXiv:2001.08361; PaLM's MFU of 46%,
arXiv:2204.02311).
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import torch
from torch import nn
from torch.profiler import ProfilerActivity, profile

from benchmarks.reporting import print_table, write_results
from clipcal.run.layers import LayersWriter
from clipcal.run.step import Step
from clipcal.run.trace import lines_of
from clipcal.training.gradnorm import measure
from clipcal.training.recorder import Recorder

LAYERS, WIDTH, HIDDEN, HEADS, KV_HEADS, VOCABULARY = 80, 8192, 28672, 64, 8, 128256
"""Llama 3 70B (Grattafiori et al. 2024, arXiv:2407.21783, table 3)."""
GPUS, TOKENS, STEPS = 512, 4 * 2**20, 300
BANDWIDTH, FLOPS = 3.35e12, 0.4 * 989e12
PART = 512
"""How much smaller the shard is that is measured than a GPU's."""

RANK = """
import json, os, torch
from torch import nn
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor.debug import CommDebugMode
from clipcal.training.parallel.ending import end_with
from clipcal.training.parallel.group import group_here
from clipcal.training.parallel.spreading import Together, spread
def count():
    group = group_here()
    group.begin(torch.device("cpu"))
    model = spread(nn.Sequential(*(nn.Linear(16, 16) for _ in range(20))), "fsdp2", torch.device("cpu"))
    loss = model(torch.randn(4, 16)).square().mean()
    loss.backward()
    together = Together(group, model)
    with CommDebugMode() as seen:
        together.measure([p.grad for p in model.parameters()], 2.0, loss.detach())
    if os.environ["RANK"] == "0":
        print(json.dumps({str(k): v for k, v in seen.get_comm_counts().items()}))
end_with(count)
"""


def model_on_meta() -> list[nn.Parameter]:
    """The parameters of the model, without their memory."""
    head = WIDTH // HEADS
    block = [(WIDTH,), (HEADS * head, WIDTH), (KV_HEADS * head, WIDTH), (KV_HEADS * head, WIDTH), (WIDTH, HEADS * head)]
    block += [(WIDTH,), (HIDDEN, WIDTH), (HIDDEN, WIDTH), (WIDTH, HIDDEN)]
    shapes = [(VOCABULARY, WIDTH), *(s for _ in range(LAYERS) for s in block), (WIDTH,), (VOCABULARY, WIDTH)]
    return [nn.Parameter(torch.empty(s, device="meta")) for s in shapes]


def allocated(params: list[nn.Parameter]) -> tuple[int, int]:
    """Bytes that measuring one rank's shard allocates in all, of a shard ``PART`` times smaller, and the bytes of its gradients."""
    grads = [torch.randn(max(p.numel() // GPUS // PART, 1)) for p in params]
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as seen:
        measure(grads, 2.0)
    made = sum(max(e.cpu_memory_usage, 0) for e in seen.events() if e.cpu_parent is None)
    return made, sum(g.numel() * g.element_size() for g in grads)


def written(num_tensors: int) -> int:
    """Bytes that ``STEPS`` steps leave on disk."""
    steps = [
        Step(step=i, loss=2.3456789, grad_norm=1.2345678, grad_max=0.0123456, lr=3e-4, seconds=8.1)
        for i in range(STEPS)
    ]
    with tempfile.TemporaryDirectory() as folder:
        writer = LayersWriter(
            Path(folder) / "layers.f32", [f"model.layers.{i}.self_attn.q_proj.weight" for i in range(num_tensors)], 2.0
        )
        writer.append(np.zeros((STEPS, num_tensors), dtype=np.float32))
        writer.close()
        return (Path(folder) / "layers.f32").stat().st_size + len(lines_of(steps))


def collectives() -> dict[str, int]:
    with tempfile.TemporaryDirectory() as folder:
        script = Path(folder) / "rank.py"
        script.write_text(RANK)
        launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", str(script)]
        done = subprocess.run(launch, capture_output=True, text=True, check=True)
    counts: dict[str, int] = json.loads(next(line for line in done.stdout.splitlines() if line.startswith("{")))
    return counts


def main() -> None:
    params = model_on_meta()
    num_parameters, num_tensors = sum(p.numel() for p in params), len(params)
    made, shard = allocated(params)
    local = num_parameters / GPUS
    step = 6 * num_parameters * TOKENS / (GPUS * FLOPS)
    reading = 2 * local * 4 / BANDWIDTH  # the norms and the largest elements, of float32 gradients
    sent = 8 * (num_tensors + 1) + 4
    pending = Recorder(num_tensors=num_tensors, sink=lambda steps, rows: None).batch * (num_tensors + 4) * 4
    counts = collectives()
    rows = [
        ("what", "amount", "measured"),
        ("parameters, tensors", f"{num_parameters / 1e9:.1f} billion, {num_tensors}", "meta device"),
        ("gradients on a GPU, float32", f"{local * 4 / 1e9:.2f} GB", "meta device"),
        (
            "allocated to measure them",
            f"{made / 1e3:.1f} KB",
            f"profiler, {made / shard:.1%} of a shard {PART} times smaller",
        ),
        ("kept on the GPU until fetched", f"{pending / 1e3:.0f} KB", "64 steps"),
        (
            "collectives a step",
            ", ".join(f"{n} {name.split('.')[-1]}" for name, n in counts.items()),
            "CommDebugMode, 2 ranks",
        ),
        ("sent by a rank in a step", f"{sent / 1e3:.1f} KB", "from the shapes"),
        ("gradients read", f"{reading * 1e3:.2f} ms a step", "bandwidth of the data sheet"),
        ("of a step of 4 million tokens", f"{reading / step:.4%} of {step:.1f} s", "6 FLOP, 40% MFU"),
        (f"written in {STEPS} steps", f"{written(num_tensors) / 1e6:.2f} MB", "files"),
    ]
    print_table(rows)
    write_results(
        "at_scale",
        {
            "num_parameters": num_parameters,
            "num_tensors": num_tensors,
            "allocated": made,
            "shard_measured": shard,
            "pending": pending,
            "collectives": counts,
            "sent": sent,
            "reading_seconds": reading,
            "step_seconds": step,
            "written": written(num_tensors),
        },
        gpus=GPUS,
        tokens=TOKENS,
        steps=STEPS,
    )


if __name__ == "__main__":
    main()
