"""A line of JSON -> all lines of the same keys, thousands at a time, without an object for each. Exact or nothing, as with text."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass

from clipcal.logs.names import kind_of
from clipcal.logs.templates import Numbers
from clipcal.run.cells import numbers_of

_TOKEN = re.compile(
    rb'(?P<key>"(?:[^"\\]|\\.)*"\s*:)|(?P<text>"(?:[^"\\]|\\.)*")|(?P<number>-?[0-9][0-9.eE+\-]*|NaN|-?Infinity)'
    rb"|(?P<word>true|false|null)|(?P<open>\{)|(?P<close>\})|(?P<other>[\[\]])"
)
_NUMBER = rb"-?[0-9][0-9.eE+\-]{0,40}|NaN|-?Infinity"
_STEP = rb"([0-9]{1,15})"
_TEXT = rb'"[^"\\\x00-\x1f]*"'
_WORD = rb"(?:true|false|null)"
_DEPTH = 4


@dataclass(frozen=True, kw_only=True)
class JsonTemplate:
    """``names`` are those of the numbers that are taken, ``step`` which of them is the step."""

    names: tuple[str, ...]
    step: str
    pattern: re.Pattern[bytes]

    def rows(self, block: bytes) -> dict[str, Numbers] | None:
        """The numbers of whole lines, (rows,) by their names, or None where one of the lines is of another form."""
        parts = self.pattern.split(b"\n%b\n" % block)
        width = len(self.names) + 1
        if b"".join(parts[::width]).strip():
            return None
        try:
            return {name: numbers_of(parts[i::width]) for i, name in enumerate(self.names, start=1)}
        except ValueError:  # "1.2.3"
            return None


def json_template(line: bytes, *, but: Sequence[str] = ()) -> JsonTemplate | None:
    """The template of a line that is one object of numbers, texts and objects; None for any other, where a key is one of ``but``, where no
    number or several may be the step, and where one may be the threshold."""
    try:
        whole = json.loads(line)
    except (ValueError, RecursionError):
        return None
    if not isinstance(whole, dict) or not whole:
        return None
    pieces: list[bytes] = []
    names: list[str] = []
    path: list[str] = []
    key, at = "", 0
    for token in _TOKEN.finditer(line):
        kind = token.lastgroup
        if kind == "other":
            return None
        if kind == "key":
            key = json.loads(token[0][:-1].rstrip())
            if key in but or f"{key}/" in but:
                return None
        elif kind == "open":
            path.append(key)
        elif kind == "close":
            path.pop()
        else:
            name = "/".join([*path[1:], key])
            pieces.append(re.escape(line[at : token.start()]))
            pieces.append(_value(kind or "", name, names))
            at = token.end()
        if len(path) > _DEPTH:
            return None
    pieces.append(re.escape(line[at:]))
    kinds = [kind_of(name) for name in names]
    if "norm" not in kinds or "threshold" in kinds or kinds.count("step") != 1 or len(set(names)) < len(names):
        return None
    step = names[kinds.index("step")]
    return JsonTemplate(names=tuple(names), step=step, pattern=re.compile(rb"\n" + b"".join(pieces) + rb"(?=\n)"))


def _value(kind: str, name: str, names: list[str]) -> bytes:
    """What matches a value; a number that is wanted is added to the names, and has a group."""
    if kind == "text":
        return _TEXT
    if kind == "word":
        return _WORD
    wanted = kind_of(name)
    if wanted in ("norm", "loss", "lr", "scale", "step", "threshold"):
        names.append(name)
        return _STEP if wanted == "step" else b"(%b)" % _NUMBER
    return b"(?:%b)" % _NUMBER
