"""Lines taken at once come to what they come to one by one."""

from __future__ import annotations

import json
import math
import random
import re
from pathlib import Path

import numpy as np
import pytest

from clipcal.errors import InputError
from clipcal.run import trace as module
from clipcal.run.step import Step
from clipcal.run.trace import COLUMNS, Trace, read_trace

ODD = [
    "",
    "   ",
    "{",
    "[1, 2]",
    '{"step": 5}',
    '{"grad_norm": 2.5}',
    '{"step": 7, "grad_norm": "NaN", "loss": null}',
    '{"step": 7.0, "loss": 1, "grad_norm": 1, "grad_max": 1, "lr": 1, "seconds": 1}',
    '{"step": true, "loss": 1, "grad_norm": 1, "grad_max": 1, "lr": 1, "seconds": 1}',
    '{"step": 7, "loss": "x", "grad_norm": 1.5, "grad_max": 1.0, "lr": 0.1, "seconds": 0.5}',
    '{"step": 7, "loss": 1.5, "grad_norm": 1.5, "grad_max": 1.0, "lr": 0.1, "seconds": 0.5, "more": 1}',
    '{"step": 7, "loss": 1.5.5, "grad_norm": 1.5, "grad_max": 1.0, "lr": 0.1, "seconds": 0.5}',
    '{"step": 99999999999999999999, "loss": 1.5, "grad_norm": 1.5, "grad_max": 1.0, "lr": 0.1, "seconds": 0.5}',
    '{"step": 7, "loss": 1e999, "grad_norm": -1e-999, "grad_max": 1.0, "lr": 0.1, "seconds": 0.5}',
    '{"step": 7, "loss": 1.5, "grad_norm": 1.5, "grad_max": 1.0, "lr": 0.1, "seconds": 0.5} and more',
    '{"step":7,"loss":1.5,"grad_norm":1.5,"grad_max":1.0,"lr":0.1,"seconds":0.5}',
    '{"step": 7, "loss": 1.5, "grad_norm": 1.5, "grad_max": 1.0, "lr": 0.1, "seconds": 0.5, "skipped": true}',
]


def written(path: Path, seed: int) -> None:
    r = random.Random(seed)
    odd = r.choice([0.0, 0.05, 0.5])
    lines = []
    for i in range(r.randint(0, 300)):
        norm = r.choice([r.lognormvariate(0, 3), r.lognormvariate(0, 3), math.nan, math.inf, 0.0, 1e-310, -math.inf])
        step = Step(
            step=i,
            loss=r.gauss(0, 5),
            grad_norm=norm,
            grad_max=r.random() * 1e-12,
            lr=1e-5,
            seconds=r.random(),
            scale=r.choice([None, None, None, 0.5]),
            skipped=r.random() < 0.02,
        )
        lines.append(r.choice(ODD) if r.random() < odd else step.line())
    path.write_text("\n".join(lines) + r.choice(["", "\n", "\n\n", '\n{"step": 5, "gr']))


def read(path: Path) -> Trace | str:
    try:
        return read_trace(path)
    except InputError as e:
        return str(e)


@pytest.mark.parametrize("seed", range(60))
def test_at_once_and_one_by_one(tmp_path: Path, seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "trace.jsonl"
    written(path, seed)
    monkeypatch.setattr(module, "_CHUNK", 3000)
    at_once = read(path)
    monkeypatch.setattr(module, "_FORM", re.compile(rb"\n(never)(a)(b)(c)(d)(e)"))
    singly = read(path)
    if isinstance(at_once, str) or isinstance(singly, str):
        assert at_once == singly
        return
    for name in COLUMNS:
        np.testing.assert_array_equal(getattr(at_once, name), getattr(singly, name), err_msg=name)
    assert at_once.problems == singly.problems


def test_every_line_that_is_written_is_taken_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "trace.jsonl"
    norms = [1.5, math.nan, math.inf, 1e-310, 1.7e308, 0.0]
    steps = [Step(step=i, loss=-1e-5, grad_norm=n, grad_max=1.0, lr=0.1, seconds=1e-6) for i, n in enumerate(norms)]
    path.write_text("".join(s.line() + "\n" for s in steps))

    def singly(line: bytes, default_step: int) -> None:
        raise AssertionError(line)

    monkeypatch.setattr(module, "_row", singly)
    trace = read_trace(path)
    np.testing.assert_array_equal(trace.grad_norm, norms)
    assert trace.loss.tolist() == [json.loads(s.line())["loss"] for s in steps]
