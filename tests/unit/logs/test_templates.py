"""Lines taken thousands at a time come to what they come to one by one."""

from __future__ import annotations

import os
import random
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from clipcal.logs import source
from clipcal.logs.log import Log
from clipcal.logs.pairs import parts_of
from clipcal.logs.readers import keyed
from clipcal.logs.reading import read_log
from clipcal.logs.templates import template_of

EXAMPLES = int(os.environ.get("CLIPCAL_EXAMPLES", "60"))
Line = Callable[[int, random.Random], str]

ROWS: list[Line] = [
    lambda i, r: f"step: {i} loss: {r.gauss(2, 0.1):.4f} grad_norm: {r.lognormvariate(0, 1):.4f}",
    lambda i, r: f"\x1b[32mstep: {i}\x1b[0m  loss: {r.gauss(2, 0.1):8.4f}  grad_norm: {r.lognormvariate(0, 2):9.3f}",
    lambda i, r: (
        f"2024-01-{1 + i % 28:02d} 10:{i % 60:02d}:00,{i % 1000:03d} INFO [{i}/9000] step {i} | loss {r.gauss(2, 1):.2e} | "
        f"gnorm {r.lognormvariate(0, 1):.2e} | lr 1.0{i % 9}e-05"
    ),
    lambda i, r: (
        f"{i % 7} it={i}, lr={r.random():.3g}, total_norm={r.lognormvariate(0, 1)}, loss={r.gauss(0, 1)}, µ {i}"
    ),
]
ODD: list[Line] = [
    lambda i, r: f"saving a checkpoint at step {i}",
    lambda i, r: "validation loss 2.5",
    lambda i, r: f"step: {i} loss: nan grad_norm: nan",
    lambda i, r: f"step: {i} loss: 2.0 grad_norm: 1.2.3",
    lambda i, r: f"step: {i} loss: 2.0 grad_norm: 2.15K",
    lambda i, r: f"step: {i} loss: 2.0 grad_norm: oops",
    lambda i, r: f"step: {i} loss: 2.0 grad_norm: 5.0 and more",
    lambda i, r: f"step: {i}.5 loss: 2.0 grad_norm: 1.0",
    lambda i, r: "max_grad_norm: 3.5",
    lambda i, r: f" {i % 100}%|███▌   | {i}/9000 [00:12<00:45,  8.50it/s]",
    lambda i, r: f"Epoch {i}:  {i % 100}%|███▌   | {i}/9000 [00:12<00:45,  8.50it/s, loss=2.5]",
    lambda i, r: f"grad_norm: {i}.0",
    lambda i, r: "====== epoch 3 ======",
    lambda i, r: "",
    lambda i, r: "\x00\xff nothing \x1b[31m at all",
]


def written(path: Path, seed: int) -> None:
    r = random.Random(seed)
    row = r.choice(ROWS)
    odd, again = r.choice([0.0, 0.02, 0.2]), r.choice([0.0, 0.1])
    step, lines = r.choice([0, 500]), []
    for _ in range(r.randint(20, 400)):
        step += r.choice([1, 1, 1, 10])
        step = 0 if r.random() < 0.003 else step
        line = (r.choice(ODD) if r.random() < odd else row)(step, r)
        lines += [line] * (2 if r.random() < again else 1)
        if r.random() < 0.2:
            lines.append(
                f"\r {step % 100}%|█▌ | {step}/9000 [00:12<00:45, 8.5it/s]\r {step % 100}%|██ | {step}/9000 [00:12<00:44, 8.5it/s]"
            )
    path.write_bytes("\n".join(lines).encode("utf-8", "surrogatepass"))


def read(path: Path) -> Log | str:
    try:
        return read_log(path)
    except Exception as e:
        return str(e)


@pytest.mark.parametrize("seed", range(EXAMPLES))
def test_at_once_and_one_by_one(tmp_path: Path, seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "train.log"
    written(path, seed)
    monkeypatch.setattr(keyed, "_FIRST", 5)
    monkeypatch.setattr(source, "_CHUNK", 4096)
    monkeypatch.setattr(keyed, "_WHOLESALE", 10**9)
    singly = read(path)
    monkeypatch.setattr(keyed, "_WHOLESALE", 3)
    at_once = read(path)
    if isinstance(singly, str) or isinstance(at_once, str):
        assert singly == at_once
        return
    for a, b in zip(singly.series, at_once.series, strict=True):
        assert (a.tag, a.starts, a.loss_from, a.lr_from) == (b.tag, b.starts, b.loss_from, b.lr_from)
        for column in ("step", "grad_norm", "loss", "lr", "place"):
            np.testing.assert_array_equal(getattr(a, column), getattr(b, column), err_msg=column)
    assert (singly.says, singly.max_norm, singly.window) == (at_once.says, at_once.max_norm, at_once.window)


def test_most_rows_are_taken_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "train.log"
    r = random.Random(0)
    path.write_text("".join(ROWS[1](i, r) + "\n" + ODD[9](i, r) + "\n" for i in range(5_000)))
    singly = 0
    line = keyed._Reading.line

    def counted(self: keyed._Reading, text: str) -> None:
        nonlocal singly
        singly += 1
        line(self, text)

    monkeypatch.setattr(keyed._Reading, "line", counted)
    assert len(read_log(path).series[0]) == 5_000
    assert singly < 300


def test_numbers_are_those_of_float() -> None:
    line = b"step 7 loss 2.5e-1 grad_norm 1.25"
    template = template_of(line, parts_of(line.decode()), lambda name: True, "grad_norm")
    assert template is not None
    texts = ["0.1", "1e-300", "-2.5E+3", ".5", "3.", "nan", "inf", "123456789.123456789", "4.9e-324"]
    text = "\n".join(f"step {i} loss {t} grad_norm {t}" for i, t in enumerate(texts)) + "\nother grad_norm 5\n"
    numbers, others = template.rows(text.encode())
    assert template.names == ("step", "loss", "grad_norm")
    np.testing.assert_array_equal(numbers, [np.arange(9.0), *[[float(t) for t in texts]] * 2])
    assert others.strip() == b"other grad_norm 5"
