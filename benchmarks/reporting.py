"""Measurements -> a table on stdout and a JSON file with what is needed to judge them: versions, seeds, the machine."""

from __future__ import annotations

import json
import os
import platform
import random
import statistics
from collections.abc import Callable, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).resolve().parent / "results"
PACKAGES = ("clipcal", "torch", "numpy", "typer", "rich", "pydantic")
RESAMPLES = 2000


def interval(
    samples: Sequence[float], of: Callable[[Sequence[float]], float] = statistics.median, seed: int = 0
) -> tuple[float, float]:
    """A 95 % bootstrap interval of ``of(samples)``, by drawing samples with replacement."""
    draw = random.Random(seed)
    values = sorted(of(draw.choices(samples, k=len(samples))) for _ in range(RESAMPLES))
    return values[round(0.025 * RESAMPLES)], values[round(0.975 * RESAMPLES) - 1]


def judged(value: float, low: float, high: float, *, at_most: float) -> str:
    """Met and missed only where the whole interval says so: on a shared machine a point may fall on either side."""
    if high <= at_most:
        return "met"
    if low > at_most:
        return "missed"
    return "met, by the point alone" if value <= at_most else "missed, by the point alone"


def print_table(rows: Sequence[Sequence[str]]) -> None:
    """The first row is the head; the first column is text, the others are numbers and stand to the right."""
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    for n, row in enumerate(rows):
        cells = [
            cell.ljust(w) if i == 0 else cell.rjust(w) for i, (cell, w) in enumerate(zip(row, widths, strict=True))
        ]
        print("  ".join(cells).rstrip())
        if n == 0:
            print("  ".join("-" * w for w in widths))
    print(flush=True)


def write_results(name: str, results: dict[str, Any], **settings: Any) -> None:
    """Write results/<name>.json; a quick look is not kept, where a result may be."""
    if settings.get("quick"):
        print("a quick look: no result was written")
        return
    RESULTS.mkdir(exist_ok=True)
    path = RESULTS / f"{name}.json"
    document = {"benchmark": name, "settings": settings, "machine": machine(), "results": results}
    path.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")
    print(f"wrote {path.relative_to(RESULTS.parent.parent)}")


def machine() -> dict[str, Any]:
    return {
        "cpu": _cpu(),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "load": os.getloadavg(),
        "platform": platform.platform(),
        "python": platform.python_version(),
        "versions": {p: version(p) for p in PACKAGES},
    }


def _cpu() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        return next(line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor()
