"""docs/format.md names every file and every key that the golden runs hold, and every field that readers rely on."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from golden.reading import golden_runs, name_of

from clipcal._version import __version__
from clipcal.recommendation.answer import SCHEMA as RECOMMENDATION_SCHEMA
from clipcal.run import records
from clipcal.run.directory import _OWN
from clipcal.run.records import Kind
from clipcal.verification.answer import SCHEMA as VERIFICATION_SCHEMA

DOCS = Path(__file__).parents[3] / "docs"
PAGE = (DOCS / "format.md").read_text(encoding="utf-8")
JSON_PAGE = (DOCS / "json.md").read_text(encoding="utf-8")
OF_THE_USER = ("overrides", "versions", "machine", "baselines")
"""Objects whose keys are names of other things."""


def keys_of(value: Any) -> Iterator[str]:
    for key, inner in value.items() if isinstance(value, dict) else ():
        yield key
        if key not in OF_THE_USER:
            yield from keys_of(inner)
    for item in value if isinstance(value, list) else ():
        yield from keys_of(item)


def objects_in(path: Path) -> Iterator[Any]:
    if path.suffix == ".json":
        yield json.loads(path.read_text(encoding="utf-8"))
    elif path.suffix == ".f32":
        yield json.loads(path.read_bytes().split(b"\n", 1)[0])
    else:
        yield from map(json.loads, path.read_text(encoding="utf-8").split("\n")[:-1])


@pytest.mark.parametrize("golden", golden_runs(), ids=name_of)
def test_every_key_of_a_golden_run_is_named(golden: Path) -> None:
    for path in (p for p in (golden / "run").rglob("*") if p.is_file()):
        page = PAGE + JSON_PAGE if path.name in ("recommendation.json", "verification.json") else PAGE
        for key in {key for value in objects_in(path) for key in keys_of(value)}:
            assert f"`{key}`" in page or f'"{key}":' in page, f"docs/format.md does not name {key!r} of {path.name}"


@pytest.mark.parametrize("golden", golden_runs(), ids=name_of)
def test_every_file_of_a_golden_run_is_named(golden: Path) -> None:
    for path in (p.relative_to(golden / "run") for p in (golden / "run").rglob("*") if p.is_file()):
        known = re.sub(r"arms/.*\.jsonl", "arms/NAME-seedK.jsonl", path.as_posix())
        assert f"  {known}" in PAGE, f"docs/format.md does not name {path}"


def test_every_file_that_clipcal_writes_is_named() -> None:
    for name in _OWN:
        assert name.removesuffix(".partial") in PAGE


def test_every_field_that_readers_rely_on_is_named() -> None:
    tables = [records.RUN, records.RECOMMENDATION, records.VERIFICATION, records.CHOICE, records.STEP_LINE]
    tables += [records.ROWS_HEADER, records.SCALE_HEADER, records.SCALE_LINE, *records.SOURCES.values()]

    def fields(table: Mapping[str, Kind]) -> Iterator[str]:
        for name, kind in table.items():
            yield name
            yield from fields(kind.inner or {})
            yield from fields(kind.each.inner or {} if kind.each else {})

    for name in (name for table in tables for name in fields(table)):
        assert f"`{name}`" in PAGE + JSON_PAGE, name
    for word in (*records.STATUSES, *records.SOURCES):
        assert f"`{word}`" in PAGE, word


def test_what_the_page_calls_optional_is_optional() -> None:
    """And the other way round, for the fields that stand in a table of three columns."""
    told = {"run.json": records.RUN, "trace.jsonl, guarded.jsonl": records.STEP_LINE, "choice.json": records.CHOICE}
    for title, table in told.items():
        section = PAGE[PAGE.index(f"## {title}") :].partition("\n## ")[0]
        rows = dict(re.findall(r"^\| `(\w+)` \| ([^|]+) \|", section, re.MULTILINE))
        assert rows.keys() >= table.keys()
        for name, kind in table.items():
            assert ("optional" in rows[name]) is not kind.required, f"{title}: {name}"


def test_the_history_ends_with_this_version_and_its_schemas() -> None:
    rows = [
        [cell.strip() for cell in line.strip("|").split("|")]
        for line in PAGE[PAGE.index("## History") :].splitlines()
        if line.startswith("| ")
    ]
    schemas = {cell.strip("`"): rows[-1][i] for i, cell in enumerate(rows[0]) if cell.startswith("`clipcal.")}
    written = {schema: newest for schema, newest, _ in records.FILES.values()}
    written |= {"clipcal.layers": 1, "clipcal.scale": 1}
    assert schemas == {name: str(number) for name, number in written.items()}
    assert f"clipcal.recommendation/{written['clipcal.recommendation']}" == RECOMMENDATION_SCHEMA
    assert f"clipcal.verification/{written['clipcal.verification']}" == VERIFICATION_SCHEMA
    dates = [row[0] for row in rows[2:]]
    assert dates == sorted(dates)
    assert rows[-1][1] == __version__ or any(g.parent.name == rows[-1][1] for g in golden_runs())
