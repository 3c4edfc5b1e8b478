"""A folder of runs -> a row for each: what it came to, how old it is, and whether its source is still what was trained."""

from __future__ import annotations

import contextlib
import datetime
import json
import os
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from clipcal.errors import InputError, nearest_path
from clipcal.recommendation.answer import Choice
from clipcal.recommendation.evidence import read_choice
from clipcal.run.directory import Run, is_run, open_run
from clipcal.run.jsonfile import number, plain
from clipcal.run.records import read_record
from clipcal.runs.sourcediff import State, source_now

SCHEMA = "clipcal.runs/1"
DEPTH = 3
"""Levels of folders below the one asked for: runs/sweep/lr-0.1/seed-0 is found, and a tree of data is not walked to its end."""
_CHUNK = 1 << 20


@dataclass(frozen=True, kw_only=True)
class Row:
    """One run as the list shows it. What cannot be known is None.

    ``max_norm`` is the threshold that training chose (``chosen`` names the candidate), or else the one that was read;
    ``verified_at`` the one that ``verification`` is about. ``recorded`` are the steps of the trace that a threshold is read
    from, of ``steps`` that were asked for (0: nobody said how many). ``unreadable`` are the files of the run that cannot
    be read, and ``problem`` says so in a sentence; ``next`` is a command to continue with.
    """

    path: str
    name: str | None = None
    kind: str | None = None
    source: str | None = None
    status: str | None = None
    reason: str | None = None
    recorded: int | None = None
    steps: int | None = None
    guard: float | None = None
    verdict: str | None = None
    max_norm: float | None = None
    method: str | None = None
    chosen: str | None = None
    verification: str | None = None
    verified_at: float | None = None
    source_now: State = "unknown"
    changed_keys: tuple[str, ...] = ()
    started: str | None = None
    age_seconds: int | None = None
    unreadable: tuple[str, ...] = ()
    problem: str | None = None
    next: str | None = None

    @property
    def stale(self) -> bool | None:
        """Whether the numbers are of a source that is no longer there as it was; None where that cannot be told."""
        return None if self.source_now == "unknown" else self.source_now in ("changed", "gone")

    def as_dict(self) -> dict[str, Any]:
        row: dict[str, Any] = plain(self)
        return row | {"stale": self.stale}


@dataclass(frozen=True, kw_only=True)
class Saved:
    """What later commands wrote into a run, None where they did not or it cannot be read; ``problems`` say of each such file why."""

    recommendation: dict[str, Any] | None
    verification: dict[str, Any] | None
    choice: Choice | None
    problems: dict[str, str]


_WRITTEN_BY = {"verification.json": "verify", "recommendation.json": "recommend"}


def list_runs(folder: Path, *, now: datetime.datetime) -> list[Row]:
    """The runs in and below ``folder``, the newest first. Raises InputError where it is no folder."""
    if not os.path.lexists(folder):
        near = nearest_path(folder, (p for p in folder.parent.glob("*") if p.is_dir()), listed=0)
        raise InputError(f"{folder}: no such folder.{near} Expected one with runs in it; the default is runs.")
    if not folder.is_dir():
        raise InputError(
            f"{folder}: is a file; expected a folder with runs in it, or two run directories. `clipcal recommend {folder}` reads a log."
        )
    found = [pair for path in find_runs(folder) if (pair := _row(path, now)) is not None]
    return [row for _, row in sorted(found, key=lambda pair: (-pair[0], pair[1].path))]


def find_runs(folder: Path) -> Iterator[Path]:
    """Run directories, as they would be typed. Nothing is looked for inside a run, a hidden folder or an environment."""
    if is_run(folder):
        yield folder
        return
    level = [folder]
    for _ in range(DEPTH):
        below: list[Path] = []
        for place in level:
            for path in _folders_in(place):
                if is_run(path):
                    yield path
                elif not path.is_symlink():  # which may lead back here
                    below.append(path)
        level = below


def _folders_in(place: Path) -> list[Path]:
    """Empty where one may not look, and in a virtual environment."""
    names = []
    with contextlib.suppress(OSError), os.scandir(place) as entries:
        for entry in entries:
            if entry.name == "pyvenv.cfg":
                return []
            with contextlib.suppress(OSError):
                if entry.is_dir() and not entry.name.startswith((".", "__pycache__", "node_modules")):
                    names.append(entry.name)
    return [place / name for name in sorted(names)]


def row_of(run: Run, *, now: datetime.datetime) -> Row:
    """What a run that can be opened came to."""
    return _known(run, now)[1]


def _row(path: Path, now: datetime.datetime) -> tuple[float, Row] | None:
    """When it was started, and its row; None for somebody else's run.json."""
    try:
        run = open_run(path)
    except InputError as e:
        if _is_foreign(path):
            return None
        when = _written(path / "run.json")
        trace = path / "trace.jsonl"
        command = shlex.join(["clipcal", "recommend", str(trace)]) if trace.is_file() else None
        return when, Row(
            path=str(path), age_seconds=_age(when, now), unreadable=("run.json",), problem=str(e), next=command
        )
    return _known(run, now)


def _is_foreign(path: Path) -> bool:
    """Others write a run.json too, Sacred for one: a whole object without our schema, and no trace of ours beside it."""
    try:
        raw = json.loads((path / "run.json").read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return False
    ours = isinstance(raw, dict) and str(raw.get("schema", "")).startswith("clipcal")
    return isinstance(raw, dict) and bool(raw) and not ours and not (path / "trace.jsonl").exists()


def _known(run: Run, now: datetime.datetime) -> tuple[float, Row]:
    info, path = run.info, str(run.folder)
    try:
        when = _moment(info.started)
    except ValueError:
        when = _written(run.folder / "run.json")
    guard = info.guard if run.guarded.exists() else None
    recorded = _lines(run.trace if guard is None else run.guarded)
    since = source_now(info)
    saved = saved_by(run)
    read, verified, choice = saved.recommendation, saved.verification, saved.choice
    verb, problem = "recommend" if read is None and recorded else None, None
    if saved.problems:
        name, problem = list(saved.problems.items())[-1]
        verb = _WRITTEN_BY.get(name)
    return when, Row(
        path=path,
        name=info.name,
        kind=info.source.kind or "unknown",
        source=info.source.shown(Path.cwd()),
        status=info.status,
        reason=info.reason,
        recorded=recorded,
        steps=info.steps,
        guard=guard,
        verdict=read["verdict"] if read else None,
        max_norm=choice.max_norm if choice else _threshold(read),
        method=info.method,
        chosen=choice.name if choice else None,
        verification=verified["verdict"] if verified else None,
        verified_at=_threshold(verified),
        source_now=since.state,
        changed_keys=since.keys,
        started=info.started,
        age_seconds=_age(when, now),
        unreadable=tuple(saved.problems),
        problem=problem,
        next=shlex.join(["clipcal", verb, path]) if verb else None,
    )


def saved_by(run: Run) -> Saved:
    """The records beside a run's trace. One that is damaged does not keep the others from being listed."""
    choice: Choice | None = None
    found: dict[str, dict[str, Any] | None] = {}
    problems: dict[str, str] = {}
    try:
        choice = read_choice(run)
    except InputError as e:
        problems[run.choice.name] = str(e)
    for path in (run.verification, run.recommendation):  # the problem that stands last is to be mended first
        command = shlex.join(["clipcal", _WRITTEN_BY[path.name], str(run.folder)])
        try:
            found[path.name] = read_record(path, todo=f"`{command}` writes it anew.")
        except InputError as e:
            problems[path.name] = str(e)
    read, verified = found.get(run.recommendation.name), found.get(run.verification.name)
    return Saved(recommendation=read, verification=verified, choice=choice, problems=problems)


def _threshold(record: dict[str, Any] | None) -> float | None:
    return None if record is None or record["max_norm"] is None else number(record["max_norm"])


def _lines(path: Path) -> int | None:
    """Whole lines of a trace, without parsing one; 0 where there is none, None where it cannot be read."""
    try:
        with path.open("rb", buffering=0) as f:
            return sum(chunk.count(b"\n") for chunk in iter(lambda: f.read(_CHUNK), b""))
    except FileNotFoundError:
        return 0
    except OSError:
        return None


def _moment(text: str) -> float:
    """Seconds since the epoch. Raises ValueError."""
    moment = datetime.datetime.fromisoformat(text)
    try:
        return (moment if moment.tzinfo else moment.replace(tzinfo=datetime.UTC)).timestamp()
    except OverflowError:
        raise ValueError(text) from None


def _written(path: Path) -> float:
    try:
        return path.stat().st_mtime
    except OSError:
        return 0.0


def _age(when: float, now: datetime.datetime) -> int | None:
    return round(now.timestamp() - when) if when else None
