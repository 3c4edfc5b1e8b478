"""Lines that are taken apart by the shape of an earlier one: what is found is what taking each apart by itself finds."""

from __future__ import annotations

import random
import re

import pytest

from clipcal.logs.pairs import is_told, parts_of
from clipcal.logs.shapes import Shapes

# # stands for any number
LINES = (
    "[rank0]:[titan] 2025-01-02 10:00:00,### - root - INFO - step: #  loss: #  grad_norm: #  memory: #GiB(#%)  tps: #  mfu: #%",
    "step # | loss: # | lr # | norm: # | dt: #ms | tok/sec: #",
    "iter #: loss #, time #ms, grad_norm #",
    "[step=#/#,epoch=#]",
    "    optim/total_grad_norm=#",
    "step=# loss=tensor(#, device='cuda:0') grad_norm=np.float32(#) lr=[#] mom=[[#, #]]",
    "(TaskRunner pid=#) step:# - actor/pg_loss:np.float64(#) - actor/grad_norm:# - critic/score/mean:#",
    "Epoch [#][#/#] lr: #, eta: 1 day, #:#:#, loss: #, s0.loss: #, grad_norm: #",
    "loss=#,# grad_norm #. step #,#,#",
    "grad_norm=# loss=#x lr #e5 step #-# grad norm # #",
    "| grad_norm | # |",
    "norm: # (#) loss # (avg #) layer# grad_norm (x #) # norm#: # {'0_default': #}",
    "step # loss nan grad_norm # lr inf update #%",
)


def number(rng: random.Random) -> str:
    value = 10 ** rng.uniform(-6, 9) * rng.choice([1, 1, 1, -1])
    spelled = (
        f"{value:.4f}", f"{value:.3e}", f"{value:g}", repr(value), f"{int(value)}", f"{int(abs(value)):,}", f"{value:10.2f}",
        f"{rng.randrange(100):02d}", "nan", "inf", "-inf", "NaN", "1.#IND", "0", "5.", ".5", "+3", "None", "",
    )  # fmt: skip
    return spelled[min(int(rng.expovariate(0.25)), len(spelled) - 1)]


def by_itself(line: str) -> tuple[tuple[str, ...], tuple[str, ...]]:
    told = [(name, line[start:end]) for name, _, (start, end) in parts_of(line) if is_told(name)]
    return tuple(name for name, _ in told), tuple(value for _, value in told)


@pytest.mark.parametrize("template", LINES)
def test_what_is_found_is_the_same(template: str) -> None:
    rng = random.Random(template)
    shapes = Shapes(parts_of, is_told)
    shared = Shapes(parts_of, is_told)
    for i in range(1500):
        line = re.sub("#", lambda _: number(rng), template)
        assert shapes.pairs(line) == by_itself(line)
        other = re.sub("#", lambda _: number(rng), rng.choice(LINES))
        if i % 10 == 0:  # a shape that another line made
            assert shared.pairs(other) == by_itself(other)
        assert shared.pairs(line) == by_itself(line)


def test_lines_of_one_statement_are_taken_apart_once() -> None:
    taken = []

    def parse(line: str) -> object:
        taken.append(line)
        return parts_of(line)

    shapes = Shapes(parse, is_told)  # type: ignore[arg-type]
    for step in range(1, 2_001):
        line = (
            f"2025-01-02 10:00:{step % 60:02d} step: {step:,} loss: {9 / step:g} grad_norm: {step / 7} mem 12.{step}GiB"
        )
        assert shapes.pairs(line) == by_itself(line)
    assert len(taken) < 20
