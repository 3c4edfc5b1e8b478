"""Steps <-> trace.jsonl: what one training run measured, a line per optimizer step, appended as training goes."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from clipcal.errors import InputError, cannot_write
from clipcal.run.jsonfile import number
from clipcal.run.records import STEP_LINE, wrong
from clipcal.run.step import Step

Floats = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class Trace:
    """The steps of one run as columns: 1-D arrays of equal length, NaN where a line lacked the key.

    ``problems`` says, in sentences, what reading had to leave out.
    """

    step: NDArray[np.int64]
    loss: Floats
    grad_norm: Floats
    grad_max: Floats
    lr: Floats
    seconds: Floats
    scale: Floats
    skipped: NDArray[np.bool_]
    problems: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.step)

    def taken(self) -> Trace:
        """Without the steps that the GradScaler dropped: their gradients overflowed fp16 and never reached the weights."""
        keep = ~self.skipped
        columns = {name: getattr(self, name)[keep] for name in COLUMNS}
        return Trace(**columns, problems=self.problems)


COLUMNS = ("step", "loss", "grad_norm", "grad_max", "lr", "seconds", "scale", "skipped")
_FLOATS = ("loss", "grad_norm", "grad_max", "lr", "seconds", "scale")


def trace_of(steps: Sequence[Step]) -> Trace:
    """Steps as columns."""
    return _columns([s.__dict__ for s in steps], problems=())


def is_trace(path: Path) -> bool:
    """Whether a file begins as the traces that clipcal writes, whole or cut off."""
    if path.name == "trace.jsonl":
        return True
    try:
        with path.open("rb") as f:
            first = f.readline(4096)
    except OSError:
        return False
    return first.startswith(b'{"step":') and b'"grad_norm":' in first and b'"grad_max":' in first


def read_trace(path: Path | str) -> Trace:
    """Read a trace, whole or cut off at any byte.

    A last line without its end is what a killed process leaves; it and any other line that is not a step are left out
    and counted in ``problems``. Raises InputError where the file cannot be read or holds no step at all.
    """
    path = Path(path)
    try:
        data = path.read_bytes()
    except OSError as e:
        raise InputError(
            f"{path}: cannot be read ({e.strerror}). Expected a trace written by `clipcal profile`."
        ) from None
    lines = data.split(b"\n")
    cut = bool(lines.pop())
    rows: list[dict[str, Any]] = []
    bad: list[int] = []
    for i, line in enumerate(lines):
        if not line.strip():
            continue
        try:
            rows.append(_row(line, default_step=i))
        except (ValueError, OverflowError, RecursionError):
            bad.append(i + 1)
    problems = []
    if cut:
        problems.append("the last line of the trace was cut off while it was written; it was left out")
    if bad:
        more = f" and {len(bad) - 1} more" if len(bad) > 1 else ""
        why = _why(lines[bad[0] - 1])
        problems.append(f"line {bad[0]}{more} of {path.name} could not be read as a step and was left out: {why}")
    if not rows:
        first = f" (line {bad[0]}: {_why(lines[bad[0] - 1])})" if bad else ""
        raise InputError(
            f"{path}: holds no step{' that can be read' if bad or cut else ''}{first}. "
            "Expected one JSON object per line with a 'grad_norm'; record some with `clipcal profile SPEC`."
        )
    return _columns(rows, problems=tuple(problems))


def read_arm(path: Path) -> Trace:
    """The trace of an arm, which is written whole or not at all: what is left out of it is damage. Raises InputError."""
    trace = read_trace(path)
    if trace.problems:
        raise InputError(f"{path}: {trace.problems[0]}. Delete the file, and `clipcal verify` trains the arm again.")
    return trace


def _row(line: bytes, default_step: int) -> dict[str, Any]:
    row = json.loads(line)
    if not isinstance(row, dict) or "grad_norm" not in row:
        raise ValueError("not a step")
    parsed: dict[str, Any] = {name: number(row[name]) for name in _FLOATS if name in row}
    step = row.get("step", default_step)
    if isinstance(step, bool) or not isinstance(step, (int, float)):
        raise ValueError("not a step number")
    parsed["step"] = int(np.int64(int(step)))
    parsed["skipped"] = row.get("skipped", False)
    if not isinstance(parsed["skipped"], bool):
        raise ValueError("not a mark")
    return parsed


def _why(line: bytes) -> str:
    """Why a line is no step. The table says what ``_row`` tests, which is called a million times and builds no sentences."""
    try:
        row = json.loads(line)
    except (ValueError, RecursionError):
        return "it is no JSON"
    return (wrong(row, STEP_LINE) if isinstance(row, dict) else None) or "it is no object with numbers"


def _columns(rows: Sequence[dict[str, Any]], problems: tuple[str, ...]) -> Trace:
    def floats(name: str) -> Floats:
        values = (r.get(name) for r in rows)
        return np.array([np.nan if v is None else v for v in values], dtype=np.float64)

    return Trace(
        step=np.array([r["step"] for r in rows], dtype=np.int64),
        skipped=np.array([bool(r.get("skipped")) for r in rows], dtype=np.bool_),
        problems=problems,
        **{name: floats(name) for name in _FLOATS},
    )


class AppendOnly:
    """A file that grows by whole records: one ``write`` call each time, so a killed process leaves at most one cut record.

    A failed write (a full disk) is taken back, so that what was there before stays readable. Raises InputError where the
    file cannot be opened or written.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            self._fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o666)
        except OSError as e:
            raise cannot_write(path, e) from None

    def append(self, data: bytes) -> None:
        before = os.fstat(self._fd).st_size
        try:
            written = 0
            while written < len(data):
                written += os.write(self._fd, data[written:])
        except OSError as e:
            os.ftruncate(self._fd, before)
            raise cannot_write(self.path, e, "What was recorded before is kept.") from None

    def close(self) -> None:
        os.close(self._fd)


def lines_of(steps: Iterable[Step]) -> bytes:
    return "".join(s.line() + "\n" for s in steps).encode()


def mend(path: Path) -> None:
    """Drop a cut last line, so that appending starts on a line of its own."""
    data = path.read_bytes()
    whole = data.rfind(b"\n") + 1
    if whole < len(data):
        os.truncate(path, whole)
