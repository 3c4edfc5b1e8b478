"""The ``source`` of run.json -> what is asked of it: what it is called, its text, its batch, and whether it can be trained again.

A source is read here and nowhere else by its keys. It is written back as it was read, with the keys that this version does not know.
"""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import lru_cache
from pathlib import Path
from typing import Any, ClassVar, Self

from clipcal.run.records import SCRIPT_SOURCE, wrong


@dataclass(frozen=True)
class Source:
    """``record`` is the object in run.json. This class itself is of a kind that this version does not know, or of none."""

    record: Mapping[str, Any] = field(default_factory=dict)

    noun: ClassVar[str] = "source"
    """What it is called in a sentence."""
    needs_torch: ClassVar[bool] = False
    """Whether clipcal itself trains it, in processes that load torch; a script runs in its own."""

    @property
    def kind(self) -> str | None:
        """None where the run does not say it."""
        return self.record.get("kind")

    @property
    def path(self) -> str:
        return self.path_or("")

    def path_or(self, other: object) -> str:
        return str(self.record.get("path", other))

    @property
    def text(self) -> str:
        """Of a spec; empty without one."""
        return str(self.record.get("text") or "")

    @property
    def overrides(self) -> dict[str, Any]:
        """Keys of a spec that flags replaced, with their values."""
        given = self.record.get("overrides")
        return given if isinstance(given, dict) else {}

    @property
    def folder(self) -> str:
        """Where a spec stands."""
        return str(self.record.get("folder", ""))

    @property
    def cwd(self) -> str:
        """The working directory of the training; empty where it is not known."""
        return str(self.record.get("cwd", ""))

    @property
    def framework(self) -> str | None:
        """What a script lets clip; None where nothing was seen."""
        return self.record.get("framework")

    @property
    def batch(self) -> tuple[int | None, int]:
        """The batch size, and the micro-batches per step. A source that does not name them has (None, 1)."""
        return None, 1

    @property
    def optimizer_class(self) -> str | None:
        """The class of the optimizer that trained; None where nothing says it."""
        return None

    @property
    def missing(self) -> str | None:
        """What it lacks to be trained again, as the middle of a sentence."""
        return None

    def shown(self, here: Path) -> str:
        """As it would be typed ``here``."""
        return self.path_or("unknown")

    def settings(self) -> dict[str, Any]:
        """What was asked for, where another source of the kind is compared key by key."""
        return {key: self.record.get(key) for key in ("path", "argv")}

    def changed(self, **values: Any) -> Self:
        """The same source with these keys replaced."""
        return replace(self, record={**self.record, **values})


@dataclass(frozen=True)
class SpecSource(Source):
    """A spec as it was: its path as it was typed, its folder, its text, and what flags replaced in it."""

    noun: ClassVar[str] = "spec"
    needs_torch: ClassVar[bool] = True

    @classmethod
    def of(cls, *, path: Path, folder: Path, cwd: Path, text: str, overrides: dict[str, Any]) -> SpecSource:
        places = {"path": str(path), "folder": str(folder), "cwd": str(cwd)}
        return cls({"kind": "spec", **places, "text": text, "overrides": overrides})

    @property
    def file(self) -> Path:
        """The spec's file, from wherever it is looked for."""
        return Path(self.folder) / Path(self.path).name

    @property
    def batch(self) -> tuple[int | None, int]:
        return _batch(self.text)

    @property
    def optimizer_class(self) -> str | None:
        fields = _fields(self.text).get("optimizer")
        target = fields.get("_target_") if isinstance(fields, dict) else None
        return target.rpartition(".")[2].rpartition(":")[2] if isinstance(target, str) else None

    def shown(self, here: Path) -> str:
        if self.cwd == str(here):
            return self.path
        return str(self.file.relative_to(here) if self.file.is_relative_to(here) else self.file)


@dataclass(frozen=True)
class ScriptSource(Source):
    """The words of a command, and how it was watched. A run whose script lacks some of it is read all the same."""

    noun: ClassVar[str] = "command"

    @classmethod
    def of(cls, *, path: str, words: tuple[str, ...], **fields: Any) -> ScriptSource:
        return cls({"kind": "script", "path": path, "words": list(words), **fields})

    @property
    def words(self) -> tuple[str, ...]:
        return tuple(self.record.get("words", ()))

    @property
    def optimizer(self) -> int | str | None:
        """The one that was watched: run.json names the number that was picked, whatever was asked for."""
        return self.record.get("optimizer")

    @property
    def missing(self) -> str | None:
        return wrong(self.record, SCRIPT_SOURCE, within="source")

    def fields(self) -> dict[str, Any]:
        """Everything but the path, which the words tell. Raises KeyError where something is ``missing``."""
        keys = ("cwd", "steps", "seed", "optimizer", "scratch", "trackers", "threads")
        return {"words": self.words} | {key: self.record[key] for key in keys}

    def shown(self, here: Path) -> str:
        if not (self.words and self.cwd):
            return super().shown(here)
        return shlex.join(self.words) + ("" if self.cwd == str(here) else f" (in {self.cwd})")

    def settings(self) -> dict[str, Any]:
        return {key: self.record.get(key) for key in ("optimizer", "scratch", "trackers", "cwd")}


@dataclass(frozen=True)
class WatchSource(Source):
    """A training that called ``clipcal.watch``. It ran by itself, so it cannot be trained again."""

    noun: ClassVar[str] = "watched script"

    @classmethod
    def of(cls, *, path: str, argv: list[str]) -> WatchSource:
        return cls({"kind": "watch", "path": path, "argv": argv})

    def shown(self, here: Path) -> str:
        return f"{super().shown(here)} (watched)"


KINDS: Mapping[str, type[Source]] = {"spec": SpecSource, "script": ScriptSource, "watch": WatchSource}


def source_of(record: Mapping[str, Any]) -> Source:
    """The source that run.json holds as ``record``."""
    return KINDS.get(record.get("kind", ""), Source)(record)


@lru_cache(maxsize=8)  # a report has a snippet for every framework, and reading YAML takes longer than all the rest
def _fields(spec: str) -> dict[str, Any]:
    """Of a spec; none of one that cannot be read."""
    import yaml

    try:
        fields = yaml.safe_load(spec)
    except (yaml.YAMLError, ValueError, RecursionError):
        return {}
    return fields if isinstance(fields, dict) else {}


def _batch(spec: str) -> tuple[int | None, int]:
    """A spec that cannot be read names none."""
    fields = _fields(spec)
    try:
        size, accumulate = fields["data"].get("batch_size"), fields.get("accumulate", 1)
    except (KeyError, TypeError, AttributeError):
        return None, 1
    whole = [isinstance(n, int) and not isinstance(n, bool) and n > 0 for n in (size, accumulate)]
    return size if whole[0] else None, accumulate if whole[1] else 1
