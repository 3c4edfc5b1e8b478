"""Scripts that are run without clipcal -> processes forked from one that has imported torch, which takes most of the time of a start."""

from __future__ import annotations

import functools
import json
import os
import runpy
import subprocess
import sys
import traceback
from collections.abc import Mapping, Sequence
from pathlib import Path


def run_alone(words: Sequence[str], cwd: Path, environment: Mapping[str, str]) -> None:
    """Run a script and its arguments as a process of its own does, but that torch is there already. Raises where it fails."""
    nursery = _nursery(tuple(sorted(environment.items())))
    assert nursery.stdin is not None
    assert nursery.stdout is not None
    nursery.stdin.write(json.dumps({"words": list(words), "cwd": str(cwd)}) + "\n")
    nursery.stdin.flush()
    code = int(nursery.stdout.readline())
    if code != 0:
        raise subprocess.CalledProcessError(code, list(words))


@functools.cache
def _nursery(environment: tuple[tuple[str, str], ...]) -> subprocess.Popen[str]:
    """It ends with the process that started it, whose end closes its standard input."""
    return subprocess.Popen(
        [sys.executable, __file__], env=dict(environment), stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )


def _serve() -> None:
    import torch._dynamo  # noqa: F401  # what the first optimizer would import

    for line in sys.stdin:
        asked = json.loads(line)
        child = os.fork()
        if child == 0:
            _become(asked["words"], asked["cwd"])
        code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        print(code, flush=True)


def _become(words: list[str], cwd: str) -> None:
    os.dup2(os.open(os.devnull, os.O_RDWR), 0)
    os.dup2(0, 1)
    os.chdir(cwd)
    sys.argv = words
    sys.path[0] = str(Path(cwd, words[0]).parent)
    code = 1
    try:
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
