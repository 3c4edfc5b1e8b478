"""``mlflow:RUN_ID`` -> where that run lies on this disk. Nothing is asked of a server."""

from __future__ import annotations

import os
import re
from contextlib import closing
from pathlib import Path
from urllib.parse import unquote, urlsplit

from clipcal.errors import InputError

PREFIX = "mlflow:"
_ID = re.compile(r"[A-Za-z0-9][\w-]{0,255}")
_VARIABLE = "MLFLOW_TRACKING_URI"
_STORE, _DATABASE = Path("mlruns"), Path("mlflow.db")
_MAX_EXPERIMENTS = 10_000


def located(path: Path) -> Path:
    """The folder, or the database, of the run that an address names; any other path as it is.

    It is looked up in ``mlruns`` and ``mlflow.db`` here, or in the path, ``file:`` or ``sqlite:`` of ``MLFLOW_TRACKING_URI``. Raises
    InputError where it is not there.
    """
    if not str(path).startswith(PREFIX) or os.path.lexists(path):
        return path
    run = str(path).removeprefix(PREFIX)
    if not _ID.fullmatch(run):
        raise InputError(
            f"{path}: is no address of an MLflow run. Write mlflow: and the run's ID, as mlflow.db or mlruns has it."
        )
    store, database = _places()
    found = _in_store(store, run) if store is not None else None
    found = found or (_in_database(database, run) if database is not None else None)
    if found is None:
        looked = " and ".join(str(place) for place in (store, database) if place is not None)
        raise InputError(
            f"{path}: there is no such run in {looked}. Go to the folder that holds it, or set {_VARIABLE}."
        )
    return found


def _places() -> tuple[Path | None, Path | None]:
    """The folder of a file store and the file of a database."""
    address = os.environ.get(_VARIABLE, "")
    if not address:
        return _STORE, _DATABASE
    parts = urlsplit(address)
    if parts.scheme == "sqlite":  # three slashes before a relative path, four before an absolute one
        return None, Path(unquote(parts.path).removeprefix("/"))
    if parts.scheme in ("", "file"):
        return Path(unquote(parts.path) if parts.scheme else address), None
    raise InputError(
        f"{_VARIABLE} is {address!r}, and clipcal asks no server. Set it to a folder, file: or sqlite:, or export the run's metrics to "
        "CSV and name that file."
    )


def _in_store(store: Path, run: str) -> Path | None:
    try:
        experiments = sorted(entry.path for entry in os.scandir(store) if entry.is_dir())[:_MAX_EXPERIMENTS]
    except OSError:
        return None
    return next((Path(e) / run for e in experiments if is_run(Path(e) / run)), None)


def is_run(folder: Path) -> bool:
    """Whether a folder is the run of a file store."""
    return (folder / "meta.yaml").is_file() and (folder / "metrics").is_dir()


def _in_database(database: Path, run: str) -> Path | None:
    """The database, if the run is its only one. A log of several is chosen within by ``--run``."""
    if not database.is_file():
        return None
    import sqlite3

    try:
        with closing(sqlite3.connect(f"{database.absolute().as_uri()}?mode=ro", uri=True)) as connection:
            runs = connection.execute("SELECT run_uuid FROM runs WHERE run_uuid = ?", (run,)).fetchall()
            others = connection.execute("SELECT 1 FROM runs WHERE run_uuid != ? LIMIT 1", (run,)).fetchall()
    except (sqlite3.Error, UnicodeDecodeError) as e:
        raise InputError(f"{database}: cannot be read as MLflow's database ({e}). Copy it again.") from None
    if runs and others:
        raise InputError(
            f"{database}: holds the run {run} among others. Name the database itself, and choose the run with --run."
        )
    return database if runs else None
