"""Scripts and `python -m` commands -> processes forked from one that has imported torch, which takes most of the time of a start.

A child has its own environment, arguments, working directory and streams. What Python and torch read when they start
(PYTHONHASHSEED, OMP_NUM_THREADS) is the nursery's.
"""

from __future__ import annotations

import functools
import json
import os
import runpy
import socket
import subprocess
import sys
import tempfile
import traceback
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

STREAMS = ("stdout", "stderr")


def run_forked(
    words: Sequence[str], cwd: Path, environment: Mapping[str, str], *, beside: Sequence[Mapping[str, str]] = ({},)
) -> subprocess.CompletedProcess[str]:
    """``python`` with these words, once for each environment in ``beside``, which is added to ``environment``, side by side; the
    largest exit code, and what all of them wrote."""
    nursery = _nursery()
    assert nursery.stdin is not None
    assert nursery.stdout is not None
    with tempfile.TemporaryDirectory() as folder:
        files = [{name: str(Path(folder, f"{name}{i}")) for name in STREAMS} for i in range(len(beside))]
        children = [{"environment": {**environment, **own}, **f} for own, f in zip(beside, files, strict=True)]
        nursery.stdin.write(json.dumps({"words": list(words), "cwd": str(cwd), "children": children}) + "\n")
        nursery.stdin.flush()
        codes = json.loads(nursery.stdout.readline())
        stdout, stderr = ("".join(Path(f[name]).read_text() for f in files) for name in STREAMS)
    return subprocess.CompletedProcess(list(words), max(codes, key=abs), stdout, stderr)


def as_ranks(world: int) -> list[dict[str, str]]:
    """What a launcher sets for each of ``world`` processes on this machine."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        place = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free.getsockname()[1]), "WORLD_SIZE": str(world)}
    return [place | {"RANK": str(rank), "LOCAL_RANK": str(rank)} for rank in range(world)]


@functools.cache
def _nursery() -> subprocess.Popen[str]:
    """It ends with the process that started it, whose end closes its standard input."""
    inherited = {k: v for k, v in os.environ.items() if not k.startswith(("CLIPCAL_", "PYTEST_"))}
    environment = inherited | {"PYTHONHASHSEED": "0", "OMP_NUM_THREADS": "1", "PYTHONDONTWRITEBYTECODE": "1"}
    return subprocess.Popen(
        [sys.executable, __file__], env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )


def _serve() -> None:
    import torch._dynamo  # noqa: F401  # what the first optimizer would import

    for line in sys.stdin:
        asked = json.loads(line)
        children = []
        for child in asked["children"]:
            number = os.fork()
            if number == 0:
                _become(asked["words"], asked["cwd"], child)
            children.append(number)
        codes = [os.waitstatus_to_exitcode(os.waitpid(number, 0)[1]) for number in children]
        print(json.dumps(codes), flush=True)


def _become(words: list[str], cwd: str, child: dict[str, Any]) -> None:
    os.environ.clear()
    os.environ.update(child["environment"])
    os.chdir(cwd)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    for number, name in enumerate(STREAMS, start=1):
        os.dup2(os.open(child[name], os.O_WRONLY | os.O_CREAT), number)
    code = 1
    try:
        if words[0] == "-m":
            sys.argv, sys.path[0] = words[1:], cwd
            runpy.run_module(words[1], run_name="__main__", alter_sys=True)
        else:
            sys.argv, sys.path[0] = words, str(Path(cwd, words[0]).parent)
            runpy.run_path(words[0], run_name="__main__")
        code = 0
    except SystemExit as e:
        code = e.code if isinstance(e.code, int) else int(e.code is not None)
    except BaseException:
        traceback.print_exc()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


if __name__ == "__main__":
    _serve()
