"""``clipcal runs``: the runs that are there, and what moved between two."""

from __future__ import annotations

import datetime
import shlex
from pathlib import Path
from typing import Annotated

import typer

from clipcal.cli import options
from clipcal.cli.answering import print_json, said_no
from clipcal.cli.options import Display
from clipcal.errors import InputError

Places = Annotated[
    list[Path] | None,
    typer.Argument(
        metavar="FOLDER | RUN RUN",
        help="A folder with runs in it, or two run directories to compare.  [default: runs, or else the working directory]",
    ),
]


@options.flags()
def runs(places: Places = None, *, display: Display) -> None:
    """List the runs below a folder, the newest first, or compare two.

    What each came to, how old it is, and whether its spec or script has changed since.
    """
    with said_no(interrupted="stopped"):
        given = places or []
        if len(given) > 2:
            raise InputError(
                f"runs takes a folder, or two run directories to compare; {len(given)} were given. "
                f"`{shlex.join(['clipcal', 'runs', str(given[0].parent)])}` lists those beside the first."
            )
        now = datetime.datetime.now(datetime.UTC)
        if len(given) == 2:
            _compare(given[0], given[1], now, display)
        else:
            _list(given[0] if given else _usual(), now, display)


def _usual() -> Path:
    return Path("runs") if Path("runs").is_dir() else Path()


def _list(folder: Path, now: datetime.datetime, display: Display) -> None:
    from clipcal.runs.listing import SCHEMA, list_runs

    rows = list_runs(folder, now=now)
    if display.json:
        print_json({"schema": SCHEMA, "folder": str(folder), "runs": [row.as_dict() for row in rows]})
        return
    from clipcal.cli.showing import present
    from clipcal.views.terminal import listing as listview
    from clipcal.views.terminal import plainview

    if not rows:
        plainview.say(listview.no_runs(str(folder)))
        return
    present(
        display,
        lambda: listview.spoken(rows),
        lambda paper: listview.runs(rows, width=paper.table_width, ascii=paper.ascii),
    )


def _compare(a: Path, b: Path, now: datetime.datetime, display: Display) -> None:
    from clipcal.runs.comparing import compare_runs
    from clipcal.runs.listing import SCHEMA

    found = compare_runs(a, b, now=now)
    if display.json:
        both = [found.a.as_dict(), found.b.as_dict()]
        print_json({"schema": SCHEMA, "runs": both, "comparison": found.as_dict()})
        return
    from clipcal.cli.showing import present
    from clipcal.views.terminal import comparison as comparisonview

    present(
        display,
        lambda: comparisonview.spoken(found),
        lambda paper: comparisonview.comparison(found, width=paper.table_width, ascii=paper.ascii),
    )
