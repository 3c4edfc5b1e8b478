"""How often the threshold of one run of a sample lies in the interval of another, which differs in seed or thread count.

    python -m benchmarks.pairs [--seeds N]

Profiles each sample of `configs/` with every seed, on one thread and on two, and compares all ordered pairs by the confidence of the one whose
interval it is. Prints a table and writes results/pairs.json.
"""

from __future__ import annotations

import argparse
import itertools
import subprocess
import sys
import tempfile
from collections import defaultdict
from pathlib import Path

from benchmarks.reporting import print_table, write_results
from clipcal.recommendation.answer import Recommendation
from clipcal.recommendation.evidence import load

ROOT = Path(__file__).parents[1]
THREADS = (1, 2)


def profiled(config: Path, seed: int, threads: int, out: Path) -> Recommendation:
    words = ["profile", config, "--seed", seed, "--threads", threads, "--out", out, "--quiet"]
    subprocess.run([sys.executable, "-m", "clipcal", *map(str, words)], cwd=ROOT, check=True, stdout=subprocess.DEVNULL)
    return load(out).recommend()


def main() -> None:
    parser = argparse.ArgumentParser(description="Compares the thresholds of runs of the samples.")
    parser.add_argument("--seeds", type=int, default=4)
    seeds = range(parser.parse_args().seeds)
    held: dict[str, list[bool]] = defaultdict(list)
    thresholds: dict[str, list[float | None]] = {}
    with tempfile.TemporaryDirectory() as scratch:
        for config in sorted(ROOT.glob("configs/*.yaml")):
            how = itertools.product(seeds, THREADS)
            runs = [profiled(config, s, t, Path(scratch, f"{config.stem}-{s}-{t}")) for s, t in how]
            thresholds[config.stem] = [r.max_norm for r in runs]
            for one, other in itertools.permutations(runs, 2):
                if one.max_norm is not None and other.interval is not None:
                    held[other.confidence].append(other.interval[0] <= one.max_norm <= other.interval[1])
    found = {level: {"pairs": len(held[level]), "held": sum(held[level])} for level in ("high", "medium", "low")}
    print_table(
        [["confidence", "pairs", "in the interval"], *([k, str(v["pairs"]), str(v["held"])] for k, v in found.items())]
    )
    write_results("pairs", {"by_confidence": found, "thresholds": thresholds}, seeds=len(seeds), threads=THREADS)


if __name__ == "__main__":
    main()
