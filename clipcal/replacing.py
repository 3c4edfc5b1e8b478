"""A place to write to -> whether what stands there may give way: nothing that clipcal did not write itself is ever lost."""

from __future__ import annotations

import stat
from collections.abc import Callable
from pathlib import Path


def may_replace(path: Path, is_ours: Callable[[Path], bool]) -> bool:
    """Whether nothing stands at ``path``, or an empty file, or one that ``is_ours`` knows as clipcal's. Raises OSError where that
    cannot be seen.

    ``is_ours`` is asked about ordinary files alone, since to read a pipe is to wait for it. A folder, a pipe and a device stay, and so does
    a link that leads nowhere: somebody put it there.
    """
    try:
        there = path.stat()
    except FileNotFoundError:
        return not path.is_symlink()
    return stat.S_ISREG(there.st_mode) and (there.st_size == 0 or is_ours(path))
