"""What recording costs: steps of ``clipcal profile`` against the same steps of a loop written by hand.

Time: all arms live in one process, on twin models, and take turns of a few steps. The recorded arm is
``clipcal.training.profiling.profile`` itself, writing to a temporary run; the other arms run inside its ``should_stop``
callback, which it calls after each step. So whatever it does between two callbacks (the step, the norms, fetching, formatting,
writing) is on its clock, and nothing is left out.
Memory: each arm in a process of its own, by its peak resident size, with glibc's mmap threshold pinned: left alone it
moves as the process goes, and what is kept of freed memory differs by 3 % between two runs of the same arm.

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
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.reporting import interval, judged, print_table, write_results

TARGET_TIME, TARGET_MEMORY = 1.03, 1.02
JUDGED = ("transformer", "lstm")  # the tiny MLP is for information: there, every microsecond shows
WARM_UP = 2  # rounds: the optimizer makes its state in the first step, the recorder its files at the first fetch
MEMORY_ARMS = ("bare", "bare + import clipcal", "recorded")
PINNED = {"MALLOC_MMAP_THRESHOLD_": str(2**17)}  # glibc's own first value; once set, it stays
SEED = 0

Clock = tuple[float, float]


def clock() -> Clock:
    """Thread CPU time, which neighbours on the machine disturb least, and wall time."""
    return time.thread_time(), time.perf_counter()


@dataclass
class Turns:
    """Lets the arms take turns, and keeps each arm's steps as (CPU, wall) seconds, ``block`` to a round."""

    others: dict[str, Callable[[], Any]]
    block: int
    seconds: dict[str, list[Clock]] = field(default_factory=dict)
    _draw: random.Random = field(default_factory=lambda: random.Random(SEED))
    _last: Clock = field(default_factory=clock)

    def after_recorded_step(self) -> bool:
        """The ``should_stop`` of the recorded arm: always no."""
        self._note("recorded", self._last)
        if len(self.seconds["recorded"]) % self.block == 0:
            for name in self._draw.sample(list(self.others), len(self.others)):
                for _ in range(self.block):
                    before = clock()
                    self.others[name]()
                    self._note(name, before)
        self._last = clock()
        return False

    def _note(self, arm: str, before: Clock) -> None:
        cpu, wall = clock()
        self.seconds.setdefault(arm, []).append((cpu - before[0], wall - before[1]))

    def rounds(self, arm: str, which: int) -> list[float]:
        """Mean seconds per step of each round after the warm-up."""
        values = self.steps(arm, which)
        blocks = [values[i : i + self.block] for i in range(0, len(values), self.block)]
        return [statistics.fmean(b) for b in blocks]

    def steps(self, arm: str, which: int) -> list[float]:
        return [s[which] for s in self.seconds[arm][WARM_UP * self.block : len(self.seconds["bare"])]]


def time_workload(name: str, num_rounds: int) -> dict[str, Any]:
    import torch

    from benchmarks.workloads import WORKLOADS, HandWritten
    from clipcal.run.trace import read_trace
    from clipcal.training.profiling import profile

    torch.set_num_threads(1)
    workload = WORKLOADS[name]
    bare, again, today = HandWritten(workload), HandWritten(workload), HandWritten(workload, observe=True)
    losses: list[torch.Tensor] = []
    turns = Turns(
        others={"bare": lambda: losses.append(bare.step()), "bare, again": again.step, "item": today.step},
        block=workload.block,
    )
    # the last step is nobody's: profile does not ask whether to stop when it stops anyway
    steps = (WARM_UP + num_rounds) * workload.block + 1
    with tempfile.TemporaryDirectory() as folder:
        spec = _spec(name, folder, steps)
        gc.collect()
        run = profile(spec, Path(folder) / "run", threads=1, should_stop=turns.after_recorded_step)
        trace = read_trace(run.trace)
        written = run.trace.stat().st_size + run.layers.stat().st_size
    if trace.loss[: len(losses)].tolist() != [loss.item() for loss in losses]:
        sys.exit(f"{name}: the losses with and without recording differ, so the arms did not do the same work.")
    result: dict[str, Any] = {
        "parameters": sum(p.numel() for p in bare.params),
        "tensors": len(bare.params),
        "steps": num_rounds * workload.block,
        "block": workload.block,
        "bytes_per_step": written / steps,
        "losses_equal": True,
    }
    for which, unit in enumerate(("cpu", "wall")):
        result[unit] = {
            arm: _compare(turns.steps(arm, which), turns.rounds(arm, which), turns, which) for arm in turns.seconds
        }
    return result


def _compare(steps: Sequence[float], rounds: Sequence[float], turns: Turns, which: int) -> dict[str, Any]:
    base = turns.rounds("bare", which)
    ratios = [a / b for a, b in zip(rounds, base, strict=True)]
    extra = [a - b for a, b in zip(rounds, base, strict=True)]
    return {
        "median_ms": 1e3 * statistics.median(steps),
        "ratio_of_medians": statistics.median(steps) / statistics.median(turns.steps("bare", which)),
        "paired_ratio": statistics.median(ratios),
        "paired_interval": interval(ratios),
        "ratio_of_sums": sum(rounds) / sum(base),
        "extra_ms": 1e3 * statistics.median(extra),
    }


def _spec(name: str, folder: str, steps: int) -> Any:
    from benchmarks.workloads import WORKLOADS
    from clipcal.sources.spec import load_spec

    file = Path(folder) / "spec.yaml"
    file.write_text(WORKLOADS[name].spec(name, steps), encoding="utf-8")
    return load_spec(file)


def peak_memory() -> int:
    """Bytes. Linux carries ru_maxrss over from the process that started this one, so VmHWM is read there."""
    try:
        status = Path("/proc/self/status").read_text(encoding="utf-8")
        return 1024 * next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmHWM"))
    except (OSError, StopIteration):
        scale = 1 if sys.platform == "darwin" else 1024
        return scale * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def memory_child(arm: str, name: str) -> None:
    """Train one arm in this process and print its peak."""
    import torch

    from benchmarks.workloads import WORKLOADS, HandWritten

    torch.set_num_threads(1)
    workload = WORKLOADS[name]
    if arm == "recorded":
        from clipcal.training.profiling import profile

        with tempfile.TemporaryDirectory() as folder:
            profile(_spec(name, folder, workload.memory_steps), Path(folder) / "run", threads=1)
    else:
        if "import" in arm:
            import clipcal.training.profiling  # noqa: F401
        bare = HandWritten(workload)
        for _ in range(workload.memory_steps):
            bare.step()
    print(json.dumps({"peak": peak_memory()}))


def measure_memory(name: str) -> dict[str, Any]:
    """One run of each arm: with the threshold pinned, two runs of the same arm differ by 0.1 %."""
    peaks = {}
    for arm in MEMORY_ARMS:
        command = [sys.executable, "-m", __spec__.name, "--child", arm, name]
        done = subprocess.run(command, env=os.environ | PINNED, stdout=subprocess.PIPE, text=True, check=True)
        peaks[arm] = json.loads(done.stdout)["peak"]
    bare, same_imports, recorded = (peaks[arm] for arm in MEMORY_ARMS)
    return {
        "peaks": peaks,
        "imports": same_imports - bare,
        "recording": recorded - same_imports,
        "ratio": recorded / bare,
        "ratio_same_imports": recorded / same_imports,
    }


def print_time(results: dict[str, Any], titles: dict[str, str]) -> None:
    labels = {"bare": "bare", "bare, again": "bare, again", "recorded": "clipcal", "item": "clip_grad_norm_ + .item()"}
    for unit in ("cpu", "wall"):
        rows = [["", "arm", f"median ms ({unit})", "ratio", "paired", "95 % interval", "of sums", "extra ms"]]
        for name, r in results.items():
            for arm, label in labels.items():
                c = r[unit][arm]
                low, high = c["paired_interval"]
                rows.append(
                    [
                        titles[name] if arm == "bare" else "",
                        label,
                        f"{c['median_ms']:.3f}",
                        f"{c['ratio_of_medians']:.4f}",
                        f"{c['paired_ratio']:.4f}",
                        f"{low:.4f} .. {high:.4f}",
                        f"{c['ratio_of_sums']:.4f}",
                        f"{c['extra_ms']:+.3f}",
                    ]
                )
        print_table(rows)


def print_memory(results: dict[str, Any], titles: dict[str, str]) -> None:
    rows = [["peak memory, MiB", *MEMORY_ARMS, "imports", "recording", "recorded / bare", "recorded / + import"]]
    for name, r in results.items():
        m = r["memory"]
        peaks = [f"{m['peaks'][arm] / 2**20:.1f}" for arm in MEMORY_ARMS]
        parts = [f"{m[key] / 2**20:+.1f}" for key in ("imports", "recording")]
        rows.append([titles[name], *peaks, *parts, f"{m['ratio']:.4f}", f"{m['ratio_same_imports']:.4f}"])
    print_table(rows)


def verdicts(results: dict[str, Any], titles: dict[str, str]) -> list[str]:
    lines = []
    for name, r in results.items():
        if name not in JUDGED:
            continue
        c = r["cpu"]["recorded"]
        answer = judged(c["paired_ratio"], *c["paired_interval"], at_most=TARGET_TIME)
        lines.append(f"{titles[name]}: CPU time x {c['paired_ratio']:.4f}, target <= {TARGET_TIME}: {answer}")
        if m := r.get("memory"):
            ratio = m["ratio_same_imports"]
            answer = judged(ratio, ratio, ratio, at_most=TARGET_MEMORY)
            imports = f"; clipcal's imports add {m['imports'] / 2**20:.1f} MiB once, with them x {m['ratio']:.4f}"
            lines.append(
                f"{titles[name]}: peak memory of recording x {ratio:.4f}, target <= {TARGET_MEMORY}{imports}: {answer}"
            )
    return lines


def main() -> None:
    parser = argparse.ArgumentParser(description="What recording costs per step.")
    parser.add_argument("--quick", action="store_true", help="fewer rounds: a look, not a result")
    parser.add_argument("--child", nargs=2, metavar=("ARM", "WORKLOAD"), help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.child:
        memory_child(*args.child)
        return
    from benchmarks.workloads import WORKLOADS

    titles = {name: w.title for name, w in WORKLOADS.items()}
    results: dict[str, Any] = {}
    for name, w in WORKLOADS.items():
        memory = {"memory": measure_memory(name)} if name in (JUDGED[:1] if args.quick else JUDGED) else {}
        results[name] = time_workload(name, w.quick_rounds if args.quick else w.rounds) | memory
    print_time(results, titles)
    print_memory({name: r for name, r in results.items() if "memory" in r}, titles)
    answers = verdicts(results, titles)
    print("\n".join(answers))
    write_results("overhead", results, quick=args.quick, threads=1, seed=SEED, time="thread CPU time; wall beside it")
    if any(answer.endswith(": missed") for answer in answers):
        sys.exit(1)


if __name__ == "__main__":
    main()
