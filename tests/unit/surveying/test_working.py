"""Processes that read: the same rows whatever their number, and one that is killed takes its own file alone."""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from made_runs import quiet, spiky
from survey_samples import found, table

from clipcal.errors import InputError
from clipcal.surveying import working
from clipcal.surveying.finding import Found
from clipcal.surveying.reading import row_of
from clipcal.surveying.row import Row
from clipcal.surveying.working import read_here

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="changes what a forked process does")


@pytest.fixture
def logs(tmp_path: Path) -> list[Found]:
    return [found(table(tmp_path / f"{n}.csv", spiky(120, n) if n % 2 else quiet(120, n))) for n in range(6)]


@pytest.fixture(autouse=True)
def forked(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Where tests run side by side their own threads would forbid it. No process is left behind."""
    monkeypatch.setattr(working, "may_fork", lambda: True)
    yield
    assert not multiprocessing.active_children()


@pytest.mark.parametrize("jobs", [1, 2, 9])
def test_rows_are_those_of_one_process(logs: list[Found], jobs: int) -> None:
    assert dict(read_here(logs, jobs)) == {n: row_of(one) for n, one in enumerate(logs)}


def _killed_at(monkeypatch: pytest.MonkeyPatch, name: str, mark: Path, times: int) -> None:
    """The process that reads the file of that name is killed, so often."""

    def reading(one: Found) -> Row | None:
        if one.path.name == name:
            with mark.open("a+") as f:
                f.seek(0)
                if len(f.read()) < times:
                    f.write("x")
                    f.flush()
                    os.kill(os.getpid(), signal.SIGKILL)
        return row_of(one)

    monkeypatch.setattr(working, "row_of", reading)


@pytest.mark.parametrize("jobs", [1, 2])
def test_a_file_whose_process_is_killed_is_read_again(
    logs: list[Found], jobs: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = {n: row_of(one) for n, one in enumerate(logs)}
    _killed_at(monkeypatch, "2.csv", tmp_path / "mark", 1)
    assert dict(read_here(logs, jobs)) == expected
    assert (tmp_path / "mark").read_text() == "x"


@pytest.mark.parametrize("jobs", [1, 2])
def test_a_file_that_kills_every_process_is_a_row_and_the_others_are_read(
    logs: list[Found], jobs: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = {n: row_of(one) for n, one in enumerate(logs) if n != 2}
    _killed_at(monkeypatch, "2.csv", tmp_path / "mark", 99)
    rows = dict(read_here(logs, jobs))
    lost = rows.pop(2)
    assert rows == expected
    assert lost is not None
    assert "2.csv: the process that read it was killed 2 times" in str(lost.problem)


def test_where_no_process_can_be_started_it_says_so(logs: list[Found], monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(crew: object) -> None:
        raise OSError(11, "Resource temporarily unavailable")

    monkeypatch.setattr(working._Crew, "_started", refused)
    with pytest.raises(InputError, match="No process can be started"):
        list(read_here(logs, 2))


def test_what_is_left_unfinished_leaves_no_process(logs: list[Found]) -> None:
    rows = read_here(logs, 2)
    next(rows)
    rows.close()  # type: ignore[attr-defined]
