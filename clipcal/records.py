"""A JSON file of a run -> its object, in which every field is of the kind that readers rely on; or one sentence on the first that is not.

The tables of all such files stand here, so that every reader of a file relies on the same. A key that no table names is left alone: a later
version may write more. docs/format.md says what the fields mean.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, get_args

from clipcal.errors import InputError
from clipcal.jsonfile import number
from clipcal.recommendation.answer import METHODS

FORMAT_NAME = "clipcal.run"
FORMAT_VERSION = 1
Status = Literal["running", "complete", "stopped", "interrupted", "failed"]
STATUSES: tuple[Status, ...] = get_args(Status)
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


def _is_text(value: Any) -> bool:
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


def _is_p(value: Any) -> bool:
    """The p of a norm, which the header of rows has as text: JSON has no infinity."""
    try:
        return isinstance(value, str) and float(value) > 0
    except ValueError:
        return False


def _is_count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


def _is_step(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and -(2**63) <= value < 2**63


def _kind(expected: str, holds: Callable[[Any], bool]) -> Kind:
    return Kind(expected=expected, holds=holds)


def _one_of(words: Sequence[str]) -> Kind:
    return _kind(f"one of {', '.join(words)}", lambda v: isinstance(v, str) and v in words)


def _list(each: Kind) -> Kind:
    return Kind(expected=f"a list, each of it {each.expected}", holds=lambda v: isinstance(v, list), each=each)


def _object(inner: Mapping[str, Kind]) -> Kind:
    return Kind(expected="an object", holds=lambda v: isinstance(v, dict), inner=inner)


def _values(each: Kind) -> Kind:
    return Kind(expected=f"an object, each value {each.expected}", holds=lambda v: isinstance(v, dict), each=each)


def _or_null(kind: Kind) -> Kind:
    return replace(kind, expected=f"{kind.expected}, or null", nullable=True)


def _maybe(kind: Kind) -> Kind:
    return replace(kind, required=False)


TEXT = _kind("text", _is_text)
FLAG = _kind("true or false", lambda v: isinstance(v, bool))
COUNT = _kind("a whole number from 0 on", _is_count)
POSITIVE_COUNT = _kind("a whole number from 1 on", lambda v: _is_count(v) and v > 0)
NUMBER = _kind("a number", _is_number)
NUMBER_OR_NULL = _or_null(NUMBER)
POSITIVE = _kind("a number greater than 0", _is_positive)
THRESHOLD = _kind("a finite number greater than 0", lambda v: _is_positive(v) and math.isfinite(number(v)))
STEP = _kind("a whole number", _is_step)
ANYTHING = _kind("anything", lambda v: True)
ARM_NAME = _kind("a name without a path in it", lambda v: isinstance(v, str) and is_arm_name(v))
SEEDS = Kind(expected="a list of at least one seed", holds=lambda v: isinstance(v, list) and bool(v), each=COUNT)
TWO_ENDS = Kind(expected="two numbers", holds=lambda v: isinstance(v, list) and len(v) == 2, each=NUMBER)

SPEC_SOURCE: Mapping[str, Kind] = {
    "path": TEXT,
    "folder": TEXT,
    "cwd": TEXT,
    "text": TEXT,
    "overrides": _values(ANYTHING),
}
SCRIPT_SOURCE: Mapping[str, Kind] = {
    "words": Kind(expected="a list of at least one word", holds=lambda v: isinstance(v, list) and bool(v), each=TEXT),
    "cwd": TEXT,
    "steps": COUNT,
    "seed": COUNT,
    "optimizer": _kind("a number, a class's name, or null", lambda v: v is None or _is_count(v) or _is_text(v)),
    "scratch": FLAG,
    "trackers": FLAG,
    "threads": _or_null(POSITIVE_COUNT),
    "path": _maybe(TEXT),
    "framework": _maybe(_or_null(TEXT)),
}
WATCH_SOURCE: Mapping[str, Kind] = {"path": _maybe(TEXT), "argv": _maybe(_list(TEXT))}
# a run of a script or of a watched loop is read without what trains it again; `verify` asks for that when it is about to
SOURCES: Mapping[str, Mapping[str, Kind]] = {
    "spec": SPEC_SOURCE,
    "script": {name: _maybe(kind) for name, kind in SCRIPT_SOURCE.items()},
    "watch": WATCH_SOURCE,
}

RUN: Mapping[str, Kind] = {
    "name": TEXT,
    "source": _object({"kind": _maybe(TEXT)}),
    "fingerprint": TEXT,
    "steps": COUNT,
    "seeds": SEEDS,
    "device": TEXT,
    "threads": POSITIVE_COUNT,
    "world_size": _maybe(POSITIVE_COUNT),
    "method": _one_of(METHODS),
    "norm_type": POSITIVE,
    "num_parameters": _maybe(COUNT),
    "versions": _values(TEXT),
    "platform": TEXT,
    "command": _maybe(_list(TEXT)),
    "started": TEXT,
    "finished": _maybe(_or_null(TEXT)),
    "status": _one_of(STATUSES),
    "reason": _maybe(_or_null(TEXT)),
    "guard": _maybe(_or_null(POSITIVE)),
    "in_use": _maybe(_or_null(POSITIVE)),
    "notes": _list(TEXT),
}

RECOMMENDATION: Mapping[str, Kind] = {
    "verdict": TEXT,
    "max_norm": _or_null(THRESHOLD),
    "confidence": _maybe(TEXT),
    "interval": _maybe(_or_null(TWO_ENDS)),
    "stable": _maybe(_or_null(_object({"median": _maybe(NUMBER), "p99": _maybe(NUMBER)}))),
    "spikes": _maybe(_object({"count": _maybe(COUNT), "rate": _maybe(NUMBER)})),
}

_ARM: Mapping[str, Kind] = {
    "name": ARM_NAME,
    "max_norm": _or_null(THRESHOLD),
    "seed": COUNT,
    "steps": COUNT,
    "final_loss": NUMBER,
    "diverged_at": _or_null(COUNT),
    "loss_spikes": COUNT,
    "clip_fraction": NUMBER,
    "mean_scale": NUMBER,
}
VERIFICATION: Mapping[str, Kind] = {
    "verdict": TEXT,
    "max_norm": THRESHOLD,
    "arms": _list(_object(_ARM)),
    "comparison": _object({"loss_difference": _or_null(NUMBER), "interval": _or_null(TWO_ENDS)}),
    "reasons": _list(TEXT),
}

CHOICE: Mapping[str, Kind] = {"name": TEXT, "max_norm": THRESHOLD, "reason": TEXT}

STEP_LINE: Mapping[str, Kind] = {
    "step": _maybe(STEP),  # where there is none, the line's own number
    "loss": _maybe(NUMBER_OR_NULL),
    "grad_norm": NUMBER_OR_NULL,
    "grad_max": _maybe(NUMBER_OR_NULL),
    "lr": _maybe(NUMBER_OR_NULL),
    "seconds": _maybe(NUMBER_OR_NULL),
    "scale": _maybe(NUMBER_OR_NULL),
    "skipped": _maybe(FLAG),
}
ROWS_HEADER: Mapping[str, Kind] = {
    "format": TEXT,
    "norm_type": _kind("a number greater than 0, as text", _is_p),
    "names": _list(TEXT),
}
SCALE_HEADER: Mapping[str, Kind] = {
    "schema": _one_of(("clipcal.scale/1",)),
    "batch": _kind("a whole number from 2 on", lambda v: _is_count(v) and v > 1),
    "reduction": _one_of(("mean", "sum", "unknown")),
    "batch_norm": _maybe(FLAG),
}
SCALE_LINE: Mapping[str, Kind] = {
    "step": STEP,
    "loss": NUMBER_OR_NULL,
    "grad_norm": NUMBER_OR_NULL,
    "parts": _list(NUMBER_OR_NULL),
}

FILES: Mapping[str, tuple[str, int, Mapping[str, Kind]]] = {
    "run.json": (FORMAT_NAME, FORMAT_VERSION, RUN),
    "recommendation.json": ("clipcal.recommendation", 1, RECOMMENDATION),
    "verification.json": ("clipcal.verification", 1, VERIFICATION),
    "choice.json": ("clipcal.choice", 1, CHOICE),
}
"""The files that are one object: the name and the newest version of their schema, and their fields."""


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
        yield f"its {where!r} is {_shown(value)} (expected {kind.expected})"
        return
    if kind.inner is not None:
        yield from _wrong_in(value, kind.inner, where)
    if kind.each is not None:
        inner = value.items() if isinstance(value, dict) else enumerate(value)
        for key, item in inner:
            yield from _wrong_at(item, kind.each, f"{where}.{key}" if isinstance(value, dict) else f"{where}[{key}]")


def _shown(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=True)
    return text if len(text) <= 40 else f"{text[:37]}..."


def read_record(path: Path, *, todo: str) -> dict[str, Any] | None:
    """One of ``FILES``, checked; None where there is none. ``todo`` is a sentence on how to go on without it.

    Raises InputError that names the file, and the field that is missing or of another kind.
    """
    name, newest, table = FILES[path.name]
    try:
        raw = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except OSError as e:
        raise InputError(f"{path}: cannot be read ({e.strerror}). {todo}") from None
    except (ValueError, RecursionError):
        raise InputError(f"{path}: is no JSON, or is cut off. {todo}") from None
    if not isinstance(raw, dict):
        raise InputError(f"{path}: is {_shown(raw)}, and no object. {todo}")
    written = schema_of(raw.get("schema", f"{name}/{newest}"), name)
    if written is None:
        raise InputError(f"{path}: its 'schema' is {_shown(raw['schema'])} (expected \"{name}/{newest}\"). {todo}")
    if written > newest:
        raise InputError(newer(path, name, written, newest))
    found = wrong(raw, table)
    if found is not None:
        raise InputError(f"{path}: {found}. {todo}")
    return raw


def schema_of(text: Any, name: str) -> int | None:
    """The version in ``clipcal.run/1``; None where it is the schema of something else, or none."""
    begin, _, version = text.partition("/") if isinstance(text, str) else ("", "", "")
    return int(version) if begin == name and version.isascii() and version.isdigit() and len(version) < 10 else None


def newer(path: Path, name: str, version: int, newest: int) -> str:
    """What to say of a file of a later version."""
    return (
        f"{path}: written by a newer clipcal ({name.removeprefix('clipcal.')} format {version}; this one reads up to {newest}). "
        "Upgrade with `pip install -U clipcal`; the file is left as it is."
    )
