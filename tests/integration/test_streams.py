"""A stdout that is full or that nobody reads any more, a full stderr: a sentence and an exit code, never a traceback."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from conftest import Project

FULL = Path("/dev/full")
needs_full = pytest.mark.skipif(not FULL.exists(), reason="needs /dev/full")
EXPECTED = "error: standard output: cannot be written (No space left on device).\n"


@pytest.fixture
def log(project: Project) -> Path:
    """A log with one spike, long enough that its answer does not fit into a pipe's first kilobytes."""
    norms = [1.0 + 0.1 * (((7 * i) % 11) - 5) / 5 for i in range(400)]
    norms[200] = 30.0
    rows = "".join(json.dumps({"step": i, "grad_norm": n}) + "\n" for i, n in enumerate(norms))
    project.text("max_grad_norm: 1.0\n", "train.yaml")
    return project.text(rows, "log.jsonl")


def run(project: Project, environment: dict[str, str], *arguments: str, **streams: Any) -> tuple[int, str]:
    """The exit code, and what stood on stderr."""
    options: dict[str, Any] = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    done = subprocess.run(
        [sys.executable, "-m", "clipcal", *arguments],
        cwd=project.folder,
        env=environment,
        text=True,
        timeout=120,
        check=False,
        **(options | streams),
    )
    return done.returncode, done.stderr or ""


COMMANDS: tuple[tuple[str, ...], ...] = (
    ("recommend", "log.jsonl"),
    ("recommend", "log.jsonl", "--json"),
    ("recommend", "log.jsonl", "--for", "huggingface"),
    ("check", "log.jsonl", "--max-norm", "3"),
    ("apply", "log.jsonl", "train.yaml", "--json"),
    ("init", "--schema"),
    ("--help",),
    ("check", "--help"),
    ("--version",),
)


@needs_full
@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_a_full_stdout_is_said_in_a_sentence(
    project: Project, environment: dict[str, str], log: Path, command: tuple[str, ...]
) -> None:
    with FULL.open("w") as full:
        assert run(project, environment, *command, stdout=full) == (2, EXPECTED)


@needs_full
def test_a_full_stdout_that_is_not_buffered(project: Project, environment: dict[str, str], log: Path) -> None:
    with FULL.open("w") as full:
        unbuffered = environment | {"PYTHONUNBUFFERED": "1"}
        assert run(project, unbuffered, "recommend", "log.jsonl", "--json", stdout=full) == (2, EXPECTED)


@needs_full
@pytest.mark.parametrize(
    ("command", "code"),
    [
        (("recommend", "nosuch"), 2),
        (("recommend", "log.jsonl", "--nosuch"), 2),
        (("recommend", "log.jsonl"), 0),
        (("check", "log.jsonl", "--max-norm", "0.5"), 3),
        (("profile", "spec.yaml"), 0),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else "",
)
def test_a_full_stderr_changes_no_exit_code(
    project: Project, environment: dict[str, str], log: Path, command: tuple[str, ...], code: int
) -> None:
    with FULL.open("w") as full:
        assert run(project, environment, *command, stderr=full)[0] == code
        if "recommend" in command:  # both at once
            assert run(project, environment, *command, stderr=full, stdout=full)[0] == 2


@contextlib.contextmanager
def nobody() -> Iterator[int]:
    """The writing end of a pipe whose reader has gone."""
    reading, writing = os.pipe()
    os.close(reading)
    try:
        yield writing
    finally:
        os.close(writing)


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_a_reader_that_has_gone_ends_the_command_as_it_does_others(
    project: Project, environment: dict[str, str], log: Path, command: tuple[str, ...]
) -> None:
    """`clipcal recommend RUN | head -1`: what a shell says of a program that SIGPIPE ended."""
    with nobody() as pipe:
        assert run(project, environment, *command, stdout=pipe) == (141, "")


def test_what_is_written_is_whole_and_in_order(project: Project, environment: dict[str, str], log: Path) -> None:
    """Bytes of UTF-8 in a pipe, as before; both streams in one file keep their order."""
    together = project.folder / "both.txt"
    with together.open("w") as f:
        assert run(project, environment, "recommend", "log.jsonl", stdout=f, stderr=subprocess.STDOUT)[0] == 0
    text = together.read_text(encoding="utf-8")
    assert text.startswith("max_norm ")
    assert "  • " in text
    latin = environment | {"PYTHONIOENCODING": "latin-1"}
    with together.open("w") as f:
        assert run(project, latin, "recommend", "log.jsonl", stdout=f)[0] == 0
    assert together.read_bytes().isascii()


def test_watching_ends_when_nobody_reads_it_any_more(project: Project, environment: dict[str, str], log: Path) -> None:
    """`clipcal check --follow LOG | head -1`, of a log that does not grow any more."""
    process = subprocess.Popen(
        [sys.executable, "-m", "clipcal", "check", "--follow", "log.jsonl", "--max-norm", "3"],
        cwd=project.folder,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stdout is not None
        assert process.stderr is not None
        assert process.stdout.readline().startswith("step 399   guard   fits")
        process.stdout.close()
        assert process.wait(timeout=20) == 141
        assert process.stderr.read() == ""
    finally:
        process.kill()
        process.wait()
        if process.stderr is not None:
            process.stderr.close()


def test_ctrl_c_ends_watching_without_a_word_on_recording(
    project: Project, environment: dict[str, str], log: Path
) -> None:
    process = subprocess.Popen(
        [sys.executable, "-m", "clipcal", "check", "--follow", "log.jsonl", "--max-norm", "3"],
        cwd=project.folder,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stdout is not None
        assert process.stdout.readline().startswith("step 399")
        time.sleep(0.2)
        process.send_signal(signal.SIGINT)
        rest, said = process.communicate(timeout=20)
        assert (process.returncode, rest, said) == (130, "", "stopped\n")
    finally:
        process.kill()
        process.wait()


def test_watching_needs_a_file(project: Project, environment: dict[str, str]) -> None:
    code, said = run(project, environment, "check", "-", "--follow", "--max-norm", "3")
    assert code == 2
    assert said.startswith("error: --follow ")
    assert "needs a file" in said
    assert len(said.splitlines()) == 1
