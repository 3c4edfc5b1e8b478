"""Time and memory of reading 100 MB of JSON lines: our reader beside ``pandas.read_json(lines=True)``.

Two files, as training loops write them: rows of few names, of which most are wanted, and rows of many, of which few are.
Each reading is a process of its own, so that its peak memory is its own; imports are not timed. The readers take turns.

Exits with 1 where a target is missed beyond its interval.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import random
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.reporting import interval, judged, print_table, write_results

MEGABYTES, TARGET_SECONDS, TARGET_MEGABYTES = 100, 5.0, 500
SEED = 0
_FEW = '{{"step": {step}, "loss": {loss:.4f}, "grad_norm": {norm:.5f}, "lr": 0.0001}}\n'
_MANY = (
    '{{"_step": {step}, "_timestamp": {time:.6f}, "train/epoch": {epoch:.4f}, "train/loss": {loss!r}, '
    '"train/grad_norm": {norm!r}, "train/learning_rate": {lr!r}, "perf/tokens_per_second": {speed!r}, '
    '"perf/memory_gib": 31.25, "rewards/margin": {reward!r}}}\n'
)
SHAPES = {"4 names a row": _FEW, "9 names a row": _MANY}
# what a process of its own runs; the last line that it prints is its answer
_OURS = """
from pathlib import Path
from clipcal.logs.readers.jsonlines import READER
from clipcal.logs.source import Source
def read(path):
    source = Source(Path(path))
    assert READER.recognises(source)
    return len(READER.read(source).series[0])
"""
_PANDAS = """
import pandas
def read(path):
    return len(pandas.read_json(path, lines=True))
"""
_MEASURE = """
import json, resource, sys, time
wall, cpu = time.perf_counter(), time.process_time()
rows = read(sys.argv[1])
wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (2**20 if sys.platform == "darwin" else 2**10)
print(json.dumps({"wall": wall, "cpu": cpu, "peak": peak, "rows": rows}))
"""
READERS = {"clipcal": _OURS, "pandas.read_json": _PANDAS}


def write_log(path: Path, row: str, size: int) -> int:
    """Write rows until ``size`` bytes are reached. Gives their number."""
    draw = random.Random(SEED)
    written = step = 0
    with path.open("w") as f:
        while written < size:
            written += f.write(
                row.format(
                    step=step,
                    time=1.7e9 + step / 3,
                    epoch=step / 1000,
                    loss=draw.random() * 3,
                    norm=draw.lognormvariate(0, 1),
                    lr=1e-4 * draw.random(),
                    speed=1e5 * draw.random(),
                    reward=draw.random(),
                )
            )
            step += 1
    return step


def measure(code: str, path: Path) -> dict[str, float]:
    done = subprocess.run(
        [sys.executable, "-c", code + _MEASURE, str(path)],
        cwd=Path(__file__).resolve().parent.parent,
        env=os.environ | {"PYTHONPATH": "."},
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise SystemExit(done.stderr)
    answer: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return answer


def main() -> None:
    parser = argparse.ArgumentParser(description="Time and memory of reading JSON lines.")
    parser.add_argument("--quick", action="store_true", help="10 MB and fewer rounds: a look, not a result")
    quick = parser.parse_args().quick
    megabytes, num_rounds = (10, 2) if quick else (MEGABYTES, 7)
    readers = {name: code for name, code in READERS.items() if name == "clipcal" or importlib.util.find_spec("pandas")}
    results: dict[str, Any] = {}
    verdicts: list[str] = []
    table = [["file", "rows", "reader", "median s", "95 % interval", "CPU s", "MB/s", "peak MB"]]
    with tempfile.TemporaryDirectory() as folder:
        for shape, row in SHAPES.items():
            path = Path(folder) / "metrics.jsonl"
            num_rows = write_log(path, row, megabytes * 10**6)
            took: dict[str, list[dict[str, float]]] = {name: [] for name in readers}
            for _ in range(num_rounds):
                for name, code in readers.items():
                    took[name].append(measure(code, path))
            for name, rounds in took.items():
                assert {r["rows"] for r in rounds} == {num_rows}
                results[f"{shape}, {name}"] = r = _summary(rounds)
                table.append(
                    [
                        shape,
                        f"{num_rows:,}",
                        name,
                        f"{r['wall']:.2f}",
                        "{:.2f} .. {:.2f}".format(*r["wall_interval"]),
                        f"{r['cpu']:.2f}",
                        f"{megabytes / r['wall']:.0f}",
                        f"{r['peak']:.0f}",
                    ]
                )
    print_table(table)
    if quick:
        return
    for shape in SHAPES:
        r = results[f"{shape}, clipcal"]
        in_time = judged(r["wall"], *r["wall_interval"], at_most=TARGET_SECONDS)
        in_memory = "met" if r["peak"] <= TARGET_MEGABYTES else "missed"
        verdicts += [in_time, in_memory]
        print(
            f"{megabytes} MB of {shape}: {r['wall']:.2f} s, target < {TARGET_SECONDS:g} s: {in_time}; "
            f"{r['peak']:.0f} MB, target < {TARGET_MEGABYTES} MB: {in_memory}"
        )
    write_results("logs_jsonl", results, megabytes=megabytes, rounds=num_rounds, seed=SEED)
    if "missed" in verdicts:
        sys.exit(1)


def _summary(rounds: Sequence[dict[str, float]]) -> dict[str, Any]:
    wall = [r["wall"] for r in rounds]
    return {
        "wall": statistics.median(wall),
        "wall_interval": interval(wall),
        "cpu": statistics.median(r["cpu"] for r in rounds),
        "peak": max(r["peak"] for r in rounds),
        "rows": rounds[0]["rows"],
    }


if __name__ == "__main__":
    main()
