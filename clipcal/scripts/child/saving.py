"""What the script is about to write over or to remove -> set aside, with a journal from which the parent puts it back.

A run of a few hundred steps must not replace the checkpoint of a long one. Python tells of its files through audit events; torch and
safetensors write with code of their own and are asked. What a subprocess that is no Python does to files is not seen.

Loaded by every Python process of the command, so nothing is imported here that costs: no torch, no json, no pathlib.
"""

from __future__ import annotations

import contextlib
import functools
import os
import stat
import sys
from _thread import _local
from collections.abc import Callable, Iterator
from typing import Any

from clipcal.scripts.child.asides import ASIDE, Journal, is_folder, lies_elsewhere

LARGEST_COPY = 64 << 20
"""Bytes. A file that is changed in place has to be copied; one that is written anew is renamed, and may have any size."""

_WRITES = os.O_WRONLY | os.O_RDWR
_watcher: Watcher | None = None


def begin(session: str) -> Watcher:
    """Look at every file that this process writes from now on. A second call changes nothing."""
    global _watcher
    if _watcher is None:
        _watcher = Watcher(session)
        sys.addaudithook(_hook_of(_watcher))
    return _watcher


def keep_what_is_there(session: Any) -> None:
    """``begin``, and look at what torch saves. Torch is imported."""
    import torch

    watcher = begin(os.fspath(session))
    torch.save = torch.serialization.save = watcher.asked_by(torch.save, position=1)
    scripting: Any = getattr(torch, "jit", None)
    if hasattr(scripting, "save"):  # it is on its way out of torch
        scripting.save = watcher.asked_by(scripting.save, position=1)


def safetensors_is_there(safetensors: Any) -> None:
    """Called when it has been imported, and before ``safetensors.torch`` takes its function from it."""
    if _watcher is not None:
        safetensors.serialize_file = _watcher.asked_by(safetensors.serialize_file, position=1, name="filename")


def _hook_of(watcher: Watcher) -> Callable[[str, tuple[Any, ...]], None]:
    actions: dict[str, Callable[..., None]] = {
        "open": watcher.before_open,
        "os.truncate": watcher.before_truncate,
        "os.rename": watcher.before_rename,
        "os.remove": watcher.before_remove,
        "os.rmdir": watcher.before_rmdir,
        "shutil.rmtree": watcher.before_rmtree,
    }

    def hook(event: str, args: tuple[Any, ...]) -> None:
        # called for every event of this process, also for each id() and each import, and never gone again: most return here
        if event in actions:
            watcher.safely(actions[event], args)

    return hook


class Watcher:
    """Nothing here raises into the script. ``_ours`` are files that the script has made, or whose content of before is safe."""

    def __init__(self, session: str) -> None:
        self._journal = Journal(session)
        self._ours = self._journal.ours
        self._saved: set[str] = set()
        self._inside = _local()

    def safely(self, action: Callable[..., None], args: tuple[Any, ...]) -> None:
        """What we do ourselves raises events too, which are not looked at. After the session nothing is."""
        try:
            if self._journal.is_over or getattr(self._inside, "busy", False):
                return
            self._inside.busy = True
            try:
                action(*args)
            finally:
                self._inside.busy = False
        except Exception:
            return

    def asked_by(self, save: Callable[..., Any], *, position: int, name: str = "f") -> Callable[..., Any]:
        """``save``, a function that takes a path or a file, made to tell us before it writes."""

        @functools.wraps(save)
        def watched(*args: Any, **kwargs: Any) -> Any:
            self.safely(self._before_save, (args[position] if len(args) > position else kwargs.get(name),))
            return save(*args, **kwargs)

        return watched

    # What the script is about to do

    def before_open(self, path: Any, mode: Any, flags: int) -> None:
        if flags & _WRITES and not flags & os.O_EXCL and not isinstance(path, int):
            self._before_writing(path, anew=bool(flags & os.O_TRUNC))

    def before_truncate(self, path: Any, length: int) -> None:
        if not isinstance(path, int):  # a file that is open has been seen
            self._before_writing(path, anew=False)

    def before_rename(self, src: Any, dst: Any, src_fd: int = -1, dst_fd: int = -1) -> None:
        src, dst = _place(src, src_fd), _place(dst, dst_fd)
        if src == dst or not os.path.lexists(src):
            return
        moves_folder = is_folder(src)
        if not moves_folder and dst not in self._ours and self._journal.is_old(dst):
            with self._journal.alone():
                if self._journal.is_old(dst):
                    self._set_aside_by_link(dst, stays=False)
        if src not in self._ours and (self._holds_old(src) if moves_folder else self._journal.is_old(src)):
            with self._journal.alone():
                about = os.lstat(src)
                self._journal.write("moved", src, dst, about.st_dev, about.st_ino)
                self._ours.discard(dst)
        else:
            self._ours.add(dst)
        self._ours.discard(src)
        if src in self._saved:
            self._note_saved(dst)

    def before_remove(self, path: Any, folder_fd: int = -1) -> None:
        path = _place(path, folder_fd)
        if path in self._ours:
            self._ours.discard(path)
        elif self._journal.is_old(path):
            with self._journal.alone():
                if self._journal.is_old(path):
                    self._set_aside_by_link(path, stays=True)

    def before_rmdir(self, path: Any, folder_fd: int = -1) -> None:
        """A folder whose files were removed one by one still holds what we set aside there, and is not to be found full."""
        path = _place(path, folder_fd)
        names = os.listdir(path)
        if names and all(ASIDE in name for name in names):
            self._set_folder_aside(path)

    def before_rmtree(self, path: Any, folder_fd: int | None = None) -> None:
        path = _place(path, folder_fd)
        if is_folder(path) and self._holds_old(path):
            self._set_folder_aside(path)

    def _before_save(self, file: Any) -> None:
        if isinstance(file, (str, bytes, os.PathLike)):
            self._before_writing(file, anew=True)
        else:
            file = getattr(file, "name", None)
        if isinstance(file, (str, bytes, os.PathLike)):
            self._note_saved(os.path.realpath(os.fsdecode(file)))

    def _before_writing(self, path: Any, *, anew: bool) -> None:
        # through a link, since it is not the link that is written
        path = os.path.realpath(os.fsdecode(path))
        if path in self._ours:
            return
        if not self._journal.is_old(path):
            self._ours.add(path)
        elif os.access(path, os.W_OK):
            with self._journal.alone():
                if path in self._ours or not self._journal.is_old(path):
                    return  # another process was first
                if anew:
                    self._set_aside(path)
                else:
                    self._set_copy_aside(path)

    # What we do before it does

    def _set_aside(self, path: str) -> None:
        aside = self._journal.promise("aside", path)
        with self._or_lost(path):
            os.rename(path, aside)
            self._ours.add(path)

    def _set_aside_by_link(self, path: str, *, stays: bool) -> None:
        """Under a second name, so that there is no moment at which other processes do not find it."""
        aside = self._journal.promise("aside", path)
        with self._or_lost(path):
            try:
                os.link(path, aside, follow_symlinks=False)
            except (OSError, NotImplementedError):
                os.rename(path, aside)
                if stays:  # for it to be removed
                    os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL))

    def _set_copy_aside(self, path: str) -> None:
        about = os.stat(path)
        if about.st_size > LARGEST_COPY:
            self._lose(path, f"more than {LARGEST_COPY >> 20} MB, changed in place")
            return
        import shutil

        aside = self._journal.promise("copied", path)
        with self._or_lost(path):
            shutil.copy2(path, aside + ".partial")
            with contextlib.suppress(OSError, AttributeError):
                os.chown(aside + ".partial", about.st_uid, about.st_gid)
            os.rename(aside + ".partial", aside)
            self._ours.add(path)

    def _set_folder_aside(self, path: str) -> None:
        with self._journal.alone():
            mode = stat.S_IMODE(os.lstat(path).st_mode)
            aside = self._journal.promise("aside", path, hidden=True)
            os.rename(path, aside)
            os.mkdir(path, mode)

    @contextlib.contextmanager
    def _or_lost(self, path: str) -> Iterator[None]:
        try:
            yield
        except Exception as e:
            self._lose(path, str(getattr(e, "strerror", None) or e))

    def _lose(self, path: str, why: str) -> None:
        about = os.stat(path)
        self._journal.write("lost", path, why, about.st_size, about.st_mtime_ns)
        self._ours.add(path)

    def _note_saved(self, path: str) -> None:
        if path not in self._saved and not lies_elsewhere(path):
            self._saved.add(path)
            with self._journal.alone():
                self._journal.write("saved", path)

    def _holds_old(self, folder: str) -> bool:
        """Whether anything in it is older than the run, but what the script has copied there with its times."""
        paths = (os.path.join(where, name) for where, _, names in os.walk(folder) for name in names)
        return any(path not in self._ours and self._journal.is_old(path) for path in paths)


def _place(path: Any, folder_fd: int | None) -> str:
    """Where the name itself stands, whatever it may link to."""
    within = os.fsdecode(path)
    if folder_fd is not None and folder_fd >= 0 and not os.path.isabs(within):
        within = os.path.join(os.readlink(f"/proc/self/fd/{folder_fd}"), within)
    folder, name = os.path.split(os.path.abspath(within))
    return os.path.join(os.path.realpath(folder), name)
