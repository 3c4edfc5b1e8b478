"""A run on disk: one directory that holds everything about one calibration, and what keeps it from being lost.

run.json  trace.jsonl  layers.f32  recommendation.json  arms/NAME-seedK.jsonl  verification.json
"""

from __future__ import annotations

import dataclasses
import datetime
import json
import shutil
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from clipcal.errors import InputError, nearest
from clipcal.jsonfile import number, write_json

FORMAT_NAME = "clipcal.run"
FORMAT_VERSION = 1

Status = Literal["running", "complete", "stopped", "interrupted", "failed"]
_OWN = ("run.json", "trace.jsonl", "layers.f32", "recommendation.json", "verification.json", "report.html")


@dataclass(frozen=True, kw_only=True)
class RunInfo:
    """What run.json says: enough to train the same arm again, anywhere the user's code is.

    ``source`` is ``{"kind": "spec", "path", "folder", "cwd", "text", "overrides"}``; ``status`` is "running" also for a
    run that was killed; ``reason`` says why a run stopped before ``steps``.
    """

    name: str
    source: dict[str, Any]
    fingerprint: str
    steps: int
    seeds: list[int]
    device: str
    threads: int
    world_size: int = 1
    method: str = "norm"
    norm_type: float = 2.0
    num_parameters: int = 0
    versions: dict[str, str] = field(default_factory=dict)
    platform: str = ""
    command: list[str] = field(default_factory=list)
    started: str = ""
    finished: str | None = None
    status: Status = "running"
    reason: str | None = None
    notes: list[str] = field(default_factory=list)

    @property
    def environment(self) -> tuple[str, int, str, tuple[tuple[str, str], ...]]:
        """What must be equal for two arms to be equal bit for bit."""
        return self.device, self.threads, self.platform, tuple(sorted(self.versions.items()))


@dataclass(frozen=True)
class Run:
    """A run directory that exists and can be read."""

    folder: Path
    info: RunInfo

    @property
    def trace(self) -> Path:
        return self.folder / "trace.jsonl"

    @property
    def layers(self) -> Path:
        return self.folder / "layers.f32"

    @property
    def recommendation(self) -> Path:
        return self.folder / "recommendation.json"

    @property
    def verification(self) -> Path:
        return self.folder / "verification.json"

    def arm(self, name: str, seed: int) -> Path:
        return self.folder / "arms" / f"{name}-seed{seed}.jsonl"

    def save(self, **changes: Any) -> Run:
        """Write run.json with these fields changed."""
        info = dataclasses.replace(self.info, **changes)
        write_json(self.folder / "run.json", {"schema": f"{FORMAT_NAME}/{FORMAT_VERSION}"} | dataclasses.asdict(info))
        return Run(self.folder, info)


def now() -> str:
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")


def is_run(folder: Path) -> bool:
    return (folder / "run.json").is_file()


def open_run(folder: Path) -> Run:
    """Read a run directory. Raises InputError that says what is there instead."""
    path = folder / "run.json"
    if not folder.exists():
        siblings = [p.name for p in folder.parent.iterdir() if is_run(p)] if folder.parent.is_dir() else []
        hint = nearest(folder.name, siblings) if siblings else ""
        raise InputError(f"{folder}: no such run.{hint} `clipcal profile SPEC` makes one.")
    if not folder.is_dir():
        raise InputError(f"{folder}: is a file; expected a run directory, as `clipcal profile SPEC` makes one.")
    if not path.is_file():
        raise InputError(f"{folder}: not a run directory (it has no run.json). `clipcal profile SPEC` makes one.")
    try:
        raw = json.loads(path.read_text(encoding="utf-8"))
        name, _, version = str(raw.pop("schema")).partition("/")
        version_number = int(version)
        if name != FORMAT_NAME:
            raise ValueError
    except (OSError, ValueError, KeyError, AttributeError):
        raise InputError(
            f"{path}: cannot be read as a run's record. The trace beside it may be whole: `clipcal recommend {folder}/trace.jsonl` reads it alone."
        ) from None
    if version_number > FORMAT_VERSION:
        raise InputError(
            f"{path}: written by a newer clipcal (run format {version_number}; this one reads up to {FORMAT_VERSION}). "
            "Upgrade with `pip install -U clipcal`; the run is left as it is."
        )
    known = {f.name for f in dataclasses.fields(RunInfo)}
    try:
        info = RunInfo(
            **{k: v for k, v in raw.items() if k in known} | {"norm_type": number(raw.get("norm_type", 2.0))}
        )
    except (TypeError, ValueError) as e:
        raise InputError(f"{path}: incomplete ({e}). Profile again into another directory with --out.") from None
    return Run(folder, info)


def refuse_to_replace(folder: Path, *, force: bool) -> None:
    """Raise InputError unless a new run may be written to ``folder``: nothing there, or a run and ``force``."""
    if folder.is_file():
        raise InputError(f"{folder}: is a file; name another directory with --out.")
    if not folder.is_dir() or not any(folder.iterdir()):
        return
    if not is_run(folder):
        raise InputError(f"{folder}: holds other files and no run; name another directory with --out.")
    if not force:
        raise InputError(
            f"{folder}: already holds a run ({_state(folder)}). Use --resume to go on with it, "
            "--force to replace it, or --out to write elsewhere."
        )


def _state(folder: Path) -> str:
    try:
        info = open_run(folder).info
        recorded = (folder / "trace.jsonl").read_bytes().count(b"\n") if (folder / "trace.jsonl").exists() else 0
    except (InputError, OSError):
        return "its run.json cannot be read"
    state = {"running": "cut short or still running", "complete": "complete"}.get(info.status, info.status)
    return f"{recorded} of {info.steps} steps, {state}"


def create(folder: Path, info: RunInfo) -> Run:
    """Make the directory, drop the run that it held, and write run.json. Other files in it are left alone."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name in _OWN:
            (folder / name).unlink(missing_ok=True)
        if (folder / "arms").is_dir():
            shutil.rmtree(folder / "arms")
        return Run(folder, info).save()
    except OSError as e:
        raise InputError(f"{folder}: cannot be written ({e.strerror}). Choose another place with --out.") from None
