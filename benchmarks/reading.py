"""How fast logs and runs are read, and in how much memory, against another checkout of clipcal: ``python -m benchmarks.reading --against FOLDER``.

A console log of 100 MB (coloured, with progress bars between its lines), 100 MB of JSON lines, a run of a million steps, an event file, and
whole commands on small logs. Each reading is a process of its own, so that its peak memory is its own; the checkouts take turns, seven times.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks.logs_events import KINDS, make_columns, write_events
from benchmarks.reporting import interval, print_table, write_results

HERE = Path(__file__).resolve().parents[1]
ROUNDS, MEGABYTES, STEPS = 7, 100, 1_000_000
_READ_LOG = "import clipcal\nread_log = clipcal.read_log\nread = lambda path: len(read_log(path).series[0])\n"
_READ_TRACE = "import clipcal\nread_trace = clipcal.read_trace\nread = lambda path: len(read_trace(path))\n"
_COMMAND = """
import subprocess, sys
def read(path):
    done = subprocess.run([sys.executable, "-m", "clipcal", "recommend", path, "--json"], capture_output=True)
    assert done.returncode in (0, 3), done.stderr
    return 0
"""
_MEASURE = """
import json, resource, sys, time
start = time.perf_counter()
rows = read(sys.argv[1])
seconds = time.perf_counter() - start
peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (2**20 if sys.platform == "darwin" else 2**10)
print(json.dumps({"seconds": seconds, "peak": peak, "rows": rows}))
"""


def console(path: Path, size: int, draw: random.Random) -> None:
    with path.open("w") as f:
        step = written = 0
        while written < size:
            loss, norm = draw.gauss(2.3, 0.1), draw.lognormvariate(0, 0.3)
            line = f"\x1b[32mstep: {step * 10}\x1b[0m loss: {loss:.4f} grad_norm: {norm:.4f}\n"
            if step % 3 == 0:
                bars = (f"\r {step % 100}%|███▌      | {step % 1000 + i}/1000 [00:12<00:45,  8.50it/s]" for i in (0, 1))
                line += "".join(bars) + "\n"
            f.write(line)
            written += len(line.encode())
            step += 1


def jsonl(path: Path, size: int, draw: random.Random) -> None:
    with path.open("w") as f:
        step = written = 0
        while written < size:
            row = {"step": step, "loss": draw.gauss(2.3, 0.1), "grad_norm": draw.lognormvariate(0, 0.3), "lr": 1e-3}
            written += f.write(json.dumps(row) + "\n")
            step += 1


def run(path: Path, steps: int, draw: random.Random) -> None:
    with path.open("w") as f:
        for step in range(steps):
            row = {
                "step": step,
                "loss": draw.gauss(2.3, 0.1),
                "grad_norm": draw.lognormvariate(0, 0.3),
                "grad_max": draw.random(),
                "lr": 1e-3,
                "seconds": round(draw.random(), 6),
            }
            f.write(json.dumps(row) + "\n")


def events(path: Path, steps: int, draw: random.Random) -> None:
    write_events(path, make_columns(steps), KINDS[0])


CASES: dict[str, tuple[str, Callable[[Path, int, random.Random], None], int, str]] = {
    "console log of 100 MB": ("train.log", console, MEGABYTES * 10**6, _READ_LOG),
    "JSON lines, 100 MB": ("metrics.jsonl", jsonl, MEGABYTES * 10**6, _READ_LOG),
    "run of 1,000,000 steps": ("trace.jsonl", run, STEPS, _READ_TRACE),
    "event file, a million scalars": ("events.out.tfevents.1", events, 250_000, _READ_LOG),
    "recommend, console log of 500 rows": ("small.log", console, 40_000, _COMMAND),
    "recommend, JSON lines of 500 rows": ("small.jsonl", jsonl, 45_000, _COMMAND),
}


def measure(code: str, path: Path, checkout: Path) -> dict[str, float]:
    done = subprocess.run(
        [sys.executable, "-c", code + _MEASURE, str(path)],
        cwd=checkout,
        # as where it is installed: bytecode is kept
        env={k: v for k, v in os.environ.items() if k != "PYTHONDONTWRITEBYTECODE"} | {"PYTHONPATH": str(checkout)},
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise SystemExit(done.stderr)
    answer: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return answer


def main() -> None:
    parser = argparse.ArgumentParser(description="Time and memory of reading logs and runs, against another checkout.")
    parser.add_argument("--against", type=Path, required=True, help="the other checkout")
    against = parser.parse_args().against.resolve()
    results: dict[str, Any] = {}
    table = [["what", "there s", "here s", "times as fast", "95 % interval", "there MB", "here MB"]]
    with tempfile.TemporaryDirectory() as folder:
        for what, (name, write, size, code) in CASES.items():
            path = Path(folder, name)
            write(path, size, random.Random(0))
            rounds = [(measure(code, path, against), measure(code, path, HERE)) for _ in range(ROUNDS)]
            path.unlink()
            assert len({int(r["rows"]) for pair in rounds for r in pair}) == 1
            ratios = [there["seconds"] / here["seconds"] for there, here in rounds]
            low, high = interval(ratios)
            seconds, peaks = (
                [statistics.median(pair[side][key] for pair in rounds) for side in (0, 1)]
                for key in ("seconds", "peak")
            )
            ratio = statistics.median(ratios)
            results[what] = {"ratio": ratio, "interval": [low, high], "seconds": seconds, "peak_mb": peaks}
            table.append(
                [
                    what,
                    *(f"{s:.2f}" for s in seconds),
                    f"{ratio:.2f}",
                    f"{low:.2f} .. {high:.2f}",
                    *(f"{p:.0f}" for p in peaks),
                ]
            )
    print_table(table)
    commit = subprocess.run(
        ["git", "-C", str(against), "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=False
    )
    write_results("reading", results, against=commit.stdout.strip(), rounds=ROUNDS)


if __name__ == "__main__":
    main()
