"""A folder that a framework writes its run into -> the logs in it."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from clipcal.errors import InputError
from clipcal.logs.choice import listed
from clipcal.logs.log import Log
from clipcal.logs.readers import tensorboard
from clipcal.logs.stores import STORES, store_of
from clipcal.run.directory import is_record

DEPTH, MAX_ENTRIES = 6, 20_000


@dataclass(frozen=True, kw_only=True)
class Kind:
    """Files that are the log of one framework. ``order`` tells the latest of several of one training; None where each is
    another training, and so the user chooses. ``runs`` puts files together that ``read`` takes as one log."""

    what: str
    name: re.Pattern[str]
    order: Callable[[Path], Any] | None = None
    runs: Callable[[Sequence[Path]], list[tuple[Path, ...]]] | None = None
    read: Callable[[Sequence[Path]], Log] | None = None


def _reached(path: Path) -> tuple[float, int]:
    """The step of a checkpoint's trainer_state.json, which holds the whole history up to it."""
    numbered = re.search(r"checkpoint-(\d+)$", path.parent.name)
    try:
        if path.stat().st_size < 64 * 2**20:
            reached = json.loads(path.read_bytes()).get("global_step")
            if isinstance(reached, (int, float)):
                return float(reached), -len(path.parts)
    except (OSError, ValueError, AttributeError, RecursionError):
        pass
    return float(numbered[1]) if numbered else -1.0, -len(path.parts)


def _version(path: Path) -> tuple[int, float]:
    """The number of the metrics.csv's version_N, as Lightning counts."""
    numbered = re.search(r"version_(\d+)$", path.parent.name)
    return int(numbered[1]) if numbered else -1, path.stat().st_mtime


def _tensorboard_runs(paths: Sequence[Path]) -> list[tuple[Path, ...]]:
    """The event files of one folder are one run that was started several times, and the folders that add_scalars makes are a part of it."""
    here = {path.parent for path in paths}
    runs: dict[Path, list[Path]] = {}
    for path in paths:
        if _HPARAMS.fullmatch(path.parent.name) and path.parent.parent in here:
            continue  # one value of each metric, which stand in the run itself
        runs.setdefault(tensorboard.run_of(path), []).append(path)
    return [tuple(sorted(files)) for files in runs.values()]


_HPARAMS = re.compile(r"\d{9,11}\.\d+")  # add_hparams names its folder by the time
KINDS: tuple[Kind, ...] = (
    Kind(what="trainer_state.json", name=re.compile(r"trainer_state\.json"), order=_reached),
    Kind(what="W&B run", name=re.compile(r"run-\w+\.wandb")),
    Kind(what="database of a tracker", name=re.compile(r".*\.(db|sqlite3?)")),
    Kind(what="SwanLab record", name=re.compile(r"run-[\w-]+\.swanlab")),
    Kind(what="Neptune's offline operations", name=re.compile(r"data-\d+\.log")),
    Kind(what="offline experiment", name=re.compile(r"metrics\.jsonl|messages\.json")),
    Kind(what="zip of an offline experiment", name=re.compile(r"[\w-]+\.zip")),
    Kind(what="VisualDL record", name=re.compile(r"vdlrecords\..*\.log")),
    Kind(what="metrics.csv", name=re.compile(r"metrics\.csv"), order=_version),
    Kind(what="RLlib result.json", name=re.compile(r"result\.json")),
    Kind(what="mmcv or MMEngine log", name=re.compile(r".*\.log\.json|scalars\.json|\d{8}_\d{6}\.json")),
    Kind(what="Sacred info.json", name=re.compile(r"info\.json")),
    Kind(
        what="TensorBoard run",
        name=re.compile(r"events\.out\.tfevents\..*"),
        runs=_tensorboard_runs,
        read=tensorboard.read_folder,
    ),
    Kind(what="skorch history.json", name=re.compile(r"history\.json")),
    Kind(what="JSON lines", name=re.compile(r".*\.jsonl(\.gz)?")),
    Kind(
        what="text log",
        name=re.compile(r"(.*[._-])?(log|output|train|main|console)([._-].*)?\.(txt|log)|.*\.log(\.gz)?|log_rank0.*"),
    ),
    Kind(what="CSV file", name=re.compile(r".*\.(csv|tsv)(\.gz)?")),
)
"""The kinds of logs in the order in which they are looked for, behind the stores."""


@dataclass(frozen=True, kw_only=True)
class Found:
    """The logs of one kind in a folder, each one file, or several files that ``read`` takes. ``notes``: what was chosen among them, and
    why."""

    what: str
    logs: tuple[tuple[Path, ...], ...]
    read: Callable[[Sequence[Path]], Log] | None = None
    notes: tuple[str, ...] = ()


def find(folder: Path) -> list[Found]:
    """The logs in a folder, kind by kind in the order in which they are looked at; clipcal's own runs hold none. Raises InputError where
    there is none."""
    if folder.name == "arms" and is_record(folder.parent / "run.json"):
        raise InputError(f"{folder}: holds the arms of a run; name the run, {folder.parent}, or one of its arms.")
    paths = _walk(folder)
    own = sorted(p.parent for p in paths if p.name == "run.json" and is_record(p))
    paths = [p for p in paths if not any(run in p.parents for run in own)]
    found, rest = _stored(paths)
    for kind in KINDS:
        hits = [p for p in rest if kind.name.fullmatch(p.name)]
        rest = [p for p in rest if p not in set(hits)]
        if not hits:
            continue
        if kind.runs is not None:
            found.append(Found(what=kind.what, logs=tuple(kind.runs(hits)), read=kind.read))
        elif kind.order is not None and len(hits) > 1:
            chosen = max(hits, key=kind.order)
            note = f"The folder holds {len(hits)} files named {chosen.name}; the latest was read, {chosen}."
            found.append(Found(what=kind.what, logs=((chosen,),), notes=(note,)))
        else:
            found.append(Found(what=kind.what, logs=tuple((hit,) for hit in hits)))
    if found:
        return found
    if own:
        runs_here, which = ("1 run", "it") if len(own) == 1 else (f"{len(own)} runs", "one of them")
        raise InputError(f"{folder}: holds {runs_here}: {listed([str(run) for run in own])}; name {which}.")
    looked = ", ".join([*(store.title for store in STORES), *(kind.what for kind in KINDS)])
    raise InputError(
        f"{folder}: is not a run directory (it has no run.json), and holds no training log. Looked for: {looked}. Name the log "
        "itself, or record a run with `clipcal profile SPEC`."
    )


def _stored(paths: Sequence[Path]) -> tuple[list[Found], list[Path]]:
    """The runs of stores, and the files that belong to none."""
    runs: dict[tuple[str, Path], list[Path]] = {}
    rest = []
    for path in paths:
        store = store_of(path)
        run = None if store is None else store.run_of(path)
        if store is None or run is None:
            rest.append(path)
        else:
            runs.setdefault((store.title, run), []).append(path)
    found = []
    for store in STORES:
        logs = tuple(tuple(files) for (title, _), files in runs.items() if title == store.title)
        if logs:
            found.append(Found(what=store.title, logs=logs, read=store.read))
    return found, rest


def _walk(folder: Path) -> list[Path]:
    """Regular files below, nearest first, links not followed, within bounds."""
    found: list[Path] = []
    level = [folder]
    seen = 0
    for _ in range(DEPTH):
        below: list[Path] = []
        for place in level:
            try:
                entries = sorted(os.scandir(place), key=lambda e: e.name)
            except OSError as e:
                if place == folder:
                    raise InputError(f"{folder}: cannot be read ({e.strerror}). Name a training log.") from None
                continue
            for entry in entries:
                seen += 1
                if seen > MAX_ENTRIES:
                    return found
                if entry.is_dir(follow_symlinks=False):
                    below.append(Path(entry.path))
                elif entry.is_file():
                    found.append(Path(entry.path))
        level = below
    return found
