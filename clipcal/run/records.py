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
from clipcal.run.jsonfile import number

_LONGEST_NAME = 120
"""Characters of an arm's name: with its seed and ending it has to fit into a file's 255 bytes."""


@dataclass(frozen=True)
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


def one_of(words: Sequence[str]) -> Kind:
    return Kind(f"one of {', '.join(words)}", lambda v: isinstance(v, str) and v in words)


def list_of(each: Kind) -> Kind:
    return Kind(f"a list, each of it {each.expected}", lambda v: isinstance(v, list), each=each)


def object_of(inner: Mapping[str, Kind]) -> Kind:
    return Kind("an object", lambda v: isinstance(v, dict), inner=inner)


def values_of(each: Kind) -> Kind:
    return Kind(f"an object, each value {each.expected}", lambda v: isinstance(v, dict), each=each)


def or_null(one: Kind) -> Kind:
    return replace(one, expected=f"{one.expected}, or null", nullable=True)


def maybe(one: Kind) -> Kind:
    return replace(one, required=False)


TEXT = Kind("text", is_text)
FLAG = Kind("true or false", lambda v: isinstance(v, bool))
COUNT = Kind("a whole number from 0 on", is_count)
POSITIVE_COUNT = Kind("a whole number from 1 on", lambda v: is_count(v) and v > 0)
NUMBER = Kind("a number", _is_number)
NUMBER_OR_NULL = or_null(NUMBER)
POSITIVE = Kind("a number greater than 0", _is_positive)
THRESHOLD = Kind("a finite number greater than 0", lambda v: _is_positive(v) and math.isfinite(number(v)))
STEP = Kind("a whole number", _is_step)
ANYTHING = Kind("anything", lambda v: True)
ARM_NAME = Kind("a name without a path in it", lambda v: isinstance(v, str) and is_arm_name(v))
SEEDS = Kind("a list of at least one seed", lambda v: isinstance(v, list) and bool(v), each=COUNT)
TWO_ENDS = Kind("two numbers", lambda v: isinstance(v, list) and len(v) == 2, each=NUMBER)

FORMAT_NAME = "clipcal.run"
FORMAT_VERSION = 1
Status = Literal["running", "complete", "stopped", "interrupted", "failed"]
STATUSES: tuple[Status, ...] = get_args(Status)
Method = Literal["norm", "value", "per_tensor"]
"""What is clipped: the total norm, each element, or the norm of each tensor."""
METHODS: tuple[Method, ...] = get_args(Method)
SPEC_SOURCE: Mapping[str, Kind] = {
    "path": TEXT,
    "folder": TEXT,
    "cwd": TEXT,
    "text": TEXT,
    "overrides": values_of(ANYTHING),
}
SCRIPT_SOURCE: Mapping[str, Kind] = {
    "words": Kind("a list of at least one word", lambda v: isinstance(v, list) and bool(v), each=TEXT),
    "cwd": TEXT,
    "steps": COUNT,
    "seed": COUNT,
    "optimizer": Kind("a number, a class's name, or null", lambda v: v is None or is_count(v) or is_text(v)),
    "scratch": FLAG,
    "trackers": FLAG,
    "threads": or_null(POSITIVE_COUNT),
    "path": maybe(TEXT),
    "framework": maybe(or_null(TEXT)),
}
WATCH_SOURCE: Mapping[str, Kind] = {"path": maybe(TEXT), "argv": maybe(list_of(TEXT))}
# a run of a script or of a watched loop is read without what trains it again; `verify` asks for that when it is about to
SOURCES: Mapping[str, Mapping[str, Kind]] = {
    "spec": SPEC_SOURCE,
    "script": {name: maybe(kind) for name, kind in SCRIPT_SOURCE.items()},
    "watch": WATCH_SOURCE,
}

RUN: Mapping[str, Kind] = {
    "name": TEXT,
    "source": object_of({"kind": maybe(TEXT)}),
    "fingerprint": TEXT,
    "steps": COUNT,
    "seeds": SEEDS,
    "device": TEXT,
    "threads": POSITIVE_COUNT,
    "world_size": maybe(POSITIVE_COUNT),
    "method": one_of(METHODS),
    "norm_type": POSITIVE,
    "num_parameters": maybe(COUNT),
    "versions": values_of(TEXT),
    "platform": TEXT,
    "command": maybe(list_of(TEXT)),
    "started": TEXT,
    "finished": maybe(or_null(TEXT)),
    "status": one_of(STATUSES),
    "reason": maybe(or_null(TEXT)),
    "guard": maybe(or_null(POSITIVE)),
    "in_use": maybe(or_null(POSITIVE)),
    "notes": list_of(TEXT),
}

RECOMMENDATION: Mapping[str, Kind] = {
    "verdict": TEXT,
    "max_norm": or_null(THRESHOLD),
    "confidence": maybe(TEXT),
    "interval": maybe(or_null(TWO_ENDS)),
    "stable": maybe(or_null(object_of({"median": maybe(NUMBER), "p99": maybe(NUMBER)}))),
    "spikes": maybe(object_of({"count": maybe(COUNT), "rate": maybe(NUMBER)})),
}

_ARM: Mapping[str, Kind] = {
    "name": ARM_NAME,
    "max_norm": or_null(THRESHOLD),
    "seed": COUNT,
    "steps": COUNT,
    "final_loss": NUMBER,
    "diverged_at": or_null(COUNT),
    "loss_spikes": COUNT,
    "clip_fraction": NUMBER,
    "mean_scale": NUMBER,
}
VERIFICATION: Mapping[str, Kind] = {
    "verdict": TEXT,
    "max_norm": THRESHOLD,
    "arms": list_of(object_of(_ARM)),
    "comparison": object_of({"loss_difference": or_null(NUMBER), "interval": or_null(TWO_ENDS)}),
    "reasons": list_of(TEXT),
}

CHOICE: Mapping[str, Kind] = {"name": TEXT, "max_norm": THRESHOLD, "reason": TEXT, "alike": maybe(list_of(THRESHOLD))}

STEP_LINE: Mapping[str, Kind] = {
    "step": maybe(STEP),  # where there is none, the line's own number
    "loss": maybe(NUMBER_OR_NULL),
    "grad_norm": NUMBER_OR_NULL,
    "grad_max": maybe(NUMBER_OR_NULL),
    "lr": maybe(NUMBER_OR_NULL),
    "seconds": maybe(NUMBER_OR_NULL),
    "scale": maybe(NUMBER_OR_NULL),
    "skipped": maybe(FLAG),
}
ROWS_HEADER: Mapping[str, Kind] = {
    "format": TEXT,
    "norm_type": Kind("a number greater than 0, as text", is_p),
    "names": list_of(TEXT),
}
SCALE_HEADER: Mapping[str, Kind] = {
    "schema": one_of(("clipcal.scale/1",)),
    "batch": Kind("a whole number from 2 on", lambda v: is_count(v) and v > 1),
    "reduction": one_of(("mean", "sum", "unknown")),
    "batch_norm": maybe(FLAG),
}
SCALE_LINE: Mapping[str, Kind] = {
    "step": STEP,
    "loss": NUMBER_OR_NULL,
    "grad_norm": NUMBER_OR_NULL,
    "parts": list_of(NUMBER_OR_NULL),
}

FILES: Mapping[str, tuple[str, int, Mapping[str, Kind]]] = {
    "run.json": (FORMAT_NAME, FORMAT_VERSION, RUN),
    "recommendation.json": ("clipcal.recommendation", 1, RECOMMENDATION),
    "verification.json": ("clipcal.verification", 1, VERIFICATION),
    "choice.json": ("clipcal.choice", 1, CHOICE),
}
"""The files that are one object: the name and the newest version of their schema, and their fields."""


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
        raise InputError(f"{path}: is {shown(raw)}, and no object. {todo}")
    written = schema_of(raw.get("schema", f"{name}/{newest}"), name)
    if written is None:
        raise InputError(f"{path}: its 'schema' is {shown(raw['schema'])} (expected \"{name}/{newest}\"). {todo}")
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
