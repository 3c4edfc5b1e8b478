"""The config files that lie beside a log -> the clipping threshold that stands in them."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from clipcal.logs.source import Source
from clipcal.logs.values import value_of

MAX_BYTES = 2**20
MAX_YAML_BYTES = 2**17
"""What PyYAML's own parser takes a second for. Its C parser is faster, and deeply nested text crashes the process."""
_MAX_NODES, _MAX_DEPTH = 20_000, 6


class _Plain(yaml.SafeLoader):
    """Plain values alone: what carries a tag of Python's, such as Lightning's ``!!python/tuple``, is read as nothing."""


def _nothing(loader: yaml.SafeLoader, suffix: str, node: yaml.Node) -> None:
    """For every unknown tag."""


_Plain.add_multi_constructor("", _nothing)


def threshold_beside(
    source: Source, files: Sequence[str], keys: Collection[str], *, null_is_off: bool = False
) -> tuple[str, float] | None:
    """Where the threshold stands, as a person would say it, and the threshold; None where no file tells.

    The first of ``files`` that names one of ``keys``, at any depth, tells; one that gives it two values does not. The files
    lie in the log's folder, or above it where that is a checkpoint's. ``null_is_off``: null stands for no clipping, 0.
    """
    folder = source.path.parent
    for place in (folder, folder.parent) if folder.name.startswith("checkpoint") else (folder,):
        for file in files:
            config = _parsed(place / file, keys)
            if config is None:
                continue
            found = {
                (key, value)
                for key, raw in _named(config, keys)
                if (value := 0.0 if raw is None and null_is_off else value_of(raw)) is not None
            }
            if len({value for _, value in found}) == 1:
                key, value = sorted(found)[0]
                return f"{key} in {file}", value
    return None


def text_beside(source: Source, file: str) -> str:
    """The text of a file in the log's folder; empty where there is none, or it is too large to be a config."""
    data = _bounded(source.path.parent / file, MAX_BYTES)
    return "" if data is None else data.decode("utf-8", "replace")


def _parsed(path: Path, keys: Collection[str]) -> Any:
    is_json = path.suffix == ".json"
    data = _bounded(path, MAX_BYTES if is_json else MAX_YAML_BYTES)
    if data is None or not any(key.encode() in data for key in keys):
        return None
    try:
        return json.loads(data) if is_json else _Plain(data).get_single_data()
    except (ValueError, RecursionError, yaml.YAMLError, OverflowError):
        return None


def _bounded(path: Path, limit: int) -> bytes | None:
    try:
        if not path.is_file():
            return None
        with path.open("rb") as f:
            data = f.read(limit + 1)
    except OSError:
        return None
    return data if len(data) <= limit else None


def _named(config: Any, keys: Collection[str]) -> Iterator[tuple[str, Any]]:
    """All values under ``keys``, at any depth. Aliases make YAML as large as they like, so the search ends at a bound."""
    pending: list[tuple[Any, int]] = [(config, 0)]
    for _ in range(_MAX_NODES):
        if not pending:
            return
        inner, depth = pending.pop()
        if isinstance(inner, Mapping):
            # Lightning clips element by element then: its number is no norm
            by_value = inner.get("gradient_clip_algorithm") == "value"
            for name, value in inner.items():
                if name in keys and not by_value:
                    yield name, value
                elif depth < _MAX_DEPTH and isinstance(value, Mapping | list):
                    pending.append((value, depth + 1))
        elif isinstance(inner, list):
            pending += [(v, depth + 1) for v in inner[:1000] if isinstance(v, Mapping) and depth < _MAX_DEPTH]
