"""What was read from a log -> lines for a terminal, or the same in sentences."""

from __future__ import annotations

from collections.abc import Sequence

from rich.text import Text

from clipcal.logs.describing import Column, Described, Norm, Row
from clipcal.views.terminal.console import columns, points
from clipcal.views.words import count, number, printable

_TAKEN = {"before": "before clipping", "after": "after clipping", None: "before or after clipping: not said"}
_KINDS = {"norm": "gradient norm", "lr": "learning rate", "place": "place of a row"}
_ROWS = ("step", "loss", "learning rate", "gradient norm")


def drawn(found: Described, *, ascii: bool) -> list[Text]:
    """The account in blocks: what it is, its columns, its rows, and what has to be known of it."""
    lines = [Text(printable(_head(found), ascii=ascii), "bold"), Text()]
    lines += _table([(_kind(c), c.name or "-", c.how) for c in found.columns], ascii=ascii)
    lines += [Text(f"  {printable(text, ascii=ascii)}") for text in (*map(_norm, found.norms), *_facts(found))]
    if found.first:
        lines += [Text(), *_table([_ROWS, *map(_cells, found.first)], ascii=ascii)]
        if found.last:
            lines += [Text("  ..."), *_table([_ROWS, *map(_cells, found.last)], ascii=ascii)[1:]]
    said = [*_left_out(found), *found.notes, *([found.choose] if found.choose else [])]
    return [*lines, *([Text(), *points(said, ascii=ascii)] if said else [])]


def spoken(found: Described) -> list[str]:
    """The same, a sentence a line."""
    rows = [f"{which} row: {_sentence(row)}" for which, row in _ends(found)]
    return [
        f"{_head(found)}.",
        *(f"{_kind(c)}: {c.name or 'no name'}, by {c.how}." for c in found.columns),
        *(f"{text}." for text in (*map(_norm, found.norms), *_facts(found))),
        *rows,
        *_left_out(found),
        *found.notes,
        *([found.choose] if found.choose else []),
    ]


def _head(found: Described) -> str:
    lines = "" if found.lines is None else f"{count(found.lines, 'line')}, "
    return f"{found.source}: {found.format}, {lines}{count(found.rows, 'row')}"


def _kind(column: Column) -> str:
    return _KINDS.get(column.kind, column.kind)


def _norm(norm: Norm) -> str:
    runs = f"; {len(norm.runs)} runs, of {', '.join(map(str, norm.runs[:5]))}{' ...' * (len(norm.runs) > 5)} rows"
    lost = f", {norm.not_finite} not finite" if norm.not_finite else ""
    named = f"{norm.name}: {count(norm.rows, 'row')}{lost}, median {number(norm.median)}, {_TAKEN[norm.clipping]}"
    return named + (runs if len(norm.runs) > 1 else "")


def _facts(found: Described) -> list[str]:
    if found.max_norm is None:
        return ["threshold in use: not said"]
    return [f"threshold in use: {number(found.max_norm)}, from {found.max_norm_from}"]


def _left_out(found: Described) -> list[str]:
    return [str(passed).capitalize() if str(passed)[0].isalpha() else str(passed) for passed in found.left_out]


def _ends(found: Described) -> list[tuple[str, Row]]:
    return [("first", row) for row in found.first[:1]] + [("last", row) for row in (found.last or found.first)[-1:]]


def _sentence(row: Row) -> str:
    return ", ".join(f"{name} {cell}" for name, cell in zip(_ROWS, _cells(row), strict=True)) + "."


def _cells(row: Row) -> tuple[str, ...]:
    return (f"{row.step:.0f}", number(row.loss), number(row.lr), number(row.grad_norm))


def _table(rows: Sequence[tuple[str, ...]], *, ascii: bool) -> list[Text]:
    shown = [tuple(printable(cell, ascii=ascii) for cell in row) for row in rows]
    return [Text(line, no_wrap=True) for line in columns(shown, left=tuple(range(len(rows[0]))))]
