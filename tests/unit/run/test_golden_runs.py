"""Runs of every version that was released: they are read as they were then, and the commands answer as they do."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from conftest import snapshot
from golden import make
from golden.reading import ANSWERS, GOLDEN, READ, answers, copied, differences, golden_runs, name_of, read
from typer.testing import CliRunner

from clipcal.cli.main import app

WRITES = {"recommend": {"recommendation.json"}, "check": set(), "runs": set(), "report": {"report.html"}}
"""The files that a command is meant to write into a run."""
each_golden_run = pytest.mark.parametrize("golden", golden_runs(), ids=name_of)


def test_there_are_golden_runs_of_the_first_version() -> None:
    assert {name_of(golden) for golden in golden_runs()} >= {
        f"0.1.0/{name}"
        for name in (
            *("calibrated", "script", "by-value", "per-tensor", "diverging", "guarded", "killed", "interrupted"),
            *("watched", "ranks", "scaled"),
        )
    }


@each_golden_run
def test_is_read_as_it_was(golden: Path) -> None:
    """This may never change: it is the promise that every later version reads every earlier run."""
    with copied(golden) as run:
        now = read(run)
    was = json.loads((golden / READ).read_text(encoding="utf-8"))
    assert differences(was, now, extra=True) == []


@each_golden_run
def test_is_answered_as_it_was(golden: Path) -> None:
    with copied(golden) as run:
        now = answers(run)
    was = json.loads((golden / ANSWERS).read_text(encoding="utf-8"))
    found = differences(was, json.loads(json.dumps(now)))
    assert found == [], (
        "where a rule changed on purpose: `PYTHONPATH=tests python -m golden.answers`, and a line in CHANGELOG.md"
    )


@each_golden_run
@pytest.mark.parametrize("command", WRITES)
def test_reading_changes_no_file(golden: Path, command: str) -> None:
    with copied(golden) as run:
        before = snapshot(run)
        words = [str(run), *(["--max-norm", "1"] if command == "check" else [])]
        assert CliRunner().invoke(app, [command, *words]).exit_code in (0, 3)
        after = snapshot(run)
    changed = {name for name in before.keys() | after.keys() if before.get(name) != after.get(name)}
    assert changed <= WRITES[command]


@each_golden_run
def test_the_trace_holds_what_its_lines_say(golden: Path) -> None:
    """Parsed here by other means, so that the golden numbers are those of the file."""
    told = json.loads((golden / READ).read_text(encoding="utf-8"))["traces"]["trace.jsonl"]
    text = (golden / "run" / "trace.jsonl").read_text(encoding="utf-8")
    rows = [json.loads(line) for line in text.split("\n")[:-1]]
    norms = [float(row["grad_norm"]) for row in rows]
    assert told["steps"] == [rows[0]["step"], rows[-1]["step"], len(rows)]
    finite = [norm for norm in norms if abs(norm) < float("inf")]
    assert told["grad_norm"]["sum"] == pytest.approx(sum(finite), rel=1e-9)
    assert told["grad_norm"]["inf"] + told["grad_norm"]["nan"] == len(norms) - len(finite)


def test_they_hold_nothing_of_the_machine_that_made_them() -> None:
    for path in (p for p in GOLDEN.rglob("*") if p.is_file() and p.suffix in (".json", ".jsonl", ".f32")):
        text = path.read_bytes().decode("utf-8", "replace")
        for absolute in re.findall(r'"(/[^"\n]{2,})"', text):
            assert absolute.startswith("/home/user/project"), f"{path} holds {absolute}"
        for platform in re.findall(r'"platform": "([^"]*)"', text):
            assert platform.startswith("Linux-6.8-x86_64-with-glibc2.39"), f"{path} holds {platform}"


def test_they_are_small() -> None:
    sizes = {name_of(g): sum(p.stat().st_size for p in g.rglob("*") if p.is_file()) for g in golden_runs()}
    assert max(sizes.values()) < 100_000, sizes
    assert sum(sizes.values()) < 400_000 * len({g.parent for g in golden_runs()}), sizes


def test_a_version_that_is_there_is_not_made_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(make, "__version__", "0.1.0")
    monkeypatch.setattr(make, "RUNS", {})
    with pytest.raises(SystemExit, match="never written over"):
        make.main()


def test_a_difference_is_found() -> None:
    was = {"a": [1.0, {"b": "x"}], "n": 2.0}
    assert differences(was, {"a": [1.0 + 1e-9, {"b": "x"}], "n": 2.0}) == []
    assert differences(was, {"a": [1.00001, {"b": "y"}], "n": True}) == [
        ".a[0]: 1.0 became 1.00001",
        ".a[1].b: 'x' became 'y'",
        ".n: 2.0 became True",
    ]
    assert differences(was, {"a": [1.0], "m": 1}) == [".a: [1.0, {'b': 'x'}] became [1.0]", ".m: is new", ".n: is gone"]
    assert differences(was, was | {"m": 1}, extra=True) == []
