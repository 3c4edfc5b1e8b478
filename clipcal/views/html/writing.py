"""A run or a log -> report.html, whole or not at all, and never in the place of a file that is not one of ours."""

from __future__ import annotations

from pathlib import Path

from clipcal.errors import InputError, cannot_write
from clipcal.logs.choice import NO_CHOICE, LogChoice
from clipcal.recommendation.evidence import STREAM
from clipcal.run.directory import is_run
from clipcal.run.files import may_replace, write_whole
from clipcal.views.html.page import GENERATOR, render
from clipcal.views.html.view import View, view

NAME = "report.html"
_HEAD = 2048
"""Bytes in which a page of ours says what made it."""


def write_report(
    source: Path,
    out: Path | None = None,
    choice: LogChoice = NO_CHOICE,
    *,
    force: bool = False,
) -> tuple[Path, View]:
    """Write the page of a run directory or of a log, by default into the run, or beside the log. Raises InputError."""
    path = out or _beside(source)
    if path.is_dir():
        path = path / NAME
    if not path.parent.is_dir():
        raise InputError(f"{path.parent}: there is no such folder. Make it, or name another file with --out.")
    refuse_to_replace(path, force=force)
    shown = view(source, choice)
    write_whole(path, render(shown))
    return path, shown


def refuse_to_replace(path: Path, *, force: bool) -> None:
    """Raise InputError where something else stands there. A page of ours is made again: it holds nothing of its own."""
    try:
        if force or may_replace(path, _is_ours):
            return
    except OSError as e:
        raise cannot_write(path, e) from None
    raise InputError(
        f"{path}: is there already, and is no report of clipcal's. Name another file with --out, or replace it with --force."
    )


def _beside(source: Path) -> Path:
    if str(source) == "-":
        raise InputError(f"A report of {STREAM} needs a file to be written to: name it with --out.")
    if is_run(source):
        return source / NAME
    if source.is_file() and is_run(source.parent):  # the trace in a run
        return source.parent / NAME
    return source.with_name(f"{source.name}.{NAME}")


def _is_ours(path: Path) -> bool:
    try:
        with path.open("rb") as f:
            return f'content="{GENERATOR}"'.encode() in f.read(_HEAD)
    except OSError:
        return False
