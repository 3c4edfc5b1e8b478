"""A survey -> CSV, for a spreadsheet or a database."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable
from dataclasses import fields
from pathlib import Path
from typing import Any

from clipcal.surveying.row import Row

COLUMNS = ("group", *(f.name for f in fields(Row) if f.name != "notes"), "notes")
_FORMULA = ("=", "+", "-", "@", "\t", "\r")


def csv_of(rows: Iterable[Row]) -> str:
    """A line for each row below a head; what is not known is empty, and notes are joined by spaces."""
    out = io.StringIO()
    sheet = csv.writer(out, lineterminator="\n")
    sheet.writerow(COLUMNS)
    for row in rows:
        values = row.as_dict() | {"notes": " ".join(row.notes)}
        sheet.writerow([_cell(values[name]) for name in COLUMNS])
    return out.getvalue()


def is_ours(path: Path) -> bool:
    """Whether a file begins as these sheets do."""
    try:
        with path.open("rb") as f:
            return f.readline(1024).rstrip() == ",".join(COLUMNS).encode()
    except OSError:
        return False


def _cell(value: Any) -> Any:
    """A name in a log must not become a formula of the spreadsheet that opens the file."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return str(value).lower()
    if not isinstance(value, str):
        return value
    if value in ("NaN", "Infinity", "-Infinity"):
        return value
    text = value.encode("utf-8", "replace").decode()
    return f"'{text}" if text.startswith(_FORMULA) else text
