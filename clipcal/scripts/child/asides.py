"""Files that are in the way of the script -> names to set them aside under, and a journal that its processes write together."""

from __future__ import annotations

import contextlib
import os
import stat
from collections.abc import Iterator
from typing import Any

try:
    import fcntl
except ImportError:  # Windows: one process at a time, then
    fcntl = None  # type: ignore[assignment]

ASIDE = ".before-clipcal"
JOURNAL = "saved"
BEGAN = "config.json"
"""Written by the parent just before the script starts: what is younger was made by it. The clock is that of the files."""
_SYSTEM = tuple(f"{os.sep}{name}{os.sep}" for name in ("dev", "proc", "sys"))
_CACHES = tuple(f"{os.sep}{name}{os.sep}" for name in ("__pycache__", ".cache", ".triton"))


class Journal:
    """Lines of JSON in the order in which things were done, for the parent to undo them from the last to the first.

    ``["aside" | "copied", path, aside]``, ``["moved", from, to, device, inode]``, ``["lost", path, why, size, mtime_ns]``,
    ``["saved", path]``.
    """

    def __init__(self, session: str) -> None:
        self.is_over = False
        self.ours: set[str] = set()
        self._path = os.path.join(session, JOURNAL)
        self._session = os.path.realpath(session) + os.sep
        self._since = os.stat(os.path.join(session, BEGAN)).st_mtime_ns
        self._fd = -1
        self._read = 0

    @contextlib.contextmanager
    def alone(self) -> Iterator[None]:
        """While no other process sets anything aside. What they did before is known then. Raises OSError after the session."""
        try:
            fd = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o666)
        except FileNotFoundError:
            self.is_over = True
            raise
        try:
            if fcntl is not None:
                fcntl.flock(fd, fcntl.LOCK_EX)
            self._fd = fd
            self._follow()
            yield
        finally:
            if fcntl is not None:
                fcntl.flock(fd, fcntl.LOCK_UN)  # a process that was forked in between would hold it on
            os.close(fd)

    def write(self, *row: Any) -> None:
        """``alone``. Whole or not at all: it is one call."""
        import json  # costs more than the rest together, and most processes never come here

        os.write(self._fd, json.dumps(row).encode() + b"\n")

    def promise(self, kind: str, path: str, *, hidden: bool = False) -> str:
        """Write that ``path`` is set aside, and give the name to do it under. An aside that is there is never written over.

        A folder's is ``hidden``: scripts that look for checkpoint-* in order to remove the oldest are not to find it.
        """
        folder, name = os.path.split(path)
        first = os.path.join(folder, f"{'.' if hidden else ''}{name}{ASIDE}")
        aside, number = first, 1
        while os.path.lexists(aside):
            number += 1
            aside = f"{first}.{number}"
        self.write(kind, path, aside)
        return aside

    def is_old(self, path: str) -> bool:
        """Whether it is a file or a link from before the run, and of a kind that somebody may miss."""
        try:
            about = os.lstat(path)
        except OSError:
            return False
        if not (stat.S_ISREG(about.st_mode) or stat.S_ISLNK(about.st_mode)):
            return False
        # either may be newer than the content: one that was given other rights, or one whose time lies in the future
        if min(about.st_mtime_ns, about.st_ctime_ns) > self._since:
            return False
        return not (path.startswith(self._session) or lies_elsewhere(path))

    def _follow(self) -> None:
        """Read what other processes wrote."""
        for size, (kind, path, *rest) in rows_from(self._path, self._read):
            self._read += size
            if kind == "copied":  # it is written in place, and looks as old as before
                self.ours.add(path)
            elif kind == "moved":
                self.ours.discard(rest[0])


def rows_from(journal: str, start: int = 0) -> list[tuple[int, list[Any]]]:
    """The lines after ``start`` bytes, each with its length. One that is not whole, of a full disk, is none."""
    import json

    found: list[tuple[int, list[Any]]] = []
    with open(journal, "rb") as f:
        f.seek(start)
        for line in f:
            with contextlib.suppress(ValueError):
                found.append((len(line), json.loads(line)))
    return found


def lies_elsewhere(path: str) -> bool:
    """Whether it is no work of the user's: a device, a cache, a lock."""
    return path.startswith(_SYSTEM) or path.endswith(".lock") or any(cache in path for cache in _CACHES)


def is_folder(path: str | os.PathLike[str]) -> bool:
    """A link to one is none."""
    return os.path.isdir(path) and not os.path.islink(path)
