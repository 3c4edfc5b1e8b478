"""The rows of a log -> the runs among them, and the steps of one run.

A run starts where the log says so, or where its steps go back to their start; steps that go back less were trained again after a
checkpoint was loaded. Where rows have no step, their epochs or what else is counted tell the same.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from clipcal.logs.log import Floats, Series

RESTART = 0.1
"""Steps that go back into the first tenth of a run start another one; further up, training was taken up from a checkpoint."""
_FEW = 0.05
"""Rows that have the step of another one and count once; where more have, the steps were rounded."""


@dataclass(frozen=True, kw_only=True)
class Part:
    """One run: the rows of its series that count, in order, with ``redone`` rows left out that were trained once more
    after a checkpoint was loaded, ``resumed`` times."""

    rows: NDArray[np.int64]
    resumed: int = 0
    redone: int = 0


@dataclass(frozen=True, kw_only=True)
class Numbered:
    """``step`` (k,) of the rows that ``keep`` (n,) leaves, growing. ``is_own``: these are the log's own numbers. ``note`` says what
    became of rows that have one step."""

    step: Floats
    keep: NDArray[np.bool_]
    is_own: bool
    note: str | None = None


def runs_of(series: Series) -> list[Part]:
    """The runs of a series with at least one row."""
    where = series.step
    if not np.isfinite(where).all() and series.place is not None and np.isfinite(series.place).all():
        where = series.place
    cuts = [0, *series.starts, len(series)]
    found: list[Part] = []
    for first, end in pairwise(cuts):
        if end > first:
            found += _by_place(np.arange(first, end), where)
    return found


def _by_place(rows: NDArray[np.int64], everywhere: Floats) -> Iterator[Part]:
    where = everywhere[rows]
    if not np.isfinite(where).all():
        yield Part(rows=rows)
        return
    start, resumes = 0, 0
    keep = np.ones(len(rows), dtype=bool)
    for back in [*(np.flatnonzero(np.diff(where) < 0) + 1).tolist(), len(rows)]:
        if back < len(rows):
            low, high = where[start], float(np.max(where[start:back]))
            if where[back] > low + RESTART * (high - low):
                # taken up again: what was trained twice counts as it was trained last
                keep[start:back] &= where[start:back] < where[back]
                resumes += 1
                continue
        kept = keep[start:back]
        yield Part(rows=rows[start:back][kept], resumed=resumes, redone=int((~kept).sum()))
        start, resumes = back, 0


def numbered(step: Floats, norms: Floats, losses: Floats) -> Numbered:
    """The steps of the rows of one run, all (n,). Rows are counted where the log does not number them, or gives most of them one
    number. A row that repeats the one after it, values and all, is left out; one that differs is another row."""
    size = len(step)
    counted, everything = np.arange(1.0, size + 1), np.ones(size, dtype=bool)
    if not np.isfinite(step).all():
        return Numbered(step=counted, keep=everything, is_own=False)
    again = np.diff(step) <= 0
    same = again & _equal(norms) & _equal(losses)
    keep = ~np.append(same, [False] * bool(size))
    others = int((again & ~same).sum())
    if not others:
        return Numbered(step=step[keep], keep=keep, is_own=True, note=_repeats(int(same.sum()), size))
    if others <= _FEW * size:
        keep = ~np.append(again, [False])
        rows = "1 row has" if others == 1 else f"{others} rows have"
        note = f"{rows} the step of the row behind and other values: the last one counts."
        return Numbered(step=step[keep], keep=keep, is_own=True, note=note)
    spread = _spread(step[keep])
    if spread is not None:
        note = f"{others} rows have the step of the row before them and other values, as rounded steps have: they were numbered between."
        return Numbered(step=spread, keep=keep, is_own=True, note=note)
    if np.all(step == step[0]):
        return Numbered(step=counted, keep=everything, is_own=False)
    note = "Several rows have one step and other values, so the rows are counted instead."
    return Numbered(step=counted, keep=everything, is_own=False, note=note)


def _equal(values: Floats) -> NDArray[np.bool_]:
    return np.asarray((values[1:] == values[:-1]) | (np.isnan(values[1:]) & np.isnan(values[:-1])))


def _repeats(num: int, size: int) -> str | None:
    if not num:
        return None
    return f"{num} of {size} rows repeat the row before them, value for value, and count once."


def _spread(step: Floats) -> Floats | None:
    """Steps of which several are equal, each spread evenly up to the next; None where no whole numbers lie between."""
    first = np.append(True, np.diff(step) > 0)
    starts = np.flatnonzero(first)
    if starts.size < 2:
        return None
    sizes = np.diff(np.append(starts, step.size))
    gaps = np.append(np.diff(step[starts]), np.median(np.diff(step[starts])))
    within = np.arange(step.size) - np.repeat(starts, sizes)
    found = np.repeat(step[starts], sizes) + np.floor(within * np.repeat(gaps / sizes, sizes))
    return found if np.all(np.diff(found) > 0) else None
