"""Folders of the user's code -> what of them is sent to a machine that does not have them, and a digest that tells whether it does."""

from __future__ import annotations

import hashlib
import io
import os
import zipfile
from collections.abc import Iterable
from pathlib import Path

SENT = frozenset(
    (
        *(".c", ".cc", ".cfg", ".cpp", ".cu", ".cuh", ".h", ".hpp", ".ini", ".json", ".jsonc"),
        *(".py", ".pyd", ".pyi", ".so", ".toml", ".txt", ".yaml", ".yml"),
    )
)
"""Endings of code and of what configures it. Everything else is taken for data."""
SKIPPED = frozenset(("__pycache__", "mlruns", "node_modules", "runs", "site-packages", "wandb"))
"""Folders that are not looked into, as is none whose name begins with a dot, and no environment of Python."""
LARGEST_FILE = 1024**2
LARGEST_FOLDER = 64 * 1024**2
"""Of the files that are sent. Far below Ray's own limit for code, 512 MiB: the copy passes through memory."""
MOST_SEEN = 50_000
"""Names that are looked at, the nearest first: a home directory or a data set in files is not searched to its end."""


def digest_of(folder: Path) -> str:
    """Equal where the Python files of a folder are. The rest of what is sent is left out: a log or a result in it may grow."""
    digest = hashlib.sha256()
    for path in _files(folder)[0]:
        if path.suffix == ".py" and (content := _content(path)) is not None:
            name = path.relative_to(folder).as_posix()
            digest.update(f"{name}\0{len(content)}\0".encode() + content)
    return digest.hexdigest()


def is_small(folder: Path) -> bool:
    """Whether what would be sent of a folder is little enough."""
    files, whole = _files(folder)
    return whole and sum(len(_content(path) or b"") for path in files) <= LARGEST_FOLDER


def packed(folders: Iterable[Path]) -> bytes:
    """A zip of what is sent of these absolute folders, each file under its whole path."""
    buffer = io.BytesIO()
    files = {path: None for folder in folders for path in _files(folder)[0]}
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for path in files:
            if (content := _content(path)) is not None:
                archive.writestr(_below_root(path).as_posix(), content)
    return buffer.getvalue()


def unpack(data: bytes, root: Path) -> None:
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        archive.extractall(root)


def moved(folder: Path, root: Path) -> Path:
    """Where a folder is among the unpacked ones."""
    return root / _below_root(folder)


def _below_root(path: Path) -> Path:
    return path.relative_to(path.anchor)


def _files(folder: Path) -> tuple[list[Path], bool]:
    """The files that are sent, and whether all of the folder was looked at. The same for equal folders anywhere."""
    found: list[Path] = []
    level, seen = [folder], 0
    while level:
        deeper = []
        for place in level:
            try:
                entries = sorted(os.scandir(place), key=lambda e: e.name)
            except OSError:  # not there, or not to be looked into
                continue
            seen += len(entries)
            if seen > MOST_SEEN:
                return found, False
            if any(e.name in ("pyvenv.cfg", "conda-meta") for e in entries):
                continue
            for e in entries:
                if e.is_dir(follow_symlinks=False):
                    if e.name not in SKIPPED and not e.name.startswith("."):
                        deeper.append(Path(e.path))
                elif Path(e.name).suffix in SENT and _is_read(e):
                    found.append(Path(e.path))
        level = deeper
    return found, True


def _content(path: Path) -> bytes | None:
    try:
        return path.read_bytes()
    except OSError:  # gone since, as a log may be
        return None


def _is_read(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_file() and entry.stat().st_size <= LARGEST_FILE and os.access(entry.path, os.R_OK)
    except OSError:
        return False
