"""A line of a log -> all lines that the same statement printed, thousands at a time: what differs among them are numbers. Exact or
nothing: what is not of the form to the letter is no row, and the caller looks at it singly."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from clipcal.logs.shapes import Parts
from clipcal.logs.source import ANSI
from clipcal.run.cells import numbers_of

Numbers = NDArray[np.float64]
_NUMBER = re.compile(r"[+-]?(?:\d+(?:\.\d*)?|\.\d+)(?:[eE][+-]?\d+)?")
_DIGITS = re.compile(rb"\d+")
_GROUP = rb"([0-9.eE+\-nNaAiIfF]+)"
"""What consists of the characters of a number, NaN or an infinity; numpy refuses what is none."""


@dataclass(frozen=True, kw_only=True)
class Template:
    """``names`` are the wanted ones, and ``key`` is one of them as a line has it."""

    names: tuple[str, ...]
    key: bytes
    pattern: re.Pattern[bytes]

    def rows(self, text: bytes) -> tuple[Numbers, bytes]:
        """The wanted numbers of the lines that are of this form, (names, rows) as ``float`` reads them, and all other lines.

        Raises ValueError where one of them is no number.
        """
        parts = self.pattern.split(b"\n%b\n" % text)
        width = len(self.names) + 1
        return np.array([numbers_of(parts[i::width]) for i in range(1, width)]), b"".join(parts[::width])


def template_of(raw: bytes, parts: Parts, wanted: Callable[[str], bool], key: str) -> Template | None:
    """The template of a line, coloured or not; ``parts`` are those of the line without colours. None where a value is no plain number, or
    no text stands between two."""
    try:
        text = raw.decode()
    except UnicodeDecodeError:
        return None
    kept = set(_uncoloured(raw))
    starts = [i for i, byte in enumerate(raw) if byte & 0xC0 != 0x80]  # the parts count characters
    where = [i for i in starts if i in kept]
    plain = "".join(char for i, char in zip(starts, text, strict=True) if i in kept)
    pieces: list[bytes] = []
    named: list[tuple[str, int]] = []
    at = 0
    for name, (name_start, _), (start, end) in parts:
        if not _NUMBER.fullmatch(plain, start, end):
            return None
        pieces += _between(raw[at : where[start]], where[name_start] - at)
        if wanted(name):
            named.append((name, len(pieces) - 1))
        at = where[end - 1] + 1
    pieces += _between(raw[at:], len(raw) - at)
    if not named or not all(pieces[1:-1]):
        return None
    columns = {at for _, at in named}
    groups = [_GROUP if at in columns else rb"[0-9]+" for at in range(len(pieces) - 1)]
    texts = [re.sub(rb"(?:\\ )+", rb" +", re.escape(piece)) for piece in pieces]
    whole = b"".join(a + b for a, b in zip(texts, [*groups, b""], strict=True))
    return Template(
        names=tuple(name for name, _ in named), key=key.encode(), pattern=re.compile(rb"\n" + whole + rb"(?=\n)")
    )


def _uncoloured(line: bytes) -> list[int]:
    """Where the bytes stand that are part of no ANSI sequence."""
    found: list[int] = []
    at = 0
    for code in ANSI.finditer(line):
        found += range(at, code.start())
        at = code.end()
    return [*found, *range(at, len(line))]


def _between(text: bytes, name_at: int) -> list[bytes]:
    """What stands around the digits between two values: those before the name count anything, those within the name are a part of it,
    and so are those of a colour."""
    colours = [code.span() for code in ANSI.finditer(text)]
    pieces: list[bytes] = []
    at = 0
    for digits in _DIGITS.finditer(text[:name_at]):
        if not any(start <= digits.start() < end for start, end in colours):
            pieces.append(text[at : digits.start()])
            at = digits.end()
    return [*pieces, text[at:]]
