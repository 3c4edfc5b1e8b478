"""JSON -> nodes with their places, and a new key in its text.

``//`` and ``/* */`` comments and commas before a closing bracket are let through where the file's name promises no strict JSON.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator

from clipcal.errors import InputError
from clipcal.frameworks.applying.spelling import add_between_brackets
from clipcal.frameworks.applying.tree import Entry, Mapping, Node, Path, Scalar, Sequence, check_depth

# What has no end runs to the end of the file, so that a broken file takes no longer than a whole one.
_STRING_OR_COMMENT = re.compile(r'"(?:[^"\\]|\\.)*+"?|//[^\n]*|/\*.*?(?:\*/|\Z)', re.DOTALL)
_STRING_OR_LAST_COMMA = re.compile(r'"(?:[^"\\]|\\.)*+"?|,(?=\s*[}\]])', re.DOTALL)
_TOKEN = re.compile(r'"(?:[^"\\]|\\.)*"|[{}\[\],:]|[^\s,:\]}]+')


def read(text: str) -> list[Node]:
    """The root, alone in a list. Raises InputError without the file's name."""
    fault = _fault(text)
    if fault and not _fault(_strict(text)):
        place = ":".join(fault.split(":")[:2])
        fault = (
            f"{place}: not valid JSON: a comment, or a comma before a closing bracket. Most readers refuse it: take it out. "
            "Where yours does not, apply to the file under a name that ends in .jsonc."
        )
    return _roots(text, fault)


def read_loose(text: str) -> list[Node]:
    """The same for text that may have comments, and commas before a closing bracket."""
    strict = _strict(text)
    return _roots(strict, _fault(strict))


def _fault(text: str) -> str:
    """What is wrong with a text that is no JSON, and where; empty for one that is."""
    try:
        json.loads(text)
    except json.JSONDecodeError as e:
        return f"{e.lineno}:{e.colno}: not valid JSON: {e.msg}."
    except ValueError as e:
        return f"1:1: a value cannot be read: {e}."
    return ""


def add(text: str, parent: Mapping, path: Path, depth: int, value: str) -> str:
    """``path`` from ``depth`` on below ``parent``, and the mappings on it, as the last entry."""
    return add_between_brackets(text, parent, path[depth:], value, separator=": ")


def _strict(text: str) -> str:
    """The same text, with spaces where comments and commas before a closing bracket were: every place stays."""

    def blank(match: re.Match[str]) -> str:
        return match[0] if match[0][0] == '"' else re.sub(r"[^\r\n]", " ", match[0])

    return _STRING_OR_LAST_COMMA.sub(blank, _STRING_OR_COMMENT.sub(blank, text))


def _roots(text: str, fault: str) -> list[Node]:
    if fault:
        raise InputError(fault)
    tokens = _TOKEN.finditer(text)
    return [_node(tokens, next(tokens))]


def _node(tokens: Iterator[re.Match[str]], token: re.Match[str], depth: int = 0) -> Node:
    """The value that begins with ``token``, of text that json.loads has accepted: nothing needs to be checked again."""
    check_depth(depth)
    start, end = token.span()
    if token[0] == "{":
        mapping = Mapping(start=start, end=end, layout="flow")
        while (key := next(tokens))[0] != "}":
            if key[0] != ",":
                next(tokens)  # the colon
                node = _node(tokens, next(tokens), depth + 1)
                mapping.entries.append(Entry(key=json.loads(key[0]), start=key.start(), end=key.end(), node=node))
        mapping.end = key.end()
        return mapping
    if token[0] == "[":
        sequence = Sequence(start=start, end=end)
        while (item := next(tokens))[0] != "]":
            if item[0] != ",":
                sequence.items.append(_node(tokens, item, depth + 1))
        sequence.end = item.end()
        return sequence
    if token[0][0] == '"':
        return Scalar(start=start, end=end, text=json.loads(token[0]))
    return Scalar(start=start, end=end, text=token[0], resolve=json.loads)
