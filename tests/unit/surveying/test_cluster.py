"""Tasks of a cluster that read: the paths that the user knows, and a lost task loses no row. Ray itself is in tests/integration."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from made_runs import spiky
from survey_samples import found, table

from clipcal.surveying import cluster
from clipcal.surveying.cluster import read_there, rows_of
from clipcal.surveying.finding import Found
from clipcal.surveying.reading import row_of


class LostError(Exception):
    """As Ray raises it for a worker that is gone."""


class TaskError(Exception):
    """As Ray raises it for an exception in a task."""


@dataclass(frozen=True, eq=False)
class Reference:
    """A task that was asked for."""

    function: Callable[[Any], Any]
    placed: Any


class OneProcess:
    """What is used of Ray, done in this process when an answer is fetched; a task that reads ``fatal`` is lost."""

    exceptions = SimpleNamespace(RayError=LostError, RayTaskError=TaskError)

    def __init__(self, fatal: str = "", lives: int = 99) -> None:
        self.fatal, self.lives, self.sizes = fatal, lives, list[int]()

    def remote(self, **needs: Any) -> Callable[[Any], Any]:
        return lambda function: SimpleNamespace(remote=lambda placed: Reference(function, placed))

    def cluster_resources(self) -> dict[str, float]:
        return {"CPU": 2.0}

    def wait(self, refs: list[Any], **how: Any) -> tuple[list[Any], list[Any]]:
        return refs[:1], refs[1:]

    def cancel(self, ref: Any, *, force: bool) -> None:
        """Nothing runs."""

    def get(self, ref: Any) -> Any:
        self.sizes.append(len(ref.placed))
        if self.lives and any(one.path.name == self.fatal for one, _ in ref.placed):
            self.lives -= 1
            raise LostError
        return ref.function(ref.placed)


@pytest.fixture
def logs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[Found]:
    monkeypatch.chdir(tmp_path)
    return [found(table(Path("logs") / f"{n}.csv", spiky(60, n))) for n in range(20)]


def use(ray: OneProcess, monkeypatch: pytest.MonkeyPatch) -> None:
    @contextlib.contextmanager
    def connected() -> Iterator[OneProcess]:
        yield ray

    monkeypatch.setattr(cluster, "connected", connected)


def test_rows_are_those_of_this_machine(logs: list[Found], monkeypatch: pytest.MonkeyPatch) -> None:
    ray = OneProcess()
    use(ray, monkeypatch)
    assert dict(read_there(logs, None)) == {n: row_of(one) for n, one in enumerate(logs)}
    assert ray.sizes == [16, 4]


def test_what_a_lost_task_was_to_read_is_read_again_each_by_itself(
    logs: list[Found], monkeypatch: pytest.MonkeyPatch
) -> None:
    ray = OneProcess("3.csv")
    use(ray, monkeypatch)
    rows = dict(read_there(logs, 1))
    lost = rows.pop(3)
    assert rows == {n: row_of(one) for n, one in enumerate(logs) if n != 3}
    assert lost is not None
    assert str(lost.problem).startswith("logs/3.csv: its process or node was lost")


def test_a_task_that_is_lost_once_costs_nothing(logs: list[Found], monkeypatch: pytest.MonkeyPatch) -> None:
    use(OneProcess("3.csv", lives=1), monkeypatch)
    assert dict(read_there(logs, 1)) == {n: row_of(one) for n, one in enumerate(logs)}


def test_a_node_without_the_folder_says_so(tmp_path: Path) -> None:
    (row,) = rows_of([(found(tmp_path / "gone" / "log.csv"), f"{tmp_path}{os.sep}")])
    assert row is not None
    assert row.path == "gone/log.csv"
    assert "gone/log.csv: is not there on the Ray node" in str(row.problem)
