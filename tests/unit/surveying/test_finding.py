"""What below a folder is a log, a run, one training in several files, and what is passed over, counted."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from made_runs import make_run, quiet

from clipcal.errors import InputError
from clipcal.surveying import finding
from clipcal.surveying.finding import find


def write(path: Path, text: str = "x") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


def found_in(folder: Path) -> dict[str, str]:
    return {str(f.path.relative_to(folder)): f.how for f in find([folder]).found}


def test_names_say_what_is_a_log(tmp_path: Path) -> None:
    for name in ("metrics.csv", "data.csv", "train.log", "rows.jsonl", "slurm-12.out", "notes", "run-1.log.json"):
        write(tmp_path / name)
    for name in ("train.py", "loss.png", "model.safetensors", "config.yaml", ".hidden"):
        write(tmp_path / name)
    assert found_in(tmp_path) == {
        "metrics.csv": "named",
        "run-1.log.json": "named",
        "data.csv": "general",
        "train.log": "general",
        "rows.jsonl": "general",
        "slurm-12.out": "unnamed",
        "notes": "unnamed",
    }
    assert find([tmp_path]).passed_over == {"other": 5, "older": 0, "links": 0, "folders": 0}


def test_a_run_is_one_row_and_nothing_is_looked_for_in_it(tmp_path: Path) -> None:
    make_run(tmp_path / "deep" / "run", quiet())
    assert found_in(tmp_path) == {"deep/run": "run"}
    assert found_in(tmp_path / "deep" / "run") == {".": "run"}


def test_a_run_json_of_others_hides_no_log(tmp_path: Path) -> None:
    write(tmp_path / "run.json", '{"experiment": 1}')
    write(tmp_path / "metrics.csv")
    assert found_in(tmp_path) == {"run.json": "unnamed", "metrics.csv": "named"}


def test_a_run_whose_record_is_damaged_is_a_row(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run", quiet())
    (run.folder / "run.json").write_text("{")
    assert found_in(tmp_path) == {"run": "run"}


def test_checkpoints_are_one_training_and_the_one_that_reached_furthest_is_first(tmp_path: Path) -> None:
    for step in (900, 1000, 200):
        write(tmp_path / "out" / f"checkpoint-{step}" / "trainer_state.json")
    (one,) = (search := find([tmp_path])).found
    assert [path.parent.name for path in one.files] == ["checkpoint-1000", "checkpoint-900", "checkpoint-200"]
    assert search.passed_over["older"] == 2


@pytest.mark.parametrize(("step", "first"), [(1000, "out"), (1200, "out"), (400, "checkpoint-1000")])
def test_the_state_above_the_checkpoints_stands_where_its_step_does(tmp_path: Path, step: int, first: str) -> None:
    write(tmp_path / "out" / "checkpoint-1000" / "trainer_state.json")
    write(tmp_path / "out" / "trainer_state.json", f'{{\n "global_step": {step},\n "log_history": []}}')
    (one,) = find([tmp_path]).found
    assert one.path.parent.name == first


def test_trainings_beside_each_other_are_two(tmp_path: Path) -> None:
    for name in ("a", "b"):
        write(tmp_path / name / "checkpoint-5" / "trainer_state.json")
    assert len(find([tmp_path]).found) == 2


def test_event_files_of_a_folder_are_one_log(tmp_path: Path) -> None:
    for n in range(3):
        write(tmp_path / "tb" / f"events.out.tfevents.{n}.host")
    (one,) = find([tmp_path]).found
    assert (one.path, len(one.files)) == (tmp_path / "tb", 3)


def test_a_wandb_folder_is_one_log(tmp_path: Path) -> None:
    write(tmp_path / "wandb" / "run-1-abc" / "run-abc.wandb")
    write(tmp_path / "wandb" / "run-1-abc" / "debug.log")
    write(tmp_path / "wandb" / "run-1-abc" / "files" / "output.log")
    search = find([tmp_path])
    assert [f.path.name for f in search.found] == ["run-abc.wandb"]
    assert search.passed_over == {"other": 1, "older": 0, "links": 0, "folders": 1}


def test_links_hidden_folders_and_environments_are_not_followed(tmp_path: Path) -> None:
    write(tmp_path / "real" / "metrics.csv")
    (tmp_path / "real" / "again").symlink_to(tmp_path)
    (tmp_path / "link.csv").symlink_to(tmp_path / "real" / "metrics.csv")
    write(tmp_path / ".git" / "metrics.csv")
    write(tmp_path / "venv" / "pyvenv.cfg")
    write(tmp_path / "venv" / "lib" / "metrics.csv")
    search = find([tmp_path])
    assert [str(f.path.relative_to(tmp_path)) for f in search.found] == ["real/metrics.csv"]
    assert search.passed_over == {"other": 0, "older": 0, "links": 2, "folders": 2}


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="has no pipes with names")
def test_a_pipe_is_not_waited_for(tmp_path: Path) -> None:
    for name in ("trainer_state.json", "a.csv", "events.out.tfevents.1", "run-a.wandb"):
        os.mkfifo(tmp_path / name)
    write(tmp_path / "checkpoint-5" / "trainer_state.json")
    search = find([tmp_path])
    assert [f.path.parent.name for f in search.found] == ["checkpoint-5"]
    assert search.passed_over["other"] == 4


def test_folders_in_each_other_are_read_once(tmp_path: Path) -> None:
    write(tmp_path / "a" / "metrics.csv")
    assert len(find([tmp_path, tmp_path / "a", tmp_path / "a" / "metrics.csv"]).found) == 1


def test_a_file_that_is_named_is_read_whatever_it_is_called(tmp_path: Path) -> None:
    (one,) = find([write(tmp_path / "odd.py")]).found
    assert one.how == "named"


def test_what_lies_too_deep_is_said(tmp_path: Path) -> None:
    deep = tmp_path.joinpath(*"abcdefgh")
    write(deep / "metrics.csv")
    write(deep.parent / "metrics.csv")
    search = find([tmp_path])
    assert [f.path for f in search.found] == [deep.parent / "metrics.csv"]
    assert "more than 8 levels below" in search.notes[0]
    assert str(deep) in search.notes[0]


def test_a_search_that_ends_early_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(finding, "MAX_ENTRIES", 5)
    for n in range(4):
        for m in range(4):
            write(tmp_path / f"{n}" / f"{m}.csv")
    search = find([tmp_path])
    assert 0 < len(search.found) < 16
    assert len(search.notes) == 1
    assert "ended after 5 names" in search.notes[0]


def test_a_folder_that_is_not_there_is_refused(tmp_path: Path) -> None:
    (tmp_path / "runs").mkdir()
    with pytest.raises(InputError, match=r"no such folder\. Did you mean '.*runs'"):
        find([tmp_path / "rums"])


@pytest.mark.skipif(os.geteuid() == 0, reason="root may look anywhere")
def test_a_folder_where_one_may_not_look_is_said(tmp_path: Path) -> None:
    (tmp_path / "closed").mkdir(mode=0)
    search = find([tmp_path])
    assert search.notes == (f"{tmp_path / 'closed'}: may not be looked into.",)


def test_the_runs_of_trackers_are_one_row_each(tmp_path: Path) -> None:
    run = tmp_path / "mlruns" / "0" / "a1"
    for metric in ("train/grad_norm", "train/loss"):
        (run / "metrics" / metric).parent.mkdir(parents=True, exist_ok=True)
        (run / "metrics" / metric).write_text("1 2.0 0\n1 2.0 1\n")
    (run / "meta.yaml").write_text("run_id: a1\n")
    (tmp_path / ".neptune" / "offline" / "x").mkdir(parents=True)
    (tmp_path / ".neptune" / "offline" / "x" / "data-1.log").write_text("{}\n")
    (tmp_path / "offline-1").mkdir()
    (tmp_path / "offline-1" / "metrics.jsonl").write_text("[]\n")
    (tmp_path / "offline-1.zip").write_bytes(b"PK")
    found = {str(f.path.relative_to(tmp_path)) for f in find([tmp_path]).found if f.how == "named"}
    assert found == {"mlruns/0/a1", ".neptune/offline/x/data-1.log", "offline-1/metrics.jsonl"}
