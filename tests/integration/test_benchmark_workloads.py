"""The workloads of the benchmarks, as the specs that `clipcal profile` trains them from."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from benchmarks.workloads import WORKLOADS
from clipcal.sources.spec import load_spec
from clipcal.training.building import build


@pytest.mark.parametrize("name", WORKLOADS)
def test_the_spec_of_a_workload_is_the_workload(tmp_path: Path, name: str) -> None:
    path = tmp_path / "spec.yaml"
    path.write_text(WORKLOADS[name].spec(name, 3))
    parts = build(load_spec(path), seed=0, device=torch.device("cpu"))
    assert type(parts.model) is WORKLOADS[name].model
    inputs, target = next(iter(parts.data()))
    assert parts.batch_loss(parts.model, (inputs, target)).isfinite()
