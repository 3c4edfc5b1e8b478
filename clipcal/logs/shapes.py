"""The lines of a log -> the names and values in them. Most lines are written by the same few statements: what one line was
taken apart into serves for those that differ in their numbers alone, many times faster than taking each apart anew."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence

from clipcal.logs.names import NUMBER

THOUSANDS = r"\d{1,3}(?:,\d{3})+(?:\.\d+)?(?![\d,])"
_ANY = rf"(?:{THOUSANDS}|{NUMBER}[kKMBGT]?)"
_PLAIN = re.compile(_ANY)
_WRAPPED = re.compile(rf"(\w[\w.]*\()({NUMBER})([^()]*\))")
_DIGITS = re.compile(r"\d+")
_AT_ONCE = 8
"""Shapes that are tried before a line is taken apart by itself."""
_SLACK, _HITS = 24, 50
"""Shapes that may be made at first, and how many lines each further one has to be paid for with."""

Parts = Sequence[tuple[str, tuple[int, int], tuple[int, int]]]
"""Each name of a line, where it stands, and where its value stands."""


_Shape = tuple[Callable[[str], re.Match[str] | None], tuple[str, ...]]
"""What matches lines of a shape, with a group for each wanted value, and the names of these."""


class Shapes:
    """Lines taken apart by ``parse``, of which only the names that ``wanted`` is true of are kept.

    A line has the shape of another if both are the same but for the numbers that are values, of whatever length, and for the
    digits that stand between the pairs. The names have to be the same to the letter, and a value that a further digit or
    letter follows after a comma or a point makes no shape: there the numbers themselves may decide where a value ends.
    """

    def __init__(self, parse: Callable[[str], Parts], wanted: Callable[[str], bool]) -> None:
        self._parse = parse
        self._wanted = wanted
        self._shapes: list[_Shape] = []  # the one that served last first
        self._made = self._hits = 0

    def pairs(self, line: str) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """The wanted names in a line, and their values as they stand there."""
        for i, (match, names) in enumerate(self._shapes):
            if found := match(line):
                self._hits += 1
                if i:
                    self._shapes.insert(0, self._shapes.pop(i))
                return names, found.groups()
        parts = self._parse(line)
        wanted = [(name, span) for name, _, span in parts if self._wanted(name)]
        names = tuple(name for name, _ in wanted)
        if self._made < _SLACK + self._hits // _HITS:
            self._made += 1
            pattern = _pattern(line, parts, self._wanted)
            if pattern is not None:
                self._shapes.insert(0, (re.compile(pattern).fullmatch, names))
                del self._shapes[_AT_ONCE:]
        return names, tuple(line[start:end] for _, (start, end) in wanted)


def _pattern(line: str, parts: Parts, wanted: Callable[[str], bool]) -> str | None:
    """A regular expression for lines of the same shape, with a group for each wanted value; None where there is none."""
    pieces: list[str] = []
    at = 0
    for name, (name_start, name_end), (start, end) in parts:
        value = _value(line[start:end])
        if value is None or re.match(r"[\w.+-]|,[\d.]", line[end : end + 2]):
            return None
        pieces.append(_between(line[at:name_start]))
        pieces.append(re.escape(line[name_start:name_end]))
        pieces.append(re.sub(r"(?:\\ )+", " {1,12}", _between(line[name_end:start])))  # numbers are padded
        pieces.append(f"({value})" if wanted(name) else value)
        at = end
    pieces.append(_between(line[at:]))
    return "".join(pieces)


def _value(text: str) -> str | None:
    if _PLAIN.fullmatch(text):
        return _ANY
    wrapped = _WRAPPED.fullmatch(text)
    return re.escape(wrapped[1]) + NUMBER + re.escape(wrapped[3]) if wrapped else None


def _between(text: str) -> str:
    """What stands between pairs: digits are any, but in brackets, which may be a part of a name, as many as there are."""
    pieces: list[str] = []
    at = depth = 0
    for digits in _DIGITS.finditer(text):
        before = text[at : digits.start()]
        depth = max(0, depth + before.count("(") - before.count(")"))
        pieces += [re.escape(before), rf"\d{{{len(digits[0])}}}" if depth else r"\d+"]
        at = digits.end()
    return "".join((*pieces, re.escape(text[at:])))
