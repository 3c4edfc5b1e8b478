"""Trackers that write a file for each metric. The layouts are those of the versions named beside them; the values are random."""

from __future__ import annotations

import json
import math
import zipfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import tracker_files

from clipcal.errors import InputError
from clipcal.logs.log import Series
from clipcal.logs.picking import pick
from clipcal.logs.reading import read_log

RNG = np.random.default_rng(5)
STEPS = np.arange(300)
NORMS = np.exp(RNG.normal(math.log(0.8), 0.2, 300))
NORMS[[40, 90, 133, 171, 222, 280]] = 25.0
NORMS[205] = math.nan
LOSSES = np.linspace(3, 2, 300)
METRICS: dict[str, Sequence[float]] = {
    "train/loss": LOSSES.tolist(),
    "train/grad_norm": NORMS.tolist(),
    "train/lr": [1e-3] * 300,
}


def right(path: Path) -> Series:
    """Read, and compared with what was written."""
    log = read_log(path)
    picked = pick(log, str(path))
    (series,) = log.series
    np.testing.assert_allclose(series.grad_norm, NORMS, rtol=1e-6)
    np.testing.assert_array_equal(series.step, STEPS)
    np.testing.assert_allclose(series.loss, LOSSES, rtol=1e-6)
    np.testing.assert_allclose(series.lr, 1e-3, rtol=1e-6)
    assert picked.single_steps
    return series


def mlflow(root: Path, name: str = "a1b2c3") -> Path:
    """MLflow 3.17.2, file store; made by hand after its layout."""
    run = root / "mlruns" / "0" / name
    for metric, values in METRICS.items():
        path = run / "metrics" / metric
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("".join(f"{1700000000000 + i} {v} {i}\n" for i, v in enumerate(values)))
    (run / "params").mkdir()
    (run / "params" / "max_grad_norm").write_text("0.9")
    (run / "params" / "lr").write_text("0.001")
    (run / "meta.yaml").write_text(f"run_id: {name}\n")
    (root / "mlruns" / "0" / "meta.yaml").write_text("experiment_id: '0'\n")
    return run


def test_mlflow(tmp_path: Path) -> None:
    run = mlflow(tmp_path)
    for place in (
        tmp_path,
        tmp_path / "mlruns",
        run.parent,
        run,
        run / "metrics",
        run / "metrics" / "train" / "grad_norm",
    ):
        right(place)
        log = read_log(place)
        assert (log.max_norm, log.max_norm_from) == (0.9, "max_grad_norm of the run")
    mlflow(tmp_path, "d4e5f6")
    with pytest.raises(InputError, match=r"2 logs \(MLflow run\)"):
        read_log(tmp_path)
    right(run)


def test_mlflow_without_steps(tmp_path: Path) -> None:
    run = mlflow(tmp_path)
    (run / "metrics" / "train" / "grad_norm").write_text("".join(f"1700 {v} 0\n" for v in NORMS))
    assert np.isnan(read_log(run).series[0].step).all()


def test_dvclive(tmp_path: Path) -> None:
    """DVCLive 3.49.1; made by hand after its layout."""
    metrics = tmp_path / "dvclive" / "plots" / "metrics" / "train"
    metrics.mkdir(parents=True)
    for name, values in METRICS.items():
        short = name.partition("/")[2]
        metrics.joinpath(f"{short}.tsv").write_text(
            f"step\t{short}\n" + "".join(f"{i}\t{v}\n" for i, v in enumerate(values))
        )
    (tmp_path / "dvclive" / "metrics.json").write_text('{"train": {"loss": 2.0, "grad_norm": 0.8}, "step": 299}')
    (tmp_path / "dvclive" / "params.yaml").write_text("max_grad_norm: 1.5\n")
    for place in (tmp_path, tmp_path / "dvclive", metrics, metrics / "grad_norm.tsv"):
        right(place)
    assert read_log(tmp_path).max_norm == 1.5


def test_torchrl(tmp_path: Path) -> None:
    """torchrl 0.14.1, CSVLogger; made by hand after its layout."""
    scalars = tmp_path / "exp" / "scalars"
    scalars.mkdir(parents=True)
    for name, values in METRICS.items():
        short = name.partition("/")[2]
        scalars.joinpath(f"{short}_0.csv").write_text("".join(f"{i},{v}\n" for i, v in enumerate(values)))
    for place in (tmp_path, tmp_path / "exp", scalars, scalars / "grad_norm_0.csv"):
        right(place)


def test_swanlab(tmp_path: Path) -> None:
    """SwanLab 0.10.3, local; made by hand after its layout."""
    run = tmp_path / "swanlog" / "run-20261130_120000-abc"
    for n, values in enumerate(METRICS.values(), start=1):
        (run / "logs" / str(n)).mkdir(parents=True)
        (run / "logs" / str(n) / "1000.log").write_text(
            "".join(json.dumps({"index": i, "data": float(v), "create_time": "x"}) + "\n" for i, v in enumerate(values))
        )
    (run / "run-abc.swanlab").write_bytes(tracker_files.swanlab(dict.fromkeys(METRICS, ())))
    (run / "console").mkdir()
    (run / "console" / "2026-11-30.log").write_text("swanlab: Tracking run\n")
    (run / "files").mkdir()
    (run / "files" / "config.yaml").write_text("max_grad_norm:\n  desc: ''\n  sort: 1\n  value: 0.7\n")
    for place in (tmp_path, run, run / "logs", run / "logs" / "2" / "1000.log"):
        right(place)
    assert read_log(run).max_norm == 0.7


def test_rllib(tmp_path: Path) -> None:
    """Tune's folder of RLlib 2.60; made by hand after its layout."""
    rows = [
        {
            "training_iteration": i + 1,
            "num_env_steps_sampled_lifetime": 4000 * (i + 1),
            "learners": {"default_policy": {"gradients_default_optimizer_global_norm": v, "total_loss": 3.0}},
        }
        for i, v in enumerate(NORMS[:60].tolist())
    ]
    (tmp_path / "result.json").write_text("".join(json.dumps(row) + "\n" for row in rows))
    header = "training_iteration,num_env_steps_sampled_lifetime,learners/default_policy/gradients_default_optimizer_global_norm"
    table = "".join(f"{i + 1},{4000 * (i + 1)},{v}\n" for i, v in enumerate(NORMS[:60].tolist()))
    (tmp_path / "progress.csv").write_text(f"{header}\n{table}")
    (tmp_path / "params.json").write_text('{"grad_clip": 0.5, "grad_clip_by": "global_norm"}')
    told = set()
    for place in (tmp_path, tmp_path / "result.json", tmp_path / "progress.csv"):
        log = read_log(place)
        picked = pick(log, "log")
        np.testing.assert_allclose(picked.grad_norm, NORMS[:60])
        assert not picked.single_steps
        told.add(picked.caveats)
        assert log.max_norm == 0.5
    (caveats,) = told
    assert "last minibatch" in caveats[0]
    assert "clipped at 0.5 (grad_clip in params.json)" in caveats[1]


def test_a_file_without_norms_hides_none_beside_it(tmp_path: Path) -> None:
    (tmp_path / "metrics.csv").write_text("Episode,Average Speed\n0,22.9\n10,23.9\n")
    (tmp_path / "debug.log").write_text("starting\n")
    (tmp_path / "train.log").write_text("".join(f"step {i} loss 2 grad_norm {n}\n" for i, n in enumerate(NORMS)))
    log = read_log(tmp_path)
    np.testing.assert_allclose(log.series[0].grad_norm, NORMS)
    assert "metrics.csv in the folder holds no gradient norm" in log.notes[0]
    (tmp_path / "train.log").unlink()
    with pytest.raises(InputError) as refused:
        read_log(tmp_path)
    assert "debug.log" not in str(refused.value)


def test_add_scalars_and_hparams_of_tensorboard(tmp_path: Path) -> None:
    tensorboard = pytest.importorskip("torch.utils.tensorboard")
    with tensorboard.SummaryWriter(str(tmp_path / "run")) as writer:
        for i in range(300):
            writer.add_scalars("train", {name.partition("/")[2]: float(v[i]) for name, v in METRICS.items()}, i)
        writer.add_hparams({"lr": 0.1}, {"train/grad_norm": 1.0})
    for place in (tmp_path, tmp_path / "run"):
        right(place)
    alone = read_log(tmp_path / "run" / "train_grad_norm").series[0]
    np.testing.assert_allclose(alone.grad_norm, NORMS, rtol=1e-6)


def test_norms_of_parameters_as_ignite_writes_them(tmp_path: Path) -> None:
    tensorboard = pytest.importorskip("torch.utils.tensorboard")
    with tensorboard.SummaryWriter(str(tmp_path)) as writer:
        for i in range(50):
            writer.add_scalar("grads_norm/fc1/weight", 3.0 + i, i)
            writer.add_scalar("grads_norm/fc1/bias", 4.0, i)
            writer.add_scalar("training/loss", 2.0, i)
    log = read_log(tmp_path)
    np.testing.assert_allclose(log.series[0].grad_norm, np.hypot(3.0 + np.arange(50), 4.0), rtol=1e-6)
    np.testing.assert_allclose(log.series[0].loss, 2.0)
    assert "2 parameters' norms" in log.notes[0]


# Trackers whose run is one file; each was compared with what the package itself writes


@pytest.mark.parametrize("name", ["mlflow.db", "mlruns.sqlite"])
def test_mlflow_database(tmp_path: Path, name: str) -> None:
    tracker_files.mlflow(tmp_path / name, {"a": METRICS}, params={"max_grad_norm": "0.9", "lr": "1"})
    for place in (tmp_path, tmp_path / name):
        right(place)
        assert read_log(place).max_norm == 0.9


def test_mlflow_infinity_and_several_runs(tmp_path: Path) -> None:
    runs = {"a": {"grad_norm": [1.0, math.inf, -math.inf]}, "b": {"loss": [1.0]}, "c": {"grad_norm": [2.0, 3.0]}}
    path = tmp_path / "mlflow.db"
    tracker_files.mlflow(path, runs, params={})
    log = read_log(path)
    np.testing.assert_array_equal(log.series[0].grad_norm, [1.0, math.inf, -math.inf, 2.0, 3.0])
    assert log.series[0].starts == (3,)
    assert log.notes == ("Its runs are, in this order: name of a, name of c.",)
    assert list(tmp_path.iterdir()) == [path]


def test_trackio(tmp_path: Path) -> None:
    tracker_files.trackio(tmp_path / "project.db", METRICS, config={"max_grad_norm": 0.7})
    for place in (tmp_path, tmp_path / "project.db"):
        right(place)
        assert read_log(place).max_norm == 0.7


def test_neptune_scale(tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    tracker_files.neptune_scale(tmp_path / "run" / "run_operations.sqlite3", METRICS)
    for place in (tmp_path, tmp_path / "run" / "run_operations.sqlite3"):
        right(place)


def test_swanlab_offline(tmp_path: Path) -> None:
    (tmp_path / "run-abc.swanlab").write_bytes(tracker_files.swanlab(METRICS))
    for place in (tmp_path, tmp_path / "run-abc.swanlab"):
        right(place)


def test_visualdl(tmp_path: Path) -> None:
    (tmp_path / "vdlrecords.1796132077.log").write_bytes(tracker_files.visualdl(METRICS))
    for place in (tmp_path, tmp_path / "vdlrecords.1796132077.log"):
        right(place)


def test_comet(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "0a1b.zip", "w") as out:
        out.writestr("experiment.json", "{}")
        out.writestr("messages.json", tracker_files.comet(METRICS, {"max_grad_norm": 0.7}))
    for place in (tmp_path, tmp_path / "0a1b.zip"):
        right(place)
        assert read_log(place).max_norm == 0.7


def test_clearml_says_what_its_zeros_may_be(tmp_path: Path) -> None:
    folder = tmp_path / "offline-0a1b"
    folder.mkdir()
    (folder / "metrics.jsonl").write_bytes(tracker_files.clearml(METRICS))
    with zipfile.ZipFile(tmp_path / "offline-0a1b.zip", "w") as out:
        out.write(folder / "metrics.jsonl", "metrics.jsonl")
        out.writestr("task.json", "{}")
    for place in (folder, folder / "metrics.jsonl", tmp_path / "offline-0a1b.zip"):
        log = read_log(place)
        np.testing.assert_allclose(log.series[0].grad_norm, np.nan_to_num(NORMS, nan=0.0))
        np.testing.assert_allclose(log.series[0].loss, LOSSES)
        assert log.notes == (
            "ClearML stores what is not finite as 0.0: 1 zero among the norms may stand for explosions.",
        )


def test_neptune_says_what_its_holes_may_be(tmp_path: Path) -> None:
    path = tmp_path / ".neptune" / "offline" / "run__x" / "data-1.log"
    path.parent.mkdir(parents=True)
    path.write_bytes(tracker_files.neptune(METRICS, {"parameters/max_grad_norm": 0.7}))
    for place in (tmp_path, path):
        log = read_log(place)
        np.testing.assert_allclose(log.series[0].grad_norm, NORMS[np.isfinite(NORMS)])
        np.testing.assert_array_equal(log.series[0].step, STEPS[np.isfinite(NORMS)])
        assert log.max_norm == 0.7
        assert log.notes == (
            "Neptune's client drops what is not finite: 1 step without a norm may have been explosions.",
        )


def test_skorch(tmp_path: Path) -> None:
    (tmp_path / "history.json").write_bytes(
        tracker_files.skorch({name: v for name, v in METRICS.items() if "lr" not in name})
    )
    for place in (tmp_path, tmp_path / "history.json"):
        series = read_log(place).series[0]
        np.testing.assert_allclose(series.grad_norm, NORMS)
        np.testing.assert_allclose(series.loss, LOSSES)


def test_aim_is_refused_with_what_to_do(tmp_path: Path) -> None:
    (tmp_path / ".aim" / "meta").mkdir(parents=True)
    (tmp_path / ".aim" / "meta" / "000005.log").write_text("")
    for place in (tmp_path, tmp_path / ".aim", tmp_path / ".aim" / "meta" / "000005.log"):
        with pytest.raises(InputError, match=r"Aim repository, .* CSV"):
            read_log(place)
