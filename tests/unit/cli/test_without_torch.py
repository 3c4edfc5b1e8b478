"""Where torch is not installed: what reads works, and what trains says in a sentence which package is missing.

One process makes all of the calls. Its sitecustomize keeps Python's own finder from finding torch, so that imports fail as they do in
an environment without it, also in the processes of a script.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest
import typer.main
import yaml
from conftest import Answer
from made_runs import make_run, spiky

from clipcal.cli.main import app
from clipcal.run.source import source_of

ABSENT = """\
import importlib.machinery
found = importlib.machinery.PathFinder.find_spec
def find_spec(name, path=None, target=None):
    return None if name == "torch" else found(name, path, target)
importlib.machinery.PathFinder.find_spec = staticmethod(find_spec)
"""
CALLS = """\
import json, sys
from typer.testing import CliRunner
from clipcal.cli.main import app
answers = {}
for words in json.load(sys.stdin)["commands"]:
    done = CliRunner().invoke(app, words)
    unexpected = done.exception if not isinstance(done.exception, SystemExit) else None
    answers[" ".join(words)] = [done.exit_code, done.stdout, done.stderr + (repr(unexpected) if unexpected else "")]
import clipcal
names = answers["names"] = {}
for name in [*clipcal.__all__, "integrations"]:
    try:
        value = getattr(clipcal, name) if name != "integrations" else __import__("clipcal.integrations.accelerate")
        if name == "verify":
            value(clipcal.open_run("runs/made"), max_norm=1.0)
        names[name] = None
    except ImportError as e:
        names[name] = [type(e).__name__, e.name, str(e)]
assert "torch" not in sys.modules
print(json.dumps(answers))
"""
READING = [
    "recommend runs/made --plain",
    "recommend runs/made/trace.jsonl --json",
    "recommend runs/made --compare --layers",
    "check runs/made --max-norm 5",
    "apply runs/made train.yaml --key clip --yes",
    "report runs/made",
    "runs",
    "log train.log --json",
    "survey runs",
    "init new.yaml",
    "init --schema",
    "doctor",
    "doctor --json --quiet",
    "--version",
]
TRAINING = [
    "profile spec.yaml",
    "profile spec.yaml --scale batch=2",
    "calibrate spec.yaml",
    "verify runs/made --max-norm 3",
    "verify runs/made --max-norm 3 --executor ray",
]
SCRIPTS = ["profile train.py -q", "calibrate train.py -q -- --lr 0.1", "verify runs/script --max-norm 3 -q"]


@pytest.fixture(scope="module")
def answers(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    folder = tmp_path_factory.mktemp("absent")
    make_run(folder / "runs" / "made", spiky(), layers=["a", "b"])
    script = {"words": ["train.py"], "cwd": str(folder), "steps": 50, "seed": 0}
    script |= {"optimizer": 1, "scratch": False, "trackers": False, "threads": None}
    source = source_of({"kind": "script", "path": "train.py"} | script)
    make_run(folder / "runs" / "script", spiky(), name="script", source=source)
    (folder / "train.yaml").write_text("clip: 1.0\n")
    (folder / "train.log").write_text("".join(f"step {i} loss 2.5 grad_norm 1.5\n" for i in range(9)))
    (folder / "train.py").write_text("import torch\n")
    names = ("model", "data", "optimizer", "training_step")
    (folder / "spec.yaml").write_text(yaml.safe_dump({name: {"_target_": f"toy.{name}"} for name in names}))
    (folder / "site").mkdir()
    (folder / "site" / "sitecustomize.py").write_text(ABSENT)
    path = os.pathsep.join([str(folder / "site"), str(Path(__file__).parents[3])])
    done = subprocess.run(
        [sys.executable, "-c", CALLS],
        cwd=folder,
        env=os.environ | {"PYTHONPATH": path, "NO_COLOR": "1"},
        input=json.dumps({"commands": [words.split() for words in READING + TRAINING + SCRIPTS]}),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def test_every_command_is_tried() -> None:
    command = typer.main.get_command(app)
    tried = {words.split()[0] for words in READING + TRAINING}
    assert set(command.commands) <= tried  # type: ignore[attr-defined]


@pytest.mark.parametrize("words", READING)
def test_what_reads_works(answers: dict[str, Any], words: str) -> None:
    assert Answer(*answers[words]).ok().stdout or words == "init new.yaml"


@pytest.mark.parametrize("words", TRAINING)
def test_what_trains_says_what_is_missing(answers: dict[str, Any], words: str) -> None:
    Answer(*answers[words]).refused(
        f"clipcal {words.split()[0]}",
        f"needs torch, which is not installed for {sys.executable}",
        "pip install torch",
        "recommend, check, apply and report work without it",
    )


@pytest.mark.parametrize("words", SCRIPTS)
def test_a_script_without_torch_is_told_which_python_has_none(answers: dict[str, Any], words: str) -> None:
    arguments = " --lr 0.1" if "--lr" in words else ""
    Answer(*answers[words]).refused(
        f"`train.py{arguments}` needs torch, which is not installed for {sys.executable}",
        f"`clipcal profile -- /its/bin/python train.py{arguments}`",
    )


def test_the_doctor_says_what_does_not_work(answers: dict[str, Any]) -> None:
    said = Answer(*answers["doctor"]).stdout
    assert re.search(r"^torch +not installed$", said, re.MULTILINE)
    assert re.search(r"^attaching +not tried: torch is not installed$", said, re.MULTILINE)
    assert said.endswith("what trains does not. Get the build for your machine: pip install torch\n")
    found = Answer(*answers["doctor --json --quiet"]).json()
    assert found["works"] is True
    assert found["torch"] is found["insides"] is None
    assert found["self_test"]["status"] == "skipped"


def test_the_names_for_python(answers: dict[str, Any]) -> None:
    names = answers["names"]
    refused = ["integrations", "profile", "verify", "watch"]
    assert sorted(name for name, answer in names.items() if answer) == refused
    for name in refused:
        kind, package, text = names[name]
        assert (kind, package) == ("MissingPackage", "torch")
        assert text.startswith(f"clipcal.{name}")
        assert "pip install torch" in text


def test_the_page_on_ci_installs_what_is_needed_beside_torch() -> None:
    root = Path(__file__).parents[3]
    needed = tomllib.loads((root / "pyproject.toml").read_text())["project"]["dependencies"]
    names = [re.split(r"[<>=~! ]", requirement)[0] for requirement in needed]
    page = (root / "docs" / "howto" / "ci.md").read_text()
    installed = re.search(r"pip install --no-deps clipcal\n.*pip install (.*)\n", page)
    assert installed is not None
    assert {*installed[1].split(), "torch"} == set(names)


@pytest.mark.parametrize(("code", "says", "exits"), [(0, "", 0), (3, "::warning::", 0), (2, "", 2)])
def test_the_warning_on_the_page_on_ci_works_as_github_runs_it(
    tmp_path: Path, code: int, says: str, exits: int
) -> None:
    page = (Path(__file__).parents[3] / "docs" / "howto" / "ci.md").read_text()
    block = page.rpartition("```yaml\n")[2].partition("```")[0]
    (step,) = yaml.safe_load(block)
    (tmp_path / "clipcal").write_text(f"#!/bin/sh\nexit {code}\n")
    (tmp_path / "clipcal").chmod(0o755)
    env = os.environ | {"PATH": f"{tmp_path}{os.pathsep}{os.environ['PATH']}"}
    done = subprocess.run(["bash", "-e", "-c", step["run"]], env=env, capture_output=True, text=True, check=False)
    assert done.returncode == exits
    assert done.stdout.startswith(says)
