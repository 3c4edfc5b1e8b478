"""What `clipcal runs` says of run directories: rows, what became of their sources, what moved between two."""

from __future__ import annotations

import datetime
import io
import json
import os
from pathlib import Path
from typing import Any

import pytest
from conftest import write_trace
from rich.console import Console

import clipcal
from clipcal.errors import InputError
from clipcal.run.directory import Run, RunInfo
from clipcal.run.source import Source, source_of
from clipcal.runs.comparing import RunComparison, compare_runs
from clipcal.runs.listing import Row, list_runs
from clipcal.runs.sourcediff import moved_words
from clipcal.sources.script import Script
from clipcal.sources.spec import load_spec
from clipcal.views.terminal import comparison as comparisonview
from clipcal.views.terminal import console
from clipcal.views.terminal import listing as listview

NOW = datetime.datetime(2026, 5, 4, 12, 0, tzinfo=datetime.UTC)
SPEC = """\
# a comment
model: {_target_: toy.Net, width: 8}
data: {_target_: toy.batches}
loss: {_target_: torch.nn.MSELoss}
optimizer: {_target_: torch.optim.SGD, lr: 0.05, betas: [0.9, 0.95]}
steps: 60
"""


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "spec.yaml").write_text(SPEC)
    (tmp_path / "train.py").write_text("print('training')\n")
    return tmp_path


def saved(folder: str, source: Source, fingerprint: str, **changes: Any) -> Run:
    fields: dict[str, Any] = {
        "name": Path(folder).name,
        "steps": 60,
        "seeds": [0],
        "device": "cpu",
        "threads": 1,
        "versions": {"clipcal": "0.1.0", "torch": "2.13.0"},
        "started": (NOW - datetime.timedelta(hours=3)).isoformat(),
        "status": "complete",
    }
    info = RunInfo(source=source, fingerprint=fingerprint, **(fields | changes))
    Path(folder).mkdir(parents=True)
    run = Run(Path(folder), info).save()
    write_trace(run.trace, [1.0 + 0.1 * (i % 7) for i in range(60)], [2.0 - 0.01 * i for i in range(60)])
    return run


def spec_run(folder: str = "runs/a", *, file: str = "spec.yaml", steps: int | None = None, **changes: Any) -> Run:
    spec = load_spec(file, steps=steps)
    return saved(folder, spec.source(), spec.fingerprint, **({"steps": spec.fields.steps} | changes))


def script_run(folder: str = "runs/s", *words: str, asked: object = None, picked: int = 1, **changes: Any) -> Run:
    """As `profile` records a script: the fingerprint of what was asked, the number of the optimizer that was picked."""
    fields: dict[str, Any] = {"words": words or ("train.py", "--lr", "0.1"), "cwd": str(Path.cwd())}
    command = [
        "clipcal",
        "profile",
        "train.py",
        *(["--optimizer", str(asked)] if asked is not None else []),
        "--",
        "--optimizer",
        "x",
    ]
    return saved(
        folder,
        Script(**fields, optimizer=picked).source(),
        Script(**fields, optimizer=asked).fingerprint,  # type: ignore[arg-type]
        **({"command": command} | changes),
    )


def read(run: Run, **changes: Any) -> None:
    r = clipcal.recommend([1.0 + 0.1 * (i % 7) for i in range(60)])
    run.recommendation.write_text(json.dumps(r.as_dict() | changes))


def arms(max_norm: float, unclipped: float | None, clipped: float) -> str:
    def arm(name: str, loss: float | None, at: float | None) -> dict[str, Any]:
        lost = {"final_loss": "NaN", "diverged_at": 9} if loss is None else {"final_loss": loss, "diverged_at": None}
        counts = {"seed": 0, "steps": 60, "loss_spikes": 0, "clip_fraction": 0.0, "mean_scale": 1.0}
        return {"name": name, "max_norm": at} | lost | counts

    both = [arm("unclipped", unclipped, None), arm(f"max_norm={max_norm:g}", clipped, max_norm)]
    whole = {"verdict": "no_difference", "max_norm": max_norm, "arms": [*both, arm("lr=0.1x", 99.0, None)]}
    return json.dumps(whole | {"comparison": {"loss_difference": None, "interval": None}, "reasons": []})


def listed(folder: str = "runs") -> list[Row]:
    return list_runs(Path(folder), now=NOW)


def only(folder: str = "runs") -> Row:
    (row,) = listed(folder)
    return row


def lines_of(rows: list[Row], *, width: int | None) -> list[str]:
    return printed(listview.runs(rows, width=width, ascii=False), width)


def printed(lines: list[Any], width: int | None) -> list[str]:
    out = io.StringIO()
    screen = Console(file=out, force_terminal=width is not None, width=width or 80, highlight=False, color_system=None)
    console.show(screen, lines)
    return out.getvalue().splitlines()


def test_a_run_that_was_read_chosen_and_verified() -> None:
    run = spec_run()
    read(run, max_norm=2.5)
    run.choice.write_text(json.dumps({"name": "firm", "max_norm": 1.3, "reason": "it trains best"}))
    run.verification.write_text(arms(1.3, 1.0, 0.9))
    row = only()
    assert (row.path, row.verdict, row.max_norm, row.chosen) == ("runs/a", row.verdict, 1.3, "firm")
    assert (row.verification, row.verified_at, row.recorded, row.steps) == ("no_difference", 1.3, 60, 60)
    assert (row.source, row.source_now, row.stale, row.age_seconds) == ("spec.yaml", "same", False, 3 * 3600)
    assert (row.unreadable, row.problem, row.next) == ((), None, None)
    head, line = lines_of([row], width=None)
    assert head.split() == ["run", "verdict", "threshold", "verified", "steps", "age", "source", "source", "since"]
    assert line.split("  ")[1] == "runs/a"
    for cell in (str(row.verdict), "1.3", "no difference", "60", "3 h ago", "spec.yaml", "same"):
        assert f"  {cell}" in line


def test_a_threshold_that_was_verified_is_named_where_it_is_another_one() -> None:
    run = spec_run()
    read(run, max_norm=2.5)
    run.verification.write_text(arms(1.0, 1.0, 0.9))
    assert "no difference at 1 " in lines_of(listed(), width=None)[1]


def test_a_run_without_a_threshold_is_not_one_that_was_not_read() -> None:
    read(spec_run(), verdict="vanishing", max_norm=None)
    spec_run("runs/unread", status="interrupted", reason="interrupted after step 30", steps=90)
    lines = lines_of(listed(), width=None)
    assert any("  vanishing     none  " in line for line in lines)
    assert any("  not read yet  -  " in line and "  60 of 90  " in line for line in lines)
    assert (
        "  • runs/unread is not read yet (interrupted after step 30): `clipcal recommend runs/unread` reads its threshold."
        in lines
    )


def test_the_newest_come_first_and_only_runs_are_listed() -> None:
    for name, hours in (("a", 5), ("sweep/lr-1/b", 1), ("c", 30)):
        spec_run(f"runs/{name}", started=(NOW - datetime.timedelta(hours=hours)).isoformat())
    spec_run("runs/a/inner")  # within a run, hidden, of an environment, too deep
    spec_run("runs/.hidden/x")
    spec_run("runs/venv/x")
    Path("runs/venv/pyvenv.cfg").touch()
    spec_run("runs/1/2/3/4")
    Path("runs/loop").symlink_to("..")
    Path("runs/sacred").mkdir()
    Path("runs/sacred/run.json").write_text(json.dumps({"experiment": {}, "status": "COMPLETED"}))
    assert [r.path for r in listed()] == ["runs/sweep/lr-1/b", "runs/a", "runs/c"]
    assert only("runs/c").path == "runs/c"


@pytest.mark.parametrize(
    "text", ["", "{", "[]", "{}", '{"schema": "clipcal.run/99"}', '{"schema": "clipcal.run/1"}', "[" * 10**5]
)
def test_a_run_json_that_cannot_be_read_has_a_row(text: str) -> None:
    spec_run()
    Path("runs/bad").mkdir()
    Path("runs/bad/run.json").write_text(text)
    os.utime("runs/bad/run.json", (NOW.timestamp(), NOW.timestamp()))
    bad, good = listed()
    assert (bad.path, bad.unreadable, bad.verdict, good.path) == ("runs/bad", ("run.json",), None, "runs/a")
    assert str(bad.problem).startswith("runs/bad/run.json: ")
    lines = lines_of([bad, good], width=None)
    assert "  unreadable  " in lines[1]
    assert sum("runs/bad/run.json: " in line for line in lines) == 1


@pytest.mark.parametrize("name", ["recommendation.json", "verification.json", "choice.json"])
@pytest.mark.parametrize(
    "text",
    [
        "",
        "[1]",
        "null",
        "{}",
        '{"verdict": 3, "max_norm": "x"}',
        '{"verdict": "stable", "max_norm": 1e999}',
        "[" * 10**5,
    ],
)
def test_damaged_files_of_a_run_are_said(name: str, text: str) -> None:
    run = spec_run()
    read(run)
    (run.folder / name).write_text(text)
    row = only()
    assert row.unreadable == (name,)
    assert str(row.problem).startswith(f"runs/a/{name}: ")
    if name == "choice.json":
        assert row.verdict is not None, "what the norms said is known all the same"
        assert (row.chosen, row.next) == (None, None)
    else:
        verb = name.partition(".")[0].replace("recommendation", "recommend").replace("verification", "verify")
        assert row.next == f"clipcal {verb} runs/a"
        assert "unreadable" in lines_of([row], width=None)[1]
    assert compare_runs(run.folder, run.folder, now=NOW).same_source is True


@pytest.mark.parametrize(
    "changes",
    [{"started": "?"}, {"started": "9999-12-31T23:59:59+00:00"}, {"platform": "\x1b[2J"}, {"world_size": None}],
)
def test_odd_records_are_listed(changes: dict[str, Any]) -> None:
    spec_run(**changes)
    assert "\x1b" not in "".join(lines_of(listed(), width=None))


@pytest.mark.parametrize(
    ("old", "new", "state", "keys"),
    [
        ("# a comment", "# another", "same", ()),
        ("steps: 60", "steps: 600\nname: other\nseed: 0", "same", ()),
        ("lr: 0.05", "lr: 0.1", "changed", ("optimizer.lr",)),
        ("lr: 0.05", "lr: 5e-2", "same", ()),
        ("0.95]", "0.99]", "changed", ("optimizer.betas",)),
        (", width: 8", ", depth: 2", "changed", ("model.width", "model.depth")),
        ("steps: 60", "clip: {method: value}", "changed", ("clip.method",)),
        ("steps: 60", "steps: 60\nsede: 1", "changed", ("sede",)),
        ("model: {", "model: [", "changed", None),
    ],
)
def test_a_spec_that_was_edited_since(old: str, new: str, state: str, keys: tuple[str, ...] | None) -> None:
    spec_run()
    Path("spec.yaml").write_text(SPEC.replace(old, new))
    row = only()
    assert row.source_now == state
    assert row.stale is (state == "changed")
    if keys is not None:
        assert row.changed_keys == keys


def test_a_spec_is_found_from_another_directory_and_can_be_gone(monkeypatch: pytest.MonkeyPatch, here: Path) -> None:
    spec_run()
    Path("elsewhere").mkdir()
    monkeypatch.chdir("elsewhere")
    row = only("../runs")
    assert (row.path, row.source, row.source_now) == ("../runs/a", str(here / "spec.yaml"), "same")
    (here / "spec.yaml").unlink()
    row = only("../runs")
    assert (row.source_now, row.stale) == ("gone", True)


def test_flags_that_were_given_count_on_both_sides() -> None:
    Path("spec.yaml").write_text(SPEC + "seed: 3\n")
    spec = load_spec("spec.yaml", seed=7)
    saved("runs/a", spec.source(), spec.fingerprint)
    Path("spec.yaml").write_text(SPEC + "seed: 4\n")
    assert only().source_now == "same"


@pytest.mark.parametrize("asked", [None, 2, "Adam"])
def test_a_script_that_was_edited_since(asked: object) -> None:
    script_run(asked=asked, picked=2)
    assert only().source_now == "same"
    Path("train.py").write_text("print('better')\n")
    row = only()
    assert (row.source, row.source_now, row.stale) == ("train.py --lr 0.1", "changed", True)
    Path("train.py").unlink()
    assert only().source_now == "gone"


def test_what_cannot_be_told_is_not_called_stale() -> None:
    script_run("runs/module", "python", "-m", "pkg.train")
    saved("runs/watched", source_of({"kind": "watch", "path": "train.py", "argv": []}), "abc")
    saved("runs/odd", source_of({"kind": "script", "words": 3}), "abc")
    rows = {r.path: r for r in listed()}
    assert {r.source_now for r in rows.values()} == {"unknown"}
    assert [rows[p].stale for p in rows] == [None] * 3
    assert rows["runs/module"].source == "python -m pkg.train"
    assert rows["runs/watched"].source == "train.py (watched)"


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (-5, "just now"), (59, "just now"), (60, "1 min ago"), (3599, "59 min ago"), (3 * 3600, "3 h ago"), (86400, "1 day ago"),
        (6 * 86400, "6 days ago"), (15 * 86400, "2 weeks ago"), (100 * 86400, "3 months ago"), (800 * 86400, "2 years ago"), (None, "-"),
    ],
)  # fmt: skip
def test_ages(seconds: float | None, words: str) -> None:
    assert listview.age(seconds) == words


@pytest.mark.parametrize("width", [40, 66, 80, 100, 200])
def test_on_a_terminal_every_line_fits_and_nothing_is_lost(width: int) -> None:
    read(spec_run("runs/" + "long-name-" * 9))
    read(spec_run("runs/short"))
    script_run("runs/s", "train.py", *(f"--option-{i}={i}" for i in range(30)))
    Path("spec.yaml").write_text(SPEC.replace("lr: 0.05", "lr: 0.1"))
    rows = listed()
    lines = lines_of(rows, width=width)
    assert max(map(len, lines)) <= width
    text = "".join(line.strip() for line in lines).replace(" ", "")
    for row in rows:
        assert row.path in text
    for word in ("--option-29=29", "optimizer.lr", "3hago", "notreadyet"):
        assert word in text


def test_in_a_pipe_a_run_is_one_line() -> None:
    script_run("runs/s", "train.py", *(f"--option-{i}={i}" for i in range(30)))
    lines = lines_of(listed(), width=None)
    assert "--option-29=29" in lines[1]
    assert lines[1].endswith("  same")


def test_names_cannot_drive_the_terminal() -> None:
    read(spec_run("runs/a\x1b[2J\nb"), verdict="\x1b]0;x\x07")
    rows = listed()
    for width in (None, 40, 80):
        assert "\x1b" not in "".join(lines_of(rows, width=width))
    found = compare_runs(Path(rows[0].path), Path(rows[0].path), now=NOW)
    assert "\x1b" not in "".join(printed(comparisonview.comparison(found, width=80, ascii=False), 80))


def compared() -> RunComparison:
    return compare_runs(Path("runs/a"), Path("runs/b"), now=NOW)


def fields(c: RunComparison) -> dict[str, tuple[Any, Any]]:
    return {m.field: (m.a, m.b) for m in (*c.settings, *c.machine)}


def test_two_runs_of_specs_that_differ() -> None:
    run = spec_run("runs/a")
    read(run, max_norm=0.34, verdict="heavy_tail")
    run.verification.write_text(arms(0.34, None, 0.9))
    Path("other.yaml").write_text(SPEC.replace("lr: 0.05", "lr: 0.1").replace(", width: 8", "") + "accumulate: 2\n")
    other = spec_run("runs/b", file="other.yaml", steps=90, device="cuda", versions={"torch": "2.14.0", "numpy": "2"})
    read(other, max_norm=0.71, verdict="spikes")
    other.verification.write_text(arms(0.71, 1.5, 1.25))
    c = compared()
    assert c.same_source is False
    assert fields(c) == {
        "model.width": (8, None),
        "optimizer.lr": (0.05, 0.1),
        "accumulate": (1, 2),
        "steps": (60, 90),
        "overrides.steps": (None, 90),
        "device": ("cpu", "cuda"),
        "versions.torch": ("2.13.0", "2.14.0"),
    }
    assert c.summary == (
        "The threshold moved from 0.34 to 0.71 (x 2.1); the verdict from heavy_tail to spikes; the spec differs in model.width, "
        "optimizer.lr, accumulate and steps; the machine differs in device and versions.torch."
    )
    results = {m.field: (m.a, m.b) for m in c.results}
    assert results["max_norm"] == (0.34, 0.71)
    assert results["stable_median"][0] == results["stable_median"][1] > 1
    assert results["spikes"] == (0, 0)
    assert results["final_loss_profile"] == (pytest.approx(1.465), pytest.approx(1.465))
    assert (str(results["final_loss_unclipped"][0]), results["final_loss_unclipped"][1]) == ("nan", 1.5)
    assert results["final_loss_clipped"] == (0.9, 1.25)
    assert json.dumps(c.as_dict(), allow_nan=False)
    for width in (60, 80, 200):
        lines = printed(comparisonview.comparison(c, width=width, ascii=False), width)
        assert max(map(len, lines)) <= width
        assert any(line.split() == ["optimizer.lr", "0.05", "0.1"] for line in lines)
        assert any(line.split() == ["final", "loss,", "unclipped", "lost", "1.5"] for line in lines)


def test_two_runs_of_one_spec() -> None:
    read(spec_run("runs/a"), max_norm=1.5)
    read(spec_run("runs/b"), max_norm=1.5)
    c = compared()
    assert (c.same_source, c.settings, c.machine) == (True, (), ())
    assert c.summary == "The threshold is 1.5 in both; the spec is the same."
    read(Run(Path("runs/b"), RunInfo(**json_info("runs/b"))), max_norm=3.0)
    assert compared().summary == (
        "The threshold moved from 1.5 to 3 (x 2); the spec is the same and so is all else that a run records: look at the code and the "
        "data."
    )


def json_info(folder: str) -> dict[str, Any]:
    raw = json.loads(Path(folder, "run.json").read_text())
    return {k: v for k, v in raw.items() if k != "schema"} | {"source": source_of(raw["source"])}


def test_two_scripts_differ_in_their_words_or_in_their_text() -> None:
    read(script_run("runs/a"), max_norm=2.0)
    script_run("runs/b", "train.py", "--lr", "0.2", "--fast", seeds=[1])
    c = compared()
    assert fields(c) == {"--lr": ("0.1", "0.2"), "--fast": (None, True), "seeds": ([0], [1])}
    assert c.summary == (
        "runs/b has not been read yet (`clipcal recommend runs/b` reads it); the command differs in --lr, --fast and seeds."
    )
    Path("train.py").write_text("print('better')\n")
    script_run("runs/c")
    c = compare_runs(Path("runs/a"), Path("runs/c"), now=NOW)
    assert c.same_source is False
    assert list(fields(c)) == ["the script's text"]


def test_two_kinds_of_source_and_of_threshold() -> None:
    read(spec_run("runs/a"), max_norm=2.0)
    read(script_run("runs/b", method="value"), max_norm=0.1)
    assert compared().summary.startswith(
        "The thresholds are of two kinds, norm 2 and value 0.1; one is of a spec, the other of a script"
    )


@pytest.mark.parametrize(
    ("a", "b", "found"),
    [
        ("t.py --lr 1 -v", "t.py --lr=2 -v", {"--lr": ("1", "2")}),
        ("t.py x", "t.py y", {"command": ("t.py x", "t.py y")}),
        ("t.py --a 1 --a 2", "t.py --a 1 --a 3", {"command": ("t.py --a 1 --a 2", "t.py --a 1 --a 3")}),
        ("t.py --t -0.5", "t.py --t 0.5", {"--t": ("-0.5", "0.5")}),
        ("t.py --a --b", "t.py --b --a", {"command": ("t.py --a --b", "t.py --b --a")}),
        ("t.py --a", "t.py --a", {}),
    ],
)
def test_words_by_option(a: str, b: str, found: dict[str, tuple[str, str]]) -> None:
    assert {m.field: (m.a, m.b) for m in moved_words(a.split(), b.split())} == found


def test_what_is_no_run_is_not_compared() -> None:
    spec_run("runs/a")
    for place, word in (("runs", "`clipcal runs runs` lists"), ("nowhere", "no such run"), ("spec.yaml", "is a file")):
        with pytest.raises(InputError, match=word):
            compare_runs(Path("runs/a"), Path(place), now=NOW)
    with pytest.raises(InputError, match=r"no such folder\. Did you mean 'runs'"):
        listed("rusn")
    with pytest.raises(InputError, match="is a file"):
        listed("spec.yaml")
