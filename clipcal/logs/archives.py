"""A zip that a tracker wrote offline -> the one file in it that has the metrics, read like any other log."""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from pathlib import Path

from clipcal.errors import InputError
from clipcal.logs.source import MAX_BYTES, Source

METRICS = ("messages.json", "metrics.jsonl")
"""Comet's and ClearML's."""
_CHUNK = 2**20


class Member(Source):
    """A source whose bytes are those of a file within a zip."""

    def __init__(self, path: Path, name: str) -> None:
        self._name = name
        super().__init__(path)

    def chunks(self) -> Iterator[bytes]:
        import zipfile  # few logs are in one

        read = 0
        try:
            with zipfile.ZipFile(self.path) as archive, archive.open(self._name) as stream:
                while chunk := stream.read(_CHUNK):
                    yield chunk
                    read += len(chunk)
                    if read > MAX_BYTES:
                        raise InputError(f"{self.path}: is over {MAX_BYTES >> 30} GiB, more than any training log.")
        except (zipfile.BadZipFile, zlib.error, EOFError, RuntimeError, NotImplementedError, OSError) as e:
            if not read:
                raise InputError(
                    f"{self.path}: cannot be unpacked ({e}). Unpack it yourself, or copy it again."
                ) from None


def metrics_in(path: Path) -> str | None:
    """The name of the file with the metrics in a zip; None for what is none, or holds none."""
    import zipfile

    try:
        with zipfile.ZipFile(path) as archive:
            names = [i.filename for i in archive.infolist()[:10_000]]
    except (zipfile.BadZipFile, zlib.error, EOFError, RuntimeError, NotImplementedError, OSError):
        return None
    return next((name for name in names if name.rpartition("/")[2] in METRICS), None)
