"""A line of text -> the names in it and their values, however the two are told apart (``loss: 7.1``, ``loss=7.1``, ``loss 7.1``);
and the names -> which are kept as a row, and which tell its place or the threshold."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

from clipcal.logs.names import NUMBER, is_weak, kind_of, squashed
from clipcal.logs.places import rank_of
from clipcal.logs.shapes import THOUSANDS, Parts

_WORD = r"(?!(?:nan|inf|infinity|none|null|info|debug|warning|warn|error)\b)[a-z∇](?:[\w/@-]|\.(?=\w))*"
_SIGNS = r"[|‖]{1,2}(?:∇\w{0,3}|grads?|gradients?|g)[|‖]{1,2}[₂2]?"
_VALUE = rf"(?:{THOUSANDS}|(?:tensor|np\.\w+|array)\([^()]{{1,60}}\)|{NUMBER}[kMBGT]?)"
_PAIR = re.compile(
    rf"""(?i)(?<![\w./@-])['"]?(?P<name>{_SIGNS}|{_WORD}(?: {_WORD}){{0,4}}?)(?: ?\([\w ]{{1,20}}\))?['"]?"""  # "LR (group 0)"
    r"""(?:(?P<sign>\s*[:=]\s*)\(?|\s{1,12})(?:\{['"]\w+['"]:\s*|\[\s{0,12}|['"])?"""  # "={'0_default': 1.2}", "=[0.001]"
    rf"""(?P<value>{_VALUE})(?!\w|\.\w|,\d| ?%)"""
)
BOX = re.compile(rf"\s*[|│]\s*([\w/ .-]{{1,60}}?)\s*[|│]\s*({_VALUE})\s*[|│]\s*")
# words of a sentence, and statistics of several norms
_PROSE = re.compile(
    r"(?i)quartile|quantile|percentile|(?:^|_)(?:to|at|of|the|than|above|over|by|with|exceeds?|if|when|threshold|max(?:imum)?)_"
)
# not the LayerNorm((768,)) of a model's dump
_NORM = re.compile(r"(?i)grad|g_?norm|gnrm|grdn|total_norm|global_norm|∇|[|‖]g[|‖]|(?<![a-z])norm[\s:='\"|]")
_UNREAD = re.compile(
    r"(?i)(?<![\w./-])(?P<name>[\w/.]*(?:grad(?:ient)?[ _]?norm|g_?norm|grdn))\s{0,12}[:=]\s{0,12}['\"(\[]?(?P<value>[^\s,;|]+)"
)
_NAMED = re.compile(rf"(?i)(?<![\w./-])(?:grad(?:ient)?[ _]?norm|g_?norm|norm)\s{{0,12}}[:=|]?\s{{0,12}}{NUMBER}")
_NOTHING = re.compile(r"(?i)true|false|none|null|[{(\[<'\"].*|n/?a\b.*|-+")
_OF_A_LAYER = re.compile(r"\.\d+\.|\.(?:weight|bias)\b|\blayer")


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


def is_norm_line(line: str) -> bool:
    """Whether a line may hold a gradient norm: a first look."""
    return bool(_NORM.search(line))


def named_norm(line: str) -> bool:
    """Whether a line names a gradient norm and a number, or NaN, behind it."""
    return bool(_NAMED.search(line))


def unread_norm(line: str) -> str | None:
    """What stands where a line says that its gradient norm is, if it is no number."""
    found = _UNREAD.search(line)
    if found is None or not _is_norm(found["name"]) or _NOTHING.fullmatch(found["value"]):
        return None
    return found[0]


def norms_of(pairs: Sequence[tuple[str, str]]) -> set[str]:
    """The names among the pairs that are those of a gradient norm."""
    found = {name for name, _ in pairs if _is_norm(name)}
    if found and all(name.lower() == "norm" or is_weak(name) for name in found):  # the bare word needs company
        return found if any(kind_of(name) in ("loss", "step") for name, _ in pairs) else set()
    return found


@lru_cache(maxsize=4096)
def _is_norm(name: str) -> bool:
    """Whether a name is that of a gradient norm, not of a layer's, nor words of a sentence."""
    return kind_of(name) == "norm" and not _PROSE.search(squashed(name)) and not _OF_A_LAYER.search(name)


def is_told(name: str) -> bool:
    """Whether a name is one that a line is read for."""
    return kind_of(name) not in ("other", "count") or rank_of(name) is not None


@dataclass(frozen=True, kw_only=True)
class Plan:
    """Which of a line's names are kept as a row, and which tell the threshold or the place; ``norms``: one is a gradient norm."""

    norms: bool
    kept: tuple[int, ...]
    thresholds: tuple[int, ...]
    places: tuple[int, ...]


@lru_cache(maxsize=4096)
def plan_of(names: tuple[str, ...]) -> Plan:
    norms = norms_of([(name, "") for name in names])
    return Plan(
        norms=bool(norms),
        kept=tuple(i for i, n in enumerate(names) if n in norms or kind_of(n) in ("loss", "lr", "scale")),
        thresholds=tuple(i for i, n in enumerate(names) if kind_of(n) == "threshold"),
        places=tuple(i for i, n in enumerate(names) if rank_of(n) is not None),
    )
