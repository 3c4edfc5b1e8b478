"""``clipcal log``: what was read from a log, and how."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from clipcal.cli import options
from clipcal.cli.answering import print_json, said_no
from clipcal.cli.options import Display

LogAt = Annotated[Path, typer.Argument(metavar="LOG", help="A training log as its framework wrote it, or its folder.")]


@options.flags("source tag run pattern plain json quiet")
def log(source: LogAt, *, within: options.Within, display: Display) -> None:
    """Show what is read from a log, and how.

    Its format, the columns and what says so, the first and last rows, the runs, the threshold in use, and what was left out.
    """
    with said_no(interrupted="stopped"):
        from clipcal.errors import InputError
        from clipcal.logs.describing import describe
        from clipcal.run.directory import is_run

        if is_run(source):
            raise InputError(f"{source}: is a run of clipcal's own. `clipcal recommend {source}` reads it.")
        found = describe(source, within)
        if display.json:
            print_json(found.as_dict())
        else:
            from clipcal.cli.showing import present
            from clipcal.views.terminal import logs

            present(display, lambda: logs.spoken(found), lambda paper: logs.drawn(found, ascii=paper.ascii))
