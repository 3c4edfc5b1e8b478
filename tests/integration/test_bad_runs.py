"""A run, a trace or a log that is damaged, of another kind or not there: what is left is read, or refused in one paragraph."""

from __future__ import annotations

import json
import math
import re
from pathlib import Path
from typing import Any

import pytest
from conftest import Clipcal, Project, snapshot, write_trace

# Reading a run that something happened to


STEADY = [2.0 + 0.2 * math.sin(1.7 * i) for i in range(200)]


def damage(trace: Path, how: str) -> None:
    data = trace.read_bytes()
    lines = data.splitlines(keepends=True)
    other = {
        "garbage": b"\x00\xff\x00 not a line\n",
        "text": b"epoch 3 done\n",
        "a list": b"[1, 2]\n",
        "a half": lines[7][:40] + b"\n",
        "deep": b"[" * 100_000 + b"\n",
        "step too large": b'{"step": 1e400, "grad_norm": 1.0}\n',
        "step out of range": b'{"step": 1e30, "grad_norm": 1.0}\n',
        "norm too large": b'{"step": 7, "grad_norm": 1' + b"0" * 400 + b"}\n",
        "norm a word": b'{"step": 7, "grad_norm": "large"}\n',
        "norm a list": b'{"step": 7, "grad_norm": [1.0]}\n',
    }
    if how == "cut":
        trace.write_bytes(data[:-25])
    else:
        trace.write_bytes(b"".join([*lines[:7], other[how], *lines[8:]]))


@pytest.mark.parametrize(
    ("how", "said"),
    [
        ("cut", "last line of the trace was cut off"),
        *(
            (how, "ine 8 of ")
            for how in (
                "garbage",
                "text",
                "a list",
                "a half",
                "deep",
                "step too large",
                "step out of range",
                "norm too large",
                "norm a word",
                "norm a list",
            )
        ),
    ],
)
def test_a_damaged_line_is_left_out_and_said(project: Project, clipcal: Clipcal, how: str, said: str) -> None:
    trace = write_trace(project.run("t.jsonl"), STEADY)
    damage(trace, how)
    before = trace.read_bytes()
    answer = clipcal("recommend", "runs/t.jsonl", "--json").ok().json()
    assert answer["steps"] == 199
    assert said in " ".join(answer["caveats"])
    assert answer["max_norm"] == pytest.approx(
        json.loads(clipcal("recommend", steady(project), "--json").stdout)["max_norm"], rel=0.2
    )
    assert trace.read_bytes() == before


def steady(project: Project) -> Path:
    return write_trace(project.folder / "steady.jsonl", STEADY)


@pytest.mark.parametrize("where", [1, 5, 20])
def test_a_run_cut_at_any_byte_is_read(clipcal: Clipcal, recorded: Path, where: int) -> None:
    for name in ("trace.jsonl", "layers.f32"):
        data = (recorded / name).read_bytes()
        (recorded / name).write_bytes(data[:-where])
    answer = clipcal("recommend", "runs/spec", "--json")
    assert answer.code in (0, 3)
    assert answer.json()["steps"] == 69
    assert "cut off" in " ".join(answer.json()["caveats"])


RUN_JSON: dict[str, str] = {
    "half": '{"schema": "clipcal.run/1", "name": "sp',
    "empty": "",
    "a list": "[]",
    "a number": "5",
    "no schema": "{}",
    "another schema": '{"schema": "something.else/1"}',
    "no version": '{"schema": "clipcal.run"}',
    "incomplete": '{"schema": "clipcal.run/1", "name": "spec"}',
    "deep": "[" * 100_000,
}


@pytest.mark.parametrize("command", ["recommend", "verify"])
@pytest.mark.parametrize("text", RUN_JSON.values(), ids=RUN_JSON.keys())
def test_a_broken_run_json_is_named_and_the_trace_is_left(
    clipcal: Clipcal, recorded: Path, text: str, command: str
) -> None:
    (recorded / "run.json").write_text(text)
    before = snapshot(recorded)
    clipcal(command, "runs/spec").refused("runs/spec/run.json")
    clipcal("profile", "spec.yaml").refused("runs/spec", "--force")
    assert snapshot(recorded) == before


def test_the_advice_for_a_broken_run_json_works(clipcal: Clipcal, recorded: Path) -> None:
    (recorded / "run.json").write_text("{")
    message = clipcal("recommend", "runs/spec").refused("runs/spec/run.json")
    advised = re.search(r"`clipcal (recommend \S+)`", message)
    assert advised, message
    answer = clipcal(*advised[1].split(), "--json")
    assert answer.code in (0, 3), answer.stderr
    assert answer.json()["steps"] == 70


WRONG_KINDS: list[dict[str, Any]] = [
    {"source": None},
    {"source": {}},
    {"source": {"kind": "spec"}},
    {"seeds": []},
    {"seeds": None},
    {"steps": "many"},
    {"notes": None},
    {"method": 5},
]


@pytest.mark.parametrize("changes", [*WRONG_KINDS, {"status": "unheard of"}, {"norm_type": "two"}], ids=str)
def test_recommend_reads_or_refuses_a_run_json_of_wrong_kinds(
    clipcal: Clipcal, recorded: Path, changes: dict[str, Any]
) -> None:
    path = recorded / "run.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))
    answer = clipcal("recommend", "runs/spec")
    assert answer.code in (0, 2, 3), answer.stderr
    if answer.code == 2:
        answer.refused("run.json")


@pytest.mark.parametrize("changes", WRONG_KINDS[:6], ids=str)
def test_verify_refuses_a_run_json_that_it_cannot_train_from(
    clipcal: Clipcal, recorded: Path, changes: dict[str, Any]
) -> None:
    path = recorded / "run.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))
    clipcal("verify", "runs/spec", "--max-norm", 9, "--seeds", 1).refused()


@pytest.mark.parametrize("command", ["recommend", "verify"])
def test_a_run_of_a_newer_version_is_left_as_it_is(clipcal: Clipcal, recorded: Path, command: str) -> None:
    path = recorded / "run.json"
    path.write_text(path.read_text().replace("clipcal.run/1", "clipcal.run/99"))
    before = snapshot(recorded)
    clipcal(command, "runs/spec").refused("newer clipcal", "99", "pip install -U clipcal")
    assert snapshot(recorded) == before


@pytest.mark.parametrize(
    ("make", "words"),
    [
        pytest.param("folder", ["not a run directory", "run.json", "clipcal profile"], id="a folder that is no run"),
        pytest.param("nothing", ["no such run", "clipcal profile"], id="nothing"),
        pytest.param("text", ["no log that is known", "names no gradient norm", "--pattern"], id="a text file"),
        pytest.param("binary", ["no log that is known", "names no gradient norm"], id="a binary file"),
        pytest.param("empty", ["is empty", "log"], id="an empty file"),
    ],
)
@pytest.mark.parametrize("command", ["recommend", "verify"])
def test_what_is_no_run_is_refused_with_what_was_expected(
    project: Project, clipcal: Clipcal, command: str, make: str, words: list[str]
) -> None:
    path = project.folder / "it"
    contents = {"text": b"a letter\nof two lines\n", "binary": bytes(range(256)) * 9, "empty": b""}
    if make == "folder":
        path.mkdir()
        (path / "letter.txt").write_text("hello\n")
    elif make in contents:
        path.write_bytes(contents[make])
    before = snapshot(project.folder)
    clipcal(command, "it").refused("it", *words)
    assert snapshot(project.folder) == before


@pytest.mark.parametrize("name", ["runs/sepc", "spec", "run/spec"])
@pytest.mark.parametrize("command", ["recommend", "verify", "check"])
def test_a_misspelt_run_is_answered_with_the_one_that_is_there(
    clipcal: Clipcal, recorded: Path, command: str, name: str
) -> None:
    clipcal(command, name).refused(name, "no such run", "Did you mean 'runs/spec'?")


@pytest.mark.parametrize("command", ["recommend", "check"])
def test_what_is_not_there_may_have_been_a_run_or_a_log(project: Project, clipcal: Clipcal, command: str) -> None:
    clipcal(command, "nosuch").refused("nosuch: there is no such run or log", "clipcal profile")
    clipcal(command, "nosuch.log").refused("nosuch.log: there is no such run or log")
    write_trace(project.folder / "logs" / "first.jsonl", STEADY)
    clipcal(command, "logs/frist.jsonl").refused("no such run or log", "Did you mean 'logs/first.jsonl'?")
    assert "Did you mean" not in clipcal(command, "logs/other.jsonl").refused("no such run or log")


@pytest.mark.parametrize("command", ["recommend", "check"])
def test_a_part_of_a_run_is_answered_with_the_run(clipcal: Clipcal, recorded: Path, command: str) -> None:
    flags = ["--max-norm", 2] if command == "check" else []
    clipcal(command, "runs/spec/run.json", *flags).refused(
        "runs/spec/run.json: is the record of a run", "name its directory, runs/spec"
    )
    for name in ("layers.f32", "recommendation.json"):
        clipcal(command, f"runs/spec/{name}", *flags).refused(f"runs/spec/{name}: is a part of a run", "runs/spec")
    assert clipcal(command, "runs/spec/trace.jsonl", *flags).code in (0, 3)


def test_a_run_json_of_somebody_else_is_read_as_a_log(project: Project, clipcal: Clipcal) -> None:
    rows = "".join(json.dumps({"step": i, "grad_norm": n}) + "\n" for i, n in enumerate(STEADY))
    (project.folder / "other").mkdir()
    project.text(rows, "other/run.json")
    assert clipcal("recommend", "other/run.json", "--json").json()["steps"] == 200


def test_an_empty_trace_in_a_run_is_said(clipcal: Clipcal, recorded: Path) -> None:
    (recorded / "trace.jsonl").write_bytes(b"")
    clipcal("recommend", "runs/spec").refused("trace.jsonl", "holds no step")
    (recorded / "trace.jsonl").unlink()
    clipcal("recommend", "runs/spec").refused("runs/spec", "no trace", "clipcal profile")


def test_an_unknown_framework_is_answered_with_the_known_ones(clipcal: Clipcal, project: Project) -> None:
    clipcal("recommend", steady(project), "--for", "lightnin").refused("lightnin", "lightning")


# The answer is no


def test_too_few_steps_are_an_answer_and_not_a_guess(project: Project, clipcal: Clipcal) -> None:
    clipcal("profile", "spec.yaml", "-n", 5).ok()
    answer = clipcal("recommend", "runs/spec", "--json")
    assert answer.code == 3
    assert answer.json()["verdict"] == "insufficient"
    assert answer.json()["max_norm"] is None
    clipcal("recommend", "runs/spec", "--for", "pytorch").saying_no("no threshold", "5")


def test_verify_without_a_threshold_says_so_and_trains_nothing(project: Project, clipcal: Clipcal) -> None:
    clipcal("profile", "spec.yaml", "-n", 5).ok()
    clipcal("verify", "runs/spec").saying_no("nothing to verify", "--max-norm")
    answer = clipcal("verify", "runs/spec", "--json")
    assert answer.code == 3
    assert answer.json()["verdict"] is None
    assert answer.json()["arms"] == []
    assert answer.json()["reasons"]
    assert not (project.run() / "arms").exists()


def test_a_trace_by_itself_cannot_be_verified(project: Project, clipcal: Clipcal) -> None:
    clipcal("verify", steady(project)).refused("steady.jsonl", "cannot be trained again", "run directory")


@pytest.mark.parametrize("value", ["0", "-1", "nan", "inf"])
def test_a_threshold_that_is_none_is_refused(clipcal: Clipcal, recorded: Path, value: str) -> None:
    clipcal("verify", "runs/spec", "--max-norm", value).refused("--max-norm", "greater than 0")
