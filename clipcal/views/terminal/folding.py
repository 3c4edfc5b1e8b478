"""A line that is too long for the terminal -> parts that each start under their own start."""

from __future__ import annotations

import io
import re
import textwrap
from collections.abc import Iterable, Iterator

from rich.console import Console
from rich.text import Text

FIELD = "   "
"""Between the fields of a headline."""

_MARKS = re.compile(r" {2}(?:[•-] | *# )")
"""What a sentence below a heading, or a comment in a snippet, starts with."""


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
