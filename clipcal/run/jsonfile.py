"""Values -> JSON files that any parser reads: non-finite numbers are strings, a file is whole or not there."""

from __future__ import annotations

import json
import math
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any

from clipcal.run.files import write_whole

_WORDS = {"nan": math.nan, "infinity": math.inf, "inf": math.inf, "-infinity": -math.inf, "-inf": -math.inf}


def plain(value: Any) -> Any:
    """The value as JSON holds it: dataclasses become objects, tuples lists, NaN and infinities strings."""
    if isinstance(value, float):
        if math.isfinite(value):
            return value
        return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"
    if isinstance(value, dict):
        return {str(k): plain(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(v) for v in value]
    if is_dataclass(value) and not isinstance(value, type):
        return {f.name: plain(getattr(value, f.name)) for f in fields(value)}
    return value


def number(value: Any) -> float:
    """The float behind a JSON value: a number, one of the words for a non-finite one, or null for NaN.

    Raises ValueError for anything else.
    """
    if value is None:
        return math.nan
    if isinstance(value, str) and value.lower() in _WORDS:
        return _WORDS[value.lower()]
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise ValueError(f"expected a number, found {value!r}")
    return float(value)


def dumps(value: Any, *, indent: int | None = None) -> str:
    return json.dumps(plain(value), indent=indent, ensure_ascii=False, allow_nan=False)


def write_json(path: Path, value: Any) -> None:
    """Raises InputError where it cannot be written (a full disk, a folder without permission)."""
    write_whole(path, dumps(value, indent=1) + "\n", then="What was there before is kept.")
