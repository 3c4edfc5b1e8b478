"""An existing run, other people's files, and --resume: nothing is replaced or lost unasked."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from conftest import Clipcal, Project, rows_of, snapshot

TRAINS = """\
model: {_target_: toy.Net}
data: {_target_: toy.batches}
loss: {_target_: torch.nn.MSELoss}
optimizer: {_target_: torch.optim.SGD, lr: 0.05}
steps: 20
device: cpu
"""


@pytest.mark.parametrize("command", ["profile", "calibrate"])
def test_an_existing_run_is_not_replaced_without_force(clipcal: Clipcal, recorded: Path, command: str) -> None:
    before = snapshot(recorded)
    clipcal(command, "spec.yaml").refused("runs/spec", "70 of 70 steps", "--resume", "--force", "--out")
    assert snapshot(recorded) == before


def test_force_replaces_the_run_and_keeps_other_files(clipcal: Clipcal, recorded: Path) -> None:
    clipcal("profile", "spec.yaml", "--force", "-n", 5).ok()
    assert (recorded / "notes.txt").read_text() == "what I thought of it\n"
    assert len(rows_of(recorded / "trace.jsonl")) == 5
    assert not (recorded / "recommendation.json").exists()


@pytest.mark.parametrize(
    ("text", "code"),
    [
        (TRAINS.replace("toy.Net", "toy.Nett"), 2),
        (TRAINS.replace("toy.batches}", "toy.short, length: 0}"), 2),
        (TRAINS.replace("toy.Net", "toy.Failing"), 4),
    ],
    ids=["a wrong target", "no data", "an exception"],
)
def test_force_with_a_spec_that_does_not_train_leaves_the_old_run(
    project: Project, clipcal: Clipcal, recorded: Path, text: str, code: int
) -> None:
    project.code("class Failing(Net):\n    def forward(self, x):\n        raise ValueError('no')\n")
    project.text(text)
    before = snapshot(recorded)
    assert clipcal("profile", "spec.yaml", "--force").code == code
    assert snapshot(recorded) == before


@pytest.mark.parametrize("force", [[], ["--force"]], ids=["without force", "with force"])
def test_files_that_are_no_run_are_never_touched(project: Project, clipcal: Clipcal, force: list[str]) -> None:
    folder = project.folder / "thesis"
    (folder / "arms").mkdir(parents=True)
    for name in ("chapter.tex", "trace.jsonl", "report.html", "arms/photo.jpg"):
        (folder / name).write_text("years of work\n")
    file = project.text("a letter\n", "letter.txt")
    before = snapshot(project.folder)
    clipcal("profile", "spec.yaml", "--out", "thesis", *force).refused("thesis", "other files", "--out")
    clipcal("profile", "spec.yaml", "--out", file.name, *force).refused("letter.txt", "is a file", "--out")
    clipcal("profile", "spec.yaml", "--out", ".", *force).refused("other files", "--out")
    assert snapshot(project.folder) == before


def test_a_run_that_appears_while_training_starts_is_not_destroyed(project: Project, clipcal: Clipcal) -> None:
    """Two profiles of one spec started together: the second to write finds what the first has written."""
    clipcal("profile", "spec.yaml", "--out", "first", "-n", 70).ok()
    project.code("""
import shutil

class Slow(Net):
    def __init__(self):
        super().__init__()
        shutil.copytree("first", "runs/spec")  # the other process got there first
""")
    project.spec(model={"_target_": "toy.Slow"})
    answer = clipcal("profile", "spec.yaml")
    assert snapshot(project.run()) == snapshot(project.folder / "first")
    answer.refused("runs/spec")


@pytest.mark.parametrize("out", ["letter.txt/run", "/proc/nowhere/run", "/dev/null"])
def test_a_place_that_cannot_be_written_is_named(project: Project, clipcal: Clipcal, out: str) -> None:
    file = project.text("a letter\n", "letter.txt")
    clipcal("profile", "spec.yaml", "--out", out).refused(out, "--out")
    assert file.read_text() == "a letter\n"


def test_out_that_says_nothing_about_where_is_refused(clipcal: Clipcal) -> None:
    clipcal("profile", "spec.yaml", "--out", "").refused("--out")


# Resuming


def test_resume_without_a_run_says_so(clipcal: Clipcal) -> None:
    clipcal("profile", "spec.yaml", "--resume").refused("runs/spec", "no such run", "clipcal profile")


def test_resume_of_a_whole_run_says_what_to_do(clipcal: Clipcal, recorded: Path) -> None:
    before = snapshot(recorded)
    clipcal("profile", "spec.yaml", "--resume", "-n", 70).refused("nothing is left", "70 steps", "--steps", "recommend")
    clipcal("profile", "spec.yaml", "--resume", "-n", 30).refused("nothing is left", "70 steps")
    assert snapshot(recorded) == before


@pytest.mark.parametrize(
    "changes",
    [{"optimizer": {"_target_": "torch.optim.SGD", "lr": 0.06}}, {"seed": 4}, {"accumulate": 2}],
    ids=["rate", "seed", "accumulate"],
)
def test_resume_with_another_spec_is_refused(
    project: Project, clipcal: Clipcal, recorded: Path, changes: dict[str, Any]
) -> None:
    before = snapshot(recorded)
    project.spec(**changes)
    clipcal("profile", "spec.yaml", "--resume", "-n", 90).refused("another spec", "--out", "--force")
    assert snapshot(recorded) == before


def test_resume_with_other_code_is_refused_and_loses_nothing(
    project: Project, clipcal: Clipcal, recorded: Path
) -> None:
    before = snapshot(recorded)
    project.code("def points_of(n):\n    pass\nNet.forward = lambda self, x: self.outer(self.inner(x))\n")
    clipcal("profile", "spec.yaml", "--resume", "-n", 90).refused(
        "Step 0 does not repeat", "code or the data", "--force"
    )
    assert snapshot(recorded) == before


def test_resume_of_a_run_killed_before_its_first_line_trains_it(project: Project, clipcal: Clipcal) -> None:
    """run.json is written before the trace is there."""
    clipcal("profile", "spec.yaml", "--out", "whole").ok()
    clipcal("profile", "spec.yaml").ok()
    for name in ("trace.jsonl", "layers.f32"):
        (project.run() / name).unlink()
    answer = clipcal("profile", "spec.yaml", "--resume")
    assert answer.code in (0, 2), answer.stderr
    if answer.code == 2:
        answer.refused("runs/spec", "--force")
    else:
        assert rows_of(project.run() / "trace.jsonl") == rows_of(project.folder / "whole" / "trace.jsonl")
