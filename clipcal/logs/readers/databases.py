"""SQLite databases of trackers (MLflow, trackio, neptune-scale) -> rows, run by run in the order in which they began.

A database is opened for reading alone, and nothing is written beside it.
"""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Iterator
from contextlib import closing
from typing import TYPE_CHECKING, Any, ClassVar

from clipcal.errors import InputError
from clipcal.logs.choice import listed
from clipcal.logs.log import Log, Reader
from clipcal.logs.names import kind_of, value_of
from clipcal.logs.rows import Rows, flatten
from clipcal.logs.source import Source
from clipcal.logs.tfrecord import BYTES, FIXED64, VARINT, Malformed, double, fields, varint

if TYPE_CHECKING:
    import sqlite3  # it is loaded where a database is read

_MAGIC = b"SQLite format 3\0"
_WANTED = ("norm", "loss", "lr", "scale", "step")
MAX_RUNS = 1_000
Row = tuple[dict[str, Any], float | None]


class Database:
    """A tracker's database, in the attributes and methods of a subclass. ``tables`` are those that it is known by."""

    title: ClassVar[str]
    norms: ClassVar[str]
    tables: ClassVar[frozenset[str]]

    def __init__(self, connection: sqlite3.Connection) -> None:
        self.all = connection.execute

    def runs(self) -> list[tuple[str, str]]:
        """The identity and the name of every run."""
        raise NotImplementedError

    def rows(self, run: str) -> Iterator[Row]:
        """The rows of a run, and their steps."""
        raise NotImplementedError

    def settings(self, run: str) -> dict[str, Any]:
        """What the run was started with."""
        return {}

    @classmethod
    def recognises(cls, source: Source) -> bool:
        return source.head.startswith(_MAGIC) and cls.tables <= _tables(source)

    @classmethod
    def read(cls, source: Source) -> Log:
        import sqlite3

        rows, names, limits = Rows(), [], set()
        try:
            with closing(_connected(source)) as connection:
                database = cls(connection)
                for run, name in database.runs()[:MAX_RUNS]:
                    rows.start_run()
                    has_norm = False
                    for row, step in database.rows(run):
                        rows.add(row, step=step)
                        has_norm = has_norm or any(kind_of(key) == "norm" for key in row)
                    if not has_norm:
                        continue
                    names.append(name)
                    limits |= {
                        (key, value)
                        for key, raw in database.settings(run).items()
                        if kind_of(key) == "threshold" and (value := value_of(raw)) is not None
                    }
        except (sqlite3.Error, UnicodeDecodeError) as e:  # its messages quote what it cannot read
            raise InputError(
                f"{source.path}: is a database that cannot be read ({e}). Copy it again, or export the run."
            ) from None
        if len(names) > 1:
            rows.notes.append(f"Its runs are, in this order: {listed(names)}.")
        if len({value for _, value in limits}) == 1:
            name, value = min(limits)
            rows.threshold(f"{name} of the run", value)
        return rows.log(cls.title)

    @classmethod
    def reader(cls) -> Reader:
        return Reader(title=cls.title, recognises=cls.recognises, read=cls.read, norms=cls.norms)


class _MLflow(Database):
    """MLflow 3.17.2: NaN is 0.0 with is_nan 1, and infinity the largest double."""

    title = "MLflow database"
    norms = 'call mlflow.log_metric("train/grad_norm", norm, step=step) at every step'
    tables = frozenset(("metrics", "params", "runs"))

    def runs(self) -> list[tuple[str, str]]:
        found = self.all("SELECT run_uuid, name FROM runs ORDER BY start_time, run_uuid")
        return [(run, str(name or run)) for run, name in found]

    def rows(self, run: str) -> Iterator[Row]:
        keys = [key for (key,) in self.all("SELECT DISTINCT key FROM metrics WHERE run_uuid = ?", (run,))]
        for key in keys:
            if kind_of(key) not in _WANTED:
                continue
            points = self.all(
                "SELECT value, step, is_nan FROM metrics WHERE run_uuid = ? AND key = ? ORDER BY step, timestamp",
                (run, key),
            ).fetchall()
            # who logs without a step leaves 0 everywhere
            numbered = len({step for _, step, _ in points}) > 1 or len(points) < 2
            for value, step, is_nan in points:
                yield {key: math.nan if is_nan else _finite(value)}, float(step) if numbered else None

    def settings(self, run: str) -> dict[str, Any]:
        return dict(self.all("SELECT key, value FROM params WHERE run_uuid = ?", (run,)))


class _Trackio(Database):
    """trackio 0.43.0: a row is the JSON of a whole log call, with what is not finite as text."""

    title = "trackio database"
    norms = 'call trackio.log({"train/grad_norm": norm}) at every step'
    tables = frozenset(("metrics", "configs"))

    def runs(self) -> list[tuple[str, str]]:
        found = self.all("SELECT run_name FROM metrics GROUP BY run_name ORDER BY MIN(id)")
        return [(run, str(run)) for (run,) in found]

    def rows(self, run: str) -> Iterator[Row]:
        for step, text in self.all("SELECT step, metrics FROM metrics WHERE run_name = ? ORDER BY id", (run,)):
            row = _object(text)
            if row:
                yield flatten(row), value_of(step)

    def settings(self, run: str) -> dict[str, Any]:
        found: dict[str, Any] = {}
        for (text,) in self.all("SELECT config FROM configs WHERE run_name = ?", (run,)):
            found |= flatten(_object(text))
        return found


class _Neptune(Database):
    """neptune-scale 0.30.0: an operation is a message with the step in its field 1, and a name and a double in each of its fields 8."""

    title = "Neptune's offline database"
    norms = 'call run.log_metrics({"train/grad_norm": norm}, step=step) at every step'
    tables = frozenset(("run_operations",))

    def runs(self) -> list[tuple[str, str]]:
        return [("", "the run")]

    def rows(self, run: str) -> Iterator[Row]:
        for (operation,) in self.all("SELECT operation FROM run_operations ORDER BY sequence_id"):
            try:
                row, step = _operation(bytes(operation))
            except (Malformed, TypeError):
                continue
            if row:
                yield row, step


def _operation(data: bytes) -> tuple[dict[str, Any], float | None]:
    row: dict[str, Any] = {}
    step: float | None = 0.0
    for number, kind, at, end in fields(data, 0, len(data)):
        if kind != BYTES:
            continue
        if number == 1:
            wholes = [varint(data, a, b)[0] for n, k, a, b in fields(data, at, end) if (n, k) == (1, VARINT)]
            step = float(wholes[0]) if wholes else 0.0
        elif number == 8:
            name, value = "", None
            for n, k, a, b in fields(data, at, end):
                if (n, k) == (1, BYTES):
                    name = data[a:b].decode("utf-8", "replace")
                elif (n, k) == (2, BYTES):
                    value = next(
                        (double(data, c) for m, j, c, _ in fields(data, a, b) if (m, j) == (1, FIXED64)), value
                    )
            if name and value is not None:
                row[name] = value
    return row, step


def _connected(source: Source) -> sqlite3.Connection:
    import sqlite3

    still = "" if source.path.with_name(f"{source.path.name}-wal").exists() else "&immutable=1"
    connection = sqlite3.connect(f"{source.path.absolute().as_uri()}?mode=ro{still}", uri=True)
    connection.text_factory = lambda text: text.decode("utf-8", "replace")
    return connection


def _tables(source: Source) -> set[str]:
    import sqlite3

    try:
        with closing(_connected(source)) as connection:
            return {name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
    except (sqlite3.Error, UnicodeDecodeError):
        return set()


def _finite(value: Any) -> Any:
    largest = sys.float_info.max
    return math.copysign(math.inf, value) if isinstance(value, float) and abs(value) == largest else value


def _object(text: Any) -> dict[str, Any]:
    try:
        found = json.loads(text)
    except (ValueError, TypeError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


MLFLOW, TRACKIO, NEPTUNE = _MLflow.reader(), _Trackio.reader(), _Neptune.reader()
