"""JSON -> nodes with their places, and a new key in its text.

``//`` and ``/* */`` comments and commas before a closing bracket are let through where the file's name promises no strict JSON.
"""

from __future__ import annotations

import json
import re
from typing import Any

from clipcal.errors import InputError
from clipcal.frameworks.applying.spelling import add_between_brackets, nested
from clipcal.frameworks.applying.tree import Entry, Mapping, Node, Path, Scalar, Sequence, check_depth

# What has no end runs to the end of the file, so that a broken file takes no longer than a whole one.
_STRING_OR_COMMENT = re.compile(r'"(?:[^"\\]|\\.)*+"?|//[^\n]*|/\*.*?(?:\*/|\Z)', re.DOTALL)
_STRING_OR_LAST_COMMA = re.compile(r'"(?:[^"\\]|\\.)*+"?|,(?=\s*[}\]])', re.DOTALL)
_BARE = re.compile(r"[^\s,:\]}]+")
_DECODER = json.JSONDecoder()
_SPACE = re.compile(r"\s*")


def read(text: str) -> list[Node]:
    """The root, alone in a list. Raises InputError without the file's name."""
    try:
        _check(text)
    except InputError as e:
        try:
            _check(_strict(text))
        except InputError:
            raise e from None
        place = ":".join(str(e).split(":")[:2])
        raise InputError(
            f"{place}: not valid JSON: a comment, or a comma before a closing bracket. Most readers refuse it: take it out. "
            "Where yours does not, apply to the file under a name that ends in .jsonc."
        ) from None
    return [_Reader(text).value(0)]


def read_loose(text: str) -> list[Node]:
    """The same for text that may have comments, and commas before a closing bracket."""
    strict = _strict(text)
    _check(strict)
    return [_Reader(strict).value(0)]


def _check(text: str) -> None:
    try:
        json.loads(text)
    except json.JSONDecodeError as e:
        raise InputError(f"{e.lineno}:{e.colno}: not valid JSON: {e.msg}.") from None
    except ValueError as e:
        raise InputError(f"1:1: a value cannot be read: {e}.") from None


def add(text: str, parent: Mapping, path: Path, depth: int, value: str) -> str:
    """``path`` from ``depth`` on below ``parent``, and the mappings on it, as the last entry."""
    path = path[depth:]
    key, value = nested(path, value, separator=": ")
    return add_between_brackets(text, parent, key, value, separator=": ")


def _strict(text: str) -> str:
    """The same text, with spaces where comments and commas before a closing bracket were: every place stays."""

    def blank(match: re.Match[str]) -> str:
        return match[0] if match[0][0] == '"' else re.sub(r"[^\r\n]", " ", match[0])

    return _STRING_OR_LAST_COMMA.sub(blank, _STRING_OR_COMMENT.sub(blank, text))


def _bare(text: str) -> Any:
    return json.loads(text)


class _Reader:
    """Reads text that json.loads has accepted, so that nothing needs to be checked again."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.position = 0

    def value(self, depth: int) -> Node:
        check_depth(depth)
        start = self._skip()
        if self.text[start] == "{":
            mapping = Mapping(start=start, end=start, layout="flow")
            self.position += 1
            while self._peek() != "}":
                key = self._string()
                self._skip(":")
                mapping.entries.append(Entry(key=key.text, start=key.start, end=key.end, node=self.value(depth + 1)))
                self._skip(",")
            mapping.end = self.position = self.position + 1
            return mapping
        if self.text[start] == "[":
            sequence = Sequence(start=start, end=start)
            self.position += 1
            while self._peek() != "]":
                sequence.items.append(self.value(depth + 1))
                self._skip(",")
            sequence.end = self.position = self.position + 1
            return sequence
        if self.text[start] == '"':
            return self._string()
        bare = _BARE.match(self.text, start)
        assert bare is not None
        self.position = bare.end()
        return Scalar(start=start, end=bare.end(), text=bare[0], resolve=_bare)

    def _string(self) -> Scalar:
        start = self._skip()
        text, self.position = _DECODER.raw_decode(self.text, start)
        return Scalar(start=start, end=self.position, text=text)

    def _peek(self) -> str:
        return self.text[self._skip()]

    def _skip(self, sign: str = "") -> int:
        """Past white space, and past one ``sign`` where it stands there."""
        space = _SPACE.match(self.text, self.position)
        assert space is not None
        self.position = space.end()
        if sign and self.text.startswith(sign, self.position):
            self.position += 1
        return self.position
