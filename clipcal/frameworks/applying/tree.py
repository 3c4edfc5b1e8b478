"""The nodes that every format is read into: what a config says, and where in its text each value stands."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, Literal

from clipcal.errors import InputError

Path = tuple[str, ...]
"""The keys from the root to a value; an element of a list is named by its index."""

MAX_DEPTH = 100
"""Levels of nesting. No config comes near it, and no reader runs out of stack within it."""


@dataclass(kw_only=True)
class Node:
    """``start`` and ``end`` are offsets into the text; a YAML anchor and tag stand before ``start``."""

    start: int
    end: int
    anchor: str = ""


@dataclass(kw_only=True)
class Scalar(Node):
    """``resolve`` reads the text of an unquoted value; None where the text itself is the value, a string."""

    text: str
    resolve: Callable[[str], Any] | None = None
    tag: str = ""
    lines: bool = False
    """A YAML block scalar, whose end is not the end of its line."""

    @property
    def value(self) -> Any:
        return self.resolve(self.text) if self.resolve else self.text


@dataclass(kw_only=True)
class Alias(Node):
    """YAML's ``*name``: the node of that anchor once more, which is never copied or followed when the tree is walked."""

    target: Node


@dataclass(kw_only=True)
class Entry:
    """A key and its value; the offsets are the key's. A YAML key that is itself a list or a mapping is None."""

    key: str | None
    start: int
    end: int
    node: Node


@dataclass(kw_only=True)
class Mapping(Node):
    """``table`` is TOML's, with no place of its own: its lines may stand anywhere."""

    entries: list[Entry] = field(default_factory=list)
    layout: Literal["block", "flow", "table"]

    def get(self, key: str) -> Node | None:
        """The value of a key, the last one where the key stands twice, as parsers have it."""
        return next((e.node for e in reversed(self.entries) if e.key == key), None)


@dataclass(kw_only=True)
class Sequence(Node):
    items: list[Node] = field(default_factory=list)
    layout: Literal["block", "flow"] = "flow"


def check_depth(depth: int) -> None:
    if depth > MAX_DEPTH:
        raise InputError(f"is nested more than {MAX_DEPTH} levels deep, which no config is.")


def children(node: Node) -> Iterator[tuple[str, Node]]:
    """What stands directly below a node in the text. Aliases have nothing below them, so a walk is never a bomb."""
    if isinstance(node, Mapping):
        yield from ((e.key, e.node) for e in node.entries if e.key is not None)
    elif isinstance(node, Sequence):
        yield from ((str(i), item) for i, item in enumerate(node.items))


def walk(node: Node, path: Path = ()) -> Iterator[tuple[Path, Node]]:
    """Every node with its path, in the order of the text."""
    yield path, node
    for key, child in children(node):
        yield from walk(child, (*path, key))


def behind(node: Node) -> Node:
    """The node that an alias stands for; any other node is itself."""
    while isinstance(node, Alias):
        node = node.target
    return node


def step(node: Node, key: str) -> Node | None:
    """The value of one key, or the element of one index."""
    if isinstance(node, Mapping):
        return node.get(key)
    if isinstance(node, Sequence) and re.fullmatch(r"\d{1,9}", key, re.ASCII) and int(key) < len(node.items):
        return node.items[int(key)]
    return None


def find(root: Node, path: Path) -> Node | None:
    """The node at a path, aliases followed, or None. YAML's merges (``<<``) are not looked into."""
    node: Node | None = root
    for key in path:
        node = step(behind(node), key) if node else None
    return behind(node) if node else None


def said(root: Node, key: str | Path) -> Any:
    """The plain value at a path, which may be dotted; None where there is none, or a mapping or a list."""
    node = find(root, tuple(key.split(".")) if isinstance(key, str) else key)
    return node.value if isinstance(node, Scalar) else None


_PART = re.compile(r'"(?:[^"\\]|\\.)*"|\'[^\']*\'|[^."\']+')


def parse_key(text: str) -> Path:
    """``trainer.gradient_clip_val`` -> its path; a part with a dot in it is quoted: ``env."CartPole.v1".max_grad_norm``.

    Raises InputError.
    """
    parts: list[str] = []
    position = 0
    while match := _PART.match(text, position):
        part = match[0]
        try:
            parts.append(json.loads(part) if part[0] == '"' else part[1:-1] if part[0] == "'" else part)
        except ValueError:
            break
        position = match.end()
        if position == len(text):
            return tuple(parts)
        if text[position] != ".":
            break
        position += 1
    raise InputError(
        f"--key {text!r} is no path of keys. Expected keys with dots between them, such as trainer.gradient_clip_val; "
        'a key that has a dot itself is quoted: env."CartPole.v1".max_grad_norm.'
    )


def show(path: Path) -> str:
    """The path as ``--key`` takes it."""
    plain = re.compile(r"[^\s.\"'\\]+")
    return ".".join(p if plain.fullmatch(p) and p.isprintable() else json.dumps(p) for p in path)
