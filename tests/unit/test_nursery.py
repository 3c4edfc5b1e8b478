"""What is forked is what an interpreter of its own would be: arguments, environment, streams, exit code, signals."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from nursery import PYTHON

TELL = """
import json, os, random, sys
print(json.dumps({
    "argv": sys.argv, "name": __name__, "file": __file__, "cwd": os.getcwd(), "first": sys.path[0], "own": os.environ.get("OWN"),
    "warnings": sys.warnoptions, "hash": hash("a"), "seen": "OWN=own" in open("/proc/self/environ").read().split("\\0"),
    "draw": random.random(),
}))
print("beside", file=sys.stderr)
"""
pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")


def run(python: str, *words: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    environment = os.environ | {"OWN": "own", "PYTHONHASHSEED": "0"}
    return subprocess.run([python, *words], cwd=cwd, env=environment, capture_output=True, text=True, check=False)


@pytest.mark.parametrize(
    "words", [("tell.py", "--a", "1"), ("-m", "tell", "x"), ("-W", "ignore", "tell.py")], ids=lambda words: words[0]
)
def test_it_finds_what_an_interpreter_finds(tmp_path: Path, words: tuple[str, ...]) -> None:
    (tmp_path / "tell.py").write_text(TELL)
    forked, real = (run(python, *words, cwd=tmp_path) for python in (str(PYTHON), sys.executable))
    assert (forked.returncode, forked.stderr) == (real.returncode, real.stderr) == (0, "beside\n")
    a, b = json.loads(forked.stdout), json.loads(real.stdout)
    assert a.pop("draw") != b.pop("draw")
    assert a == b


@pytest.mark.parametrize(
    "code",
    [
        "import sys; sys.exit(7)",
        "import sys; sys.exit('no')",
        "raise ValueError('no')",
        "import atexit; atexit.register(print, 'late')",
        "import os, signal; os.kill(os.getpid(), signal.SIGTERM)",
        "import threading, time; threading.Thread(target=lambda: (time.sleep(0.1), print('waited for'))).start()",
    ],
)
def test_it_ends_as_an_interpreter_ends(tmp_path: Path, code: str) -> None:
    (tmp_path / "end.py").write_text(code)
    forked, real = (run(python, "end.py", cwd=tmp_path) for python in (str(PYTHON), sys.executable))
    assert (forked.returncode, forked.stdout, forked.stderr) == (real.returncode, real.stdout, real.stderr)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_a_signal_reaches_it(tmp_path: Path, number: signal.Signals) -> None:
    (tmp_path / "wait.py").write_text("import os, time; print(os.getpid(), flush=True); time.sleep(1000)")
    process = subprocess.Popen(
        [str(PYTHON), "wait.py"], cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    )
    assert process.stdout is not None
    child = int(process.stdout.readline())
    process.send_signal(number)
    process.stdout.read()  # its end is the child's
    assert process.wait() == -number
    process.stdout.close()
    while Path(f"/proc/{child}").exists():
        time.sleep(0.01)


@pytest.mark.parametrize("words", [("-c", "pass"), ("-c", "pass  # transformers"), ("-m", "clipcal", "--version")])
def test_it_is_forked(tmp_path: Path, words: tuple[str, ...]) -> None:
    """What it falls back to is as right, and slower: nothing else here would notice."""
    pytest.importorskip("torch")
    (tmp_path / "sitecustomize.py").write_text("import sys; print('torch' in sys.modules, file=sys.stderr)")
    environment = os.environ | {"PYTHONPATH": str(tmp_path)}
    done = subprocess.run(
        [str(PYTHON), *words], cwd=tmp_path, env=environment, capture_output=True, text=True, check=True
    )
    assert done.stderr == "True\n"
