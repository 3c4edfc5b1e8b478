"""TOML -> nodes with their places, and a new key in its text. The standard library checks what is read and written."""

from __future__ import annotations

import re
import tomllib
from typing import Any

from clipcal.errors import InputError
from clipcal.frameworks.applying.spelling import (
    add_between_brackets,
    column,
    end_of_line,
    leading_space,
    nested,
    newline,
)
from clipcal.frameworks.applying.tree import MAX_DEPTH, Entry, Mapping, Node, Path, Scalar, Sequence

_SPACE = re.compile(r"[ \t]*")
_SPACE_AND_COMMENTS = re.compile(r"(?:[ \t\r\n]|#[^\n]*)*")
_STRING = re.compile(
    r'"""(?:[^\\]|\\.)*?"{3,5}(?!")' r"|'''.*?'{3,5}(?!')" r'|"(?:[^"\\\n]|\\.)*"' r"|'[^'\n]*'", re.DOTALL
)
# tomllib takes time with the square of the parts of a key.
_LONG_KEY = re.compile(r"^[ \t]*\[{0,2}[\w\-. \t\"']{2000}", re.MULTILINE)
_BARE_KEY = re.compile(r"[A-Za-z0-9_-]+")
_BARE = re.compile(r"\d{4}-\d\d-\d\d \d\d:[^\s,\]}#]+|[^\s,\]}#]+")  # a date and a time may have a space between them


def read(text: str) -> list[Node]:
    """The root, alone in a list. Raises InputError without the file's name."""
    if found := _LONG_KEY.search(text):
        raise InputError(
            f"{text.count(chr(10), 0, found.start()) + 1}:1: a key of thousands of characters, which no config has."
        )
    try:
        tomllib.loads(text)
    except tomllib.TOMLDecodeError as e:
        found = re.search(r"^(.*) \(at (?:line (\d+), column (\d+)|(end of document))\)$", str(e), re.DOTALL)
        what, line, at = (found[1], found[2], found[3]) if found else (str(e), None, None)
        place = f"{line}:{at}" if line else f"{text.count(chr(10)) + 1}:{column(text, len(text)) + 1}"
        raise InputError(f"{place}: not valid TOML: {what}.") from None
    except ValueError as e:
        raise InputError(f"1:1: a value cannot be read: {e}.") from None
    return [_Reader(text).document()]


def add(text: str, parent: Mapping, path: Path, value: str) -> str:
    """``path`` below ``parent``: a new last line of the table, or a new entry of an inline one.

    A table that has no lines of its own (``[a.b]`` alone makes ``a``) cannot take one here: see ``add_table``.
    """
    if parent.layout == "flow":
        _, value = nested(path, value, separator=" = ")
        return add_between_brackets(text, parent, _key(path[0]), value, separator=" = ")
    line = f"{parent.prefix}{'.'.join(map(_key, path))} = {value}"
    if parent.at == 0:  # a root without keys
        return f"{line}{newline(text)}{text}"
    indent = leading_space(text, parent.entries[-1].start).rpartition("\n")[2] if parent.entries else ""
    at = end_of_line(text, parent.at)
    return f"{text[:at]}{newline(text)}{indent}{line}{text[at:]}"


def add_table(text: str, header: Path, path: Path, value: str) -> str:
    """A new table at the end of the file."""
    ends = newline(text)
    last = "" if not text.strip() else ends if text.endswith("\n") else ends * 2
    name = ".".join(map(_key, (*header, *path[:-1])))
    return f"{text}{last}[{name}]{ends}{_key(path[-1])} = {value}{ends if text.endswith(chr(10)) else ''}"


def add_table_before(text: str, place: int, header: Path, path: Path, value: str) -> str:
    """A new table before the line of ``place``, a header below it that was all there was of the table."""
    ends = newline(text)
    start = text.rfind("\n", 0, place) + 1
    name = ".".join(map(_key, (*header, *path[:-1])))
    return f"{text[:start]}[{name}]{ends}{_key(path[-1])} = {value}{ends * 2}{text[start:]}"


def _key(key: str) -> str:
    return key if _BARE_KEY.fullmatch(key) else nested((key,), "", separator="")[0]


def _bare(text: str) -> Any:
    return tomllib.loads(f"_={text}")["_"]


class _Reader:
    """Reads text that tomllib has accepted, so that nothing needs to be checked again."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.position = 0
        self.tables: dict[tuple[int, str], Mapping | Sequence] = {}  # by the id of the table above, and the key

    def document(self) -> Mapping:
        root = table = Mapping(start=0, end=len(self.text), layout="table", at=0)
        while self._skip(_SPACE_AND_COMMENTS) < len(self.text):
            if self.text[self.position] != "[":
                self._statement(table)
                table.at = self.position
                continue
            many = self.text.startswith("[[", self.position)
            self.position += 2 if many else 1
            keys = self._keys()
            self.position += 2 if many else 1
            above = self._below(root, keys[:-1])
            table = self._element(above, keys[-1]) if many else self._below(above, keys[-1:])
            table.at, table.prefix = self.position, ""
        return root

    def _statement(self, table: Mapping) -> None:
        """``a.b = value``. What is between ``table`` and ``b`` can take further keys on a line of the same kind."""
        keys = self._keys()
        self.position += 1
        node = self._value(0)
        prefix = table.prefix
        for key in keys[:-1]:
            assert key.key is not None
            table = self._below(table, [key])
            prefix += f"{_key(key.key)}."
            if table.layout == "table":
                table.at, table.prefix = node.end, prefix
        keys[-1].node = node
        table.entries.append(keys[-1])

    def _below(self, table: Mapping, keys: list[Entry]) -> Mapping:
        """The table under some keys, made where there is none yet; of an array of tables the last one, as TOML has it."""
        for entry in keys:
            assert entry.key is not None
            found: Node | None = self.tables.get((id(table), entry.key))
            if isinstance(found, Sequence):
                found = found.items[-1]
            if found is None:
                found = entry.node = Mapping(start=entry.start, end=entry.end, layout="table")
                self.tables[id(table), entry.key] = found
                table.entries.append(entry)
            assert isinstance(found, Mapping)
            table = found
        return table

    def _element(self, table: Mapping, entry: Entry) -> Mapping:
        """A new table at the end of an array of tables."""
        assert entry.key is not None
        array = self.tables.get((id(table), entry.key))
        if array is None:
            array = entry.node = Sequence(start=entry.start, end=entry.end, layout="block")
            self.tables[id(table), entry.key] = array
            table.entries.append(entry)
        assert isinstance(array, Sequence)
        element = Mapping(start=entry.start, end=entry.end, layout="table")
        array.items.append(element)
        return element

    def _keys(self) -> list[Entry]:
        """The parts of a dotted key, and past the white space behind it."""
        keys: list[Entry] = []
        while True:
            start = self._skip(_SPACE)
            string = _STRING.match(self.text, start)
            found = string or _BARE_KEY.match(self.text, start)
            assert found is not None
            self.position = found.end()
            key = _bare(found[0]) if string else found[0]
            # The value is not read yet: the entry holds its own place until then.
            keys.append(Entry(key=key, start=start, end=self.position, node=Node(start=start, end=self.position)))
            if len(keys) > MAX_DEPTH:
                raise InputError(f"is nested more than {MAX_DEPTH} levels deep, which no config is.")
            if self.text[self._skip(_SPACE)] != ".":
                return keys
            self.position += 1

    def _value(self, depth: int) -> Node:
        if depth > MAX_DEPTH:
            raise InputError(f"is nested more than {MAX_DEPTH} levels deep, which no config is.")
        start = self._skip(_SPACE_AND_COMMENTS)
        if self.text[start] == "[":
            sequence = Sequence(start=start, end=start)
            self.position += 1
            while self.text[self._skip(_SPACE_AND_COMMENTS)] != "]":
                sequence.items.append(self._value(depth + 1))
                self._comma()
            sequence.end = self.position = self.position + 1
            return sequence
        if self.text[start] == "{":
            mapping = Mapping(start=start, end=start, layout="flow")
            self.position += 1
            while self.text[self._skip(_SPACE_AND_COMMENTS)] != "}":
                keys = self._keys()
                self.position += 1
                keys[-1].node = self._value(depth + 1)
                table = mapping
                for key in keys[:-1]:  # a.b = 1 between brackets
                    table = self._below(table, [key])
                    table.end = keys[-1].node.end
                table.entries.append(keys[-1])
                self._comma()
            mapping.end = self.position = self.position + 1
            return mapping
        string = _STRING.match(self.text, start)
        found = string or _BARE.match(self.text, start)
        assert found is not None
        self.position = found.end()
        if string:
            return Scalar(start=start, end=found.end(), text=_bare(found[0]))
        return Scalar(start=start, end=found.end(), text=found[0], resolve=_bare)

    def _comma(self) -> None:
        if self.text[self._skip(_SPACE_AND_COMMENTS)] == ",":
            self.position += 1

    def _skip(self, what: re.Pattern[str]) -> int:
        found = what.match(self.text, self.position)
        assert found is not None
        self.position = found.end()
        return self.position
