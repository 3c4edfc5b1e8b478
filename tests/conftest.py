"""A user's project in a temporary directory, and two ways to run the command on it: here, and in a process of its own."""

from __future__ import annotations

import os

os.environ["OMP_NUM_THREADS"] = "1"  # read by torch when it is imported
os.environ["TOKENIZERS_PARALLELISM"] = "false"

import json
import multiprocessing.spawn
import re
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import hypothesis
import nursery
import pytest
import yaml
from typer.testing import CliRunner

import clipcal as package

# the same examples in every run; `HYPOTHESIS_PROFILE=explore pytest` looks for new ones
hypothesis.settings.register_profile("suite", derandomize=True, deadline=None)
hypothesis.settings.register_profile("explore", deadline=None, max_examples=2000)
hypothesis.settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "suite"))

if "CLIPCAL_TESTS_AT_LEAST" in os.environ:  # `make test-lowest` and `make test-versions`, which have not all packages
    from missing_packages import pytest_make_collect_report, pytest_runtest_makereport, pytest_sessionfinish  # noqa: F401

OURS = str(Path(package.__file__).parent) + os.sep


def pytest_collection_finish() -> None:
    """From here on: a module that a test rewrites within a second would be read from its old bytecode. What was collected is kept."""
    sys.dont_write_bytecode = True


TOY = '''\
"""What a user has: a model, data, and a few ways to feed them."""

import torch
from torch import nn
from torch.utils.data import TensorDataset


class Net(nn.Module):
    def __init__(self, width=8, dropout=0.0):
        super().__init__()
        self.inner = nn.Linear(4, width)
        self.dropout = nn.Dropout(dropout)
        self.outer = nn.Linear(width, 1)

    def forward(self, x):
        return self.outer(self.dropout(torch.tanh(self.inner(x))))


def points(n=64, seed=0):
    g = torch.Generator().manual_seed(seed)
    x = torch.randn(n, 4, generator=g)
    return TensorDataset(x, x.sum(1, keepdim=True))


def batches(batch_size=8, seed=0):
    """Endless pairs."""
    g = torch.Generator().manual_seed(seed)
    while True:
        x = torch.randn(batch_size, 4, generator=g)
        yield x, x.sum(1, keepdim=True) + 0.1 * torch.randn(batch_size, 1, generator=g)


def short(length=3, batch_size=8, seed=0):
    """A generator that ends."""
    it = batches(batch_size, seed)
    for _ in range(length):
        yield next(it)
'''


@dataclass(frozen=True)
class Answer:
    """What one call of the command came to."""

    code: int
    stdout: str
    stderr: str

    def ok(self) -> Answer:
        """Succeeded; gives itself, so that a call can be checked and used in one line."""
        assert self.code == 0, f"exit {self.code}\n{self.stdout}\n{self.stderr}"
        assert "Traceback" not in self.stderr, self.stderr
        return self

    def json(self) -> Any:
        """stdout as the one JSON object that it has to be."""
        value = json.loads(self.stdout)
        assert isinstance(value, dict)
        return value

    def refused(self, *words: str, code: int = 2) -> str:
        """Said no, as it should: with ``code``, nothing on stdout, no traceback, and one short paragraph that has all
        the ``words``. Gives the paragraph."""
        assert self.code == code, f"exit {self.code}\n{self.stdout}\n{self.stderr}"
        assert self.stdout == ""
        assert "Traceback" not in self.stderr, self.stderr
        message = self._message()
        assert "\n" not in message, f"more than one paragraph:\n{message}"
        assert len(message) <= 600, f"too long to be read:\n{message}"
        for word in words:
            assert word in message, f"{word!r} is not in: {message}"
        return message

    def saying_no(self, *words: str) -> None:
        """The answer is no: exit 3, nothing on stdout, and one line on stderr that has all the ``words``."""
        assert self.code == 3, f"exit {self.code}\n{self.stdout}\n{self.stderr}"
        assert self.stdout == ""
        message = self.stderr.strip()
        assert "\n" not in message, message
        for word in words:
            assert word in message, f"{word!r} is not in: {message}"

    def blamed_user(self, *words: str, file: Path | None = None, line: str | None = None) -> str:
        """Said that the user's code failed: exit 4, its traceback with ``file`` and the source ``line``, none of our frames,
        and then one paragraph that has all the ``words``."""
        assert self.code == 4, f"exit {self.code}\n{self.stdout}\n{self.stderr}"
        assert self.stdout == ""
        assert re.search(r"^\S*(Error|Exit|Exception)\b", self.stderr, re.MULTILINE), self.stderr
        assert f'File "{OURS}' not in self.stderr, self.stderr
        if file is not None:
            assert "Traceback (most recent call last)" in self.stderr
            assert f'File "{file}", line ' in self.stderr, self.stderr
        if line is not None:
            assert line in self.stderr, self.stderr
        message = self._message()
        assert "\n" not in message, f"more than one paragraph:\n{message}"
        for word in words:
            assert word in message, f"{word!r} is not in: {message}"
        return message

    def _message(self) -> str:
        _, found, message = ("\n" + self.stderr).rpartition("\nerror: ")
        assert found, f"no error is named:\n{self.stderr}"
        return message.strip()


@dataclass(frozen=True)
class Project:
    """A folder with ``toy.py`` and a spec. Nothing in it is called as in this repository."""

    folder: Path

    def code(self, text: str, name: str = "toy.py") -> Path:
        """Add ``text`` to what toy.py has, or write another module."""
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"{TOY}\n\n{text}" if name == "toy.py" else text)
        self.forget()
        return path

    def spec(self, file: str = "spec.yaml", /, **changes: Any) -> Path:
        """Write a spec that trains; ``changes`` replace its keys, None drops one."""
        keys: dict[str, Any] = {
            "model": {"_target_": "toy.Net"},
            "data": {"_target_": "toy.batches"},
            "loss": {"_target_": "torch.nn.MSELoss"},
            "optimizer": {"_target_": "torch.optim.SGD", "lr": 0.05},
            "steps": 20,
            "device": "cpu",
        }
        keys |= changes
        return self.text(yaml.safe_dump({k: v for k, v in keys.items() if v is not None}, sort_keys=False), file)

    def text(self, text: str, name: str = "spec.yaml") -> Path:
        path = self.folder / name
        path.write_text(text)
        return path

    def run(self, name: str = "spec") -> Path:
        return self.folder / "runs" / name

    def forget(self) -> None:
        """Drop this project's modules, so that the next call in this process imports them as a fresh one would."""
        for name, module in list(sys.modules.items()):
            if str(getattr(module, "__file__", None)).startswith(str(self.folder)):
                del sys.modules[name]


Clipcal = Callable[..., Answer]


def pytest_configure() -> None:
    if (
        signal.getsignal(signal.SIGINT) is signal.SIG_IGN
    ):  # as a shell starts what runs in the background: it would ignore every Ctrl-C
        signal.signal(signal.SIGINT, signal.default_int_handler)
    nursery.begin()
    multiprocessing.spawn.set_executable(str(nursery.PYTHON))  # of the processes that arms are forked from


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--fuzz", type=int, default=40, help="how many damaged files of each format are read")


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Project]:
    """The working directory of the test: a project that trains in a tenth of a second."""
    made = Project(tmp_path)
    made.code("")
    made.spec()
    monkeypatch.chdir(tmp_path)
    yield made
    made.forget()


@pytest.fixture
def clipcal(project: Project) -> Clipcal:
    """Run the command in this process, which has torch already, as have the Python processes that it starts."""

    def run(*args: object) -> Answer:
        from clipcal.cli.main import app

        project.forget()
        with pytest.MonkeyPatch.context() as patch:
            if nursery.REAL not in os.environ:
                patch.setattr(sys, "executable", str(nursery.PYTHON))
            result = CliRunner().invoke(app, [str(a) for a in args], catch_exceptions=False)
        return Answer(result.exit_code, result.stdout, result.stderr)

    return run


@pytest.fixture
def environment() -> dict[str, str]:
    """What a process of its own is started with."""
    inherited = {k: v for k, v in os.environ.items() if k != "PYTHONUNBUFFERED"}  # as a user's shell has it
    return inherited | {"PYTHONDONTWRITEBYTECODE": "1", "NO_COLOR": "1", "COLUMNS": "100"}


@pytest.fixture
def clipcal_process(project: Project, environment: dict[str, str]) -> Clipcal:
    """Run the command in a process of its own: for what a process has by itself, such as its streams and limits."""

    def run(*args: object, **options: Any) -> Answer:
        done = subprocess.run(
            [str(nursery.PYTHON), "-m", "clipcal", *map(str, args)],
            cwd=options.pop("cwd", project.folder),
            env=environment,
            stdin=subprocess.DEVNULL,
            text=True,
            timeout=120,
            check=False,
            **({"capture_output": True} | options),
        )
        return Answer(done.returncode, done.stdout or "", done.stderr or "")

    return run


def snapshot(folder: Path) -> dict[str, bytes]:
    """Every file below ``folder`` with what it holds."""
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def write_trace(path: Path, norms: list[float], losses: list[float] | None = None) -> Path:
    """A trace as a run writes it, of these norms."""
    path.parent.mkdir(parents=True, exist_ok=True)
    rows = (
        {"step": i, "loss": losses[i] if losses else 1.0, "grad_norm": n, "grad_max": n / 2, "lr": 0.1, "seconds": 0.01}
        for i, n in enumerate(norms)
    )
    path.write_text("".join(json.dumps(r) + "\n" for r in rows))
    return path


def rows_of(trace: Path) -> list[dict[str, Any]]:
    """The lines of a trace without ``seconds``, the one key that is not the same twice."""
    rows = [json.loads(line) for line in trace.read_text().splitlines()]
    for row in rows:
        del row["seconds"]
    return rows


@pytest.fixture
def recorded(project: Project, clipcal: Clipcal) -> Path:
    """A run with a recommendation and a file that is not ours."""
    clipcal("profile", "spec.yaml", "-n", 70).ok()
    clipcal("recommend", "runs/spec")
    (project.run() / "notes.txt").write_text("what I thought of it\n")
    return project.run()
