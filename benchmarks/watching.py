"""What it costs to be watched: steps of a script's loop under ``clipcal profile SCRIPT`` against the same steps left alone.

Time: twin models in one process take turns of a few steps, in an order that is drawn anew each round. For its turn, the watched twin
has clipcal's collector attached, as the script's own process has it: losses, norms, their files, all on its clock. Attaching and
detaching are not: a script is attached to once. Beside it what people do today to see their norms, ``clip_grad_norm_`` with an
infinite threshold and ``.item()``. CPU time of the thread, one torch thread, ratios of a round's turns. A process per workload: what
another one left on the heap makes a step of a millisecond, and whatever is added to it, several per cent slower.
Memory: each arm in a process of its own, by its peak resident size, with glibc's mmap threshold pinned (see ``overhead``).
For information: the same inside Hugging Face's Trainer and Lightning (``trainers``), and whole commands from start to end, which
adds clipcal's own process: it starts, looks for new rows while the script trains, and writes the run.

Exits with 1 where a target is missed beyond its interval.
"""

from __future__ import annotations

import argparse
import gc
import json
import os
import random
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from benchmarks.overhead import PINNED, Clock, clock, peak_memory
from benchmarks.reporting import interval, judged, print_table, write_results
from benchmarks.workloads import SEED, WORKLOADS, Batches, HandWritten, Workload

TARGETS = {"transformer": 1.03, "lstm": 1.03, "small": 1.15}
TARGET_MEMORY = 1.02
SETTLED = 16  # steps after which the collector no longer writes after each
MEMORY_ARMS = ("bare", "bare + import clipcal", "watched")
WHOLE_STEPS = 2000

SCRIPT = f"""
import torch
from torch import nn

torch.manual_seed(0)
torch.set_num_threads(1)
model = nn.Sequential(
    nn.Linear(192, 192), nn.ReLU(), nn.Linear(192, 192), nn.ReLU(), nn.Linear(192, 192), nn.ReLU(), nn.Linear(192, 10)
)
optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
for step in range({WHOLE_STEPS}):
    inputs, target = torch.randn(64, 192), torch.randint(10, (64,))
    loss = nn.functional.cross_entropy(model(inputs), target)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    if step % 100 == 0:
        print(step, loss.item())
"""


class Small(nn.Module):
    """Three layers, 192 wide: with AdamW, a step of about a millisecond."""

    def __init__(self) -> None:
        super().__init__()
        layers = [layer for _ in range(3) for layer in (nn.Linear(192, 192), nn.ReLU())]
        self.layers = nn.Sequential(*layers, nn.Linear(192, 10))

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.layers(x)
        return logits


def small_batches() -> Batches:
    generator = torch.Generator().manual_seed(SEED)
    return [
        (torch.randn(64, 192, generator=generator), torch.randint(10, (64,), generator=generator)) for _ in range(8)
    ]


SMALL = Workload(
    title="small MLP",
    model=Small,
    batches=small_batches,
    lr=1e-3,
    block=32,
    rounds=200,
    quick_rounds=30,
    memory_steps=0,
)
WATCHED = {
    "transformer": replace(WORKLOADS["transformer"], rounds=60),
    "lstm": replace(WORKLOADS["lstm"], rounds=100),
    "small": SMALL,
}


def time_workload(name: str, num_rounds: int) -> dict[str, Any]:
    """Let the arms take turns, and compare each with bare."""
    from clipcal.scripts.child.collector import Collector
    from clipcal.scripts.child.session import Config

    torch.set_num_threads(1)
    workload = WATCHED[name]
    twins = {arm: HandWritten(workload, observe=arm == "item") for arm in ("bare", "bare, again", "watched", "item")}
    seconds: dict[str, list[Clock]] = {arm: [] for arm in twins}
    losses: dict[str, list[Tensor]] = {arm: [] for arm in twins}
    draw = random.Random(SEED)
    warm_up = max(2, -(-SETTLED // workload.block))
    with tempfile.TemporaryDirectory() as folder:
        collector = Collector(Path(folder), Config(steps=10**9))
        gc.collect()
        for _ in range(warm_up + num_rounds):
            for arm in draw.sample(list(twins), len(twins)):
                if arm == "watched":
                    collector.attach()
                for _ in range(workload.block):
                    cpu, wall = clock()
                    loss = twins[arm].step()
                    cpu_after, wall_after = clock()
                    seconds[arm].append((cpu_after - cpu, wall_after - wall))
                    losses[arm].append(loss)
                if arm == "watched":
                    collector.detach()
        assert collector.picked is not None
        recorded, steps = collector.picked.observer.step, (warm_up + num_rounds) * workload.block
    if recorded != steps:
        sys.exit(f"{name}: {recorded} of {steps} steps were recorded, so the watched arm did not do its work.")
    if [loss.item() for loss in losses["watched"]] != [loss.item() for loss in losses["bare"]]:
        sys.exit(f"{name}: the losses, watched and not, differ, so the arms did not do the same work.")
    first = warm_up * workload.block
    params = twins["bare"].params
    result: dict[str, Any] = {
        "parameters": sum(p.numel() for p in params),
        "tensors": len(params),
        "steps": num_rounds * workload.block,
        "block": workload.block,
        "losses_equal": True,
    }
    for which, unit in enumerate(("cpu", "wall")):
        values = {arm: [s[which] for s in seconds[arm][first:]] for arm in twins}
        result[unit] = {arm: compare(values[arm], values["bare"], workload.block) for arm in twins}
    return result


def compare(steps: Sequence[float], base: Sequence[float], block: int = 1) -> dict[str, Any]:
    """Seconds per step of an arm and of the one that it is compared with, ``block`` to a round."""
    ours, theirs = rounds_of(steps, block), rounds_of(base, block)
    ratios = [a / b for a, b in zip(ours, theirs, strict=True)]
    return {
        "median_ms": 1e3 * statistics.median(steps),
        "paired_ratio": statistics.median(ratios),
        "paired_interval": interval(ratios),
        "ratio_of_sums": sum(ours) / sum(theirs),
        "extra_ms": 1e3 * statistics.median(a - b for a, b in zip(ours, theirs, strict=True)),
    }


def rounds_of(steps: Sequence[float], block: int) -> list[float]:
    return [statistics.fmean(steps[i : i + block]) for i in range(0, len(steps), block)]


def in_process(*arguments: str, env: Mapping[str, str] = os.environ) -> Any:
    """What this module prints for these arguments, in a process of its own."""
    command = [sys.executable, "-m", __spec__.name, *arguments]
    return json.loads(subprocess.run(command, env=env, stdout=subprocess.PIPE, text=True, check=True).stdout)


def memory_child(arm: str, name: str) -> None:
    """Train one arm in this process and print its peak."""
    torch.set_num_threads(1)
    workload = WATCHED[name]
    with tempfile.TemporaryDirectory() as folder:
        if arm != "bare":
            from clipcal.scripts.child.collector import Collector
            from clipcal.scripts.child.session import Config

            if arm == "watched":
                Collector(Path(folder), Config(steps=10**9)).attach()
        bare = HandWritten(workload)
        for _ in range(workload.memory_steps):
            bare.step()
        print(json.dumps({"peak": peak_memory()}))


def measure_memory(name: str) -> dict[str, Any]:
    peaks = {arm: in_process("--memory", arm, name, env=os.environ | PINNED)["peak"] for arm in MEMORY_ARMS}
    bare, same_imports, watched = (peaks[arm] for arm in MEMORY_ARMS)
    return {
        "peaks": peaks,
        "imports": same_imports - bare,
        "recording": watched - same_imports,
        "ratio": watched / bare,
        "ratio_same_imports": watched / same_imports,
    }


def time_whole(num_rounds: int) -> dict[str, Any]:
    """``python script.py`` and ``clipcal profile script.py``, turn about, from start to end."""
    with tempfile.TemporaryDirectory() as folder:
        script = Path(folder) / "train.py"
        script.write_text(SCRIPT, encoding="utf-8")
        profile = ["-m", "clipcal", "profile", str(script), "-n", str(WHOLE_STEPS), "-o", f"{folder}/run", "-q"]
        commands = {"python": [str(script)], "profile": [*profile, "--force"]}
        seconds: dict[str, list[Clock]] = {arm: [] for arm in commands}
        draw = random.Random(SEED)
        for _ in range(num_rounds):
            for arm in draw.sample(list(commands), len(commands)):
                before, cpu = time.perf_counter(), children_cpu()
                done = subprocess.run([sys.executable, *commands[arm]], cwd=folder, capture_output=True, check=False)
                if done.returncode != 0:
                    sys.exit(f"{arm}: exit {done.returncode}\n{done.stderr.decode()}")
                seconds[arm].append((children_cpu() - cpu, time.perf_counter() - before))
    return {
        unit: {arm: compare([s[i] for s in seconds[arm]], [s[i] for s in seconds["python"]]) for arm in commands}
        for i, unit in enumerate(("cpu", "wall"))
    }


def children_cpu() -> float:
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def print_arms(head: str, groups: dict[str, dict[str, dict[str, Any]]], labels: dict[str, str]) -> None:
    rows = [["", "arm", head, "paired", "95 % interval", "of sums", "extra ms"]]
    for title, arms in groups.items():
        for n, (arm, c) in enumerate(arms.items()):
            low, high = c["paired_interval"]
            numbers = [f"{c['median_ms']:.3f}", f"{c['paired_ratio']:.4f}", f"{low:.4f} .. {high:.4f}"]
            rest = [f"{c['ratio_of_sums']:.4f}", f"{c['extra_ms']:+.4f}"]
            rows.append([title if n == 0 else "", labels.get(arm, arm), *numbers, *rest])
    print_table(rows)


def print_memory(results: dict[str, Any]) -> None:
    rows = [["peak memory, MiB", *MEMORY_ARMS, "imports", "recording", "watched / bare", "watched / + import"]]
    for name, m in results.items():
        peaks = [f"{m['peaks'][arm] / 2**20:.1f}" for arm in MEMORY_ARMS]
        parts = [f"{m[key] / 2**20:+.1f}" for key in ("imports", "recording")]
        rows.append([WATCHED[name].title, *peaks, *parts, f"{m['ratio']:.4f}", f"{m['ratio_same_imports']:.4f}"])
    print_table(rows)


def verdicts(times: dict[str, Any], memory: dict[str, Any]) -> list[str]:
    lines = []
    for name, target in TARGETS.items():
        c, title = times[name]["cpu"]["watched"], WATCHED[name].title
        answer = judged(c["paired_ratio"], *c["paired_interval"], at_most=target)
        lines.append(f"{title}: CPU time x {c['paired_ratio']:.4f}, target <= {target}: {answer}")
        if m := memory.get(name):
            ratio = m["ratio_same_imports"]
            answer = judged(ratio, ratio, ratio, at_most=TARGET_MEMORY)
            imports = f"; clipcal's imports add {m['imports'] / 2**20:.1f} MiB once, with them x {m['ratio']:.4f}"
            lines.append(
                f"{title}: peak memory of recording x {ratio:.4f}, target <= {TARGET_MEMORY}{imports}: {answer}"
            )
    return lines


def main() -> None:
    parser = argparse.ArgumentParser(description="What being watched costs a training script.")
    parser.add_argument("--quick", action="store_true", help="fewer rounds: a look, not a result")
    parser.add_argument("--memory", nargs=2, metavar=("ARM", "WORKLOAD"), help=argparse.SUPPRESS)
    parser.add_argument("--time", nargs=2, metavar=("WORKLOAD", "ROUNDS"), help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.memory:
        memory_child(*args.memory)
        return
    if args.time:
        print(json.dumps(time_workload(args.time[0], int(args.time[1]))))
        return
    from benchmarks.trainers import TRAINERS, time_trainer

    labels = {"watched": "watched by clipcal", "item": "clip_grad_norm_ + .item()"}
    memory = {name: measure_memory(name) for name in WATCHED if WATCHED[name].memory_steps}
    times = {n: in_process("--time", n, str(w.quick_rounds if args.quick else w.rounds)) for n, w in WATCHED.items()}
    for unit in ("cpu", "wall"):
        print_arms(f"median ms ({unit})", {WATCHED[n].title: r[unit] for n, r in times.items()}, labels)
    trainers = {}
    for name in TRAINERS:
        seconds = time_trainer(name, 4 if args.quick else 15)
        if seconds is None:
            print(f"{name}: not installed, so not measured.\n")
        else:
            base = next(iter(seconds.values()))
            trainers[name] = {arm: compare(s, base) for arm, s in seconds.items()}
    print_arms("median ms (cpu)", trainers, {})
    whole = time_whole(2 if args.quick else 7)
    titles = {"python": "python script.py", "profile": f"clipcal profile script.py -n {WHOLE_STEPS}"}
    print_arms("median ms", {f"whole, {unit}": whole[unit] for unit in ("wall", "cpu")}, titles)
    print_memory(memory)
    answers = verdicts(times, memory)
    print("\n".join(answers))
    results = {"times": times, "memory": memory, "trainers": trainers, "whole": whole}
    settings = {"quick": args.quick, "threads": 1, "seed": SEED, "time": "thread CPU time; wall beside it"}
    write_results("watching", results, **settings, whole_steps=WHOLE_STEPS, targets=TARGETS)
    if any(answer.endswith(": missed") for answer in answers):
        sys.exit(1)


if __name__ == "__main__":
    main()
