"""A row says what recommend and check say, and whatever is wrong with a file is in it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from made_runs import Floats, make_run, quiet, runaway, spiky
from survey_samples import found, table, trainer_state

from clipcal.checking import check
from clipcal.recommendation.evidence import load
from clipcal.stats import summarise
from clipcal.surveying import reading
from clipcal.surveying.finding import Found, find
from clipcal.surveying.reading import row_of
from clipcal.surveying.row import Row


def read(path: Path) -> Row:
    row = row_of(found(path))
    assert row is not None
    return row


@pytest.mark.parametrize(
    ("threshold", "state", "fits"), [(0.3, "too low", False), (3.0, "fits", True), (1000.0, "too high", False)]
)
def test_a_row_is_what_check_says(tmp_path: Path, threshold: float, state: str, fits: bool) -> None:
    norms = spiky()
    path = trainer_state(tmp_path / "out" / "checkpoint-400", norms, threshold)
    row, c = read(path), check(load(path))
    assert (row.state, row.fits, row.in_use) == (state, fits, threshold)
    assert row.in_use_from == c.max_norm_from == "max_grad_norm in args.json"
    assert (row.verdict, row.max_norm, row.spikes) == ("spikes", c.recommendation.max_norm, 7)
    assert row.name == "out"
    assert row.reason == c.reasons[0]
    ordinary = np.delete(norms, np.arange(50, 400, 50))
    assert row.acts == pytest.approx(np.mean(ordinary > threshold), abs=0.01)
    assert row.takes == pytest.approx(1 - np.mean(np.minimum(threshold / ordinary, 1)), abs=0.01)
    assert row.passes == float(threshold == 1000.0)


def test_a_threshold_near_the_edge_is_borderline(tmp_path: Path) -> None:
    path = trainer_state(tmp_path / "plain", spiky())
    fitting = check(load(path), 2.0).fitting
    assert fitting is not None
    edge = (fitting.too_low * fitting.low) ** 0.5
    row = read(trainer_state(tmp_path / "edge", spiky(), edge))
    assert (row.state, row.fits, row.group) == ("borderline", "borderline", "borderline")


@pytest.mark.parametrize("threshold", [None, 0.3])
def test_norms_are_summarised_once(tmp_path: Path, threshold: float | None, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []

    def counted(norms: Floats, losses: Floats | None = None) -> object:
        seen.append(norms)
        return summarise(norms, losses)

    monkeypatch.setattr("clipcal.recommendation.calibration.summarise", counted)
    read(trainer_state(tmp_path / "out", spiky(), threshold))
    assert len(seen) == 1


def test_clipping_that_is_off_is_another_thing_than_one_that_nobody_knows(tmp_path: Path) -> None:
    off = read(trainer_state(tmp_path / "off", spiky(), 0.0))
    unknown = read(table(tmp_path / "log.csv", spiky()))
    calm = read(table(tmp_path / "calm.csv", quiet()))
    assert (off.state, off.group, off.fits) == ("off", "unguarded", None)
    assert (unknown.state, unknown.group) == ("none known", "unguarded")
    assert (calm.state, calm.group) == ("none known", "not_known")
    assert off.order < unknown.order < calm.order


def test_the_median_is_that_of_stable_training(tmp_path: Path) -> None:
    norms = spiky()
    row = read(table(tmp_path / "log.csv", norms))
    assert row.median == pytest.approx(np.median(np.delete(norms, np.arange(50, 400, 50))), rel=0.02)
    assert row.rows == 400


def test_a_run_has_its_own_name(tmp_path: Path) -> None:
    make_run(tmp_path / "run", runaway(), name="of-mine")
    (one,) = find([tmp_path]).found
    row = row_of(one)
    assert row is not None
    assert (row.format, row.name, row.verdict, row.path) == (
        "clipcal run",
        "of-mine",
        "diverging",
        str(tmp_path / "run"),
    )


def test_a_checkpoint_that_is_cut_off_gives_way_to_the_one_before_and_says_so(tmp_path: Path) -> None:
    trainer_state(tmp_path / "out" / "checkpoint-200", spiky(200))
    last = trainer_state(tmp_path / "out" / "checkpoint-400", spiky())
    last.write_text(last.read_text()[:30])
    (one,) = find([tmp_path]).found
    row = row_of(one)
    assert row is not None
    assert row.rows == 200
    assert "checkpoint-200" in row.path
    assert any("latest checkpoint cannot be read" in note for note in row.notes)


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("trainer_state.json", '{"log_history": [{"step": 1, "gr', "is not valid JSON"),
        ("metrics.csv", "step,loss\n1,2.0\n", "grad"),
        ("train.log", "", "is empty"),
        ("train.log", "epoch 1 loss 2.0\n" * 50, "log"),
    ],
)
def test_a_log_that_cannot_be_read_is_a_row_with_its_reason(tmp_path: Path, name: str, content: str, says: str) -> None:
    path = tmp_path / name
    path.write_text(content)
    (one,) = find([tmp_path]).found
    row = row_of(one)
    assert row is not None
    assert row.group == "unreadable"
    assert str(row.problem).startswith(str(path))
    assert says in str(row.problem)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("config.json", b'{"max_grad_norm": 1.0}'),
        ("people.csv", b"name,age\nAda,36\n"),
        ("weights", b"\x00\x01" * 500),
        ("README", b"Nothing of interest.\n"),
        ("prompts.jsonl", b'{"text": "hello"}\n'),
    ],
)
def test_a_file_that_is_no_log_by_its_content_is_no_row(tmp_path: Path, name: str, content: bytes) -> None:
    (tmp_path / name).write_bytes(content)
    (one,) = find([tmp_path]).found
    assert row_of(one) is None


def test_a_log_with_an_odd_name_is_known_by_its_content(tmp_path: Path) -> None:
    table(tmp_path / "slurm-12.out", spiky())
    (one,) = find([tmp_path]).found
    row = row_of(one)
    assert row is not None
    assert row.spikes == 7


def test_an_error_of_our_own_is_a_row_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def failing(found: Found) -> None:
        raise ZeroDivisionError("oh")

    monkeypatch.setattr(reading, "_evidence", failing)
    row = read(table(tmp_path / "log.csv", spiky()))
    assert "clipcal itself failed on it (ZeroDivisionError: oh)" in str(row.problem)
