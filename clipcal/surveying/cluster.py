"""What was found -> rows, read by tasks of a Ray cluster that is there already and whose nodes have the same folders."""

from __future__ import annotations

import contextlib
import socket
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from clipcal.arms.executors.connection import connected
from clipcal.errors import InputError
from clipcal.surveying.finding import Found
from clipcal.surveying.reading import row_of
from clipcal.surveying.row import Row
from clipcal.surveying.working import TRIES, lost

TOGETHER = 16
"""Files of one task: a task costs Ray milliseconds, as a small log does to read."""
Part = tuple[tuple[int, ...], int]
"""Numbers of what is read in one task, and which try that is."""


def read_there(found: Sequence[Found], jobs: int | None) -> Iterator[tuple[int, Row | None]]:
    """The number and the row of everything that was found, as they are ready; ``jobs`` tasks at a time, None for two for each CPU.

    What a lost task was to read is read again, each file by itself. Raises InputError where there is no cluster.
    """
    numbers = range(len(found))
    todo: deque[Part] = deque((tuple(numbers[i : i + TOGETHER]), 1) for i in numbers[::TOGETHER])
    with connected() as ray, contextlib.closing(_Tasks(ray, found)) as tasks:
        room = jobs or max(1, 2 * int(ray.cluster_resources().get("CPU", 1)))
        while todo or tasks.running:
            while todo and len(tasks.running) < room:
                tasks.begin(todo.popleft())
            for part, rows in tasks.ended():
                if rows is not None:
                    yield from zip(part[0], rows, strict=True)
                elif part[1] < TRIES:
                    todo.extend(((n,), part[1] + 1) for n in part[0])
                else:
                    yield from ((n, lost(found[n], "its process or node was lost")) for n in part[0])


class _Tasks:
    """The tasks that are in the cluster. ``close`` ends those that are not done."""

    def __init__(self, ray: Any, found: Sequence[Found]) -> None:
        self._ray, self._found = ray, found
        self.running: dict[Any, Part] = {}
        self._task = ray.remote(num_cpus=1, max_retries=0, scheduling_strategy="SPREAD")(rows_of)

    def begin(self, part: Part) -> None:
        self.running[self._task.remote([_placed(self._found[n]) for n in part[0]])] = part

    def ended(self) -> Iterator[tuple[Part, list[Row | None] | None]]:
        """The parts that have ended since, after a moment's wait; None where their task was lost."""
        done, _ = self._ray.wait(list(self.running), num_returns=1, timeout=0.5)
        for ref in done:
            part, failures = self.running.pop(ref), self._ray.exceptions
            try:
                yield part, self._ray.get(ref)
            except failures.RayTaskError as e:
                if "failed to import" not in str(e):
                    raise
                raise InputError(
                    "A node of the Ray cluster cannot import clipcal. Install the same clipcal on every node, in the Python that "
                    "`ray start` is run with."
                ) from None
            except failures.RayError:
                yield part, None

    def close(self) -> None:
        for ref in self.running:
            with contextlib.suppress(Exception):  # one that ended meanwhile
                self._ray.cancel(ref, force=True)


def _placed(found: Found) -> tuple[Found, str]:
    """The same from wherever it is read, and what its paths begin with more than they did here."""
    more = "" if found.path.is_absolute() else f"{Path.cwd()}/"
    return replace(found, path=found.path.absolute(), files=tuple(path.absolute() for path in found.files)), more


def rows_of(placed: Sequence[tuple[Found, str]]) -> list[Row | None]:
    """What Ray runs: the rows of what was found, with the paths that the user knows."""
    return [_row(found, more) for found, more in placed]


def _row(found: Found, more: str) -> Row | None:
    def shown(text: str) -> str:
        return text.replace(more, "") if more else text

    if not found.path.exists():
        problem = f"{found.path}: is not there on the Ray node {socket.gethostname()}. Survey folders on a disk that all nodes share."
        return Row(path=shown(str(found.path)), problem=shown(problem))
    row = row_of(found)
    if row is None:
        return None
    return replace(
        row,
        path=shown(row.path),
        reason=row.reason and shown(row.reason),
        notes=tuple(map(shown, row.notes)),
        problem=row.problem and shown(row.problem),
    )
