"""What cannot be trained, and what the user's code raises or prints: the cause, the right exit code, and nothing lost."""

from __future__ import annotations

import json
import math
import os
import subprocess
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import OURS, Clipcal, Project, rows_of, write_trace

# What training meets


@pytest.mark.parametrize(
    ("code", "changes", "words"),
    [
        pytest.param(
            "def triples():\n    while True:\n        yield torch.zeros(2, 4), torch.zeros(2, 1), torch.ones(2)\n",
            {"data": {"_target_": "toy.triples"}},
            ["spec.yaml:5:1:", "(inputs, target)", "a tuple of 3", "training_step"],
            id="batches of three",
        ),
        pytest.param(
            "def lone():\n    while True:\n        yield torch.zeros(2, 4)\n",
            {"data": {"_target_": "toy.lone"}},
            ["(inputs, target)", "a Tensor", "training_step"],
            id="batches of one tensor",
        ),
        pytest.param(
            "def named():\n    while True:\n        yield {'x': torch.zeros(2, 4), 'y': torch.zeros(2, 1)}\n",
            {"data": {"_target_": "toy.named"}},
            ["(inputs, target)", "a mapping with x, y"],
            id="batches of names",
        ),
        pytest.param("", {"loss": None}, ["`loss`", "`training_step`", "model(**batch).loss"], id="no loss at all"),
        pytest.param(
            "class Named(Net):\n    def forward(self, x):\n        return super().forward(x)\n"
            "def named():\n    while True:\n        yield {'x': torch.zeros(2, 4)}\n",
            {"loss": None, "model": {"_target_": "toy.Named"}, "data": {"_target_": "toy.named"}},
            ["without a loss", "labels", "it has x"],
            id="a model without a loss",
        ),
        pytest.param(
            "",
            {"loss": {"_target_": "torch.nn.MSELoss", "reduction": "none"}},
            ["spec.yaml:2:3: ", "`toy.Net` and `torch.nn.MSELoss`", "the loss has shape (8, 1) at step 0", "mean"],
            id="a loss per element",
        ),
        pytest.param(
            "def step(model, batch):\n    return None\n",
            {"loss": None, "training_step": {"_target_": "toy.step"}},
            ["spec.yaml:11:3: training_step `toy.step`: the loss is None at step 0", "scalar tensor"],
            id="no loss returned",
        ),
        pytest.param(
            "def step(model, batch):\n    return model(batch[0]).mean().item()\n",
            {"loss": None, "training_step": {"_target_": "toy.step"}},
            ["training_step `toy.step`: the loss is a float at step 0", "scalar tensor"],
            id="a number",
        ),
        pytest.param(
            "def step(model, batch):\n    return model(batch[0]).mean(), 1\n",
            {"loss": None, "training_step": {"_target_": "toy.step"}},
            ["training_step `toy.step`: the loss is a tuple at step 0", "scalar tensor"],
            id="a pair",
        ),
        pytest.param(
            "def step(model, batch):\n    return model(batch[0]).mean().detach()\n",
            {"loss": None, "training_step": {"_target_": "toy.step"}},
            ["training_step `toy.step`: the loss has no gradient", ".detach()"],
            id="a detached loss",
        ),
        pytest.param(
            "def step(model, batch):\n    loss = model(batch[0]).mean()\n    loss.backward()\n    return loss\n",
            {"loss": None, "training_step": {"_target_": "toy.step"}},
            ["spec.yaml:11:3: training_step `toy.step`: clipcal calls backward itself", "without calling .backward()"],
            id="a backward pass of its own",
        ),
        pytest.param(
            "def step(model, batch):\n    loss = model(batch[0]).square().mean()\n    loss.backward()\n    return loss.item()\n",
            {"loss": None, "training_step": {"_target_": "toy.step"}},
            ["training_step `toy.step`: clipcal calls backward itself", "without calling .backward()"],
            id="a backward pass of its own and a number",
        ),
        pytest.param(
            "class Frozen(Net):\n    def __init__(self):\n        super().__init__()\n        self.requires_grad_(False)\n",
            {"model": {"_target_": "toy.Frozen"}},
            ["has no gradient", "frozen"],
            id="all frozen",
        ),
        pytest.param(
            "free = torch.ones(1, requires_grad=True)\ndef step(model, batch):\n    return (free * 2).sum()\n",
            {"loss": None, "training_step": {"_target_": "toy.step"}},
            ["None of the optimizer's 4 parameter tensors got a gradient", "does not depend"],
            id="no parameter in the loss",
        ),
        pytest.param(
            "def other(params):\n    return torch.optim.SGD(Net().parameters(), lr=1.0)\n",
            {"optimizer": {"_target_": "toy.other"}},
            ["None of the optimizer's", "inner.weight", "another model"],
            id="the optimizer of another model",
        ),
        pytest.param(
            "",
            {"data": {"_target_": "toy.short", "length": 0}},
            ["data is empty", "no batch"],
            id="a generator of nothing",
        ),
        pytest.param(
            "",
            {
                "data": {
                    "_target_": "torch.utils.data.DataLoader",
                    "dataset": {"_target_": "toy.points", "n": 5},
                    "batch_size": 8,
                    "drop_last": True,
                }
            },
            ["data is empty", "drop_last"],
            id="a loader of nothing",
        ),
        pytest.param(
            "once = short()\ndef same():\n    return once\n",
            {"data": {"_target_": "toy.same"}},
            ["ended after 1 pass", "nothing when started again", "--steps"],
            id="one generator for ever",
        ),
        pytest.param(
            "",
            {"data": {"_target_": "toy.batches", "batch_size": 0}},
            ["not finite from the first step", "first batch has no element in batch[0], of shape (0, 4)", "batch_size"],
            id="batches of nothing",
        ),
        pytest.param(
            "def spoilt(seed=0):\n    for x, y in batches():\n        x[0, 0] = float('nan')\n        yield x, y\n",
            {"data": {"_target_": "toy.spoilt"}},
            ["not finite from the first step", "first batch holds 1 non-finite value", "(8, 4)", "clean the data"],
            id="NaN in the data",
        ),
        pytest.param(
            "class Spoilt(Net):\n    def __init__(self):\n        super().__init__()\n"
            "        nn.init.constant_(self.inner.bias, float('nan'))\n",
            {"model": {"_target_": "toy.Spoilt"}},
            ["not finite from the first step", "initial weights of inner.bias"],
            id="NaN in the weights",
        ),
        pytest.param(
            "def step(model, batch):\n    return model(batch[0]).mean() * 0 + (torch.zeros(()).log())\n",
            {"loss": None, "training_step": {"_target_": "toy.step"}},
            ["not finite from the first step", "Data and initial weights are finite", "log"],
            id="NaN made by the loss",
        ),
    ],
)
def test_what_cannot_be_trained_on_is_refused_with_the_cause(
    project: Project, clipcal: Clipcal, code: str, changes: dict[str, Any], words: list[str]
) -> None:
    project.code(code)
    project.spec(**changes)
    clipcal("profile", "spec.yaml").refused(*words)


def test_parameters_that_never_get_a_gradient_are_a_note_and_no_error(project: Project, clipcal: Clipcal) -> None:
    project.code("""
class Spare(Net):
    def __init__(self):
        super().__init__()
        self.spare = nn.Linear(3, 3)
""")
    project.spec(model={"_target_": "toy.Spare"})
    answer = clipcal("profile", "spec.yaml").ok()
    assert "2 of 6 parameter tensors never got a gradient (spare.weight, spare.bias)" in answer.stderr
    assert len(rows_of(project.run() / "trace.jsonl")) == 20


def test_parameters_that_the_optimizer_does_not_have_are_a_note_and_no_error(
    project: Project, clipcal: Clipcal
) -> None:
    project.code("def head_only(model, lr):\n    return torch.optim.SGD(model.outer.parameters(), lr=lr)\n")
    project.spec(optimizer={"_target_": "toy.head_only", "lr": 0.1})
    answer = clipcal("profile", "spec.yaml").ok()
    assert "2 parameter tensors of the model are not in the optimizer (inner.weight" in answer.stderr


@pytest.mark.parametrize(
    "data",
    [
        {"_target_": "toy.short", "length": 3},
        {
            "_target_": "torch.utils.data.DataLoader",
            "dataset": {"_target_": "toy.points", "n": 24},
            "batch_size": 8,
        },
    ],
    ids=["a generator", "a loader"],
)
def test_data_that_ends_early_is_started_again_and_said(
    project: Project, clipcal: Clipcal, data: dict[str, Any]
) -> None:
    project.spec(data=data, optimizer={"_target_": "torch.optim.SGD", "lr": 0.0}, steps=7)
    answer = clipcal("profile", "spec.yaml").ok()
    assert "the data ended after 3 batches and was started again" in answer.stderr
    norms = [row["grad_norm"] for row in rows_of(project.run() / "trace.jsonl")]
    assert norms == [norms[0], norms[1], norms[2]] * 2 + [norms[0]]  # the weights stay, so the batches show


@pytest.mark.skipif(torch.cuda.is_available(), reason="for a machine without CUDA")
@pytest.mark.parametrize("device", ["cuda", "cuda:1", "mps"])
def test_a_device_that_is_not_there_is_refused_and_the_cpu_named(clipcal: Clipcal, device: str) -> None:
    clipcal("profile", "spec.yaml", "--device", device).refused(repr(device), "no such device", "--device cpu")


@pytest.mark.parametrize(
    ("code", "changes", "words", "line"),
    [
        pytest.param(
            "class Failing(Net):\n    def forward(self, x):\n        raise ValueError('shapes do not fit')\n",
            {"model": {"_target_": "toy.Failing"}},
            [
                "spec.yaml:2:3: the forward pass of `toy.Failing` and `torch.nn.MSELoss` raised ValueError at step 0: "
                "shapes do not fit"
            ],
            "raise ValueError('shapes do not fit')",
            id="in forward",
        ),
        pytest.param(
            "calls = []\ndef step(model, batch):\n    calls.append(1)\n    if len(calls) > 5:\n        raise ValueError('no')\n"
            "    return model(batch[0]).mean()\n",
            {"loss": None, "training_step": {"_target_": "toy.step"}},
            ["spec.yaml:11:3: training_step `toy.step` raised ValueError at step 5: no"],
            "raise ValueError('no')",
            id="in a training step",
        ),
        pytest.param(
            "kept = []\ndef step(model, batch):\n    kept.append(model(batch[0]).square().mean())\n    return sum(kept)\n",
            {"loss": None, "training_step": {"_target_": "toy.step"}},
            ["The backward pass raised RuntimeError at step 1: ", "without calling .backward()", ".detach()"],
            None,
            id="a graph that is kept",
        ),
        pytest.param(
            "class Named(Net):\n    def forward(self, x):\n        raise ValueError('no labels')\n"
            "def named():\n    while True:\n        yield {'x': torch.zeros(2, 4)}\n",
            {"loss": None, "model": {"_target_": "toy.Named"}, "data": {"_target_": "toy.named"}},
            ["spec.yaml:2:3: the forward pass of `toy.Named` raised ValueError at step 0: no labels"],
            "raise ValueError('no labels')",
            id="in a model that gives its loss",
        ),
        pytest.param(
            "def failing():\n    yield from short(2)\n    raise OSError('shard 3 is gone')\n",
            {"data": {"_target_": "toy.failing"}},
            ["The data raised OSError: shard 3 is gone"],
            "raise OSError('shard 3 is gone')",
            id="in a generator",
        ),
        pytest.param(
            "class Rows(torch.utils.data.Dataset):\n    def __len__(self):\n        return 9\n"
            "    def __getitem__(self, i):\n        return {}['row']\n",
            {"data": {"_target_": "torch.utils.data.DataLoader", "dataset": {"_target_": "toy.Rows"}}},
            ["The data raised KeyError: 'row'"],
            "return {}['row']",
            id="in a dataset",
        ),
        pytest.param(
            "class Failing(torch.optim.SGD):\n    def step(self, closure=None):\n        return 1 / 0\n",
            {"optimizer": {"_target_": "toy.Failing", "lr": 0.1}},
            ["optimizer.step raised ZeroDivisionError at step 0"],
            "return 1 / 0",
            id="in the optimizer",
        ),
        pytest.param(
            "class Failing(nn.MSELoss):\n    def forward(self, a, b):\n        return super().forward(a, b[0, 0, 0])\n",
            {"loss": {"_target_": "toy.Failing"}},
            ["the forward pass of `toy.Net` and `toy.Failing` raised IndexError at step 0"],
            "super().forward(a, b[0, 0, 0])",
            id="in the loss",
        ),
        pytest.param(
            "class Failing(Net):\n    def __init__(self):\n        super().__init__()\n        self.inner = nn.Linear(4, 'many')\n",
            {"model": {"_target_": "toy.Failing"}},
            ["spec.yaml:2:", "`toy.Failing` raised TypeError while it was built"],
            "nn.Linear(4, 'many')",
            id="in the model's constructor",
        ),
        pytest.param(
            "class Failing:\n    def __init__(self, optimizer):\n        pass\n    def step(self):\n        raise ValueError('past the end')\n",
            {"scheduler": {"_target_": "toy.Failing"}},
            ["scheduler.step raised ValueError at step 0: past the end"],
            "raise ValueError('past the end')",
            id="in the scheduler",
        ),
        pytest.param(
            "class Failing(Net):\n    def forward(self, x):\n        raise SystemExit('out of licences')\n",
            {"model": {"_target_": "toy.Failing"}},
            ["the forward pass of `toy.Failing`", "raised SystemExit at step 0: out of licences"],
            "raise SystemExit('out of licences')",
            id="an exit in forward",
        ),
        pytest.param(
            "class Failing(Net):\n    def __init__(self):\n        raise SystemExit(0)\n",
            {"model": {"_target_": "toy.Failing"}},
            ["`toy.Failing` raised SystemExit"],
            "raise SystemExit(0)",
            id="an exit in a constructor",
        ),
        pytest.param(
            "class Twice(torch.autograd.Function):\n"
            "    @staticmethod\n    def forward(ctx, x):\n        return x * 1\n"
            "    @staticmethod\n    def backward(ctx, g):\n        raise ValueError('no way back')\n"
            "class Failing(Net):\n    def forward(self, x):\n        return Twice.apply(super().forward(x))\n",
            {"model": {"_target_": "toy.Failing"}},
            ["The backward pass raised ValueError at step 0: no way back"],
            "raise ValueError('no way back')",
            id="in backward",
        ),
    ],
)
def test_what_the_users_code_raises_is_shown_with_the_users_line_alone(
    project: Project, clipcal: Clipcal, code: str, changes: dict[str, Any], words: list[str], line: str | None
) -> None:
    file = project.code(code)
    project.spec(**changes)
    clipcal("profile", "spec.yaml").blamed_user(*words, file=file if line else None, line=line)


def test_what_the_users_code_raises_in_a_loader_worker_is_shown(project: Project, clipcal_process: Clipcal) -> None:
    project.code("""
class Rows(torch.utils.data.Dataset):
    def __len__(self):
        return 9
    def __getitem__(self, i):
        raise OSError('row %d is gone' % i)
""")
    loader = {"_target_": "torch.utils.data.DataLoader", "dataset": {"_target_": "toy.Rows"}, "num_workers": 1}
    project.spec(data=loader)
    clipcal_process("profile", "spec.yaml").blamed_user("The data raised OSError", line="row 0 is gone")


def test_steps_before_the_users_code_failed_are_kept_and_read(project: Project, clipcal: Clipcal) -> None:
    project.code("""
class Failing(Net):
    calls = 0
    def forward(self, x):
        self.calls += 1
        if self.calls > 60:
            raise ValueError('enough')
        return super().forward(x)
""")
    project.spec(model={"_target_": "toy.Failing"}, steps=200)
    clipcal("profile", "spec.yaml").blamed_user("enough")
    run = project.run()
    info = json.loads((run / "run.json").read_text())
    assert info["status"] == "failed"
    assert "enough" in info["reason"]
    assert len(rows_of(run / "trace.jsonl")) == 60
    answer = clipcal("recommend", "runs/spec", "--json")
    assert answer.code in (0, 3)
    assert "failed after 60 of 200 steps" in " ".join(answer.json()["caveats"])


def test_an_exit_in_the_users_code_is_never_taken_for_success(project: Project, clipcal: Clipcal) -> None:
    project.code("""
class Leaving(Net):
    calls = 0
    def forward(self, x):
        self.calls += 1
        if self.calls > 5:
            raise SystemExit(0)
        return super().forward(x)
""")
    project.spec(model={"_target_": "toy.Leaving"})
    answer = clipcal("profile", "spec.yaml")
    assert answer.code == 4, f"exit {answer.code}\n{answer.stdout}\n{answer.stderr}"
    assert json.loads((project.run() / "run.json").read_text())["status"] == "failed"


@pytest.mark.parametrize(
    ("code", "changes"),
    [
        (
            "def far():\n    while True:\n        yield torch.zeros(2, 4, device='meta'), torch.zeros(2, 1, device='meta')\n",
            {"data": {"_target_": "toy.far"}},
        ),
        (
            "class Far(Net):\n    def forward(self, x):\n        return super().forward(x) + torch.ones(8, 1, device='meta')\n",
            {"model": {"_target_": "toy.Far"}},
        ),
        (
            "class Far(Net):\n    def __init__(self):\n        super().__init__()\n        self.inner = nn.Linear(4, 8, device='meta')\n",
            {"model": {"_target_": "toy.Far"}},
        ),
    ],
    ids=["the data", "a constant of the model", "the model"],
)
def test_a_tensor_on_another_device_is_explained(
    project: Project, clipcal: Clipcal, code: str, changes: dict[str, Any]
) -> None:
    project.code(code)
    project.spec(**changes)
    clipcal("profile", "spec.yaml").blamed_user("device")


# stdout


def test_what_the_users_code_prints_never_reaches_stdout(project: Project, clipcal_process: Clipcal) -> None:
    project.code("""
import os, subprocess, sys
print("from the import")
print("through the first stdout", file=sys.__stdout__)

class Talking(Net):
    def forward(self, x):
        print("from forward")
        os.write(1, b"from the descriptor\\n")
        subprocess.run(["echo", "from a child"])
        print("through the first stdout", file=sys.__stdout__)
        return super().forward(x)
""")
    project.spec(model={"_target_": "toy.Talking"}, steps=2)
    answer = clipcal_process("profile", "spec.yaml", "--json").ok()
    assert answer.json()["steps"] == 2
    for words in ("from the import", "from forward", "from the descriptor", "from a child"):
        assert words in answer.stderr


def test_what_the_arms_print_never_reaches_stdout(project: Project, clipcal: Clipcal, clipcal_process: Clipcal) -> None:
    """In a process of its own: workers here are forked from one that an earlier test may have started, with its stderr."""
    project.code("import os\nprint('from the import')\nos.write(1, b'from the descriptor\\n')\n")
    clipcal("profile", "spec.yaml").ok()
    answer = clipcal_process("verify", "runs/spec", "--max-norm", 2, "--seeds", 1, "--json")
    assert answer.code in (0, 3)
    assert answer.json()["schema"] == "clipcal.verification/1"
    assert "from the import" in answer.stderr
    assert "from the descriptor" in answer.stderr


def test_a_full_device_behind_stdout_is_no_success(project: Project, clipcal_process: Clipcal) -> None:
    if not Path("/dev/full").exists():
        pytest.skip("no /dev/full here")
    write_trace(project.run("t.jsonl"), [1.0 + 0.1 * math.sin(i) for i in range(200)])
    with open("/dev/full", "w") as full:
        answer = clipcal_process("recommend", "runs/t.jsonl", capture_output=False, stdout=full, stderr=subprocess.PIPE)
    assert answer.code != 0


def test_our_own_frames_can_be_told_from_the_users() -> None:
    """The checks above look for this folder; it has to be where clipcal is."""
    assert os.path.isfile(f"{OURS}errors.py")
