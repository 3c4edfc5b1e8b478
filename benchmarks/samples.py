"""Calibrates every config in configs/ and compares the verdicts with those that its `Expect:` comment promises.

    python -m benchmarks.samples [NAME ...]

Prints a table; exits with 1 where a promise is not kept.
"""

from __future__ import annotations

import argparse
import json
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

CONFIGS = Path(__file__).parents[1] / "configs"
WORDS = {
    "recommend": {"spikes", "stable", "heavy_tail", "diverging", "vanishing", "clipped", "insufficient"},
    "verify": {"holds", "no_difference", "undecided", "costs", "fails"},
}


def promised(config: Path) -> tuple[set[str], set[str]]:
    """The verdicts that the config's `Expect:` comment allows: of recommend, and of verify (none where it stops before)."""
    comment = " ".join(re.findall(r"^# ?(.*)$", config.read_text(encoding="utf-8"), re.MULTILINE))
    _, found, promise = comment.partition("Expect:")
    if not found:
        raise SystemExit(f"{config}: has no comment that says what to `Expect:`")
    words = set(re.findall(r"`(\w+)`", promise))
    return words & WORDS["recommend"], words & WORDS["verify"]


def calibrate(config: Path, folder: Path) -> dict[str, Any]:
    command = [sys.executable, "-m", "clipcal", "calibrate", str(config), "--json", "-q", "-o", str(folder)]
    done = subprocess.run(command, cwd=CONFIGS.parent, capture_output=True, text=True, check=False)
    if done.returncode not in (0, 3):
        raise SystemExit(f"{config}: exit {done.returncode}\n{done.stderr}")
    answer: dict[str, Any] = json.loads(done.stdout)
    return answer | {"exit": done.returncode}


def row(config: Path, folder: Path) -> tuple[list[str], bool]:
    verdicts, judgements = promised(config)
    started = time.perf_counter()
    answer = calibrate(config, folder)
    seconds = time.perf_counter() - started
    said, verification = answer["recommendation"]["verdict"], answer["verification"]
    judged = verification["verdict"] if verification else None
    kept = said in verdicts and (judged in judgements if judgements else judged is None)
    cells = [
        config.stem,
        said,
        "none" if answer["max_norm"] is None else f"{answer['max_norm']:g}",
        judged or "-",
        _outcome(verification),
        str(answer["exit"]),
        f"{seconds:.0f} s",
        "yes"
        if kept
        else f"NO: {' or '.join(sorted(verdicts))}, {' or '.join(sorted(judgements)) or 'nothing to verify'}",
    ]
    return cells, kept


def _outcome(verification: dict[str, Any] | None) -> str:
    """The difference of the final loss, or which runs were lost and have none."""
    if verification is None:
        return "-"
    change = verification["comparison"]
    if change["interval"] is not None:
        return f"{change['loss_difference']:+.3g} ({change['interval'][0]:+.3g} to {change['interval'][1]:+.3g})"
    lost = [arm["name"] for arm in verification["arms"] if arm["diverged_at"] is not None]
    return f"{lost.count('unclipped')} of {change['seeds']} unclipped runs lost"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", help="configs by name; all where none is given")
    names = parser.parse_args().names
    configs = [CONFIGS / f"{n}.yaml" for n in names] or sorted(CONFIGS.glob("*.yaml"))
    head = ["config", "recommend", "max_norm", "verify", "final loss against unclipped", "exit", "took", "as promised"]
    print("| " + " | ".join(head) + " |\n|" + " --- |" * len(head), flush=True)
    kept = True
    with tempfile.TemporaryDirectory() as folder:
        for config in configs:
            cells, ok = row(config, Path(folder) / config.stem)
            kept &= ok
            print("| " + " | ".join(cells) + " |", flush=True)
    return 0 if kept else 1


if __name__ == "__main__":
    sys.exit(main())
