"""A file's text -> a document: its nodes, one key of it set, and the proof that nothing else changed.

Libraries that read a file and write it again keep comments, but not every character: ruamel.yaml wraps long lines and
changes indentation, and JSON has none. So the nodes say where they stand, and only the characters of one value are changed.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path as File

from clipcal.errors import InputError, MissingPackage
from clipcal.frameworks.applying import json_format, toml_format, yaml_format
from clipcal.frameworks.applying.tree import Alias, Mapping, Node, Path, Scalar, find, show, step, walk
from clipcal.frameworks.keys import Value, spelled


@dataclass(frozen=True, kw_only=True)
class Format:
    """One way to write a config. ``read`` gives the root of every document; ``add`` puts a path there, whose
    first keys, so many as it is told, lead to a mapping that is there."""

    read: Callable[[str], list[Node]]
    add: Callable[[str, Mapping, Path, int, str], str]
    quote: str = '"'
    infinity: str = ""

    def spell(self, value: Value, *, quote: str = "") -> str:
        """The characters that stand for a value. Raises InputError for an infinity that the format cannot say."""
        if isinstance(value, bool):
            return "true" if value else "false"
        if isinstance(value, str):
            return f"{quote or self.quote}{value}{quote or self.quote}"
        if math.isinf(value) and not self.infinity:
            raise InputError("JSON has no number for infinity, so norm_type inf cannot be written into this file.")
        return self.infinity if math.isinf(value) else spelled(value)


_YAML = Format(read=yaml_format.read, add=yaml_format.add, quote="", infinity=".inf")
LOOSE_JSON = Format(read=json_format.read_loose, add=json_format.add)
FORMATS: dict[str, Format] = {
    ".yaml": _YAML,
    ".yml": _YAML,
    ".json": Format(read=json_format.read, add=json_format.add),
    ".jsonc": LOOSE_JSON,
    ".json5": LOOSE_JSON,  # as far as it is that: keys without quotes are refused
    ".toml": Format(read=toml_format.read, add=toml_format.add, infinity="inf"),
}
"""By the ending of the file's name."""


@dataclass(frozen=True, kw_only=True)
class Document:
    """``text`` is without a byte order mark. ``roots`` has more than one node only where YAML says ``---``."""

    file: File
    format: Format
    text: str
    roots: list[Node]

    def where(self, node: Node) -> str:
        return f"{self.file}:{self.line(node)}"

    def line(self, node: Node) -> int:
        return self.text.count("\n", 0, node.start) + 1

    def raw(self, node: Node) -> str:
        return self.text[node.start : node.end]


def parse(file: File, text: str, format: Format | None = None) -> Document:
    """Raises InputError, with the place, for text that is not of the format, which is by default what the file's name says."""
    format = format or FORMATS[file.suffix.lower()]
    try:
        roots = format.read(text)
    except MissingPackage as e:
        raise MissingPackage(f"{file} {e}", name=e.name) from None
    except InputError as e:
        raise InputError(f"{file}{':' if str(e)[0].isdigit() else ' '}{e}") from None
    except RecursionError:
        raise InputError(f"{file} is nested too deep to be read, which no config is.") from None
    return Document(file=file, format=format, text=text, roots=roots)


def along(document: Document, root: Node, path: Path) -> list[Node]:
    """The nodes on a path, from the root on, as far as they exist.

    Raises InputError where a change at the end of the path would not be a change at this path alone: behind an alias, and
    below a key that stands twice.
    """
    nodes = [root]
    for depth, key in enumerate(path):
        node = nodes[-1]
        here = show(path[: depth + 1])
        if isinstance(node, Alias):
            original = next((show(p) for p, n in walk(root) if n is node.target), "")
            raise InputError(
                f"{document.where(node)}: {show(path[:depth])} is an alias; what it holds stands under {original}. "
                f"Change it there, for every place that uses it, with --key {original}.{show(path[depth:])}."
            )
        if isinstance(node, Mapping):
            same = [e.node for e in node.entries if e.key == key]
            if len(same) > 1:
                raise InputError(
                    f"{document.file}: the key {here} stands more than once, on lines {document.line(same[0])} and "
                    f"{document.line(same[-1])}; most readers keep the last. Keep one of them, and apply again."
                )
        below = step(node, key)
        if below is None:
            break
        nodes.append(below)
    return nodes


def set_value(document: Document, index: int, path: Path, value: Value) -> Document:
    """The document with ``value`` at ``path`` below the root of that index: only the characters of the old value differ, or one entry is new.

    Raises InputError where that cannot be done, which is checked by reading the new text again.
    """
    nodes = along(document, document.roots[index], path)
    last, depth = nodes[-1], len(nodes) - 1
    if depth == len(path):
        text = _replace(document, last, value)
    elif isinstance(last, Mapping):
        text = document.format.add(document.text, last, path, depth, document.format.spell(value))
    else:
        raise InputError(
            f"{document.where(last)}: {show(path[:depth]) or 'the file'} holds no keys, so {path[depth]} cannot be added there."
        )
    try:
        changed = parse(document.file, text, document.format)
    except InputError:
        changed = None
    if changed is None or not _differs_only_at(document, changed, index, path, value):
        raise InputError(
            f"{document.where(last)}: {show(path)} cannot be set here without touching something else. "
            f"Write {path[-1]} = {document.format.spell(value)} there by hand, in the way of the file."
        )
    return changed


def _replace(document: Document, node: Node, value: Value) -> str:
    old = document.raw(node)
    new = document.format.spell(value, quote=old[0] if old[:1] in ('"', "'") else "")
    before, after = document.text[: node.start], document.text[node.end :]
    if not old and before[-1:] == ":":  # YAML's `key:`
        new = f" {new}"
    return before + new + after


def _differs_only_at(old: Document, new: Document, index: int, path: Path, value: Value) -> bool:
    place = (str(index), *path)
    if len(new.roots) != len(old.roots) or _leaves(old, place) != _leaves(new, place):
        return False
    node = find(new.roots[index], path)
    return isinstance(node, Scalar) and type(node.value) is type(value) and node.value == value


def _leaves(document: Document, place: Path) -> list[tuple[Path, str, str, str]]:
    """Every value as it is written, in the order of the file, without the one at ``place`` and the mappings around it."""
    return [
        (path, type(node).__name__, node.anchor, document.raw(node) if isinstance(node, (Scalar, Alias)) else "")
        for index, root in enumerate(document.roots)
        for path, node in walk(root, (str(index),))
        if path != place[: len(path)]
    ]
