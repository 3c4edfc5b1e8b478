"""Where the time of ``make test`` goes, file by file and test by test; and how it compares with that of another checkout.

``python -m benchmarks.suite`` runs it here. ``--against FOLDER`` names another checkout, in which `make test` has run once so that all is
installed; the two take turns. A test's time is that of its worker, so that the times of two workers add up to twice the clock's.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import tempfile
import time
import xml.etree.ElementTree as ET
from dataclasses import dataclass
from pathlib import Path

from benchmarks.reporting import print_table, write_results

HERE = Path(__file__).parents[1]
SHOWN = 20


@dataclass(frozen=True, kw_only=True)
class Timed:
    """One `make test`: whether it passed, seconds on the clock, and of each test by its name, file first."""

    passed: bool
    seconds: float
    tests: dict[str, float]


def make_test(folder: Path) -> Timed:
    """A run in which a test fails counts, and is said: what another checkout fails is no reason to lose both."""
    with tempfile.TemporaryDirectory() as scratch:
        junit = Path(scratch, "junit.xml")
        start = time.perf_counter()
        done = subprocess.run(
            ["make", "test"],
            cwd=folder,
            env=os.environ | {"PYTEST_ADDOPTS": f"--junitxml={junit}"},
            stdout=subprocess.DEVNULL,
            check=False,
        )
        seconds = time.perf_counter() - start
        cases = ET.parse(junit).getroot().iter("testcase")
        return Timed(
            passed=done.returncode == 0,
            seconds=seconds,
            tests={f"{c.get('classname')}::{c.get('name')}": float(c.get("time") or 0) for c in cases},
        )


def by_file(tests: dict[str, float]) -> dict[str, float]:
    """Largest first."""
    found: dict[str, float] = {}
    for name, seconds in tests.items():
        parts = name.partition("::")[0].split(".")
        file = ".".join(p for p in parts if not p[:1].isupper())
        found[file] = found.get(file, 0.0) + seconds
    return _largest_first(found)


def _largest_first(found: dict[str, float]) -> dict[str, float]:
    return dict(sorted(found.items(), key=lambda item: -item[1]))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--against", type=Path, help="another checkout, in which `make test` has run")
    parser.add_argument("--rounds", type=int, default=1, help="how often each is run (1)")
    args = parser.parse_args()
    folders = {"this": HERE} | ({"other": args.against.resolve()} if args.against else {})
    runs: dict[str, list[Timed]] = {name: [] for name in folders}
    for number in range(args.rounds):
        for name in reversed(folders) if number % 2 else folders:
            runs[name].append(make_test(folders[name]))
            last = runs[name][-1]
            print(
                f"{name}: {last.seconds:.0f} s, {len(last.tests)} tests{'' if last.passed else ', not all pass'}",
                flush=True,
            )
    first = runs["this"][0]
    files, tests = by_file(first.tests), _largest_first(first.tests)
    for kind, found in (("file", files), ("test", tests)):
        print_table([[kind, "s"], *([name, f"{s:.1f}"] for name, s in list(found.items())[:SHOWN])])
    ratios = [a.seconds / b.seconds for a, b in zip(runs["this"], runs.get("other", []), strict=False)]
    if ratios:
        print(f"this against the other: x {statistics.median(ratios):.2f} of the time")
    results = {
        "runs": {
            name: [{"passed": t.passed, "seconds": t.seconds, "tests": len(t.tests)} for t in timed]
            for name, timed in runs.items()
        },
        "ratios": ratios,
        "files": {name: round(s, 1) for name, s in files.items()},
        "tests": {name: round(s, 1) for name, s in list(tests.items())[:100]},
    }
    write_results("suite", results)


if __name__ == "__main__":
    main()
