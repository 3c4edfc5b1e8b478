"""A figure -> its file: png, svg or pdf by its suffix, the same bytes every time, never over a file that is not ours."""

from __future__ import annotations

import io
import os
import re
import stat
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from clipcal.errors import InputError, is_full, nearest_path
from clipcal.run.files import may_replace

if TYPE_CHECKING:
    from matplotlib.figure import Figure

CREATOR = "clipcal"
SUFFIXES = (".png", ".svg", ".pdf")
DPI = {".png": 200, ".svg": 300, ".pdf": 300}
"""Dots per inch: of a png, and in the others of what would be too many lines."""
METADATA: dict[str, dict[str, str | None]] = {
    ".png": {"Software": CREATOR},
    ".svg": {"Creator": CREATOR, "Date": None},
    ".pdf": {"Creator": CREATOR, "CreationDate": None},
}
ROOM = 64 * 1024
"""Bytes that the smallest pictures take."""


def check_file(file: Path) -> None:
    """Find out, before anything is read or trained, whether a picture can be drawn into ``file``. Raises InputError.

    A picture that clipcal wrote is replaced; any other file is left alone, and refused.
    """
    suffix = file.suffix.lower()
    if suffix not in SUFFIXES:
        found = f"ends in {suffix!r}" if suffix else "has no suffix"
        raise InputError(
            f"--plot {file}: {found}, which is no picture that can be drawn here. Name a .png, a .svg or a .pdf file."
        )
    try:
        import matplotlib  # noqa: F401
    except ImportError:
        raise InputError(
            f"--plot {file}: pictures are drawn by matplotlib, which is not installed. Run pip install 'clipcal[plots]'"
        ) from None
    target = Path(os.path.realpath(file))
    try:
        _check_there(file, target)
        with tempfile.TemporaryFile(dir=target.parent) as f:
            f.write(b"\0" * ROOM)
            f.flush()
    except FileNotFoundError:
        hint = nearest_path(target.parent, _folders(target.parent.parent), listed=0)
        raise InputError(
            f"--plot {file}: there is no folder {str(file.parent)!r}.{hint} Make it, or name a file elsewhere."
        ) from None
    except NotADirectoryError:
        raise InputError(
            f"--plot {file}: {str(file.parent)!r} is no folder. Name a file in one where you may write."
        ) from None
    except (OSError, ValueError) as e:
        raise _cannot_write(file, e) from None


def save(figure: Figure, file: Path) -> None:
    """Write to a temporary file beside it and rename: a reader sees the old picture or the new one, never half.

    To be called in ``our_style()``. Raises InputError where it cannot be written.
    """
    suffix = file.suffix.lower()
    drawn = io.BytesIO()
    figure.savefig(drawn, format=suffix[1:], dpi=DPI[suffix], metadata=METADATA[suffix])
    target = Path(os.path.realpath(file))
    temporary = None
    try:
        _check_there(file, target)  # again: training may have taken hours
        fd, temporary = tempfile.mkstemp(prefix=".clipcal-", suffix=suffix, dir=target.parent)
        with os.fdopen(fd, "wb") as f:
            f.write(drawn.getbuffer())
        os.chmod(temporary, stat.S_IMODE(target.stat().st_mode) if target.exists() else 0o666 & ~_umask())
        os.replace(temporary, target)
        temporary = None
    except (OSError, ValueError) as e:
        raise _cannot_write(file, e) from None
    finally:
        if temporary:
            Path(temporary).unlink(missing_ok=True)


def is_ours(file: Path) -> bool:
    """Whether clipcal drew this file, and no other program has saved it since, as far as the file tells."""
    data = file.read_bytes()
    match file.suffix.lower():
        case ".png":  # its chunks follow each other: length, name, content, checksum
            return data.startswith(b"\x89PNG") and b"tEXtSoftware\0" + CREATOR.encode() in data.partition(b"IDAT")[0]
        case ".svg":  # Inkscape keeps the creator, and writes another beginning
            head = data[:4000]
            creator = rb"<dc:creator>\s*<cc:Agent>\s*<dc:title>" + CREATOR.encode() + rb"</dc:title>"
            return b"<!DOCTYPE svg" in head and re.search(creator, head) is not None
        case _:
            return data.startswith(b"%PDF") and f"/Creator ({CREATOR})".encode() in data


def _check_there(file: Path, target: Path) -> None:
    """Raise InputError where something is there that must not be replaced."""
    if target.is_dir():
        raise InputError(f"--plot {file}: is a folder. Name a file in it, such as {file / 'norms.svg'}.")
    if not may_replace(target, is_ours):
        raise InputError(
            f"--plot {file}: is there already, and clipcal did not write it as it is now, so it is kept. Name another file, or "
            "move that one away."
        )


def _cannot_write(file: Path, error: OSError | ValueError) -> InputError:
    reason = (error.strerror if isinstance(error, OSError) else None) or str(error)
    todo = "Name a file where you may write."
    if isinstance(error, OSError) and is_full(error):
        todo = "Free some space, and try again."
    return InputError(f"--plot {file}: cannot be written ({reason}). What was there before is kept. {todo}")


def _folders(place: Path) -> list[Path]:
    return [p for p in place.iterdir() if p.is_dir()] if place.is_dir() else []


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
