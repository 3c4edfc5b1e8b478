"""The journal of what a script wrote over, removed and saved -> the files of before, put back, and notes on them."""

from __future__ import annotations

import contextlib
import itertools
import os
import signal
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from clipcal.scripts.child.asides import ASIDE, BEGAN, JOURNAL, rows_from
from clipcal.sources.script import Script

MOST_ENTRIES = 10_000
"""Of a folder in which asides of earlier runs are looked for."""


@dataclass(kw_only=True)
class Saved:
    """``over`` and ``away``: written over, and not there any more, when the script ended; both are what they were. ``changed`` could
    not be kept, with why; ``stuck`` could not be put back, with the place of its content. ``left`` are asides of earlier runs."""

    over: list[Path] = field(default_factory=list)
    away: list[Path] = field(default_factory=list)
    new: list[Path] = field(default_factory=list)
    changed: list[tuple[Path, str]] = field(default_factory=list)
    stuck: list[tuple[Path, Path]] = field(default_factory=list)
    left: list[Path] = field(default_factory=list)


def put_back(session: Path) -> Saved:
    """Undo, from the last to the first, what the script did to files that are older than its run. No process of it is left."""
    with _uninterrupted():
        undoing = _Undoing(since=(session / BEGAN).stat().st_mtime_ns)
        journal = session / JOURNAL
        rows = [row for _, row in rows_from(str(journal))] if journal.exists() else []
        for row in reversed(rows):
            undoing.undo(*row)
    return undoing.result([Path(row[1]) for row in rows])


class _Undoing:
    def __init__(self, *, since: int) -> None:
        self._since = since
        self._was_there: dict[Path, bool] = {}
        self._saved: list[Path] = []
        self._changed: dict[Path, str] = {}
        self._stuck: dict[Path, Path] = {}
        self._asides: set[Path] = set()

    def undo(self, kind: str, name: str, *rest: Any) -> None:
        path = Path(name)
        if kind == "saved":
            self._saved.append(path)
        elif kind == "lost":
            with contextlib.suppress(OSError):
                about = path.lstat()
                if [about.st_size, about.st_mtime_ns] != list(rest[1:]):
                    self._changed[path] = rest[0]
        elif kind == "moved":
            self._move_back(path, Path(rest[0]), (rest[1], rest[2]))
        else:
            self._put_back(path, Path(rest[0]), is_copy=kind == "copied")

    def result(self, touched: Sequence[Path]) -> Saved:
        told = {path: there for path, there in reversed(self._was_there.items()) if path not in self._asides}
        outer = [path for path in told if not any(parent in told for parent in path.parents)]
        return Saved(
            over=[path for path in outer if told[path]],
            away=[path for path in outer if not told[path]],
            new=[p for p in reversed(self._saved) if os.path.exists(p) and p not in told and p not in self._changed],
            changed=list(self._changed.items()),
            stuck=list(self._stuck.items()),
            left=_asides_beside(touched, known=set(self._stuck.values())),
        )

    def _put_back(self, path: Path, aside: Path, *, is_copy: bool) -> None:
        self._asides.add(aside)
        with contextlib.suppress(OSError):  # there is one where the script was killed while it was copied
            os.remove(f"{aside}.partial")
        if not os.path.lexists(aside):
            return
        there = os.path.lexists(path)
        try:
            if there and _is_same(path, aside, is_copy=is_copy):  # it was not changed after all
                aside.unlink()
                return
            path.parent.mkdir(parents=True, exist_ok=True)
            if not _is_folder(aside):
                os.replace(aside, path)
            elif there:
                self._merge(aside, path)
            else:
                aside.rename(path)
        except OSError:
            self._stuck[path] = aside
        else:
            self._was_there.setdefault(path, there)

    def _merge(self, aside: Path, path: Path) -> None:
        """A folder that was removed and made again: what was in it comes back, what is new in it stays."""
        for entry in sorted(aside.iterdir()):
            goal = path / entry.name
            if _is_folder(entry) and _is_folder(goal):
                self._merge(entry, goal)
            elif os.path.lexists(goal) and self._is_new(entry):  # both are the script's
                entry.unlink()
            else:
                os.replace(entry, goal)
        aside.rmdir()

    def _move_back(self, src: Path, dst: Path, inode: tuple[int, int]) -> None:
        with contextlib.suppress(OSError):
            about = dst.lstat()
            if (about.st_dev, about.st_ino) != inode:
                return
            there = os.path.lexists(src)
            try:
                if there and _is_folder(dst):
                    self._merge(dst, src)
                else:
                    os.replace(dst, src)
            except OSError:
                self._stuck[src] = dst
            else:
                self._was_there.pop(dst, None)  # it was not there before
                self._was_there.setdefault(src, there)

    def _is_new(self, path: Path) -> bool:
        about = path.lstat()
        return min(about.st_mtime_ns, about.st_ctime_ns) > self._since and ASIDE not in path.name


def notes_on(script: Script, saved: Saved) -> list[str]:
    """What the user is told of it."""
    notes = []
    if saved.over:
        way_out = "" if script.scratch else ". --scratch runs it in an empty directory"
        notes.append(f"{script.path} saved over {_listed(saved.over)}; what was there before was put back{way_out}")
    if saved.away:
        notes.append(f"{script.path} took away {_listed(saved.away)}; what was there before was put back")
    if saved.new and not script.scratch:
        notes.append(f"{script.path} saved {_listed(saved.new)}, from a run of a few hundred steps")
    for path, why in saved.changed:
        notes.append(f"{script.path} changed {_listed([path])}, of which no copy could be kept: {why}")
    for path, aside in saved.stuck:
        notes.append(f"{_listed([path])} could not be put back; what was there before is {_listed([aside])}")
    if saved.left:
        notes.append(
            "an earlier run of clipcal that was killed, or could not put it back, has left what was there before it: "
            f"{_listed(saved.left)}. Rename back what you want; clipcal leaves it as it is"
        )
    return notes


def _listed(paths: Sequence[Path]) -> str:
    names = list(dict.fromkeys(os.path.relpath(p) for p in paths))
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")


def _is_same(path: Path, aside: Path, *, is_copy: bool) -> bool:
    one, other = path.lstat(), aside.lstat()
    if os.path.samestat(one, other):
        return True
    return is_copy and (one.st_size, one.st_mtime_ns) == (other.st_size, other.st_mtime_ns)


def _is_folder(path: Path) -> bool:
    return os.path.isdir(path) and not os.path.islink(path)


def _is_aside(name: str) -> bool:
    return ASIDE in name and not name.endswith(".partial")


def _asides_beside(paths: Sequence[Path], *, known: set[Path]) -> list[Path]:
    """Asides that are still there next to these files and folders, and where clipcal was called."""
    folders = {Path.cwd()} | {folder for path in paths for folder in (path.parent, path.parent.parent)}
    found: set[Path] = set()
    for folder in folders:
        with contextlib.suppress(OSError), os.scandir(folder) as entries:
            found |= {Path(e.path) for e in itertools.islice(entries, MOST_ENTRIES) if _is_aside(e.name)}
    return sorted(found - known)


@contextlib.contextmanager
def _uninterrupted() -> Iterator[None]:
    """A second Ctrl-C waits until the files are back."""
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT, signal.SIGTERM})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
