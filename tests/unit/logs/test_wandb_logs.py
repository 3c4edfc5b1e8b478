"""W&B offline runs: one that wandb itself writes, and others whose messages are wandb's and whose frame is made here."""

from __future__ import annotations

import math
import os
import random
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from wandb_files import BLOCK, config, framed, history, messages

from clipcal.errors import InputError
from clipcal.logs.log import Log
from clipcal.logs.readers.wandb_run import READER
from clipcal.logs.source import Source

SCRIPT = """
import math
import wandb

run = wandb.init(project="p", mode="offline", config={"train": {"max_grad_norm": 0.7}, "lr": 0.1})
for i in range(40):
    norm = math.nan if i == 3 else math.inf if i == 4 else 1 + i / 7
    run.log({"train/grad_norm": norm, "train/loss": 2 - i / 100, "lr": 1e-3, "critic": {"first": {"grad_norm": i}}}, step=10 * i)
run.finish()
"""


@pytest.fixture(scope="module")
def offline(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The file of a run that wandb wrote in a process of its own, without network and account."""
    pytest.importorskip("wandb")
    folder = tmp_path_factory.mktemp("wandb")
    ours = {
        name: str(folder / name.lower()) for name in ("WANDB_DATA_DIR", "WANDB_CACHE_DIR", "WANDB_CONFIG_DIR", "HOME")
    }
    kept = {name: value for name, value in os.environ.items() if not name.startswith("WANDB")}
    env = kept | ours | {"WANDB_SILENT": "true", "WANDB_CONSOLE": "off", "WANDB_DISABLE_GIT": "true"}
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT], cwd=folder, env=env, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    (path,) = folder.glob("wandb/offline-run-*/run-*.wandb")
    return path


def read(path: Path) -> Log:
    source = Source(path)
    assert READER.recognises(source)
    return READER.read(source)


def test_what_wandb_logged(offline: Path) -> None:
    before = sorted(offline.parents[2].rglob("*"))
    log = read(offline)
    assert log.format == "W&B offline run"
    assert (log.max_norm, log.max_norm_from) == (0.7, "train.max_grad_norm in the run's config")
    assert (log.window, log.after, log.unit, log.notes) == (None, None, "step", ())
    series = {s.tag: s for s in log.series}
    assert set(series) == {"train/grad_norm", "critic.first.grad_norm"}
    norms = [math.nan if i == 3 else math.inf if i == 4 else 1 + i / 7 for i in range(40)]
    np.testing.assert_array_equal(series["train/grad_norm"].grad_norm, norms)
    assert series["train/grad_norm"].step.tolist() == [10 * i for i in range(40)]
    assert series["train/grad_norm"].loss.tolist() == [2 - i / 100 for i in range(40)]
    assert series["train/grad_norm"].lr.tolist() == [1e-3] * 40
    assert series["critic.first.grad_norm"].grad_norm.tolist() == list(range(40))
    assert sorted(offline.parents[2].rglob("*")) == before


def test_a_run_that_is_still_written(offline: Path, tmp_path: Path) -> None:
    data, cut = offline.read_bytes(), tmp_path / "run-1.wandb"
    last = 40
    for end in range(len(data), 7, -137):
        cut.write_bytes(data[:end])
        log = read(cut)
        found = next((len(s) for s in log.series if s.tag == "train/grad_norm"), 0)
        assert found <= last
        assert log.notes == ()
        last = found
    assert last == 0


@pytest.mark.parametrize("size", [10, BLOCK - 14, BLOCK - 8, BLOCK, 3 * BLOCK])
def test_records_over_several_blocks(tmp_path: Path, size: int) -> None:
    path = tmp_path / "run-1.wandb"
    path.write_bytes(framed(history(i, grad_norm=i / 3, note="x" * (size + i)) for i in range(20)))
    (series,) = read(path).series
    assert series.grad_norm.tolist() == [i / 3 for i in range(20)]
    assert series.step.tolist() == list(range(20))


def test_damage_costs_what_is_left_of_the_block(tmp_path: Path) -> None:
    path = tmp_path / "run-1.wandb"
    data = bytearray(framed(history(i, grad_norm=i) for i in range(4000)))
    assert len(data) > 4 * BLOCK
    data[BLOCK + 1000] ^= 1
    path.write_bytes(data)
    log = read(path)
    steps = log.series[0].step
    assert log.notes == ("The file of the run is damaged in places, and rows are missing there.",)
    (gap,) = np.flatnonzero(np.diff(steps) != 1)
    assert steps[-1] == 3999
    assert 0.9 * BLOCK < (steps[gap + 1] - steps[gap]) * len(data) / 4000 < BLOCK


def padding(size: int) -> bytes:
    """A message of so many bytes that says nothing."""
    record = messages().Record()
    while record.ByteSize() < size:
        record.uuid += "x" * max(size - record.ByteSize() - 5, 1)
    assert record.ByteSize() == size
    return bytes(record.SerializeToString())


@pytest.mark.parametrize("damaged", [0, 1, None])
def test_a_record_with_a_damaged_piece_is_dropped_whole(tmp_path: Path, damaged: int | None) -> None:
    """Its last piece would be a record for itself."""
    last = history(1, grad_norm=5.0).SerializeToString()
    data = bytearray(framed([padding(BLOCK - 14) + padding(BLOCK - 7) + last, history(2, grad_norm=6.0)]))
    if damaged is not None:
        data[damaged * BLOCK + 5000] ^= 1
    path = tmp_path / "run-1.wandb"
    path.write_bytes(data)
    log = read(path)
    assert log.series[0].step.tolist() == ([2] if damaged is not None else [1, 2])
    assert len(log.notes) == (damaged is not None)


def test_random_bytes_behind_the_header(tmp_path: Path) -> None:
    pytest.importorskip("wandb")
    draw, path = random.Random(0), tmp_path / "run-1.wandb"
    for _ in range(20):
        path.write_bytes(b":W&B\xe1\xbe\x00" + draw.randbytes(70_000))
        assert read(path).series == ()
    path.write_bytes(draw.randbytes(70_000))
    assert not READER.recognises(Source(path))


def test_every_way_to_write_a_value(tmp_path: Path) -> None:
    record = messages().Record()
    add = record.history.item.add
    add(key="grad_norm", value_json="1.5")
    add(key="train", value_json='{"loss": 2.5, "deep": {"lr": 0.1}}')
    add(key="hist_grad_norm", value_json='{"_type": "histogram", "grad_norm": 7}')
    add(key="a_grad_norm", value_json="{" * 100_000)
    add(key="b_grad_norm", value_json='"NaN"')
    add(key="_step", value_json="3")
    if "value" in record.history.item[0].DESCRIPTOR.oneofs_by_name:  # wandb 0.31 and newer
        add(nested_key=["c", "grad_norm"], number=2.5)
        add(nested_key=["d_grad_norm"], integer=4)
        add(nested_key=["e_grad_norm"], json="8")
        add(nested_key=["f_grad_norm"], boolean=True)
    path = tmp_path / "run-1.wandb"
    path.write_bytes(framed([record]))
    series = {s.tag: s for s in read(path).series}
    typed = {"c.grad_norm": 2.5, "d_grad_norm": 4.0, "e_grad_norm": 8.0} if len(record.history.item) > 6 else {}
    found = {tag: s.grad_norm.tolist() for tag, s in series.items() if tag != "b_grad_norm"}
    assert found == {"grad_norm": [1.5]} | {tag: [value] for tag, value in typed.items()}
    assert np.isnan(series["b_grad_norm"].grad_norm).all()
    assert (series["grad_norm"].step[0], series["grad_norm"].loss[0], series["grad_norm"].lr[0]) == (3.0, 2.5, 0.1)


@pytest.mark.parametrize(
    ("settings", "threshold", "window"),
    [
        ({"max_grad_norm": 1.0, "logging_steps": 10, "weight_decay": 0.1}, 1.0, "last"),
        ({"max_grad_norm": 0}, math.inf, None),
        ({"gradient_clip_val": 0.5, "gradient_clip_algorithm": "norm"}, 0.5, None),
        ({"gradient_clip_val": 0.5, "gradient_clip_algorithm": "value"}, None, None),
        ({"optim": {"clip_grad": "5.0"}}, 5.0, None),
        ({"max_grad_norm": 1.0, "clip_grad": 5.0}, None, None),
        ({"max_grad_norm": None, "clip_grad": 5.0}, 5.0, None),
        ({"_wandb": {"max_grad_norm": 2.0}}, None, None),
    ],
)
def test_threshold_in_the_config(tmp_path: Path, settings: dict[str, Any], threshold: float, window: str) -> None:
    path = tmp_path / "run-1.wandb"
    path.write_bytes(framed([config(**settings), history(0, grad_norm=1.0)]))
    log = read(path)
    assert (log.max_norm, log.window, log.after) == (threshold, window, False if window else None)


def test_lightnings_means_over_epochs(tmp_path: Path) -> None:
    """They are left out where the values of steps stand beside them, which come later here; not where they stand alone."""
    first = {"trainer/global_step": 1, "grad_norm_epoch": 9.0, "train_loss_epoch": 9.0, "val_loss": 9.0}
    steps = [
        {"trainer/global_step": i, "grad_norm_step": i / 2, "train_loss_step": i / 4, "kl_loss": 1.0} for i in (2, 3)
    ]
    path = tmp_path / "run-1.wandb"
    path.write_bytes(framed(history(i, **row) for i, row in enumerate([first, *steps])))
    log = read(path)
    (series,) = log.series
    assert (series.tag, series.step.tolist(), series.grad_norm.tolist()) == ("grad_norm_step", [2, 3], [1.0, 1.5])
    assert log.window is None
    path.write_bytes(framed([history(0, **first)]))
    log = read(path)
    assert (log.series[0].tag, log.series[0].step.tolist(), log.series[0].loss.tolist()) == (
        "grad_norm_epoch",
        [1],
        [9],
    )
    assert log.window == "mean"
    path.write_bytes(framed([history(0, **{"grad_2.0_norm_total": 1.0})]))
    assert (read(path).window, read(path).after) == ("last", False)


def test_values_of_a_newer_wandb_are_told_of(tmp_path: Path) -> None:
    record = messages().Record.FromString(history(0, loss=1).SerializeToString())
    del record.history.item[:]
    record.history.item.add(nested_key=["grad_norm"])  # what is left of a value in a field that is not known
    path = tmp_path / "run-1.wandb"
    path.write_bytes(framed([record]))
    log = read(path)
    assert log.series == ()
    assert log.notes == ("A newer wandb than the one installed wrote the run, and values are missing: update wandb.",)


def test_without_wandb_the_line_to_type(offline: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "wandb.proto.wandb_internal_pb2", None)
    with pytest.raises(InputError) as told:
        read(offline)
    assert str(told.value).splitlines()[-1] == "pip install 'clipcal[wandb]'"
