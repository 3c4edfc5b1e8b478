"""The reader of named values: what is found in the lines of many scripts, and what is left alone."""

from __future__ import annotations

import io
import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from tqdm import tqdm  # type: ignore[import-untyped]

from clipcal.logs.log import Log, Series
from clipcal.logs.readers import keyed
from clipcal.logs.source import Source

NAN = math.nan


def source_of(folder: Path, text: str) -> Source:
    path = folder / "train.out"
    path.write_bytes(text.encode())
    return Source(path)


def read(folder: Path, text: str) -> Log:
    source = source_of(folder, text)
    assert keyed.READER.recognises(source)
    return keyed.READER.read(source)


def only(log: Log) -> Series:
    (series,) = log.series
    return series


# Every script prints steps 1, 2 and 4 (times 10 where it has to), losses 9.5, 9.25 and 9.125, and norms 1.5, 2.5 and 4.5.
ROWS = ((1, "9.5", "1.5"), (2, "9.25", "2.5"), (4, "9.125", "4.5"))
LINES = {
    "torchtitan": "[rank0]:[titan] 2025-01-02 10:00:00,123 - root - INFO - \x1b[31mstep: {0:2}  \x1b[32mloss: {1:>8}  "
    "\x1b[38;2;180;60;0mgrad_norm: {2:>8}  \x1b[35mmemory: 40.00GiB(42.1%)  \x1b[34mtps: 1,234  \x1b[36mmfu: 39.1%\x1b[39m",
    "nanoGPT": "iter {0}: loss {1}, time 12.31ms, mfu 3.10%, grad_norm {2}",
    "build-nanogpt": "step {0:5d} | loss: {1} | lr 6.0e-04 | norm: {2} | dt: 300.12ms | tok/sec: 1700.22",
    "nanochat": "step {0:05d}/21400 (0.05%) | loss: {1} | grad norm: {2} | lrm: 1.00 | dt: 300ms | tok/sec: 1,700 | mfu: 40.2",
    "OLMo": "2024-02-01 12:00:00.000\thost:0\tolmo.train:967\tINFO\t[step={0}/739328]\n    optim/total_grad_norm={2}\n"
    "    train/CrossEntropyLoss={1}\n    train/Perplexity=8,123\n    throughput/total_tokens=4,194,304",
    "mmcv by iterations": "x - mmseg - INFO - Iter [{0}/80000]\tlr: 9.9e-03, eta: 1:00:00, time: 0.6, loss: {1}, grad_norm: {2}",
    "InternEvo": "2024 INFO pipeline.py, line 400 -- tflops=100.1 step={0} loss={1} tgs (tokens/gpu/second)=400.1 lr=4.0e-07 "
    "loss_scale=65536.0 grad_norm={{'0_default': {2}}} micro_num=4",
    "verl": "(TaskRunner pid=123) step:{0} - global_seqlen/min:100.000 - actor/pg_loss:np.float64({1}) - actor/grad_norm:{2} "
    "- actor/lr:1e-06 - critic/score/mean:0.1",
    "PaddleNLP": "[2023-01-01 10:00:00,123] [    INFO] - loss: {1}, learning_rate: 3e-05, global_step: {0}, grad_norm: {2}, ppl: 3",
    "detectron2": "[07/20 12:00:00 d2.utils.events]:  eta: 1:00:00  iter: {0}  total_loss: {1}  grad_norm: {2}  time: 0.5  lr: 1e-05",
    "DeepSpeed": "[2024-01-01 10:00:00,123] [INFO] [logging.py:96:log_dist] [Rank 0] step={0}, skipped=0, lr=[0.001], mom=[[0.9, 0.9]]\n"
    "loss: {1} iter time (s): 0.5 samples/sec: 30 grad_norm: {2}",
    "thousands": "(step={0:,}) Train Loss: {1}, Train Steps/Sec: 1.2, Gradient Norm: {2}",
    "tensors": "step={0} loss=tensor({1}, device='cuda:0', grad_fn=<X>) grad_norm=tensor({2}, device='cuda:0')",
    "dicts": "{{'step': {0}, 'loss': {1}, 'grad_norm': {2}, 'epoch': 0.1}}",
    "two lines": "Learning iteration {0}/1500\nmean loss: {1}\nsaving\nglobal grad norm: {2}",
    "a table": "| time/              |     |\n|    iterations      | {0} |\n| train/             |     |\n|    grad_norm       | {2} |\n"
    "|    loss            | {1} |",
    "totals": "Epoch: 3/10 | Iteration: 7/100 | Total iteration: {0}/1000 | Train loss: {1} | Grad Norm: {2}",
    "DiT": "[2024-01-02 10:00:00] (step=000{0:04d}) Train Loss: {1}, grad_norm: {2}",
    "a bracket": "INFO [Optimizer-step {0}] Loss: {1} | LR: 1.00e-05 | Grad Norm: {2}",
    "columns": "step {0}\tloss {1}\tgnorm {2}\t12:34:56",
}


@pytest.mark.parametrize("line", LINES.values(), ids=LINES)
def test_lines_of_many_scripts(tmp_path: Path, line: str) -> None:
    scale = 1000 if "thousands" in LINES and line is LINES["thousands"] else 1
    text = "loading 12 files of tokens\n" + "".join(line.format(s * scale, x, n) + "\n" for s, x, n in ROWS)
    text += "Traceback (most recent call last):\n  File 'x.py', line 3\nKeyboardInterrupt\n"
    log = read(tmp_path, text)
    series = only(log)
    np.testing.assert_array_equal(series.step, np.array([1.0, 2.0, 4.0]) * scale)
    np.testing.assert_array_equal(series.grad_norm, [1.5, 2.5, 4.5])
    np.testing.assert_array_equal(series.loss, [9.5, 9.25, 9.125])
    assert log.notes == ()


@pytest.mark.parametrize(
    ("spelling", "value"), [("nan", NAN), ("-nan", NAN), ("inf", math.inf), ("Infinity", math.inf)]
)
def test_what_is_not_finite(tmp_path: Path, spelling: str, value: float) -> None:
    text = f"step 1 loss 2.0 grad_norm 1.0\nstep 2 loss {spelling} grad_norm {spelling} lr 1e-3\nstep 3 loss 2.0 grad_norm 1.0\n"
    series = only(read(tmp_path, text))
    np.testing.assert_array_equal(series.grad_norm, [1.0, value, 1.0])
    np.testing.assert_array_equal(series.loss, [2.0, value, 2.0])


@pytest.mark.parametrize(
    ("line", "steps"),
    [
        (
            "2021 - mmdet - INFO - Epoch [{e}][{i}/100]\tlr: 2e-03, eta: 1 day, 2:03:04, loss: 3.0, grad_norm: {n}",
            (50, 100, 150, 200),
        ),
        (
            "07/01 - mmengine - INFO - Epoch(train)  [{e}][{i:3d}/100]  lr: 2e-03  grad_norm: {n}  loss: 3.0",
            (50, 100, 150, 200),
        ),
        (
            "Epoch: [{e}][{i:3d}/100]\tTime  0.5 ( 0.6)\tLoss 6.9e+00 (6.9e+00)\tGradNorm {n} (2.0)",
            (150, 200, 250, 300),
        ),
        ("Epoch: {e}/10 | Iteration: {i}/100 | Train loss: 2.1 | Grad Norm: {n}", (50, 100, 150, 200)),
        ("epoch {e} step {i} loss 2.0 grad_norm {n}", (50, 100, 151, 201)),
    ],
)
def test_steps_go_on_from_epoch_to_epoch(tmp_path: Path, line: str, steps: Sequence[float]) -> None:
    rows = [(1, 50, 1.5), (1, 100, 2.5), (2, 50, 3.5), (2, 100, 4.5)]
    log = read(tmp_path, "".join(line.format(e=e, i=i, n=n) + "\n" for e, i, n in rows))
    np.testing.assert_array_equal(only(log).step, steps)
    np.testing.assert_array_equal(only(log).grad_norm, [1.5, 2.5, 3.5, 4.5])
    assert log.window == ("mean" if "mm" in line else None)


def test_a_step_that_goes_on_is_not_joined(tmp_path: Path) -> None:
    text = "".join(f"epoch {i // 4} step {i} loss 2.0 grad_norm 1.5\n" for i in range(1, 12))
    log = read(tmp_path, text)
    np.testing.assert_array_equal(only(log).step, np.arange(1, 12))
    assert log.notes == ()


@pytest.mark.parametrize(
    "line",
    [
        "{0}: loss: 0.5, grad_norm: 1.{0}\n",
        "[{0}/300] loss 0.5 gnorm 1.{0}\n",
        "Train {0}/300 | loss 0.5 | grad norm 1.{0}\n",
    ],
)
def test_a_guessed_step_is_said_to_be_one(tmp_path: Path, line: str) -> None:
    log = read(tmp_path, "".join(line.format(i) for i in range(1, 7)))
    np.testing.assert_array_equal(only(log).step, np.arange(1, 7))
    assert "name no step" in log.notes[0]


def test_a_number_that_stays_the_same_is_no_step(tmp_path: Path) -> None:
    log = read(tmp_path, "".join(f"[0/8] loss 0.5 grad_norm 1.{i}\n" for i in range(6)))
    assert np.isnan(only(log).step).all()
    assert log.notes == ()


def test_bars_of_tqdm_count_each_value_once(tmp_path: Path) -> None:
    stream = io.StringIO()
    for epoch in range(2):
        with tqdm(total=6, desc=f"Epoch {epoch}", file=stream, mininterval=0, ascii=True) as bar:
            for i in range(6):
                bar.update(1)
                if i % 2:
                    bar.set_postfix(loss=f"{5 - i / 8}", grad_norm=f"{1 + epoch + i / 16}")
    log = read(tmp_path, stream.getvalue())
    np.testing.assert_array_equal(only(log).step, [2, 4, 6, 8, 10, 12])
    np.testing.assert_array_equal(only(log).grad_norm, [1 + e + i / 16 for e in range(2) for i in (1, 3, 5)])
    np.testing.assert_array_equal(only(log).loss, [5 - i / 8 for i in (1, 3, 5)] * 2)


def test_bars_that_show_nan_to_the_end(tmp_path: Path) -> None:
    text = "\r".join(f" 5%|5   | {i}/99 [00:01<00:09,  1.2it/s, loss=nan, grad_norm=nan]" for i in range(1, 6))
    np.testing.assert_array_equal(only(read(tmp_path, text)).grad_norm, [NAN] * 5)


def test_one_rank_is_read_and_lines_that_stand_twice_once(tmp_path: Path) -> None:
    text = "".join(f"[rank{r}]: step {i} loss 1.{r} grad_norm {i}.{r}\n" * 2 for i in range(4) for r in (1, 0, 2))
    log = read(tmp_path, text)
    np.testing.assert_array_equal(only(log).step, [0, 1, 2, 3])
    np.testing.assert_array_equal(only(log).grad_norm, [0.1, 1.1, 2.1, 3.1])
    assert "only the lines of rank 1" in log.notes[0]


def test_held_out_lines_and_layers_are_left_out(tmp_path: Path) -> None:
    text = ""
    for i in range(4):
        text += f"step {i} loss 2.{i} grad_norm 1.{i} param norm 88.0 weight_norm 77.0\n"
        text += "layers.0.weight grad norm: 0.5\nmodel.layers.1.mlp grad_norm: 0.3\n"
        text += f"[eval] step {i}: loss 9.9\nValidation loss 9.8 at step {i + 100}\n"
    log = read(tmp_path, text)
    assert [s.tag for s in log.series] == ["grad_norm"]
    np.testing.assert_array_equal(only(log).step, [0, 1, 2, 3])
    np.testing.assert_array_equal(only(log).loss, [2.0, 2.1, 2.2, 2.3])


def test_several_norms_keep_their_losses(tmp_path: Path) -> None:
    text = "".join(
        f"step {i} actor_loss 1.{i} critic_loss 2.{i} actor_grad_norm 3.{i} critic_grad_norm 4.{i}\n" for i in range(3)
    )
    first, second = read(tmp_path, text).series
    assert (first.tag, second.tag) == ("actor_grad_norm", "critic_grad_norm")
    np.testing.assert_array_equal(first.loss, [1.0, 1.1, 1.2])
    np.testing.assert_array_equal(second.grad_norm, [4.0, 4.1, 4.2])


@pytest.mark.parametrize(
    ("dump", "threshold"),
    [
        ("max_grad_norm: 1.5", 1.5),
        ("optimizer_config = dict(grad_clip=dict(max_norm=35, norm_type=2))", 35.0),
        ("grad_clip = 0.0", math.inf),
        ("Embedding(10, 3, max_norm=2.0)", None),
        ("nothing", None),
    ],
)
def test_a_threshold_that_the_log_tells(tmp_path: Path, dump: str, threshold: float | None) -> None:
    log = read(tmp_path, dump + "\n" + "".join(f"step {i} loss 2.0 grad_norm 1.{i}\n" for i in range(3)))
    assert log.max_norm == threshold


@pytest.mark.parametrize(
    "text",
    [
        "The gradient norm is large.\nWe clip gradients to norm 1.0 here.\nmax grad norm: 1.0\nClipping gradients to norm 1.0\n"
        * 3,
        "step 1 loss 2.0 grad_norm 1.0\nstep 2 loss 2.0 grad_norm 1.0\n",
        "norm 1.0\n" * 9,
        "step 1 loss 2.0 grad_norm n/a\n" * 9,
        "batch norm: 1.0, layer norm: 2.0, step: 3\n" * 9,
        '{"step": 1, "grad_norm": 2.0}\n' * 9,
        '[\n {"step": 1,\n  "grad_norm": 2.0}]\n' * 9,
        "step,grad_norm\n" + "1,2.0\n" * 9,
        "\x00grad_norm: 1.0\n" * 9,
    ],
)
def test_what_is_not_taken_for_a_log(tmp_path: Path, text: str) -> None:
    assert not keyed.READER.recognises(source_of(tmp_path, text))


def test_a_log_is_recognised_behind_megabytes_of_other_text(tmp_path: Path) -> None:
    text = "(norm): LayerNorm((768,), eps=1e-05)\n" * 30_000 + "".join(f"step {i} grad_norm 1.{i}\n" for i in range(3))
    np.testing.assert_array_equal(only(read(tmp_path, text)).step, [0, 1, 2])


@pytest.mark.parametrize("ranks", [2, 4, 8])
def test_the_labels_of_srun(tmp_path: Path, ranks: int) -> None:
    lines = [
        f"{r}: step {10 * i} loss {i}.{r} grad_norm {i}.5\n{r}: saving\n"
        for i in range(1, 21)
        for r in reversed(range(ranks))
    ]
    log = read(tmp_path, "".join(lines))
    np.testing.assert_array_equal(only(log).step, np.arange(10, 201, 10))
    np.testing.assert_array_equal(only(log).grad_norm, np.arange(1.5, 21))
    np.testing.assert_array_equal(only(log).loss, np.arange(1, 21) + (ranks - 1) / 10)
    assert log.notes == (f"Several ranks wrote to it; only the lines of rank {ranks - 1} were read.",)
