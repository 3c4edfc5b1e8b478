"""Shapes that public logs have and that were once misread: each sample is made up after one."""

from __future__ import annotations

import base64
import json
import math
import struct
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from clipcal.errors import InputError
from clipcal.logs.choice import LogChoice
from clipcal.logs.log import Log
from clipcal.logs.picking import pick
from clipcal.logs.readers.epochs import OVERFLOWN
from clipcal.logs.readers.sacred import tensor_value
from clipcal.logs.reading import find_reader, read_log
from clipcal.logs.source import Source

Write = Callable[[str], Path]


@pytest.fixture
def log_file(tmp_path: Path) -> Write:
    def write(text: str) -> Path:
        path = tmp_path / "a.log"
        path.write_text(text)
        return path

    return write


def lines(*rows: dict[str, Any]) -> str:
    return "".join(json.dumps(row) + "\n" for row in rows)


def steps(log: Log) -> list[float]:
    (series,) = log.series
    return [float(s) for s in series.step]


class TestMsSwift:
    ROWS: Sequence[tuple[int, float]] = ((1, 52.5), (10, 2.5), (20, 3.5))

    def text(self) -> str:
        rows = [
            {"loss": 1.0, "grad_norm": g, "learning_rate": 1e-4, "global_step/max_steps": f"{s}/40"}
            for s, g in self.ROWS
        ]
        state = {"global_step": 20, "log_history": [{"loss": 1.0, "grad_norm": g, "step": s} for s, g in self.ROWS]}
        return lines(*rows, {"train_runtime": 3.5, "train_loss": 9.0, "global_step/max_steps": "40/40"}, state)

    def test_the_state_in_its_last_line_does_not_make_it_one(self, log_file: Write) -> None:
        log = read_log(log_file(self.text()))
        assert (log.format, log.notes) == ("JSON lines", ())
        assert steps(log) == [1, 10, 20]
        assert log.series[0].grad_norm.tolist() == [52.5, 2.5, 3.5]

    def test_threshold_of_its_arguments(self, log_file: Write) -> None:
        path = log_file(self.text())
        (path.parent / "args.json").write_text('{"max_grad_norm": 1.0}')
        assert (read_log(path).max_norm, read_log(path).max_norm_from) == (1.0, "max_grad_norm in args.json")


def test_llama_factory_points_to_the_state_beside(log_file: Write) -> None:
    row = {"current_steps": 5, "total_steps": 512, "percentage": 0.98}
    with pytest.raises(InputError, match="LLaMA-Factory's trainer_log"):
        read_log(log_file(lines(row | {"loss": 2.0, "lr": 1e-4, "epoch": 0.5}, row)))


class TestConsole:
    @staticmethod
    def bar(n: int) -> str:
        return f" 2%|#   | {n}/300 [00:26<25:00,  5.09s/it]"

    def llama_factory(self, epoch: Callable[[int], str], *, stride: int = 5) -> str:
        text = "***** Running training *****\n"
        for n in range(stride, 10 * stride, stride):
            values = f"'loss': 1.5, 'learning_rate': 1e-05, 'epoch': {epoch(n)}"
            text += f"{self.bar(n)}[INFO] llamafactory.train.callbacks:143 >> {{{values}, 'throughput': 99.5}}\n"
            text += f"{{'loss': 1.5, 'grad_norm': {n}.25, 'learning_rate': 1e-05, 'epoch': {epoch(n)}}}\n"
        return text + self.bar(10 * stride) + "\n"

    def test_rows_told_twice_and_bars_that_are_not_drawn_again(self, log_file: Write) -> None:
        log = read_log(log_file(self.llama_factory(lambda n: f"{n / 30:.2f}")))
        assert steps(log) == list(range(5, 50, 5))
        assert log.series[0].grad_norm.tolist() == [n + 0.25 for n in range(5, 50, 5)]

    def test_epochs_too_coarse_to_tell(self, log_file: Write) -> None:
        # as a bar is drawn again after a row, in most logs
        assert steps(read_log(log_file(self.llama_factory(lambda _: "0.0"))))[0] == 10

    def test_no_step_beyond_the_last(self, log_file: Write) -> None:
        text = self.llama_factory(lambda _: "0.0", stride=30) + "{'loss': 1.5, 'grad_norm': 9.5}\n"
        assert steps(read_log(log_file(text))) == list(range(30, 301, 30))

    @pytest.mark.parametrize(
        "text",
        [
            "{'name': 'Humanoid', 'learning_rate': 0.0005, 'grad_norm': 1.0, 'max_epochs': 99}\nfps step: 9 epoch: 1/99\n",
            "cfg = {\n    'lr_schedule': 'linear',\n    'grad_norm': 1.0,\n}\ntrain(cfg)\n",
            "def test():\n    log({'loss': 0.5, 'learning_rate': 1e-4, 'grad_norm': 0.25})\n",
            'Rows are such:\n```json\n{"step": 120, "grad_norm": 0.4}\n```\nand they are\nsent on\nat once.\n',
        ],
        ids=["a printed config", "a config in code", "code", "an example in prose"],
    )
    def test_what_is_no_log(self, text: str, log_file: Write) -> None:
        assert find_reader(Source(log_file(text))) is None


class TestJson:
    def test_wandb_summary(self, log_file: Write) -> None:
        with pytest.raises(InputError, match="is a W&B summary"):
            read_log(log_file('{"train/grad_norm": 0.25, "_runtime": 9, "_step": 7, "_wandb": {"runtime": 9}}\n'))

    def test_document_of_epochs_with_its_config(self, log_file: Write) -> None:
        history = [{"epoch": e, "train_loss": 1.5, "train_grad_norm": e + 0.5, "val_grad_norm": 9.5} for e in range(4)]
        log = read_log(log_file(json.dumps({"config": {"grad_clip": 1.0}, "history": history}, indent=1)))
        assert (log.unit, log.max_norm) == ("epoch", 1.0)
        assert steps(log) == [0, 1, 2, 3]

    def test_rows_of_validation_are_left_out(self, log_file: Write) -> None:
        rows = [{"step": s, "phase": "val" if s == 2 else "train", "metrics": {"grad_norm": s + 0.5}} for s in range(4)]
        assert steps(read_log(log_file(lines(*rows)))) == [0, 1, 3]

    def test_an_infinite_mean_is_explained(self, log_file: Write) -> None:
        row = '{{"train_loss": 0.5, "train_grad_norm": {}, "epoch": {}}}\n'
        text = row.format("0.25", 0) + row.format("Infinity", 1)
        assert read_log(log_file(text)).notes == (OVERFLOWN,)
        assert read_log(log_file(row.format("0.25", 0))).notes == ()


def test_largest_norm_of_a_line_beside_its_last(log_file: Write) -> None:
    text = "micro_step,opt_step,loss_avg,grad_norm_last,grad_norm_max,lr\n"
    text += "".join(f"{8 * n},{n},3.5,0.5,{n}.5,1e-4\n" for n in range(6, 36, 6))
    path = log_file(text)
    picked = pick(read_log(path), str(path))
    assert (picked.tag, picked.step.tolist()) == ("grad_norm_last", [6, 12, 18, 24, 30])
    assert picked.loss.tolist() == [3.5] * 5
    assert any(caveat.startswith("'grad_norm_max' beside it") for caveat in picked.caveats)
    assert pick(read_log(path), str(path), LogChoice(tag="grad_norm_max")).grad_norm.tolist() == [
        6.5,
        12.5,
        18.5,
        24.5,
        30.5,
    ]


class TestPickledTensors:
    @staticmethod
    def pickled(tensor: torch.Tensor) -> dict[str, Any]:
        """As jsonpickle writes it: the calls that make the tensor anew, and its storage's bytes in base64."""
        storage = tensor.__reduce_ex__(2)[1][0]  # type: ignore[no-untyped-call]
        load, (data,) = storage.__reduce__()
        text = base64.b64encode(data).decode()
        loaded = {"py/reduce": [{"py/function": load.__name__}, {"py/tuple": [{"py/b64": text}]}]}
        return {
            "py/reduce": [{"py/function": "torch._utils._rebuild_tensor_v2"}, {"py/tuple": [loaded, 0, [], [], False]}]
        }

    @pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.float16, torch.bfloat16], ids=str)
    @pytest.mark.parametrize("value", [1.5, -0.25, math.inf])
    def test_value(self, dtype: torch.dtype, value: float) -> None:
        assert tensor_value(self.pickled(torch.tensor(value, dtype=dtype))) == value

    def test_several_numbers_or_none(self) -> None:
        assert tensor_value(self.pickled(torch.tensor([1.5, 2.5]))) is None
        assert tensor_value(self.pickled(torch.tensor(3))) is None
        assert tensor_value({"py/reduce": [{"py/b64": "!"}]}) is None
        assert tensor_value({"py/reduce": [{"py/b64": base64.b64encode(struct.pack("<q", 1)).decode()}]}) is None
        assert tensor_value({"value": 1.5}) is None

    def test_sacred_info(self, log_file: Write) -> None:
        info = {
            "grad_norm": [self.pickled(torch.tensor(v)) for v in (1.5, 0.5, math.nan)],
            "grad_norm_T": [1646, 11667, 21684],
            "loss": [0.5, 0.25, 0.125],
            "loss_T": [1646, 11667, 21684],
        }
        log = read_log(log_file(json.dumps(info, indent=2)))
        np.testing.assert_array_equal(log.series[0].grad_norm, [1.5, 0.5, math.nan])
        assert steps(log) == [1646, 11667, 21684]
        assert log.series[0].loss.tolist() == [0.5, 0.25, 0.125]
