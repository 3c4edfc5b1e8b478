"""However a watched script ends: its rows are kept, its processes are gone, the exit code is right."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from conftest import Clipcal, Project, rows_of
from nursery import PYTHON

from clipcal.run.directory import open_run
from clipcal.scripts import running

SLOW = """\
import os, sys, time, torch
from torch import nn

open(f"pid-{os.getpid()}", "w").close()
torch.manual_seed(0)
model = nn.Linear(4, 1)
optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
for step in range(2000):
    time.sleep(0.02)
    optimizer.zero_grad()
    model(torch.randn(8, 4)).pow(2).mean().backward()
    optimizer.step()
"""
FAST = SLOW.replace("time.sleep(0.02)", "pass")


def begin(project: Project, environment: dict[str, str], *words: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [str(PYTHON), "-m", "clipcal", "profile", *words],
        cwd=project.folder,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def wait_for(condition: Callable[[], bool], seconds: float = 60) -> None:
    until = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < until, "waited in vain"
        time.sleep(0.05)


def rows(project: Project, name: str = "train") -> int:
    trace = project.run(name) / "trace.jsonl"
    return trace.read_bytes().count(b"\n") if trace.exists() else 0


def gone(project: Project) -> bool:
    pids = [int(p.name.partition("-")[2]) for p in project.folder.glob("pid-*")]
    assert pids
    return not any(is_alive(pid) for pid in pids)


def is_alive(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return False
    return state != "Z"  # ended, and not yet asked for


@pytest.fixture
def slow(project: Project) -> Project:
    project.code(SLOW, "train.py")
    project.code(f"{PYTHON} train.py &\nwait\n{PYTHON} train.py\n", "go.sh")
    return project


@pytest.mark.parametrize(
    "command", [("train.py",), ("-o", "runs/train", "--", "bash", "go.sh")], ids=["script", "shell"]
)
def test_ctrl_c(slow: Project, environment: dict[str, str], command: tuple[str, ...]) -> None:
    process = begin(slow, environment, *command)
    wait_for(lambda: rows(slow) > 20)
    process.send_signal(signal.SIGINT)
    stdout, stderr = process.communicate(timeout=60)
    assert process.returncode == 130, stderr
    assert stdout == ""
    assert "Traceback" not in stderr
    assert "keeps every step" in stderr
    info = open_run(slow.run("train")).info
    assert info.status == "interrupted"
    assert [row["step"] for row in rows_of(slow.run("train") / "trace.jsonl")] == list(range(rows(slow)))
    assert gone(slow)


def test_ctrl_c_twice_while_it_does_not_listen(project: Project, environment: dict[str, str]) -> None:
    project.code(FAST + "    if step == 30:\n        time.sleep(1000)\n", "train.py")
    process = begin(project, environment, "train.py")
    wait_for(lambda: rows(project) > 20)
    process.send_signal(signal.SIGINT)
    time.sleep(0.5)
    process.send_signal(signal.SIGINT)
    _, stderr = process.communicate(timeout=60)
    assert process.returncode == 130, stderr
    assert "Traceback" not in stderr
    assert rows(project) == 31
    assert gone(project)


def test_clipcal_itself_is_killed(slow: Project, environment: dict[str, str]) -> None:
    process = begin(slow, environment, "-o", "runs/train", "--", "bash", "go.sh")
    wait_for(lambda: rows(slow) > 20)
    process.kill()
    process.communicate(timeout=60)
    wait_for(lambda: gone(slow), 20)
    assert len(list(slow.folder.glob("pid-*"))) == 1, "the shell went on"
    assert rows(slow) > 20


def test_the_script_is_killed(slow: Project, environment: dict[str, str]) -> None:
    process = begin(slow, environment, "train.py")
    wait_for(lambda: rows(slow) > 20)
    (pid,) = (int(p.name.partition("-")[2]) for p in slow.folder.glob("pid-*"))
    os.kill(pid, signal.SIGKILL)
    _, stderr = process.communicate(timeout=60)
    assert process.returncode == 4, stderr
    assert "was killed by SIGKILL" in stderr
    assert "kept in runs/train" in stderr
    assert rows(slow) > 20
    assert open_run(slow.run("train")).info.status == "failed"


def test_an_exception_in_the_script(project: Project, clipcal_process: Clipcal) -> None:
    text = (
        FAST.replace("for step", "class OddError(Exception): pass\n\nfor step")
        + "    if step == 25:\n        raise OddError('on purpose')\n"
    )
    path = project.code(text, "train.py")
    answer = clipcal_process("profile", "train.py")
    answer.blamed_user(
        "exit code 1 after 26 of 300 steps", "runs/train", file=path, line="raise OddError('on purpose')"
    )
    assert rows(project) == 26


def test_an_exception_under_our_hooks_shows_none_of_them(project: Project, clipcal_process: Clipcal) -> None:
    text = FAST.replace(
        "model(torch.randn(8, 4)).pow(2).mean().backward()",
        "loss = model(torch.randn(8, 4)).pow(2).mean()\n    loss.backward()\n    if step == 25:\n        loss.backward()",
    )
    path = project.code(text, "train.py")
    clipcal_process("profile", "train.py").blamed_user("exit code 1", file=path, line="loss.backward()")


def test_an_error_before_the_first_step(project: Project, clipcal_process: Clipcal) -> None:
    project.code("import sys, torch\nsys.exit(3)\n", "train.py")
    answer = clipcal_process("profile", "train.py")
    assert answer.code == 4
    assert "exit code 3 before its first optimizer step" in answer.stderr
    assert not (project.folder / "runs").exists()


STUBBORN = {
    "a bare except": FAST.replace(
        "    model(torch.randn(8, 4)).pow(2).mean().backward()\n    optimizer.step()\n",
        "    try:\n        model(torch.randn(8, 4)).pow(2).mean().backward()\n        optimizer.step()\n    except:\n        pass\n",
    ),
    "a hang at exit": "import atexit, time\natexit.register(time.sleep, 1000)\n" + FAST,
    "a thread that stays": "import threading, time\nthreading.Thread(target=time.sleep, args=(1000,)).start()\n" + FAST,
}


@pytest.mark.parametrize("how", STUBBORN)
def test_it_does_not_end_when_told(
    project: Project, clipcal: Clipcal, how: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(running, "GRACE", 1.0)
    project.code(STUBBORN[how], "train.py")
    clipcal("profile", "train.py", "-n", "40").ok()
    assert rows(project) == 40
    assert open_run(project.run("train")).info.status == "complete"
    assert gone(project)


def test_a_training_that_is_lost_is_no_error_of_the_script(project: Project, clipcal_process: Clipcal) -> None:
    text = (
        FAST.replace("lr=0.01", "lr=30.0")
        + "    if not torch.isfinite(next(model.parameters())).all():\n        sys.exit('loss is nan')\n"
    )
    project.code(text, "train.py")
    answer = clipcal_process("profile", "train.py").ok()
    assert "not finite" in answer.stderr
    assert open_run(project.run("train")).info.status == "stopped"


def test_what_is_there_is_not_replaced_by_a_script_that_fails(project: Project, clipcal_process: Clipcal) -> None:
    project.code(FAST, "train.py")
    clipcal_process("profile", "train.py", "-n", "30").ok()
    before = (project.run("train") / "trace.jsonl").read_bytes()
    clipcal_process("profile", "train.py", "-n", "30").refused("already holds a run")
    project.code("import sys, torch\nsys.exit(3)\n", "train.py")
    assert clipcal_process("profile", "train.py", "--force").code == 4
    assert (project.run("train") / "trace.jsonl").read_bytes() == before


def test_resume_goes_on_with_it(project: Project, clipcal_process: Clipcal) -> None:
    project.code(FAST, "train.py")
    clipcal_process("profile", "train.py", "-n", "60", "-o", "runs/whole").ok()
    clipcal_process("profile", "train.py", "-n", "30").ok()
    clipcal_process("profile", "train.py", "-n", "60", "--resume").ok()
    assert rows_of(project.run("train") / "trace.jsonl") == rows_of(project.run("whole") / "trace.jsonl")
