"""The names in a line of text -> which of them are kept as a row, and which tell its place or the threshold."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

from clipcal.logs.names import kind_of, squashed
from clipcal.logs.places import rank_of

# words of a sentence, and statistics of several norms
_PROSE = re.compile(
    r"(?i)quartile|quantile|percentile|(?:^|_)(?:to|at|of|the|than|above|over|by|with|exceeds?|if|when|threshold|max(?:imum)?)_"
)
_OF_A_LAYER = re.compile(r"\.\d+\.|\.(?:weight|bias)\b|\blayer")


def norms_of(pairs: Sequence[tuple[str, str]]) -> set[str]:
    """The names among the pairs that are those of a gradient norm."""
    found = {name for name, _ in pairs if _is_norm(name)}
    if found and all(name.lower() == "norm" for name in found):  # the bare word needs company
        return found if any(kind_of(name) in ("loss", "step") for name, _ in pairs) else set()
    return found


@lru_cache(maxsize=4096)
def _is_norm(name: str) -> bool:
    """Whether a name is that of a gradient norm, not of a layer's, nor words of a sentence."""
    return kind_of(name) == "norm" and not _PROSE.search(squashed(name)) and not _OF_A_LAYER.search(name)


def is_told(name: str) -> bool:
    """Whether a name is one that a line is read for."""
    return kind_of(name) != "other" or rank_of(name) is not None


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
        kept=tuple(i for i, n in enumerate(names) if n in norms or kind_of(n) in ("loss", "lr")),
        thresholds=tuple(i for i, n in enumerate(names) if kind_of(n) == "threshold"),
        places=tuple(i for i, n in enumerate(names) if rank_of(n) is not None),
    )
