"""A path -> everything that was read from the log there, and how: an account for who wants to check the reading, not the answer."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from clipcal.errors import InputError
from clipcal.logs.account import PassedOver
from clipcal.logs.choice import NO_CHOICE, LogChoice
from clipcal.logs.log import Log, Series
from clipcal.logs.names import after_clipping, is_weak
from clipcal.logs.picking import Picked, pick
from clipcal.logs.reading import read_log
from clipcal.logs.runs import runs_of
from clipcal.logs.source import Source

SCHEMA = "clipcal.log/1"
SHOWN = 3
"""Rows from the start and from the end."""
Clipping = Literal["before", "after"]


@dataclass(frozen=True, kw_only=True)
class Column:
    """``name`` is what the log calls it, ``how`` what says so; a guess is called one."""

    kind: str
    name: str
    how: str


@dataclass(frozen=True, kw_only=True)
class Row:
    """One row of the run that is judged; None where it holds no such value."""

    step: float
    loss: float | None
    lr: float | None
    grad_norm: float


@dataclass(frozen=True, kw_only=True)
class Norm:
    """One gradient norm of the log. ``clipping`` says when it was taken; None where nothing tells. ``runs`` are the rows of each run,
    ``median`` is that of its finite values."""

    name: str
    rows: int
    not_finite: int
    median: float | None
    clipping: Clipping | None
    runs: tuple[int, ...]


@dataclass(frozen=True, kw_only=True)
class Described:
    """``lines`` is None for what is no text. ``picked`` is the norm and run that `recommend` judges, None where there are several to choose
    among, and ``choose`` says so. ``first`` and ``last`` are rows of it."""

    source: str
    format: str
    lines: int | None
    rows: int
    norms: tuple[Norm, ...]
    columns: tuple[Column, ...]
    picked: str | None
    run: int | None
    first: tuple[Row, ...]
    last: tuple[Row, ...]
    max_norm: float | None
    max_norm_from: str
    left_out: tuple[PassedOver, ...]
    notes: tuple[str, ...]
    choose: str | None = None

    def as_dict(self) -> dict[str, Any]:
        return {
            "schema": SCHEMA,
            "source": self.source,
            "format": self.format,
            "lines": self.lines,
            "rows": self.rows,
            "norms": [vars(norm) | {"runs": list(norm.runs)} for norm in self.norms],
            "columns": [vars(column) for column in self.columns],
            "picked": self.picked,
            "run": self.run,
            "first": [vars(row) for row in self.first],
            "last": [vars(row) for row in self.last],
            "max_norm": self.max_norm,
            "max_norm_from": self.max_norm_from,
            "left_out": [vars(passed) for passed in self.left_out],
            "notes": list(self.notes),
            "choose": self.choose,
        }


def describe(path: Path, choice: LogChoice = NO_CHOICE) -> Described:
    """What `recommend` would read at a path. Raises InputError where nothing can be read."""
    log = read_log(path, pattern=choice.pattern)
    named = [series for series in log.series if len(series)]
    picked, choose = None, None
    try:
        picked = pick(log, str(path), choice)
    except InputError as e:
        if choice.tag is not None or choice.run is not None or len(named) < 2:
            raise
        choose = str(e)
    series = named[0] if picked is None else next(s for s in named if s.tag == picked.tag)
    rows = [] if picked is None else _rows(picked)
    return Described(
        source=str(path),
        format=log.format,
        lines=_lines(path),
        rows=max(map(len, named)),
        norms=tuple(_norm(log, s) for s in named),
        columns=_columns(log, series),
        picked=None if picked is None else picked.tag,
        run=None if picked is None else picked.run,
        first=tuple(rows[:SHOWN]),
        last=tuple(rows[SHOWN:][-SHOWN:]),
        max_norm=log.max_norm,
        max_norm_from=log.max_norm_from,
        left_out=log.account.passed,
        notes=log.notes if picked is None else tuple(c for c in picked.caveats if c not in log.account.notes),
        choose=choose,
    )


def _norm(log: Log, series: Series) -> Norm:
    finite = series.grad_norm[np.isfinite(series.grad_norm)]
    after = after_clipping(series.tag)
    after = log.after if after is None else after
    return Norm(
        name=series.tag,
        rows=len(series),
        not_finite=len(series) - finite.size,
        median=float(np.median(finite)) if finite.size else None,
        clipping=None if after is None else "after" if after else "before",
        runs=tuple(len(part.rows) for part in runs_of(series)),
    )


def _columns(log: Log, series: Series) -> tuple[Column, ...]:
    guessed = "a guess: nothing else is named like a norm"
    found = [Column(kind="norm", name=series.tag, how=guessed if is_weak(series.tag) else "its name")]
    if np.isfinite(series.step).all():
        found.append(Column(kind=log.unit, name=series.step_from, how=series.step_how))
    elif series.place_from:
        found.append(
            Column(kind="place", name=series.place_from, how="its name; the rows are counted, as it is no step")
        )
    found += [
        Column(kind=kind, name=name, how="its name")
        for kind, name in (("loss", series.loss_from), ("lr", series.lr_from))
        if name
    ]
    return tuple(found)


def _rows(picked: Picked) -> list[Row]:
    at = [*range(min(SHOWN, len(picked.step))), *range(max(SHOWN, len(picked.step) - SHOWN), len(picked.step))]
    return [
        Row(
            step=float(picked.step[i]),
            loss=_known(picked.loss[i]),
            lr=_known(picked.lr[i]),
            grad_norm=float(picked.grad_norm[i]),
        )
        for i in at
    ]


def _known(value: float) -> float | None:
    return None if math.isnan(value) else float(value)


def _lines(path: Path) -> int | None:
    """The lines of a text file."""
    if path.is_dir():
        return None
    source = Source(path)
    return sum(block.count(b"\n") + 1 for block in source.blocks()) if source.is_text else None
