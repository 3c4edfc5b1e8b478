"""The source of a run, as it was and as it is now or as another run has it -> which of its keys moved."""

from __future__ import annotations

import json
import shlex
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from itertools import pairwise
from pathlib import Path
from typing import Any, Literal

import yaml

from clipcal.errors import InputError
from clipcal.run.directory import RunInfo
from clipcal.run.source import ScriptSource, Source, SpecSource, source_of
from clipcal.sources.script import from_source as script_of
from clipcal.sources.spec import Spec, from_source

State = Literal["same", "changed", "gone", "unknown"]
NOT_TRAINED = ("name", "steps", "device")
"""Keys that a spec's fingerprint leaves out: how long, where and under which name it trains."""


@dataclass(frozen=True, kw_only=True)
class Moved:
    """A key with its value on either side; None where it is absent."""

    field: str
    a: Any
    b: Any


@dataclass(frozen=True, kw_only=True)
class SourceNow:
    """What became of a run's source since. ``keys`` are the dotted keys of a spec that moved; of a script only its text is known.

    "unknown": it was no file that could be told by its text (a module, a command, a loop that called ``clipcal.watch``). The code
    that a spec or a script imports is not looked at.
    """

    state: State
    keys: tuple[str, ...] = ()


def source_now(info: RunInfo) -> SourceNow:
    """Compare a run's source with the file that it came from. Reads files alone; imports nothing of the user's."""
    now = _NOW.get(info.source.kind or "")
    return now(info) if now is not None else SourceNow(state="unknown")


def moved_keys(a: Source, b: Source) -> tuple[Moved, ...]:
    """Keys of two specs whose values are not the same, defaults filled in; of texts that are no specs, the keys as they stand there."""
    specs = _parsed(a), _parsed(b)
    if specs[0] is None or specs[1] is None:
        return moved(_read(a), _read(b))
    return moved(specs[0].fields.model_dump(), specs[1].fields.model_dump())


def moved(a: Any, b: Any) -> tuple[Moved, ...]:
    """The leaves of two trees that differ, by dotted path."""
    one, other = dict(_leaves(a)), dict(_leaves(b))
    keys = [*one, *(k for k in other if k not in one)]
    # as the fingerprint sees them: 10 and 10.0 are two values, true and 1 are too
    return tuple(
        Moved(field=k, a=one.get(k), b=other.get(k)) for k in keys if _canonical(one.get(k)) != _canonical(other.get(k))
    )


def moved_words(a: Sequence[str], b: Sequence[str]) -> tuple[Moved, ...]:
    """Options of two command lines that differ; the whole lines where they cannot be told apart by option."""
    if list(a) == list(b):
        return ()
    one, other = _options(a), _options(b)
    if one is None or other is None or one[""] != other[""]:
        return (Moved(field="command", a=shlex.join(a), b=shlex.join(b)),)
    found = moved({k: (v,) for k, v in one.items()}, {k: (v,) for k, v in other.items()})
    if not found:  # the same options in another order
        return (Moved(field="command", a=shlex.join(a), b=shlex.join(b)),)
    return tuple(Moved(field=m.field, a=m.a and m.a[0], b=m.b and m.b[0]) for m in found)


def _options(words: Sequence[str]) -> dict[str, Any] | None:
    """``--lr 0.1 --fast`` as ``{"": [], "--lr": "0.1", "--fast": True}``; None where an option stands twice."""
    found: dict[str, Any] = {"": []}
    pending: str | None = None
    for word in words:
        if word.startswith("--") or (word.startswith("-") and word[1:2].isalpha()):
            name, equals, value = word.partition("=")
            if name in found:
                return None
            found[name], pending = value if equals else True, None if equals else name
        elif pending is not None:
            found[pending], pending = word, None
        else:
            found[""].append(word)
    return found


def _spec_now(info: RunInfo) -> SourceNow:
    assert isinstance(info.source, SpecSource)
    try:
        text = info.source.file.read_text(encoding="utf-8")
    except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
        return SourceNow(state="gone")
    except UnicodeDecodeError:
        return SourceNow(state="changed")
    except (OSError, ValueError):
        return SourceNow(state="unknown")
    now = info.source.changed(text=text)
    if now == info.source:
        return SourceNow(state="same")
    spec = _parsed(now)
    # the fingerprint leaves out which method clips, and the threshold of one is none for another
    if spec is not None and spec.fingerprint == info.fingerprint and spec.fields.clip.method == info.method:
        return SourceNow(state="same")
    keys = tuple(m.field for m in moved_keys(info.source, now) if m.field not in NOT_TRAINED)
    return SourceNow(state="changed", keys=keys)


def _script_now(info: RunInfo) -> SourceNow:
    assert isinstance(info.source, ScriptSource)
    try:
        script = script_of(info.source)
        there = (Path(script.cwd) / script.path).is_file()
        # run.json names the optimizer that was picked, and the fingerprint is of what was asked for
        wanted = {asked_optimizer(info), info.source.optimizer}
        alike = any(replace(script, optimizer=o).fingerprint == info.fingerprint for o in wanted)
    except (InputError, OSError, ValueError, TypeError):
        return SourceNow(state="unknown")
    if not there:  # a fingerprint of the words alone: there was no file to read then either
        return SourceNow(state="unknown" if alike else "gone")
    return SourceNow(state="same" if alike else "changed")


_NOW: Mapping[str, Callable[[RunInfo], SourceNow]] = {"spec": _spec_now, "script": _script_now}


def asked_optimizer(info: RunInfo) -> int | str | None:
    """The --optimizer that a script was profiled with, as its fingerprint has it; None for none."""
    ours = info.command[: info.command.index("--")] if "--" in info.command else info.command
    words = [part for word in map(str, ours) for part in (word.split("=", 1) if word.startswith("--") else [word])]
    given = next((value for flag, value in reversed([*pairwise(words)]) if flag == "--optimizer"), None)
    return int(given) if given is not None and given.isdigit() else given


def _parsed(source: Source) -> Spec | None:
    return _parse(json.dumps(source.record))


@lru_cache(maxsize=1024)
def _parse(record: str) -> Spec | None:
    """Many runs are of one spec, and reading YAML takes longer than all the rest."""
    try:
        return from_source(source_of(json.loads(record)))
    except (InputError, RecursionError):
        return None


def _read(source: Source) -> Any:
    """The keys as they stand in the text, where it is no spec."""
    try:
        return yaml.safe_load(source.text)
    except (yaml.YAMLError, ValueError, RecursionError):
        return None


def _leaves(value: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    """Dotted paths and their values. A list of plain values, such as betas, is one value."""
    if isinstance(value, Mapping) and value:
        for key, inner in value.items():
            yield from _leaves(inner, f"{path}.{key}" if path else str(key))
    elif isinstance(value, list) and any(isinstance(v, (Mapping, list)) for v in value):
        for i, inner in enumerate(value):
            yield from _leaves(inner, f"{path}.{i}" if path else str(i))
    elif path:
        yield path, value


def _canonical(value: Any) -> str:
    return json.dumps(value, sort_keys=True, default=str)
