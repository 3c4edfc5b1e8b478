"""What two processes of ``clipcal survey`` save: 2,000 small logs with ``--jobs 2`` against ``--jobs 1``, and whether the rows are the same.

The logs are made here: three formats, 200 to 600 rows each. The command is timed from start to end, turn about, in processes of its own.
On a busy machine the floor says what two processes can save there at all: surveys of two folders side by side against one after the other.

Exits with 1 where the rows differ, or the target is missed beyond its interval.
"""

from __future__ import annotations

import argparse
import json
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.reporting import interval, judged, print_table, write_results

LOGS, TARGET, SEED = 2000, 1.7, 0
CLIPCAL = [sys.executable, "-m", "clipcal"]


def make_logs(folder: Path, num: int) -> None:
    """Logs as three frameworks write them, a folder each."""
    draw = np.random.default_rng(SEED)
    for n in range(num):
        place = folder / f"team-{n % 20}" / f"run-{n}"
        place.mkdir(parents=True)
        norms = np.exp(0.2 * draw.standard_normal(int(draw.integers(200, 600))))
        norms[:: int(draw.integers(40, 90))] *= 20
        rows = [
            {"step": i, "loss": 3 - i / norms.size, "grad_norm": round(norm, 6)}
            for i, norm in enumerate(norms.tolist())
        ]
        if n % 3 == 0:
            state = {"global_step": norms.size, "log_history": rows, "logging_steps": 1}
            (place / "trainer_state.json").write_text(json.dumps(state))
            (place / "args.json").write_text(json.dumps({"max_grad_norm": [0.1, 1.0, 3.0][n % 9 // 3]}))
        elif n % 3 == 1:
            (place / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
        else:
            lines = "".join(f"{row['step']},{row['loss']:.4f},{row['grad_norm']}\n" for row in rows)
            (place / "metrics.csv").write_text("step,train_loss,grad_norm\n" + lines)


def surveyed(folder: Path, jobs: int) -> tuple[float, float, Any]:
    """Seconds, CPU seconds of all processes, and the rows."""
    before, cpu = time.perf_counter(), children_cpu()
    done = subprocess.run(
        [*CLIPCAL, "survey", str(folder), "--jobs", str(jobs), "--json", "--quiet"], capture_output=True, check=False
    )
    took = time.perf_counter() - before
    if done.returncode not in (0, 3):
        raise SystemExit(done.stderr.decode())
    return took, children_cpu() - cpu, json.loads(done.stdout)["rows"]


def children_cpu() -> float:
    """CPU seconds of the processes that have ended, and of theirs."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def floor(folders: Sequence[Path]) -> float:
    """How much faster two processes with one job each are side by side than one after the other."""

    def start(folder: Path) -> subprocess.Popen[bytes]:
        command = [*CLIPCAL, "survey", str(folder), "--jobs", "1", "--json", "--quiet"]
        return subprocess.Popen(command, stdout=subprocess.DEVNULL)

    before = time.perf_counter()
    for folder in folders:
        start(folder).wait()
    in_turn = time.perf_counter()
    for process in [start(folder) for folder in folders]:
        process.wait()
    return (in_turn - before) / (time.perf_counter() - in_turn)


def main() -> None:
    parser = argparse.ArgumentParser(description="clipcal survey with two jobs against one.")
    parser.add_argument("--quick", action="store_true", help="200 logs and two rounds: a look, not a result")
    parser.add_argument("--rounds", type=int, default=5, help="how often each number of jobs is timed")
    args = parser.parse_args()
    num, rounds = (200, 2) if args.quick else (LOGS, args.rounds)
    took: dict[int, list[float]] = {1: [], 2: []}
    cpu: dict[int, list[float]] = {1: [], 2: []}
    floors: list[float] = []
    same = True
    with tempfile.TemporaryDirectory() as made:
        folder = Path(made)
        make_logs(folder, num)
        first: Any = None
        for n in range(rounds):
            for jobs in (1, 2) if n % 2 == 0 else (2, 1):
                seconds, used, rows = surveyed(folder, jobs)
                took[jobs].append(seconds)
                cpu[jobs].append(used)
                first = first or rows
                same = same and rows == first
            floors.append(floor([folder / "team-0", folder / "team-1"]))
    ratios = [one / two for one, two in zip(took[1], took[2], strict=True)]
    faster, between = statistics.median(ratios), interval(ratios)
    table = [["jobs", "logs", "median s", "CPU s", "ms a log"]]
    table += [
        [
            str(jobs),
            f"{num:,}",
            f"{statistics.median(t):.2f}",
            f"{statistics.median(cpu[jobs]):.2f}",
            f"{1000 * statistics.median(t) / num:.2f}",
        ]
        for jobs, t in took.items()
    ]
    print_table(table)
    # judged the other way round, as a time: less is better
    verdict = judged(1 / faster, 1 / between[1], 1 / between[0], at_most=1 / TARGET)
    print(f"two jobs are {faster:.2f} times as fast ({between[0]:.2f} to {between[1]:.2f}), target {TARGET}: {verdict}")
    print(f"two processes that share nothing: {statistics.median(floors):.2f} times as fast here")
    print(f"rows of all rounds equal: {'yes' if same else 'no'}")
    results = {
        "faster": faster,
        "interval": between,
        "by_round": ratios,
        "floor": floors,
        "seconds": took,
        "same": same,
    }
    write_results("survey", results, logs=num, rounds=rounds, seed=SEED, quick=args.quick)
    if not same or verdict == "missed":
        sys.exit(1)


if __name__ == "__main__":
    main()
