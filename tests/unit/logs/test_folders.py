"""A folder of clipcal's own runs is none of logs: what is to be named is the run."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from conftest import write_trace

from clipcal.errors import InputError
from clipcal.logs.reading import read_log


def run(folder: Path, arms: int = 6) -> Path:
    """A run of clipcal's own, as far as a folder shows it."""
    folder.mkdir(parents=True)
    (folder / "run.json").write_text(json.dumps({"schema": "clipcal.run/1", "name": folder.name}, indent=1))
    write_trace(folder / "trace.jsonl", [1.0, 2.0, 1.5])
    for seed in range(arms):
        write_trace(folder / "arms" / f"max_norm=1-seed{seed}.jsonl", [1.0, 2.0, 1.5])
    return folder


def refused(folder: Path) -> str:
    with pytest.raises(InputError) as e:
        read_log(folder)
    return str(e.value)


def test_a_folder_of_one_run_names_it(tmp_path: Path) -> None:
    one = run(tmp_path / "runs" / "char-lstm")
    assert refused(tmp_path / "runs") == f"{tmp_path / 'runs'}: holds 1 run: {one}; name it."
    assert refused(tmp_path) == f"{tmp_path}: holds 1 run: {one}; name it."


def test_a_folder_of_several_runs_names_them(tmp_path: Path) -> None:
    runs = [run(tmp_path / "runs" / name) for name in ("b", "a", "c")]
    names = ", ".join(map(str, sorted(runs)))
    assert refused(tmp_path / "runs") == f"{tmp_path / 'runs'}: holds 3 runs: {names}; name one of them."
    for i in range(20):
        run(tmp_path / "runs" / f"d{i:02d}", arms=0)
    assert re.search(r"holds 23 runs: .* and 13 more; name one of them", refused(tmp_path / "runs"))


def test_the_arms_of_a_run_are_no_logs(tmp_path: Path) -> None:
    one = run(tmp_path / "runs" / "char-lstm")
    assert refused(one / "arms") == f"{one / 'arms'}: holds the arms of a run; name the run, {one}, or one of its arms."


def test_a_log_beside_runs_is_read(tmp_path: Path) -> None:
    run(tmp_path / "runs" / "char-lstm")
    write_trace(tmp_path / "output" / "metrics.jsonl", [1.0, 2.0])
    assert [len(series) for series in read_log(tmp_path).series] == [2]


def test_a_run_json_of_others_makes_no_run(tmp_path: Path) -> None:
    """Sacred writes one too."""
    (tmp_path / "1").mkdir()
    (tmp_path / "1" / "run.json").write_text('{"artifacts": [], "status": "COMPLETED"}')
    write_trace(tmp_path / "1" / "metrics.jsonl", [1.0, 2.0])
    assert [len(series) for series in read_log(tmp_path).series] == [2]
