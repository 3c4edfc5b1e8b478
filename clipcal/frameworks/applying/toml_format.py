"""TOML -> nodes with their places, and a new key in its text: through tomlkit, which keeps every character of a file."""

from __future__ import annotations

import re
import tomllib
from typing import Any

from clipcal.errors import InputError, MissingPackage
from clipcal.frameworks.applying.spelling import add_between_brackets, column, end_of_line, newline, num_alike, quoted
from clipcal.frameworks.applying.tree import Entry, Mapping, Node, Path, Scalar, Sequence, check_depth

_MARK = "\ue000"
"""For private use: what a value is exchanged for, with a number, to see where it stands."""
_MARKED = re.compile(f'"{_MARK}(\\d+)"')
_KEY_BEFORE = re.compile(r"""(?P<key>"(?:[^"\\\n]|\\.)*"|'[^'\n]*'|[A-Za-z0-9_-]+)[ \t]*=[ \t]*\Z""")
# tomllib takes time with the square of the parts of a key.
_LONG_KEY = re.compile(r"^[ \t]*\[{0,2}[\w\-. \t\"']{2000}", re.MULTILINE)


def read(text: str) -> list[Node]:
    """The root, alone in a list. Raises InputError without the file's name, MissingPackage where tomlkit is not installed."""
    if found := _LONG_KEY.search(text):
        row = text.count("\n", 0, found.start()) + 1
        raise InputError(f"{row}:1: a key of thousands of characters, which no config has.")
    tomlkit = _tomlkit()
    root = Mapping(start=0, end=len(text), layout="table")
    try:
        tomllib.loads(text)
        document = tomlkit.parse(text)
        if is_kept := document.as_string() == text and _MARK not in text:
            _fill(text, root, document, 0)
    except tomllib.TOMLDecodeError as e:
        found = re.search(r"^(.*) \(at (?:line (\d+), column (\d+)|(end of document))\)$", str(e), re.DOTALL)
        what, line, at = (found[1], found[2], found[3]) if found else (str(e), None, None)
        place = f"{line}:{at}" if line else f"{text.count(chr(10)) + 1}:{column(text, len(text)) + 1}"
        raise InputError(f"{place}: not valid TOML: {what}.") from None
    except (ValueError, tomlkit.exceptions.TOMLKitError) as e:  # of a number with thousands of digits, or its own
        raise InputError(f"1:1: a value cannot be read: {' '.join(str(e).split())}.") from None
    if not is_kept:  # tables of one array with others in between
        raise InputError("1:1: tomlkit would move a part of this file to another place. Write the number by hand.")
    return [root]


def add(text: str, parent: Mapping, path: Path, depth: int, value: str) -> str:
    """``path``, of which the first ``depth`` keys lead to ``parent``: a new last line of that table, or a new entry of an
    inline one. What has no lines yet is left to tomlkit."""
    own = [e for e in parent.entries if e.start >= 0]
    key = _key(path[depth])
    if parent.layout == "flow":
        return add_between_brackets(text, parent, path[depth:], value, separator=" = ", key=key)
    if depth == len(path) - 1 and own:
        start = own[-1].start
        lead = text[start - column(text, start) : start]  # the indentation, and the keys before the dot
        at = end_of_line(text, own[-1].node.end)
        return f"{text[:at]}{newline(text)}{lead}{key} = {value}{text[at:]}"
    if len(path) == 1:  # before all comments: they may belong to the first table
        return f"{key} = {value}{newline(text)}{text}"
    tomlkit = _tomlkit()
    document: Any = tomlkit.parse(text)
    table = document
    in_array = False
    for i, name in enumerate(path[:-1]):
        if i >= depth:
            table[name] = tomlkit.table()
        in_array |= isinstance(table, list)
        table = table[int(name) if isinstance(table, list) else name]
    ends = newline(text)
    has_header = depth == len(path) - 1 and isinstance(table, tomlkit.items.Table) and not table.is_super_table()
    if not in_array and not has_header:  # at the end: a comment may stand above the next
        last = "" if not text.strip() else ends if text.endswith("\n") else ends * 2
        header = ".".join(map(_key, path[:-1]))
        return f"{text}{last}[{header}]{ends}{_key(path[-1])} = {value}{ends if text.endswith(chr(10)) else ''}"
    table[path[-1]] = tomlkit.value(value)
    new = document.as_string()
    start = num_alike(text, new)
    added = new[start:].removesuffix(text[start:]).replace("\r\n", "\n").replace("\n", ends)
    return f"{text[:start]}{added}{text[start:]}"


def _tomlkit() -> Any:
    try:
        import tomlkit
    except ImportError:
        raise MissingPackage(
            "is TOML, which is edited with tomlkit, which is not installed. Run pip install 'clipcal[toml]'",
            name="tomlkit",
        ) from None
    return tomlkit


def _key(key: str) -> str:
    return key if re.fullmatch(r"[A-Za-z0-9_-]+", key) else quoted(key)


def _node(value: Any) -> Node:
    """A value -> its node without what is in it; its place is not known yet."""
    tomlkit = _tomlkit()
    if isinstance(value, dict):
        return Mapping(start=-1, end=-1, layout="flow" if isinstance(value, tomlkit.items.InlineTable) else "table")
    if isinstance(value, list):
        return Sequence(start=-1, end=-1, layout="block" if isinstance(value, tomlkit.items.AoT) else "flow")
    plain = tomlkit.item(value).unwrap()
    return Scalar(start=-1, end=-1, text=str(plain), resolve=None if isinstance(plain, str) else lambda _: plain)


def _fill(text: str, node: Mapping | Sequence, item: Any, depth: int) -> None:
    """Give the node of an item all that is in it. Its values are exchanged for marks, to find them in the text."""
    found: list[tuple[Entry | None, Node, Any]] = []
    tables = [(node, item, depth)]
    while tables:
        above, table, level = tables.pop()
        check_depth(level)
        for key, value in list(enumerate(table) if isinstance(above, Sequence) else table.items()):
            inner, entry = _node(value), None
            if isinstance(above, Sequence):
                above.items.append(inner)
            else:
                above.entries.append(entry := Entry(key=key, start=-1, end=-1, node=inner))
            if isinstance(inner, Mapping | Sequence) and inner.layout != "flow":
                tables.append((inner, value, level + 1))
            else:
                found.append((entry, inner, value))
                table[key] = f"{_MARK}{len(found) - 1}"
    shift = node.start
    for mark in _MARKED.finditer(item.as_string()):
        entry, inner, value = found[int(mark[1])]
        raw = _tomlkit().item(value).as_string()
        inner.start = mark.start() + shift
        inner.end = inner.start + len(raw)
        shift += len(raw) - len(mark[0])
        if entry and (before := _KEY_BEFORE.search(text, inner.start - column(text, inner.start), inner.start)):
            entry.start, entry.end = before.span("key")
        if isinstance(inner, Mapping | Sequence):
            _fill(text, inner, value, depth + 1)
