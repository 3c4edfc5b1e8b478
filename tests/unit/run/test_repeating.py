"""A step that is trained again -> whether it came out as before: one rule, for a profile that goes on and for a script that is tried."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from clipcal.arms import of_script
from clipcal.arms.pool import Arm, arm_name
from clipcal.arms.trainers import ArmOptions
from clipcal.errors import InputError
from clipcal.run.directory import Run, RunInfo, open_run
from clipcal.run.recording import Recording
from clipcal.run.step import Step, repeats
from clipcal.run.trace import read_trace
from clipcal.sources.script import Script


def steps_of(norms: list[float]) -> list[Step]:
    return [Step(step=i, loss=1.0, grad_norm=norm, grad_max=0.5, lr=0.1, seconds=0.01) for i, norm in enumerate(norms)]


def recorded(folder: Path, device: str, *, resume: bool) -> Recording:
    """A profile of a script for 20 steps, of which some are there on ``resume``."""
    script = Script(words=("train.py",), cwd=str(folder.parent), steps=20)
    info = RunInfo(name="made", source=script.source(), fingerprint="f", steps=20, seeds=[0], device=device, threads=1)
    return Recording(folder, info, ["w"], resume=resume, force=False, on_steps=None)


def rows(num: int) -> Any:
    return np.ones((num, 1), dtype=np.float32)


def goes_on(folder: Path, device: str, norms: list[float]) -> None:
    """``clipcal profile --resume``. Raises InputError where the steps that are there do not repeat."""
    recording = recorded(folder, device, resume=True)
    try:
        recording.write(steps_of(norms), rows(len(norms)))
    finally:
        recording.close("interrupted", None, [])


def is_tried(folder: Path, norms: list[float], monkeypatch: pytest.MonkeyPatch) -> None:
    """``clipcal verify`` of a script's run. Raises InputError where its first steps do not repeat."""

    calls = iter([True, False])

    def run(script: Script, config: Any, *, on_rows: Callable[..., None], **options: Any) -> None:
        if not next(calls):  # the arm, after the test
            raise Tried
        on_rows(None, steps_of(norms), rows(len(norms)))

    monkeypatch.setattr(of_script, "run", run)
    trainer = of_script.ScriptTrainer(open_run(folder), ArmOptions())
    trainer.same_machine = True
    trainer.train(
        [(Arm(name=arm_name(None), max_norm=None, seed=1), folder / "arm")], steps=20, report=lambda progress: None
    )


class Tried(Exception):
    """The steps repeated, so an arm is trained."""


BEFORE = [2.0, 3.0, 4.0, math.nan, 5.0]
CASES = [
    ("cpu", BEFORE, True),
    ("cpu:0", BEFORE, True),
    ("cpu", [2.0, 3.0, math.nextafter(4.0, 5.0), math.nan, 5.0], False),
    ("cpu:0", [2.0, 3.0, math.nextafter(4.0, 5.0), math.nan, 5.0], False),
    ("cuda:0", [2.001, 3.0, 4.0, math.nan, 5.0], True),
    ("cuda:0", [2.01, 3.0, 4.0, math.nan, 5.0], False),  # nothing has carried the rounding on
    ("cuda:0", [2.0, 3.0, 4.02, math.nan, 5.0], True),
    ("cuda:0", [2.0, 3.0, 4.1, math.nan, 5.0], False),
    ("cuda:0", [2.0, 3.0, 4.0, 1.0, 5.0], False),
    ("cuda:0", [2.0, 3.0, 4.0, math.nan, math.nan], False),
]


@pytest.mark.parametrize(("device", "now", "same"), CASES)
def test_the_rule(device: str, now: list[float], same: bool) -> None:
    answers = [repeats(a, b, step=i, device=device) for i, (a, b) in enumerate(zip(BEFORE, now, strict=True))]
    assert all(answers) == same


@pytest.mark.parametrize(("device", "now", "same"), CASES)
def test_a_profile_that_goes_on_and_a_script_that_is_tried_ask_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, device: str, now: list[float], same: bool
) -> None:
    folder = tmp_path / "run"
    (tmp_path / "train.py").write_text("")
    first = recorded(folder, device, resume=False)
    first.write(steps_of(BEFORE), rows(len(BEFORE)))
    first.close("interrupted", None, [])
    assert isinstance(first.run, Run)
    assert len(read_trace(first.run.trace)) == len(BEFORE)
    if same:
        goes_on(folder, device, now)
        with pytest.raises(Tried):
            is_tried(folder, now, monkeypatch)
        return
    with pytest.raises(InputError, match="does not repeat"):
        goes_on(folder, device, now)
    with pytest.raises(InputError, match="does not repeat"):
        is_tried(folder, now, monkeypatch)
