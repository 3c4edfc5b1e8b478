"""make's environments: what is in the way is said in one sentence, and an environment of somebody else's is left alone.

pip and venv are stand-ins: nothing is installed, and no network is asked.
"""

from __future__ import annotations

import json
import os
import shutil
import stat
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import snapshot

ROOT = Path(__file__).parents[2]
Ran = subprocess.CompletedProcess[str]

PYTHON = """\
#!{shell}
case "$*" in
  *"-m venv"*) {venv} ;;
  *"-m pip"*) echo "$@" >> {log}; {pip} ;;
  *"-m pytest"*) exit 0 ;;
  *"import pip"*) echo 3 {minor} ;;
  *) exec {python} "$@" ;;
esac
"""


@pytest.fixture
def clone(tmp_path: Path) -> Path:
    """What make reads of this repository, in a folder of its own."""
    folder = tmp_path / "clone"
    folder.mkdir()
    for part in (
        "Makefile",
        "pyproject.toml",
        "setup.py",
        "constraints.txt",
        "constraints-lowest.txt",
        "tools",
        "configs",
    ):
        copy = shutil.copytree if (ROOT / part).is_dir() else shutil.copy
        copy(ROOT / part, folder / part)
    (folder / "clipcal").mkdir()
    (folder / "clipcal/__init__.py").write_text("")
    return folder


def stand_in(path: Path, *, venv: str = "exit 0", pip: str = "exit 0", minor: int = sys.version_info.minor) -> Path:
    """A Python whose ``-m venv`` and ``-m pip`` run these lines of shell. What pip was asked stands in pip.log beside it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    log = path.parent / "pip.log"
    path.write_text(
        PYTHON.format(shell=shutil.which("sh"), python=sys.executable, venv=venv, pip=pip, log=log, minor=minor)
    )
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    return path


def made(clone: Path, *, pip: str = "exit 0", minor: int = sys.version_info.minor, name: str = ".venv") -> Path:
    """An environment that make made, with nothing in it yet and such a pip."""
    venv = clone / name
    stand_in(venv / "bin/python", pip=pip, minor=minor)
    (venv / "made-by-clipcal.json").write_text("{}")
    for command in ("clipcal", "pytest"):
        shutil.copy(shutil.which("true") or "", venv / "bin" / command)
    return venv


def make(clone: Path, *words: str, python: str = sys.executable) -> Ran:
    clean = {k: v for k, v in os.environ.items() if not k.startswith(("MAKE", "PYTHON"))}
    named = [] if python == "" else [f"PYTHON={python}"]
    return subprocess.run(
        ["make", *named, *words], cwd=clone, env=clean, capture_output=True, text=True, timeout=60, check=False
    )


def refused(ran: Ran, *words: str) -> None:
    """One sentence, a traceback nowhere, and of make's own words the last line alone."""
    assert ran.returncode != 0
    said = ran.stderr.strip().splitlines()
    assert "Traceback" not in ran.stderr
    assert said[-1].startswith("make: ***"), ran.stderr
    said = [line for line in said[:-1] if not line.startswith("installing clipcal")]
    assert len(said) == 1, ran.stderr
    assert said[0].startswith("error: ")
    for word in words:
        assert word in said[0], said[0]
    assert ran.stdout == ""


def test_a_python_that_is_not_there(clone: Path) -> None:
    refused(make(clone, "demo", python="python9.99"), "there is no python9.99 here", "make PYTHON=")


def test_a_python_that_is_too_old(clone: Path, tmp_path: Path) -> None:
    old = tmp_path / "old"
    old.write_text(f"#!/bin/sh\necho 'error: clipcal needs Python 3.11 or newer' >&2; exit 1\n# {sys.executable}\n")
    old.chmod(0o755)
    refused(make(clone, "demo", python=str(old)), "needs Python 3.11 or newer")
    assert not (clone / ".venv").exists()


def test_a_python_without_ensurepip(clone: Path, tmp_path: Path) -> None:
    """Debian's python3 without python3-venv."""
    said = "echo 'The virtual environment was not created successfully because ensurepip is not available.'; exit 1"
    refused(_script(clone, tmp_path, venv=said), "cannot be made", "python3-venv")
    assert not (clone / ".venv").exists()


def _script(clone: Path, tmp_path: Path, *, venv: str) -> Ran:
    """tools/environment.py in a process whose own Python makes environments by ``venv``: sys.executable is what it asks."""
    fake = stand_in(tmp_path / "python", venv=venv)
    program = f"import runpy, sys; sys.executable = {str(fake)!r}; sys.argv = ['environment.py', '.venv', 'samples']\n"
    program += "runpy.run_path('tools/environment.py', run_name='__main__')"
    done = subprocess.run([sys.executable, "-c", program], cwd=clone, capture_output=True, text=True, check=False)
    return subprocess.CompletedProcess(done.args, done.returncode, done.stdout, f"{done.stderr.strip()}\nmake: ***\n")


@pytest.mark.parametrize(
    ("said", "todo"),
    [
        ("ProxyError('Cannot connect to proxy.', NewConnectionError('Connection refused'))", "the proxy does not answer"),
        ("NewConnectionError: Failed to establish a new connection: Name or service not known", "the package index cannot be reached"),
        ("ERROR: Could not install packages due to an OSError: [Errno 28] No space left on device", "the disk is full"),
        ("SSLError(SSLCertVerificationError(1, 'CERTIFICATE_VERIFY_FAILED'))", "PIP_CERT"),
        ("ERROR: Could not install packages due to an OSError: [Errno 13] Permission denied: 'x'", "clone into a folder of your own"),
    ],
)  # fmt: skip
def test_pip_cannot(clone: Path, said: str, todo: str) -> None:
    made(clone, pip=f'echo "{said}" >&2; echo "ERROR: No matching distribution found for torch" >&2; exit 1')
    refused(make(clone, "demo", python=""), todo, "run make")


def test_a_reason_that_pip_tells_its_log_alone(clone: Path) -> None:
    venv = made(clone)
    said = (
        "Could not fetch URL: connection error: HTTPSConnectionPool: Max retries exceeded with url: /torch/ - skipping"
    )
    stand_in(venv / "bin/python", pip=f'echo "{said}" > {venv}/pip.log; echo "ERROR: ResolutionImpossible" >&2; exit 1')
    refused(make(clone, "demo", python=""), "the package index cannot be reached")


def test_what_pip_says_is_shown_where_nobody_knows_what_it_means(clone: Path) -> None:
    made(clone, pip="echo 'ERROR: a new kind of trouble' >&2; exit 1")
    ran = make(clone, "demo", python="")
    assert ran.returncode != 0
    assert "a new kind of trouble\nerror: pip could not install clipcal; what it said stands above.\n" in ran.stderr


def test_a_folder_that_cannot_be_written(clone: Path) -> None:
    (clone / "file").write_text("")
    refused(make(clone, "demo", "VENV=file/.venv"), "cannot be made", "clone into a folder of your own")


@pytest.mark.parametrize("target", ["demo", "test", "clean"])
def test_an_environment_of_somebody_else_is_left(clone: Path, target: str) -> None:
    stand_in(clone / ".venv/bin/python")
    (clone / ".venv/pyvenv.cfg").write_text("home = elsewhere\n")
    before = snapshot(clone / ".venv")
    refused(make(clone, target), ".venv ", "remove it yourself")
    assert snapshot(clone / ".venv") == before


def test_an_environment_of_another_python(clone: Path) -> None:
    venv = made(clone, minor=99)
    before = snapshot(venv)
    refused(make(clone, "demo"), "has Python 3.99 and not 3.", "make VENV=.venv-3.")
    assert snapshot(venv) == before
    assert make(clone, "demo", python="").returncode == 0, "it goes on with its own where none is named"


def test_an_environment_whose_python_is_gone(clone: Path) -> None:
    (made(clone) / "bin/python").unlink()
    refused(make(clone, "demo"), "unfinished or its Python is gone", "make clean")


def asked(venv: Path) -> list[str]:
    """What pip was asked to install, call by call."""
    log = venv / "bin/pip.log"
    return log.read_text().splitlines() if log.exists() else []


def test_a_demo_installs_a_package_and_again_when_the_source_changes(clone: Path) -> None:
    venv = made(clone)
    assert make(clone, "demo").returncode == 0
    assert make(clone, "demo").returncode == 0
    assert len(asked(venv)) == 1
    assert "--editable" not in asked(venv)[0]
    assert asked(venv)[0].endswith("[samples]")
    (clone / "clipcal/__init__.py").write_text("new = 1\n")
    assert make(clone, "demo").returncode == 0
    assert len(asked(venv)) == 2


def test_developers_use_the_source_as_it_lies(clone: Path) -> None:
    """Also for a demo later: a copy of the source in their environment would be what the tests' processes run."""
    venv = made(clone)
    for target in ("demo", "environment-dev", "environment-dev"):
        assert make(clone, target).returncode == 0
    (clone / "clipcal/__init__.py").write_text("new = 1\n")
    assert make(clone, "demo").returncode == 0
    assert len(asked(venv)) == 2
    assert "--config-settings editable_mode=compat --editable" in asked(venv)[1]
    assert asked(venv)[1].endswith("[dev,samples]")
    assert json.loads((venv / "made-by-clipcal.json").read_text())["editable"] is True


def test_the_lowest_versions_come_without_torch(clone: Path) -> None:
    venv = made(clone, name=".venv-lowest")
    assert make(clone, "test-lowest").returncode == 0
    first, second = asked(venv)
    assert "-r" in first
    assert "constraints-lowest.txt" in first
    assert " pytest==" in first
    assert "torch" not in first
    assert "--no-deps" in second


def test_another_torch_is_there_first_and_nothing_is_pinned_beside_it(clone: Path) -> None:
    venv = made(clone, name=".venv-torch-2.9.1")
    assert make(clone, "test-versions", "TORCH=2.9.1", "EXTRAS=samples plots").returncode == 0
    first, second = asked(venv)
    assert first.endswith("torch==2.9.1")
    assert second.endswith("[plots,samples]")
    assert "constraints" not in first + second
