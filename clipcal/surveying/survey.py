"""Folders -> every log and run below as a row, the worst first, read here or on a cluster."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from clipcal.errors import InputError, nearest
from clipcal.surveying.finding import Found, find
from clipcal.surveying.row import GROUPS, Group, Row
from clipcal.surveying.working import read_here

SCHEMA = "clipcal.survey/1"
Rows = Iterator[tuple[int, Row | None]]
OnRead = Callable[[int, int], None]
"""Told how many of how many have been read."""


@dataclass(frozen=True, kw_only=True)
class Survey:
    """``rows`` are sorted, the worst first. ``passed_over`` counts what is no row: ``other`` files by their ending, files whose ``content`` is
    no training log's, ``older`` checkpoints of a training that has a row, ``links``, and ``folders``. ``notes`` say where the search ended early."""

    folders: tuple[str, ...]
    rows: tuple[Row, ...]
    passed_over: dict[str, int]
    notes: tuple[str, ...]

    @property
    def counts(self) -> dict[Group, int]:
        """How many rows each group has."""
        counted = Counter(row.group for row in self.rows)
        return {group: counted[group] for group in GROUPS}

    @property
    def fits(self) -> bool:
        """Whether no threshold in use is one that does not fit."""
        return not self.counts["does_not_fit"]

    def as_dict(self) -> dict[str, Any]:
        """The object that ``survey --json`` prints."""
        about = {"schema": SCHEMA, "folders": list(self.folders), "counts": self.counts}
        about |= {"passed_over": self.passed_over, "notes": list(self.notes)}
        return about | {"rows": [row.as_dict() for row in self.rows]}


def _local(found: Sequence[Found], jobs: int | None) -> Rows:
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return read_here(found, jobs or cores)


def _ray(found: Sequence[Found], jobs: int | None) -> Rows:
    from clipcal.surveying.cluster import read_there

    return read_there(found, jobs)


EXECUTORS: dict[str, Callable[[Sequence[Found], int | None], Rows]] = {"local": _local, "ray": _ray}


def survey(
    folders: Sequence[Path], *, jobs: int | None = None, executor: str = "local", on_read: OnRead | None = None
) -> Survey:
    """The logs and runs in and below folders. ``jobs`` are read at a time, None for as many as there are cores (in a cluster: as it has room).

    Raises InputError where a folder is not there, or the executor cannot be had; a file that cannot be read is a row.
    """
    if executor not in EXECUTORS:
        raise InputError(f"--executor {executor}: expected {' or '.join(EXECUTORS)}.{nearest(executor, EXECUTORS)}")
    search = find(folders)
    rows: list[Row] = []
    content = 0
    for done, (_, row) in enumerate(EXECUTORS[executor](search.found, jobs) if search.found else (), 1):
        if row is None:
            content += 1
        else:
            rows.append(row)
        if on_read is not None:
            on_read(done, len(search.found))
    return Survey(
        folders=tuple(map(str, folders)),
        rows=tuple(sorted(rows, key=lambda row: row.order)),
        passed_over={"other": search.passed_over["other"], "content": content}
        | {k: n for k, n in search.passed_over.items() if k != "other"},
        notes=search.notes,
    )
