"""Rows of runs -> the table that a terminal shows, or the same in plain words."""

from __future__ import annotations

import textwrap
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from rich.text import Text

from clipcal.views.terminal.console import columns, points
from clipcal.views.words import printable, spaced

if TYPE_CHECKING:
    from clipcal.runs.listing import Row

NAMED = 5
"""Runs of one kind that are spoken of below the table; `--json` has what there is to say of each."""
_KEYS = 3
"""Moved keys that are named in a row."""
NARROWEST = 20  # columns of a folded cell: below that lines break where the terminal breaks them
_HEAD = ("run", "verdict", "threshold", "verified", "steps", "age", "source", "source since")
_KINDS = {"norm": "", "value": " by value", "per_tensor": " per tensor"}
_STATUS = {"running": "cut short, or still running"}
_UNITS = ((60, "min"), (3600, "h"), (86400, "day"), (7 * 86400, "week"), (365.25 / 12 * 86400, "month"))


def age(seconds: float | None) -> str:
    """How long ago, for reading: 5 min ago, 3 h ago, 2 weeks ago. A clock that went back makes it "just now"."""
    if seconds is None:
        return "-"
    if seconds < 60:
        return "just now"
    size, unit = next(((s, u) for s, u in reversed(_UNITS) if seconds >= s), _UNITS[0])
    if unit == "month" and seconds >= 24 * size:
        size, unit = 12 * size, "year"
    count = int(seconds // size)
    plural = "s" * (count != 1 and unit not in ("min", "h"))
    return f"{count} {unit}{plural} ago"


def no_runs(folder: str) -> list[str]:
    """What to do where there is none."""
    return [
        f"no runs in {folder}",
        "`clipcal calibrate SPEC` or `clipcal calibrate train.py` makes one; `clipcal init` writes a starter spec.",
        "`clipcal runs FOLDER` looks elsewhere; `clipcal recommend LOG` reads the log of a training that is long finished.",
    ]


def runs(rows: Sequence[Row], *, width: int | None, ascii: bool) -> list[Text]:
    """One row a run, and below what cannot be said in a row. ``width`` is that of the terminal, None in a pipe: where the
    line is too short, a run takes two, the second for its source, and a name that is too long has one of its own."""
    cells = [tuple(printable(c, ascii=ascii) for c in _cells(row)) for row in rows]
    whole = columns([_HEAD, *cells], left=tuple(range(len(_HEAD))))
    if width is None or max(map(len, whole)) <= width:
        lines = [(line, style) for line, style in zip(whole, ["dim", *map(_style, rows)], strict=True)]
    else:
        lines = _folded(rows, cells, width, ascii=ascii)
    return [*(Text(line, style, no_wrap=True) for line, style in lines), *_below(rows, ascii=ascii)]


def _folded(rows: Sequence[Row], cells: Sequence[tuple[str, ...]], width: int, *, ascii: bool) -> list[tuple[str, str]]:
    rest = columns([_HEAD[1:6], *(c[1:6] for c in cells)], left=tuple(range(5)))
    room = width - max(map(len, rest)) - 2
    if room < 0:  # no columns at all
        return [
            (part, "") for line in spoken(rows, remarks=False) for part in wrapped(printable(line, ascii=ascii), width)
        ]
    names = [_HEAD[0], *(c[0] for c in cells)]
    column = max((len(n) for n in names if len(n) <= room), default=0)
    lines: list[tuple[str, str]] = []
    for i, (name, numbers) in enumerate(zip(names, rest, strict=True)):
        style = "dim" if i == 0 else _style(rows[i - 1])
        if len(name) > room:
            lines += [(f"  {part}", style) for part in wrapped(name, width - 2)]
            name = ""
        lines.append((f"  {name.ljust(column)}{numbers}".rstrip(), style))
        source, since = (_HEAD[6], _HEAD[7]) if i == 0 else (cells[i - 1][6], cells[i - 1][7])
        said = f"{source}, {since}" if i else f"{source}, and what became of it"
        lines += [(f"    {part}", style or "dim") for part in wrapped(said, width - 4) if source != "-"]
    return lines


def wrapped(text: str, width: int) -> list[str]:
    """A cell in parts of at most ``width`` characters, broken between words where there are some."""
    return textwrap.wrap(text, max(width, NARROWEST), break_on_hyphens=False) or [""]


def _cells(row: Row) -> tuple[str, ...]:
    if "run.json" in row.unreadable:
        return (row.path, "unreadable", "-", "-", "-", age(row.age_seconds), "-", "-")
    verdict = row.verdict or ("unreadable" if "recommendation.json" in row.unreadable else "not read yet")
    return (
        row.path,
        verdict,
        _threshold(row),
        _verified(row),
        _steps(row),
        age(row.age_seconds),
        row.source or "-",
        since(row),
    )


def _threshold(row: Row) -> str:
    if row.max_norm is None:
        return "none" if row.verdict else "-"
    return f"{row.max_norm:g}{_KINDS.get(str(row.method), '')}"


def _verified(row: Row) -> str:
    """The verdict of the verification, with its threshold where that is another one."""
    if row.verification is None:
        return "unreadable" if "verification.json" in row.unreadable else "-"
    word = spaced(row.verification)
    return word if row.verified_at in (None, row.max_norm) else f"{word} at {row.verified_at:g}"


def _steps(row: Row) -> str:
    if row.recorded is None:
        return "unreadable"
    cut = f" of {row.steps}" if row.steps and row.recorded < row.steps else ""
    return f"{row.recorded}{cut}{'' if row.guard is None else ', guarded'}"


def since(row: Row) -> str:
    """What became of the source since."""
    if row.source_now == "unknown":
        return "cannot be told"
    keys = ", ".join(row.changed_keys[:_KEYS])
    more = f" and {len(row.changed_keys) - _KEYS} more" if len(row.changed_keys) > _KEYS else ""
    return f"{row.source_now}: {keys}{more}" if keys else row.source_now


def _style(row: Row) -> str:
    if row.unreadable:
        return "red"
    return "yellow" if row.stale else ""


def spoken(rows: Sequence[Row], *, remarks: bool = True) -> list[str]:
    """A line a run, and what is shown below the table: for ``--plain``, and for a very narrow terminal."""
    lines = []
    for row in rows:
        path, verdict, threshold, verified, steps, old, source, changed = _cells(row)
        if "run.json" in row.unreadable:
            lines.append(f"{path}: unreadable, {old}")
            continue
        said = [
            verdict,
            f"threshold {threshold}",
            f"verified {verified}",
            f"{steps} steps",
            old,
            source,
            f"source since {changed}",
        ]
        lines.append(f"{path}: " + ", ".join(s for s in said if not s.endswith(" -")))
    return [*lines, *(_remarks(rows) if remarks else [])]


def _below(rows: Sequence[Row], *, ascii: bool) -> list[Text]:
    sentences = _remarks(rows)
    return [Text(), *points(sentences, ascii=ascii)] if sentences else []


def _remarks(rows: Sequence[Row]) -> list[str]:
    unread = [r for r in rows if r.verdict is None and not r.unreadable]
    sentences = _first([r for r in rows if r.problem], lambda r: str(r.problem))
    sentences += _first(unread, _unread)
    if any(r.source_now == "changed" for r in rows):
        sentences.append(
            "changed: the numbers are of the source as it was then. `clipcal calibrate SOURCE --out RUN --force` trains it as it is now."
        )
    if any(r.source_now == "gone" for r in rows):
        sentences.append("gone: the source is no longer where it was. Of a spec, run.json keeps the text.")
    return sentences


def _first(rows: Sequence[Row], say: Callable[[Row], str]) -> list[str]:
    more = len(rows) - NAMED
    return [*map(say, rows[:NAMED]), *([f"and {more} more like these; --json has them all."] if more > 0 else [])]


def _unread(row: Row) -> str:
    how = "" if row.status == "complete" else f" ({row.reason or _STATUS.get(str(row.status), row.status)})"
    if row.next is None:
        return f"{row.path} holds no step{how}: profile again with --force."
    return f"{row.path} is not read yet{how}: `{row.next}` reads its threshold."
