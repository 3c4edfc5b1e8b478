"""Tables: CSV and its relatives, the exports of W&B and TensorBoard, Lightning's metrics.csv, Parquet."""

from __future__ import annotations

import json
import math
import sys
from pathlib import Path

import numpy as np
import pytest

from clipcal.errors import InputError
from clipcal.logs.log import Floats, Log, Reader, Series
from clipcal.logs.readers import delimited, lightning, parquet, tensorboard_json
from clipcal.logs.reading import read_log
from clipcal.logs.source import Source

NAN, INF = math.nan, math.inf


def read(folder: Path, text: str, reader: Reader = delimited.READER, name: str = "log.csv") -> Log:
    path = folder / name
    path.write_bytes(text.encode())
    source = Source(path)
    assert reader.recognises(source)
    return reader.read(source)


def recognised(folder: Path, text: str, reader: Reader = delimited.READER) -> bool:
    path = folder / "log"
    path.write_text(text)
    return reader.recognises(Source(path))


def only(log: Log) -> Series:
    assert len(log.series) == 1, [s.tag for s in log.series]
    return log.series[0]


def same(found: Floats, *wanted: float) -> None:
    assert list(found) == pytest.approx(list(wanted), nan_ok=True)


PLAIN = [
    ["step", "loss", "grad_norm", "lr"],
    ["1", "2.5", "0.5", "1e-3"],
    ["2", "nan", "inf", "2e-3"],
    ["3", "", "4", ""],
]


class TestDelimited:
    @pytest.mark.parametrize("end", ["\n", "\r\n"])
    @pytest.mark.parametrize("start", ["", "\ufeff", "# ", "# made by train.py\n", "sep=,\n"])
    @pytest.mark.parametrize("delimiter", [",", "\t", ";"])
    def test_delimiters_and_ends(self, delimiter: str, start: str, end: str, tmp_path: Path) -> None:
        text = start + "".join(delimiter.join(row) + end for row in PLAIN)
        series = only(read(tmp_path, text))
        same(series.step, 1, 2, 3)
        same(series.grad_norm, 0.5, INF, 4)
        same(series.loss, 2.5, NAN, NAN)
        same(series.lr, 1e-3, 2e-3, NAN)

    def test_aligned_by_blanks(self, tmp_path: Path) -> None:
        text = "# step   loss  grad_norm\n   1   2.50  0.125\n   2    nan  1e+01\n"
        series = only(read(tmp_path, text))
        same(series.step, 1, 2)
        same(series.grad_norm, 0.125, 10)

    def test_one_column(self, tmp_path: Path) -> None:
        same(only(read(tmp_path, "grad_norm\n1.5\n2.5\n")).grad_norm, 1.5, 2.5)

    def test_decimal_commas(self, tmp_path: Path) -> None:
        series = only(read(tmp_path, "step;loss;grad_norm\n1;2,5;0,125\n2;3;1.234,5\n"))
        same(series.grad_norm, 0.125, 1234.5)
        same(series.loss, 2.5, 3)

    def test_quotes(self, tmp_path: Path) -> None:
        text = '"step","note, of a kind","grad_norm"\n"1","a ""b"", c","1,234.5"\n2,"two\nlines",3.5\n3,"open,4.5\n4,x,5.5\n'
        same(only(read(tmp_path, text)).grad_norm[:2], 1234.5, 3.5)

    def test_appended_runs_and_a_cut_row(self, tmp_path: Path) -> None:
        series = only(read(tmp_path, "step,grad_norm,loss\n1,1.0,9\n2,2.0,8\nstep,grad_norm,loss\n1,3.0,7\n2,4.0"))
        same(series.step, 1, 2, 1)
        same(series.grad_norm, 1, 2, 3)
        assert series.starts == (2,)

    def test_epochs_number_the_rows_where_nothing_else_does(self, tmp_path: Path) -> None:
        log = read(tmp_path, "epoch,grad_norm\n0,1.0\n1,2.0\n2,3.0\n")
        same(only(log).step, 0, 1, 2)
        assert log.unit == "epoch"
        log = read(tmp_path, "epoch,grad_norm\n0,1.0\n0,2.0\n1,3.0\n")
        same(only(log).step, NAN, NAN, NAN)
        assert log.unit == "step"

    def test_one_value_a_row(self, tmp_path: Path) -> None:
        text = "run_id,key,value,step\na,grad_norm,1.5,1\na,loss,2.5,1\na,grad_norm,3.5,2\nb,grad_norm,4.5,1\nb,loss,5.5,1\n"
        series = only(read(tmp_path, text))
        same(series.step, 1, 2, 1)
        same(series.grad_norm, 1.5, 3.5, 4.5)
        same(series.loss, 2.5, NAN, 5.5)
        assert series.starts == (2,)

    def test_table_without_norms(self, tmp_path: Path) -> None:
        assert read(tmp_path, "step,loss\n1,2\n").series == ()

    @pytest.mark.parametrize(
        "text",
        [
            "loss, grad_norm and lr are logged\nstep 3, done, at 12\n",
            "step loss norm\nwere not what he wanted to read\n",
            "1,2,3\n4,5,6\n",
            '{"step": 1, "grad_norm": 2.0}\n{"step": 2, "grad_norm": 2.0}\n',
            "step: 1, loss: 2.0, grad_norm: 3.0\nstep: 2, loss: 2.0, grad_norm: 3.0\n",
        ],
    )
    def test_what_is_no_table(self, text: str, tmp_path: Path) -> None:
        assert not recognised(tmp_path, text)


class TestWandb:
    def test_runs_side_by_side(self, tmp_path: Path) -> None:
        metric = "train/grad_norm"
        header: list[object] = ["Step"]
        for run in ("eval-1 - lora", "weight-decay", "weight-decay"):
            header += [f"{run} - {metric}", f"{run} - {metric}__MIN", f"{run} - {metric}__MAX"]
        rows: list[list[object]] = [
            [0, 1.5, 1.0, 2.0, "", "", "", 9.5, 9.0, 10.0],
            [5, "", "", "", 4.5, 4.0, 5.0, 8.5, 8.0, 9.0],
            [10, "NaN", "", "", 3.5, 3.0, 4.0, "Infinity", "", ""],
        ]
        text = "".join(",".join(f'"{cell}"' for cell in row) + "\n" for row in (header, *rows))
        log = read(tmp_path, text)
        assert [s.tag for s in log.series] == [
            f"eval-1 - lora - {metric}",
            f"weight-decay - {metric}",
            f"weight-decay (2) - {metric}",
        ]
        first, second, third = log.series
        same(first.step, 0, 10)
        same(first.grad_norm, 1.5, NAN)
        same(second.step, 5, 10)
        same(second.grad_norm, 4.5, 3.5)
        same(third.grad_norm, 9.5, 8.5, INF)

    def test_one_run_with_its_loss(self, tmp_path: Path) -> None:
        text = (
            '"train/global_step","r - train/grad_norm","r - train/grad_norm__MIN","r - train/grad_norm__MAX",'
            '"r - train/loss","r - train/loss__MIN","r - train/loss__MAX"\n"1","2","2","2","3","3","3"\n'
        )
        series = only(read(tmp_path, text))
        assert series.tag == "train/grad_norm"
        same(series.step, 1)
        same(series.loss, 3)


class TestTensorBoardExports:
    @staticmethod
    def points(n: int, *, uneven: bool) -> list[tuple[float, int, float]]:
        steps = np.cumsum(np.random.default_rng(0).integers(1, 5, n) if uneven else np.full(n, 50))
        return [(1.7e9 + s, int(s), s / 8) for s in steps]

    @pytest.mark.parametrize(
        ("n", "uneven", "window"),
        [(1000, True, "sample"), (1000, False, None), (90, True, "sample"), (90, False, None)],
    )
    def test_csv_and_json_alike(self, n: int, uneven: bool, window: str | None, tmp_path: Path) -> None:
        points = self.points(n, uneven=uneven)
        table = "Wall time,Step,Value\n" + "".join(f"{w},{s},{v}\n" for w, s, v in points)
        document = json.dumps(points)
        for log in (
            read(tmp_path, table, name="run-train-tag-actor_grad_norm.csv"),
            read(tmp_path, document, tensorboard_json.READER, "run-train-tag-actor_grad_norm.json"),
        ):
            series = only(log)
            assert series.tag == "actor_grad_norm"
            same(series.step, *(s for _, s, _ in points))
            same(series.grad_norm, *(v for _, _, v in points))
            assert (log.window, log.after) == (window, None)

    def test_spelled_out_numbers(self, tmp_path: Path) -> None:
        series = only(read(tmp_path, '[[1.0, 1, "NaN"], [2.0, 2, "Infinity"], [3.0, 3, 1.5]]', tensorboard_json.READER))
        same(series.grad_norm, NAN, INF, 1.5)

    def test_a_name_that_says_after_clipping(self, tmp_path: Path) -> None:
        assert read(tmp_path, "Wall time,Step,Value\n1.0,1,3.0\n", name="grad_norm_clipped.csv").after is True

    def test_any_name_is_taken_but_that_of_a_loss(self, tmp_path: Path) -> None:
        text = "Wall time,Step,Value\n1.0,1,3.0\n"
        assert only(read(tmp_path, text, name="export.csv")).tag == "export"
        with pytest.raises(InputError, match=r"train_loss.*no gradient norm"):
            read(tmp_path, text, name="run-1-tag-train_loss.csv")

    def test_lists_that_are_no_export(self, tmp_path: Path) -> None:
        for text in ("[[1, 2], [3, 4]]", '[{"step": 1}]', "[]", "[[1, 2, 3], [4", '[["a", "b", "c"]]'):
            assert not recognised(tmp_path, text, tensorboard_json.READER), text


class TestLightning:
    def test_norm_and_loss_in_rows_of_their_own(self, tmp_path: Path) -> None:
        (tmp_path / "hparams.yaml").write_text(
            "betas: !!python/tuple\n- 0.9\n- 0.999\noptimizer: !!python/name:torch.optim.Adam ''\ngradient_clip_val: 0.5\n"
        )
        text = (
            "epoch,grad_norm,lr-AdamW/pg1,lr-AdamW/pg2,step,train_loss_epoch,train_loss_step,val_loss\n"
            ",,0.001,0.002,49,,,\n0,,,,49,,2.5,\n0,1.25,,,49,,,\n0,,,,99,7.0,,3.0\n"
            ",,0.003,0.004,99,,,\n0,,,,99,,nan,\n0,inf,,,99,,,\n"
        )
        log = read(tmp_path, text, lightning.READER, "metrics.csv")
        series = only(log)
        same(series.step, 49, 99)
        same(series.grad_norm, 1.25, INF)
        same(series.loss, 2.5, NAN)
        same(series.lr, 0.001, 0.003)
        assert (log.window, log.after) == ("last", None)
        assert (log.max_norm, log.max_norm_from) == (0.5, "gradient_clip_val in hparams.yaml")

    @pytest.mark.parametrize("name", ["grad_2.0_norm_total", "grad_2_norm_total", "grad_2.0_norm_total_step"])
    def test_its_own_names_are_of_before_clipping(self, name: str, tmp_path: Path) -> None:
        log = read(tmp_path, f"epoch,step,{name},grad_2.0_norm/net.weight\n0,1,2.5,2.25\n", lightning.READER)
        assert only(log).tag == name
        assert log.after is False

    def test_means_of_epochs_alone(self, tmp_path: Path) -> None:
        text = "epoch,grad_norm_epoch,step,val_loss\n0,1.5,99,\n0,,99,2.0\n1,2.5,199,\n"
        log = read(tmp_path, text, lightning.READER)
        same(only(log).step, 99, 199)
        assert log.window == "mean"

    @pytest.mark.parametrize(
        ("config", "wanted"),
        [
            ("trainer:\n  gradient_clip_val: null\n  gradient_clip_algorithm: null\n", INF),
            ("trainer:\n  gradient_clip_val: 2\n  gradient_clip_algorithm: norm\n", 2.0),
            ("trainer:\n  gradient_clip_val: 2\n  gradient_clip_algorithm: value\n", None),
        ],
    )
    def test_command_line_config(self, config: str, wanted: float | None, tmp_path: Path) -> None:
        (tmp_path / "config.yaml").write_text(config)
        assert read(tmp_path, "epoch,grad_norm,step\n0,1.5,9\n", lightning.READER).max_norm == wanted

    def test_other_tables_are_not_its(self, tmp_path: Path) -> None:
        assert not recognised(tmp_path, "step,epoch,loss,grad_norm\n1,0,2.0,3.0\n", lightning.READER)
        assert not recognised(tmp_path, "grad_norm,step\n3.0,1\n", lightning.READER)


class TestParquet:
    def test_numeric_columns_nulls_and_structs(self, tmp_path: Path) -> None:
        arrow = pytest.importorskip("pyarrow")
        n = 40_000  # more than a batch
        norms = [None if i % 3 else i / 8 for i in range(n)]
        norms[3] = NAN
        table = arrow.table(
            {
                "_step": arrow.array(range(n), arrow.int64()),
                "train": arrow.array([{"loss": i / 2, "grad_norm": v} for i, v in enumerate(norms)]),
                "text_grad_norm": arrow.array(["1.0"] * n),
                "grad_norms": arrow.array([[1.0]] * n),
                "lr": arrow.array([0.5] * n, arrow.float32()),
            }
        )
        pytest.importorskip("pyarrow.parquet").write_table(table, tmp_path / "history.parquet")
        source = Source(tmp_path / "history.parquet")
        assert parquet.READER.recognises(source)
        series = only(parquet.READER.read(source))
        assert series.tag == "train.grad_norm"
        at = np.arange(0, n, 3)
        np.testing.assert_array_equal(series.step, at)
        np.testing.assert_array_equal(series.grad_norm, np.where(at == 3, NAN, at / 8))
        np.testing.assert_array_equal(series.loss, at / 2)
        np.testing.assert_array_equal(series.lr, np.full(len(at), 0.5))

    def test_cut_off(self, tmp_path: Path) -> None:
        pytest.importorskip("pyarrow")
        (tmp_path / "x.parquet").write_bytes(b"PAR1" + bytes(100))
        with pytest.raises(InputError, match=r"x\.parquet: is a Parquet file that cannot be read"):
            parquet.READER.read(Source(tmp_path / "x.parquet"))

    def test_without_pyarrow(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setitem(sys.modules, "pyarrow", None)
        (tmp_path / "x.parquet").write_bytes(b"PAR1" + bytes(100))
        with pytest.raises(InputError, match=r"pip install 'clipcal\[parquet\]'$"):
            parquet.READER.read(Source(tmp_path / "x.parquet"))


class TestValuesThatAreNoNumbers:
    """A row whose norm is no number is left out, and said."""

    def test_they_are_counted_and_the_first_is_shown(self, tmp_path: Path) -> None:
        text = "step,loss,grad_norm\n0,1.0,1.5\n\n1,1.0,oops\n2,1.0,1.2.3\n3,1,2.5\n"
        log = read(tmp_path, text)
        np.testing.assert_array_equal(only(log).grad_norm, [1.5, 2.5])
        assert log.says == ("2 rows were left out: the norm is no number; the first is 'oops', in line 4 (grad_norm).",)

    def test_empty_cells_are_rows_of_something_else(self, tmp_path: Path) -> None:
        log = read(tmp_path, "step,loss,grad_norm\n0,1.0,1.5\n1,1.0,\n2,1.0,n/a\n3,1,NaN\n4,1,-\n5,1,None\n")
        np.testing.assert_array_equal(only(log).grad_norm, [1.5, NAN])
        assert log.notes == ()

    def test_a_loss_that_is_no_number_is_not_spoken_of(self, tmp_path: Path) -> None:
        assert read(tmp_path, "step,loss,grad_norm\n0,oops,1.5\n1,1.0,2\n").notes == ()

    def test_in_lightnings_metrics_and_in_long_tables(self, tmp_path: Path) -> None:
        metrics = "epoch,grad_2.0_norm_total,step,train_loss\n0,1.5,0,1\n0,#DIV/0!,1,1\n,,1,1\n"
        (note,) = read(tmp_path, metrics, lightning.READER).says
        assert note.startswith(
            "1 row was left out: the norm is no number; it is '#DIV/0!', in line 3 (grad_2.0_norm_total"
        )
        long = "step,tag,value\n0,grad_norm,1.5\n0,loss,x\n1,grad_norm,x\n2,grad_norm,2\n"
        (note,) = read(tmp_path, long).says
        assert note.endswith("it is 'x', in line 4 (grad_norm).")

    def test_the_runs_of_a_wandb_export(self, tmp_path: Path) -> None:
        header = '"Step","a - grad_norm","a - grad_norm__MIN","b - grad_norm","b - grad_norm__MIN"\n'
        log = read(tmp_path, header + '0,1.5,1,2,1\n1,"?",1,2,1\n2,1.5,1,2,1\n')
        (note,) = log.says
        assert "'?', in line 3" in note

    def test_a_column_without_any_number(self, tmp_path: Path) -> None:
        path = tmp_path / "log.csv"
        path.write_text("step,loss,grad_norm\n0,1.0,oops\n1,1.0,oops\n")
        with pytest.raises(InputError, match=r"holds no gradient norm.*2 rows were left out.*'oops', in line 2"):
            read_log(path)

    def test_a_long_value_is_shown_in_part(self, tmp_path: Path) -> None:
        log = read(tmp_path, f"step,grad_norm\n0,1\n1,{500 * 'x'}\n")
        assert len(log.says[0]) < 200

    def test_lines_of_json_have_them_too(self, tmp_path: Path) -> None:
        path = tmp_path / "log.jsonl"
        path.write_text(
            '{"step": 0, "grad_norm": 1.5}\n{"step": 1, "grad_norm": "oops"}\n{"step": 2, "grad_norm": null}\n'
        )
        log = read_log(path)
        np.testing.assert_array_equal(only(log).grad_norm, [1.5])
        assert log.says == (
            "1 row was left out: the norm is no number; it is 'oops' (grad_norm).",
            "1 row was left out: there is no number (null) for grad_norm: what was not finite may be lost.",
        )
