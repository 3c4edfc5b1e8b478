"""``mlflow:RUN_ID`` finds the run on the disk, here or where MLflow's own variable points, and asks no server."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest
from test_stores import NORMS, mlflow

from clipcal.errors import InputError
from clipcal.logs.addresses import located
from clipcal.logs.reading import read_log
from clipcal.recommendation.evidence import load


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    return tmp_path / "here"


def database(path: Path, *runs: str) -> Path:
    """The table of runs of mlflow 3.17.2, as far as it matters."""
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("CREATE TABLE runs (run_uuid VARCHAR(32), name VARCHAR(250), start_time BIGINT)")
        connection.executemany("INSERT INTO runs VALUES (?, 'a name', 0)", [(run,) for run in runs])
    return path


def refused(address: str) -> str:
    with pytest.raises(InputError) as e:
        located(Path(address))
    return str(e.value)


def test_a_run_in_mlruns(here: Path) -> None:
    run = mlflow(here)
    np.testing.assert_array_equal(read_log(f"mlflow:{run.name}").series[0].grad_norm, NORMS)
    np.testing.assert_array_equal(load(Path(f"mlflow:{run.name}")).norms, NORMS)


@pytest.mark.parametrize("form", ["{}", "file:{}", "file://{}"])
def test_a_store_elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, form: str) -> None:
    run = mlflow(tmp_path / "else where")
    store = str(run.parent.parent)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", form.format(store if form == "{}" else store.replace(" ", "%20")))
    assert located(Path(f"mlflow:{run.name}")) == run


def test_a_database_of_one_run(tmp_path: Path, here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    database(here / "mlflow.db", "abc")
    assert located(Path("mlflow:abc")) == Path("mlflow.db")
    other = database(tmp_path / "other.db", "def")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{other}")
    assert located(Path("mlflow:def")) == other


def test_a_run_among_others_is_chosen_in_the_database(here: Path) -> None:
    database(here / "mlflow.db", "abc", "def")
    assert refused("mlflow:abc").startswith("mlflow.db: holds the run abc among others.")


def test_what_is_not_there_is_refused(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert refused("mlflow:abc").startswith("mlflow:abc: there is no such run in mlruns and mlflow.db.")
    for address in ("mlflow:", "mlflow:../abc", "mlflow:a/b"):
        assert "is no address of an MLflow run" in refused(address)
    (here / "mlflow.db").write_text("no database, but a text that is long enough to be taken for one" * 9)
    assert "cannot be read as MLflow's database" in refused("mlflow:abc")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "https://example.org")
    assert refused("mlflow:abc").startswith("MLFLOW_TRACKING_URI is 'https://example.org', and clipcal asks no server.")


def test_a_file_of_that_name_is_a_file(here: Path) -> None:
    (here / "mlflow:abc").write_text("step,grad_norm\n1,2\n")
    assert located(Path("mlflow:abc")) == Path("mlflow:abc")
