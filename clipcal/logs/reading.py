"""A path -> the log there: the reader that recognises it, or the user's pattern, or the one log of a folder."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from clipcal.errors import InputError
from clipcal.logs.choice import listed
from clipcal.logs.folders import Found, find
from clipcal.logs.log import Log, Reader
from clipcal.logs.notebooks import opened
from clipcal.logs.pattern import pattern_reader, suggested
from clipcal.logs.readers import tensorboard
from clipcal.logs.source import Source, not_json
from clipcal.logs.table import READERS

MAX_RUNS = 64


def read_log(path: Path | str, *, pattern: str | None = None) -> Log:
    """The gradient norms of a log file, or of the log in a folder.

    ``pattern`` is a regular expression with a group named ``norm``, for text in no known format. Raises InputError where
    nothing can be read, where there is no gradient norm, and where a folder holds several logs.
    """
    path = Path(path)
    if not path.is_dir():
        return _read([path], pattern)
    found = find(path)
    log = _read(found.logs[0], pattern) if len(found.logs) == 1 else _only(path, found, pattern)
    return replace(log, notes=(*found.notes, *log.notes))


def find_reader(source: Source) -> Reader | None:
    """The reader that recognises the file by its content."""
    return next((reader for reader in READERS if reader.recognises(source)), None)


def _only(folder: Path, found: Found, pattern: str | None) -> Log:
    """The one log among those of a folder that holds a gradient norm."""
    logs: list[tuple[tuple[Path, ...], Log]] = []
    refused: InputError | None = None
    if len(found.logs) <= MAX_RUNS:
        for files in found.logs:
            try:
                logs.append((files, _read(files, pattern)))
            except InputError as e:
                refused = refused or e
        if refused and not logs:
            raise refused
    if len(logs) != 1:
        names = sorted(_name(files) for files in ([files for files, _ in logs] or found.logs))
        raise InputError(f"{folder}: holds {len(names)} logs ({found.what}). Name one of them: {listed(names)}.")
    files, log = logs[0]
    only = f"Of {len(found.logs)} {found.what}s in the folder only {_name(files)} has a gradient norm."
    return replace(log, notes=(only, *log.notes))


def _name(files: Sequence[Path]) -> str:
    return str(files[0] if len(files) == 1 else files[0].parent)


def _read(files: Sequence[Path], pattern: str | None) -> Log:
    if len(files) > 1 and pattern is None:
        log, title, norms = tensorboard.read_folder(files), tensorboard.READER.title, tensorboard.READER.norms
    else:
        source = opened(files[0])
        reader = pattern_reader(pattern) if pattern is not None else find_reader(source)
        if reader is None:
            raise _unknown(source)
        log, title, norms = reader.read(source), reader.title, reader.norms
    if not any(len(s) for s in log.series):
        known = "".join(f" {note}" for note in log.says[:1])
        raise InputError(
            f"{_name(files)}: holds no gradient norm (read as: {title}).{known} To have it logged, {norms}."
        )
    return log


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
