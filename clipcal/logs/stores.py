"""Trackers that write one file for each metric: the folder of a run, or any file in it -> its metrics -> rows, joined by step."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from clipcal.errors import InputError
from clipcal.logs.in_use import TOLD, agreed, threshold_beside
from clipcal.logs.leveldb import Records
from clipcal.logs.log import Log
from clipcal.logs.names import kind_of, value_of
from clipcal.logs.rows import Rows
from clipcal.logs.source import Source
from clipcal.logs.tfrecord import BYTES, Malformed, fields

_MAX_PARAM = 2**14
_PARTS = re.compile(r"(\d{1,20})|(\D+)")  # a number in a name counts as a number: SwanLab goes on in 2000.log
_KINDS = ("norm", "loss", "lr", "scale", "threshold")
Point = tuple[float | None, Any]
"""A step, None where there is none, and a value in any spelling."""


@dataclass(frozen=True, kw_only=True)
class Store:
    """``run_of`` gives the folder of the run that a file belongs to, None for a file of others. ``points`` gives each metric of a run by
    its name, ``told`` the threshold in use. ``norms`` completes "To have it logged, ..."."""

    title: str
    norms: str
    run_of: Callable[[Path], Path | None]
    points: Callable[[Path, Sequence[Path]], Iterator[tuple[str, Iterable[Point]]]]
    told: Callable[[Path], tuple[str, float] | None] = lambda run: None

    def read(self, paths: Sequence[Path]) -> Log:
        """The metrics of one run, of which ``paths`` are files."""
        rows, names = Rows(), []
        paths = sorted(
            paths, key=lambda path: [(int(digits or -1), text) for digits, text in _PARTS.findall(str(path))]
        )
        run = self.run_of(paths[0])
        assert run is not None
        for name, points in self.points(run, paths):
            names.append(name)
            if kind_of(name) not in _KINDS:
                continue
            found = list(points)
            # who logs without a step leaves 0 everywhere
            numbered = len({step for step, _ in found}) > 1 or len(found) < 2
            for step, value in found:
                rows.add({name: value}, step=step if numbered else None)
        if told := self.told(run):
            rows.threshold(*told)
        return rows.log(self.title)


def store_of(path: Path) -> Store | None:
    """The store that a file belongs to."""
    return next((store for store in STORES if store.run_of(path) is not None), None)


def siblings(store: Store, path: Path) -> list[Path]:
    """All files of the run that a file belongs to, within bounds."""
    run = store.run_of(path)
    if run is None:
        return [path]
    found = sorted(p for p in run.rglob("*") if p.is_file() and store.run_of(p) == run)
    return found[:5_000]


def _above(path: Path, name: str) -> Path | None:
    """The nearest folder of that name which a file lies in."""
    return next((folder for folder in path.parents if folder.name == name), None)


def _name_below(path: Path, folder: Path) -> str:
    return path.relative_to(folder).as_posix()


# MLflow's file store: mlruns/<experiment>/<run>/metrics/train/grad_norm, a line "<ms> <value> <step>" for each value (3.17.2)


def _mlflow_run(path: Path) -> Path | None:
    metrics = _above(path, "metrics")
    return metrics.parent if metrics is not None and (metrics.parent / "meta.yaml").is_file() else None


def _mlflow_points(run: Path, paths: Sequence[Path]) -> Iterator[tuple[str, Iterable[Point]]]:
    for path in paths:
        yield _name_below(path, run / "metrics"), _mlflow_lines(path)


def _mlflow_lines(path: Path) -> Iterator[Point]:
    for line in _lines(path):
        cells = line.split()
        if len(cells) in (2, 3):
            yield (value_of(cells[2]) if len(cells) == 3 else None), cells[1]


def _mlflow_told(run: Path) -> tuple[str, float] | None:
    found = []
    for path in sorted((run / "params").glob("*"))[:2_000]:
        if kind_of(path.name) == "threshold" and path.is_file() and path.stat().st_size < _MAX_PARAM:
            found.append((path.name, path.read_text(encoding="utf-8", errors="replace").strip()))
    told = agreed(found)
    return None if told is None else (f"{told[0]} of the run", told[1])


def _dvclive_told(run: Path) -> tuple[str, float] | None:
    files = sorted(run.glob("params.yaml"))
    return threshold_beside(Source(files[0]), TOLD["dvclive"]) if files else None


# DVCLive: dvclive/plots/metrics/train/grad_norm.tsv, with a header "step<TAB>grad_norm" (3.49.1)


def _dvclive_run(path: Path) -> Path | None:
    metrics = _above(path, "metrics")
    is_one = metrics is not None and metrics.parent.name == "plots" and path.suffix == ".tsv"
    return metrics.parent.parent if metrics is not None and is_one else None


def _dvclive_points(run: Path, paths: Sequence[Path]) -> Iterator[tuple[str, Iterable[Point]]]:
    for path in paths:
        lines = (line.split("\t") for line in _lines(path))
        header = next(lines, [])
        if "step" not in header or len(header) < 2:
            continue
        at = header.index("step")
        cells = [(value_of(c[at]), c[1 - at]) for c in lines if len(c) == len(header)]
        yield _name_below(path.with_suffix(""), run / "plots" / "metrics"), cells


# torchrl's CSVLogger: <experiment>/scalars/grad_norm_0.csv, without a header, "<step>,<value>" (0.14.1)

_NUMBERED = re.compile(r"(?P<name>.+?)(?:_\d+)?")


def _torchrl_run(path: Path) -> Path | None:
    return path.parent.parent if path.parent.name == "scalars" and path.suffix == ".csv" else None


def _torchrl_points(run: Path, paths: Sequence[Path]) -> Iterator[tuple[str, Iterable[Point]]]:
    for path in paths:
        named = _NUMBERED.fullmatch(path.stem)
        cells = (line.split(",") for line in _lines(path))
        name = named["name"] if named else path.stem
        yield name, [(value_of(c[0]), c[1]) for c in cells if len(c) == 2 and value_of(c[0]) is not None]


# SwanLab, local: run-<id>/logs/<n>/1000.log, JSON lines; the names stand in run-<id>.swanlab alone, in the order of n, from 1 (0.10.3)

_COLUMN, _NAME = 12, 3


def _swanlab_run(path: Path) -> Path | None:
    if path.suffix == ".swanlab":  # by itself it is all that an offline run has
        return path.parent if any((path.parent / "logs").glob("[0-9]*/*.log")) else None
    logs = path.parent.parent
    return logs.parent if logs.name == "logs" and path.parent.name.isdigit() and path.suffix == ".log" else None


def _swanlab_points(run: Path, paths: Sequence[Path]) -> Iterator[tuple[str, Iterable[Point]]]:
    names = _swanlab_names(run)
    for path in (p for p in paths if p.suffix == ".log"):
        number = int(path.parent.name)
        name = names[number - 1] if 0 < number <= len(names) else f"metric {number}"
        yield name, _swanlab_lines(path)


def _swanlab_lines(path: Path) -> Iterator[Point]:
    for line in _lines(path):
        try:
            row = json.loads(line)
        except (ValueError, RecursionError):
            continue
        if isinstance(row, dict) and "data" in row:
            yield value_of(row.get("index")), row["data"]


def _swanlab_names(run: Path) -> list[str]:
    files = sorted(run.glob("*.swanlab"))
    if not files:
        raise InputError(
            f"{run}: is a SwanLab run without its .swanlab file, which has the names of its metrics. Name a log of its own."
        )
    names: list[str] = []
    for record in Records(Source(files[0]).chunks()):
        try:
            for number, kind, at, end in fields(record, 0, len(record)):
                if (number, kind) == (_COLUMN, BYTES):
                    inner = fields(record, at, end)
                    names += [
                        record[a:b].decode("utf-8", "replace") for n, k, a, b in inner if (n, k) == (_NAME, BYTES)
                    ]
        except Malformed:
            continue
    return list(dict.fromkeys(names))


def _swanlab_told(run: Path) -> tuple[str, float] | None:
    return threshold_beside(Source(next(iter(sorted(run.glob("*.swanlab"))))), TOLD["swanlab"])


def _lines(path: Path) -> Iterator[str]:
    """The lines of a metric's file; none of one that is empty."""
    try:
        source = Source(path)
    except InputError:
        return
    yield from (line for line in source.lines() if line.strip())


STORES: tuple[Store, ...] = (
    Store(
        title="MLflow run",
        norms='call mlflow.log_metric("train/grad_norm", norm, step=step) at every step',
        run_of=_mlflow_run,
        points=_mlflow_points,
        told=_mlflow_told,
    ),
    Store(
        title="DVCLive run",
        norms='call live.log_metric("train/grad_norm", norm) at every step',
        run_of=_dvclive_run,
        points=_dvclive_points,
        told=_dvclive_told,
    ),
    Store(
        title="torchrl's CSV logger",
        norms='call logger.log_scalar("grad_norm", norm, step) at every step',
        run_of=_torchrl_run,
        points=_torchrl_points,
    ),
    Store(
        title="SwanLab run",
        norms='call swanlab.log({"train/grad_norm": norm}, step=step) at every step',
        run_of=_swanlab_run,
        points=_swanlab_points,
        told=_swanlab_told,
    ),
)
