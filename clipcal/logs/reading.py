"""A path -> the log there: the reader that recognises it, or the user's pattern, or the one log of a folder."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from clipcal.errors import InputError
from clipcal.logs.addresses import located
from clipcal.logs.choice import listed
from clipcal.logs.log import Log, Reader
from clipcal.logs.opening import opened
from clipcal.logs.pattern import pattern_reader, suggested
from clipcal.logs.source import Source, not_json
from clipcal.logs.table import readers_for

if TYPE_CHECKING:
    from clipcal.logs.folders import Found

MAX_RUNS = 64
AIM = ".aim"


def read_log(path: Path | str, *, pattern: str | None = None) -> Log:
    """The gradient norms of a log file, or of the log in a folder.

    ``pattern`` is a regular expression with a group named ``norm``, for text in no known format. Raises InputError where
    nothing can be read, where there is no gradient norm, and where a folder holds several logs.
    """
    path = located(Path(path))
    if AIM in (path.name, *(folder.name for folder in path.parents)) or (path / AIM).is_dir():
        raise InputError(
            f"{path}: is an Aim repository, which Aim's own package alone reads. Write the run's metrics to a CSV file with it (columns "
            "step, loss and grad_norm), and name that file."
        )
    if path.is_dir():
        return _of_folder(path, pattern)
    stored = _of_store(path) if pattern is None else None
    return _read([path], pattern) if stored is None else stored


def _of_store(path: Path) -> Log | None:
    """The log of the run that a file is a part of, as of trackers that write a file for each metric."""
    folders = {folder.name for folder in path.parents}
    if not (folders & {"metrics", "scalars", "logs"} or path.suffix == ".swanlab"):
        return None  # most files: what reads stores is not loaded then
    from clipcal.logs.stores import siblings, store_of

    store = store_of(path)
    return None if store is None else _checked([path], store.read(siblings(store, path)), store.title, store.norms)


def find_reader(source: Source) -> Reader | None:
    """The reader that recognises the file by its content."""
    return next((reader for reader in readers_for(source) if reader.recognises(source)), None)


class _NoNorm(InputError):
    """A log of a known format that holds no gradient norm."""


def _of_folder(folder: Path, pattern: str | None) -> Log:
    """The log of the first kind that has a gradient norm: a file without one hides none beside it."""
    from clipcal.logs.folders import find

    refused: InputError | None = None
    passed: list[str] = []
    for found in find(folder):
        try:
            log = _only(folder, found, pattern)
        except _Several:
            raise
        except InputError as e:
            if refused is None or (isinstance(e, _NoNorm) and not isinstance(refused, _NoNorm)):
                refused = e
            passed.append(found.what)
            continue
        notes = (
            (f"The {listed(passed)} in the folder holds no gradient norm; the {found.what} was read.",)
            if passed
            else ()
        )
        return replace(log, notes=(*notes, *found.notes, *log.notes))
    assert refused is not None
    raise refused


class _Several(InputError):
    """More than one log is there, and the user chooses."""


def _only(folder: Path, found: Found, pattern: str | None) -> Log:
    """The one log of a kind that holds a gradient norm."""
    logs: list[tuple[tuple[Path, ...], Log]] = []
    refused: InputError | None = None
    if len(found.logs) <= MAX_RUNS:
        for files in found.logs:
            try:
                logs.append((files, _read(files, pattern, found)))
            except InputError as e:
                if refused is None or (isinstance(e, _NoNorm) and not isinstance(refused, _NoNorm)):
                    refused = e
        if refused and not logs:
            raise refused
    if len(logs) != 1:
        names = sorted(_name(files) for files in ([files for files, _ in logs] or found.logs))
        raise _Several(f"{folder}: holds {len(names)} logs ({found.what}). Name one of them: {listed(names)}.")
    files, log = logs[0]
    if len(found.logs) == 1:
        return log
    only = f"Of {len(found.logs)} {found.what}s in the folder only {_name(files)} has a gradient norm."
    return replace(log, notes=(only, *log.notes))


def _name(files: Sequence[Path]) -> str:
    return str(files[0] if len(files) == 1 else files[0].parent)


def _read(files: Sequence[Path], pattern: str | None, found: Found | None = None) -> Log:
    if pattern is None and found is not None and found.read is not None:
        from clipcal.logs.readers import tensorboard
        from clipcal.logs.stores import store_of

        store = store_of(files[0])
        known = tensorboard.READER if store is None else store
        return _checked(files, found.read(files), known.title, known.norms)
    source = opened(files[0])
    reader = pattern_reader(pattern) if pattern is not None else find_reader(source)
    if reader is None:
        raise _unknown(source)
    return _checked(files, reader.read(source), reader.title, reader.norms)


def _checked(files: Sequence[Path], log: Log, title: str, norms: str) -> Log:
    """The log, if it holds a gradient norm."""
    if any(len(s) for s in log.series):
        return log
    known = "".join(f" {note}" for note in log.says[:1])
    raise _NoNorm(f"{_name(files)}: holds no gradient norm (read as: {title}).{known} To have it logged, {norms}.")


def _unknown(source: Source) -> InputError:
    if source.trouble is not None:
        return source.trouble
    if ".json" in source.path.suffixes and source.known_document is None and source.fault is not None:
        return not_json(source)
    held = ((line.strip(), pattern) for line in source.telling if (pattern := suggested(line)) is not None)
    if (found := next(held, None)) is not None:
        line, pattern = found
        return InputError(
            f"{source.path}: is no log that is known here. If its norms stand in lines such as {line[:120]!r}, say so with "
            f"--pattern {shlex.quote(pattern)}."
        )
    named = next((line.strip() for line in source.telling if "norm" in line.lower()), None)
    if named is not None:
        return InputError(
            f"{source.path}: is no log that is known here. It names a norm, as in {named[:120]!r}, but no line has a number behind the "
            "name. Log what torch.nn.utils.clip_grad_norm_ returns."
        )
    return InputError(
        f"{source.path}: is no log that is known here, and names no gradient norm. Known are those of Hugging Face, Lightning, "
        "TensorBoard, W&B, mmcv, fairseq, Megatron and others, CSV, JSON lines, and text that names its values; any other text is "
        "read with --pattern. If there is none yet, log what torch.nn.utils.clip_grad_norm_ returns."
    )
