"""What a run was made from: asked by attributes, written back as it was read, and the exit codes that stand in one table."""

from __future__ import annotations

import ast
import json
from pathlib import Path
from typing import Any

import pytest
from golden.reading import copied, golden_runs, name_of

from clipcal.errors import (
    ClipcalError,
    Exit,
    InputError,
    MissingPackage,
    OutputLost,
    RankLost,
    SpecError,
    UserCodeError,
)
from clipcal.run.directory import open_run
from clipcal.run.source import KINDS, ScriptSource, Source, SpecSource, WatchSource, source_of

PACKAGE = Path(__file__).parents[3] / "clipcal"
SPEC = {
    "kind": "spec",
    "path": "a.yaml",
    "folder": "/p",
    "cwd": "/p/q",
    "text": "data: {batch_size: 8}",
    "overrides": {},
}
SCRIPT = {"kind": "script", "path": "train.py", "words": ["train.py", "--lr", "1"], "cwd": "/p"}


@pytest.mark.parametrize("golden", golden_runs(), ids=name_of)
def test_a_run_is_written_back_byte_for_byte(golden: Path) -> None:
    with copied(golden) as folder:
        before = (folder / "run.json").read_bytes()
        open_run(folder).save()
        assert (folder / "run.json").read_bytes() == before


@pytest.mark.parametrize("kind", [*KINDS, "notebook"])
def test_keys_of_a_later_version_stay(tmp_path: Path, kind: str) -> None:
    golden = next(g for g in golden_runs() if g.name == "calibrated")
    with copied(golden) as folder:
        path = folder / "run.json"
        raw: dict[str, Any] = json.loads(path.read_text())
        raw["source"] |= {"later": [1, {"x": None}], "kind": kind}
        if kind == "script":
            raw["source"]["words"] = ["train.py"]
        path.write_text(json.dumps(raw))
        run = open_run(folder).save(steps=7)
        assert json.loads(path.read_text())["source"] == raw["source"]
        assert run.info.source.kind == kind


def test_the_kinds() -> None:
    assert [type(source_of({"kind": kind})) for kind in ("spec", "script", "watch", "notebook")] == [
        SpecSource,
        ScriptSource,
        WatchSource,
        Source,
    ]
    assert source_of({}).kind is None
    assert [source_of({"kind": kind}).needs_torch for kind in ("spec", "script", "watch")] == [True, False, False]


@pytest.mark.parametrize(
    ("record", "here", "shown"),
    [
        (SPEC, "/p/q", "a.yaml"),
        (SPEC, "/p", "a.yaml"),
        (SPEC, "/", "p/a.yaml"),
        (SPEC, "/other", "/p/a.yaml"),
        (SCRIPT, "/p", "train.py --lr 1"),
        (SCRIPT, "/other", "train.py --lr 1 (in /p)"),
        ({"kind": "script", "path": "train.py"}, "/p", "train.py"),
        ({"kind": "watch", "path": "train.py"}, "/p", "train.py (watched)"),
        ({"kind": "watch"}, "/p", "unknown (watched)"),
        ({}, "/p", "unknown"),
    ],
)
def test_a_source_as_it_would_be_typed(record: dict[str, Any], here: str, shown: str) -> None:
    assert source_of(record).shown(Path(here)) == shown


@pytest.mark.parametrize(
    ("text", "batch"),
    [
        ("data: {batch_size: 8}\naccumulate: 4", (8, 4)),
        ("data: {batch_size: 8}", (8, 1)),
        ("data: {batch_size: true}\naccumulate: 0", (None, 1)),
        ("data: {}", (None, 1)),
        ("no: [spec", (None, 1)),
        ("", (None, 1)),
    ],
)
def test_the_batch_that_a_spec_names(text: str, batch: tuple[int | None, int]) -> None:
    assert source_of(SPEC).changed(text=text).batch == batch
    assert source_of(SCRIPT | {"text": text}).batch == (None, 1)


def test_a_source_is_read_by_its_keys_in_one_module() -> None:
    """Other modules ask it by attributes: ``run.info.source["path"]`` and ``source.get("kind")`` are nowhere."""
    found = []
    for path in PACKAGE.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            value = node.value if isinstance(node, ast.Subscript | ast.Attribute) else None
            by_key = isinstance(node, ast.Subscript) or (isinstance(node, ast.Attribute) and node.attr == "get")
            if by_key and isinstance(value, ast.Attribute) and value.attr == "source":
                found.append(f"{path}:{value.lineno}")
    assert found == []


def test_every_error_ends_with_a_code_of_the_table() -> None:
    codes: dict[type[ClipcalError], int] = {
        InputError: 2,
        SpecError: 2,
        MissingPackage: 2,
        UserCodeError: 4,
        RankLost: 4,
        ClipcalError: 1,
    }
    assert {error: error.exit_code for error in codes} == codes
    assert OutputLost("standard output", BrokenPipeError(32, "Broken pipe")).exit_code == 141
    assert OutputLost("standard output", OSError(28, "No space left on device")).exit_code == 2
    assert [int(code) for code in Exit] == [0, 1, 2, 3, 4, 130, 141]


def test_the_table_of_exit_codes_lists_them_all() -> None:
    table = (PACKAGE / "errors.py").read_text(encoding="utf-8").partition("import annotations")[0]
    for code in Exit:
        assert f"{code.value:>3}  {code.name}" in table


def test_no_other_module_writes_an_exit_code_as_a_number() -> None:
    found = []
    for path in PACKAGE.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if not isinstance(node, ast.Call):
                continue
            given = [part for a in node.args for part in ([a.body, a.orelse] if isinstance(a, ast.IfExp) else [a])]
            numbers = [part for part in given if isinstance(part, ast.Constant) and isinstance(part.value, int)]
            if numbers and ast.unparse(node.func) in ("typer.Exit", "sys.exit", "stop"):
                found.append(f"{path}:{node.lineno}")
    assert found == []
