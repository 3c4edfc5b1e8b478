"""A run on disk: one directory that holds everything about one calibration, and what keeps it from being lost.

run.json  trace.jsonl  layers.f32  ranks.f32  recommendation.json  arms/NAME-seedK.jsonl  verification.json  choice.json
guarded.jsonl  guarded-layers.f32  guarded-ranks.f32: the same steps under a temporary guard, where the run diverges too early without
scale.jsonl: the same arm at a multiple of its batch, where that was asked for
"""

from __future__ import annotations

import contextlib
import dataclasses
import datetime
import os
import shutil
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from clipcal.errors import InputError, is_full, nearest_path
from clipcal.run.jsonfile import number, write_json
from clipcal.run.records import FORMAT_NAME, FORMAT_VERSION, SOURCES, Method, is_arm_name, read_record, wrong
from clipcal.run.records import Status as Status
from clipcal.run.source import Source, source_of

_GROWING = ("layers.f32", "ranks.f32", "guarded.jsonl", "guarded-layers.f32", "guarded-ranks.f32")
"""Files that may be written anew beside the old one, as NAME.partial."""
_RECORDS = ("run.json", "recommendation.json", "choice.json", "verification.json", "report.html")
_OWN = (*_RECORDS, "trace.jsonl", "scale.jsonl", *_GROWING, *(f"{name}.partial" for name in _GROWING))
_ASIDE = ".replaced"


@dataclass(frozen=True, kw_only=True)
class RunInfo:
    """What run.json says: enough to train the same arm again, anywhere the user's code is.

    ``status`` is "running" also for a run that was killed; ``reason`` says why a run stopped before ``steps``; ``guard`` is the
    threshold of the guarded trace, and ``in_use`` that of a script's own clipping, where it was watched.
    """

    name: str
    source: Source
    fingerprint: str
    steps: int
    seeds: list[int]
    device: str
    threads: int
    world_size: int = 1
    method: Method = "norm"
    norm_type: float = 2.0
    num_parameters: int = 0
    versions: dict[str, str] = field(default_factory=dict)
    platform: str = ""
    command: list[str] = field(default_factory=list)
    started: str = ""
    finished: str | None = None
    status: Status = "running"
    reason: str | None = None
    guard: float | None = None
    in_use: float | None = None
    notes: list[str] = field(default_factory=list)

    @property
    def environment(self) -> tuple[str, int, int, str, tuple[tuple[str, str], ...]]:
        """What must be equal for two arms to be equal bit for bit."""
        return self.device, self.threads, self.world_size, self.platform, tuple(sorted(self.versions.items()))

    def as_dict(self) -> dict[str, Any]:
        """The fields as run.json has them."""
        return dataclasses.asdict(self) | {"source": dict(self.source.record)}


class _InRun:
    """A file of a run by its name: ``run.trace`` is its path."""

    def __init__(self, name: str) -> None:
        self._name = name

    def __get__(self, run: Run, owner: type[Run]) -> Path:
        return run.folder / self._name


@dataclass(frozen=True)
class Run:
    """A run directory that exists and can be read."""

    folder: Path
    info: RunInfo

    trace = _InRun("trace.jsonl")
    layers = _InRun("layers.f32")
    ranks = _InRun("ranks.f32")
    guarded = _InRun("guarded.jsonl")
    guarded_layers = _InRun("guarded-layers.f32")
    guarded_ranks = _InRun("guarded-ranks.f32")
    scale = _InRun("scale.jsonl")
    choice = _InRun("choice.json")
    recommendation = _InRun("recommendation.json")
    verification = _InRun("verification.json")

    def arm(self, name: str, seed: int) -> Path:
        """The trace of an arm. Raises InputError for a name that leads elsewhere."""
        if not is_arm_name(name):
            raise InputError(f"{self.folder}: no arm can be called {name!r} (expected a name without a path in it).")
        return self.folder / "arms" / f"{name}-seed{seed}.jsonl"

    def save(self, **changes: Any) -> Run:
        """Write run.json with these fields changed."""
        info = dataclasses.replace(self.info, **changes)
        write_json(self.folder / "run.json", {"schema": f"{FORMAT_NAME}/{FORMAT_VERSION}"} | info.as_dict())
        return Run(self.folder, info)


def now() -> str:
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")


def is_run(folder: Path) -> bool:
    return os.path.isfile(folder / "run.json")  # Path.is_file raises where one may not look


def runs_near(folder: Path) -> list[Path]:
    """The runs that may have been meant where this one is not there: those beside it, and those in ``runs``."""
    return sorted({p for place in (folder.parent, Path("runs")) for p in place.glob("*") if is_run(p)})


def is_record(path: Path) -> bool:
    """Whether a file is one that clipcal keeps in a run beside the traces: it says nothing without the directory."""
    if path.name not in _OWN or path.suffix == ".jsonl":
        return False
    try:
        with (path.parent / "run.json").open("rb") as f:
            return f'"{FORMAT_NAME}/'.encode() in f.read(100)  # others write a run.json too, Sacred for one
    except OSError:
        return False


def open_run(folder: Path | str) -> Run:
    """Read a run directory. Raises InputError that says what is there instead."""
    folder = Path(folder)
    path = folder / "run.json"
    if not folder.exists():
        hint = nearest_path(folder, runs_near(folder))
        raise InputError(f"{folder}: no such run.{hint} `clipcal profile SPEC` makes one.")
    if not folder.is_dir():
        raise InputError(f"{folder}: is a file; expected a run directory, as `clipcal profile SPEC` makes one.")
    if not path.is_file():
        raise InputError(f"{folder}: not a run directory (it has no run.json). `clipcal profile SPEC` makes one.")
    alone = f"`clipcal recommend {folder}/trace.jsonl` reads the trace alone; profile again into another directory with --out."
    raw = read_record(path, todo=alone)
    assert raw is not None
    if "schema" not in raw:  # somebody else's: every version of ours has written it
        raise InputError(f"{path}: its 'schema' is missing, so it is no run's record of clipcal's. {alone}")
    source = source_of(raw["source"])
    found = wrong(source.record, SOURCES.get(source.kind or "", {}), within="source")
    if found is not None:
        raise InputError(f"{path}: {found}. {alone}")
    known = {f.name for f in dataclasses.fields(RunInfo)}
    fields = {k: v for k, v in raw.items() if k in known} | {"norm_type": number(raw["norm_type"]), "source": source}
    fields |= {k: None if raw.get(k) is None else number(raw[k]) for k in ("guard", "in_use")}
    return Run(folder, RunInfo(**fields))


def refuse_to_replace(folder: Path, *, force: bool) -> None:
    """Raise InputError unless a new run may be written to ``folder``: nothing there, or a run and ``force``."""
    if folder.is_file():
        raise InputError(f"{folder}: is a file; name another directory with --out.")
    if not folder.is_dir() or not any(folder.iterdir()):
        return
    if not is_run(folder) and is_run(folder / _ASIDE):
        _bring_back(folder)  # a process was killed before its new run was there
    if not is_run(folder):
        raise InputError(f"{folder}: holds other files and no run; name another directory with --out.")
    if not force:
        state, further = _told(folder)
        raise InputError(
            f"{folder}: already holds a run ({state}). Read it with `clipcal recommend {folder}`, {further}, "
            "replace it with --force, or write elsewhere with --out."
        )


def _told(folder: Path) -> tuple[str, str]:
    """How far the run that is there came, and what can be done with it."""
    further = f"continue it by `clipcal profile` with --resume and --out {folder}"
    try:
        run = open_run(folder)
        recorded = run.trace.read_bytes().count(b"\n") if run.trace.exists() else 0
    except (InputError, OSError):
        return "its run.json cannot be read", further
    status = run.info.status
    if status in ("complete", "stopped"):
        further = f"train its threshold with `clipcal verify {folder}`, make it longer with --resume and more --steps"
    state = "cut short or still running" if status == "running" else status
    return f"{recorded} of {run.info.steps} steps, {state}", further


def _bring_back(folder: Path) -> None:
    """The run that was set aside is the run again."""
    for path in (folder / _ASIDE).iterdir():
        path.rename(folder / path.name)
    (folder / _ASIDE).rmdir()


class Replacement:
    """A new run in the place of an old one, which is set aside until the new one holds something of its own.

    Whatever goes wrong before ``keep``, ``undo`` brings the old run back; a process that is killed in between leaves it in
    ``.replaced``. Other files in the directory are left alone.
    """

    def __init__(self, folder: Path, info: RunInfo, *, force: bool) -> None:
        refuse_to_replace(folder, force=force)  # once more: another process may have been quicker
        self._folder, self._aside = folder, folder / _ASIDE
        self._cleared = False
        try:
            if self._aside.is_dir():  # of a process that was killed when its new run was there: replaced already
                shutil.rmtree(self._aside)
            folder.mkdir(parents=True, exist_ok=True)
            old = [*(p for name in _OWN if (p := folder / name).exists()), *folder.glob("arms"), *folder.glob("arms-*")]
            if old:
                self._aside.mkdir(exist_ok=True)
                for path in old:
                    path.rename(self._aside / path.name)
            self._cleared = True
            self.run = Run(folder, info).save()
        except OSError as e:
            self.undo()
            todo = "Free some space, or choose" if is_full(e) else "Choose"
            raise InputError(f"{folder}: cannot be written ({e.strerror}). {todo} another place with --out.") from None
        except BaseException:
            self.undo()
            raise

    def keep(self) -> None:
        """The new run stands: the old one goes."""
        shutil.rmtree(self._aside, ignore_errors=True)

    def undo(self) -> None:
        """The new run came to nothing: the old one comes back."""
        if not self._folder.is_dir():
            return
        for name in _OWN if self._cleared else ():  # before that, what is there is still the old run's
            with contextlib.suppress(OSError):
                (self._folder / name).unlink(missing_ok=True)
        if self._aside.is_dir():
            _bring_back(self._folder)
        with contextlib.suppress(OSError):
            self._folder.rmdir()  # only where nothing else is in it
