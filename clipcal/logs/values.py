"""A logged value, in any spelling that frameworks write -> a float."""

from __future__ import annotations

import math
import re
from typing import Any

_WORD = re.compile(r"(?i)([+-]?)(?:1\.#)?(?:(nan|qnan|snan|ind)(?:\(.*\)|0*)|(inf(?:inity)?)0*)")  # "-1.#IND00"
_TENSOR = re.compile(r"(?:tensor|np\.\w+|numpy\.\w+|array|Array)\(\s*([^,()\s]+)(?:\s*,[^()]*)?\)")
_PLAIN = re.compile(r"[+-]?(?:\d+(?:\.\d*)?|\.\d+)(?:[eE][+-]?\d+)?")
EMPTY = frozenset({"", "na", "n/a", "none", "null", "-"})
"""What stands, in small letters, where there is no value."""
NUMBER = r"[+-]?(?:1\.#(?i:q?nan|snan|ind|inf)0*\b|(?:\d+(?:\.\d*)?|\.\d+)(?:[eE][+-]?\d+)?|(?i:nan|qnan|snan|ind|inf(?:inity)?)\b)"
"""A regular expression for a number as it stands in a line of text, NaN and infinities too; no group of its own."""


def value_of(raw: Any) -> float | None:
    """The float behind ``raw``; None for what is no number (null and true too).

    Takes numbers; text with NaN and infinity as Python, C, Java and MSVC write them; ``tensor(1.5, device='cuda:0')``;
    and objects that hold their number under "value", as Sacred's jsonpickle does.
    """
    if raw.__class__ is str and len(raw) < 200 and _PLAIN.fullmatch(raw):  # most are
        return float(raw)
    if isinstance(raw, float):
        return raw
    if isinstance(raw, bool) or raw is None:
        return None
    if isinstance(raw, int):
        return float(raw) if -(2**1023) < raw < 2**1023 else math.inf if raw > 0 else -math.inf
    if isinstance(raw, str):
        return _of_text(raw)
    if isinstance(raw, dict) and "value" in raw:
        inner = raw["value"]
        return None if isinstance(inner, dict) else value_of(inner)
    return None


def _of_text(text: str) -> float | None:
    text = text[:200].strip()
    if _PLAIN.fullmatch(text):
        return float(text)
    word = _WORD.fullmatch(text)
    if word:
        if word[2]:
            return math.nan
        return -math.inf if word[1] == "-" else math.inf
    wrapped = _TENSOR.fullmatch(text)
    return _of_text(wrapped[1]) if wrapped else None
