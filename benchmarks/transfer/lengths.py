"""How a threshold moves with the length of the sequences, and whether that is what as many times the batch does.

    python -m benchmarks.transfer.lengths [--quick]

`char_lstm` and `small_gpt` are profiled at half of their sequence length, at it, and at 2 and 4 times, and at 2 and 4 times
the batch instead: both have as many characters in a step, and the loss is the mean over them. All is relative to the config as it
is: the stable median, then the candidates `firm` and `gentle`, each the median over the seeds and the smallest and largest.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.reporting import print_table, write_results
from benchmarks.transfer.readings import ROOT, THREADS
from clipcal.recommendation.answer import Recommendation
from clipcal.recommendation.evidence import load
from clipcal.sources.spec import Spec, from_source, load_spec
from clipcal.training.profiling import profile

CONFIGS = ("char_lstm", "small_gpt")
SEEDS = (20, 21, 22)
CHANGES = (("as it is", 1.0), ("length", 0.5), ("length", 2.0), ("batch", 2.0), ("length", 4.0), ("batch", 4.0))


def changed(config: str, what: str, times: float, seed: int) -> Spec:
    """The config with its sequences, or its batch, so many times as large."""
    spec = load_spec(ROOT / "configs" / f"{config}.yaml", seed=seed)
    key = {"length": "seq_len", "batch": "batch_size"}.get(what)
    if key is None:
        return spec
    text: dict[str, Any] = {}
    for part in ("model", "data"):
        block = getattr(spec.fields, part)
        if key in block:
            text[part] = block | {key: round(block[key] * times)}
    return from_source(spec.source(), **text)


def read(spec: Spec) -> Recommendation:
    with tempfile.TemporaryDirectory() as folder:
        return load(profile(spec, Path(folder) / "run", threads=THREADS).folder).recommend()


def ratios(values: Sequence[float]) -> str:
    return f"{statistics.median(values):.2f} ({min(values):.2f} to {max(values):.2f})"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="char_lstm, from two seeds")
    quick = parser.parse_args().quick
    seeds = SEEDS[:2] if quick else SEEDS
    lines = [["config", "changed", "stable median", "firm", "gentle"]]
    found: dict[str, Any] = {}
    for config in CONFIGS[:1] if quick else CONFIGS:
        base: dict[int, tuple[float, ...]] = {}
        for what, times in CHANGES:
            rows = []
            for seed in seeds:
                r = read(changed(config, what, times, seed))
                if r.stable is None or r.candidates.firm is None or r.candidates.gentle is None:
                    continue
                numbers = (r.stable.median, r.candidates.firm, r.candidates.gentle)
                base.setdefault(seed, numbers)
                rows.append([n / b for n, b in zip(numbers, base[seed], strict=True)])
            found[f"{config}, {what} x {times:g}"] = rows
            label = what if what == "as it is" else f"{what} x {times:g}"
            lines.append([config, label, *(ratios(column) for column in zip(*rows, strict=True))])
    print_table(lines)
    if not quick:
        write_results("transfer_lengths", found, seeds=seeds, threads=THREADS)


if __name__ == "__main__":
    main()
