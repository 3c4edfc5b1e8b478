"""A JSON object and a table of what its fields have to be -> the first that is not, as the middle of a sentence."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from clipcal.run.jsonfile import number

_LONGEST_NAME = 120
"""Characters of an arm's name: with its seed and ending it has to fit into a file's 255 bytes."""


@dataclass(frozen=True, kw_only=True)
class Kind:
    """What a field has to be. ``inner`` are the fields of an object, ``each`` is the kind of a list's items or of an object's values;
    ``required`` is False for a field that may be absent, ``nullable`` True for one that may be null."""

    expected: str
    holds: Callable[[Any], bool]
    inner: Mapping[str, Kind] | None = None
    each: Kind | None = None
    required: bool = True
    nullable: bool = False


def is_arm_name(name: str) -> bool:
    """Whether a file of the run can be called so: an arm's name must not lead out of the run's folder."""
    return 0 < len(name) <= _LONGEST_NAME and name.isprintable() and not set(name) & set("/\\") and name[0] != "."


def is_text(value: Any) -> bool:
    try:
        return isinstance(value, str) and value.encode() is not None
    except UnicodeEncodeError:  # half a surrogate pair: it could be neither printed nor written
        return False


def _is_number(value: Any) -> bool:
    try:
        number(value)
    except (ValueError, OverflowError):
        return False
    return value is not None


def _is_positive(value: Any) -> bool:
    return _is_number(value) and number(value) > 0


def is_p(value: Any) -> bool:
    """The p of a norm, which the header of rows has as text: JSON has no infinity."""
    try:
        return isinstance(value, str) and float(value) > 0
    except ValueError:
        return False


def is_count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


def _is_step(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and -(2**63) <= value < 2**63


def kind(expected: str, holds: Callable[[Any], bool]) -> Kind:
    return Kind(expected=expected, holds=holds)


def one_of(words: Sequence[str]) -> Kind:
    return kind(f"one of {', '.join(words)}", lambda v: isinstance(v, str) and v in words)


def list_of(each: Kind) -> Kind:
    return Kind(expected=f"a list, each of it {each.expected}", holds=lambda v: isinstance(v, list), each=each)


def object_of(inner: Mapping[str, Kind]) -> Kind:
    return Kind(expected="an object", holds=lambda v: isinstance(v, dict), inner=inner)


def values_of(each: Kind) -> Kind:
    return Kind(expected=f"an object, each value {each.expected}", holds=lambda v: isinstance(v, dict), each=each)


def or_null(one: Kind) -> Kind:
    return replace(one, expected=f"{one.expected}, or null", nullable=True)


def maybe(one: Kind) -> Kind:
    return replace(one, required=False)


TEXT = kind("text", is_text)
FLAG = kind("true or false", lambda v: isinstance(v, bool))
COUNT = kind("a whole number from 0 on", is_count)
POSITIVE_COUNT = kind("a whole number from 1 on", lambda v: is_count(v) and v > 0)
NUMBER = kind("a number", _is_number)
NUMBER_OR_NULL = or_null(NUMBER)
POSITIVE = kind("a number greater than 0", _is_positive)
THRESHOLD = kind("a finite number greater than 0", lambda v: _is_positive(v) and math.isfinite(number(v)))
STEP = kind("a whole number", _is_step)
ANYTHING = kind("anything", lambda v: True)
ARM_NAME = kind("a name without a path in it", lambda v: isinstance(v, str) and is_arm_name(v))
SEEDS = Kind(expected="a list of at least one seed", holds=lambda v: isinstance(v, list) and bool(v), each=COUNT)
TWO_ENDS = Kind(expected="two numbers", holds=lambda v: isinstance(v, list) and len(v) == 2, each=NUMBER)


def wrong(value: Mapping[str, Any], table: Mapping[str, Kind], *, within: str = "") -> str | None:
    """Which field of an object is not what it has to be, as the middle of a sentence; None where all are."""
    return next(_wrong_in(value, table, within), None)


def _wrong_in(value: Mapping[str, Any], table: Mapping[str, Kind], within: str) -> Iterator[str]:
    for name, kind in table.items():
        where = f"{within}.{name}" if within else name
        if name in value:
            yield from _wrong_at(value[name], kind, where)
        elif kind.required:
            yield f"its {where!r} is missing (expected {kind.expected})"


def _wrong_at(value: Any, kind: Kind, where: str) -> Iterator[str]:
    if value is None and kind.nullable:
        return
    if not kind.holds(value):
        yield f"its {where!r} is {shown(value)} (expected {kind.expected})"
        return
    if kind.inner is not None:
        yield from _wrong_in(value, kind.inner, where)
    if kind.each is not None:
        inner = value.items() if isinstance(value, dict) else enumerate(value)
        for key, item in inner:
            yield from _wrong_at(item, kind.each, f"{where}.{key}" if isinstance(value, dict) else f"{where}[{key}]")


def shown(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=True)
    return text if len(text) <= 40 else f"{text[:37]}..."
