"""Python programs -> processes forked from one that has imported torch, which takes most of the time of a start.

`PYTHON` is called as Python is: with a script, `-m` or `-c`, and with any environment, folder and open files. It is a small program that hands
all of these to a server of this test run; the server forks, and the child becomes the program. Signals and the exit code are handed on. What
a fork cannot be, it starts as a real interpreter: other flags of Python's, other settings in its environment.

A child differs from a fresh interpreter in this: torch is imported before the first line, and not when the program says so; it has a process
group of its own and no terminal. What is about these is tested with `sys.executable`, or with `REAL` in the environment.
"""

from __future__ import annotations

import fcntl
import functools
import os
import socket
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

REAL = "NURSERY_REAL"
"""In the environment of a program: what it starts as ``sys.executable`` are real interpreters."""
SESSION = "NURSERY_SESSION"
"""In the environment of a program: it leads a session of its own, and writes its number into this file."""
FOLDER = "NURSERY_FOLDER"

PRELOADED = {
    "torch": ("torch", "torch._dynamo", "numpy", "json", "argparse", "typing"),
    "clipcal": (
        "clipcal.cli.main",
        "clipcal.training.profiling",
        "clipcal.recommendation.calibration",
        "clipcal.scripts.profiling",
        "clipcal.views.terminal.console",
        "clipcal.views.terminal.live",
        "clipcal.verification.verifying",
    ),
    "huggingface": (
        "transformers",
        "transformers.trainer",
        "transformers.models.bert",
        "accelerate",
        "accelerate.commands.launch",
        "trl",
        "datasets",
    ),
    "lightning": ("lightning", "lightning.pytorch", "lightning.fabric"),
}
"""What a process has imported that others are forked from, by its name. All have what torch's has."""

_STUB = """\
#!{python} -IS
import array, os, resource, signal, socket, sys

REAL, SERVER = {python!r}, {folder!r}
KNOWN = {{"PYTHONPATH", "PYTHONHASHSEED", "PYTHONDONTWRITEBYTECODE", "PYTHONUNBUFFERED", "PYTHONWARNINGS"}}


def real():
    os.execv(REAL, [REAL, *sys.argv[1:]])


words = sys.argv[1:]
flags = {{"-u": "PYTHONUNBUFFERED", "-B": "PYTHONDONTWRITEBYTECODE", "-W": "PYTHONWARNINGS"}}
while words and words[0] in flags:
    flag = words.pop(0)
    os.environ[flags[flag]] = words.pop(0) if flag == "-W" else "1"
streams = [int(name) for name in os.listdir("/proc/self/fd")]
streams = [s for s in streams if os.path.exists("/proc/self/fd/%d" % s)]  # the listing's own is closed
plain = words and {{0, 1, 2}} <= set(streams) and (words[0] in ("-c", "-m") or not words[0].startswith("-")) and os.environ.get("PYTHONHASHSEED", "0") == "0"
if not plain or any(n.startswith("PYTHON") and n not in KNOWN for n in os.environ):
    real()
text = " ".join(words)
try:
    if words[0].endswith(".py"):
        text = open(words[0], errors="replace").read()
except OSError:
    real()
kind = next((k for k, marks in {kinds!r} if any(m in text for m in marks)), "torch")
if words[:2] == ["-m", "clipcal"]:
    kind = "clipcal"
server = socket.socket(socket.AF_UNIX)
try:
    server.connect(os.path.join(SERVER, kind + ".socket"))
except OSError:
    real()
fields = [os.getcwd(), " ".join(map(str, streams)), str(resource.getrlimit(resource.RLIMIT_FSIZE)[0]), *words]
asked = "\\0".join([str(len(fields)), *fields, *(f"{{k}}={{v}}" for k, v in os.environ.items())]).encode(errors="surrogateescape")
server.sendmsg([len(asked).to_bytes(4, "big")], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", streams))])
server.sendall(asked)
child = int.from_bytes(server.recv(4, socket.MSG_WAITALL), "big")


def hand_on(number, frame):
    try:
        os.kill(child, number)
    except ProcessLookupError:
        pass


for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2, signal.SIGQUIT):
    signal.signal(number, hand_on)
for stream in streams:
    os.close(stream)
answer = server.recv(4, socket.MSG_WAITALL)
if len(answer) < 4:
    os._exit(1)
code = int.from_bytes(answer, "big", signed=True)
if code < 0:
    if code not in (-signal.SIGKILL, -signal.SIGSTOP):
        signal.signal(-code, signal.SIG_DFL)
    os.kill(os.getpid(), -code)
os._exit(code)
"""
_KINDS = (
    ("lightning", ("lightning",)),
    ("huggingface", ("transformers", "accelerate", "trl")),
    ("clipcal", ("clipcal.training.recorder",)),
)


@functools.cache
def _folder() -> Path:
    """Where the server of this test run listens: the process that pytest was started as makes it, its workers inherit it."""
    if FOLDER in os.environ:
        return Path(os.environ[FOLDER])
    holder = tempfile.TemporaryDirectory(prefix="nursery-")
    folder = Path(holder.name)
    os.environ[FOLDER] = str(folder)
    stub = folder / "python"
    stub.write_text(_STUB.format(python=sys.executable, folder=str(folder), kinds=_KINDS))
    stub.chmod(0o755)
    (folder / "clipcal").write_text(f'#!/bin/sh\nexec "{stub}" -m clipcal "$@"\n')
    (folder / "clipcal").chmod(0o755)
    server = Path(__file__).with_name("nursery_server.py")
    inherited = {k: v for k, v in os.environ.items() if not k.startswith(("CLIPCAL_", "PYTEST_", "PYTHON", "NURSERY_"))}
    environment = inherited | {
        "PYTHONHASHSEED": "0",
        "OMP_NUM_THREADS": "1",
        "PYTHONDONTWRITEBYTECODE": "1",
        "TOKENIZERS_PARALLELISM": "false",
        "HF_HUB_OFFLINE": "1",
        "NURSERY_ROOM": "-" * (1 << 16),  # a child writes its own environment here, for those who read /proc
    }
    process = subprocess.Popen(
        [sys.executable, str(server), str(folder), str(stub)],
        env=environment,
        stdin=subprocess.PIPE,  # its end is the end of the test run
        start_new_session=True,
    )
    _kept.append((holder, process))
    return folder


_kept: list[object] = []


def begin() -> None:
    """Called once, before the workers of the test run are started."""
    _folder()


class _Python(os.PathLike[str]):
    """The path of the program, which is made when it is first asked for."""

    def __fspath__(self) -> str:
        return str(_folder() / "python")

    def __str__(self) -> str:
        return self.__fspath__()


PYTHON = _Python()


def told_once(name: str, tell: Callable[[], str]) -> str:
    """What ``tell`` says, which is asked once in the whole test run, by whichever worker is first; the others wait for it."""
    with open(_folder() / f"{name}.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        path = _folder() / f"{name}.told"
        if not path.exists():
            path.write_text(tell())
        return path.read_text()


def run_forked(
    words: Sequence[str], cwd: Path, environment: Mapping[str, str], *, beside: Sequence[Mapping[str, str]] = ({},)
) -> subprocess.CompletedProcess[str]:
    """``python`` with these words, once for each environment in ``beside``, which is added to ``environment``, side by side; the
    largest exit code, and what all of them wrote."""
    processes = [
        subprocess.Popen(
            [str(PYTHON), *words],
            cwd=cwd,
            env={**environment, **own},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for own in beside
    ]
    told = [p.communicate(timeout=300) for p in processes]
    codes = [p.returncode for p in processes]
    stdout, stderr = ("".join(parts) for parts in zip(*told, strict=True))
    return subprocess.CompletedProcess(list(words), max(codes, key=abs), stdout, stderr)


def as_ranks(world: int) -> list[dict[str, str]]:
    """What a launcher sets for each of ``world`` processes on this machine."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        place = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free.getsockname()[1]), "WORLD_SIZE": str(world)}
    return [place | {"RANK": str(rank), "LOCAL_RANK": str(rank)} for rank in range(world)]
