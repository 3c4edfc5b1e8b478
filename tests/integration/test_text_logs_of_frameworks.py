"""Text that frameworks themselves print, read back: MMEngine's log against its own JSON, Stable-Baselines3's table."""

from __future__ import annotations

import importlib.util
import json
import subprocess
from pathlib import Path

import numpy as np
import pytest
from nursery import PYTHON

from clipcal.logs.readers import keyed
from clipcal.logs.source import Source

MMENGINE = """
import torch
from mmengine.model import BaseModel
from mmengine.runner import Runner

torch.set_num_threads(1)

class Line(BaseModel):
    def __init__(self):
        super().__init__()
        self.line = torch.nn.Linear(4, 1)

    def forward(self, x, mode="loss"):
        return {"loss": ((self.line(x) - x.sum(1, keepdim=True)) ** 2).mean()}

data = torch.randn(40, 4, generator=torch.Generator().manual_seed(0))
Runner(
    model=Line(),
    work_dir="work",
    train_dataloader=dict(
        dataset=[dict(x=row) for row in data], batch_size=4, sampler=dict(type="DefaultSampler", shuffle=True),
        collate_fn=dict(type="default_collate"),
    ),
    train_cfg=dict(by_epoch=True, max_epochs=3),
    optim_wrapper=dict(optimizer=dict(type="SGD", lr=0.05), clip_grad=dict(max_norm=0.5)),
    default_hooks=dict(logger=dict(type="LoggerHook", interval=2), checkpoint=None),
).train()
"""

STABLE_BASELINES3 = """
from stable_baselines3.common.logger import HumanOutputFormat

table = HumanOutputFormat("table.txt")
for i in range(1, 6):
    row = {"time/iterations": i, "time/total_timesteps": i * 2048, "train/grad_norm": i / 4, "train/loss": 8 / i}
    table.write(row, dict.fromkeys(row, ()), step=i)
"""


def run(script: str, folder: Path) -> None:
    done = subprocess.run([str(PYTHON), "-c", script], cwd=folder, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr


def test_mmengine_prints_what_it_writes_as_json(tmp_path: Path) -> None:
    if importlib.util.find_spec("mmengine") is None:
        pytest.skip("needs mmengine")
    run(MMENGINE, tmp_path)
    (text,) = tmp_path.glob("work/*/*.log")
    (rows,) = tmp_path.glob("work/*/vis_data/scalars.json")
    expected = [json.loads(line) for line in rows.read_text().splitlines()]
    source = Source(text)
    assert keyed.READER.recognises(source)
    log = keyed.READER.read(source)
    (series,) = log.series
    assert len(series) == len(expected) == 15
    np.testing.assert_array_equal(series.step, [row["step"] for row in expected])
    np.testing.assert_allclose(series.grad_norm, [row["grad_norm"] for row in expected], atol=6e-5)
    np.testing.assert_allclose(series.loss, [row["loss"] for row in expected], atol=6e-5)
    np.testing.assert_allclose(series.lr, [row["lr"] for row in expected], rtol=1e-4)
    assert log.window == "mean"


def test_stable_baselines3_prints_a_table(tmp_path: Path) -> None:
    if importlib.util.find_spec("stable_baselines3") is None:
        pytest.skip("needs stable-baselines3")
    run(STABLE_BASELINES3, tmp_path)
    source = Source(tmp_path / "table.txt")
    assert keyed.READER.recognises(source)
    (series,) = keyed.READER.read(source).series
    np.testing.assert_array_equal(series.step, [1, 2, 3, 4, 5])
    np.testing.assert_allclose(series.grad_norm, np.arange(1, 6) / 4)
    np.testing.assert_allclose(series.loss, 8 / np.arange(1, 6), rtol=5e-3)  # three digits are printed
