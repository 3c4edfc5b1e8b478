"""Text or bytes -> a file that is whole or not there: a reader sees the old one or the new one, never half."""

from __future__ import annotations

import os
import tempfile
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
