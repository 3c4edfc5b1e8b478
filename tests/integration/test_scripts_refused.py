"""What a script cannot be watched at, said in a paragraph; and what was found out about those that can."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import pytest
from conftest import Clipcal, Project, rows_of
from nursery import PYTHON, REAL

from clipcal.run.directory import open_run
from clipcal.run.layers import read_layers
from clipcal.run.source import ScriptSource

LOOP = """\
import sys, torch
from torch import nn

torch.manual_seed(0)
model = nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 1))
optimizer = torch.optim.SGD(model.parameters(), lr=0.05)
for step in range(40):
    x = torch.randn(8, 4)
    optimizer.zero_grad()
    loss = nn.functional.mse_loss(model(x), x.sum(1, keepdim=True))
    loss.backward()
    {before}
    optimizer.step()
{after}
"""


def script(project: Project, before: str = "pass", after: str = "", name: str = "train.py") -> Path:
    return project.code(LOOP.format(before=before, after=after), name)


def notes(project: Project, name: str = "train") -> str:
    return " | ".join(open_run(project.run(name)).info.notes)


def test_not_there(project: Project, clipcal: Clipcal) -> None:
    script(project)
    clipcal("profile", "trian.py").refused("trian.py", "no such script", "'train.py'")
    clipcal("profile", "nothing-of-the-kind").refused("no such spec, script or command", "clipcal profile train.py -- ")
    clipcal("profile", "train.py", "--device", "cpu").refused("--device", "after --")
    clipcal("profile", "spec.yaml", "--scratch").refused("--scratch", "script")
    clipcal("profile", "spec.yaml", "--", "--lr", "1").refused("takes no arguments", "--lr")
    assert not (project.folder / "runs").exists()


@pytest.mark.parametrize("flag", ["-I", "-sE"])
def test_isolated_python(project: Project, clipcal: Clipcal, flag: str) -> None:
    script(project)
    clipcal("profile", "--", sys.executable, flag, "train.py").refused(
        "keeps Python from reading its environment", "clipcal.watch"
    )


def test_python_behind_a_shell_that_hides_it(project: Project, clipcal: Clipcal) -> None:
    script(project)
    project.code(f"env -u PYTHONPATH {PYTHON} train.py\n", "go.sh")
    clipcal("profile", "go.sh").refused("go.sh", "`clipcal profile -- bash go.sh`")
    clipcal("profile", "--", "bash", "go.sh", "-q").refused("no Python process", "resets PYTHONPATH")


def test_nothing_that_trains(project: Project, clipcal: Clipcal, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(REAL, "1")  # what is forked has torch
    project.code("print(1)\n", "empty.py")
    clipcal("profile", "empty.py", "-q").refused("nothing was recorded", "imported torch")
    project.code("import torch\n", "idle.py")
    clipcal("profile", "idle.py", "-q").refused("no torch optimizer made a step", "clipcal recommend")
    assert not (project.folder / "runs").exists()


def test_optimizer_in_the_backward_pass(project: Project, clipcal: Clipcal) -> None:
    project.code(
        """\
import torch
from torch import nn
model = nn.Linear(4, 1)
optimizers = {p: torch.optim.SGD([p], lr=0.1) for p in model.parameters()}
for p in model.parameters():
    p.register_post_accumulate_grad_hook(lambda p: optimizers[p].step())
for _ in range(20):
    model(torch.randn(8, 4)).pow(2).mean().backward()
""",
        "fused.py",
    )
    clipcal("profile", "fused.py", "-q").refused("inside the backward pass", "Step after loss.backward()")


def test_deepspeed(project: Project, clipcal: Clipcal) -> None:
    """It has no build for this machine: a class of its name stands in, as the living model by which it is told."""
    text = LOOP.format(before="pass", after="").replace(
        "optimizer = ", "class DeepSpeedEngine(nn.Sequential): pass\nmodel = DeepSpeedEngine(model)\noptimizer = "
    )
    project.code(text, "train.py")
    clipcal("profile", "train.py", "-q").refused(
        "DeepSpeed clips inside its engine", "get_global_grad_norm", "clipcal recommend"
    )


OTHER_TORCH = """\
from importlib.machinery import SourceFileLoader
execute = SourceFileLoader.exec_module
def exec_module(self, module):
    execute(self, module)
    if module.__name__ == "torch":
        module.nn.utils.clip_grad.clip_grad_value_ = lambda parameters, clip_value: None
SourceFileLoader.exec_module = exec_module
"""


def test_a_torch_that_looks_otherwise_inside(
    project: Project, clipcal: Clipcal, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(REAL, "1")  # it is changed when it is imported
    project.code(OTHER_TORCH, "own/sitecustomize.py")
    monkeypatch.setenv("PYTHONPATH", str(project.folder / "own"))
    project.code('import torch\nopen("trained", "w").close()\n', "train.py")
    clipcal("profile", "train.py", "-q").refused(
        "looks otherwise inside",
        "torch.nn.utils.clip_grad.clip_grad_value_ has no closure cell `func`",
        "Install torch",
    )
    assert not (project.folder / "trained").exists()
    assert not (project.folder / "runs").exists()


BY_HAND = {
    "scaled": """
    total = torch.norm(torch.stack([p.grad.norm() for p in model.parameters()]))
    if total > 0.5:
        for p in model.parameters():
            p.grad.data.mul_(0.5 / (total + 1e-6))""",
    "clamped": """
    for p in model.parameters():
        p.grad.data.clamp_(-0.1, 0.1)""",
}


@pytest.mark.parametrize("how", BY_HAND)
def test_clipping_by_hand(project: Project, clipcal: Clipcal, how: str) -> None:
    script(project, BY_HAND[how])
    clipcal("profile", "train.py", "-q").refused("scales its gradients by hand", "clip_grad_norm_")
    assert not (project.folder / "runs").exists()


def test_a_mean_taken_by_hand_is_no_clipping(project: Project, clipcal: Clipcal) -> None:
    script(project, "for p in model.parameters(): p.grad /= 4")
    clipcal("profile", "train.py", "-q").ok()
    assert len(rows_of(project.run("train") / "trace.jsonl")) == 40


def test_own_clipping_is_reported(project: Project, clipcal: Clipcal) -> None:
    path = script(project, "nn.utils.clip_grad_norm_(model.parameters(), 1.5)")
    line = 1 + path.read_text().splitlines().index("    nn.utils.clip_grad_norm_(model.parameters(), 1.5)")
    clipcal("profile", "train.py", "-q").ok()
    norms = np.array([row["grad_norm"] for row in rows_of(project.run("train") / "trace.jsonl")])
    share = round(100 * float((norms > 1.5).mean()))
    assert 0 < share < 100
    assert f"train.py:{line} clips at 1.5" in notes(project)
    assert f"would have acted on {share}% of these steps" in notes(project)
    # the threshold in use is known, so that nobody has to say it again
    assert clipcal("check", "runs/train", "--json").json()["max_norm"] == 1.5


TWO = """\
import torch
from torch import nn
torch.manual_seed(0)
small, large = nn.Linear(4, 1), nn.Linear(4, 50)
first = torch.optim.SGD(small.parameters(), lr=0.01)
second = torch.optim.Adam(large.parameters(), lr=0.01)
for step in range(20):
    x = torch.randn(8, 4)
    for model, optimizer in ((small, first), (large, second)):
        optimizer.zero_grad()
        model(x).pow(2).mean().backward()
        optimizer.step()
"""


def test_several_optimizers(project: Project, clipcal: Clipcal) -> None:
    project.code(TWO, "two.py")
    clipcal("profile", "two.py", "-q").ok()
    assert "1 SGD (5 parameters, 20 steps); 2 Adam (250 parameters, 20 steps). Recorded is 2" in notes(project, "two")
    assert read_layers(project.run("two") / "layers.f32").norms.shape == (20, 2)
    assert open_run(project.run("two")).info.num_parameters == 250
    clipcal("profile", "two.py", "--optimizer", "sgd", "--force", "-q").ok()
    assert open_run(project.run("two")).info.num_parameters == 5
    clipcal("profile", "two.py", "--optimizer", "3", "--force", "-q").refused(
        "no optimizer 3", "1 SGD", "2 Adam", "--optimizer"
    )


def test_a_script_that_does_not_repeat(project: Project, clipcal: Clipcal) -> None:
    script(project, "pass").write_text(
        "import os\n"
        + LOOP.format(before="pass", after="").replace(
            "manual_seed(0)", "manual_seed(int.from_bytes(os.urandom(4), 'big'))"
        )
    )
    clipcal("profile", "train.py", "-q").ok()
    clipcal("verify", "runs/train", "--max-norm", "1", "-q").refused("does not repeat", "seeds")


def test_seeds_that_make_no_difference(project: Project, clipcal: Clipcal) -> None:
    text = LOOP.format(before="pass", after="")
    text = text.replace("torch.manual_seed(0)", "g = torch.Generator().manual_seed(int(sys.argv[1]))")
    text = text.replace("torch.randn(8, 4)", "torch.randn(8, 4, generator=g)").replace(
        "optimizer = ", "[nn.init.normal_(p, generator=g) for p in model.parameters()]\noptimizer = "
    )
    project.code(text, "train.py")
    clipcal("profile", "train.py", "-q", "--", "0").ok()
    clipcal("verify", "runs/train", "--max-norm", "1", "--seeds", "2", "-q").refused(
        "trains the same with seed 1", "{seed}"
    )
    clipcal("profile", "train.py", "-q", "--force", "--", "{seed}").ok()
    answer = clipcal("verify", "runs/train", "--max-norm", "50", "--seeds", "2", "--json", "-q").json()
    assert len({arm["final_loss"] for arm in answer["arms"] if arm["max_norm"] is None}) == 2


def test_another_seed_is_another_training_and_the_same_each_time(project: Project, clipcal: Clipcal) -> None:
    script(project)
    norms = []
    for seed in ("0", "1", "1"):
        clipcal("profile", "train.py", "-q", "--force", "--seed", seed).ok()
        norms.append([row["grad_norm"] for row in rows_of(project.run("train") / "trace.jsonl")])
    assert norms[0] != norms[1]
    assert norms[1] == norms[2]


def test_a_scratch_directory(project: Project, clipcal: Clipcal) -> None:
    script(
        project, after='open("notes.txt", "w").write("x"); print(open(sys.argv[1]).read(), file=open(sys.argv[2], "w"))'
    )
    (project.folder / "data").mkdir()
    (project.folder / "data" / "in.txt").write_text("here")
    before = sorted(project.folder.iterdir())
    seen = project.folder / "data" / "out.txt"
    clipcal("profile", "train.py", "--scratch", "-q", "--", "data/in.txt", str(seen)).ok()
    assert seen.read_text() == "here\n"
    assert sorted(p for p in project.folder.iterdir() if p.name != "runs") == before


def test_trackers_are_off_unless_wanted(project: Project, clipcal: Clipcal) -> None:
    script(project, after='import json, os; json.dump(dict(os.environ), open("env.json", "w"))')
    seen = []
    for more in ((), ("--trackers",)):
        clipcal("profile", "train.py", "-q", "--force", *more).ok()
        written = project.folder / "env.json"
        seen.append(json.loads(written.read_text()))
        written.unlink()  # or it would be put back after the second run
    assert seen[0]["WANDB_MODE"] == "disabled"
    assert seen[0]["HF_HUB_OFFLINE"] == "1"
    assert "WANDB_MODE" not in seen[1]


def test_a_sitecustomize_that_is_there_is_loaded_too(
    project: Project, clipcal: Clipcal, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = project.folder / "own"
    own.mkdir()
    (own / "sitecustomize.py").write_text("import os; os.environ['OWN_SITE'] = 'loaded'\n")
    monkeypatch.setenv("PYTHONPATH", str(own))
    script(project, after='import os; open("seen", "w").write(os.environ["OWN_SITE"])')
    clipcal("profile", "train.py", "-q").ok()
    assert (project.folder / "seen").read_text() == "loaded"


@pytest.mark.parametrize("launch", ["module", "shell"])
def test_any_command_line(project: Project, clipcal: Clipcal, launch: str) -> None:
    script(project, name="pkg/train.py")
    project.code("", "pkg/__init__.py")
    project.code(f"set -e\necho begin\n{PYTHON} pkg/train.py\n", "go.sh")
    words = {"module": (sys.executable, "-m", "pkg.train"), "shell": ("bash", "go.sh")}[launch]
    clipcal("profile", "-n", "15", "-o", "runs/any", "-q", "--", *words).ok()
    run = open_run(project.run("any"))
    assert isinstance(run.info.source, ScriptSource)
    assert run.info.source.words == words
    assert len(rows_of(run.trace)) == 15
    if launch == "shell":  # nothing has to be said twice
        arms = clipcal("verify", "runs/any", "--max-norm", "0.5", "--seeds", "1", "--json", "-q").json()["arms"]
        assert {arm["steps"] for arm in arms} == {15}
        assert len(arms) > 1
