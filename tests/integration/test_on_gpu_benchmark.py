"""The benchmark for a GPU, on a tiny model on the CPU: its arms do the same work, and take turns of the same length."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from benchmarks import on_gpu
from benchmarks.workloads import GPT

SIZE = replace(on_gpu.SIZES["cpu"], block=3, warm_up=1)


def test_the_arms_do_the_same_work(capsys: pytest.CaptureFixture[str]) -> None:
    results = on_gpu.measure_time(SIZE, torch.device("cpu"), 2)
    assert results["losses_equal"]
    assert set(results["arms"]) == set(results["waits"]) == {"bare", "bare, again", "recorded", "item"}
    assert results["arms"]["bare"]["paired_ratio"] == 1.0
    assert all(arm["median_ms"] > 0 for arm in results["arms"].values())
    on_gpu.print_results(results | {"memory": {"peaks": {"bare": 2**20, "recorded": 2**20}, "ratio": 1.0}})
    assert "clipcal" in capsys.readouterr().out


def test_the_model_that_is_measured_has_100_million_parameters() -> None:
    with torch.device("meta"):
        model = GPT(**on_gpu.SIZES["cuda"].model)
    assert sum(p.numel() for p in model.parameters()) == pytest.approx(100e6, rel=0.01)


@pytest.mark.skipif(torch.cuda.is_available(), reason="for a machine without CUDA")
def test_without_a_gpu_it_says_so(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr("sys.argv", ["on_gpu"])
    with pytest.raises(SystemExit) as ended:
        on_gpu.main()
    assert ended.value.code == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.count(".") == 1
    assert "no GPU" in captured.err
