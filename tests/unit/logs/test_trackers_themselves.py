"""What the trackers' own packages write is read as it was logged. Each test skips itself where its package is not installed; the layouts
that they check are those of test_stores.py, which needs none of them."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from clipcal.logs.picking import pick
from clipcal.logs.reading import read_log

_VALUES = """
import math, os, random
draw = random.Random(5)
norms = [draw.lognormvariate(math.log(0.8), 0.2) for _ in range(300)]
for i in (40, 90, 133, 171, 222, 280):
    norms[i] = 25.0
norms[205] = math.nan
rows = [{"train/loss": 3 - i / 300, "train/grad_norm": norm, "train/lr": 1e-3} for i, norm in enumerate(norms)]
here = os.getcwd()
"""
WRITERS = {
    "mlflow": """
import mlflow
with mlflow.start_run():
    mlflow.log_param("max_grad_norm", 0.9)
    for i, row in enumerate(rows):
        mlflow.log_metrics(row, step=i)
""",
    "mlflow, files": """
os.environ["MLFLOW_ALLOW_FILE_STORE"] = "true"
import mlflow
mlflow.set_tracking_uri("file:" + here + "/mlruns")
with mlflow.start_run():
    mlflow.log_param("max_grad_norm", 0.9)
    for i, row in enumerate(rows):
        mlflow.log_metrics(row, step=i)
""",
    "dvclive": """
from dvclive import Live
with Live(save_dvc_exp=False) as live:
    live.log_param("max_grad_norm", 0.9)
    for row in rows:
        for name, value in row.items():
            live.log_metric(name, value)
        live.next_step()
""",
    "swanlab": """
import swanlab
swanlab.init(project="p", mode="local", config={"max_grad_norm": 0.9}, logdir=here + "/swanlog")
for i, row in enumerate(rows):
    swanlab.log(row, step=i)
swanlab.finish()
""",
    "swanlab, offline": """
import swanlab
swanlab.init(project="p", mode="offline", config={"max_grad_norm": 0.9}, logdir=here + "/swanlog")
for i, row in enumerate(rows):
    swanlab.log(row, step=i)
swanlab.finish()
""",
    "trackio": """
os.environ["HF_HOME"] = os.environ["TRACKIO_DIR"] = here
import trackio
trackio.init(project="p", config={"max_grad_norm": 0.9})
for i, row in enumerate(rows):
    trackio.log(row, step=i)
trackio.finish()
""",
    "clearml": """
os.environ["CLEARML_CACHE_DIR"] = here
from clearml import Task
Task.set_offline(True)
task = Task.init("p", "n", auto_connect_frameworks=False, auto_resource_monitoring=False)
for i, row in enumerate(rows):
    for name, value in row.items():
        task.get_logger().report_scalar("train", name.split("/")[1], value, i)
task.close()
""",
    "comet_ml": """
import comet_ml
experiment = comet_ml.OfflineExperiment(offline_directory=here, project_name="p", log_code=False, log_graph=False)
experiment.log_parameter("max_grad_norm", 0.9)
for i, row in enumerate(rows):
    experiment.log_metrics(row, step=i)
experiment.end()
""",
    "neptune": """
import neptune
off = dict(capture_stdout=False, capture_stderr=False, capture_hardware_metrics=False, git_ref=False)
run = neptune.init_run(mode="offline", project="a/b", source_files=[], **off)
run["parameters/max_grad_norm"] = 0.9
for i, row in enumerate(rows):
    for name, value in row.items():
        run[name].append(value, step=i)
run.stop()
""",
    "neptune_scale": """
from neptune_scale import Run
if __name__ == "__main__":
    run = Run(project="a/b", run_id="x", mode="offline", log_directory=here)
    for i, row in enumerate(rows):
        run.log_metrics(row, step=i)
    run.close()
""",
    "visualdl": """
from visualdl import LogWriter
with LogWriter(logdir=here) as writer:
    for i, row in enumerate(rows):
        for name, value in row.items():
            writer.add_scalar(name, value, i)
""",
}
UNTOLD = ("clearml", "neptune_scale", "visualdl")
"""Of which the threshold in use is not read."""


@pytest.mark.parametrize("tracker", WRITERS)
def test_what_the_package_writes(tmp_path: Path, tracker: str) -> None:
    if importlib.util.find_spec(tracker.partition(",")[0]) is None:
        pytest.skip(f"{tracker} is not installed")
    (tmp_path / "made").mkdir()
    code = tmp_path / "write.py"
    code.write_text(_VALUES + WRITERS[tracker])
    if tracker == "dvclive":  # it asks for a repository with a commit
        say = ["git", "-c", "user.email=a@b.c", "-c", "user.name=a"]
        subprocess.run([*say, "init", "-q"], cwd=tmp_path / "made", check=True)
        subprocess.run([*say, "commit", "-q", "--allow-empty", "-m", "x"], cwd=tmp_path / "made", check=True)
    env = {name: value for name, value in os.environ.items() if not name.startswith("MLFLOW_")}
    done = subprocess.run(
        [sys.executable, str(code)], cwd=tmp_path / "made", env=env, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    shown = subprocess.run(
        [sys.executable, "-c", _VALUES + "print(*norms)"], capture_output=True, text=True, check=True
    )
    norms = np.array([float(text) for text in shown.stdout.split()])
    log = read_log(tmp_path / "made")
    picked = pick(log, "log")
    steps = np.arange(300)
    if tracker == "clearml":
        norms[205] = 0.0
    elif tracker == "neptune":
        norms, steps = np.delete(norms, 205), np.delete(steps, 205)
    np.testing.assert_allclose(picked.grad_norm, norms, rtol=1e-6)
    np.testing.assert_array_equal(picked.step, steps)
    np.testing.assert_allclose(picked.loss, 3 - steps / 300, rtol=1e-6)
    np.testing.assert_allclose(picked.lr, 1e-3, rtol=1e-6)
    assert log.max_norm == (None if tracker in UNTOLD else 0.9)
