"""Probed steps <-> scale.jsonl: what a second training of a run at K times the batch measured, a line per optimizer step.

The first line says what holds for all of them: ``{"schema": "clipcal.scale/1", "batch": 2, "reduction": "mean", "batch_norm": false}``.
A step: ``{"step": 17, "loss": 2.31, "grad_norm": 1.2, "parts": [1.9, 1.7]}``; ``grad_norm`` is the norm of the step that was made, of K
batches, and ``parts`` are the norms that each of them has by itself at the same weights.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from clipcal.errors import InputError, nearest
from clipcal.run.jsonfile import dumps, number
from clipcal.run.records import SCALE_HEADER, SCALE_LINE, Kind, wrong
from clipcal.run.trace import Floats

SCHEMA = "clipcal.scale/1"
LARGEST_PROBE = 16  # times the batch: as many backward passes a step
Reduction = Literal["mean", "sum", "unknown"]


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
    head = _parsed(first, SCALE_HEADER)
    if isinstance(head, str):
        raise InputError(
            f"{path}: is no probe that this clipcal reads (first line: {head}). Take it again: delete the file, and "
            "`clipcal profile SPEC --resume --scale batch=2`."
        )
    times, reduction = head["batch"], head["reduction"]
    found = [_row(text, times) for text in lines[:-1]]
    rows = [row for row in found if not isinstance(row, str)]
    bad = [(i, why) for i, why in enumerate(found, start=2) if isinstance(why, str)]
    more = f" and {len(bad) - 1} more" if len(bad) > 1 else ""
    says = [
        f"line {i}{more} of {path.name} could not be read as a probed step and was left out: {why}" for i, why in bad
    ]
    return Probed(
        times=times,
        reduction=reduction,
        batch_norm=head.get("batch_norm") is True,
        step=np.array([r[0] for r in rows], dtype=np.int64),
        loss=np.array([r[1] for r in rows], dtype=np.float64),
        norms=np.array([r[2] for r in rows], dtype=np.float64),
        parts=np.array([r[3] for r in rows], dtype=np.float64).reshape(len(rows), times),
        problems=tuple(says[:1]),
    )


def _parsed(text: bytes, table: Mapping[str, Kind]) -> dict[str, Any] | str:
    """The object in a line, or what is wrong with it."""
    try:
        row = json.loads(text)
    except (ValueError, RecursionError):
        return "it is no JSON"
    return (wrong(row, table) or row) if isinstance(row, dict) else "it is no object"


def _row(text: bytes, times: int) -> tuple[int, float, float, list[float]] | str:
    row = _parsed(text, SCALE_LINE)
    if isinstance(row, str):
        return row
    parts = [number(v) for v in row["parts"]]
    if len(parts) != times:
        return f"it has no {times} 'parts'"
    return int(np.int64(row["step"])), number(row["loss"]), number(row["grad_norm"]), parts
