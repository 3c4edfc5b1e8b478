"""What other people build on: the public names, the commands and their flags. A change here is a change for them."""

from __future__ import annotations

import importlib

import pytest
import typer.main

import clipcal
from clipcal.cli.main import app


def test_public_names() -> None:
    assert clipcal.__all__ == [
        "ClipcalError",
        "InputError",
        "Log",
        "Recommendation",
        "Run",
        "Spec",
        "SpecError",
        "Step",
        "Trace",
        "UserCodeError",
        "Verification",
        "__version__",
        "load_spec",
        "open_run",
        "profile",
        "read_log",
        "read_trace",
        "recommend",
        "snippet",
        "verify",
        "watch",
    ]
    pytest.importorskip("torch")
    for name in clipcal.__all__:
        assert getattr(clipcal, name) is not None


def test_recommend_stays_a_function_when_every_module_is_loaded() -> None:
    pytest.importorskip("torch")
    importlib.import_module("clipcal.recommendation.calibration")
    importlib.import_module("clipcal.recommendation.answer")
    assert callable(clipcal.recommend)
    assert callable(clipcal.profile)
    assert callable(clipcal.verify)
    assert callable(clipcal.watch)


def test_commands_and_flags() -> None:
    command = typer.main.get_command(app)
    found = {
        name: sorted(flag for p in sub.params for flag in p.opts if flag.startswith("-"))
        for name, sub in command.commands.items()  # type: ignore[attr-defined]
    }
    common = ["--json", "--plain", "--quiet", "-q"]
    training = ["--device", "--force", "--out", "--seed", "--steps", "--threads", "-n", "-o"]
    training += ["--optimizer", "--scratch", "--trackers", "--tensorboard"]
    logs = ["--tag", "--run", "--pattern"]
    arms = ["--seeds", "--max-norm", "--jobs", "-j", "--executor", "--arm-gpus"]
    assert found == {
        "calibrate": sorted([*common, *training, "--seeds", "--max-norm", "--jobs", "-j"]),
        "profile": sorted([*common, *training, "--resume", "--scale"]),
        "recommend": sorted([*common, *logs, "--for", "--compare", "--layers", "--plot", "--scale"]),
        "check": sorted([*common, *logs, "--max-norm", "--strict", "--follow", "-f", "--plot"]),
        "log": sorted([*common, *logs]),
        "survey": sorted([*common, "--csv", "--html", "--all", "--force", "--jobs", "-j", "--executor"]),
        "apply": sorted([*common, *logs, "--key", "--for", "--yes", "-y"]),
        "verify": sorted([*common, *arms, "--force", "--plot", "--tensorboard", "--steps", "-n"]),
        "report": sorted(["--json", "--quiet", "-q", *logs, "--out", "-o", "--force"]),
        "runs": common,
        "doctor": common,
        "init": ["--force", "--json", "--quiet", "--sample", "--schema", "-q"],
    }
