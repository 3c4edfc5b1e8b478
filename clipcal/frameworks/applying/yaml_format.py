"""YAML -> nodes with their places, and a new key in its text.

It reads the events of PyYAML's parser, which nearly every framework loads its configs with. Nothing is constructed, so a
tag runs no code, and an alias stays an alias, so that a file of a few lines cannot grow into gigabytes.
"""

from __future__ import annotations

import json
import re
from typing import Any

import yaml

from clipcal.errors import InputError
from clipcal.frameworks.applying.spelling import add_between_brackets, column, end_of_line, leading_space, newline
from clipcal.frameworks.applying.tree import Alias, Entry, Mapping, Node, Path, Scalar, Sequence, check_depth, children

_PROPERTIES = re.compile(r"(?:[&!]\S*(?:\s+|$)(?:#[^\n]*\s+)*)*")
_RESOLVER = yaml.resolver.Resolver()


def read(text: str) -> list[Node]:
    """The root of every document. Raises InputError without the file's name."""
    try:
        return _build(text)
    except yaml.MarkedYAMLError as e:
        mark = e.problem_mark or e.context_mark
        place = f"{mark.line + 1}:{mark.column + 1}" if mark else "1:1"
        context = f" {e.context}" if e.context else ""
        raise InputError(f"{place}: not valid YAML: {e.problem or 'syntax error'}{context}.") from None
    except yaml.YAMLError as e:
        raise InputError(f"1:1: not valid YAML: {str(e).splitlines()[0]}.") from None


def add(text: str, parent: Mapping, path: Path, depth: int, value: str) -> str:
    """``path`` from ``depth`` on below ``parent``, and the mappings on it: on a line of its own, indented as its neighbours are."""
    path = path[depth:]
    if parent.layout == "flow":
        bare = parent.entries and text[parent.entries[-1].start] not in "\"'"
        return add_between_brackets(text, parent, path, value, separator=": ", key=_key(path[0]) if bare else "")
    indent = column(text, parent.start)
    step = _step(parent, text)
    ends = newline(text)
    lines = [f"{' ' * step * i}{_key(key)}:" for i, key in enumerate(path)]
    lines[-1] += f" {value}"
    entry = f"{ends}{' ' * indent}".join(lines)
    # Behind the last value that ends where its line does; what is nested may be followed by comments of its own.
    short = [e.node for e in parent.entries if not _spreads(e.node)]
    if short:
        at = end_of_line(text, short[-1].end)
        return f"{text[:at]}{ends}{' ' * indent}{entry}{text[at:]}"
    return f"{text[: parent.start]}{entry}{ends}{' ' * indent}{text[parent.start :]}"


def _build(text: str) -> list[Node]:
    """The trees of all documents, without recursion."""
    roots: list[Node] = []
    anchors: dict[str, Node] = {}
    above: list[tuple[Mapping | Sequence, list[Node]]] = []  # with what is in it, keys and values in turn
    for event in yaml.parse(text, Loader=yaml.SafeLoader):
        if isinstance(event, yaml.DocumentStartEvent):
            anchors = {}
        if isinstance(event, yaml.NodeEvent):
            node = _node(event, text, anchors)
            if node.anchor:
                anchors[node.anchor] = node
            if isinstance(node, Mapping | Sequence):
                check_depth(len(above) + 1)
                above.append((node, []))
                continue
        elif isinstance(event, yaml.CollectionEndEvent):
            node, inside = above.pop()
            node.end = _span(event)[1]
            if isinstance(node, Sequence):
                node.items = inside
            else:
                for key, value in zip(inside[::2], inside[1::2], strict=True):
                    name = key.text if isinstance(key, Scalar) else None
                    node.entries.append(Entry(key=name, start=key.start, end=key.end, node=value))
        else:
            continue
        (above[-1][1] if above else roots).append(node)
    return roots


def _node(event: yaml.NodeEvent, text: str, anchors: dict[str, Node]) -> Node:
    start, end = _span(event)
    anchor = event.anchor or ""
    if isinstance(event, yaml.AliasEvent):
        if anchor not in anchors:
            place = f"{text.count(chr(10), 0, start) + 1}:{column(text, start) + 1}"
            raise InputError(f"{place}: not valid YAML: the alias *{anchor} has no anchor.")
        return Alias(start=start, end=end, target=anchors[anchor])
    assert isinstance(event, (yaml.ScalarEvent, yaml.CollectionStartEvent))
    if event.anchor or event.tag:
        properties = _PROPERTIES.match(text, start, end if isinstance(event, yaml.ScalarEvent) else len(text))
        assert properties is not None
        start = properties.end()
    if isinstance(event, yaml.ScalarEvent):
        return Scalar(
            start=start,
            end=end,
            anchor=anchor,
            text=event.value,
            resolve=_plain if not event.style else None,
            tag=event.tag or "",
            lines=event.style in ("|", ">"),
        )
    if isinstance(event, yaml.MappingStartEvent):
        return Mapping(start=start, end=end, anchor=anchor, layout="flow" if event.flow_style else "block")
    return Sequence(start=start, end=end, anchor=anchor, layout="flow" if event.flow_style else "block")


def _span(event: yaml.Event) -> tuple[int, int]:
    """The offsets of an event: the parser gives marks to every one."""
    assert event.start_mark is not None
    assert event.end_mark is not None
    return event.start_mark.index, event.end_mark.index


def _plain(text: str) -> Any:
    """What YAML 1.1 makes of an unquoted value; the text itself where that is not one value (``2024-13-45``, ``=``)."""
    tag = _RESOLVER.resolve(yaml.ScalarNode, text, (True, False))  # type: ignore[no-untyped-call]
    try:
        return yaml.constructor.SafeConstructor().construct_object(yaml.ScalarNode(tag, text))
    except (yaml.YAMLError, ValueError, OverflowError):
        return text


def _key(key: str) -> str:
    """Plain where that stays the same string in every YAML, otherwise in double quotes."""
    return key if re.fullmatch(r"[A-Za-z_][\w-]*", key, re.ASCII) and _plain(key) == key else json.dumps(key)


def _spreads(node: Node) -> bool:
    """Whether a value may go on after the line that it seems to end on."""
    if isinstance(node, (Mapping, Sequence)):
        return node.layout == "block"
    return isinstance(node, Scalar) and node.lines


def _step(parent: Mapping, text: str) -> int:
    """How far the file indents what is nested, two spaces where it does not say."""
    for _, node in children(parent):
        if isinstance(node, Mapping) and node.layout == "block" and "\n" in leading_space(text, node.start):
            return max(1, column(text, node.start) - column(text, parent.start))
    return 2
