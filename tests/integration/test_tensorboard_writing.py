"""--tensorboard: what is written is read with TensorBoard's own reader, and with clipcal's."""

from __future__ import annotations

import json
import math
import re
import resource
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import Clipcal, Project
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from clipcal.arms.pool import Arm
from clipcal.run.directory import Run, RunInfo
from clipcal.run.source import Source
from clipcal.run.step import Step
from clipcal.run.trace import read_trace
from clipcal.views.tensorboard.curves import TEXT, Board
from clipcal.views.tensorboard.files import HISTOGRAM, LOG_HISTOGRAM, LR, NORM, SCALE, EventFile, own_files

SPIKES = '''
def spiky(batch_size=8, seed=0):
    """Endless pairs, every 23rd batch with a target that is far off."""
    for i, (x, y) in enumerate(batches(batch_size, seed)):
        yield x, y * (40 if i % 23 == 22 else 1)
'''
SCRIPT = """\
import argparse
import torch

parser = argparse.ArgumentParser()
parser.add_argument("--seed", type=int, default=0)
torch.manual_seed(parser.parse_args().seed)
model = torch.nn.Linear(4, 1)
optimizer = torch.optim.SGD(model.parameters(), lr=0.05)
for _ in range(40):
    x = torch.randn(8, 4)
    loss = (model(x) - x.sum(1, keepdim=True)).square().mean()
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
"""


def steps(norms: list[float], *, first: int = 0, **changes: Any) -> list[Step]:
    return [
        Step(**{"step": i, "loss": 1.0 + i, "grad_norm": n, "grad_max": n, "lr": 0.1, "seconds": 0.01} | changes)
        for i, n in enumerate(norms, first)
    ]


def opened(folder: Path) -> EventAccumulator:
    """All that TensorBoard reads in the folder of one run."""
    return EventAccumulator(str(folder), size_guidance={"scalars": 0, "histograms": 0, "tensors": 0}).Reload()


def curve(folder: Path, tag: str) -> list[tuple[int, float]]:
    return [(e.step, e.value) for e in opened(folder).Scalars(tag)]


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def assert_is_trace(folder: Path, path: Path) -> None:
    """The curves are those of the trace, as float32, at the same steps and in the order of time."""
    trace, read = read_trace(path), opened(folder)
    scale = np.where(np.isnan(trace.scale), 1.0, trace.scale)
    columns = {NORM: trace.grad_norm, "train/loss": trace.loss, LR: trace.lr, SCALE: scale}
    assert set(read.Tags()["scalars"]) == set(columns)
    for tag, column in columns.items():
        events = read.Scalars(tag)
        assert [e.step for e in events] == trace.step.tolist()
        np.testing.assert_array_equal(np.array([e.value for e in events], np.float32), column.astype(np.float32))
        assert [e.wall_time for e in events] == sorted(e.wall_time for e in events)
    norms = trace.grad_norm
    for tag, values in ((HISTOGRAM, norms), (LOG_HISTOGRAM, np.log10(norms))):
        histograms = read.Histograms(tag)
        assert [h.step for h in histograms] == [
            *range(49, len(norms), 50),
            *([len(norms) - 1] if len(norms) % 50 else []),
        ]
        for k, h in enumerate(h.histogram_value for h in histograms):
            part = values[50 * k : 50 * (k + 1)]
            assert sum(h.bucket) == h.num == len(part)
            assert (h.min, h.max) == (part.min(), part.max())
            edges = [h.min, *h.bucket_limit]
            np.testing.assert_array_equal(h.bucket, np.histogram(part, edges)[0])


def test_a_profile_is_written_and_read_back(project: Project, clipcal: Clipcal, tmp_path: Path) -> None:
    project.code(SPIKES)
    project.spec(data={"_target_": "toy.spiky"}, steps=130)
    answer = clipcal("profile", "spec.yaml", "--tensorboard", tmp_path / "tb").ok()
    assert answer.stderr.count("tensorboard --logdir") == 1
    assert_is_trace(tmp_path / "tb/spec/unclipped", project.run() / "trace.jsonl")
    from_run = clipcal("recommend", project.run(), "--json")
    for folder in ("tb", "tb/spec", "tb/spec/unclipped"):
        from_events = clipcal("recommend", tmp_path / folder, "--json")
        assert from_events.code == from_run.code == 0
        found, expected = from_events.json(), from_run.json()
        assert found.pop("source") != expected.pop("source")
        assert found == expected


def test_arms_are_runs_of_their_own(project: Project, clipcal: Clipcal, tmp_path: Path) -> None:
    project.spec(steps=70)
    clipcal("profile", "spec.yaml", "-q").ok()
    clipcal("verify", project.run(), "--max-norm", 0.5, "--seeds", 2, "-j", 2, "--tensorboard", "tb", "-q")
    arms = {path.stem: path for path in (project.run() / "arms").glob("*.jsonl")} | {
        "unclipped": project.run() / "trace.jsonl"
    }
    assert names(tmp_path / "tb/spec") == set(arms)
    assert {"max_norm=0.5-seed0", "max_norm=0.5-seed1", "unclipped-seed1"} < set(arms)
    for name, trace in arms.items():
        assert_is_trace(tmp_path / "tb/spec" / name, trace)
    assert min(value for _, value in curve(tmp_path / "tb/spec/max_norm=0.5-seed0", SCALE)) < 1
    # where all are there already, nothing is trained, and the curves are written all the same
    again = clipcal("verify", project.run(), "--max-norm", 0.5, "--seeds", 2, "--tensorboard", "elsewhere")
    assert "training" not in again.stderr
    for name, trace in arms.items():
        assert_is_trace(tmp_path / "elsewhere/spec" / name, trace)


def test_calibrate_writes_its_answer_beside(project: Project, clipcal: Clipcal, tmp_path: Path) -> None:
    project.code(SPIKES)
    project.spec(data={"_target_": "toy.spiky"}, steps=100)
    answer = clipcal("calibrate", "spec.yaml", "--seeds", 1, "--tensorboard", "tb", "--json").json()
    folder = tmp_path / "tb/spec"
    assert names(folder) == {"unclipped", *(path.stem for path in (project.run() / "arms").glob("*.jsonl"))}
    assert_is_trace(folder / "unclipped", project.run() / "trace.jsonl")
    (event,) = opened(folder / "unclipped").Tensors(TEXT)
    text = event.tensor_proto.string_val[0].decode()
    assert f"max_norm {answer['max_norm']:g} " in text
    assert all(reason in text for reason in answer["recommendation"]["reasons"])
    # the text names a threshold that was not in use
    assert "which threshold was in use" in clipcal("check", folder / "unclipped").refused()


def test_a_script_is_written_too(project: Project, clipcal_process: Clipcal, tmp_path: Path) -> None:
    (project.folder / "train.py").write_text(SCRIPT)
    words = ("--tensorboard", "tb", "train.py", "--", "--seed", "{seed}")
    clipcal_process("profile", "-n", 30, *words).ok()
    assert_is_trace(tmp_path / "tb/train/unclipped", project.run("train") / "trace.jsonl")
    clipcal_process("verify", project.run("train"), "--max-norm", 0.5, "--seeds", 1, "--tensorboard", "tb")
    for path in (project.run("train") / "arms").glob("*.jsonl"):
        assert_is_trace(tmp_path / "tb/train" / path.stem, path)
    assert (tmp_path / "tb/train/max_norm=0.5-seed0").is_dir()


def test_a_new_profile_takes_the_place_of_the_old_one(project: Project, clipcal: Clipcal, tmp_path: Path) -> None:
    profile = ("profile", "spec.yaml", "--tensorboard", "tb", "-q")
    clipcal(*profile, "-n", 30).ok()
    clipcal("verify", project.run(), "--max-norm", 0.5, "--seeds", 1, "--tensorboard", "tb", "-q")
    home = tmp_path / "tb/spec"
    assert names(home) >= {"unclipped", "max_norm=0.5-seed0"}
    own = home / "unclipped/events.out.tfevents.1.mine"
    own.write_bytes(b"a user's own")
    clipcal(*profile, "-n", 12, "--seed", 1, "--force").ok()
    assert own.read_bytes() == b"a user's own"
    own.unlink()
    assert names(home) == {"unclipped"}
    assert_is_trace(home / "unclipped", project.run() / "trace.jsonl")


def test_a_resumed_profile_has_one_curve(project: Project, clipcal: Clipcal, tmp_path: Path) -> None:
    clipcal("profile", "spec.yaml", "--tensorboard", "tb", "-q").ok()
    clipcal("profile", "spec.yaml", "--tensorboard", "tb", "-q", "-n", 33, "--resume").ok()
    assert_is_trace(tmp_path / "tb/spec/unclipped", project.run() / "trace.jsonl")


def test_a_profile_that_is_refused_leaves_the_curves(project: Project, clipcal: Clipcal, tmp_path: Path) -> None:
    clipcal("profile", "spec.yaml", "--tensorboard", "tb", "-q").ok()
    clipcal("profile", "spec.yaml", "--tensorboard", "tb").refused("already holds a run")
    assert_is_trace(tmp_path / "tb/spec/unclipped", project.run() / "trace.jsonl")


def test_the_curves_of_another_run_are_not_replaced(project: Project, clipcal: Clipcal, tmp_path: Path) -> None:
    clipcal("profile", "spec.yaml", "-o", "a/run", "--tensorboard", "tb", "-q").ok()
    message = clipcal("profile", "spec.yaml", "-o", "b/run", "--tensorboard", "tb").refused(str(tmp_path / "a/run"))
    assert "another directory" in message
    assert not (tmp_path / "b").exists()
    shutil.move(tmp_path / "a", tmp_path / "c")  # a run that was moved is the same one
    clipcal("verify", "c/run", "--max-norm", 0.5, "--seeds", 1, "--tensorboard", "tb", "-q")
    assert "max_norm=0.5-seed0" in names(tmp_path / "tb/run")


@pytest.mark.parametrize("command", ["profile", "calibrate"])
def test_without_the_package_nothing_is_trained(
    project: Project, clipcal: Clipcal, monkeypatch: pytest.MonkeyPatch, command: str
) -> None:
    monkeypatch.setitem(sys.modules, "tensorboard.compat.proto.event_pb2", None)
    message = clipcal(command, "spec.yaml", "--tensorboard", "tb").refused()
    assert message.endswith("pip install 'clipcal[tensorboard]'")
    assert names(project.folder) == {"toy.py", "spec.yaml"}


@pytest.mark.parametrize("place", ["tb", "tb/spec", "tb/spec/unclipped"])
def test_a_directory_that_cannot_be_written_is_refused_first(project: Project, clipcal: Clipcal, place: str) -> None:
    path = project.folder / place
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("a file")
    clipcal("profile", "spec.yaml", "--tensorboard", "tb").refused("--tensorboard tb", str(path), "Not a directory")
    assert not project.run().exists()


def test_curves_that_cannot_be_written_later_end_alone(project: Project, clipcal: Clipcal, tmp_path: Path) -> None:
    clipcal("profile", "spec.yaml", "-q").ok()
    (tmp_path / "tb/spec").mkdir(parents=True)
    (tmp_path / "tb/spec/max_norm=0.5-seed0").write_text("in the way")
    verify = ("verify", project.run(), "--max-norm", 0.5, "--seeds", 2, "--json")
    expected = clipcal(*verify, "-q")
    answer = clipcal(*verify, "--force", "--tensorboard", "tb")
    assert (answer.code, answer.json()) == (expected.code, expected.json())
    assert answer.stderr.count("note: ") == answer.stderr.count("cannot be written") == 1
    assert clipcal(*verify, "--force", "--tensorboard", "tb", "-q").stderr == ""


def test_a_full_disk_leaves_whole_records(tmp_path: Path) -> None:
    said: list[str] = []
    ours = board(tmp_path, said)
    on_steps, _ = ours.of_profile(lambda new: None, lambda value: None)
    before = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (5_000, hard))
    try:
        for first in range(0, 300, 10):
            on_steps(steps([1.0] * 10, first=first))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        signal.signal(signal.SIGXFSZ, before)
    on_steps(steps([1.0] * 10, first=300))
    ours.close()
    assert "tensorboard --logdir" in said[0]
    (lost,) = said[1:]
    assert lost.startswith(f"note: {tmp_path}/tb/run: cannot be written (File too large)")
    (path,) = (tmp_path / "tb/run/unclipped").iterdir()
    head, lengths = path.read_bytes(), []
    while head:
        lengths.append(int.from_bytes(head[:8], "little"))
        head = head[lengths[-1] + 16 :]
    assert sum(lengths) + 16 * len(lengths) == path.stat().st_size <= 5_000
    assert curve(path.parent, NORM) == [(step, 1.0) for step in range(30)]


def test_nonfinite_norms_are_curves_and_no_histograms(tmp_path: Path) -> None:
    file = EventFile(tmp_path, "/a/run")
    norms = [1.0, math.nan, math.inf, 0.0, 1e39, 1e300, 2.0]
    file.add(steps(norms), ended=1e9)
    file.add(steps([math.nan] * 60, first=7), ended=1e9 + 1)
    file.finish()
    file.close()
    found = [value for _, value in curve(tmp_path, NORM)]
    np.testing.assert_array_equal(found[:8], [1.0, math.nan, math.inf, 0.0, math.inf, math.inf, 2.0, math.nan])
    read = opened(tmp_path)
    assert [(h.step, h.histogram_value.num) for h in read.Histograms(HISTOGRAM)] == [(49, 5)]
    assert [(h.step, h.histogram_value.num) for h in read.Histograms(LOG_HISTOGRAM)] == [(49, 4)]  # not of zero


def test_a_histogram_of_one_value(tmp_path: Path) -> None:
    file = EventFile(tmp_path, "/a/run")
    file.add(steps([2.0] * 50 + [1.0, float(np.nextafter(1, 2))] * 25), ended=1e9)
    file.close()
    first, second = (h.histogram_value for h in opened(tmp_path).Histograms(HISTOGRAM))
    assert (first.min, first.max, list(first.bucket)) == (1.5, 2.5, [50])
    assert sum(second.bucket) == 50


def test_a_step_that_the_scaler_dropped_has_no_norm(tmp_path: Path, clipcal: Clipcal) -> None:
    """As on the run: clipcal does not count it among the steps with a norm that is not finite."""
    file = EventFile(tmp_path / "tb", "/a/run")
    rng = np.random.default_rng(0)
    for i, norm in enumerate(np.exp(rng.normal(0, 0.2, 200))):
        dropped = i % 40 == 0
        file.add(steps([math.inf if dropped else norm], first=i, skipped=dropped), ended=1e9 + i)
    file.close()
    answer = clipcal("recommend", tmp_path / "tb", "--json").json()
    assert (answer["steps"], answer["nonfinite"]["count"]) == (195, 0)


def board(folder: Path, said: list[str]) -> Board:
    return Board(folder / "tb", folder / "run", said.append)


def test_steps_are_there_while_training_goes_on(tmp_path: Path) -> None:
    seen: list[Step] = []
    ours = board(tmp_path, [])
    on_steps, on_guard = ours.of_profile(seen.extend, lambda value: None)
    for first in (0, 3):
        on_steps(steps([1.0, 2.0, 3.0], first=first))
        assert len(curve(tmp_path / "tb/run/unclipped", NORM)) == len(seen) == first + 3
    on_guard(0.5)
    on_steps(steps([4.0, 5.0], scale=0.25))
    ours.close()
    assert len(curve(tmp_path / "tb/run/unclipped", NORM)) == 6
    assert curve(tmp_path / "tb/run/guarded-max_norm=0.5", SCALE) == [(0, 0.25), (1, 0.25)]


def test_an_arm_is_followed_while_its_trace_grows(tmp_path: Path) -> None:
    from clipcal.arms.pool import Progress

    info = RunInfo(name="run", source=Source(), fingerprint="", steps=4, seeds=[0], device="cpu", threads=1)
    run = Run(tmp_path / "run", info)
    arm = Arm(name="max_norm=0.5", max_norm=0.5, seed=1)
    path, lines = run.arm(arm.name, 1), [s.line() for s in steps([1.0, 2.0, 3.0, 4.0])]
    growing = path.with_name(path.name + ".partial")
    growing.parent.mkdir(parents=True)
    ours = board(tmp_path, [])
    on_plan, on_progress = ours.of_arms(run, lambda todo, there: None, lambda told: None)
    on_plan([arm], [])
    folder = tmp_path / "tb/run/max_norm=0.5-seed1"
    on_progress(Progress(arm=arm, steps=1, loss=1.0))  # before there is a file
    for text, there in ((f"{lines[0]}\n{lines[1]}\n{lines[2][:20]}", 2), (f"{lines[2][20:]}\ndamaged\n", 3)):
        with growing.open("a") as f:
            f.write(text)
        on_progress(Progress(arm=arm, steps=there, loss=1.0))
        assert len(curve(folder, NORM)) == there
    with growing.open("a") as f:
        f.write(lines[3] + "\n")
    growing.rename(path)
    on_progress(Progress(arm=arm, steps=4, loss=1.0, done=True))
    assert curve(folder, NORM) == [(0, 1.0), (1, 2.0), (2, 3.0), (3, 4.0)]
    assert opened(folder).Histograms(HISTOGRAM)[0].histogram_value.num == 4
    ours.close()


@pytest.fixture
def reader(tmp_path: Path) -> Callable[[], list[int]]:
    """A TensorBoard that is open all the while: the steps that it shows now."""
    folder = tmp_path / "tb/run/unclipped"
    folder.mkdir(parents=True)
    accumulator = EventAccumulator(str(folder), size_guidance={"scalars": 0})
    return lambda: [e.step for e in accumulator.Reload().Scalars(NORM)]


def test_an_open_tensorboard_forgets_the_old_curve(tmp_path: Path, reader: Callable[[], list[int]]) -> None:
    for length in (*range(20, 8, -1), 30):
        norms = [1.0] * length
        ours = board(tmp_path, [])
        on_steps, _ = ours.of_profile(lambda new: None, lambda value: None)
        on_steps(steps(norms))
        ours.close()
        files = own_files(tmp_path / "tb/run/unclipped")
        assert len(files) <= 2
        assert sum(path.stat().st_size > 200 + len(str(tmp_path)) for path in files) == 1
        assert reader() == list(range(len(norms)))


def test_neither_torch_nor_tensorflow_is_loaded(tmp_path: Path) -> None:
    program = (
        "import sys; from pathlib import Path; from clipcal.views.tensorboard.curves import Board; from clipcal.run.step import Step\n"
        "board = Board(Path('tb'), Path('run'), print)\n"
        "on_steps, _ = board.of_profile(lambda new: None, lambda value: None)\n"
        "on_steps([Step(step=0, loss=1.0, grad_norm=1.0, grad_max=1.0, lr=0.1, seconds=0.1)])\n"
        "board.close()\n"
        "import json; print(json.dumps(sorted({'torch', 'tensorflow', 'tensorboard.summary'} & set(sys.modules))))"
    )
    done = subprocess.run([sys.executable, "-c", program], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout.splitlines()[-1]) == []
    assert re.search(r"tensorboard --logdir tb\b", done.stdout)
