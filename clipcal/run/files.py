"""Text or bytes -> a file that is whole or not there; and whether what stands in its place may give way."""

from __future__ import annotations

import os
import stat
import tempfile
from collections.abc import Callable
from pathlib import Path

from clipcal.errors import cannot_write


def write_whole(path: Path, content: str | bytes, *, then: str = "") -> None:
    """Write to a temporary file beside ``path`` and rename. Raises InputError, ending with the sentence ``then``, where it cannot be
    written (a full disk, a folder without permission)."""
    temporary = None
    try:
        fd, temporary = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
        with os.fdopen(fd, "wb") as f:
            f.write(content.encode() if isinstance(content, str) else content)
        os.chmod(temporary, 0o666 & ~_umask())
        os.replace(temporary, path)
        temporary = None
    except OSError as e:
        raise cannot_write(path, e, then) from None
    finally:
        if temporary:
            Path(temporary).unlink(missing_ok=True)


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


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
