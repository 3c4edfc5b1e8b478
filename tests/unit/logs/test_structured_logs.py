"""JSON and printed dicts in small samples of every format: what stands there is what is read."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar

import pytest

from clipcal.errors import InputError
from clipcal.logs.log import Floats, Log, Reader, Series
from clipcal.logs.readers import epochs, huggingface, huggingface_console, json_columns, jsonlines, mmcv, sacred
from clipcal.logs.reading import read_log
from clipcal.logs.source import Source

NAN, INF = math.nan, math.inf


def read(folder: Path, text: str, reader: Reader, name: str = "log") -> Log:
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    source = Source(path)
    assert reader.recognises(source)
    return reader.read(source)


def only(log: Log) -> Series:
    assert len(log.series) == 1, [s.tag for s in log.series]
    return log.series[0]


def same(found: Floats, *wanted: float) -> None:
    assert list(found) == pytest.approx(list(wanted), nan_ok=True)


def lines(*rows: dict[str, Any]) -> str:
    return "".join(json.dumps(row) + "\n" for row in rows)


class TestHuggingFace:
    STATE = """{
  "best_metric": null,
  "global_step": 30,
  "log_history": [
    {"epoch": 0.1, "grad_norm": 4.5, "learning_rate": 1e-05, "loss": 3.25, "step": 10},
    {"epoch": 0.1, "eval_loss": 3.0, "eval_runtime": 1.5, "step": 10},
    {"epoch": 0.2, "grad_norm": NaN, "learning_rate": 2e-05, "loss": 0.0, "step": 20},
    {"epoch": 0.3, "grad_norm": "inf", "learning_rate": 3e-05, "loss": "nan", "step": 30},
    {"epoch": 0.3, "step": 30, "total_flos": 1.0, "train_loss": 1.1, "train_runtime": 9.9}
  ],
  "logging_steps": 10,
  "stateful_callbacks": {"TrainerControl": {"args": {"should_log": false}}}
}
"""

    def test_rows_of_training_alone(self, tmp_path: Path) -> None:
        log = read(tmp_path, self.STATE, huggingface.READER)
        series = only(log)
        same(series.step, 10, 20, 30)
        same(series.grad_norm, 4.5, NAN, INF)
        same(series.loss, 3.25, 0.0, NAN)
        same(series.lr, 1e-5, 2e-5, 3e-5)
        assert (log.window, log.after, log.notes) == ("last", False, ())
        assert (log.max_norm, log.max_norm_from, log.framework) == (1.0, "Trainer's default, assumed", "huggingface")

    def test_cut_off_in_a_row(self, tmp_path: Path) -> None:
        log = read(tmp_path, self.STATE[: self.STATE.index('"inf"')], huggingface.READER)
        same(only(log).grad_norm, 4.5, NAN)
        (note,) = log.notes
        assert note.startswith("The file is not valid JSON from line 8, column ")
        assert "cut off?" in note

    @pytest.mark.parametrize("cut", ['"log_history": [', '"epoch": 0.1, "gr'])
    def test_cut_off_before_the_first_row_ends(self, tmp_path: Path, cut: str) -> None:
        """It may well hold norms, once it is whole."""
        text = self.STATE[: self.STATE.index(cut) + len(cut)]
        with pytest.raises(InputError, match=r"log:\d+:\d+: is not valid JSON \(cut off\?\)") as refused:
            read(tmp_path, text, huggingface.READER)
        assert "4.38" not in str(refused.value)
        line, column = str(refused.value).removeprefix(f"{tmp_path}/log:").split(":")[:2]
        assert int(line) == text.count("\n") + 1
        assert 1 <= int(column) <= len(text.splitlines()[-1]) + 1

    @pytest.mark.parametrize("size", [20, 45])
    def test_cut_off_before_the_history(self, tmp_path: Path, size: int) -> None:
        path = tmp_path / "trainer_state.json"
        path.write_text(self.STATE[:size])
        with pytest.raises(InputError, match=r"trainer_state\.json:\d+:\d+: is not valid JSON \(cut off\?\)"):
            read_log(path)

    def test_a_text_log_that_begins_with_a_bracket_is_no_json_that_was_cut_off(self, tmp_path: Path) -> None:
        path = tmp_path / "train.log"
        path.write_text("[2024-01-01 10:00:00] begins\n[2024-01-01 10:00:01] ends\n")
        with pytest.raises(InputError, match="no log that is known here"):
            read_log(path)

    def test_deepspeed_overflow(self, tmp_path: Path) -> None:
        log = read(tmp_path, self.STATE.replace("4.5", "-1.0"), huggingface.READER)
        same(only(log).grad_norm, NAN, NAN, INF)
        assert huggingface.OVERFLOWN in log.notes

    def test_before_grad_norm_was_logged(self, tmp_path: Path) -> None:
        text = json.dumps({"log_history": [{"loss": 1.0, "step": 1}]})
        assert read(tmp_path, text, huggingface.READER).series == ()

    def test_null_norms_are_no_norms(self, tmp_path: Path) -> None:
        history = [{"loss": 1.0, "grad_norm": None, "step": 1}, {"loss": 2.0, "grad_norm": 3.0, "step": 2}]
        series = only(read(tmp_path, json.dumps({"log_history": history}), huggingface.READER))
        same(series.step, 2)
        same(series.loss, 2.0)

    def test_history_that_is_no_list(self, tmp_path: Path) -> None:
        with pytest.raises(InputError, match="log_history is no list"):
            read(tmp_path, '{"log_history": {"a": 1}}', huggingface.READER)

    def test_threshold_in_a_config_above_the_checkpoint(self, tmp_path: Path) -> None:
        (tmp_path / "args.json").write_text('{"learning_rate": 1e-4, "max_grad_norm": 0.3}')
        log = read(tmp_path, self.STATE, huggingface.READER, "checkpoint-30/trainer_state.json")
        assert (log.max_norm, log.max_norm_from) == (0.3, "max_grad_norm in args.json")


class TestHuggingFaceConsole:
    @staticmethod
    def bar(n: int, total: int = 100) -> str:
        return f"{n:3d}%|{'#' * (n // 20):5}| {n}/{total} [00:{n % 60:02d}<01:40,  2.00it/s]"

    def console(self, steps: Sequence[int], *, bars: bool = True, quoted: bool = False) -> str:
        q = "'" if quoted else ""
        text = "\r" + self.bar(0)
        for step in steps:
            text += (
                f"\r{' ' * 40}\r{{'loss': {q}{step / 10}{q}, 'grad_norm': {q}{step / 4}{q}, 'learning_rate': {q}1e-05{q}, "
                f"'epoch': {q}0.{step}{q}}}\n"
            )
            text += f"\r{self.bar(step)}" if bars else ""
        return text

    @pytest.mark.parametrize("quoted", [False, True], ids=["transformers 4", "transformers 5"])
    def test_steps_from_the_bar_that_is_drawn_again(self, quoted: bool, tmp_path: Path) -> None:
        steps = [1, *range(10, 80, 10)]
        log = read(tmp_path, self.console(steps, quoted=quoted), huggingface_console.READER)
        series = only(log)
        same(series.step, *steps)
        same(series.grad_norm, *(s / 4 for s in steps))
        same(series.loss, *(s / 10 for s in steps))
        same(series.lr, *[1e-5] * len(steps))
        assert (log.window, log.after) == ("last", False)

    def test_no_steps_where_output_was_lost(self, tmp_path: Path) -> None:
        steps = [1, 2, 4, 5, 7, 12, 13, 19, 20, 22]
        series = only(read(tmp_path, self.console(steps), huggingface_console.READER))
        assert all(math.isnan(s) for s in series.step)
        same(series.grad_norm, *(s / 4 for s in steps))

    def test_no_steps_where_stdout_came_late(self, tmp_path: Path) -> None:
        text = "".join(f"\r{self.bar(n)}" for n in range(30)) + self.console(range(1, 30), bars=False)
        assert all(math.isnan(s) for s in only(read(tmp_path, text, huggingface_console.READER)).step)

    def test_what_stands_between_and_around(self, tmp_path: Path) -> None:
        text = (
            "Training/evaluation parameters TrainingArguments(\nlearning_rate=1e-05,\nmax_grad_norm=0.7,\n)\n"
            "model config {'hidden': {'size': 3}, 'loss': 'ce'}\n"
            "\x1b[31m[rank0]:\x1b[0m {'loss': 1.0, 'grad_norm': nan, 'learning_rate': 1e-05, 'epoch': 0.1}\n"
            "{'eval_loss': 9.0, 'eval_runtime': 3.1, 'epoch': 0.1}\n"
            "  5%|5    | 5/100 [00:01<00:20,  4.00it/s]{'loss': 2.0, 'grad_norm': tensor(3.5, device='cuda:0'), "
            "'learning_rate': 2e-05, 'epoch': 0.2}\n"
            'Traceback (most recent call last):\n  File "x.py", line 1, in {module}\n'
            "{'loss': inf,\n 'grad_norm': -1.0,\n 'learning_rate': 3e-05,\n 'epoch': 0.3}\n"
            "{'train_runtime': 3.5, 'train_loss': 1.5, 'epoch': 0.3}\n"
            "{'loss': 4.0, 'grad_norm': 5.5, 'learning_rate': 4e-05, 'epoch': 0.1}\n"
            "{'loss': 5.0, 'grad_no"
        )
        log = read(tmp_path, text, huggingface_console.READER)
        series = only(log)
        same(series.grad_norm, NAN, 3.5, NAN, 5.5)
        same(series.loss, 1.0, 2.0, INF, 4.0)
        same(series.lr, 1e-5, 2e-5, 3e-5, 4e-5)
        assert series.starts == (3,)
        assert (log.max_norm, log.max_norm_from) == (0.7, "max_grad_norm")
        assert log.notes == (huggingface.OVERFLOWN,)

    def test_ms_swift_has_its_steps_in_the_dict(self, tmp_path: Path) -> None:
        row = "{{'loss': {0}.0, 'grad_norm': {0}.5, 'learning_rate': 1e-05, 'epoch': 0.1, 'global_step/max_steps': '{0}/50'}}\n"
        series = only(read(tmp_path, row.format(5) + row.format(10), huggingface_console.READER))
        same(series.step, 5, 10)

    def test_a_printed_config_is_no_training(self, tmp_path: Path) -> None:
        path = tmp_path / "log"
        path.write_text("{'loss': 'ce', 'learning_rate': 0.1, 'epoch': 3, 'max_grad_norm': 1.0}\n")
        assert not huggingface_console.READER.recognises(Source(path))


class TestMmcv:
    META: ClassVar[dict[str, Any]] = {
        "env_info": "Python: 3.8",
        "config": "optimizer_config = dict(\n    grad_clip=dict(max_norm=35, norm_type=2))\n",
    }

    @staticmethod
    def train(epoch: int, it: int, norm: float, **more: Any) -> dict[str, Any]:
        row = {"mode": "train", "epoch": epoch, "iter": it, "lr": 0.01, "memory": 99, "loss_cls": 9.0}
        return row | {"loss": norm / 2, "grad_norm": norm, "time": 0.5} | more

    def test_epochs_start_again_and_so_do_runs(self, tmp_path: Path) -> None:
        text = lines(
            self.META,
            self.train(1, 10, 1.0),
            self.train(1, 20, 2.0),
            {"mode": "val", "epoch": 1, "iter": 400, "lr": 0.01, "mAP": 0.5},
            self.train(2, 10, NAN),
            self.train(2, 20, 4.0),
            self.META,
            self.train(1, 10, 5.0),
        )
        log = read(tmp_path, text + '{"mode": "train", "epo', mmcv.READER)
        series = only(log)
        same(series.step, 10, 20, 30, 40, 10)
        same(series.grad_norm, 1.0, 2.0, NAN, 4.0, 5.0)
        same(series.loss, 0.5, 1.0, NAN, 2.0, 2.5)
        assert series.starts == (4,)
        assert (log.window, log.after, log.max_norm, log.notes) == ("mean", False, 35.0, ())

    @pytest.mark.parametrize("epochs_", [(1, 1, 1), (1, 2, 3), (7, 7, 7)])
    def test_by_iteration(self, epochs_: tuple[int, ...], tmp_path: Path) -> None:
        rows = [self.train(e, it, 1.0) for e, it in zip(epochs_, (150, 200, 250), strict=True)]
        same(only(read(tmp_path, lines(*rows), mmcv.READER)).step, 150, 200, 250)

    def test_one_epoch_of_a_resumed_run(self, tmp_path: Path) -> None:
        rows = [self.train(3, it, 1.0) for it in (10, 20, 30)]
        same(only(read(tmp_path, lines(*rows), mmcv.READER)).step, 70, 80, 90)

    def test_one_line_an_epoch(self, tmp_path: Path) -> None:
        rows = [self.train(e, 10, 1.0) for e in (1, 2, 3)]
        same(only(read(tmp_path, lines(*rows), mmcv.READER)).step, 10, 20, 30)

    def test_rates_of_several_optimizers(self, tmp_path: Path) -> None:
        row = self.train(1, 10, 1.0, lr={"generator": 0.5, "discriminator": 0.25})
        same(only(read(tmp_path, lines(row), mmcv.READER)).lr, 0.5)

    def test_mmengine(self, tmp_path: Path) -> None:
        (tmp_path / "config.py").write_text("optim_wrapper = dict(\n    clip_grad=dict(max_norm=0.1, norm_type=2))\n")
        rows = [
            {"lr": 0.1, "data_time": 0.1, "loss": s / 10, "grad_norm": s / 5, "time": 1.0, "iter": s, "step": s} | e
            for s, e in ((50, {"epoch": 1}), (100, {"epoch": 1}), (150, {"epoch": 2}))
        ]
        rows.insert(2, {"coco/bbox_mAP": 0.3, "data_time": 0.1, "time": 0.2, "step": 1})
        log = read(tmp_path, lines(*rows), mmcv.READER, "20260101_000000.json")
        series = only(log)
        same(series.step, 50, 100, 150)
        same(series.loss, 5, 10, 15)
        assert (log.max_norm, log.max_norm_from) == (0.1, "clip_grad in config.py")

    def test_clipping_switched_off(self, tmp_path: Path) -> None:
        meta = {"env_info": "", "config": "optimizer_config = dict(grad_clip=None)\n"}
        assert read(tmp_path, lines(meta, self.train(1, 10, 1.0)), mmcv.READER).max_norm == INF


class TestEpochs:
    def test_beit(self, tmp_path: Path) -> None:
        rows = [
            {"train_lr": 1e-3, "train_min_lr": 1e-5, "train_loss": 9.0 - e, "train_grad_norm": e / 8, "test_loss": 1.0}
            | {"epoch": e, "n_parameters": 300}
            for e in range(3)
        ]
        log = read(tmp_path, lines(*rows), epochs.READER)
        series = only(log)
        same(series.step, 0, 1, 2)
        same(series.grad_norm, 0, 0.125, 0.25)
        same(series.loss, 9, 8, 7)
        same(series.lr, 1e-3, 1e-3, 1e-3)
        assert (log.window, log.after, log.unit) == ("mean", False, "epoch")

    @pytest.mark.parametrize(
        "rows",
        [
            [{"epoch": 1, "step": 1, "grad_norm": 1.0}, {"epoch": 2, "step": 2, "grad_norm": 1.0}],
            [{"epoch": 1, "grad_norm": 1.0}, {"epoch": 1, "grad_norm": 2.0}],
            [{"epoch": 0.25, "grad_norm": 1.0}, {"epoch": 0.5, "grad_norm": 2.0}],
        ],
        ids=["with steps", "several in an epoch", "fractions"],
    )
    def test_rows_that_are_no_epochs(self, rows: list[dict[str, Any]], tmp_path: Path) -> None:
        path = tmp_path / "log"
        path.write_text(lines(*rows))
        assert not epochs.READER.recognises(Source(path))
        assert jsonlines.READER.recognises(Source(path))


class TestSacred:
    def test_info(self, tmp_path: Path) -> None:
        (tmp_path / "config.json").write_text('{"lr": 0.1, "grad_norm_clip": 10}')
        info = {
            "agent_grad_norm": [0.5, {"dtype": "float64", "py/object": "numpy.float64", "value": 0.25}, NAN],
            "agent_grad_norm_T": [1142, 2000, 3000],
            "critic_grad_norm": [5.0, 6.0, 7.0],
            "critic_grad_norm_T": [1142, 2000, 3000],
            "critic_loss": [50.0, 60.0, 70.0],
            "critic_loss_T": [1142, 2000, 3000],
            "mix_loss": [-1.0, -3.0],
            "mix_loss_T": [1142, 3000],
            "return_mean": [1.0],
            "return_mean_T": [1000],
        }
        log = read(tmp_path, json.dumps(info, indent=2), sacred.READER, "info.json")
        agent, critic = log.series
        assert (agent.tag, critic.tag) == ("agent_grad_norm", "critic_grad_norm")
        same(agent.step, 1142, 2000, 3000)
        same(agent.grad_norm, 0.5, 0.25, NAN)
        same(agent.loss, -1.0, NAN, -3.0)
        same(critic.loss, 50, 60, 70)
        assert (log.max_norm, log.max_norm_from) == (10.0, "grad_norm_clip in config.json")

    def test_metrics(self, tmp_path: Path) -> None:
        def metric(steps: list[int], values: list[float]) -> dict[str, Any]:
            return {"steps": steps, "values": values, "timestamps": ["2026-01-01T00:00:00"] * len(steps)}

        metrics = {
            "training.grad_norm": metric([0, 5, 10], [1.5, 2.5, 3.5]),
            "training.loss": metric([0, 10], [9.0, 7.0]),
            "validation.loss": metric([0, 5, 10], [1.0, 1.0, 1.0]),
        }
        series = only(read(tmp_path, json.dumps(metrics), sacred.READER, "metrics.json"))
        same(series.step, 0, 5, 10)
        same(series.grad_norm, 1.5, 2.5, 3.5)
        same(series.loss, 9, NAN, 7)

    def test_a_run_as_mongodb_keeps_it(self, tmp_path: Path) -> None:
        run = {"_id": 3, "config": {"lr": 0.1}, "info": {"grad_norm": [1.0, 2.0], "grad_norm_T": [7, 9]}}
        series = only(read(tmp_path, json.dumps(run), sacred.READER))
        same(series.step, 7, 9)
        same(series.grad_norm, 1, 2)

    def test_lists_of_unequal_length(self, tmp_path: Path) -> None:
        info = {"grad_norm": [1.0, 2.0, 3.0], "grad_norm_T": [1, 2]}
        log = read(tmp_path, json.dumps(info), sacred.READER)
        same(only(log).grad_norm, 1, 2)
        assert len(log.notes) == 1


class TestJsonColumns:
    def test_keras_history(self, tmp_path: Path) -> None:
        history = {"loss": [3.0, 2.0], "grad_norm": [1.5, "NaN"], "val_loss": [4.0, 4.0], "learning_rate": [0.1, 0.2]}
        log = read(tmp_path, json.dumps(history), json_columns.READER)
        series = only(log)
        same(series.grad_norm, 1.5, NAN)
        same(series.loss, 3, 2)
        same(series.lr, 0.1, 0.2)
        same(series.step, 0, 1)
        assert log.unit == "epoch"

    def test_own_steps_below_another_key(self, tmp_path: Path) -> None:
        document = {"args": {"seed": 1}, "history": {"step": [2, 4], "grad_norm": [1.0, 2.0], "loss": [5.0, 6.0]}}
        log = read(tmp_path, json.dumps(document), json_columns.READER)
        same(only(log).step, 2, 4)
        same(only(log).loss, 5, 6)
        assert log.unit == "step"

    def test_pandas(self, tmp_path: Path) -> None:
        document = {"step": {"0": 7, "1": 9}, "grad_norm": {"0": 1.25, "1": 2.5}, "note": {"0": "a", "1": "b"}}
        series = only(read(tmp_path, json.dumps(document), json_columns.READER))
        same(series.step, 7, 9)
        same(series.grad_norm, 1.25, 2.5)

    def test_losses_of_another_length(self, tmp_path: Path) -> None:
        document = {"grad_norm": [1.0, 2.0, 3.0], "loss": [1.0]}
        log = read(tmp_path, json.dumps(document), json_columns.READER)
        same(only(log).loss, NAN, NAN, NAN)
        assert len(log.notes) == 1


class TestJsonLines:
    def test_several_norms_and_rows_without(self, tmp_path: Path) -> None:
        text = lines(
            {"step": 0},
            {"step": 0, "fps": 1.0},
            {"step": 5, "actor_loss": 1.0, "actor_grad_norm": 0.5, "value_loss": 2.0, "value_grad_norm": 0.25},
            {"step": 10, "actor_loss": 3.0, "actor_grad_norm": None, "value_loss": 4.0, "value_grad_norm": 0.75},
            {"step": 5, "actor_loss": 5.0, "actor_grad_norm": 1.5, "value_loss": 6.0, "value_grad_norm": 1.25},
        )
        actor, value = read(tmp_path, text, jsonlines.READER).series
        same(actor.step, 5, 5)
        same(actor.grad_norm, 0.5, 1.5)
        same(actor.loss, 1, 5)
        same(value.step, 5, 10, 5)
        same(value.loss, 2, 4, 6)

    def test_wandb_history_and_settings(self, tmp_path: Path) -> None:
        text = lines(
            {"config": {"lr": 9.0, "max_grad_norm": 2.0}},
            {"_step": 0, "_runtime": 1.5, "train": {"loss": 3.0, "grad_norm": 1.0, "lr": 0.5}},
            {"_step": 1, "_runtime": 2.5, "eval": {"loss": 8.0}},
            {"_step": 2, "_runtime": 3.5, "train": {"loss": 2.0, "grad_norm": "Infinity", "lr": 0.25}},
        )
        log = read(tmp_path, text, jsonlines.READER)
        series = only(log)
        assert series.tag == "train/grad_norm"
        same(series.step, 0, 2)
        same(series.grad_norm, 1, INF)
        same(series.loss, 3, 2)
        same(series.lr, 0.5, 0.25)
        assert (log.max_norm, log.max_norm_from) == (2.0, "config/max_grad_norm")

    def test_what_launchers_put_around(self, tmp_path: Path) -> None:
        text = (
            "starting {} with {'seed': 1}\n"
            '2026-01-01 10:00:00,123 [INFO] {job-7} {"step": 1, "loss": 2.0, "grad_norm": nan} (0.3 s)\n'
            '\x1b[32m[rank0]:\x1b[0m {"step": 2, "loss": -inf, "grad_norm": inf}\r\n'
            '0: {"step": 3, "loss": 4.0, "grad_norm": 1.5}\n'
            '{"step": 4, "loss": 5.0, "grad_norm": 2.5, "extra": {"grad_norm": 7.0\n'
            '{"step": 5, "loss": 6.0, "grad_norm": 3.5}{"step": 6, "lo'
        )
        series = only(read(tmp_path, text, jsonlines.READER))
        same(series.step, 1, 2, 3, 5)
        same(series.grad_norm, NAN, INF, 1.5, 3.5)
        same(series.loss, 2, -INF, 4, 6)

    def test_malformed_lines_are_counted(self, tmp_path: Path) -> None:
        good = lines(*({"step": s, "grad_norm": 1.0} for s in range(20)))
        assert read(tmp_path, good + '{"step": 20, "grad', jsonlines.READER).notes == ()
        log = read(tmp_path, good + '{"step": 20, "grad\n' * 5, jsonlines.READER)
        assert len(only(log)) == 20
        assert len(log.notes) == 1
        assert "5 of 25 lines" in log.notes[0]

    def test_one_value_a_row(self, tmp_path: Path) -> None:
        text = lines(
            {"tag": "train/grad_norm", "step": 3, "value": 1.5},
            {"tag": "train/loss", "step": 3, "value": 2.5},
            {"tag": "train/grad_norm", "step": 4, "value": 3.5},
        )
        series = only(read(tmp_path, text, jsonlines.READER))
        same(series.step, 3, 4)
        same(series.loss, 2.5, NAN)

    @pytest.mark.parametrize("indent", [None, 2])
    @pytest.mark.parametrize("below", [False, True])
    def test_a_document_that_lists_rows(self, indent: int | None, below: bool, tmp_path: Path) -> None:
        rows = [{"step": s, "loss": s / 2, "grad_norm": s / 4} for s in (1, 2, 3)]
        document = {"args": {"lr": 1.0}, "metrics": rows} if below else rows
        series = only(read(tmp_path, json.dumps(document, indent=indent), jsonlines.READER))
        same(series.step, 1, 2, 3)
        same(series.grad_norm, 0.25, 0.5, 0.75)
        same(series.loss, 0.5, 1, 1.5)

    def test_ms_swift(self, tmp_path: Path) -> None:
        text = lines({"loss": 1.0, "grad_norm": 2.0, "learning_rate": 0.1, "global_step/max_steps": "12/500"})
        same(only(read(tmp_path, text, jsonlines.READER)).step, 12)

    def test_rows_without_norms_are_json_lines(self, tmp_path: Path) -> None:
        assert read(tmp_path, lines({"step": 1, "loss": 2.0}), jsonlines.READER).series == ()
