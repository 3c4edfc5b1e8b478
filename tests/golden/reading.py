"""A golden run -> what is read from it, and what the commands answer today. Nothing here loads torch, and a run is read from a copy."""

from __future__ import annotations

import contextlib
import json
import math
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from typer.testing import CliRunner

from clipcal.cli.main import app
from clipcal.recommendation.evidence import read_choice
from clipcal.recommendation.scaling.probed import read_probed
from clipcal.run.directory import open_run
from clipcal.run.jsonfile import dumps, plain
from clipcal.run.layers import read_layers
from clipcal.run.trace import read_trace
from clipcal.runs.listing import saved_by
from clipcal.views.figures.arms import arms

GOLDEN = Path(__file__).parent
READ, ANSWERS = "read.json", "answers.json"
CHECKED = "1.0"
"""The threshold that `check` is asked about."""
CHANGES = ("age_seconds",)
"""Fields of an answer that are another one each time."""


def golden_runs() -> list[Path]:
    """The folders <version>/<name> of all versions."""
    return sorted(path.parent for path in GOLDEN.glob("*/*/run") if path.is_dir())


def name_of(golden: Path) -> str:
    return f"{golden.parent.name}/{golden.name}"


@contextlib.contextmanager
def copied(golden: Path) -> Iterator[Path]:
    """A copy of the run as ``runs/NAME`` in a working directory of its own: paths in the answers are relative to that."""
    before = Path.cwd()
    with tempfile.TemporaryDirectory(prefix="clipcal-golden-") as at:
        relative = Path("runs") / golden.name
        shutil.copytree(golden / "run", at / relative)
        os.chdir(at)
        try:
            yield relative
        finally:
            os.chdir(before)


def read(run: Path) -> dict[str, Any]:
    """Everything that this version reads from a run, in numbers that are few and move when one of the many does."""
    opened = open_run(run)
    saved = saved_by(opened)
    choice = read_choice(opened)
    traces = {path.name: _trace(path) for path in (opened.trace, opened.guarded) if path.exists()}
    traces |= {f"arms/{path.name}": _trace(path) for path in sorted(run.glob("arms/*.jsonl"))}
    rows = (opened.layers, opened.ranks, opened.guarded_layers, opened.guarded_ranks)
    shown = arms(opened)
    found = {
        "info": opened.info.as_dict(),
        "traces": traces,
        "rows": {path.name: _rows(path) for path in rows if path.exists()},
        "scale": _scale(opened.scale) if opened.scale.exists() else None,
        "choice": choice,
        "recommendation": _verdict(saved.recommendation),
        "verification": _verdict(saved.verification),
        "arms": None if shown is None else [curve.result for curve in shown.curves],
        "problems": saved.problems,
    }
    as_json: dict[str, Any] = json.loads(dumps(found))
    return as_json


def _trace(path: Path) -> dict[str, Any]:
    trace = read_trace(path)
    columns = ("loss", "grad_norm", "grad_max", "lr", "scale")
    return {
        "steps": [int(trace.step[0]), int(trace.step[-1]), len(trace)],
        "skipped": int(trace.skipped.sum()),
        "problems": trace.problems,
        **{name: _sums(getattr(trace, name)) for name in columns},
    }


def _sums(values: NDArray[Any]) -> dict[str, Any]:
    """``weighted`` tells a column from one in another order."""
    finite = np.isfinite(values)
    kept = values[finite].astype(np.float64)
    weights = np.flatnonzero(finite) + 1.0
    not_finite = {"nan": int(np.isnan(values).sum()), "inf": int(np.isinf(values).sum())}
    return {"first": float(values[0]), "sum": float(kept.sum()), "weighted": float(kept @ weights)} | not_finite


def _rows(path: Path) -> dict[str, Any]:
    layers = read_layers(path)
    sums = _sums(np.asarray(layers.norms, dtype=np.float64).ravel())
    return {"names": layers.names, "norm_type": layers.norm_type, "shape": list(layers.norms.shape), "norms": sums}


def _scale(path: Path) -> dict[str, Any]:
    probed = read_probed(path)
    about = {"times": probed.times, "reduction": probed.reduction, "batch_norm": probed.batch_norm}
    sums = {"loss": _sums(probed.loss), "norms": _sums(probed.norms), "parts": _sums(probed.parts.ravel())}
    return about | sums | {"steps": len(probed.step)}


def _verdict(saved: dict[str, Any] | None) -> Any:
    return None if saved is None else {key: saved[key] for key in ("verdict", "max_norm")}


def answers(run: Path) -> dict[str, Any]:
    """What the commands say of a run today."""
    asked = {
        "recommend": ["recommend", str(run), "--json"],
        "check": ["check", str(run), "--max-norm", CHECKED, "--json"],
        "runs": ["runs", str(run.parent), "--json"],
    }
    if (run / "scale.jsonl").exists():
        asked["recommend --scale"] = ["recommend", str(run), "--scale", "batch=4", "--json"]
    return {name: _answer(words) for name, words in asked.items()}


def _answer(words: list[str]) -> dict[str, Any]:
    result = CliRunner().invoke(app, words)
    assert result.exit_code in (0, 3), f"{words}: {result.output}"
    return {"exit": result.exit_code, "answer": _lasting(json.loads(result.stdout))}


def _lasting(value: Any) -> Any:
    if isinstance(value, dict):
        return {k: _lasting(v) for k, v in value.items() if k not in CHANGES}
    return [_lasting(v) for v in value] if isinstance(value, list) else value


def record(golden: Path, *, what: tuple[str, ...] = (READ, ANSWERS)) -> None:
    """Write what is read from a golden run, and what is answered, beside it."""
    with copied(golden) as run:
        found = {READ: read(run), ANSWERS: answers(run)}
    for name in what:
        (golden / name).write_text(
            json.dumps(plain(found[name]), indent=1, ensure_ascii=False) + "\n", encoding="utf-8"
        )


def differences(golden: Any, now: Any, where: str = "", *, extra: bool = False) -> list[str]:
    """Where two JSON values differ, numbers by more than 1e-6 relative. With ``extra`` an object may have gained keys."""
    if isinstance(golden, dict) and isinstance(now, dict):
        gained = [] if extra else [f"{where}.{key}: is new" for key in now.keys() - golden.keys()]
        lost = [f"{where}.{key}: is gone" for key in golden.keys() - now.keys()]
        shared = (differences(golden[k], now[k], f"{where}.{k}", extra=extra) for k in golden.keys() & now.keys())
        return sorted([*gained, *lost, *(found for each in shared for found in each)])
    if isinstance(golden, list) and isinstance(now, list) and len(golden) == len(now):
        pairs = enumerate(zip(golden, now, strict=True))
        return [found for i, (a, b) in pairs for found in differences(a, b, f"{where}[{i}]", extra=extra)]
    numbers = all(isinstance(v, (int, float)) and not isinstance(v, bool) for v in (golden, now))
    same = math.isclose(golden, now, rel_tol=1e-6, abs_tol=1e-12) if numbers else golden == now
    return [] if same else [f"{where}: {golden!r} became {now!r}"]
