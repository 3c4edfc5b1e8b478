"""Lines of CSV, TSV, semicolons or aligned columns -> a header and rows of cells."""

from __future__ import annotations

import csv
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from clipcal.logs.names import EMPTY, kind_of, value_of
from clipcal.logs.source import Source

_MAX_CELL_LINES = 100
_RULE = re.compile(r"[\s|:+=-]+")  # below the header of a Markdown table
_LOOK = 40  # lines in which the header has to be, and a row below it
_DECIMAL_COMMA = re.compile(r"[+-]?(?:\d{1,3}(?:\.\d{3})+|\d*),\d+(?:[eE][+-]?\d+)?")
_THOUSANDS = re.compile(r"[+-]?\d{1,3}(?:,\d{3})+(?:\.\d*)?")


@dataclass(frozen=True, kw_only=True)
class Sheet:
    """``delimiter`` is None where blanks stand between cells. ``gaps``: some cells of the first rows are empty."""

    delimiter: str | None
    header: tuple[str, ...]
    gaps: bool


def sheet_of(source: Source) -> Sheet | None:
    """The first line that is a header with a row of numbers below it; None where there is none such."""
    if not source.is_text:
        return None
    lines = [line for line in source.telling[:_LOOK] if line.strip() and not line.startswith("sep=")]
    for i, line in enumerate(lines):
        below = [
            later
            for _, later in _joined(enumerate(lines[i + 1 :]))
            if not (later.startswith("#") or _RULE.fullmatch(later))
        ][:8]
        if line.lstrip("\ufeff \t")[:1] in ("{", "["):
            return None
        for delimiter in ("\t", ";", ",", "|", None):
            header = _cells(_uncommented(line), delimiter)
            if any(kind_of(name) != "other" for name in header) and _fits(header, below, delimiter):
                cells = [c for later in below for c in _cells(later, delimiter)]
                return Sheet(delimiter=delimiter, header=tuple(_distinct(header)), gaps="" in cells)
    return None


def records(source: Source, sheet: Sheet) -> Iterator[tuple[int, list[str] | None]]:
    """The rows below the header by their line, as many cells as it has; None where the header stands again, as in appended
    runs."""
    width = len(sheet.header)
    begun = False
    for number, line in _joined(enumerate(source.lines(), start=1)):
        if not line.strip() or _RULE.fullmatch(line):
            continue
        cells = _cells(_uncommented(line) if not begun else line, sheet.delimiter)
        if tuple(_distinct(cells)) == sheet.header:
            if begun:
                yield number, None
            begun = True
        elif begun and len(cells) == width:
            yield number, [_number(cell, sheet.delimiter) for cell in cells]
        elif begun and 1 < len(cells) < width and sheet.delimiter is not None:
            padded = (*cells[:-1], *[""] * (width - len(cells) + 1))
            yield number, [_number(cell, sheet.delimiter) for cell in padded]


def _fits(header: Sequence[str], below: Sequence[str], delimiter: str | None) -> bool:
    """Whether the header is of words, and a row of numbers follows. A row may be cut off, or miss cells at its end."""
    if any(value_of(name) is not None for name in header) or not any(name.strip() for name in header):
        return False
    if delimiter is not None and len(header) < 2:
        return False
    rows = [_cells(line, delimiter) for line in below]
    full = [row for row in rows if len(row) == len(header)]
    if len(full) < 0.5 * len(rows) or not full:
        return False
    if delimiter is None:  # many a text has a line of words above a line with numbers
        numbers = all(value_of(c) is not None or c.lower() in EMPTY for row in full for c in row)
        return numbers and any(kind_of(name) == "norm" for name in header)
    return any(value_of(_number(cell, delimiter)) is not None for row in full for cell in row)


def _uncommented(line: str) -> str:
    """numpy.savetxt and others write the header as a comment."""
    return line.lstrip("\ufeff").removeprefix("#").lstrip(" ")


def _cells(line: str, delimiter: str | None) -> list[str]:
    if delimiter is None:
        return line.split()
    if delimiter == "|":  # Markdown's begin and end with one
        line = line.strip().removeprefix("|").removesuffix("|")
    if '"' not in line:
        return [cell.strip() for cell in line.split(delimiter)]
    try:
        return [cell.strip() for cell in next(csv.reader([line], delimiter=delimiter, skipinitialspace=True), [])]
    except csv.Error:
        return line.split(delimiter)


def _joined(lines: Iterator[tuple[int, str]]) -> Iterator[tuple[int, str]]:
    """Puts quoted cells of several lines into one, which has the number of the first; a quote that never ends is a letter like
    others."""
    held: list[tuple[int, str]] = []
    for numbered in lines:
        held.append(numbered)
        odd = numbered[1].count('"') % 2
        if len(held) == 1 and not odd:
            yield held.pop()
        elif len(held) > 1 and odd:
            yield held[0][0], " ".join(line for _, line in held)
            held = []
        elif len(held) > _MAX_CELL_LINES:
            yield from held
            held = []
    yield from held


def _number(cell: str, delimiter: str | None) -> str:
    if "," in cell:
        if delimiter in (";", "\t") and _DECIMAL_COMMA.fullmatch(cell):
            return cell.replace(".", "").replace(",", ".")
        if _THOUSANDS.fullmatch(cell):
            return cell.replace(",", "")
    return cell


def _distinct(header: Sequence[str]) -> list[str]:
    """Names that occur again get a number: runs of one name in W&B, columns that were joined."""
    seen: dict[str, int] = {}
    names = []
    for name in header:
        seen[name] = seen.get(name, 0) + 1
        names.append(name if seen[name] == 1 else f"{name} ({seen[name]})")
    return names
