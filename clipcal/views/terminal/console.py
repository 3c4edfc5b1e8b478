"""Lines of ``rich.text.Text`` -> the terminal: in colours, in columns, as wide as it is, and nothing but ASCII where that is all there is."""

from __future__ import annotations

import io
import re
import sys
import textwrap
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING

from rich.console import Console
from rich.text import Text

from clipcal.views.words import printable

if TYPE_CHECKING:
    pass

FIELD = "   "
"""Between the fields of a headline."""

_MARKS = re.compile(r" {2}(?:[•-] | *# )")
"""What a sentence below a heading, or a comment in a snippet, starts with."""
PIPE_WIDTH = 100
"""Columns of the pictures where stdout is no terminal; sentences are not wrapped there."""
VERDICT_STYLES = {"inactive": "dim", "limiter": "yellow", "brake": "red", "warm-up": "dim"}
"""What a threshold is to a part of the steps, besides the word for it."""


def bullets(title: str, sentences: Iterable[str], *, ascii: bool) -> list[Text]:
    return [Text(title, "bold"), *points(sentences, ascii=ascii)]


def points(sentences: Iterable[str], *, ascii: bool) -> list[Text]:
    mark = "-" if ascii else "•"
    return [Text(f"  {mark} {printable(s, ascii=ascii)}") for s in sentences]


def table(
    rows: Sequence[Sequence[str]], *, left: Sequence[int], styles: Sequence[str], marked: int | None = None
) -> list[Text]:
    """Rows, of which the first is the head, as ``columns``. The style of a row is that of its cell in the column ``marked``
    alone, where it says what the cell says; None for the whole row."""
    answer = []
    for i, (line, row) in enumerate(zip(columns(rows, left=left), rows, strict=True)):
        if i == 0 or marked is None:
            answer.append(Text(line, styles[i] if i else "dim", no_wrap=True))
            continue
        answer.append(Text(line, no_wrap=True))
        start = 2 + sum(max(len(r[k]) for r in rows) + 2 for k in range(marked))
        if styles[i]:
            at = line.index(row[marked], start)
            answer[-1].stylize(styles[i], at, at + len(row[marked]))
    return answer


def columns(rows: Sequence[Sequence[str]], *, left: Sequence[int]) -> list[str]:
    """Rows of one length as lines, each column as wide as its widest cell; the columns in ``left`` start at one place, the
    others end at one."""
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    cells = [
        [c.ljust(w) if k in left else c.rjust(w) for k, (c, w) in enumerate(zip(r, widths, strict=True))] for r in rows
    ]
    return [("  " + "  ".join(row)).rstrip() for row in cells]


def stdout_console(*, plain: bool = False) -> Console:
    return _console(stderr=False, plain=plain)


def stderr_console(*, plain: bool = False) -> Console:
    return _console(stderr=True, plain=plain)


def _console(*, stderr: bool, plain: bool) -> Console:
    """A stream to write to, coloured by rich's own rules: on a terminal that is not dumb, without NO_COLOR, and where
    FORCE_COLOR asks for it. ``plain`` is none of it: no colour, and lines that nothing here wraps."""
    return Console(stderr=stderr, highlight=False, emoji=False, markup=False, force_terminal=False if plain else None)


def is_screen(console: Console) -> bool:
    """Whether lines can be drawn over: not on a dumb terminal, nor in a log that FORCE_COLOR colours."""
    return console.is_interactive and console.file.isatty()


def picture_width(console: Console) -> int:
    return min(console.width, 120) if console.is_terminal else PIPE_WIDTH


def is_ascii(console: Console) -> bool:
    return not (console.encoding or "").lower().replace("-", "").startswith("utf")


def show(console: Console, lines: Iterable[Text]) -> None:
    """Print; on a terminal what is too long goes on under its own start, in a pipe no line is cut or wrapped. Sentences
    are no wider than the pictures beside them."""
    width = picture_width(console)
    for line in lines:
        for part in folded(line, width) if console.is_terminal else [line]:
            console.print(part, soft_wrap=True)


def note(text: str) -> None:
    """A line for stderr."""
    print(text, file=sys.stderr, flush=True)


def folded(line: Text, width: int) -> list[Text]:
    """A line in parts of at most ``width`` columns: a sentence goes on behind its bullet, a headline at one of its fields,
    a comment of a snippet as a comment. Pictures, tables and code stay whole: in them a break means something."""
    text = line.plain
    if line.no_wrap or line.cell_len <= width:
        return [line]
    mark = _MARKS.match(text)
    if mark is not None:
        first = mark.group()
        room = max(width - len(first), 1)
        if first.strip() == "#":  # no word is cut, that it can be copied
            parts = textwrap.wrap(text[len(first) :], room, break_long_words=False, break_on_hyphens=False)
            return [Text(first + part) for part in parts]
        return [Text(" " * len(first) if i else first) + p for i, p in enumerate(_wrapped(line[len(first) :], room))]
    if text.startswith("  "):
        return [line]
    return joined(_fields(line), width) if FIELD in text else _wrapped(line, width)


def joined(fields: Iterable[Text], width: int, *, gap: str = FIELD) -> list[Text]:
    """As many fields to a line as there is room for; what no line holds is wrapped."""
    lines: list[Text] = []
    for field in fields:
        if lines and lines[-1].cell_len + len(gap) + field.cell_len <= width:
            lines[-1] += Text(gap) + field
        elif lines:
            lines += [Text("  ") + piece for piece in _wrapped(field, width - 2)]
        else:
            lines = _wrapped(field, width)
    return lines


def _fields(line: Text) -> Iterator[Text]:
    start = 0
    for field in line.plain.split(FIELD):
        yield line[start : start + len(field)]
        start += len(field) + len(FIELD)


def _wrapped(text: Text, width: int) -> list[Text]:
    parts = list(text.wrap(Console(file=io.StringIO()), max(width, 1)))
    for part in parts:
        part.rstrip()
    return parts
