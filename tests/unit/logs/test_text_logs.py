"""Readers of one framework's text each: every number of a sample, in each of the shapes that the framework writes."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from clipcal.logs.log import Log, Reader, Series
from clipcal.logs.readers import coqui, fairseq, marian, megatron, metriclogger, swin
from clipcal.logs.source import Source

READERS = {
    "swin": swin.READER,
    "coqui": coqui.READER,
    "marian": marian.READER,
    "fairseq": fairseq.READER,
    "megatron": megatron.READER,
    "metriclogger": metriclogger.READER,
}


def source_of(folder: Path, text: str) -> Source:
    path = folder / "some.log"
    path.write_bytes(text.encode())
    return Source(path)


def read(name: str, folder: Path, text: str) -> Log:
    source = source_of(folder, text)
    assert [n for n, reader in READERS.items() if reader.recognises(source)] == [name]
    return READERS[name].read(source)


def only(log: Log) -> Series:
    (series,) = log.series
    return series


def same(found: np.ndarray[tuple[int], np.dtype[np.float64]], expected: Sequence[float]) -> None:
    np.testing.assert_allclose(found, expected, rtol=1e-12)


# --- Swin

SWIN_HEADER = """\
[2024-01-02 03:04:05 tiny] (main.py 372): INFO AMP_ENABLE: true
AUG:
  CUTMIX: 1.0
MODEL:
  SWIN:
    PATCH_NORM: true
TRAIN:
  ACCUMULATION_STEPS: {accumulate}
  CLIP_GRAD: {clip}

[2024-01-02 03:04:06 tiny] (main.py 98): INFO SwinTransformer(
  (norm): LayerNorm((768,), eps=1e-05, elementwise_affine=True)
"""


def swin_line(epoch: int, it: int, norm: str, loss: str = "6.9000", rest: str = "mem 3277MB") -> str:
    return (
        f"[2024-01-02 03:04:07 tiny] (main.py 257): INFO Train: [{epoch}/300][{it}/50]\teta 1 day, 0:00:03 lr 0.000125\t "
        f"wd 0.0500\ttime 0.9720 (0.8720)\tdata time 0.1000 (0.2000)\tloss {loss} (7.1000)\tgrad_norm {norm} (9.9999)\t"
        f"loss_scale 65536.0000 (65536.0000)\t{rest}\n"
    )


def test_swin_takes_the_current_value_and_counts_steps_over_epochs(tmp_path: Path) -> None:
    text = SWIN_HEADER.format(accumulate=1, clip=5.0)
    text += swin_line(0, 0, "1.5000", "7.0000") + swin_line(0, 40, "2.5000", "6.5000")
    text += "[2024-01-02 03:04:08 tiny] (main.py 265): INFO EPOCH 0 training takes 0:00:02\n"
    text += "[2024-01-02 03:04:08 tiny] (main.py 300): INFO Test: [0/4]\tTime 0.3 (0.3)\tLoss 13.2 (13.2)\tMem 39MB\n"
    text += swin_line(1, 0, "inf", "nan") + swin_line(1, 40, "3.5000").partition("000 (9.9")[0]
    log = read("swin", tmp_path, text)
    series = only(log)
    assert series.tag == "grad_norm"
    same(series.step, [0, 40, 50])
    same(series.grad_norm, [1.5, 2.5, math.inf])
    same(series.loss, [7.0, 6.5, math.nan])
    same(series.lr, [0.000125] * 3)
    assert (log.max_norm, log.max_norm_from, log.window, log.after) == (5.0, "CLIP_GRAD", "last", False)
    assert log.notes == ()


def test_swin_runs_that_start_anew_are_told_from_those_that_go_on(tmp_path: Path) -> None:
    header = SWIN_HEADER.format(accumulate=1, clip=5.0)
    text = header + header + swin_line(0, 0, "1.0000") + swin_line(1, 0, "2.0000")
    text += header + swin_line(2, 0, "3.0000")  # from a checkpoint
    text += header + swin_line(0, 0, "4.0000") + header + swin_line(0, 0, "5.0000")
    assert only(read("swin", tmp_path, text)).starts == (3, 4)


@pytest.mark.parametrize(("clip", "threshold"), [("null", math.inf), ("0.0", math.inf), ("0.5", 0.5)])
def test_swin_clip_grad_may_be_off(tmp_path: Path, clip: str, threshold: float) -> None:
    text = SWIN_HEADER.format(accumulate=4, clip=clip) + swin_line(0, 0, "1.0000")
    log = read("swin", tmp_path, text)
    assert log.max_norm == threshold
    assert "accumulated 4" in log.notes[0]


def test_swin_all_zero_norms_are_said_to_be_none(tmp_path: Path) -> None:
    log = read("swin", tmp_path, swin_line(0, 0, "0.0000") + swin_line(0, 10, "0.0000"))
    same(only(log).grad_norm, [0.0, 0.0])
    assert "did not compute" in log.notes[0]


def test_swin_forks_write_other_names_and_brackets(tmp_path: Path) -> None:
    text = (
        "[x] (m.py 9): INFO Train: [1/100][100/781]  eta 0:13:34 lr 0.00000100  time 0.5 (0.5)  l1 loss 0.9000 (0.8)  "
        "grad_norm 1.3000 (1.4000/0.0100)  mem 9MB\n"
    )
    series = only(read("swin", tmp_path, text))
    same(series.step, [881])
    same(series.grad_norm, [1.3])
    same(series.loss, [0.9])
    same(series.lr, [1e-6])


def test_a_log_is_recognised_behind_a_megabyte_of_model(tmp_path: Path) -> None:
    model = "  (norm): LayerNorm((768,), eps=1e-05, elementwise_affine=True)\n" * 30_000
    same(only(read("swin", tmp_path, model + swin_line(0, 1, "1.0000"))).grad_norm, [1.0])


# --- Coqui


def coqui_block(step: int, norms: Sequence[str], *, time: str = "") -> str:
    lines = [f"\x1b[1m   --> {time}STEP: {step % 36}/36 -- GLOBAL_STEP: {step}\x1b[0m"]
    for i, norm in enumerate(norms):
        lines += [f"     | > loss_{i}: {i + 2}.50000  (9.00000)", f"     | > grad_norm_{i}: {norm}  (9.00000)"]
    lines += ["     | > loss_disc_real_0: 0.28525  (0.34002)", "     | > amp_scaler: 1024.00000  (2176.00000)"]
    lines += [f"     | > current_lr_{i}: 0.000{i + 2} " for i in range(len(norms))] + ["     | > step_time: 1.3  (1.3)"]
    return "\n".join(lines) + "\n\n\n"


COQUI_EVAL = """
\x1b[1m > EVALUATION \x1b[0m

\x1b[1m   --> STEP: 0\x1b[0m
     | > loss_0: 8.00000  (8.00000)

  \x1b[1m--> EVAL PERFORMANCE\x1b[0m
     | > avg_loss_0:\x1b[92m 2.93308 \x1b[0m(-0.1)
     | > grad_norm_0: 77.0  (77.0)

"""


def test_coqui_reads_a_block_as_a_row_and_no_evaluation(tmp_path: Path) -> None:
    text = " > Training Environment:\n | > Current device: 0\n > Model has 86410668 parameters\n"
    text += coqui_block(1_000_025, ["0.61234", "52.12345"])
    text += COQUI_EVAL + coqui_block(1_000_050, ["nan", "inf"], time="TIME: 2022-11-03 10:47:31 -- ")
    log = read("coqui", tmp_path, text)
    first, second = log.series
    assert (first.tag, second.tag) == ("grad_norm_0", "grad_norm_1")
    same(first.step, [1_000_025, 1_000_050])
    same(first.grad_norm, [0.61234, math.nan])
    same(second.grad_norm, [52.12345, math.inf])
    same(first.loss, [2.5, 2.5])
    same(second.loss, [3.5, 3.5])
    same(second.lr, [0.0003, 0.0003])
    assert (log.window, log.after, log.max_norm) == ("last", False, None)


def test_coqui_of_one_optimizer_and_a_cut_block(tmp_path: Path) -> None:
    block = (
        "   --> STEP: 1/9 -- GLOBAL_STEP: 25\n     | > loss: tensor(0.5, device='cuda:0')  (0.6)\n     | > grad_norm: 1.25  (2.0)\n"
        "     | > current_lr: 0.001\n"
    )
    series = only(read("coqui", tmp_path, block + block.replace("25", "50", 1)[:-30]))
    assert series.tag == "grad_norm"
    same(series.step, [25, 50])
    same(series.grad_norm, [1.25, 1.25])
    same(series.loss, [0.5, 0.5])


@pytest.mark.parametrize(
    ("config", "threshold"),
    [
        (json.dumps({"grad_clip": [1000, 1000]}), 1000.0),
        (json.dumps({"grad_clip": 5.0}), 5.0),
        (json.dumps({"grad_clip": 0.0}), math.inf),
        (json.dumps({"grad_clip": [1.0, 2.0]}), None),
        (json.dumps([1]), None),
        ('{"grad_clip": ', None),
        ("[" * 100_000, None),
    ],
)
def test_coqui_threshold_stands_in_the_config_beside(tmp_path: Path, config: str, threshold: float | None) -> None:
    (tmp_path / "config.json").write_text(config)
    log = read("coqui", tmp_path, coqui_block(25, ["1.0", "2.0"]))
    assert log.max_norm == threshold
    assert bool(log.notes) == ("2.0" in config)


# --- Marian


def marian_line(update: str, norm: str, rest: str = " : L.r. 1.8750e-05") -> str:
    return (
        f"[2023-02-03 04:05:06] Ep. 1 : Up. {update} : Sen. 6,000,000 : Cost 1.25000000 * 200,000 @ 1,904 after 1,234,567 "
        f": Time 300.00s : 20000.00 words/s : gNorm {norm}{rest}\n"
    )


def test_marian_reads_updates_and_the_threshold(tmp_path: Path) -> None:
    text = (
        "[2023-02-03 04:05:06] [marian] Marian v1.10.25; abcd 2021-01-01\n[2023-02-03 04:05:06] [config] clip-norm: 1\n"
    )
    text += marian_line("1", "4.5476") + marian_line("1,000", "nan")
    text += "[2023-02-03 04:05:06] [valid] Ep. 1 : Up. 1000 : chrf : 30.0000 : new best\nError: std::bad_alloc\n"
    text += marian_line("2000", "1.2345", rest="") + marian_line("3000", "1.2345")[:-24]
    log = read("marian", tmp_path, text)
    series = only(log)
    same(series.step, [1, 1000, 2000])
    same(series.grad_norm, [4.5476, math.nan, 1.2345])
    same(series.loss, [1.25000000] * 3)
    same(series.lr, [1.875e-5, 1.875e-5, math.nan])
    assert (log.max_norm, log.max_norm_from) == (1.0, "clip-norm in its [config]")
    assert (log.window, log.after) == (None, False)
    assert "last 100 updates" in log.notes[0]


def test_marian_restarts(tmp_path: Path) -> None:
    header = "[2023-02-03 04:05:06] [marian] Marian v1.10.25; abcd\n[2023-02-03 04:05:06] [config] clip-norm: 0\n"
    text = header + marian_line("1", "4.0") + marian_line("2", "3.0") + header + marian_line("1", "4.1")
    log = read("marian", tmp_path, text + header + marian_line("2", "3.1"))
    assert only(log).starts == (2,)
    assert log.max_norm == math.inf


# --- fairseq

HYDRA = "[2023-02-03 04:05:06,789][fairseq_cli.train][INFO] - {'_name': None, 'optimization': {'_name': None, 'clip_norm': 0.0}}\n"
NAMESPACE = "2020-01-01 10:00:00 | INFO | fairseq_cli.train | Namespace(arch='x', clip_norm=0.1, lr=[0.0005])\n"


def fairseq_row(updates: int, norm: str) -> str:
    return json.dumps(
        {"epoch": 1, "update": 0.416, "loss": "9.276", "loss_0": "6.6", "num_updates": str(updates), "lr": "3.1e-06"}
        | {"gnorm": norm, "loss_scale": "128"}
    )


FAIRSEQ_EPOCH = json.dumps(
    {"epoch": 1, "train_loss": "4.0", "train_num_updates": "9", "train_gnorm": "77", "train_lr": "1e-3"}
)


@pytest.mark.parametrize(
    ("config", "prefix", "threshold"),
    [
        (HYDRA, "[2023-02-03 04:05:06,789][{}][INFO] - ", math.inf),
        (NAMESPACE, "2020-01-01 10:00:00 | INFO | {} | ", 0.1),
    ],
)
def test_fairseq_json_leaves_epochs_out(tmp_path: Path, config: str, prefix: str, threshold: float) -> None:
    inner = prefix.format("train_inner")
    text = config + inner + fairseq_row(200, "1.421") + "\n" + inner + fairseq_row(400, "nan") + "\n"
    text += prefix.format("train") + FAIRSEQ_EPOCH + "\n" + inner + fairseq_row(600, "0.5") + "\n"
    text += prefix.format("valid") + '{"epoch": 1, "valid_loss": "8.8", "valid_num_updates": "600"}\n'
    text += inner + fairseq_row(800, "0.5")[:-3]
    log = read("fairseq", tmp_path, text)
    series = only(log)
    assert series.tag == "gnorm"
    same(series.step, [200, 400, 600])
    same(series.grad_norm, [1.421, math.nan, 0.5])
    same(series.loss, [9.276] * 3)
    same(series.lr, [3.1e-6] * 3)
    assert (log.max_norm, log.window, log.after, log.unit, log.notes) == (threshold, "mean", False, "step", ())


def test_fairseq_simple_and_its_epochs(tmp_path: Path) -> None:
    prefix = "2020-01-01 10:00:00 | INFO | "
    values = "loss={0}, nll_loss=8.1, ppl=617.1, wps=0, num_updates={1}, lr=1.0e-05, gnorm={2}, clip=100, wall=30\n"
    inner = prefix + "train_inner | epoch 001:    100 / 1000 "
    end = (
        prefix
        + "train | epoch 001 | loss 9.27 | ppl 617 | num_updates 1000 | lr 6.25e-05 | gnorm 77.5 | clip 0 | wall 3\n"
    )
    text = inner + values.format(9.5, 100, 1.25) + inner + values.format(9.25, 200, "inf") + end
    text += prefix + "valid | epoch 001 | valid on 'valid' subset | loss 8.1 | num_updates 1000\n"
    series = only(read("fairseq", tmp_path, text))
    same(series.step, [100, 200])
    same(series.grad_norm, [1.25, math.inf])
    same(series.loss, [9.5, 9.25])
    log = read("fairseq", tmp_path, end + end.replace("epoch 001", "epoch 002").replace("77.5", "66.5"))
    same(only(log).step, [1, 2])
    same(only(log).grad_norm, [77.5, 66.5])
    assert log.unit == "epoch"
    assert "--log-interval 1" in log.notes[0]


def test_fairseq_progress_bar_is_read_once_an_update(tmp_path: Path) -> None:
    bar = "epoch 001:  {0}%|█    | {0}/100 [00:10<01:00, 10.1it/s, loss=9.{1}, num_updates={1}, lr=1e-05, gnorm=1.{1}, wall=3]"
    text = "\r".join(bar.format(drawn, drawn // 3 * 3) for drawn in range(3, 12))
    series = only(read("fairseq", tmp_path, text))
    same(series.step, [3, 6, 9])
    same(series.grad_norm, [1.3, 1.6, 1.9])


def test_fairseq_of_old_prints_running_means(tmp_path: Path) -> None:
    text = (
        "| epoch 001:    100 / 1000 loss=9.276, num_updates=101, lr=1.0e-05, gnorm=1.421, clip=0.000, oom=0.000, wall=30\n"
        "| epoch 001:    200 / 1000 loss=8.276, num_updates=201, lr=1.0e-05, gnorm=1.300, clip=0.000, oom=0.000, wall=40\n"
        "| epoch 001 | loss 9.27 | num_updates 1000 | lr 6.25e-05 | gnorm 7.700 | clip 0 | wall 3\n"
    )
    log = read("fairseq", tmp_path, text)
    same(only(log).grad_norm, [1.421, 1.3])
    assert "since the epoch began" in log.notes[0]


# --- Megatron


def megatron_line(iteration: int, norm: str, *, prefix: str = "", skipped: int = 0) -> str:
    return (
        f"{prefix} iteration {iteration:8d}/    1000 | consumed samples: {iteration * 8:12d} | elapsed time per iteration (ms): 500.1 "
        f"| learning rate: 1.500000E-04 | global batch size:     8 | lm loss: 9.250000E+00 | load_balancing_loss: 1.0E+00 "
        f"| loss scale: 1.0 |{norm} num zeros: 0.0 | params norm: 200.125 | number of skipped iterations: {skipped:3d} "
        "| number of nan iterations:   0 |\n"
    )


def test_megatron_reads_iterations_and_the_arguments(tmp_path: Path) -> None:
    text = "[default0]:------------------------ arguments ------------------------\n"
    text += "[default0]:  clip_grad ....................................... 1.0\n"
    text += megatron_line(10, " grad norm: 4.567 |", prefix="[default7]: [2024-05-01 10:00:00]")
    text += megatron_line(20, "", skipped=2) + megatron_line(30, " grad norm: nan |")
    text += " validation loss at iteration 30 | lm loss value: 5.0E+00 | lm loss PPL: 1.4E+02 | \n"
    text += megatron_line(40, " grad norm: 1.25 |").partition("25 | num")[0]
    log = read("megatron", tmp_path, text)
    series = only(log)
    assert series.tag == "grad norm"
    same(series.step, [10, 30])
    same(series.grad_norm, [4.567, math.nan])
    same(series.loss, [9.25, 9.25])
    same(series.lr, [1.5e-4, 1.5e-4])
    assert (log.max_norm, log.max_norm_from, log.window, log.after) == (1.0, "clip_grad", "last", False)
    assert log.notes == ("2 iterations were skipped for overflowing fp16 gradients; those have no norm in it.",)


def test_megatron_under_deepspeed_is_clipped_by_deepspeed(tmp_path: Path) -> None:
    text = (
        "[2024-05-01 10:00:00,1] [INFO] [config.py:996:print]   gradient_clipping ............ 0.5\n"
        "  clip_grad ....................................... 1.0\n"
    )
    assert read("megatron", tmp_path, text + megatron_line(10, " grad norm: 4.0 |")).max_norm == 0.5


def test_megatron_runs_that_start_anew(tmp_path: Path) -> None:
    header = "------------------------ arguments ------------------------\n"
    lines = [megatron_line(i, f" grad norm: {i}.0 |") for i in (10, 20)]
    text = header + "".join(lines) + header + megatron_line(30, " grad norm: 3.0 |") + header + "".join(lines)
    assert only(read("megatron", tmp_path, text)).starts == (3,)


def test_nemo_numbers_iterations_within_epochs(tmp_path: Path) -> None:
    line = "Training epoch {0}, iteration {1}/9 | lr: 4.5e-06 | global_batch_size: 512 | global_step: {2} | reduced_train_loss: 11.5 | grad_norm: 1.{1}\n"
    text = "".join(line.format(e, i, e * 10 + i) for e in (0, 1) for i in (0, 9))
    series = only(read("megatron", tmp_path, text))
    same(series.step, [0, 9, 10, 19])
    same(series.grad_norm, [1.0, 1.9, 1.0, 1.9])
    same(series.loss, [11.5] * 4)


# --- MetricLogger


def test_metric_logger(tmp_path: Path) -> None:
    text = "Namespace(accum_iter=1,\nclip_grad=3.0,\nseed=0)\nStart training for 100 epochs\n"
    line = (
        "Epoch: [{0}]  [{1:4d}/100]  eta: 1 day, 1:02:03  lr: 0.000100  min_lr: 0.000001  loss: 7.1023 (7.3)  "
        "loss_scale: 65536.0000 (65536.0000)  weight_decay: 0.0500 (0.0500)  grad_norm: {2} (inf)  time: 1.2  data: 0.1  max mem: 1234\n"
    )
    text += "".join(line.format(e, i, n) for e, i, n in [(0, 0, "1.5"), (0, 20, "nan"), (1, 0, "2.5")])
    text += "Averaged stats: lr: 0.0001  loss: 6.9 (7.0)  grad_norm: 9.1 (1.2)\n"
    text += "Test:  [ 0/10]  eta: 0:01:00  loss: 1.0 (1.0)  grad_norm: 9.1 (1.2)  time: 1.2  data: 0.1\n"
    log = read("metriclogger", tmp_path, text)
    series = only(log)
    same(series.step, [0, 20, 100])
    same(series.grad_norm, [1.5, math.nan, 2.5])
    same(series.loss, [7.1023] * 3)
    same(series.lr, [1e-4] * 3)
    assert (log.max_norm, log.max_norm_from, log.window) == (3.0, "clip_grad", "mean")
    assert "median of the last 20 steps" in log.notes[0]


def test_metric_logger_without_epochs_and_clipping(tmp_path: Path) -> None:
    text = "Namespace(clip_grad=None, seed=0)\nI20230401 12:00:00 1 dinov2 helpers.py:103] Training  [ 10/99]  eta: 0:10:00  "
    text += "lr: 0.0001 (0.0001)  total_loss: 7.5 (7.6)  grad_norm: 1.25 (1.5)  time: 0.5  data: 0.1  max mem: 99\n"
    log = read("metriclogger", tmp_path, text)
    same(only(log).step, [10])
    same(only(log).loss, [7.5])
    assert log.max_norm == math.inf


# --- all of them


@pytest.mark.parametrize("reader", READERS.values(), ids=READERS)
@pytest.mark.parametrize(
    "text",
    [
        "no log at all\n",
        "step 1 loss 2.0 grad_norm 3.0\n" * 5,
        "\x00\xff" * 999,
        '{"a": ' * 30_000,
        "epoch 001: " * 3_000 + "gnorm=",
    ],
    ids=["prose", "other", "bytes", "deep", "long"],
)
def test_other_files_are_not_taken(tmp_path: Path, reader: Reader, text: str) -> None:
    assert not reader.recognises(source_of(tmp_path, text))
