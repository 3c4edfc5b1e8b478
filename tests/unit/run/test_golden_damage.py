"""Golden runs with a damaged line, an arm whose name leads elsewhere, or a file of a later version: what is said of them."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

import pytest
from golden.damaging import COMMANDS, NoTrainer, changes, names, refusal, said, train_nothing
from golden.reading import copied, golden_runs, name_of

from clipcal.arms import pool as arms_module
from clipcal.errors import InputError
from clipcal.recommendation.scaling.probed import read_probed
from clipcal.run import records
from clipcal.run.directory import open_run
from clipcal.run.layers import read_layers
from clipcal.run.records import FILES, ROWS_HEADER, SCALE_HEADER, SCALE_LINE, STEP_LINE, Kind, read_record, wrong
from clipcal.run.trace import read_trace


@pytest.fixture(autouse=True)
def nothing_is_trained(monkeypatch: pytest.MonkeyPatch) -> None:
    train_nothing(monkeypatch)


def golden_of(name: str) -> Path:
    """The newest of that name."""
    return [g for g in golden_runs() if g.name == name][-1]


# The files of lines


def of(name: str) -> pytest.MarkDecorator:
    """The golden runs that have such a file."""
    return pytest.mark.parametrize("golden", [g for g in golden_runs() if (g / "run" / name).exists()], ids=name_of)


def lines_said(
    path: Path, line: int, table: Mapping[str, Kind], reader: Callable[[Path], Sequence[str]]
) -> Iterator[str]:
    """One line of a file in every other way: what is wrong with it is said, and nothing is said of what is not."""
    lines = path.read_bytes().split(b"\n")
    for change in changes(json.loads(lines[line])):
        path.write_bytes(b"\n".join([*lines[:line], json.dumps(change.value).encode(), *lines[line + 1 :]]))
        try:
            problems = list(reader(path))
        except InputError as e:
            problems = [str(e)]
        bad = wrong(change.value, table) is not None
        if bool(problems) is not bad or (bad and not names(problems[0], path.name, change.field)):
            yield f"{path.name}: {change}: {problems}"
    path.write_bytes(b"\n".join(lines))


@of("trace.jsonl")
def test_a_line_of_a_trace(golden: Path) -> None:
    with copied(golden) as run:
        # a killed run's own cut line is no news
        path = run / "trace.jsonl"
        path.write_bytes(path.read_bytes().rpartition(b"\n")[0] + b"\n")
        assert list(lines_said(path, 5, STEP_LINE, lambda p: read_trace(p).problems)) == []


@of("scale.jsonl")
def test_a_line_of_a_probe(golden: Path) -> None:
    with copied(golden) as run:
        path = run / "scale.jsonl"
        assert list(lines_said(path, 0, SCALE_HEADER, lambda p: read_probed(p).problems)) == []
        assert list(lines_said(path, 5, SCALE_LINE, lambda p: read_probed(p).problems)) == []
        path.write_bytes(path.read_bytes().replace(b'"parts"', b'"halves"', 1))
        answer = json.loads(said("recommend", run, "--scale", "batch=4", "--json").stdout)
        assert "Line 2 of scale.jsonl could not be read as a probed step" in " ".join(answer["caveats"])


@pytest.mark.parametrize("name", ["layers.f32", "ranks.f32"])
def test_the_header_of_rows(name: str) -> None:
    golden = golden_of("ranks")
    with copied(golden) as run:
        path = run / name
        header, rows = path.read_bytes().split(b"\n", 1)
        told = []
        for change in changes(json.loads(header)):
            path.write_bytes(json.dumps(change.value).encode() + b"\n" + rows)
            try:
                read_layers(path)
            except InputError as e:
                told.append((change, str(e)))
            else:
                assert wrong(change.value, ROWS_HEADER) is None, change
        assert len(told) > 20
        assert [pair for pair in told if not names(pair[1], name, pair[0].field)] == []


def test_a_threshold_per_tensor_needs_its_rows() -> None:
    golden = golden_of("per-tensor")
    with copied(golden) as run:
        path = run / "layers.f32"
        path.write_bytes(path.read_bytes().replace(b'"names"', b'"nouns"', 1))
        for command in ("recommend", "check", "report", "verify"):
            assert refusal(said(command, run, *COMMANDS[command]), "layers.f32", "names") is None


@pytest.mark.parametrize("field", ["grad_norm", "step", "loss", "grad_max", "lr", "seconds"])
@pytest.mark.parametrize("command", ["recommend", "check", "report"])
def test_a_field_that_no_line_of_a_trace_has(command: str, field: str) -> None:
    golden = golden_of("calibrated")
    with copied(golden) as run:
        path = run / "trace.jsonl"
        rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
        path.write_text("".join(json.dumps({k: v for k, v in r.items() if k != field}) + "\n" for r in rows))
        found = said(command, run, *COMMANDS[command])
        if field == "grad_norm":
            assert refusal(found, "trace.jsonl", field) is None
        else:
            assert found.code in (0, 3), found.stderr


@pytest.mark.parametrize("command", ["report", "verify"])
def test_a_damaged_arm_is_named(command: str) -> None:
    golden = golden_of("calibrated")
    with copied(golden) as run:
        path = run / "arms" / "unclipped-seed1.jsonl"
        path.write_bytes(path.read_bytes().replace(b'"grad_norm"', b'"norm"', 1))
        found = said(command, run, *COMMANDS[command])
        assert refusal(found, "arms/unclipped-seed1.jsonl", "grad_norm") is None
        assert "clipcal verify" in found.stderr
        path.unlink()
        assert said(command, run, *COMMANDS[command]).code == 0


@pytest.mark.parametrize("text", ["", "[]", '{"steps": 30}', '{"machine": null}', "\0"])
def test_arms_of_an_unknown_machine_are_set_aside(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    golden = golden_of("calibrated")
    with copied(golden) as run:
        before = sorted(p.name for p in (run / "arms").glob("*.jsonl"))
        (run / "arms" / "arms.json").write_text(text, encoding="utf-8")
        monkeypatch.setattr(NoTrainer, "machine", {"platform": "another"})
        assert said("verify", run, *COMMANDS["verify"]).code == 0
        assert sorted(p.name for p in (run / "arms-1").glob("*.jsonl")) == before


def test_the_arms_that_are_there_are_judged_as_they_were() -> None:
    golden = golden_of("calibrated")
    with copied(golden) as run:
        was = json.loads((run / "verification.json").read_text(encoding="utf-8"))
        now = json.loads(said("verify", run, *COMMANDS["verify"]).stdout)
        assert {a["name"]: a["final_loss"] for a in now["arms"] if a["seed"] == 0}.items() <= {
            a["name"]: a["final_loss"] for a in was["arms"] if a["seed"] == 0
        }.items()
        assert (now["max_norm"], now["comparison"]["seeds"]) == (was["max_norm"], was["comparison"]["seeds"])


# What must not lead out of the run, and what a later version may write


@pytest.mark.parametrize(
    "name", ["../../x", "/etc/passwd", "a/b", "a\\b", "..", ".hidden", "", "a\0b", "a\nb", "\ud800", "n" * 300]
)
def test_the_name_of_an_arm_leads_nowhere_else(name: str) -> None:
    golden = golden_of("calibrated")
    with copied(golden) as run:
        with pytest.raises(InputError, match="no arm can be called"):
            open_run(run).arm(name, 0)
        path = run / "verification.json"
        raw = json.loads(path.read_text(encoding="utf-8"))
        raw["arms"][1]["name"] = name
        path.write_text(json.dumps(raw), encoding="utf-8")
        # a trace stands where the name leads
        for outside in (Path("x-seed0.jsonl"), Path("../x-seed0.jsonl")):
            outside.write_bytes((run / "trace.jsonl").read_bytes())
        assert refusal(said("report", run), "verification.json", "arms[1].name") is None
        assert not (run / "report.html").exists()
        Path("../x-seed0.jsonl").unlink(missing_ok=True)  # the folder above is that of all workers


def test_the_arms_that_clipcal_trains_have_such_names() -> None:
    for max_norm, lr_scale in ((None, 1.0), (1e-12, 0.1), (123456.789, 0.1), (2.0, 1.0)):
        assert records.is_arm_name(arms_module.arm_name(max_norm, lr_scale))


@pytest.mark.parametrize("name", FILES)
def test_a_file_of_a_later_version_is_left_as_it_is(name: str) -> None:
    golden = golden_of("calibrated")
    with copied(golden) as run:
        path = run / name
        schema, newest, _ = FILES[name]
        path.write_text(path.read_text(encoding="utf-8").replace(f"{schema}/{newest}", f"{schema}/{newest + 1}"))
        before = path.read_bytes()
        command = {"recommendation.json": "runs"}.get(name, "report")
        found = said(command, run, *(["--json"] if command == "runs" else []))
        told = found.stdout if command == "runs" else found.stderr
        assert "written by a newer clipcal" in told
        assert "pip install -U clipcal" in told
        assert found.code == (0 if command == "runs" else 2)
        assert path.read_bytes() == before


@pytest.mark.parametrize("name", FILES)
def test_a_key_that_no_table_names_is_left_alone(name: str) -> None:
    golden = golden_of("calibrated")
    with copied(golden) as run:
        path = run / name
        path.write_text(json.dumps(json.loads(path.read_text(encoding="utf-8")) | {"headline": {"of": ["later"]}}))
        assert said("report", run).code == 0
        (row,) = json.loads(said("runs", "runs", "--json").stdout)["runs"]
        assert row["unreadable"] == []


@pytest.mark.parametrize("text", ["", "{", "[1]", "null", "5", '"x"', "[" * 100_000, "1" * 5000, "\xff"])
@pytest.mark.parametrize("name", FILES)
def test_a_file_that_is_no_object(name: str, text: str) -> None:
    golden = golden_of("calibrated")
    with copied(golden) as run:
        (run / name).write_bytes(text.encode("latin-1"))
        with pytest.raises(InputError, match=name):
            read_record(run / name, todo="Try again.")
        (row,) = json.loads(said("runs", "runs", "--json").stdout)["runs"]
        assert row["unreadable"] == [name]


def test_the_tables_can_be_wrong() -> None:
    assert wrong({"a": 1}, {"a": records.COUNT}) is None
    assert wrong({}, {"a": records.COUNT}) == "its 'a' is missing (expected a whole number from 0 on)"
    assert wrong({"a": True}, {"a": records.COUNT}) == "its 'a' is true (expected a whole number from 0 on)"
    assert wrong({"a": 10**400}, {"a": records.NUMBER}) is not None
    assert wrong({"a": "\ud800"}, {"a": records.TEXT}) is not None
