"""Folders -> the logs and runs below, by their names alone: what is to be read, and what is passed over, counted."""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from clipcal.errors import InputError, nearest_path
from clipcal.logs.folders import KINDS
from clipcal.logs.readers import tensorboard
from clipcal.logs.stores import store_of
from clipcal.run.directory import is_record, is_run

DEPTH = 8
"""Levels of folders that are looked into, with the one that was named."""
MAX_ENTRIES = 500_000
"""Names that are looked at: a thousand runs with their checkpoints, and no data set in files to its end."""
STATE, EVENTS, WANDB = "trainer_state.json", "events.out.tfevents.", ".wandb"
_GENERAL = ("JSON lines", "text log", "CSV file", "Sacred info.json")
"""Kinds whose names data and tables have too."""
_SKIPPED = frozenset(("__pycache__", "node_modules", "site-packages"))
_HIDDEN = frozenset((".neptune",))
"""Hidden folders that hold runs."""
_NO_LOG = frozenset(
    (
        *(
            ".avi",
            ".bmp",
            ".flac",
            ".gif",
            ".ico",
            ".jpeg",
            ".jpg",
            ".mov",
            ".mp3",
            ".mp4",
            ".png",
            ".svg",
            ".tif",
            ".tiff",
        ),
        *(".wav", ".webm", ".webp", ".eps", ".pdf", ".ttf", ".woff", ".woff2"),
        *(
            ".bin",
            ".ckpt",
            ".distcp",
            ".f32",
            ".gguf",
            ".h5",
            ".hdf5",
            ".index",
            ".model",
            ".msgpack",
            ".nemo",
            ".npy",
            ".npz",
        ),
        *(".onnx", ".pb", ".pickle", ".pkl", ".pt", ".pt2", ".pth", ".safetensors", ".tflite"),
        *(".arrow", ".feather", ".idx", ".lmdb", ".mdb", ".rec", ".tfrecord", ".tfrecords"),
        *(".7z", ".bz2", ".tar", ".tgz", ".whl", ".xz", ".zip", ".zst"),
        *(
            ".c",
            ".cc",
            ".cfg",
            ".cpp",
            ".css",
            ".cu",
            ".cuh",
            ".cxx",
            ".go",
            ".h",
            ".hpp",
            ".htm",
            ".html",
            ".in",
            ".ini",
        ),
        *(
            ".ipynb",
            ".java",
            ".js",
            ".jsx",
            ".lock",
            ".lua",
            ".md",
            ".php",
            ".pl",
            ".proto",
            ".py",
            ".pyc",
            ".pyi",
            ".pyx",
        ),
        *(".r", ".rb", ".rs", ".rst", ".scala", ".sh", ".so", ".sql", ".swift", ".tex", ".toml", ".ts", ".tsx", ".xml"),
        *(".yaml", ".yml"),
    )
)
"""Endings of pictures, weights, data, archives, source code and pages. What has another ending is looked into."""
How = Literal["run", "named", "general", "unnamed"]


@dataclass(frozen=True, kw_only=True)
class Found:
    """What is one row. ``files`` are read as one log: the event files of a folder, or the states of a training, the latest first, of which
    one is read. ``how`` it was found: a ``run`` of clipcal's; ``named`` as a tracker names its log, ``general`` as data are named too, or
    ``unnamed``: only its content says what it is."""

    path: Path
    files: tuple[Path, ...]
    how: How


@dataclass(frozen=True, kw_only=True)
class Search:
    """``passed_over`` counts what is not read: ``other`` files by their ending, ``older`` checkpoints of a training that is read,
    ``links``, and ``folders``. ``notes`` say where the search ended early."""

    found: tuple[Found, ...]
    passed_over: dict[str, int]
    notes: tuple[str, ...]


def find(places: Sequence[Path]) -> Search:
    """The logs and runs in and below folders, each once; a file that is named is read whatever it is called.

    Links are not followed below. Raises InputError where a place is not there, or is a folder that cannot be read.
    """
    walk = _Walk()
    for place in places:
        _check(place)
        if place.is_dir():
            walk.through(place)
        else:
            walk.found.append(Found(path=place, files=(place,), how="named"))
    once = {os.path.realpath(found.path): found for found in reversed(walk.found)}
    return Search(found=tuple(reversed(once.values())), passed_over=dict(walk.passed), notes=tuple(walk.notes))


def _check(place: Path) -> None:
    if not os.path.lexists(place):
        raise InputError(f"{place}: there is no such folder.{nearest_path(place, place.parent.glob('*'), listed=0)}")
    if place.is_dir() and not os.access(place, os.R_OK | os.X_OK):
        raise InputError(f"{place}: cannot be read (Permission denied). Name a folder with logs or runs in it.")


class _Walk:
    """What was found so far, nearest first."""

    def __init__(self) -> None:
        self.found: list[Found] = []
        self.passed: Counter[str] = Counter(other=0, older=0, links=0, folders=0)
        self.notes: list[str] = []
        self._seen = 0
        self._been: set[tuple[int, int]] = set()
        self._events: dict[Path, list[Path]] = {}
        self._runs: set[Path] = set()

    def through(self, folder: Path) -> None:
        level = [folder]
        states: dict[Path, list[Path]] = {}
        for _ in range(DEPTH):
            below: list[Path] = []
            for place in level:
                if self._seen > MAX_ENTRIES:
                    self._ended(folder)
                    break
                below += self._look(place, states)
            level = below
        if level and self._seen <= MAX_ENTRIES:
            self.passed["folders"] += len(level)
            self.notes.append(
                f"{len(level)} folders lie more than {DEPTH} levels below {folder}, {level[0]} for one, and were not looked into. Name them."
            )
        for training, files in states.items():
            self._state(training, files)
        for run, files in self._events.items():
            self.found.append(Found(path=run, files=tuple(files), how="named"))
        self._events.clear()

    def _ended(self, folder: Path) -> None:
        note = f"The search below {folder} ended after {MAX_ENTRIES:,} names: what lies further is not in the list. Name smaller folders."
        if note not in self.notes:
            self.notes.append(note)

    def _look(self, place: Path, states: dict[Path, list[Path]]) -> list[Path]:
        """The folders in ``place`` that are to be looked into; what is read there itself is kept."""
        if self._is_known(place):
            return []
        if _is_ours(place):
            self.found.append(Found(path=place, files=(place,), how="run"))
            return []
        try:
            with os.scandir(place) as entries:
                here = sorted(entries, key=lambda e: e.name)
        except OSError:
            self.passed["folders"] += 1
            self.notes.append(f"{place}: may not be looked into.")
            return []
        self._seen += len(here)
        names = {e.name for e in here}
        if "pyvenv.cfg" in names or "conda-meta" in names:
            self.passed["folders"] += 1
            return []
        stores = [e for e in here if e.name.endswith(WANDB) and e.is_file(follow_symlinks=False)]
        if stores:  # the rest is of the same run: its console, its configuration
            self.passed["other"] += sum(e.is_file(follow_symlinks=False) for e in here) - len(stores)
            self.passed["folders"] += sum(e.is_dir(follow_symlinks=False) for e in here)
            self.found += [Found(path=Path(e.path), files=(Path(e.path),), how="named") for e in stores]
            return []
        self._keep(place, [e for e in here if not e.is_dir(follow_symlinks=False)], states)
        return self._below(e for e in here if e.is_dir(follow_symlinks=False))

    def _is_known(self, place: Path) -> bool:
        try:
            status = os.stat(place)
        except OSError:
            return False
        known = (status.st_dev, status.st_ino) in self._been
        self._been.add((status.st_dev, status.st_ino))
        return known

    def _below(self, folders: Iterable[os.DirEntry[str]]) -> list[Path]:
        below = []
        for e in folders:
            if e.name in _SKIPPED or (e.name.startswith(".") and e.name not in _HIDDEN):
                self.passed["folders"] += 1
            else:
                below.append(Path(e.path))
        return below

    def _keep(self, place: Path, files: Iterable[os.DirEntry[str]], states: dict[Path, list[Path]]) -> None:
        events: list[Path] = []
        for e in files:
            path = Path(e.path)
            if e.is_symlink():
                self.passed["links"] += 1
            elif not e.is_file():  # a pipe would be waited for
                self.passed["other"] += 1
            elif e.name == STATE:
                states.setdefault(training_of(path), []).append(path)
            elif e.name.startswith(EVENTS):
                events.append(path)
            elif path.suffix == ".zip" and path.with_suffix("").is_dir():  # a tracker packed the folder beside it
                self.passed["other"] += 1
            elif (store := store_of(path)) is not None:
                self._stored(store.run_of(path))
            elif (how := how_named(e.name)) is None:
                self.passed["other"] += 1
            else:
                self.found.append(Found(path=path, files=(path,), how=how))
        if events:  # of one run that was started several times, or of what add_scalars wrote into a folder of its own
            self._events.setdefault(tensorboard.run_of(events[0]), []).extend(events)

    def _stored(self, run: Path | None) -> None:
        """A run that has a file for each metric is one row."""
        if run is not None and run not in self._runs:
            self._runs.add(run)
            self.found.append(Found(path=run, files=(run,), how="named"))

    def _state(self, training: Path, files: list[Path]) -> None:
        files.sort(key=lambda path: reached(path, alone=len(files) == 1), reverse=True)
        self.passed["older"] += len(files) - 1
        self.found.append(Found(path=files[0], files=tuple(files), how="named"))


def _is_ours(place: Path) -> bool:
    """Whether a folder is a run of clipcal's: others write a run.json too. A damaged one has its trace beside it."""
    return is_run(place) and (is_record(place / "run.json") or os.path.isfile(place / "trace.jsonl"))


def how_named(name: str) -> How | None:
    """How a file of that name is taken; None: it is no log, or nothing but a tracker's hidden file."""
    kind = next((kind for kind in KINDS if kind.name.fullmatch(name)), None)
    if kind is not None:
        return "general" if kind.what in _GENERAL else "named"
    if name.startswith(".") or Path(name).suffix.lower() in _NO_LOG:
        return None
    return "unnamed"


def training_of(state: Path) -> Path:
    """The folder whose checkpoints hold one training: each trainer_state.json has the whole history up to it."""
    return state.parent.parent if re.fullmatch(r"checkpoint-\d+", state.parent.name) else state.parent


def reached(state: Path, *, alone: bool) -> float:
    """The step of a trainer_state.json, without parsing it: that of its checkpoint, or what its first bytes say. One that says nothing was
    written at the end."""
    numbered = re.fullmatch(r"checkpoint-(\d+)", state.parent.name)
    if numbered or alone:
        return float(numbered[1]) if numbered else 0.0
    try:
        with state.open("rb") as f:
            said = re.search(rb'"global_step":\s*(\d{1,18})', f.read(4096))
    except OSError:
        return -1.0
    return float(said[1]) + 0.5 if said else float("inf")  # of two that reached as far, the one that was written last
