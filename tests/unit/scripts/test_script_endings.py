"""How long a script is waited for when it is over: as long as it goes on ending, however slow the machine is. The time here is made up."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from clipcal.scripts import processes as commands
from clipcal.scripts import running
from clipcal.scripts.child.session import STOP

WORKER, LAUNCHER = 11, 10


class Slow:
    """A launcher and its worker, which end at these seconds; ``starved`` is the part of the time in which others have the cores."""

    is_shell = False

    def __init__(self, *, worker: float, launcher: float, starved: float = 0.0) -> None:
        self.now, self.starved = 0.0, starved
        self.ends = {WORKER: worker, LAUNCHER: launcher}

    def ended(self) -> int | None:
        return 0 if self.now >= self.ends[LAUNCHER] else None

    def is_running(self, pids: list[int]) -> bool:
        return any(self.now < self.ends[pid] for pid in pids)

    def waited(self) -> dict[int, float]:
        return {pid: self.starved * self.now for pid, end in self.ends.items() if self.now < end}

    def sleep(self, seconds: float) -> None:
        self.now += seconds


def ending_of(processes: Slow, session: Path, monkeypatch: pytest.MonkeyPatch, *, refused: bool) -> int | None:
    """The exit code that is waited for, None where the script is ended from outside."""
    time = SimpleNamespace(monotonic=lambda: processes.now, sleep=processes.sleep)
    for module in (running, commands):
        monkeypatch.setattr(module, "time", time)
    if refused:
        (session / f"refused-{WORKER}").write_text("It cannot be watched.")
    picked = [SimpleNamespace(about={"pid": WORKER})] * (not refused)
    gathering = SimpleNamespace(poll=lambda: ([], None), given=0 if refused else 5, picked=picked)
    watch: Callable[..., int | None] = running._watch
    code = watch(session, processes, gathering, 5, lambda *found: None, lambda: False)
    assert (session / STOP).exists()
    return code


@pytest.mark.parametrize("refused", [True, False])
@pytest.mark.parametrize(
    "slow",
    [
        pytest.param({"worker": 0.8, "launcher": 1.0}, id="quick"),
        pytest.param({"worker": 8.0, "launcher": 9.0}, id="a worker that takes its time"),
        pytest.param({"worker": 60.0, "launcher": 90.0, "starved": 0.95}, id="a busy machine"),
    ],
)
def test_a_launcher_is_left_to_end_by_itself(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, refused: bool, slow: dict[str, Any]
) -> None:
    """One that is told to end prints a traceback, which would stand before what the user is to read."""
    assert ending_of(Slow(**slow), tmp_path, monkeypatch, refused=refused) == 0


@pytest.mark.parametrize("refused", [True, False])
@pytest.mark.parametrize(
    "hung",
    [
        pytest.param({"worker": 1e9, "launcher": 1e9}, id="a worker that stays"),
        pytest.param({"worker": 1.0, "launcher": 1e9}, id="a launcher that stays"),
        pytest.param({"worker": 1.0, "launcher": 1e9, "starved": 0.5}, id="on a busy machine"),
    ],
)
def test_what_does_not_end_is_ended(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, refused: bool, hung: dict[str, Any]
) -> None:
    assert ending_of(Slow(**hung), tmp_path, monkeypatch, refused=refused) is None


def test_time_without_a_core_is_known_of_living_processes(monkeypatch: pytest.MonkeyPatch) -> None:
    processes = Slow(worker=5.0, launcher=9.0, starved=1.0)
    monkeypatch.setattr(commands, "time", SimpleNamespace(monotonic=lambda: processes.now))
    clock = commands.Clock(processes)  # type: ignore[arg-type]
    processes.now, processes.starved = 1.0, 0.75
    assert clock.read() == pytest.approx(0.25)
    processes.now = 5.0  # the worker is gone, and the launcher waited as before
    assert clock.read() == pytest.approx(1.25)


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="the system does not say")
def test_a_process_of_the_command_is_seen_to_wait(tmp_path: Path) -> None:
    """Two that want the same core: one of them waits."""
    core = min(os.sched_getaffinity(0))
    busy = f"import os; os.sched_setaffinity(0, [{core}])\nwhile True: pass"
    words = [sys.executable, "-c", f"import os\nos.fork()\n{busy}"]
    command = commands.Processes(words, cwd=tmp_path, env=os.environ | {"MARK": "ours"}, mark="MARK=ours", output=2)
    try:
        while max(command.waited().values(), default=0.0) < 0.05:
            assert command.ended() is None
    finally:
        command.end()
    assert command.waited() == {}
