"""Probed steps <-> scale.jsonl: what a second training of a run at K times the batch measured, a line per optimizer step.

The first line says what holds for all of them: ``{"schema": "clipcal.scale/1", "batch": 2, "reduction": "mean", "batch_norm": false}``.
A step: ``{"step": 17, "loss": 2.31, "grad_norm": 1.2, "parts": [1.9, 1.7]}``; ``grad_norm`` is the norm of the step that was made, of K
batches, and ``parts`` are the norms that each of them has by itself at the same weights.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from clipcal.errors import InputError, nearest
from clipcal.run.jsonfile import dumps, number
from clipcal.run.records import SCALE_HEADER, SCALE_LINE, wrong

SCHEMA = "clipcal.scale/1"
LARGEST_PROBE = 16  # times the batch: as many backward passes a step
Reduction = Literal["mean", "sum", "unknown"]
Floats = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class Probed:
    """``times``: K, how many batches of the profile made one step. ``loss`` and ``norms`` (n,), ``parts`` (n, K); ``step`` (n,) counts
    from 0. ``reduction`` says how the loss is taken over a batch, ``batch_norm`` whether the model has layers that look at a
    whole batch. ``problems`` says, in sentences, what reading had to leave out."""

    times: int
    reduction: Reduction
    batch_norm: bool
    step: NDArray[np.int64]
    loss: Floats
    norms: Floats
    parts: Floats
    problems: tuple[str, ...] = ()


def times_of(text: str, *, most: int | None = None) -> int:
    """``batch=8`` -> 8. Raises InputError for anything else, and above ``most``."""
    key, found, value = text.partition("=")
    if key.strip() != "batch":
        hint = nearest(key.strip(), ("batch",)) or " A longer sequence or another learning rate is not measured."
        raise InputError(f"--scale {text}: expected batch=K, such as --scale batch=2.{hint}")
    times = int(value) if found and value.strip().isdecimal() else 0
    if times < 2 or (most is not None and times > most):
        limits = "from 2 on" if most is None else f"from 2 to {most}"
        raise InputError(f"--scale {text}: expected a whole number {limits}: how many times the spec's own batch.")
    return times


def header(times: int, reduction: Reduction, *, batch_norm: bool) -> bytes:
    row = {"schema": SCHEMA, "batch": times, "reduction": reduction, "batch_norm": batch_norm}
    return (dumps(row) + "\n").encode()


def line(step: int, loss: float, grad_norm: float, parts: Sequence[float]) -> bytes:
    return (dumps({"step": step, "loss": loss, "grad_norm": grad_norm, "parts": list(parts)}) + "\n").encode()


def read_probed(path: Path) -> Probed:
    """Read a probe, whole or cut off at any byte; lines that are no step are left out.

    Raises InputError where the file cannot be read or its first line is not a probe's.
    """
    try:
        first, *lines = path.read_bytes().split(b"\n")
    except OSError as e:
        raise InputError(f"{path}: cannot be read ({e.strerror}).") from None
    head, why = _header(first)
    if why is not None:
        raise InputError(
            f"{path}: is no probe that this clipcal reads: {why}. Take it again: delete the file, and `clipcal profile SPEC --resume "
            "--scale batch=2`."
        )
    times, reduction = head["batch"], head["reduction"]
    found = [_row(text, times) for text in lines[:-1]]
    rows = [row for row in found if row is not None]
    bad = found.index(None) + 2 if None in found else 0
    more = f" and {len(found) - len(rows) - 1} more" if len(found) - len(rows) > 1 else ""
    says = f"line {bad}{more} of {path.name} could not be read as a probed step and was left out"
    return Probed(
        times=times,
        reduction=reduction,
        batch_norm=head.get("batch_norm") is True,
        step=np.array([r[0] for r in rows], dtype=np.int64),
        loss=np.array([r[1] for r in rows], dtype=np.float64),
        norms=np.array([r[2] for r in rows], dtype=np.float64),
        parts=np.array([r[3] for r in rows], dtype=np.float64).reshape(len(rows), times),
        problems=(f"{says}: {_why(lines[bad - 2], times)}",) if bad else (),
    )


def _header(first: bytes) -> tuple[dict[str, Any], str | None]:
    """The first line, and what is wrong with it."""
    try:
        head = json.loads(first)
    except (ValueError, RecursionError):
        return {}, "its first line is no JSON"
    return (head, wrong(head, SCALE_HEADER)) if isinstance(head, dict) else ({}, "its first line is no object")


def _why(text: bytes, times: int) -> str:
    """Why a line is no step."""
    try:
        row = json.loads(text)
    except (ValueError, RecursionError):
        return "it is no JSON"
    return (wrong(row, SCALE_LINE) if isinstance(row, dict) else None) or f"it has no {times} 'parts'"


def _row(text: bytes, times: int) -> tuple[int, float, float, list[float]] | None:
    try:
        row: dict[str, Any] = json.loads(text)
        if wrong(row, SCALE_LINE) is not None:
            return None
        parts = [number(v) for v in row["parts"]]
        found = int(np.int64(row["step"])), number(row["loss"]), number(row["grad_norm"]), parts
    except (ValueError, KeyError, TypeError, OverflowError, RecursionError):
        return None
    return found if len(parts) == times else None
