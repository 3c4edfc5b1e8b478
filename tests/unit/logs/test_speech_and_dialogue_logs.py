"""The readers of ESPnet2's, WeNet's, icefall's and ParlAI's logs: what their frameworks write, and what it stands for."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from clipcal.errors import InputError
from clipcal.logs.log import Log, Series
from clipcal.logs.picking import pick
from clipcal.logs.reading import find_reader, read_log
from clipcal.logs.source import Source


def read(folder: Path, text: str) -> Log:
    path = folder / "train.log"
    path.write_text(text)
    return read_log(path)


def only(log: Log) -> Series:
    (series,) = log.series
    return series


def espnet(epoch: int, first: int, last: int, norm: float) -> str:
    return (
        f"[gpu01:0/2] 2023-04-22 13:52:12,339 (trainer:732) INFO: {epoch}epoch:train:{first}-{last}batch: iter_time=0.070, "
        f"loss=-{last}.5, loss_att=2.25, grad_norm={norm}, clip=100.000, loss_scale=1.000, optim0_lr0=3.765e-04, train_time=1.1\n"
    )


class TestESPnet:
    def test_a_line_stands_for_its_window_of_batches(self, tmp_path: Path) -> None:
        log = read(tmp_path, espnet(1, 1, 100, 37.5) + espnet(1, 101, 200, 3.25) + espnet(1, 201, 300, float("nan")))
        assert log.format == "ESPnet2 train.log"
        assert (log.window, log.after, log.max_norm) == ("mean", False, None)
        np.testing.assert_array_equal(only(log).step, [100, 200, 300])
        np.testing.assert_array_equal(only(log).grad_norm, [37.5, 3.25, np.nan])
        np.testing.assert_array_equal(only(log).loss, [-100.5, -200.5, -300.5])
        np.testing.assert_array_equal(only(log).lr, [3.765e-4] * 3)

    def test_epochs_are_as_long_as_their_results_say(self, tmp_path: Path) -> None:
        results = (
            "2023-04-22 13:53:12,339 (trainer:338) INFO: 1epoch results: [train] loss=-1.0, grad_norm=99.0, clip=0.0, "
            "time=1 minute and 42.6 seconds, total_count=250, gpu_max_cached_mem_GB=1.1, [valid] loss=2.0, total_count=7\n"
        )
        text = espnet(1, 1, 100, 1.5) + espnet(1, 101, 200, 2.5) + results + espnet(2, 1, 100, 3.5)
        np.testing.assert_array_equal(only(read(tmp_path, text)).step, [100, 200, 350])
        np.testing.assert_array_equal(only(read(tmp_path, text)).grad_norm, [1.5, 2.5, 3.5])
        without = text.replace(results, "")
        np.testing.assert_array_equal(only(read(tmp_path, without)).step, [100, 200, 300])

    def test_the_threshold_and_what_was_skipped(self, tmp_path: Path) -> None:
        (tmp_path / "config.yaml").write_text("accum_grad: 1\ngrad_clip: 5.0\ngrad_clip_type: 2.0\n")
        skipped = "2023 (trainer:600) WARNING: The grad norm is nan. Skipping updating the model.\n"
        log = read(tmp_path, espnet(1, 1, 50, 7.5) + skipped * 3 + espnet(1, 51, 100, 2.5))
        assert (log.max_norm, log.max_norm_from) == (5.0, "grad_clip in config.yaml")
        assert "3 updates were skipped" in log.notes[0]


def test_wenet_names_the_epoch_and_its_batch(tmp_path: Path) -> None:
    text = ""
    for i, (epoch, batch) in enumerate([(0, 100), (0, 200), (1, 100)]):
        for rank in (1, 0, 2):
            text += (
                f"2024-01-30 18:47:07,107 DEBUG TRAIN | steps/sec 1.25| Batch {epoch}/{batch} loss {12 + rank}.5 loss_ctc 3.5 "
                f"lr 0.00032621 grad_norm {i}.25 rank {rank}\n"
            )
        text += "2024-01-30 18:49:55,773 DEBUG CV | Batch 0/100 loss 28.5 loss_ctc 38.7 history loss 27.9 rank 0\n"
    log = read(tmp_path, text)
    np.testing.assert_array_equal(only(log).grad_norm, [0.25, 1.25, 2.25])
    np.testing.assert_array_equal(only(log).loss, [13.5] * 3)
    np.testing.assert_array_equal(only(log).step, [100, 200, 301])
    assert any("rank 1" in note for note in log.notes)


def test_icefall_clips_by_itself(tmp_path: Path) -> None:
    text = ""
    for i in range(5):
        text += (
            f"2025-10-27 17:32:19,686 INFO [train.py:731] (0/4) Epoch 1, batch {i}, loss[loss=0.5, over 17994.00 frames. ], "
            "tot_loss[loss=0.75, over 778288.75 frames. ], cur_lr: 1.00e-04, grad_scale: 65536.0\n"
            "2025-10-27 17:32:19,686 WARNING [optim.py:600] (0/4) Clipping_scale=2.0, grad-norm quartiles 2.645e-03 3.446e-03 "
            "3.830e-03 4.745e-03 9.672e-03, threshold=1.532e-02, percent-clipped=0.0\n"
        )
    with pytest.raises(InputError, match="ScaledAdam has no max_norm"):
        read(tmp_path, text)


class TestParlAI:
    TABLE = (
        "12:04:55 |     gradient_clip: 0.1\n12:17:09 | training...\n"
        "12:18:15 | time:65s total_exs:7 total_steps:7 epochs:0.00 time_left:834949s\n"
        "    clen  clip  ctps  gnorm  llen  loss    lr   ppl  total_train_updates   ups\n"
        "    1331     1 55.48  33.75 3.286 2.465 1e-05 11.76                    7 .1084\n\n"
        "12:19:22 | time:132s total_exs:14 total_steps:14 epochs:0.00 time_left:854819s\n"
        "    clen  clip  ctps  gnorm  llen  loss    lr   ppl  total_train_updates  ups\n"
        "    1369     1 51.62  .4375     3 1.174 1e-05 3.235                   14    1\n\n"
        "12:20:00 | running eval: valid\n12:20:30 | valid:\n    exs   f1  gnorm  loss\n      8 .135   77.0  2.97\n\n"
    )

    def test_values_stand_below_their_names(self, tmp_path: Path) -> None:
        log = read(tmp_path, self.TABLE)
        assert (log.format, log.window, log.after, log.max_norm) == ("ParlAI console", "mean", False, 0.1)
        np.testing.assert_array_equal(only(log).step, [7, 14])
        np.testing.assert_array_equal(only(log).grad_norm, [33.75, 0.4375])
        np.testing.assert_array_equal(only(log).loss, [2.465, 1.174])
        np.testing.assert_array_equal(only(log).lr, [1e-5, 1e-5])

    def test_of_several_tasks_the_row_of_all_counts(self, tmp_path: Path) -> None:
        text = self.TABLE + (
            "09:14:52 | time:112s total_exs:90180 epochs:0.41\n"
            "                 clip  exs  gnorm  loss  lr  total_train_updates\n"
            "   all              1 8416  2.018 5.078   1                  729\n"
            "   convai2            3434        5.288\n   dailydialog        4982        4.868\n\n"
        )
        np.testing.assert_array_equal(only(read(tmp_path, text)).step, [7, 14, 729])
        assert only(read(tmp_path, text)).loss[-1] == 5.078

    def test_a_wide_table_goes_on_below(self, tmp_path: Path) -> None:
        text = (
            "12:18:15 | time:65s total_exs:7 total_steps:7 epochs:0.00\n    clen  clip  gnorm  \\\n    1331     1  33.75   \n\n"
            "    loss  lr  total_train_updates\n     2.5   1                    9\n\n"
        )
        path = tmp_path / "log"
        path.write_text(self.TABLE + text)
        np.testing.assert_array_equal(only(read_log(path)).step, [7, 14, 9])
        assert only(read_log(path)).loss[-1] == 2.5

    def test_dicts_of_old_releases(self, tmp_path: Path) -> None:
        line = (
            "[rank:  {rank}] [ time:4.0s total_exs:{exs} epochs:4.23 time_left:15.0s ] {{'exs': 1134, 'mean_loss': {n}.75, "
            "'gnorm': {n}.25, 'clip': 1.0, 'updates': 19, 'lr': 0.007, 'gpu_mem_percent': 0.0015, 'total_train_updates': {n}00}}\n"
        )
        text = "".join(line.format(rank=rank, exs=n * 1134, n=n) for n in (1, 2, 3) for rank in (1, 0))
        log = read(tmp_path, text)
        np.testing.assert_array_equal(only(log).step, [100, 200, 300])
        np.testing.assert_array_equal(only(log).grad_norm, [1.25, 2.25, 3.25])
        np.testing.assert_array_equal(only(log).loss, [1.75, 2.75, 3.75])


def test_fairseq_of_2018(tmp_path: Path) -> None:
    line = "| epoch 002  {it} / 8223 loss=1.27 (1.50), wps=962, wpb=908, bsz=32, lr=0.001, clip=100%, gnorm={norm}\n"
    text = line.format(it=1000, norm="2.1427") + line.format(it=2000, norm="2.1507")
    text += "| epoch 002 | train loss 1.44 | train ppl 2.72 | words/s    961 | lr 0.001000 | clip 100% | gnorm 2.1113\n"
    text += "| epoch 002 | valid on 'valid' subset  1000 / 1311 loss=1.60\n" + line.format(it=3000, norm="2.1")
    log = read(tmp_path, text)
    assert log.format == "fairseq log"
    np.testing.assert_array_equal(only(log).step, [9223, 10223])  # the last one was cut off
    np.testing.assert_array_equal(only(log).grad_norm, [2.1427, 2.1507])
    np.testing.assert_array_equal(only(log).loss, [1.27, 1.27])
    assert "since the epoch began" in log.notes[0]


@pytest.mark.parametrize(
    ("line", "steps"),
    [
        ("Epoch:[{e}], Batch: [{i}]/[100], lr: 0.5, nll: 5.0, grad_norm: {n}, ms/batch: 12.9\n", (50, 100, 150)),
        ("Epoch {e}/10, Batch {i}/100, Loss: 2.5, Grad Norm: {n}\n", (50, 100, 150)),
        (
            "[epoch={e}][batch={i}/100]:\n     Train l2_norm/grad/global: {n}\n     Train time/batch: 7\n",
            (50, 100, 150),
        ),
    ],
)
def test_batches_of_an_epoch(tmp_path: Path, line: str, steps: tuple[float, ...]) -> None:
    rows = [(1, 50, 1.5), (1, 100, 2.5), (2, 50, 3.5)]
    log = read(tmp_path, "".join(line.format(e=e, i=i, n=n) for e, i, n in rows))
    np.testing.assert_array_equal(only(log).step, steps)
    np.testing.assert_array_equal(only(log).grad_norm, [1.5, 2.5, 3.5])


def test_samples_are_no_steps(tmp_path: Path) -> None:
    line = "2024-12-08,22:10:14 | INFO | Train Epoch: 3 [{n}/15007744 (0%)] Loss: 3.5 (3.6) grad_norm: 1.{n} LR: 0.000041\n"
    log = read(tmp_path, "".join(line.format(n=41984 * i) for i in range(1, 6)))
    found = pick(log, "log")
    np.testing.assert_array_equal(found.step, [1, 2, 3, 4, 5])
    assert found.caveats == ("The log numbers its rows by 'epoch' alone, so each row is taken for one step.",)


def test_llmc_before_it_wrote_norms(tmp_path: Path) -> None:
    path = tmp_path / "main.log"
    path.write_text("s:0 tel:10.968871\n" + "".join(f"s:{i} trl:10.9{i}\n" for i in range(9)))
    reader = find_reader(Source(path))
    assert reader is not None
    assert reader.title == "llm.c log"
    with pytest.raises(InputError, match="June 2024"):
        read_log(path)


@pytest.mark.parametrize("spelling", ["-1.#IND", "1.#QNAN", "-1.#IND00"])
def test_nan_of_microsofts_c(tmp_path: Path, spelling: str) -> None:
    log = read(
        tmp_path,
        f"step 1 loss 2.0 grad_norm 1.5\nstep 2 loss 2.0 grad_norm {spelling} lr 1\nstep 3 loss 2 grad_norm 2.5\n",
    )
    np.testing.assert_array_equal(only(log).grad_norm, [1.5, np.nan, 2.5])
