"""A command -> its processes: started in a session of their own, stopped when asked, gone at the end whatever happens."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO

_DYING_WITH_PARENT = """
import ctypes, os, signal, sys
ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG
if os.getppid() == int(sys.argv[1]):
    try:
        os.execvp(sys.argv[2], sys.argv[2:])
    except OSError as e:
        sys.exit(f"{sys.argv[2]}: cannot be started ({e.strerror}).")
"""
"""On Linux a command is killed when this process is: a shell script would go on with its next line. Asked for in a process that then
becomes the command, since to ask for it between fork and exec (``preexec_fn``) is not safe beside other threads."""
SHELLS = ("bash", "sh", "dash", "zsh", "fish", "ksh", "make", "env", "xargs")


class Processes:
    """The command and everything that it started. ``mark`` stands in the environment of all of them, and of nothing else."""

    def __init__(
        self, argv: Sequence[str], *, cwd: Path, env: Mapping[str, str], mark: str, output: IO[bytes] | int
    ) -> None:
        self._mark = mark.encode()
        self.is_shell = Path(argv[0]).name in SHELLS or Path(argv[0]).suffix == ".sh"
        self._child = subprocess.Popen(
            _with_parent(argv),
            cwd=cwd,
            env=dict(env),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,  # a Ctrl-C is ours to handle, and the whole group can be ended
        )

    def ended(self) -> int | None:
        """The exit code, negative for a signal; None while it runs."""
        return self._child.poll()

    def is_running(self, pids: Sequence[int]) -> bool:
        """Whether any of these processes of the command's is still there."""
        living = set(self._living()) if sys.platform.startswith("linux") else set(pids)
        return any(pid in living for pid in pids)

    def waited(self) -> dict[int, float]:
        """For each of its processes the seconds in which it could have run and had no core; nothing where the system does not say."""
        found = {}
        for pid in self._living():
            with contextlib.suppress(OSError, ValueError, IndexError), open(f"/proc/{pid}/schedstat") as f:
                found[pid] = int(f.read().split()[1]) / 1e9
        return found

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


class Clock:
    """Seconds since it was made, without those in which a process of the command waited for a core that others had: on a busy machine
    it would not be given the time that it needs."""

    def __init__(self, processes: Processes) -> None:
        self._processes = processes
        self._now, self._waited = time.monotonic(), processes.waited()
        self._seconds = 0.0

    def read(self) -> float:
        now, waited = time.monotonic(), self._processes.waited()
        longest = max((w - self._waited.get(pid, w) for pid, w in waited.items()), default=0.0)
        self._seconds += max(0.0, now - self._now - longest)
        self._now, self._waited = now, waited
        return self._seconds


def _with_parent(argv: Sequence[str]) -> list[str]:
    """The words that start the command, so that it ends with this process."""
    if not sys.platform.startswith("linux"):
        return list(argv)
    return [sys.executable, "-I", "-S", "-c", _DYING_WITH_PARENT, str(os.getpid()), *argv]
