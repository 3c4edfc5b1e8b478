"""``clipcal runs``: the runs that are there, and what moved between two."""

from __future__ import annotations

import datetime
import shlex
from pathlib import Path
from typing import Annotated, Any

import typer

from clipcal.cli.answering import said_no
from clipcal.cli.options import Json, Plain, Quiet
from clipcal.errors import InputError

Places = Annotated[
    list[Path] | None,
    typer.Argument(
        metavar="FOLDER | RUN RUN",
        help="A folder with runs in it, or two run directories to compare.  [default: runs, or else the working directory]",
        show_default=False,
    ),
]


def runs(places: Places = None, plain: Plain = False, json: Json = False, quiet: Quiet = False) -> None:
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
            _compare(given[0], given[1], now, plain=plain, json=json)
        else:
            _list(given[0] if given else _usual(), now, plain=plain, json=json)


def _usual() -> Path:
    return Path("runs") if Path("runs").is_dir() else Path()


def _list(folder: Path, now: datetime.datetime, *, plain: bool, json: bool) -> None:
    from clipcal.runs.listing import SCHEMA, list_runs

    rows = list_runs(folder, now=now)
    if json:
        _answer({"schema": SCHEMA, "folder": str(folder), "runs": [row.as_dict() for row in rows]})
        return
    from clipcal.views.terminal import console, plainview
    from clipcal.views.terminal import listing as listview

    if plain or not rows:
        plainview.say(listview.spoken(rows) if rows else listview.no_runs(str(folder)))
        return
    out = console.stdout_console()
    width, ascii = out.width if out.is_terminal else None, console.is_ascii(out)
    console.show(out, listview.runs(rows, width=width, ascii=ascii))


def _compare(a: Path, b: Path, now: datetime.datetime, *, plain: bool, json: bool) -> None:
    from clipcal.runs.comparing import compare_runs
    from clipcal.runs.listing import SCHEMA

    found = compare_runs(a, b, now=now)
    if json:
        both = [found.a.as_dict(), found.b.as_dict()]
        _answer({"schema": SCHEMA, "runs": both, "comparison": found.as_dict()})
        return
    from clipcal.views.terminal import comparison as comparisonview
    from clipcal.views.terminal import console, plainview

    if plain:
        plainview.say(comparisonview.spoken(found))
        return
    out = console.stdout_console()
    width, ascii = out.width if out.is_terminal else None, console.is_ascii(out)
    console.show(out, comparisonview.comparison(found, width=width, ascii=ascii))


def _answer(value: dict[str, Any]) -> None:
    from clipcal.run.jsonfile import dumps

    # a folder's name may hold bytes that are no text, and nothing could be printed with them
    print(dumps(value, indent=1).encode("utf-8", "replace").decode())
