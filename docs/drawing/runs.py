"""A config of configs/, with a line or two changed -> the run that clipcal makes of it, kept in build/pictures."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from clipcal.recommendation.answer import Recommendation
from clipcal.recommendation.evidence import Evidence, load
from clipcal.run.directory import Run, open_run
from clipcal.run.trace import Floats
from clipcal.stats import Steady, summarise

ROOT = Path(__file__).parents[2]
KEPT = ROOT / "build" / "pictures"


@dataclass(frozen=True, kw_only=True)
class Training:
    """``changed``: lines of the config, up to their comments, and what stands there instead. ``command`` is calibrate or profile."""

    name: str
    config: str
    command: str = "profile"
    changed: tuple[tuple[str, str], ...] = ()


OUTLIERS = Training(name="outliers", config="outliers", command="calibrate")
BURSTS = Training(name="deep_mlp", config="deep_mlp")
"""Large norms that do harm."""
CALM = Training(name="calm_lstm", config="char_lstm", changed=(("lr: 10.0", "lr: 1.0"), ("steps: 300", "steps: 600")))
"""Large norms that do none."""


def made(training: Training) -> Run:
    """Trains only where the run is not kept, or its config has changed since."""
    text = (ROOT / "configs" / f"{training.config}.yaml").read_text(encoding="utf-8")
    for old, new in training.changed:
        assert text.count(old) == 1, f"configs/{training.config}.yaml: no line {old!r}, or several"
        text = text.replace(old, new)
    KEPT.mkdir(parents=True, exist_ok=True)
    spec, done, folder = KEPT / f"{training.name}.yaml", KEPT / f"{training.name}.done", KEPT / training.name
    if not folder.is_dir() or not done.exists() or done.read_text(encoding="utf-8") != text:
        spec.write_text(text, encoding="utf-8")
        print(f"clipcal {training.command} {spec.relative_to(ROOT)} ...", file=sys.stderr)
        command = [sys.executable, "-m", "clipcal", training.command, str(spec.relative_to(ROOT))]
        subprocess.run(
            [*command, "--out", str(folder.relative_to(ROOT)), "--force", "--quiet"], cwd=ROOT, check=True, stdout=subprocess.DEVNULL
        )  # fmt: skip
        done.write_text(text, encoding="utf-8")
    return open_run(folder)


def read(training: Training) -> tuple[Evidence, Recommendation]:
    evidence = load(made(training).folder)
    return evidence, evidence.recommend()


def steady(norms: Floats) -> Steady:
    """What is stable in (n,) norms, and what stands clear."""
    with np.errstate(all="ignore"):
        found = summarise(norms).steady
    assert found is not None, "a run with a stable part"
    return found


def labelled(regime: str, seed: int) -> Floats:
    """(n,) norms of the benchmark's labelled traces."""
    if str(ROOT) not in sys.path:
        sys.path.append(str(ROOT))  # a script finds what lies beside it, and the benchmarks do not
    from benchmarks.traces import generator

    return generator.labelled(regime, seed).norms
