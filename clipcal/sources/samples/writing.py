"""A sample -> its files in a folder: all of them or none, and no file of the user's replaced unasked."""

from __future__ import annotations

from pathlib import Path

from clipcal.errors import InputError
from clipcal.run.files import write_whole
from clipcal.sources.samples.finding import Sample


def write_sample(sample: Sample, place: Path, *, force: bool = False) -> list[Path]:
    """The files, the spec first. ``place`` is a folder, or the spec's own path if it ends as a spec does.

    A file that already holds the same stays, since samples share modules. Raises InputError where one holds something else and
    ``force`` is not given, and where a file cannot be written.
    """
    named = place.suffix in (".yaml", ".yml")
    folder = place.parent if named else place
    name, spec = sample.spec
    wanted = {place if named else folder / name: spec.read_bytes()}
    wanted |= {folder / below: file.read_bytes() for below, file in sample.modules}
    changed = [path for path, content in wanted.items() if not _holds(path, content)]
    there = [path for path in changed if path.exists() or path.is_symlink()]
    for path in there:
        if not path.is_file():
            raise InputError(f"{path}: is there and is no ordinary file. Name another folder.")
    if there and not force:
        more = f", and {len(there) - 1} more," if len(there) > 1 else ""
        raise InputError(f"{there[0]}{more}: is there already. Name another folder, or replace it with --force.")
    written: list[Path] = []
    try:
        for path in changed:
            path.parent.mkdir(parents=True, exist_ok=True)
            fresh = path not in there
            write_whole(path, wanted[path], then="No new file is left.")
            written += [path] if fresh else []
    except OSError as e:
        _take_back(written)
        raise InputError(f"{path.parent}: cannot be made ({e.strerror or e}). Name another folder.") from None
    except InputError:
        _take_back(written)
        raise
    return list(wanted)


def _holds(path: Path, content: bytes) -> bool:
    try:
        return path.is_file() and path.read_bytes() == content
    except OSError:
        return False


def _take_back(written: list[Path]) -> None:
    for path in written:
        path.unlink(missing_ok=True)
