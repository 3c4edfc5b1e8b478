"""A config's text -> what is around a place in it, and a new entry between the brackets of a mapping."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence

from clipcal.frameworks.applying.tree import Mapping, Path


def num_alike(a: Sequence[str], b: Sequence[str]) -> int:
    """How many lines, or characters, two texts have in common at their beginning."""
    return next((i for i, (x, y) in enumerate(zip(a, b, strict=False)) if x != y), min(len(a), len(b)))


def newline(text: str) -> str:
    """The line break that the text uses."""
    found = re.search(r"\r\n|\n|\r", text)
    return found[0] if found else "\n"


def end_of_line(text: str, position: int) -> int:
    return position + len(re.split(r"[\r\n]", text[position:], maxsplit=1)[0])


def leading_space(text: str, position: int) -> str:
    """The white space right before a position, with at most one line break: no blank lines."""
    end = text[:position].rstrip(" \t")
    ends = 2 if end.endswith("\r\n") else int(end.endswith(("\n", "\r")))
    return text[len(end) - ends : position]


def column(text: str, position: int) -> int:
    return position - max(text.rfind("\n", 0, position), text.rfind("\r", 0, position)) - 1


def quoted(key: str) -> str:
    return json.dumps(key, ensure_ascii=False)


def add_between_brackets(text: str, mapping: Mapping, path: Path, value: str, *, separator: str, key: str = "") -> str:
    """A new last entry of ``{...}``, set apart from its neighbours as they are from theirs: the rest of a path, of which
    ``key`` is the first as it is to be written, in quotes where that is not said."""
    for inner in reversed(path[1:]):
        value = f"{{{quoted(inner)}{separator}{value}}}"
    key = key or quoted(path[0])
    if not mapping.entries:
        return f"{text[: mapping.end - 1]}{key}{separator}{value}{text[mapping.end - 1 :]}"
    last = mapping.entries[-1]
    space = leading_space(text, last.start)
    if len(mapping.entries) == 1 and not space.strip(" \t"):
        space = " "
    between = text[last.end : last.node.start]
    if re.fullmatch(r"[ \t]*[:=][ \t]*", between):
        separator = between
    return f"{text[: last.node.end]},{space}{key}{separator}{value}{text[last.node.end :]}"
