"""What training arms side by side saves: ``verify`` with two jobs against one, and whether the arms come out the same.

Both run turn about on copies of one profile of the character LSTM, from the call of ``verify`` to its verdict, so that
starting processes and importing torch in each are counted. Every arm has one thread, whatever the number of jobs.

Exits with 1 where an arm differs in a single bit, or the target is missed although the machine was free.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from reporting import print_table, write_results

from clipcal.evidence import load
from clipcal.profiling import profile
from clipcal.rundir import open_run
from clipcal.spec import load_spec
from clipcal.trace import COLUMNS, Trace, read_trace
from clipcal.verifying import verify

ROOT = Path(__file__).resolve().parents[1]
CONFIG = ROOT / "configs" / "char_lstm.yaml"
TARGET = 1.7
SEEDS, QUICK_SEEDS = 3, 1
# Of the processors that the arms could use: below, others had them. The import of torch, by one process, takes a tenth.
FREE = 0.8


@dataclass(frozen=True, kw_only=True)
class Timed:
    """One call of verify: seconds, and the traces of the arms that it trained, by file name."""

    wall: float
    cpu: float
    arms: dict[str, Trace]

    @property
    def used(self) -> float:
        """Processors, on average."""
        return self.cpu / self.wall


def timed(profiled: Path, jobs: int, max_norm: float, seeds: int) -> Timed:
    """One call in a Python of its own: what a process keeps for its next call, as a server that forks, is not free."""
    with tempfile.TemporaryDirectory() as folder:
        run = shutil.copytree(profiled, Path(folder) / "run")
        command = [sys.executable, __file__, "--child", str(run), str(jobs), str(max_norm), str(seeds)]
        done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
        seconds = json.loads(done.stdout)
        return Timed(**seconds, arms={p.name: read_trace(p) for p in sorted(run.glob("arms/*.jsonl"))})


def child(folder: str, jobs: str, max_norm: str, seeds: str) -> None:
    run, threshold = open_run(Path(folder)), float(max_norm)
    before, before_cpu = time.perf_counter(), _cpu()
    # a third threshold: the unclipped arm of the first seed is the profile itself, and an odd number of arms would
    # leave one job idle at the end
    verify(run, max_norm=threshold, others=(2 * threshold,), seeds=int(seeds), jobs=int(jobs))
    print(json.dumps({"wall": time.perf_counter() - before, "cpu": _cpu() - before_cpu}))


def _cpu() -> float:
    """CPU seconds of this process, its children, and, where a child forks workers, of those that have ended."""
    both = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    seconds = sum(u.ru_utime + u.ru_stime for u in both)
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = stat.read_text(encoding="utf-8").rpartition(")")[2].split()
        except OSError:  # ended meanwhile
            continue
        if int(fields[1]) == os.getpid():
            seconds += sum(map(int, fields[11:15])) / os.sysconf("SC_CLK_TCK")
    return seconds


def differences(a: dict[str, Trace], b: dict[str, Trace]) -> list[str]:
    """The arms and columns that are not equal bit for bit; seconds are the machine's own."""
    if a.keys() != b.keys():
        return [f"the arms themselves: {sorted(a.keys() ^ b.keys())}"]
    columns = [c for c in COLUMNS if c != "seconds"]
    return [
        f"{arm}: {column}"
        for arm in a
        for column in columns
        if not np.array_equal(getattr(a[arm], column).view(np.uint8), getattr(b[arm], column).view(np.uint8))
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description="verify with two jobs against one.")
    parser.add_argument("--quick", action="store_true", help="one seed, one round: a look, not a result")
    parser.add_argument("--rounds", type=int, default=3, help="how often each number of jobs is timed")
    parser.add_argument("--child", nargs=4, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.child:
        child(*args.child)
        return
    seeds, rounds = (QUICK_SEEDS, 1) if args.quick else (SEEDS, args.rounds)
    os.chdir(ROOT)  # where the specs in configs/ find sample_models
    with tempfile.TemporaryDirectory() as folder:
        spec = load_spec(CONFIG)
        run = profile(spec, Path(folder) / "profile", threads=1)
        trace = read_trace(run.trace)
        max_norm = load(run.folder).recommend().max_norm or float(np.median(trace.grad_norm))
        calls: dict[int, list[Timed]] = {1: [], 2: []}
        for n in range(rounds):
            for jobs in (1, 2) if n % 2 == 0 else (2, 1):
                calls[jobs].append(timed(run.folder, jobs, max_norm, seeds))
    first = calls[1][0]
    differing = [d for timeds in calls.values() for t in timeds for d in differences(first.arms, t.arms)]
    rows = [["jobs", "round", "arms", "wall s", "CPU s", "processors used"]]
    for jobs, timeds in calls.items():
        for n, t in enumerate(timeds):
            rows.append([str(jobs), str(n), str(len(t.arms)), f"{t.wall:.1f}", f"{t.cpu:.1f}", f"{t.used:.2f}"])
    print_table(rows)
    pairs = list(zip(calls[1], calls[2], strict=True))
    cpu_ratio = statistics.median(two.cpu / one.cpu for one, two in pairs)
    ratios = [one.wall / two.wall for one, two in pairs]
    free = [r for r, (one, two) in zip(ratios, pairs, strict=True) if one.used >= FREE and two.used >= 2 * FREE]
    ratio = statistics.median(free) if free else None
    every = " ".join(f"{r:.2f}" for r in ratios)
    if ratio is None:
        verdict = "other processes had the machine in every round, so this says nothing"
        print(f"two jobs, by round: x {every} faster, target >= {TARGET}: {verdict}")
        print(f"by CPU time alone, on processors of its own, it would have been x {2 / cpu_ratio:.2f} at best")
    else:
        verdict = "met" if ratio >= TARGET else "missed"
        counted = f"{len(free)} of {len(pairs)} rounds, in which the machine was free"
        print(f"two jobs: x {ratio:.2f} faster ({counted}; all: {every}), target >= {TARGET}: {verdict}")
    print(f"two jobs take x {cpu_ratio:.3f} of the CPU time of one")
    equal = f"all {len(first.arms)} arms equal bit for bit" if not differing else f"DIFFERENT: {', '.join(differing)}"
    print(f"arms of {len(trace)} steps, with 1 and with 2 jobs: {equal}")
    results: dict[str, Any] = {
        "wall": {str(jobs): [t.wall for t in timeds] for jobs, timeds in calls.items()},
        "cpu": {str(jobs): [t.cpu for t in timeds] for jobs, timeds in calls.items()},
        "faster": ratio,
        "faster_by_round": ratios,
        "rounds_on_a_free_machine": len(free),
        "cpu_ratio": cpu_ratio,
        "faster_by_cpu_time": 2 / cpu_ratio,
        "processors_used": {str(jobs): [t.used for t in timeds] for jobs, timeds in calls.items()},
        "arms": sorted(first.arms),
        "equal": not differing,
        "max_norm": max_norm,
    }
    write_results("jobs", results, quick=args.quick, seeds=seeds, steps=len(trace), threads=1, config=CONFIG.name)
    if differing or verdict == "missed":
        sys.exit(1)


if __name__ == "__main__":
    main()
