"""What is kept of an arm: its files, whole or not at all, and how a profile ended."""

from __future__ import annotations

import math
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from clipcal.errors import InputError
from clipcal.run.layers import read_layers
from clipcal.run.step import Step
from clipcal.run.trace import read_trace
from clipcal.scripts import profiling
from clipcal.training.keeping import End, Growing, ending
from clipcal.training.patience import PATIENCE, Patience


def steps(*norms: float, first: int = 0, **fields: Any) -> list[Step]:
    return [
        Step(step=first + i, loss=1.0, grad_norm=norm, grad_max=0.5, lr=0.1, seconds=0.01, **fields)
        for i, norm in enumerate(norms)
    ]


def rows(num: int) -> Any:
    return np.full((num, 2), 0.5, dtype=np.float32)


def test_files_have_their_names_when_they_are_whole(tmp_path: Path) -> None:
    trace, layers, ranks = (tmp_path / "deeper" / name for name in ("trace.jsonl", "layers.f32", "ranks.f32"))
    told: list[int] = []
    with Growing(trace, lambda some: told.extend(s.step for s in some), layers=layers, ranks=ranks) as growing:
        growing.names = ["a", "b"]
        growing.write(steps(1.0, 2.0, rank_norms=(1.0, 3.0, 2.0)), rows(2))
        growing.write(steps(3.0, first=2, rank_norms=(1.0, 1.0, 1.0)), rows(1))
        assert not any(path.exists() for path in (trace, layers, ranks))
    assert list(read_trace(trace).grad_norm) == [1.0, 2.0, 3.0]
    assert read_layers(layers).names == ("a", "b")
    assert read_layers(ranks).norms.tolist() == [[1.0, 3.0, 2.0], [1.0, 3.0, 2.0], [1.0, 1.0, 1.0]]
    assert told == [0, 1, 2]
    assert growing.last == steps(3.0, first=2, rank_norms=(1.0, 1.0, 1.0))[0]
    assert len(list(trace.parent.iterdir())) == 3


def write_and_raise(trace: Path, layers: Path, error: BaseException) -> None:
    with Growing(trace, None, layers=layers) as growing:
        growing.names = ["a", "b"]
        growing.write(steps(1.0), rows(1))
        raise error


@pytest.mark.parametrize("error", [KeyboardInterrupt(), InputError("No."), ZeroDivisionError()])
def test_nothing_is_left_of_files_that_are_not_whole(tmp_path: Path, error: BaseException) -> None:
    (tmp_path / "trace.jsonl").write_text("of before")
    with pytest.raises(type(error)):
        write_and_raise(tmp_path / "trace.jsonl", tmp_path / "layers.f32", error)
    assert [path.name for path in tmp_path.iterdir()] == ["trace.jsonl"]
    assert (tmp_path / "trace.jsonl").read_text() == "of before"


def test_what_a_killed_process_left_is_not_added_to(tmp_path: Path) -> None:
    (tmp_path / "trace.jsonl.partial").write_text('{"step": 0, "grad_norm": 9.0}\n')
    with Growing(tmp_path / "trace.jsonl", None) as growing:
        growing.write(steps(1.0), rows(1))
    assert list(read_trace(tmp_path / "trace.jsonl").grad_norm) == [1.0]


def test_how_a_profile_ended() -> None:
    told: list[End] = []
    with ending(Patience(), told.append) as end:
        end.status, end.reason = "complete", None
    with pytest.raises(InputError), ending(Patience(), told.append):
        raise InputError("The disk is full.\nFree some of it.")
    with pytest.raises(KeyboardInterrupt), ending(Patience(), told.append):
        raise KeyboardInterrupt
    with pytest.raises(ZeroDivisionError), ending(Patience(), told.append):
        raise ZeroDivisionError
    lost = Patience()
    lost.kept(steps(1.0, *[math.nan] * PATIENCE))
    with pytest.raises(KeyboardInterrupt), ending(lost, told.append):
        raise KeyboardInterrupt
    assert [(end.status, end.reason) for end in told] == [
        ("complete", None),
        ("failed", "The disk is full."),
        ("interrupted", "interrupted"),
        ("failed", "the process ended in the middle of training"),
        ("stopped", f"the loss or the gradients were not finite for {PATIENCE} steps from step 1"),
    ]


def test_after_an_error_the_first_one_counts() -> None:
    def full(end: End) -> None:
        raise InputError("The disk is full.")

    with pytest.raises(ZeroDivisionError), ending(Patience(), full):
        raise ZeroDivisionError
    with pytest.raises(InputError, match="disk"), ending(Patience(), full) as end:
        end.status, end.reason = "complete", None


@pytest.mark.parametrize(
    ("last", "status"),
    [
        pytest.param({"grad_norm": 1.0}, "failed", id="a script with an error of its own"),
        pytest.param({"grad_norm": math.inf}, "stopped", id="one that ends because its gradients are not finite"),
        pytest.param({"grad_norm": math.inf, "skipped": True}, "failed", id="a dropped step is none of that"),
    ],
)
def test_why_a_script_ended_with_an_error(last: dict[str, Any], status: str) -> None:
    whole = {"step": 4, "loss": 1.0, "grad_max": 0.5, "lr": 0.1, "seconds": 0.01} | last
    keeper = SimpleNamespace(last=Step(**whole), patience=Patience())
    watched = SimpleNamespace(steps=5, code=1, failed=True, notes=[])
    script = SimpleNamespace(steps=20, path="train.py")
    assert profiling._status(script, watched, keeper, asked=False)[0] == status  # type: ignore[arg-type]
