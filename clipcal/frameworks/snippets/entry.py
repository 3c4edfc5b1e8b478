"""What a snippet is made from, and what the table holds of each framework."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from clipcal.recommendation.answer import Method

Language = Literal["python", "yaml", "json", "toml", "shell"]

# What to do where a framework has no place for a rule of one's own.
AGAIN = "calibrate again with `clip: {method: norm, norm_type: 2.0}`"


@dataclass(frozen=True, kw_only=True)
class Threshold:
    """What a snippet is made from. ``number`` is the threshold as text that Python, YAML 1.1, TOML and JSON read alike."""

    number: str
    method: Method
    norm_type: float

    @property
    def norm_type_argument(self) -> str:
        """``, norm_type=...`` for torch's functions; empty for their default, 2."""
        return "" if self.norm_type == 2.0 else f", norm_type={self.norm_type_number}"

    @property
    def norm_type_number(self) -> str:
        """The norm type as a Python expression."""
        return 'float("inf")' if math.isinf(self.norm_type) else repr(self.norm_type)


@dataclass(frozen=True, kw_only=True)
class Snippet:
    """One framework's text.

    ``methods`` are the clipping methods that it can express, ``any_norm_type`` whether norms other than L2 too;
    ``instead`` completes "Instead, ..." where it cannot. ``render`` returns the text below the provenance line, in
    ``language``; ``shell`` is a part of a command line. Comments start with ``#`` in every language; in ``json`` they
    stand outside of the object.
    """

    title: str
    language: Language
    render: Callable[[Threshold], str]
    instead: str = ""
    aliases: tuple[str, ...] = ()
    methods: tuple[Method, ...] = ("norm",)
    any_norm_type: bool = False


def spelled(value: float) -> str:
    """The shortest digits that give the same float back, always with a point: YAML 1.1 reads ``1e-05`` as a string."""
    text = repr(float(value))
    mantissa, exponent, power = text.partition("e")
    return f"{mantissa if '.' in mantissa else mantissa + '.0'}{exponent}{power}"
