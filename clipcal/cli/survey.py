"""``clipcal survey``: every log and run below folders, the worst first."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from clipcal.cli import options
from clipcal.cli.answering import finish, print_json, said_no
from clipcal.cli.options import Display
from clipcal.errors import InputError, cannot_write
from clipcal.run.files import may_replace, write_whole

if TYPE_CHECKING:
    from clipcal.surveying.survey import OnRead, Survey

Folders = Annotated[
    list[Path],
    typer.Argument(metavar="FOLDER...", help="Folders with logs and runs in or below them; a log by itself too."),
]
Csv = Annotated[
    Path | None, typer.Option("--csv", metavar="FILE", help="Also write all rows as CSV; - prints them instead.")
]
All = Annotated[bool, typer.Option("--all", help="Show all rows, not the first ones of a long list.")]
Page = Annotated[
    Path | None, typer.Option("--html", metavar="FILE", help="Also write all rows as one self-contained HTML page.")
]
ReadJobs = Annotated[
    int | None, typer.Option("--jobs", "-j", min=1, help="Logs read side by side.  [default: the number of cores]")
]
Reader = Annotated[
    str,
    typer.Option(
        "--executor",
        metavar="NAME",
        help="Where logs are read: local, or ray: a Ray cluster that runs already (RAY_ADDRESS). The extra ray.",
    ),
]
EVERY = 10.0  # seconds between two lines of progress


@options.flags("folders csv html every jobs executor force plain json quiet")
def survey(
    folders: Folders,
    csv: Csv = None,
    html: Page = None,
    every: All = False,
    jobs: ReadJobs = None,
    executor: Reader = "local",
    force: options.Force = False,
    *,
    display: Display,
) -> None:
    """List every log and run below folders, the worst first.

    Which thresholds in use do not fit, which runs are unguarded, and what would be recommended. Exit code 3 where a threshold does not fit.
    """
    with said_no(interrupted="stopped"):
        from clipcal.surveying.survey import survey as surveyed

        printed = csv is not None and str(csv) == "-"
        if printed and display.json:
            raise InputError("--csv - and --json both print to standard output: ask for one or the other.")
        files = _files(None if printed else csv, html, force=force)
        found = surveyed(folders, jobs=jobs, executor=executor, on_read=_progress(display.note))
        for path, text in files:
            write_whole(path, text(found))
            display.note(f"wrote {path}")
        _show(found, display, every=every, printed=printed)
    finish(yes=found.fits)


def _files(csv: Path | None, html: Path | None, *, force: bool) -> list[tuple[Path, Callable[[Survey], str]]]:
    """What is to be written where. Raises InputError, before anything is read, for a file that is not clipcal's own survey."""
    from clipcal.surveying import sheet
    from clipcal.views.html import surveypage

    files: list[tuple[Path, Callable[[Survey], str]]] = []
    if csv is not None:
        _check("--csv", csv, sheet.is_ours, force=force)
        files.append((csv, lambda found: sheet.csv_of(found.rows)))
    if html is not None:
        _check("--html", html, surveypage.is_ours, force=force)
        files.append((html, surveypage.render))
    return files


def _check(option: str, path: Path, is_ours: Callable[[Path], bool], *, force: bool) -> None:
    if path.is_dir():
        raise InputError(f"{option} {path}: is a folder. Name a file in it.")
    if not path.parent.is_dir():
        raise InputError(
            f"{option} {path}: there is no folder {str(path.parent)!r}. Make it, or name a file elsewhere."
        )
    try:
        free = force or may_replace(path, is_ours)
    except OSError as e:
        raise cannot_write(path, e) from None
    if not free:
        raise InputError(
            f"{option} {path}: is there already, and is no survey of clipcal's. Name another file, or replace it with --force."
        )


def _show(found: Survey, display: Display, *, every: bool, printed: bool) -> None:
    if display.json:
        print_json(found.as_dict())
    elif printed:
        from clipcal.surveying.sheet import csv_of

        print(csv_of(found.rows), end="")
    else:
        from clipcal.cli.showing import present
        from clipcal.views.terminal import surveyview

        most = None if every else surveyview.MOST
        present(
            display,
            lambda: surveyview.spoken(found, most=most),
            lambda paper: surveyview.survey(found, most=most, width=paper.table_width, ascii=paper.ascii),
        )


def _progress(note: Callable[[str], None]) -> OnRead:
    """A line now and then, where reading takes long."""
    last = time.monotonic()

    def told(done: int, of: int) -> None:
        nonlocal last
        if time.monotonic() - last >= EVERY and done < of:
            last = time.monotonic()
            note(f"{done:,} of {of:,} read")

    return told
