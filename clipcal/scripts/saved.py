"""The journal of what a script wrote over, removed and saved -> the files of before, put back, and notes on them."""

from __future__ import annotations

import contextlib
import itertools
import os
import signal
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from clipcal.scripts.child.asides import ASIDE, BEGAN, JOURNAL, is_folder, rows_from
from clipcal.sources.script import Script

MOST_ENTRIES = 10_000
"""Of a folder in which asides of earlier runs are looked for."""


def put_back(session: Path) -> Saved:
    """Undo, from the last to the first, what the script did to files that are older than its run. No process of it is left."""
    with _uninterrupted():
        saved = Saved(since=(session / BEGAN).stat().st_mtime_ns)
        journal = session / JOURNAL
        for _, row in reversed(rows_from(str(journal)) if journal.exists() else []):
            saved.undo(*row)
    saved.left = _asides_beside(saved.touched, known=set(saved.stuck.values()))
    return saved


class Saved:
    """The files of before, as far as they could be put back. ``changed`` could not be kept, with why; ``stuck`` could not be put back, with
    the place of its content. ``new`` were saved by the script; ``left`` are asides of earlier runs, beside what it ``touched``."""

    def __init__(self, *, since: int) -> None:
        self.changed: dict[Path, str] = {}
        self.stuck: dict[Path, Path] = {}
        self.left: list[Path] = []
        self.touched: list[Path] = []
        self._since = since
        self._was_there: dict[Path, bool] = {}
        self._saved: list[Path] = []
        self._asides: set[Path] = set()

    def undo(self, kind: str, name: str, *rest: Any) -> None:
        path = Path(name)
        self.touched.append(path)
        if kind == "saved":
            self._saved.append(path)
        elif kind == "lost":
            with contextlib.suppress(OSError):
                about = path.lstat()
                if [about.st_size, about.st_mtime_ns] != list(rest[1:]):
                    self.changed[path] = rest[0]
        elif kind == "moved":
            self._move_back(path, Path(rest[0]), (rest[1], rest[2]))
        else:
            self._put_back(path, Path(rest[0]), is_copy=kind == "copied")

    @property
    def _told(self) -> dict[Path, bool]:
        return {path: there for path, there in reversed(self._was_there.items()) if path not in self._asides}

    def put_back(self, *, there: bool) -> list[Path]:
        """What was written over (``there``), or was not there any more; of a folder and what is in it, the folder."""
        told = self._told
        return [p for p, was in told.items() if was == there and not any(parent in told for parent in p.parents)]

    @property
    def new(self) -> list[Path]:
        told = self._told
        return [p for p in reversed(self._saved) if os.path.exists(p) and p not in told and p not in self.changed]

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
            if not is_folder(aside):
                os.replace(aside, path)
            elif there:
                self._merge(aside, path)
            else:
                aside.rename(path)
        except OSError:
            self.stuck[path] = aside
        else:
            self._was_there.setdefault(path, there)

    def _merge(self, aside: Path, path: Path) -> None:
        """A folder that was removed and made again: what was in it comes back, what is new in it stays."""
        for entry in sorted(aside.iterdir()):
            goal = path / entry.name
            if is_folder(entry) and is_folder(goal):
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
                if there and is_folder(dst):
                    self._merge(dst, src)
                else:
                    os.replace(dst, src)
            except OSError:
                self.stuck[src] = dst
            else:
                self._was_there.pop(dst, None)  # it was not there before
                self._was_there.setdefault(src, there)

    def _is_new(self, path: Path) -> bool:
        about = path.lstat()
        return min(about.st_mtime_ns, about.st_ctime_ns) > self._since and ASIDE not in path.name


def notes_on(script: Script, saved: Saved) -> list[str]:
    """What the user is told of it."""
    notes = []
    if over := saved.put_back(there=True):
        way_out = "" if script.scratch else ". --scratch runs it in an empty directory"
        notes.append(f"{script.path} saved over {_listed(over)}; what was there before was put back{way_out}")
    if away := saved.put_back(there=False):
        notes.append(f"{script.path} took away {_listed(away)}; what was there before was put back")
    if saved.new and not script.scratch:
        notes.append(f"{script.path} saved {_listed(saved.new)}, from a run of a few hundred steps")
    for path, why in saved.changed.items():
        notes.append(f"{script.path} changed {_listed([path])}, of which no copy could be kept: {why}")
    for path, aside in saved.stuck.items():
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


def _asides_beside(paths: Sequence[Path], *, known: set[Path]) -> list[Path]:
    """Asides that are still there next to these files and folders, and where clipcal was called."""
    folders = {Path.cwd()} | {folder for path in paths for folder in (path.parent, path.parent.parent)}
    found: set[Path] = set()
    for folder in folders:
        with contextlib.suppress(OSError), os.scandir(folder) as entries:
            some = itertools.islice(entries, MOST_ENTRIES)
            found |= {Path(e.path) for e in some if ASIDE in e.name and not e.name.endswith(".partial")}
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
