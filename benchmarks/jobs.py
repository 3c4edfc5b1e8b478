"""What training arms side by side saves: ``verify`` with two jobs against one, and whether the arms come out the same.

Both run turn about on the character LSTM, each in a Python of its own that profiles and then calls ``verify``, which is
timed from its call to its verdict. *warm* is what ``clipcal calibrate`` does: while the profile trains, the server that
workers are forked from imports torch. *cold* is ``clipcal verify`` by itself: that import is timed too. Every arm has one
thread, whatever the number of jobs.

Exits with 1 where an arm differs in a single bit, or *warm* misses the target by the median over the rounds.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.reporting import print_table, write_results
from clipcal.arms.pool import warm_up
from clipcal.recommendation.evidence import load
from clipcal.run.trace import COLUMNS, Trace, read_trace
from clipcal.sources.spec import load_spec
from clipcal.training.profiling import profile
from clipcal.verification.verifying import verify

ROOT = Path(__file__).resolve().parents[1]
CONFIG = ROOT / "configs" / "char_lstm.yaml"
TARGET = 1.7
SEEDS, QUICK_SEEDS = 3, 1
STARTS = {"warm": "within calibrate (warm)", "cold": "verify by itself (cold)"}


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


def timed(start: str, jobs: int, seeds: int) -> Timed:
    """One call in a Python of its own: what a process keeps for its next call, as a server that forks, is not free."""
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", __spec__.name, "--child", folder, start, str(jobs), str(seeds)]
        done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
        arms = {p.name: read_trace(p) for p in sorted(Path(folder).glob("run/arms/*.jsonl"))}
        return Timed(**json.loads(done.stdout), arms=arms)


def child(folder: str, start: str, jobs: str, seeds: str) -> None:
    if start == "warm":
        warm_up("cpu")
    run = profile(load_spec(CONFIG), Path(folder) / "run", threads=1)
    max_norm = load(run.folder).recommend().max_norm or float(np.median(read_trace(run.trace).grad_norm))
    before, before_cpu = time.perf_counter(), _cpu()
    # a third threshold: the unclipped arm of the first seed is the profile itself, and an odd number of arms would
    # leave one job idle at the end
    verify(run, max_norm=max_norm, others=(2 * max_norm,), seeds=int(seeds), jobs=int(jobs))
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
    rows = [["start", "jobs", "round", "arms", "wall s", "CPU s", "processors used"]]
    results: dict[str, Any] = {}
    first: dict[str, Trace] = {}
    differing: list[str] = []
    for start in STARTS:
        calls: dict[int, list[Timed]] = {1: [], 2: []}
        for n in range(rounds):
            for jobs in (1, 2) if n % 2 == 0 else (2, 1):
                t = timed(start, jobs, seeds)
                calls[jobs].append(t)
                first = first or t.arms
                differing += differences(first, t.arms)
                rows.append(
                    [start, str(jobs), str(n), str(len(t.arms)), f"{t.wall:.1f}", f"{t.cpu:.1f}", f"{t.used:.2f}"]
                )
        ratios = [one.wall / two.wall for one, two in zip(calls[1], calls[2], strict=True)]
        results[start] = {
            "faster": statistics.median(ratios),
            "faster_by_round": ratios,
            "wall": {str(jobs): [t.wall for t in timeds] for jobs, timeds in calls.items()},
            "cpu": {str(jobs): [t.cpu for t in timeds] for jobs, timeds in calls.items()},
        }
    print_table(rows)
    for start, said in STARTS.items():
        ratio = results[start]["faster"]
        every = " ".join(f"{r:.2f}" for r in results[start]["faster_by_round"])
        verdict = "met" if ratio >= TARGET else "missed"
        print(f"{said}: two jobs are x {ratio:.2f} faster (by round: {every}), target >= {TARGET}: {verdict}")
    equal = f"all {len(first)} arms equal bit for bit" if not differing else f"DIFFERENT: {', '.join(differing)}"
    print(f"with 1 and with 2 jobs: {equal}")
    results |= {"arms": sorted(first), "equal": not differing}
    write_results("jobs", results, quick=args.quick, seeds=seeds, threads=1, config=CONFIG.name)
    if differing or results["warm"]["faster"] < TARGET:
        sys.exit(1)


if __name__ == "__main__":
    main()
