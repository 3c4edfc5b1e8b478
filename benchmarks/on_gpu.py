"""What recording costs on a GPU: steps of ``clipcal profile`` on a transformer of 100 million parameters in bf16, against the bare loop.

Time: twin models in one process take turns of a block of steps, in an order that is drawn anew each round. The host waits for the device
at the ends of a block and nowhere else, so what counts is wall time. The recorded arm is ``clipcal.training.profiling.profile`` itself, writing to
a temporary run; the other arms run inside its ``should_stop`` callback, as in ``overhead``. Beside it what people do today,
``torch.nn.utils.get_total_norm`` and ``.item()`` at every step.
Memory: the bare and the recorded arm in a process of their own, by ``torch.cuda.max_memory_allocated``.
Waiting: one more block of each arm under torch's profiler, and in it the calls in which the host waits for the device.

Exits with 1 where a target is missed beyond its interval, with 2 where there is no GPU. ``--device cpu --quick`` runs the same code on a
tiny model, and measures nothing.
"""

from __future__ import annotations

import argparse
import gc
import itertools
import json
import math
import random
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.profiler import ProfilerActivity, profile

from benchmarks.overhead import peak_memory
from benchmarks.reporting import judged, print_table, write_results
from benchmarks.watching import compare, print_arms
from benchmarks.workloads import GPT, NUM_BATCHES, SEED, VOCAB_SIZE, Batches

TARGET_TIME, TARGET_MEMORY = 1.01, 1.02
LR = 3e-4
WAITS = ("cudaStreamSynchronize", "cudaDeviceSynchronize", "cudaEventSynchronize", "Memcpy DtoH")
"""The calls of CUDA's runtime in which the host waits, as the profiler names them, and the copies that it waits for."""
LABELS = {"recorded": "clipcal", "item": "get_total_norm(...).item()"}
MEMORY_ARMS = ("bare", "recorded")


@dataclass(frozen=True, kw_only=True)
class Size:
    """A model, its batches, and how long it is looked at: ``block`` steps to a turn."""

    num_layers: int
    num_heads: int
    width: int
    seq_len: int
    batch_size: int
    block: int
    warm_up: int
    rounds: int
    quick_rounds: int

    @property
    def model(self) -> dict[str, int]:
        return {
            "num_layers": self.num_layers,
            "num_heads": self.num_heads,
            "width": self.width,
            "seq_len": self.seq_len,
        }


SIZES = {
    # GPT-2's width and heads, and nanoGPT's micro-batch for it. nanoGPT makes a step of 40 of these: here the step is shorter,
    # so that recording weighs more than it does there
    "cuda": Size(
        num_layers=14,
        num_heads=12,
        width=768,
        seq_len=1024,
        batch_size=12,
        block=20,
        warm_up=2,
        rounds=40,
        quick_rounds=8,
    ),
    "cpu": Size(
        num_layers=1, num_heads=2, width=16, seq_len=8, batch_size=2, block=4, warm_up=1, rounds=6, quick_rounds=3
    ),
}


def texts(batch_size: int, seq_len: int) -> Batches:
    """Eight batches, used again in turn by a spec's loop: nobody is charged for drawing data."""
    generator = torch.Generator().manual_seed(SEED)
    drawn = [torch.randint(VOCAB_SIZE, (batch_size, seq_len + 1), generator=generator) for _ in range(NUM_BATCHES)]
    return [(text[:, :-1].contiguous(), text[:, 1:].contiguous()) for text in drawn]


class ByHand:
    """The loop without clipcal, on the device, in bf16. With ``observe`` it asks for the norm at once, at every step."""

    def __init__(self, size: Size, device: torch.device, *, observe: bool = False) -> None:
        torch.manual_seed(SEED)
        self.model = GPT(**size.model).to(device)
        self.batches = itertools.cycle(texts(size.batch_size, size.seq_len))
        self.loss = nn.CrossEntropyLoss()
        self.optimizer = torch.optim.AdamW(self.model.parameters(), lr=LR)
        self.device, self.observe = device, observe
        self.losses: list[Tensor] = []
        self.norms: list[float] = []
        self.model.train()

    def step(self) -> None:
        inputs, target = (t.to(self.device, non_blocking=True) for t in next(self.batches))
        self.optimizer.zero_grad(set_to_none=True)
        with torch.autocast(self.device.type, dtype=torch.bfloat16):
            loss = self.loss(self.model(inputs), target)
        loss.backward()
        if self.observe:
            grads = [p.grad for p in self.model.parameters() if p.grad is not None]
            self.norms.append(torch.nn.utils.get_total_norm(grads).item())
        self.optimizer.step()
        self.losses.append(loss.detach())


@dataclass(kw_only=True)
class Blocks:
    """Lets the arms take turns, and keeps the seconds per step of every block. The last round is profiled, and not timed."""

    others: dict[str, Callable[[], None]]
    size: Size
    rounds: int
    device: torch.device
    seconds: dict[str, list[float]] = field(default_factory=dict)
    waits: dict[str, dict[str, float]] = field(default_factory=dict)
    _draw: random.Random = field(default_factory=lambda: random.Random(SEED))
    _recorded: int = 0
    _open: Any = None

    @property
    def steps(self) -> int:
        """Of each arm; and one more of the recorded arm's, after which it is not asked whether to stop."""
        return (self.size.warm_up + self.rounds + 1) * self.size.block + 1

    def after_recorded_step(self) -> bool:
        """The ``should_stop`` of the recorded arm: always no. Its first block has no beginning that can be seen, and is warm-up."""
        self._recorded += 1
        if self._recorded % self.size.block == 0:
            if self._open is not None:
                self._open.__exit__(None, None, None)
            for name in self._draw.sample(list(self.others), len(self.others)):
                with self._block(name):
                    for _ in range(self.size.block):
                        self.others[name]()
            self._open = self._block("recorded") if self._recorded + 1 < self.steps else None
            if self._open is not None:
                self._open.__enter__()
        return False

    @contextmanager
    def _block(self, arm: str) -> Iterator[None]:
        number = len(self.seconds.setdefault(arm, [])) + (arm == "recorded")
        if number == self.size.warm_up + self.rounds:
            with profiled(self.device) as seen:
                yield
            self.waits[arm] = {name: count / self.size.block for name, count in waits_in(seen).items()}
            return
        synchronize(self.device)
        before = time.perf_counter()
        yield
        synchronize(self.device)
        self.seconds[arm].append((time.perf_counter() - before) / self.size.block)

    def timed(self, arm: str) -> list[float]:
        return self.seconds[arm][-self.rounds :]


@contextmanager
def profiled(device: torch.device) -> Iterator[profile]:
    """torch's profiler, over work that is all done inside."""
    activities = [ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if device.type == "cuda" else [])]
    synchronize(device)
    with profile(activities=activities) as seen:
        yield seen
        synchronize(device)


def waits_in(seen: profile) -> Counter[str]:
    """How often the host waited for the device, by the name of the call, but for the one wait that ``profiled`` ends with."""
    found: Counter[str] = Counter()
    events: Any = seen.events()  # type: ignore[no-untyped-call]
    for event in events:
        for name in WAITS:
            found[name] += name in event.name
    found["cudaDeviceSynchronize"] -= 1
    return +found


def synchronize(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def spec_of(size: Size, device: torch.device, folder: str, steps: int) -> Any:
    from clipcal.sources.spec import load_spec

    data = {"batch_size": size.batch_size, "seq_len": size.seq_len}
    fields = {
        "model": {"_target_": "benchmarks.workloads.GPT", **size.model},
        "data": {"_target_": "benchmarks.on_gpu.texts", **data},
        "loss": {"_target_": "torch.nn.CrossEntropyLoss"},
        "optimizer": {"_target_": "torch.optim.AdamW", "lr": LR},
        "precision": "bf16",
        "device": str(device),
        "seed": SEED,
        "steps": steps,
    }
    file = Path(folder) / "spec.yaml"
    file.write_text(json.dumps(fields), encoding="utf-8")
    return load_spec(file)


def measure_time(size: Size, device: torch.device, rounds: int) -> dict[str, Any]:
    from clipcal.run.trace import read_trace
    from clipcal.training.profiling import profile as record

    arms = {
        "bare": ByHand(size, device),
        "bare, again": ByHand(size, device),
        "item": ByHand(size, device, observe=True),
    }
    blocks = Blocks(others={name: arm.step for name, arm in arms.items()}, size=size, rounds=rounds, device=device)
    gc.collect()
    with tempfile.TemporaryDirectory() as folder:
        spec = spec_of(size, device, folder, blocks.steps)
        run = record(
            spec, Path(folder) / "run", threads=torch.get_num_threads(), should_stop=blocks.after_recorded_step
        )
        trace = read_trace(run.trace)
    bare = torch.stack(arms["bare"].losses).tolist()
    ours = trace.loss[: len(bare)].tolist()
    # on a GPU attention's backward pass adds up in an order that is not the same twice: there, only the first loss has to be the same
    if not math.isclose(ours[0], bare[0], rel_tol=1e-3) or (device.type == "cpu" and ours != bare):
        sys.exit("The losses with and without recording differ, so the arms did not do the same work.")
    base = blocks.timed("bare")
    return {
        "parameters": sum(p.numel() for p in arms["bare"].model.parameters()),
        "tensors": len(list(arms["bare"].model.parameters())),
        "tokens": size.batch_size * size.seq_len,
        "rounds": rounds,
        "block": size.block,
        "arms": {arm: compare(blocks.timed(arm), base) for arm in ("bare", "bare, again", "recorded", "item")},
        "waits": blocks.waits,
        "losses_equal": ours == bare,
        "largest_loss_difference": max(abs(a - b) for a, b in zip(ours, bare, strict=True)),
    }


def memory_child(arm: str, size: Size, device: torch.device) -> None:
    """Train one arm in this process and print its peak."""
    steps = 2 * size.block
    if arm == "bare":
        by_hand = ByHand(size, device)
        for _ in range(steps):
            by_hand.step()
    else:
        from clipcal.training.profiling import profile as record

        with tempfile.TemporaryDirectory() as folder:
            record(spec_of(size, device, folder, steps), Path(folder) / "run", threads=torch.get_num_threads())
    on_gpu = device.type == "cuda"
    print(json.dumps({"peak": torch.cuda.max_memory_allocated(device) if on_gpu else peak_memory()}))


def measure_memory(device: torch.device) -> dict[str, Any]:
    peaks = {}
    for arm in MEMORY_ARMS:
        command = [sys.executable, "-m", "benchmarks.on_gpu", "--device", str(device), "--memory", arm]
        done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
        peaks[arm] = json.loads(done.stdout)["peak"]
    return {"peaks": peaks, "ratio": peaks["recorded"] / peaks["bare"]}


def print_results(results: dict[str, Any]) -> None:
    title = f"GPT, {results['parameters'] / 1e6:.1f} million parameters, {results['tokens']:,} tokens, bf16"
    print_arms("median ms", {title: results["arms"]}, LABELS)
    rows = [["waits of the host per step", *WAITS]]
    for arm, found in results["waits"].items():
        rows.append([LABELS.get(arm, arm), *(f"{found.get(name, 0.0):.2f}" for name in WAITS)])
    print_table(rows)
    peaks = results["memory"]["peaks"]
    mebibytes = [f"{peaks[arm] / 2**20:.1f}" for arm in MEMORY_ARMS]
    print_table(
        [["peak memory, MiB", *MEMORY_ARMS, "ratio"], ["allocated", *mebibytes, f"{results['memory']['ratio']:.4f}"]]
    )


def verdicts(results: dict[str, Any]) -> list[str]:
    recorded, ratio = results["arms"]["recorded"], results["memory"]["ratio"]
    answer = judged(recorded["paired_ratio"], *recorded["paired_interval"], at_most=TARGET_TIME)
    return [
        f"wall time x {recorded['paired_ratio']:.4f}, target <= {TARGET_TIME}: {answer}",
        f"peak memory x {ratio:.4f}, target <= {TARGET_MEMORY}: {judged(ratio, ratio, ratio, at_most=TARGET_MEMORY)}",
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description="What recording costs per step on a GPU.")
    parser.add_argument("--quick", action="store_true", help="fewer rounds: a look, not a result")
    parser.add_argument("--device", default="cuda", help="cuda, cuda:1; or cpu, with a tiny model: to see that it runs")
    parser.add_argument("--memory", metavar="ARM", choices=MEMORY_ARMS, help=argparse.SUPPRESS)
    args = parser.parse_args()
    device = torch.device(args.device)
    if device.type == "cuda" and not torch.cuda.is_available():
        print("There is no GPU that torch sees; `--device cpu --quick` runs the code on a tiny model.", file=sys.stderr)
        sys.exit(2)
    size = SIZES[device.type]
    if args.memory:
        memory_child(args.memory, size, device)
        return
    results = measure_time(size, device, size.quick_rounds if args.quick else size.rounds)
    results["memory"] = measure_memory(device)
    print_results(results)
    if device.type == "cpu":
        print("A tiny model on the CPU: the code runs, and nothing was measured.")
        return
    answers = verdicts(results)
    print("\n".join(answers))
    gpu = torch.cuda.get_device_properties(device)
    write_results(
        "on_gpu",
        results,
        quick=args.quick,
        seed=SEED,
        gpu=gpu.name,
        gpu_memory=gpu.total_memory,
        cuda=torch.version.cuda,
    )
    if any(answer.endswith(": missed") for answer in answers):
        sys.exit(1)


if __name__ == "__main__":
    main()
