"""A command -> its processes: started in a session of their own, stopped when asked, gone at the end whatever happens."""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import IO

_PR_SET_PDEATHSIG = 1
SHELLS = ("bash", "sh", "dash", "zsh", "fish", "ksh", "make", "env", "xargs")


class Processes:
    """The command and everything that it started. ``mark`` stands in the environment of all of them, and of nothing else."""

    def __init__(
        self, argv: Sequence[str], *, cwd: Path, env: Mapping[str, str], mark: str, output: IO[bytes] | int
    ) -> None:
        self._mark = mark.encode()
        self.is_shell = Path(argv[0]).name in SHELLS or Path(argv[0]).suffix == ".sh"
        self._child = subprocess.Popen(
            list(argv),
            cwd=cwd,
            env=dict(env),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,  # a Ctrl-C is ours to handle, and the whole group can be ended
            preexec_fn=_dying_with_parent(),
        )

    def ended(self) -> int | None:
        """The exit code, negative for a signal; None while it runs."""
        return self._child.poll()

    def is_running(self, pids: Sequence[int]) -> bool:
        """Whether any of these processes of the command's is still there."""
        living = set(self._living()) if sys.platform.startswith("linux") else set(pids)
        return any(pid in living for pid in pids)

    def end(self, grace: float = 3.0) -> None:
        """Ask every process to end, and make those that do not."""
        if self._signal(signal.SIGTERM):
            until = time.monotonic() + grace
            while time.monotonic() < until and (self._child.poll() is None or self._living()):
                time.sleep(0.02)
            self._signal(signal.SIGKILL)
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._child.wait(timeout=grace)

    def _signal(self, number: signal.Signals) -> bool:
        """Whether there was anybody to send it to."""
        living = self._living()
        if self._child.poll() is None:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(self._child.pid, number)
            living.append(self._child.pid)
        for pid in living:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.kill(pid, number)
        return bool(living)

    def _living(self) -> list[int]:
        """Processes that carry the mark: launchers start workers in sessions of their own, which no group reaches."""
        found = []
        with contextlib.suppress(OSError):
            for entry in os.scandir("/proc"):
                if entry.name.isdigit() and int(entry.name) != os.getpid():
                    with contextlib.suppress(OSError), open(f"/proc/{entry.name}/environ", "rb") as f:
                        if self._mark in f.read():
                            found.append(int(entry.name))
        return found


def _dying_with_parent() -> Callable[[], None] | None:
    """On Linux, a child that is killed when this process is: a shell script would go on with its next line."""
    if not sys.platform.startswith("linux"):
        return None
    prctl = ctypes.CDLL(None).prctl

    def ask() -> None:
        prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)

    return ask
