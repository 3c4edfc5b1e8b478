"""A line of text -> the names in it and their values, however the two are told apart (``loss: 7.1``, ``loss=7.1``, ``loss 7.1``)."""

from __future__ import annotations

import re

from clipcal.logs.shapes import THOUSANDS, Parts
from clipcal.logs.values import NUMBER

_WORD = r"(?!(?:nan|inf|infinity|none|null|info|debug|warning|warn|error)\b)[a-z](?:[\w/@-]|\.(?=\w))*"
_VALUE = rf"(?:{THOUSANDS}|(?:tensor|np\.\w+|array)\([^()]{{1,60}}\)|{NUMBER})"
_PAIR = re.compile(
    rf"""(?i)(?<![\w./@-])['"]?(?P<name>{_WORD}(?: {_WORD}){{0,4}}?)(?: ?\([\w ]{{1,20}}\))?['"]?"""  # "LR (group 0)"
    r"""(?:(?P<sign>\s*[:=]\s*)|\s{1,12})(?:\{['"]\w+['"]:\s*|\[|['"])?"""  # "={'0_default': 1.2}", "=[0.001]"
    rf"""(?P<value>{_VALUE})(?!\w|\.\w| ?%)"""
)
BOX = re.compile(rf"\s*[|│]\s*([\w/ .-]{{1,60}}?)\s*[|│]\s*({_VALUE})\s*[|│]\s*")


def parts_of(line: str) -> Parts:
    """The names and values in a line, and where they stand."""
    box = BOX.fullmatch(line)
    if box:
        return [(box[1].strip(), box.span(1), box.span(2))]
    return [
        (found["name"], found.span("name"), found.span("value"))
        for found in _PAIR.finditer(line)
        if found["sign"] or found["name"].count(" ") < 3  # four words and a number are a sentence
    ]


def pairs_of(line: str) -> list[tuple[str, str]]:
    """The names and values in a line, as they stand there, without thousands separators."""
    return [(name, plain(line[start:end])) for name, _, (start, end) in parts_of(line)]


def plain(value: str) -> str:
    """A number without its thousands separators."""
    return value.replace(",", "") if "," in value and value[:1].isdigit() else value
