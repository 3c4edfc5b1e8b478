"""This version of clipcal -> golden runs: run directories as it writes them, which every later version has to read.

Run it at a release, and only then, with the version that is released and the torch of constraints.txt:

    PYTHONPATH=tests python -m golden.make

It writes tests/golden/<version>/<name>/run and beside each run two files: read.json, what is read from it, which no later version may
change, and answers.json, what the commands say of it, which `PYTHONPATH=tests python -m golden.answers` writes anew where a rule has changed on purpose.
A version that is there is never written over. Paths, host and platform are replaced by neutral ones.
"""

from __future__ import annotations

import os
import platform
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import yaml

from clipcal import __version__
from golden.reading import GOLDEN, record

NEUTRAL = "/home/user/project"
PLATFORM = "Linux-6.8-x86_64-with-glibc2.39"
MODELS = (Path(__file__).parent / "models.py").read_text(encoding="utf-8")

SPEC = {
    "model": {"_target_": "models.Net"},
    "data": {"_target_": "models.batches"},
    "loss": {"_target_": "torch.nn.MSELoss"},
    "optimizer": {"_target_": "torch.optim.SGD", "lr": 0.05},
    "steps": 60,
    "device": "cpu",
}
SCRIPT = """\
import argparse

import torch

from models import Net, batches

parser = argparse.ArgumentParser()
parser.add_argument("--lr", type=float, default=0.1)
lr = parser.parse_args().lr
torch.manual_seed(0)
model = Net(width=4)
optimizer = torch.optim.SGD(model.parameters(), lr=lr)
data = batches()
for _ in range(60):
    x, y = next(data)
    optimizer.zero_grad()
    loss = torch.nn.functional.mse_loss(model(x), y)
    loss.backward()
    torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    optimizer.step()
"""
WATCHED = SCRIPT.replace("import torch\n", "import torch\n\nimport clipcal\n").replace(
    "data = batches()\n", "data = batches()\nwatching = clipcal.watch(model, optimizer, 'run')\n"
)


def clipcal(*words: str, cwd: Path, codes: tuple[int, ...] = (0, 3), launcher: tuple[str, ...] = ()) -> None:
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": f"{Path(__file__).parents[2]}"}
    command = [sys.executable, *launcher, "-m", "clipcal", *words]
    done = subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode in codes, f"{words}: exit {done.returncode}\n{done.stdout}{done.stderr}"


def spec(folder: Path, **changes: object) -> str:
    keys = {k: v for k, v in (SPEC | changes).items() if v is not None}
    (folder / "spec.yaml").write_text(yaml.safe_dump(keys, sort_keys=False), encoding="utf-8")
    return "spec.yaml"


def calibrated(folder: Path) -> None:
    data = {"_target_": "models.batches", "outliers": 0.1, "height": 6.0}
    clipcal("calibrate", spec(folder, steps=30, data=data), "--out", "run", "--seeds", "2", cwd=folder)


def script(folder: Path) -> None:
    (folder / "train.py").write_text(SCRIPT, encoding="utf-8")
    clipcal("profile", "train.py", "--out", "run", "--", "--lr", "0.05", cwd=folder)
    clipcal("recommend", "run", cwd=folder)


def by_value(folder: Path) -> None:
    clipcal("profile", spec(folder, clip={"method": "value"}), "--out", "run", cwd=folder)
    clipcal("recommend", "run", cwd=folder)


def per_tensor(folder: Path) -> None:
    clipcal("profile", spec(folder, clip={"method": "per_tensor"}), "--out", "run", cwd=folder)


def diverging(folder: Path) -> None:
    """Healthy for most of its steps, and then the learning rate is raised until nothing is finite."""
    lambdas = {"_target_": "torch.optim.lr_scheduler.LambdaLR", "lr_lambda": {"_target_": "models.raised"}}
    clipcal("profile", spec(folder, scheduler=lambdas, model={"_target_": "models.Line"}), "--out", "run", cwd=folder)
    clipcal("recommend", "run", cwd=folder)


def guarded(folder: Path) -> None:
    """Lost in its first steps, so that it is profiled once more under a guard."""
    optimizer = {"_target_": "torch.optim.SGD", "lr": 3.0}
    clipcal("profile", spec(folder, optimizer=optimizer, model={"_target_": "models.Line"}), "--out", "run", cwd=folder)


def killed(folder: Path) -> None:
    """Killed with SIGKILL by its own data, and its last line is half: what a process leaves that dies while it writes."""
    data = {"_target_": "models.deadly", "length": 40}
    clipcal("profile", spec(folder, data=data), "--out", "run", cwd=folder, codes=(-9,))
    trace = folder / "run" / "trace.jsonl"
    trace.write_bytes(trace.read_bytes()[:-31])


def interrupted(folder: Path) -> None:
    data = {"_target_": "models.interrupting", "length": 30}
    clipcal("profile", spec(folder, data=data), "--out", "run", cwd=folder, codes=(130,))


def watched(folder: Path) -> None:
    (folder / "train.py").write_text(WATCHED, encoding="utf-8")
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": f"{Path(__file__).parents[2]}"}
    subprocess.run([sys.executable, "train.py"], cwd=folder, env=environment, check=True, timeout=300)


def ranks(folder: Path) -> None:
    data = {"_target_": "models.batches", "outliers": 0.08}
    launcher = ("-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2")
    clipcal("profile", spec(folder, parallel="ddp", data=data), "--out", "run", cwd=folder, launcher=launcher)


def scaled(folder: Path) -> None:
    clipcal("profile", spec(folder), "--out", "run", "--scale", "batch=2", cwd=folder)


RUNS: dict[str, Callable[[Path], None]] = {
    make.__name__.replace("_", "-"): make
    for make in (
        calibrated,
        script,
        by_value,
        per_tensor,
        diverging,
        guarded,
        killed,
        interrupted,
        watched,
        ranks,
        scaled,
    )
}


def main() -> None:
    version = GOLDEN / __version__
    if version.exists():
        sys.exit(
            f"{version}: is there already, and golden runs are never written over. They are made once, at a release."
        )
    for name, make in RUNS.items():
        with tempfile.TemporaryDirectory(prefix="golden-") as at:
            folder = Path(at).resolve()
            (folder / "models.py").write_text(MODELS, encoding="utf-8")
            make(folder)
            _keep(folder, version / name / "run")
        record(version / name)
        print(f"made {version / name}")


def _keep(folder: Path, kept: Path) -> None:
    """Copy the run, with nothing in it that says where or by whom it was made."""
    shutil.copytree(folder / "run", kept, ignore=shutil.ignore_patterns("report.html"))
    for path in (p for p in kept.rglob("*.json") if p.is_file()):
        text = path.read_text(encoding="utf-8").replace(str(folder), NEUTRAL).replace(platform.platform(), PLATFORM)
        text = re.sub(r'"[^"]*/clipcal/__main__\.py"', '"clipcal"', text)
        path.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
