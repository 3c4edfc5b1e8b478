"""Steps <-> trace.jsonl: what one training run measured, a line per optimizer step, appended as training goes."""

from __future__ import annotations

import json
import math
import os
import re
from array import array
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from clipcal.errors import InputError, cannot_write
from clipcal.run.cells import numbers_of
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
        if not self.skipped.any():
            return self
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
    read = _Reading()
    try:
        with path.open("rb") as f:
            rest = b""
            while chunk := f.read(_CHUNK):
                whole, ended, more = (rest + chunk).rpartition(b"\n") if b"\n" in chunk else (b"", b"", rest + chunk)
                rest = more
                if ended:
                    read.block(whole)
    except OSError as e:
        raise InputError(
            f"{path}: cannot be read ({e.strerror}). Expected a trace written by `clipcal profile`."
        ) from None
    cut, bad = bool(rest), read.bad
    problems = []
    if cut:
        problems.append("the last line of the trace was cut off while it was written; it was left out")
    if bad:
        more_bad = f" and {bad - 1} more" if bad > 1 else ""
        problems.append(
            f"line {read.first_bad}{more_bad} of {path.name} could not be read as a step and was left out: {_why(read.bad_line)}"
        )
    if not len(read):
        first = f" (line {read.first_bad}: {_why(read.bad_line)})" if bad else ""
        raise InputError(
            f"{path}: holds no step{' that can be read' if bad or cut else ''}{first}. "
            "Expected one JSON object per line with a 'grad_norm'; record some with `clipcal profile SPEC`."
        )
    return read.trace(tuple(problems))


_CHUNK = 2**21
_NUMBER = rb"(-?[0-9][0-9.eE+\-]{0,40}|NaN|-?Infinity)"
_FORM = re.compile(
    rb'\n\{"step": (0|[1-9][0-9]{0,14}), "loss": %b, "grad_norm": %b, "grad_max": %b, "lr": %b, "seconds": %b\}(?=\n)'
    % ((_NUMBER,) * 5)
)
"""A line as ``Step.line`` writes it where clipping was off: nearly all are."""
_OF_FORM = ("step", "loss", "grad_norm", "grad_max", "lr", "seconds")
_WORDS = ((b'"NaN"', b"NaN"), (b'"Infinity"', b"Infinity"), (b'"-Infinity"', b"-Infinity"))


class _Reading:
    """The columns of a trace while it is read, block by block: a million steps take 60 MB. ``bad`` lines are counted, and the first kept."""

    def __init__(self) -> None:
        self._floats = {name: array("d") for name in _FLOATS}
        self._steps = array("q")
        self._skipped = bytearray()
        self._lines = 0
        self.bad = self.first_bad = 0
        self.bad_line = b""

    def __len__(self) -> int:
        return len(self._steps)

    def block(self, block: bytes) -> None:
        """Whole lines, without the end of the last. Those of the usual form are read at once, all others one by one, in their order."""
        text = b"\n" + block + b"\n"
        if b': "' in text:
            for written, word in _WORDS:
                text = text.replace(written, word)
        parts = _FORM.split(text)
        width = len(_OF_FORM) + 1
        try:
            columns = [numbers_of(parts[i::width]) for i in range(1, width)]
            others = parts[::width]
        except ValueError:  # "1.2.3" is no number
            columns, others = [], [text]
        others[-1] = others[-1][:-1]  # the end that was put on
        done = 0
        for at, other in enumerate(others):
            if other:
                self._take(columns, done, at)
                done = at
                for line in other.split(b"\n")[1:]:
                    self._line(line)
        self._take(columns, done, len(others) - 1)

    def _take(self, columns: Sequence[Floats], first: int, end: int) -> None:
        """The rows from ``first`` to before ``end`` of a block."""
        if end == first:
            return
        known = dict(zip(_OF_FORM, columns, strict=True))
        self._steps.frombytes(known["step"][first:end].astype(np.int64).tobytes())
        unknown = np.full(end - first, np.nan)
        for name, column in self._floats.items():
            column.frombytes((known[name][first:end] if name in known else unknown).tobytes())
        self._skipped += bytes(end - first)
        self._lines += end - first

    def _line(self, line: bytes) -> None:
        self._lines += 1
        if not line.strip():
            return
        try:
            row = _row(line, default_step=self._lines - 1)
        except (ValueError, OverflowError, RecursionError):
            self.bad += 1
            if self.bad == 1:
                self.first_bad, self.bad_line = self._lines, line
            return
        self._steps.append(row["step"])
        for name, column in self._floats.items():
            value = row.get(name)
            column.append(math.nan if value is None else value)
        self._skipped.append(row["skipped"])

    def trace(self, problems: tuple[str, ...]) -> Trace:
        return Trace(
            step=np.frombuffer(self._steps, dtype=np.int64),
            skipped=np.frombuffer(self._skipped, dtype=np.bool_),
            problems=problems,
            **{name: np.frombuffer(column, dtype=np.float64) for name, column in self._floats.items()},
        )


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
