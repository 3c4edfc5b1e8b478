"""Lines of JSON taken at once come to what they come to one by one."""

from __future__ import annotations

import json
import math
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from clipcal.logs import source
from clipcal.logs.json_templates import json_template
from clipcal.logs.log import Log
from clipcal.logs.readers import jsonlines
from clipcal.logs.reading import read_log

Row = Callable[[int, random.Random], Any]
ROWS: list[Row] = [
    lambda i, r: {"step": i, "loss": r.gauss(0, 1), "grad_norm": r.lognormvariate(0, 2), "lr": 1e-05},
    lambda i, r: {
        "time": {"data": r.random(), "a": "x"},
        "_step": i,
        "train/grad_norm": r.choice([1.5, math.nan, 2]),
        "flag": True,
    },
    lambda i, r: {
        "train": {"loss": r.random(), "grad_norm": r.random(), "iter": i},
        "note": f"at {i}",
        "epoch": i / 10,
    },
    lambda i, r: {"iteration": i, "grad_norm": 10 ** r.uniform(-320, 300), "loss": i, "tokens": 10**20},
]
ODD: list[Row] = [
    lambda i, r: {"step": i, "loss": None, "grad_norm": None, "lr": 1e-05},
    lambda i, r: {"step": i, "loss": 1.0, "grad_norm": "2.15K", "lr": 1e-05},
    lambda i, r: {"step": i, "eval_loss": 2.0},
    lambda i, r: {"max_grad_norm": 0.5},
    lambda i, r: {"step": float(i), "loss": 1.0, "grad_norm": 2.0, "lr": 1e-05},
    lambda i, r: {"step": -i, "loss": 1.0, "grad_norm": 2.0, "lr": 1e-05},
    lambda i, r: {"phase": "val", "step": i, "grad_norm": 2.0},
    lambda i, r: {"tag": "grad_norm", "step": i, "value": 2.0},
    lambda i, r: [1, 2],
]


def read(path: Path) -> Log | str:
    try:
        return read_log(path)
    except Exception as e:
        return f"{type(e).__name__} {e}"


@pytest.mark.parametrize("seed", range(60))
def test_at_once_and_one_by_one(tmp_path: Path, seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    r = random.Random(seed)
    row, odd, step = r.choice(ROWS), r.choice([0.0, 0.01, 0.2]), 0
    lines = []
    for _ in range(r.randint(5, 400)):
        step += r.choice([1, 1, 5])
        lines.append(json.dumps((r.choice(ODD) if r.random() < odd else row)(step, r)))
        if r.random() < odd:
            lines.append(r.choice(["", "text {", lines[-1][:-5], f"INFO {lines[-1]}", lines[-1].replace(" ", "")]))
    path = tmp_path / "log.jsonl"
    path.write_text("\n".join(lines) + r.choice(["", "\n"]))
    monkeypatch.setattr(source, "_CHUNK", 2000)
    monkeypatch.setattr(jsonlines, "_SINGLY", 5)
    at_once = read(path)
    monkeypatch.setattr(jsonlines, "json_template", lambda line, **rest: None)
    singly = read(path)
    if isinstance(at_once, str) or isinstance(singly, str):
        assert at_once == singly
        return
    for a, b in zip(at_once.series, singly.series, strict=True):
        assert (a.tag, a.loss_from, a.lr_from, a.step_from) == (b.tag, b.loss_from, b.lr_from, b.step_from)
        for column in ("step", "grad_norm", "loss", "lr"):
            np.testing.assert_array_equal(getattr(a, column), getattr(b, column), err_msg=column)
    assert (at_once.says, at_once.max_norm, at_once.format) == (singly.says, singly.max_norm, singly.format)


@pytest.mark.parametrize("number", ["1", "-2.5", "1e-300", "1E+5", "0.1", "NaN", "Infinity", "-Infinity", "4.9e-324"])
def test_numbers_are_those_of_json(number: str) -> None:
    template = json_template(b'{"step": 1, "a": {"grad_norm": 2.0, "b": "x"}}')
    assert template is not None
    line = f'{{"step": 7, "a": {{"grad_norm": {number}, "b": "y"}}}}'
    rows = template.rows(line.encode())
    assert rows is not None
    np.testing.assert_array_equal(rows["a/grad_norm"], [json.loads(line)["a"]["grad_norm"]])
    assert rows["step"].tolist() == [7]


@pytest.mark.parametrize(
    "line",
    [
        "[1]",
        "{}",
        "{",
        '{"step": 1}',
        '{"grad_norm": 1.0}',
        '{"step": 1, "grad_norm": [1.0]}',
        '{"step": 1, "iter": 2, "grad_norm": 1.0}',
        '{"step": 1, "grad_norm": 1.0, "max_grad_norm": 1.0}',
        '{"step": 1, "grad_norm": 1.0, "phase": "train"}',
    ],
)
def test_what_has_no_template(line: str) -> None:
    assert json_template(line.encode(), but=("phase",)) is None
