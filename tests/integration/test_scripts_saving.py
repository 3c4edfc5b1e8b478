"""What a watched script writes over or removes is there again when clipcal ends; what it makes stays."""

from __future__ import annotations

import importlib.util
import os
import signal
import time

import pytest
from conftest import Clipcal, Project, snapshot
from nursery import REAL
from test_scripts_ending import begin, gone, wait_for
from test_scripts_refused import notes, script

OLD = b"weeks of training"


def kept(project: Project, *names: str) -> dict[str, bytes]:
    """Files of a long run that is over, in the folder of the project."""
    for name in names:
        path = project.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(OLD + name.encode())
    return {name: OLD + name.encode() for name in names}


def files(project: Project) -> dict[str, bytes]:
    return {
        name: content
        for name, content in snapshot(project.folder).items()
        if not name.startswith(("runs/", "pid-", "toy.py", "spec.yaml", "train.py", "go.sh", "__pycache__"))
    }


def test_checkpoints_are_put_back(project: Project, clipcal: Clipcal) -> None:
    script(project, after='torch.save(model.state_dict(), "best.pt"); torch.save({}, "new.pt")')
    old = project.folder / "best.pt"
    old.write_bytes(OLD)
    os.utime(old, (1, 1))
    clipcal("profile", "train.py", "-q").ok()
    assert old.read_bytes() == OLD
    assert old.stat().st_mtime == 1
    assert "saved over best.pt; what was there before was put back" in notes(project)
    assert "saved new.pt" in notes(project)
    assert sorted(p.name for p in project.folder.glob("*.pt*")) == ["best.pt", "new.pt"]


BEFORE_TORCH = """\
import os, shutil
open("early.txt", "w").close()
shutil.rmtree("out")
os.makedirs("out")
"""
WRITES = """
open("log.txt", "w").write("short")
for _ in range(3):
    open("log.csv", "a").write("0,1\\n")
with open("weights.bin", "r+b") as f:
    f.write(b"0000")
os.truncate("cut.bin", 3)
open("out/state.json", "w").write("{}")
for _ in range(3):  # as those do it who fear that they are killed while they write
    torch.save(model.state_dict(), "last.pt.tmp")
    os.replace("last.pt.tmp", "last.pt")
os.rename("best.pt", "best.pt.1")
torch.save({}, "best.pt")
os.rename("epochs", "epochs-before")
os.makedirs("epochs")
open("epochs/1.txt", "w").write("again")
os.remove("epochs-before/1.txt")
for name in os.listdir("by-hand"):
    os.remove(f"by-hand/{name}")
os.rmdir("by-hand")
os.remove("latest")
os.symlink("new.pt", "latest")
open("linked.txt", "w").write("through a link")
open("read.txt", "r+").close()
os.remove("gone.txt")
assert not os.path.exists("gone.txt") and not os.path.exists("by-hand"), "the script must not notice"
assert open("log.csv").read().endswith("0,1\\n0,1\\n0,1\\n")
assert open("weights.bin", "rb").read().startswith(b"0000s of training")
open("new.txt", "w").write("new")
os.rename("new.txt", "renamed.txt")
"""


def test_however_it_writes(project: Project, clipcal: Clipcal) -> None:
    names = [
        "early.txt",
        "log.txt",
        "log.csv",
        "weights.bin",
        "cut.bin",
        "out/state.json",
        "out/deep/a.pt",
        "last.pt",
        "best.pt",
        "epochs/1.txt",
        "epochs/2.txt",
        "by-hand/a.pt",
        "by-hand/b.pt",
        "gone.txt",
        "target.txt",
        "read.txt",
    ]
    before = kept(project, *names)
    (project.folder / "latest").symlink_to("best.pt")
    (project.folder / "linked.txt").symlink_to("target.txt")
    inodes = {name: (project.folder / name).stat().st_ino for name in ("log.txt", "read.txt", "last.pt", "gone.txt")}
    path = script(project, after=WRITES)
    path.write_text(BEFORE_TORCH + path.read_text())
    clipcal("profile", "train.py", "-q").ok()
    after = files(project)
    links = {"latest": before["best.pt"], "linked.txt": before["target.txt"]}
    assert {name: after.pop(name, None) for name in before | links} == before | links
    assert after == {"renamed.txt": b"new"}, "nothing else but what the script made is left"
    assert os.readlink(project.folder / "latest") == "best.pt"
    assert (project.folder / "linked.txt").is_symlink()
    assert {name: (project.folder / name).stat().st_ino for name in inodes} == inodes, "these were not copied"
    said = notes(project)
    assert "saved over" in said
    assert "took away" in said
    assert "read.txt" not in said, "it was not changed"
    assert "best.pt, from a run of a few hundred steps" not in said


def test_a_large_file_that_is_changed_in_place_is_named(project: Project, clipcal: Clipcal) -> None:
    for name in ("large.bin", "untouched.bin"):
        with (project.folder / name).open("wb") as f:
            f.truncate((64 << 20) + 1)
    script(project, after='open("large.bin", "ab").write(b"more"); open("untouched.bin", "r+b").close()')
    clipcal("profile", "train.py", "-q").ok()
    said = notes(project)
    assert "changed large.bin" in said
    assert "64 MB" in said
    assert "untouched.bin" not in said


TRAINER = """\
import sys, torch
from transformers import BertConfig, BertForSequenceClassification, Trainer, TrainingArguments

data = [{"input_ids": torch.randint(1, 40, (10,)), "labels": torch.tensor(i % 2)} for i in range(32)]
config = BertConfig(
    vocab_size=40, hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=32, num_labels=2
)
arguments = TrainingArguments(
    output_dir="results", max_steps=int(sys.argv[1]), per_device_train_batch_size=4, logging_steps=2,
    save_strategy="steps", save_steps=4, save_total_limit=1, report_to="none", use_cpu=True, disable_tqdm=True,
)
trainer = Trainer(model=BertForSequenceClassification(config), args=arguments, train_dataset=data)
trainer.train()
trainer.save_model("results/final")
trainer.save_state()
"""


def test_checkpoints_of_a_trainer(project: Project, clipcal: Clipcal, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(REAL, "1")  # safetensors is heard of when it is imported
    for package in ("transformers", "accelerate"):
        if importlib.util.find_spec(package) is None:
            pytest.skip(f"{package} is not installed")
    project.code(TRAINER, "train.py")
    before = kept(
        project,
        *(
            f"results/{folder}/{name}"
            for folder in ("checkpoint-2", "checkpoint-4", "final")
            for name in ("model.safetensors", "config.json", "trainer_state.json", "optimizer.pt", "scheduler.pt")
        ),
        "results/trainer_state.json",
    )
    clipcal("profile", "train.py", "-q", "-n", "20", "--", "8").ok()
    after = files(project)
    assert {name: after.pop(name, None) for name in before} == before
    assert not [name for name in after if "before-clipcal" in name]
    assert "results/checkpoint-8/model.safetensors" in after
    assert sorted(p.name for p in (project.folder / "results").iterdir()) == [
        "checkpoint-2",
        "checkpoint-4",
        "checkpoint-8",
        "final",
        "trainer_state.json",
    ]


def test_several_processes_at_once(project: Project, clipcal: Clipcal) -> None:
    names = [f"{kind}-{i}.txt" for kind in ("over", "moved", "more", "gone") for i in range(40)]
    before = kept(project, *names)
    script(
        project,
        after="""
import contextlib, os
child = os.fork()
for i in range(40):
    open(f"over-{i}.txt", "w").write("new")
    open(f"more-{i}.txt", "a").write("new")
    tmp = f"{os.getpid()}-{i}.tmp"
    open(tmp, "w").write("new")
    os.replace(tmp, f"moved-{i}.txt")
    with contextlib.suppress(FileNotFoundError):
        os.remove(f"gone-{i}.txt")
os.waitpid(child, 0) if child else os._exit(0)
""",
    )
    clipcal("profile", "train.py", "-q").ok()
    assert files(project) == before


WAITS = 'open(f"pid-{os.getpid()}", "w").close()\n    if step == 30: torch.save({}, "best.pt"); time.sleep(1000)'


@pytest.fixture
def waiting(project: Project) -> Project:
    """A project whose script saves over best.pt and goes on for long."""
    kept(project, "best.pt")
    path = script(project, before=WAITS)
    path.write_text("import os, time\n" + path.read_text())
    return project


def has_saved(project: Project) -> bool:
    return (project.folder / "best.pt").is_file() and not (project.folder / "best.pt").read_bytes().startswith(OLD)


def test_ctrl_c_while_it_saves(waiting: Project, environment: dict[str, str]) -> None:
    process = begin(waiting, environment, "train.py")
    wait_for(lambda: has_saved(waiting))
    process.send_signal(signal.SIGINT)
    time.sleep(0.5)  # two that come at once are one
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=60)
    assert process.returncode == 130
    assert files(waiting) == {"best.pt": OLD + b"best.pt"}


def test_what_a_killed_clipcal_leaves_is_not_lost(
    waiting: Project, environment: dict[str, str], clipcal: Clipcal
) -> None:
    process = begin(waiting, environment, "train.py")
    wait_for(lambda: has_saved(waiting))
    process.kill()
    process.communicate(timeout=60)
    wait_for(lambda: gone(waiting), 20)
    left = waiting.folder / "best.pt.before-clipcal"
    assert left.read_bytes() == OLD + b"best.pt"
    between = files(waiting)
    script(waiting, after='torch.save({"again": 1}, "best.pt")')
    clipcal("profile", "train.py", "-q", "--force").ok()
    assert files(waiting) == between
    assert "best.pt.before-clipcal" in notes(waiting)
    assert "was killed" in notes(waiting)
