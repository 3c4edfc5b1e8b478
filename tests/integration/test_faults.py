"""Killed, interrupted, out of disk: every step that was reported is there, and the next command says or does what to do."""

from __future__ import annotations

import contextlib
import json
import multiprocessing
import os
import random
import re
import resource
import signal
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from conftest import Clipcal, Project, rows_of, snapshot
from nursery import PYTHON, REAL, SESSION

from clipcal.run.layers import read_layers

DROPS = """
import os, signal, time

class Slow(Net):
    def __init__(self, delay=0.003):
        super().__init__(dropout=0.3)
        self.delay = delay
    def forward(self, x):
        time.sleep(self.delay)
        return super().forward(x)

class Signalled(Net):
    '''Sends itself ``signals`` at its ``at``-th forward pass, the first time that this file is run.'''
    def __init__(self, at, signals, building=0):
        super().__init__(dropout=0.3)
        self.at, self.signals, self.calls = at, signals, 0
        self.send(building)
    def send(self, signals):
        if not os.path.exists("sent"):
            for _ in range(signals):
                open("sent", "w").close()
                os.kill(os.getpid(), signal.SIGINT)
    def forward(self, x):
        self.calls += 1
        if self.calls == self.at:
            self.send(self.signals)
        return super().forward(x)
"""
SHUFFLED: dict[str, Any] = {
    "_target_": "torch.utils.data.DataLoader",
    "dataset": {"_target_": "toy.points", "n": 40},
    "batch_size": 8,
    "shuffle": True,
}
DECAY: dict[str, Any] = {"_target_": "torch.optim.lr_scheduler.ExponentialLR", "gamma": 0.99}


class Started:
    """The command in a process and a session of its own, its stderr read as it comes."""

    def __init__(self, arguments: list[str], folder: Path, environment: dict[str, str]) -> None:
        with tempfile.NamedTemporaryFile("r") as number:
            self._begin(arguments, folder, environment | {SESSION: number.name, REAL: "1"})
            self.pid = 0
            while not self.pid and self.process.poll() is None:
                self.pid = int(number.read() or 0)
                time.sleep(0.01)
        self._lines: list[str] = []
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _begin(self, arguments: list[str], folder: Path, environment: dict[str, str]) -> None:
        self.process = subprocess.Popen(
            [str(PYTHON), "-m", "clipcal", *arguments],
            cwd=folder,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def _read(self) -> None:
        assert self.process.stderr is not None
        self._lines.extend(self.process.stderr)

    @property
    def stderr(self) -> str:
        return "".join(self._lines)

    def reported(self) -> int:
        """The last step that the progress lines spoke of."""
        return max((int(n) for n in re.findall(r"^step (\d+)/", self.stderr, re.MULTILINE)), default=0)

    def until(self, condition: Callable[[], bool]) -> None:
        """Wait for what has to come before the process ends."""
        deadline = time.monotonic() + 60
        while not condition():
            assert self.process.poll() is None, f"ended with {self.process.returncode}:\n{self.stderr}"
            assert time.monotonic() < deadline, f"never came:\n{self.stderr}"
            time.sleep(0.01)

    def send(self, number: signal.Signals, *, everyone: bool = False) -> int:
        """Send a signal, as a terminal does to ``everyone`` in the session, and give the exit code."""
        (os.killpg if everyone else os.kill)(self.pid, number)
        code = self.process.wait(timeout=60)
        self._reader.join(timeout=10)
        return code

    def left(self) -> list[int]:
        """The processes of the session that still run."""
        found = []
        for stat in Path("/proc").glob("[0-9]*/stat"):
            with contextlib.suppress(OSError):
                state, _, _, session = stat.read_text().rpartition(")")[2].split()[:4]
                if int(session) == self.pid and state != "Z":
                    found.append(int(stat.parent.name))
        return found

    def left_behind(self) -> list[int]:
        """Those that still run a few seconds after: servers of multiprocessing end when they find their parent gone."""
        deadline = time.monotonic() + 10
        while self.left() and time.monotonic() < deadline:
            time.sleep(0.05)
        return self.left()

    def end(self) -> None:
        for pid in [*self.left(), self.pid]:
            with contextlib.suppress(OSError):
                os.kill(pid, signal.SIGKILL)
        self.process.wait(timeout=60)
        self._reader.join(timeout=10)
        for stream in (self.process.stdout, self.process.stderr):
            if stream is not None:
                stream.close()


Start = Callable[..., Started]
needs_proc = pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="looks for processes in /proc")


@pytest.fixture
def start(project: Project, environment: dict[str, str]) -> Iterator[Start]:
    """Start the command in the project's folder; what is left of it is ended with the test."""
    started: list[Started] = []

    def run(*arguments: object) -> Started:
        started.append(Started([str(a) for a in arguments], project.folder, environment))
        return started[-1]

    yield run
    for one in started:
        one.end()


def info(run: Path) -> dict[str, Any]:
    value: dict[str, Any] = json.loads((run / "run.json").read_text())
    return value


def assert_same_run(one: Path, other: Path) -> None:
    """The same steps bit for bit, in the trace and in the layers."""
    assert rows_of(one / "trace.jsonl") == rows_of(other / "trace.jsonl")
    assert (one / "layers.f32").read_bytes() == (other / "layers.f32").read_bytes()


@contextlib.contextmanager
def full_disk(size: int) -> Iterator[None]:
    """No file of this process, or of one that it starts, grows beyond ``size`` bytes: the write fails, as on a full disk."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    before = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        signal.signal(signal.SIGXFSZ, before)


# Killed


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_a_killed_profile_keeps_every_step_that_was_reported(
    project: Project, clipcal: Clipcal, start: Start, seed: int
) -> None:
    project.code(DROPS)
    project.spec(model={"_target_": "toy.Slow"}, steps=600)
    started = start("profile", "spec.yaml")
    started.until(lambda: started.reported() > 0)
    time.sleep(random.Random(seed).uniform(0, 1))
    assert started.send(signal.SIGKILL) == -signal.SIGKILL
    run = project.run()
    kept = (run / "trace.jsonl").read_bytes().count(b"\n")
    assert kept >= started.reported()
    assert len(read_layers(run / "layers.f32").norms) >= kept
    answer = clipcal("recommend", "runs/spec", "--json")
    assert answer.code in (0, 3), answer.stderr
    assert answer.json()["steps"] == kept
    assert f"was cut short, or still runs after {kept} of 600 steps" in " ".join(answer.json()["caveats"])
    clipcal("profile", "spec.yaml").refused("runs/spec", f"{kept} of 600 steps", "--resume", "--force")


@pytest.mark.parametrize("cut", [1, 60, 131])
def test_a_run_killed_within_a_line_is_resumed_to_the_same_run(project: Project, clipcal: Clipcal, cut: int) -> None:
    project.code(DROPS)
    project.spec(model={"_target_": "toy.Slow", "delay": 0.0}, data=SHUFFLED, scheduler=DECAY, steps=60)
    clipcal("profile", "spec.yaml", "--out", "whole").ok()
    clipcal("profile", "spec.yaml").ok()
    run = project.run()
    lines = (run / "trace.jsonl").read_bytes().splitlines(keepends=True)
    (run / "trace.jsonl").write_bytes(b"".join(lines[:33]) + lines[33][:cut])
    os.truncate(run / "layers.f32", (run / "layers.f32").stat().st_size - 25 * 16 - 7)  # 34 rows and a part of one
    (run / "run.json").write_text(json.dumps(info(run) | {"status": "running", "finished": None}))
    clipcal("profile", "spec.yaml", "--resume").ok()
    assert_same_run(run, project.folder / "whole")
    assert info(run)["status"] == "complete"


def test_a_complete_run_can_be_made_longer(project: Project, clipcal: Clipcal) -> None:
    project.code(DROPS)
    project.spec(model={"_target_": "toy.Slow", "delay": 0.0}, data=SHUFFLED, scheduler=DECAY)
    clipcal("profile", "spec.yaml", "--out", "whole", "-n", 150).ok()
    clipcal("profile", "spec.yaml", "-n", 70).ok()
    clipcal("profile", "spec.yaml", "-n", 150, "--resume").ok()
    assert_same_run(project.run(), project.folder / "whole")
    assert info(project.run())["steps"] == 150


# Interrupted


def test_ctrl_c_keeps_every_step_and_resume_makes_the_run_that_it_would_have_been(
    project: Project, clipcal: Clipcal, start: Start
) -> None:
    project.code(DROPS)
    project.spec(model={"_target_": "toy.Slow"}, data=SHUFFLED, scheduler=DECAY, steps=300)
    started = start("profile", "spec.yaml")
    started.until(lambda: started.reported() > 0)
    assert started.send(signal.SIGINT, everyone=True) == 130
    assert "Traceback" not in started.stderr
    assert "--resume" in started.stderr
    run = project.run()
    kept = len(rows_of(run / "trace.jsonl"))
    assert started.reported() <= kept < 300
    assert info(run)["status"] == "interrupted"
    assert info(run)["reason"] == f"interrupted after step {kept - 1}"
    assert len(read_layers(run / "layers.f32").norms) == kept
    clipcal("profile", "spec.yaml", "--resume").ok()
    clipcal("profile", "spec.yaml", "--out", "whole").ok()
    assert_same_run(run, project.folder / "whole")
    assert info(run)["status"] == "complete"
    assert info(run)["reason"] is None


@pytest.mark.parametrize(("at", "signals"), [(1, 1), (5, 1), (5, 2), (64, 1), (64, 2), (65, 2)])
def test_interrupted_at_any_step_the_run_can_be_gone_on_with(
    project: Project, clipcal: Clipcal, at: int, signals: int
) -> None:
    project.code(DROPS)
    model = {"_target_": "toy.Signalled", "at": at, "signals": signals}
    project.spec(model=model, data=SHUFFLED, steps=100)
    answer = clipcal("profile", "spec.yaml")
    assert answer.code == 130, answer.stderr
    assert answer.stdout == ""
    assert "Traceback" not in answer.stderr
    run = project.run()
    finished = at if signals == 1 else at - 1  # a second Ctrl-C does not wait for the step
    assert len(rows_of(run / "trace.jsonl")) == finished
    assert info(run)["status"] == "interrupted"
    clipcal("profile", "spec.yaml", "--resume").ok()
    clipcal("profile", "spec.yaml", "--out", "whole").ok()
    assert_same_run(run, project.folder / "whole")


def test_interrupted_in_the_last_step_the_run_is_complete(project: Project, clipcal: Clipcal) -> None:
    project.code(DROPS)
    project.spec(model={"_target_": "toy.Signalled", "at": 20, "signals": 1})
    assert clipcal("profile", "spec.yaml").code in (0, 130)
    assert len(rows_of(project.run() / "trace.jsonl")) == 20
    assert info(project.run())["status"] == "complete"


@pytest.mark.parametrize("signals", [1, 2])
def test_interrupted_before_the_first_step_nothing_is_in_the_way_of_the_next_try(
    project: Project, clipcal: Clipcal, signals: int
) -> None:
    project.code(DROPS)
    project.spec(model={"_target_": "toy.Signalled", "at": 0, "signals": 0, "building": signals})
    answer = clipcal("profile", "spec.yaml")
    assert answer.code == 130
    assert "Traceback" not in answer.stderr
    clipcal("profile", "spec.yaml", *(["--resume"] if project.run().exists() else [])).ok()
    assert len(rows_of(project.run() / "trace.jsonl")) == 20


@pytest.fixture
def slow_run(project: Project, clipcal: Clipcal) -> Path:
    """A recorded run whose arms take most of a second each."""
    project.code(DROPS)
    project.spec(model={"_target_": "toy.Slow", "delay": 0.01}, steps=70)
    clipcal("profile", "spec.yaml").ok()
    return project.run()


def arms_of(run: Path) -> dict[str, bytes]:
    return {k: v for k, v in snapshot(run / "arms").items() if k.endswith(".jsonl")} if (run / "arms").exists() else {}


@needs_proc
def test_ctrl_c_during_verify_keeps_the_finished_arms_and_leaves_no_process(
    clipcal: Clipcal, start: Start, slow_run: Path
) -> None:
    before = snapshot(slow_run)
    two = ["--max-norm", 4, "--max-norm", 5, "--seeds", 1]
    started = start("verify", "runs/spec", *two, "--jobs", 1)
    started.until(lambda: bool(arms_of(slow_run)) and bool(list(slow_run.glob("arms/*.partial"))))
    assert started.send(signal.SIGINT, everyone=True) == 130
    assert "Traceback" not in started.stderr
    assert started.left_behind() == []
    finished = arms_of(slow_run)
    assert len(finished) == 1
    assert all(len(text.splitlines()) == 70 for text in finished.values())
    kept = snapshot(slow_run)
    assert {k: kept[k] for k in before if k != "recommendation.json"} == {
        k: v for k, v in before.items() if k != "recommendation.json"
    }
    answer = clipcal("verify", "runs/spec", *two, "--jobs", 1, "--json")
    assert answer.code in (0, 3)
    assert "2 are there already" in answer.stderr
    assert {k: arms_of(slow_run)[k] for k in finished} == finished
    assert not list(slow_run.glob("arms/*.partial"))


@needs_proc
def test_ctrl_c_while_the_arms_start_shows_no_traceback_and_leaves_no_process(start: Start, slow_run: Path) -> None:
    started = start("verify", "runs/spec", "--max-norm", 4, "--seeds", 1, "--jobs", 1)
    started.until(lambda: "training" in started.stderr and len(started.left()) >= 3)  # itself, the tracker, an arm
    assert started.send(signal.SIGINT, everyone=True) == 130
    assert "Traceback" not in started.stderr
    assert started.left_behind() == []


@needs_proc
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_a_verify_that_is_ended_leaves_no_process_that_trains_for_ever(
    start: Start, slow_run: Path, number: signal.Signals
) -> None:
    """A cluster's preemption, `timeout 600 clipcal verify`, a closed terminal."""
    started = start("verify", "runs/spec", "--max-norm", 4, "--seeds", 1, "--jobs", 1)
    started.until(lambda: bool(list(slow_run.glob("arms/*.partial"))))
    assert started.send(number) != 0
    assert "Traceback" not in started.stderr
    deadline = time.monotonic() + 20  # an arm may end the second that it has left
    while started.left() and time.monotonic() < deadline:
        time.sleep(0.1)
    assert started.left_behind() == []


def test_a_worker_that_is_killed_is_said_in_a_sentence(clipcal: Clipcal, slow_run: Path) -> None:
    def kill_one() -> None:
        for _ in range(6000):
            if list(slow_run.glob("arms/*.partial")):
                for child in multiprocessing.active_children():
                    child.kill()
                return
            time.sleep(0.01)

    killer = threading.Thread(target=kill_one)
    killer.start()
    answer = clipcal("verify", "runs/spec", "--max-norm", 4, "--seeds", 1)
    killer.join()
    answer.refused("killed", "memory", "--jobs 1")
    assert not (slow_run / "verification.json").exists()
    assert arms_of(slow_run) == {}


# A full disk


@pytest.mark.parametrize("size", [9_000, 20_000])
def test_a_full_disk_keeps_the_steps_before_and_the_run_can_be_gone_on_with(
    project: Project, clipcal: Clipcal, size: int
) -> None:
    project.code(DROPS)
    project.spec(model={"_target_": "toy.Slow", "delay": 0.0}, data=SHUFFLED, steps=300)
    clipcal("profile", "spec.yaml", "--out", "whole").ok()
    with full_disk(size):
        answer = clipcal("profile", "spec.yaml")
    answer.refused("runs/spec/trace.jsonl", "cannot be written", "What was recorded before is kept. Free some space")
    run = project.run()
    kept = rows_of(run / "trace.jsonl")
    assert kept
    assert kept == rows_of(project.folder / "whole" / "trace.jsonl")[: len(kept)]
    assert info(run)["status"] == "failed"
    assert clipcal("recommend", "runs/spec", "--json").json()["steps"] == len(kept)
    clipcal("profile", "spec.yaml", "--resume").ok()
    assert_same_run(run, project.folder / "whole")


@pytest.mark.parametrize("size", [0, 100, 1000])
def test_a_disk_that_is_full_from_the_start_leaves_nothing_in_the_way(
    project: Project, clipcal: Clipcal, size: int
) -> None:
    with full_disk(size):
        clipcal("profile", "spec.yaml").refused("runs/spec", "cannot be written", "ree some space")
    clipcal("profile", "spec.yaml").ok()


def test_a_full_disk_does_not_lose_the_run_that_force_replaces(project: Project, clipcal: Clipcal) -> None:
    clipcal("profile", "spec.yaml").ok()
    before = snapshot(project.run())
    with full_disk(100):
        clipcal("profile", "spec.yaml", "--force").refused("runs/spec", "cannot be written")
    assert snapshot(project.run()) == before


def test_a_disk_that_is_full_when_the_run_ends_is_said_without_a_traceback(project: Project, clipcal: Clipcal) -> None:
    """run.json is written at the start and once more, a few bytes longer, at the end."""
    project.text(project.spec().read_text() + "# " + 20_000 * "x" + "\n")
    clipcal("profile", "spec.yaml", "-n", 70, "--out", "runs/full").ok()
    size = (project.run("full") / "run.json").stat().st_size
    with full_disk(size - 5):
        clipcal("profile", "spec.yaml", "-n", 70, "--out", "runs/spec").refused("run.json", "cannot be written")
    assert len(rows_of(project.run() / "trace.jsonl")) == 70
    assert clipcal("recommend", "runs/spec").code in (0, 3)


def test_recommend_answers_on_a_full_disk_too(project: Project, clipcal: Clipcal) -> None:
    clipcal("profile", "spec.yaml", "-n", 70).ok()
    expected = clipcal("recommend", "runs/spec", "--json")
    before = snapshot(project.run())
    with full_disk(0):
        answer = clipcal("recommend", "runs/spec", "--json")
    assert (answer.code, answer.stdout) == (expected.code, expected.stdout)
    assert "cannot be written" in answer.stderr
    assert snapshot(project.run()) == before


def test_verify_on_a_full_disk_says_so_and_keeps_what_is_there(
    project: Project, clipcal: Clipcal, clipcal_process: Clipcal
) -> None:
    clipcal("profile", "spec.yaml", "-n", 70).ok()
    run = project.run()
    before = snapshot(run)
    with full_disk(4_000):  # in the arms' processes too
        clipcal_process("verify", "runs/spec", "--max-norm", 9, "--seeds", 1, "--jobs", 1).refused("cannot be written")
    kept = snapshot(run)
    assert {k: kept.get(k) for k in before} == before
    assert arms_of(run) == {}
    for arm in ("max_norm=9", f"max_norm={json.loads((run / 'recommendation.json').read_text())['max_norm']:g}"):
        (run / "arms" / f"{arm}-seed0.jsonl").write_bytes((run / "trace.jsonl").read_bytes())
    with full_disk(500):  # all the arms are there now
        clipcal_process("verify", "runs/spec", "--max-norm", 9, "--seeds", 1).refused(
            "verification.json", "cannot be written"
        )


def test_what_a_process_killed_while_replacing_left_behind_is_in_nobodys_way(
    project: Project, clipcal: Clipcal
) -> None:
    clipcal("profile", "spec.yaml", "-n", 12).ok()
    run = project.run()
    recorded = (run / "trace.jsonl").read_bytes()
    aside = run / ".replaced"
    for name in ("run.json", "trace.jsonl", "layers.f32"):
        (aside).mkdir(exist_ok=True)
        (run / name).rename(aside / name)
    answer = clipcal("profile", "spec.yaml", "-n", 12)
    answer.refused("already holds a run")
    assert (run / "trace.jsonl").read_bytes() == recorded, "killed before the new run was there: the old one is back"
    aside.mkdir()
    (aside / "arms").mkdir()
    (aside / "arms" / "old.jsonl").write_text("")
    (run / "arms").mkdir()
    (run / "arms" / "new.jsonl").write_text("")
    clipcal("profile", "spec.yaml", "-n", 12, "--force").ok()
    assert not aside.exists()
