"""profile --resume of a run that something happened to: a lost layers file is written again, and where nothing can be written
it is said before anything is trained."""

from __future__ import annotations

import errno
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from conftest import Clipcal, Project, rows_of, snapshot

from clipcal.errors import InputError
from clipcal.run.directory import Replacement, RunInfo, open_run
from clipcal.run.layers import read_layers
from clipcal.run.source import Source
from clipcal.run.trace import AppendOnly

COUNTING = """
class Counting(Net):
    def forward(self, x):
        with open("calls", "a") as f:
            f.write("x")
        return super().forward(x)
"""


@pytest.fixture
def cut(project: Project, clipcal: Clipcal) -> Path:
    """A run of 90 steps of which 150 are wanted, and the whole one beside it."""
    project.spec(steps=150)
    clipcal("profile", "spec.yaml", "--out", "whole").ok()
    clipcal("profile", "spec.yaml", "-n", 90).ok()
    return project.run()


def remove(layers: Path) -> None:
    layers.unlink()


def empty(layers: Path) -> None:
    layers.write_bytes(b"")


def cut_header(layers: Path) -> None:
    layers.write_bytes(layers.read_bytes()[:20])


def other_file(layers: Path) -> None:
    layers.write_bytes(b"years of work\n" * 99)


def other_names(layers: Path) -> None:
    layers.write_bytes(layers.read_bytes().replace(b"inner.weight", b"other.weight"))


def shorter(layers: Path) -> None:
    os.truncate(layers, layers.stat().st_size - 25 * 16 - 7)


def as_it_was(layers: Path) -> None:
    pass


@pytest.mark.parametrize("damage", [remove, empty, cut_header, other_file, other_names, shorter, as_it_was])
def test_resume_writes_the_layers_of_all_steps(
    project: Project, clipcal: Clipcal, cut: Path, damage: Callable[[Path], None]
) -> None:
    damage(cut / "layers.f32")
    clipcal("profile", "spec.yaml", "--resume").ok()
    whole = project.folder / "whole"
    assert (cut / "layers.f32").read_bytes() == (whole / "layers.f32").read_bytes()
    assert rows_of(cut / "trace.jsonl") == rows_of(whole / "trace.jsonl")
    assert sorted(p.name for p in cut.iterdir()) == sorted(p.name for p in whole.iterdir())


def test_a_resume_that_comes_to_nothing_leaves_what_is_there(project: Project, clipcal: Clipcal, cut: Path) -> None:
    (cut / "layers.f32").unlink()
    before = snapshot(cut)
    project.code("""
class Failing(Net):
    calls = 0
    def forward(self, x):
        self.calls += 1
        if self.calls > 80:
            raise ValueError("enough")
        return super().forward(x)
Net = Failing
""")
    clipcal("profile", "spec.yaml", "--resume").blamed_user("enough")
    assert snapshot(cut) == before
    project.code("Net.forward = lambda self, x: self.outer(self.inner(x))\n")
    clipcal("profile", "spec.yaml", "--resume").refused("does not repeat")
    assert snapshot(cut) == before


def unprivileged(project: Project, environment: dict[str, str], *arguments: str) -> subprocess.CompletedProcess[str]:
    """The command as somebody whom permissions hold back: root is not, unless it gives up the right to."""
    command = [sys.executable, "-m", "clipcal", *arguments]
    if os.geteuid() == 0:
        if shutil.which("setpriv") is None:
            pytest.skip("root writes everywhere")
        command = ["setpriv", "--bounding-set=-dac_override,-dac_read_search", *command]
    return subprocess.run(
        command, cwd=project.folder, env=environment, capture_output=True, text=True, timeout=120, check=False
    )


@pytest.mark.parametrize("protected", [".", "trace.jsonl", "layers.f32"])
def test_a_run_that_cannot_be_written_is_refused_before_training(
    project: Project, clipcal: Clipcal, environment: dict[str, str], protected: str
) -> None:
    project.code(COUNTING)
    project.spec(model={"_target_": "toy.Counting"})
    clipcal("profile", "spec.yaml").ok()
    (project.folder / "calls").unlink()
    before = snapshot(project.run())
    path = project.run() / protected
    mode = path.stat().st_mode
    path.chmod(mode & 0o555)
    try:
        done = unprivileged(project, environment, "profile", "spec.yaml", "-n", "40", "--resume")
    finally:
        path.chmod(mode)
    assert done.returncode == 2, done.stderr
    assert done.stdout == ""
    (line,) = done.stderr.splitlines()
    shown = Path("runs/spec") / protected
    assert line.startswith(f"error: {shown}: cannot be written (Permission denied). "), line
    assert "where you may write" in line
    assert "space" not in line
    assert not (project.folder / "calls").exists(), "trained all the same"
    assert snapshot(project.run()) == before


def test_a_file_that_cannot_be_opened_to_be_appended_to_is_an_error_of_ours(tmp_path: Path) -> None:
    (tmp_path / "t").mkdir()
    with pytest.raises(InputError, match=r"t: cannot be written \(Is a directory\)"):
        AppendOnly(tmp_path / "t")


def test_a_replacement_that_cannot_begin_keeps_the_run(project: Project, clipcal: Clipcal) -> None:
    """The old run is set aside in .replaced; where that cannot be made, it stays where it is."""
    clipcal("profile", "spec.yaml").ok()
    (project.run() / ".replaced").write_text("in the way\n")
    before = snapshot(project.run())
    clipcal("profile", "spec.yaml", "--force").refused("runs/spec", "cannot be written", "--out")
    assert snapshot(project.run()) == before


def test_a_replacement_on_a_full_disk_says_to_free_space(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    info: dict[str, Any] = {"name": "x", "source": Source(), "fingerprint": "", "steps": 1, "seeds": [0]}
    monkeypatch.setattr(Path, "mkdir", full)
    with pytest.raises(InputError, match=r"No space left on device\)\. Free some space, or choose another place"):
        Replacement(tmp_path / "run", RunInfo(**info, device="cpu", threads=1), force=False)


def test_the_caveat_says_how_a_run_ended(project: Project, clipcal: Clipcal) -> None:
    project.code("""
class Failing(Net):
    calls = 0
    def forward(self, x):
        self.calls += 1
        if self.calls > 60:
            raise ValueError("enough")
        return super().forward(x)
""")
    project.spec(model={"_target_": "toy.Failing"}, steps=200)
    clipcal("profile", "spec.yaml").blamed_user("enough")
    caveats = clipcal("recommend", "runs/spec", "--json").json()["caveats"]
    assert any(
        "failed after 60 of 200 steps: " in c and c.endswith("raised ValueError at step 60: enough.") for c in caveats
    )
    path = project.run() / "run.json"
    for changes, words in (
        ({"status": "interrupted", "reason": "interrupted after step 59"}, "was interrupted after 60 of 200 steps."),
        ({"status": "failed", "reason": None}, "failed after 60 of 200 steps."),
        ({"status": "running", "reason": None}, "was cut short, or still runs after 60 of 200 steps."),
    ):
        path.write_text(json.dumps(json.loads(path.read_text()) | changes))
        caveats = clipcal("recommend", "runs/spec", "--json").json()["caveats"]
        assert f"The profile {words}" in caveats
    assert len(read_layers(project.run() / "layers.f32").norms) == 60


def test_resume_keeps_the_number_of_steps_that_was_asked_for(project: Project, clipcal: Clipcal) -> None:
    clipcal("profile", "spec.yaml", "-n", 30).ok()
    run = open_run(project.run())
    run.save(steps=50, status="interrupted")  # as Ctrl-C leaves it, with 20 steps to go
    clipcal("profile", "spec.yaml", "--resume").ok()
    assert len(rows_of(project.run() / "trace.jsonl")) == 50
    clipcal("profile", "spec.yaml", "--resume").refused("nothing is left to do")
    project.spec(steps=60)
    clipcal("profile", "spec.yaml", "--resume").ok()
    assert len(rows_of(project.run() / "trace.jsonl")) == 60
