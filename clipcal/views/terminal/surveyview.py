"""A survey -> the table that a terminal shows, or the same in plain words."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from rich.text import Text

from clipcal.views import words
from clipcal.views.terminal.console import columns, points
from clipcal.views.terminal.listing import wrapped
from clipcal.views.words import SURVEY_HEAD, printable, survey_cells

if TYPE_CHECKING:
    from clipcal.surveying.row import Group, Row
    from clipcal.surveying.survey import Survey

MOST = 50
"""Rows that are shown, the worst first, where nobody asked for all: more than a screen or two is not read."""
NAMED = 10
"""Files that could not be read, of which the reason is shown below the table."""
_LEFT = (0, 5, 9, 10, 11)
"""Columns of text."""
_FEW = 6
"""Columns that a narrow terminal has room for; the rest stands in a line below."""
_STYLES: dict[Group, str] = {"does_not_fit": "red", "unguarded": "yellow", "borderline": "yellow", "not_known": "dim"}


def survey(found: Survey, *, most: int | None, width: int | None, ascii: bool) -> list[Text]:
    """How many rows there are of each kind, a row each, and below what cannot be said in a row. ``width`` is that of the terminal, None in
    a pipe: where a line is too long, the path has a line of its own."""
    rows = [row for row in found.rows if row.problem is None]
    shown = rows[:most]
    cells = [tuple(printable(cell, ascii=ascii) for cell in survey_cells(row)) for row in shown]
    head = Text(words.survey_counts(found), "bold")
    table = _table(shown, cells, width) if shown else []
    more = [Text(f"  {_more(len(rows) - len(shown))}", "dim")] if len(rows) > len(shown) else []
    below = points(_below(found, most), ascii=ascii)
    return [head, *([Text()] if table else []), *table, *more, *([Text(), *below] if below else [])]


def _table(rows: Sequence[Row], cells: Sequence[tuple[str, ...]], width: int | None) -> list[Text]:
    styles = ["dim", *(_STYLES.get(row.group, "") for row in rows)]
    whole = columns([SURVEY_HEAD, *cells], left=_LEFT)
    if width is None or max(map(len, whole)) <= width:
        return [Text(line, style, no_wrap=True) for line, style in zip(whole, styles, strict=True)]
    few = columns([SURVEY_HEAD[:_FEW], *(c[:_FEW] for c in cells)], left=[k for k in _LEFT if k < _FEW])
    if max(map(len, few)) > width:  # no columns at all
        said = (printable(_said(row)) for row in rows)
        return [Text(part, no_wrap=True) for line in said for part in wrapped(line, width)]
    lines = [Text(few[0], styles[0], no_wrap=True)]
    for line, style, row in zip(few[1:], styles[1:], cells, strict=True):
        lines.append(Text(line, style, no_wrap=True))
        lines += [Text(f"    {part}", "dim", no_wrap=True) for part in wrapped(_rest(row), width - 4)]
    return lines


def _rest(cells: Sequence[str]) -> str:
    """What has no column in a narrow terminal."""
    median, spikes, num, format_, name, path = cells[_FEW:]
    return f"{path}, run {name}: {num} rows, {spikes} spikes, median {median}, {format_}"


def _more(num: int) -> str:
    return f"and {words.count(num, 'row')} more; --all shows them, --csv and --html write them"


def _below(found: Survey, most: int | None) -> list[str]:
    unread = [str(row.problem) for row in found.rows if row.problem is not None]
    named = unread if most is None else unread[:NAMED]
    more = len(unread) - len(named)
    rest = [f"and {more:,} more that cannot be read; --all names them."] if more else []
    return [*named, *rest, *words.survey_remarks(found)]


def spoken(found: Survey, *, most: int | None) -> list[str]:
    """A line a row, for ``--plain``."""
    rows = [row for row in found.rows if row.problem is None]
    lines = [words.survey_counts(found), *(_said(row) for row in rows[:most])]
    if most is not None and len(rows) > most:
        lines.append(_more(len(rows) - most))
    return [*lines, *_below(found, most)]


def _said(row: Row) -> str:
    state, in_use, acts, takes, recommended, verdict, median, spikes, num, format_, name, path = survey_cells(row)
    known = [f"threshold in use {in_use}, {state}"] if in_use != "-" else []
    known = known or ["clipping is off" if state == "off" else "no threshold in use is known"]
    said = [
        *known,
        *([f"acts on {acts} of the ordinary steps"] if acts != "-" else []),
        *([f"takes {takes} of their length"] if takes != "-" else []),
        f"recommended {recommended}",
        verdict,
        *([f"stable median {median}"] if median != "-" else []),
        f"{spikes} spike{'s' * (spikes != '1')}",
        f"{num} row{'s' * (num != '1')}",
        format_,
        f"run {name}",
    ]
    return f"{path}: " + ", ".join(said)
