"""Whatever is wrong with what a user gives: one paragraph on stderr, the right exit code, and nothing lost."""

from __future__ import annotations

import json
import math
import os
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import OURS, Clipcal, Project, rows_of, snapshot, write_trace

TRAINS = """\
model: {_target_: toy.Net}
data: {_target_: toy.batches}
loss: {_target_: torch.nn.MSELoss}
optimizer: {_target_: torch.optim.SGD, lr: 0.05}
steps: 20
device: cpu
"""


@pytest.mark.parametrize(
    ("text", "words"),
    [
        pytest.param(
            TRAINS + "stpes: 5\n", ["spec.yaml:7:1:", "unknown key 'stpes'", "Did you mean 'steps'?"], id="unknown key"
        ),
        pytest.param(
            TRAINS + "clip:\n  method: norm\n  norm_typ: 1\n",
            ["spec.yaml:9:3:", "'norm_typ'", "Did you mean 'norm_type'?"],
            id="unknown key below clip",
        ),
        pytest.param("", ["spec.yaml:1:1:", "empty", "`model`", "clipcal init"], id="empty"),
        pytest.param("# only a comment\n\n", ["spec.yaml:1:1:", "empty"], id="only a comment"),
        pytest.param("- model\n- data\n", ["spec.yaml:1:1:", "list", "`model:`"], id="a list"),
        pytest.param("just words\n", ["spec.yaml:1:1:", "text", "`model:`"], id="a word"),
        pytest.param("model:\n\t_target_: toy.Net\n", ["spec.yaml:2:1:", "tab", "spaces"], id="tab"),
        pytest.param("model:\n  _target_: toy.Net\n \tx: 1\n", ["spec.yaml:3:", "tab", "spaces"], id="space and tab"),
        pytest.param("model: {_target_: toy.Net\ndata: 1\n", ["spec.yaml:2:", "not valid YAML"], id="open brace"),
        pytest.param("model: 'toy\n", ["spec.yaml:", "not valid YAML"], id="open quote"),
        pytest.param("model: \x00\n", ["spec.yaml:1:", "not valid YAML"], id="NUL byte"),
        pytest.param("a: 1\n---\nb: 2\n", ["spec.yaml:2:1:", "not valid YAML", "document"], id="two documents"),
        pytest.param("model: !!python/name:os.system\n", ["spec.yaml:1:8:", "not valid YAML"], id="python tag"),
        pytest.param(TRAINS + "steps: 30\n", ["spec.yaml:7:1:", "'steps'", "twice"], id="key twice"),
        pytest.param(
            TRAINS.replace("lr: 0.05", "lr: 0.05, lr: 1"), ["spec.yaml:4:50:", "'lr'", "twice"], id="argument twice"
        ),
        pytest.param(TRAINS + "1: 2\n", ["spec.yaml:7:1:", "unknown key"], id="a number as key"),
        pytest.param(TRAINS + "on: 2\n", ["spec.yaml:7:1:", "unknown key"], id="a YAML 1.1 truth value as key"),
        pytest.param(
            TRAINS.replace("{_target_: toy.Net}", "&m {_target_: toy.Net, width: *m}"),
            ["spec.yaml:"],
            id="an alias of itself",
        ),
        pytest.param("data: {_target_: toy.batches}\n", ["`model` is missing", "torch.nn.Module"], id="model missing"),
        pytest.param(
            TRAINS.replace("{_target_: toy.Net}", "toy.Net"),
            ["spec.yaml:1:1:", "`model`", "{_target_: toy.Net}"],
            id="a path in place of a target",
        ),
        pytest.param(
            TRAINS.replace("_target_: toy.Net", "target: toy.Net"),
            ["spec.yaml:1:9:", "`_target_`", "where it says 'target'"],
            id="target without underscores",
        ),
        pytest.param(TRAINS.replace("{_target_: toy.Net}", ""), ["spec.yaml:1:1:", "`model`", "empty"], id="no model"),
        pytest.param(
            TRAINS + "training_step: {_target_: toy.step}\n",
            ["spec.yaml:7:1:", "`loss`", "`training_step`", "keep one"],
            id="two losses",
        ),
        pytest.param(
            TRAINS + "parallel: ddp\n", ["spec.yaml:7:1:", "`parallel: ddp`", "parallel: none"], id="parallel"
        ),
    ],
)
def test_a_spec_that_cannot_be_read_is_refused_with_its_place(
    project: Project, clipcal: Clipcal, text: str, words: list[str]
) -> None:
    spec = project.text(text)
    clipcal("profile", spec.name).refused(*words)
    assert not project.run().exists()


@pytest.mark.parametrize(
    ("key", "value", "words"),
    [
        ("steps", "many", ["'many'", "whole number"]),
        ("steps", 0, ["at least 1"]),
        ("steps", -1, ["-1", "at least 1"]),
        ("steps", 2.5, ["2.5", "whole number"]),
        ("steps", True, ["True", "whole number"]),
        ("steps", [3], ["[3]", "whole number"]),
        ("seed", -1, ["-1", "at least 0"]),
        ("seed", 10**30, ["seed"]),
        ("accumulate", 0, ["at least 1"]),
        ("device", "gpu", ["'gpu'", "auto, cpu, cuda"]),
        ("device", 0, ["0", "`device`"]),
        ("precision", "half", ["'half'", "'fp32', 'bf16' or 'fp16'"]),
        ("name", "a/b", ["'a/b'", "letters"]),
        ("name", 5, ["5", "expected text"]),
        ("clip", "norm", ["'norm'", "method, norm_type"]),
        ("clip", {"method": "nrom"}, ["`clip.method`", "'nrom'", "'norm', 'value' or 'per_tensor'"]),
        ("clip", {"norm_type": 0}, ["`clip.norm_type`", "greater than 0"]),
        ("clip", {"norm_type": math.nan}, ["`clip.norm_type`", "greater than 0"]),
        ("clip", {"norm_type": "two"}, ["`clip.norm_type`", "'two'", "expected a number"]),
        ("parallel", "dp", ["'dp'", "'none', 'ddp' or 'fsdp2'"]),
        ("optimizer", 7, ["`optimizer`", "7", "_target_"]),
        ("optimizer", {"_target_": 7}, ["7", "import path"]),
        ("optimizer", {"_target_": ".SGD"}, ["'.SGD'", "import path"]),
        ("optimizer", {"_target_": "torch.optim.SGD", "_agrs_": [1]}, ["'_agrs_'", "Did you mean '_args_'?"]),
        ("optimizer", {"_target_": "torch.optim.SGD", "_args_": 5}, ["_args_", "list"]),
        ("optimizer", {"_target_": "torch.optim.SGD", "_args_": "abc"}, ["_args_", "list"]),
    ],
)
def test_a_value_of_the_wrong_kind_is_named_with_what_was_expected(
    project: Project, clipcal: Clipcal, key: str, value: Any, words: list[str]
) -> None:
    spec = project.spec(**{key: value})
    line = 1 + next(i for i, text in enumerate(spec.read_text().splitlines()) if text.startswith(f"{key}:"))
    message = clipcal("profile", spec.name).refused(*words)
    place = re.search(r"spec\.yaml:(\d+):(\d+): ", message)
    assert place, message
    assert int(place[1]) >= line


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--device", "gpu"], ["--device", "'gpu'", "auto, cpu, cuda"]),
        (["--seed", 10**30], ["--seed"]),
    ],
)
def test_a_flag_of_the_wrong_kind_is_named_as_a_flag(
    clipcal: Clipcal, arguments: list[object], words: list[str]
) -> None:
    clipcal("profile", "spec.yaml", *arguments).refused(*words)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["profile", "spec.yaml", "--steps", 0], ["--steps", "1"]),
        (["profile", "spec.yaml", "--steps", "few"], ["--steps", "integer"]),
        (["profile", "spec.yaml", "--stepz", 3], ["--stepz", "--steps"]),
        (["profile"], ["SOURCE"]),
        (["verify", "runs/spec", "--seeds", 0], ["--seeds", "1"]),
    ],
)
def test_bad_usage_exits_with_2_and_names_the_flag(clipcal: Clipcal, arguments: list[object], words: list[str]) -> None:
    answer = clipcal(*arguments)
    assert answer.code == 2
    assert answer.stdout == ""
    for word in words:
        assert word in answer.stderr


def test_a_misspelt_file_name_is_answered_with_the_one_that_is_there(project: Project, clipcal: Clipcal) -> None:
    project.text(TRAINS, "char_lstm.yaml")
    clipcal("profile", "chra_lstm.yaml").refused("chra_lstm.yaml", "no such file", "Did you mean 'char_lstm.yaml'?")
    (project.folder / "configs").mkdir()
    project.text(TRAINS, "configs/u.yaml")
    project.text(TRAINS, "configs/small_gpt.yaml")
    clipcal("profile", "configs/smal_gpt.yaml").refused("Did you mean 'configs/small_gpt.yaml'?")
    message = clipcal("profile", "configs/nosuch.yaml").refused("configs/u.yaml", "clipcal init")
    assert "Did you mean" not in message
    clipcal("profile", "nowhere/else.yaml").refused("nowhere/else.yaml", "no such file", "clipcal init")


@pytest.mark.parametrize(
    ("source", "words"),
    [
        ("train.py", ["train.py", "nothing was recorded", "torch"]),
        ("spec.json", ["spec.json", "spec (.yaml", "clipcal init"]),
        ("folder", ["folder", "is a directory", "folder/inner.yaml"]),
        ("runs/there", ["runs/there", "run directory", "clipcal recommend runs/there"]),
        ("folder.yaml", ["folder.yaml", "cannot be read"]),
        ("latin.yaml", ["latin.yaml", "UTF-8"]),
    ],
)
@pytest.mark.parametrize("command", ["calibrate", "profile"])
def test_what_is_no_spec_is_refused_with_what_to_give_instead(
    project: Project, clipcal: Clipcal, command: str, source: str, words: list[str]
) -> None:
    project.text("print('training')\n", "train.py")
    (project.folder / "folder").mkdir()
    (project.folder / "folder" / "inner.yaml").write_text("")
    (project.folder / "runs" / "there").mkdir(parents=True)
    (project.folder / "runs" / "there" / "run.json").write_text("{}")
    (project.folder / "folder.yaml").mkdir()
    (project.folder / "latin.yaml").write_bytes("name: größe\n".encode("latin-1"))
    clipcal(command, source, "-q").refused(*words)


# What a target names


@pytest.mark.parametrize(
    ("key", "target", "words"),
    [
        ("model", {"_target_": "tou.Net"}, ["no module named 'tou'", "next to the spec", "Did you mean 'toy'?"]),
        ("model", {"_target_": "toy.Nett"}, ["`toy` has no 'Nett'", "Did you mean 'Net'?"]),
        ("model", {"_target_": "toy:Nett"}, ["`toy` has no 'Nett'", "Did you mean 'Net'?"]),
        ("model", {"_target_": "toy.Net.from_file"}, ["`toy.Net` has no 'from_file'"]),
        ("model", {"_target_": "toy"}, ["`toy`", "module", "cannot be called"]),
        ("model", {"_target_": "torch.nn"}, ["`torch.nn`", "module", "cannot be called"]),
        (
            "optimizer",
            {"_target_": "torch.optim.SDG", "lr": 1.0},
            ["`torch.optim` has no 'SDG'", "Did you mean 'SGD'?"],
        ),
        ("optimizer", {"_target_": "torch.optm.SGD", "lr": 1.0}, ["`torch` has no 'optm'", "Did you mean 'optim'?"]),
        ("loss", {"_target_": "torch.nn.MSELos"}, ["`torch.nn` has no 'MSELos'", "Did you mean 'MSELoss'?"]),
        ("loss", {"_target_": "toy.LEVEL"}, ["`toy.LEVEL`", "cannot be called"]),
        ("model", {"_target_": "toy.LEVEL"}, ["`toy.LEVEL` is an int and cannot be called"]),
        ("model", {"_target_": "toy.nothing"}, ["`model` must be a torch.nn.Module", "`toy.nothing` gave None"]),
        ("model", {"_target_": "toy.M"}, ["`model` must be a torch.nn.Module", "`toy.M` gave an M"]),
        ("loss", {"_target_": "toy.M"}, ["`toy.M` gave an M, which cannot be called"]),
        ("model", {"_target_": "toy.Sized"}, ["`toy.Sized` needs 'rows', 'columns'", "under `model`", "rows, columns"]),
        ("data", {"_target_": "torch.utils.data.DataLoader"}, ["needs 'dataset'", "Add it under `data`"]),
        (
            "model",
            {"_target_": "toy.Net", "widht": 3},
            ["`toy.Net` takes no argument 'widht'", "Did you mean 'width'?"],
        ),
        (
            "optimizer",
            {"_target_": "torch.optim.SGD", "lr": 1.0, "momentun": 0.9},
            ["takes no argument 'momentun'", "Did you mean 'momentum'?"],
        ),
        (
            "loss",
            {"_target_": "torch.nn.functional.mse_loss", "reductoin": "sum"},
            ["takes no argument 'reductoin'", "Did you mean 'reduction'?"],
        ),
        ("optimizer", {"_target_": "torch.optim.SGD", "lr": -1.0}, ["`torch.optim.SGD` refuses", "-1.0"]),
        ("optimizer", {"_target_": "torch.optim.SGD", "lr": "fast"}, ["spec.yaml:8:3: `torch.optim.SGD` refuses"]),
        (
            "optimizer",
            {"_target_": "torch.optim.SGD", "momentum": 0.9, "lr": "10,0"},
            ["spec.yaml:10:3: `torch.optim.SGD` refuses", "`lr` is '10,0', which is text", "a point", "without quotes"],
        ),
        (
            "optimizer",
            {"_target_": "torch.optim.Adam", "betas": [0.9, "0.99"]},
            ["spec.yaml:11:5: `torch.optim.Adam` refuses", "`betas.1` is '0.99', which is text"],
        ),
        (
            "scheduler",
            {"_target_": "torch.optim.lr_scheduler.LambdaLR", "lr_lambda": {"_targt_": "toy.three"}},
            ["spec.yaml:15:5: unknown key '_targt_'", "Did you mean '_target_'?"],
        ),
        (
            "model",
            {"_target_": "toy.points"},
            ["`model` must be a torch.nn.Module", "`toy.points` gave a TensorDataset"],
        ),
        ("data", {"_target_": "toy.three"}, ["`data` must be an iterable", "`toy.three` gave an int"]),
        ("data", {"_target_": "toy.one_batch"}, ["`data` must be an iterable", "`toy.one_batch` gave a dict"]),
        (
            "optimizer",
            {"_target_": "toy.plain_sgd"},
            ["`optimizer` must be a torch.optim.Optimizer", "`toy.plain_sgd` gave a function"],
        ),
        ("optimizer", {"_target_": "toy.three_of"}, ["`optimizer` must be", "gave an int"]),
        ("scheduler", {"_target_": "toy.three_of"}, ["`scheduler` must be", "gave an int"]),
        ("optimizer", {"_target_": "torch.optim.LBFGS"}, ["LBFGS", "closure", "another optimizer"]),
        ("model", {"_target_": "torch.nn.ReLU"}, ["`torch.optim.SGD` refuses", "empty parameter list"]),
    ],
)
def test_a_target_that_does_not_fit_is_refused_with_its_place_and_a_near_miss(
    project: Project, clipcal: Clipcal, key: str, target: dict[str, Any], words: list[str]
) -> None:
    project.code("""
LEVEL = 3

class Sized(nn.Module):
    def __init__(self, rows, columns, bias=True):
        super().__init__()

def three():
    return 3

def nothing():
    return None

class M:
    pass

def three_of(of):
    return 3

def one_batch():
    return {"x": torch.zeros(1)}

def plain_sgd(parameters):
    return lambda: None
""")
    project.spec(**{key: target})
    message = clipcal("profile", "spec.yaml").refused(*words)
    assert re.match(r"spec\.yaml:\d+:\d+: ", message), message


@pytest.mark.parametrize(
    ("module", "shown"),
    [
        pytest.param("import nowhere_to_be_found\n", ["nowhere_to_be_found"], id="a missing package"),
        pytest.param(
            "raise RuntimeError('the licence has run out')\n", ["the licence has run out"], id="its own error"
        ),
        pytest.param("def broken(:\n    pass\n", ["SyntaxError"], id="a syntax error"),
        pytest.param(
            "import argparse\np = argparse.ArgumentParser()\np.add_argument('--rows', required=True)\np.parse_args([])\n",
            ["--rows"],
            id="a script that reads its arguments",
        ),
        pytest.param("import sys\nsys.exit('no data, no training')\n", ["no data, no training"], id="an exit"),
    ],
)
def test_a_module_that_fails_on_import_is_shown_with_its_own_error(
    project: Project, clipcal: Clipcal, module: str, shown: list[str]
) -> None:
    file = project.code(module, "mine.py")
    project.spec(model={"_target_": "mine.Net"})
    answer = clipcal("profile", "spec.yaml")
    answer.blamed_user("spec.yaml:2:", "`mine`")
    assert str(file) in answer.stderr
    for word in shown:
        assert word in answer.stderr


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


# An existing run, and other people's files


@pytest.fixture
def recorded(project: Project, clipcal: Clipcal) -> Path:
    """A run with a recommendation and a file that is not ours."""
    clipcal("profile", "spec.yaml", "-n", 70).ok()
    clipcal("recommend", "runs/spec")
    (project.run() / "notes.txt").write_text("what I thought of it\n")
    return project.run()


@pytest.mark.parametrize("command", ["profile", "calibrate"])
def test_an_existing_run_is_not_replaced_without_force(clipcal: Clipcal, recorded: Path, command: str) -> None:
    before = snapshot(recorded)
    clipcal(command, "spec.yaml").refused("runs/spec", "70 of 70 steps", "--resume", "--force", "--out")
    assert snapshot(recorded) == before


def test_force_replaces_the_run_and_keeps_other_files(clipcal: Clipcal, recorded: Path) -> None:
    clipcal("profile", "spec.yaml", "--force", "-n", 5).ok()
    assert (recorded / "notes.txt").read_text() == "what I thought of it\n"
    assert len(rows_of(recorded / "trace.jsonl")) == 5
    assert not (recorded / "recommendation.json").exists()


@pytest.mark.parametrize(
    ("text", "code"),
    [
        (TRAINS.replace("toy.Net", "toy.Nett"), 2),
        (TRAINS.replace("toy.batches}", "toy.short, length: 0}"), 2),
        (TRAINS.replace("toy.Net", "toy.Failing"), 4),
    ],
    ids=["a wrong target", "no data", "an exception"],
)
def test_force_with_a_spec_that_does_not_train_leaves_the_old_run(
    project: Project, clipcal: Clipcal, recorded: Path, text: str, code: int
) -> None:
    project.code("class Failing(Net):\n    def forward(self, x):\n        raise ValueError('no')\n")
    project.text(text)
    before = snapshot(recorded)
    assert clipcal("profile", "spec.yaml", "--force").code == code
    assert snapshot(recorded) == before


@pytest.mark.parametrize("force", [[], ["--force"]], ids=["without force", "with force"])
def test_files_that_are_no_run_are_never_touched(project: Project, clipcal: Clipcal, force: list[str]) -> None:
    folder = project.folder / "thesis"
    (folder / "arms").mkdir(parents=True)
    for name in ("chapter.tex", "trace.jsonl", "report.html", "arms/photo.jpg"):
        (folder / name).write_text("years of work\n")
    file = project.text("a letter\n", "letter.txt")
    before = snapshot(project.folder)
    clipcal("profile", "spec.yaml", "--out", "thesis", *force).refused("thesis", "other files", "--out")
    clipcal("profile", "spec.yaml", "--out", file.name, *force).refused("letter.txt", "is a file", "--out")
    clipcal("profile", "spec.yaml", "--out", ".", *force).refused("other files", "--out")
    assert snapshot(project.folder) == before


def test_a_run_that_appears_while_training_starts_is_not_destroyed(project: Project, clipcal: Clipcal) -> None:
    """Two profiles of one spec started together: the second to write finds what the first has written."""
    clipcal("profile", "spec.yaml", "--out", "first", "-n", 70).ok()
    project.code("""
import shutil

class Slow(Net):
    def __init__(self):
        super().__init__()
        shutil.copytree("first", "runs/spec")  # the other process got there first
""")
    project.spec(model={"_target_": "toy.Slow"})
    answer = clipcal("profile", "spec.yaml")
    assert snapshot(project.run()) == snapshot(project.folder / "first")
    answer.refused("runs/spec")


@pytest.mark.parametrize("out", ["letter.txt/run", "/proc/nowhere/run", "/dev/null"])
def test_a_place_that_cannot_be_written_is_named(project: Project, clipcal: Clipcal, out: str) -> None:
    file = project.text("a letter\n", "letter.txt")
    clipcal("profile", "spec.yaml", "--out", out).refused(out, "--out")
    assert file.read_text() == "a letter\n"


def test_out_that_says_nothing_about_where_is_refused(clipcal: Clipcal) -> None:
    clipcal("profile", "spec.yaml", "--out", "").refused("--out")


# Resuming


def test_resume_without_a_run_says_so(clipcal: Clipcal) -> None:
    clipcal("profile", "spec.yaml", "--resume").refused("runs/spec", "no such run", "clipcal profile")


def test_resume_of_a_whole_run_says_what_to_do(clipcal: Clipcal, recorded: Path) -> None:
    before = snapshot(recorded)
    clipcal("profile", "spec.yaml", "--resume", "-n", 70).refused("nothing is left", "70 steps", "--steps", "recommend")
    clipcal("profile", "spec.yaml", "--resume", "-n", 30).refused("nothing is left", "70 steps")
    assert snapshot(recorded) == before


@pytest.mark.parametrize(
    "changes",
    [{"optimizer": {"_target_": "torch.optim.SGD", "lr": 0.06}}, {"seed": 4}, {"accumulate": 2}],
    ids=["rate", "seed", "accumulate"],
)
def test_resume_with_another_spec_is_refused(
    project: Project, clipcal: Clipcal, recorded: Path, changes: dict[str, Any]
) -> None:
    before = snapshot(recorded)
    project.spec(**changes)
    clipcal("profile", "spec.yaml", "--resume", "-n", 90).refused("another spec", "--out", "--force")
    assert snapshot(recorded) == before


def test_resume_with_other_code_is_refused_and_loses_nothing(
    project: Project, clipcal: Clipcal, recorded: Path
) -> None:
    before = snapshot(recorded)
    project.code("def points_of(n):\n    pass\nNet.forward = lambda self, x: self.outer(self.inner(x))\n")
    clipcal("profile", "spec.yaml", "--resume", "-n", 90).refused(
        "Step 0 does not repeat", "code or the data", "--force"
    )
    assert snapshot(recorded) == before


def test_resume_of_a_run_killed_before_its_first_line_trains_it(project: Project, clipcal: Clipcal) -> None:
    """run.json is written before the trace is there."""
    clipcal("profile", "spec.yaml", "--out", "whole").ok()
    clipcal("profile", "spec.yaml").ok()
    for name in ("trace.jsonl", "layers.f32"):
        (project.run() / name).unlink()
    answer = clipcal("profile", "spec.yaml", "--resume")
    assert answer.code in (0, 2), answer.stderr
    if answer.code == 2:
        answer.refused("runs/spec", "--force")
    else:
        assert rows_of(project.run() / "trace.jsonl") == rows_of(project.folder / "whole" / "trace.jsonl")


# Reading a run that something happened to


STEADY = [2.0 + 0.2 * math.sin(1.7 * i) for i in range(200)]


def damage(trace: Path, how: str) -> None:
    data = trace.read_bytes()
    lines = data.splitlines(keepends=True)
    other = {
        "garbage": b"\x00\xff\x00 not a line\n",
        "text": b"epoch 3 done\n",
        "a list": b"[1, 2]\n",
        "a half": lines[7][:40] + b"\n",
        "deep": b"[" * 100_000 + b"\n",
        "step too large": b'{"step": 1e400, "grad_norm": 1.0}\n',
        "step out of range": b'{"step": 1e30, "grad_norm": 1.0}\n',
        "norm too large": b'{"step": 7, "grad_norm": 1' + b"0" * 400 + b"}\n",
        "norm a word": b'{"step": 7, "grad_norm": "large"}\n',
        "norm a list": b'{"step": 7, "grad_norm": [1.0]}\n',
    }
    if how == "cut":
        trace.write_bytes(data[:-25])
    else:
        trace.write_bytes(b"".join([*lines[:7], other[how], *lines[8:]]))


@pytest.mark.parametrize(
    ("how", "said"),
    [
        ("cut", "last line of the trace was cut off"),
        *(
            (how, "ine 8 of ")
            for how in (
                "garbage",
                "text",
                "a list",
                "a half",
                "deep",
                "step too large",
                "step out of range",
                "norm too large",
                "norm a word",
                "norm a list",
            )
        ),
    ],
)
def test_a_damaged_line_is_left_out_and_said(project: Project, clipcal: Clipcal, how: str, said: str) -> None:
    trace = write_trace(project.run("t.jsonl"), STEADY)
    damage(trace, how)
    before = trace.read_bytes()
    answer = clipcal("recommend", "runs/t.jsonl", "--json").ok().json()
    assert answer["steps"] == 199
    assert said in " ".join(answer["caveats"])
    assert answer["max_norm"] == pytest.approx(
        json.loads(clipcal("recommend", steady(project), "--json").stdout)["max_norm"], rel=0.2
    )
    assert trace.read_bytes() == before


def steady(project: Project) -> Path:
    return write_trace(project.folder / "steady.jsonl", STEADY)


@pytest.mark.parametrize("where", [1, 5, 20])
def test_a_run_cut_at_any_byte_is_read(clipcal: Clipcal, recorded: Path, where: int) -> None:
    for name in ("trace.jsonl", "layers.f32"):
        data = (recorded / name).read_bytes()
        (recorded / name).write_bytes(data[:-where])
    answer = clipcal("recommend", "runs/spec", "--json")
    assert answer.code in (0, 3)
    assert answer.json()["steps"] == 69
    assert "cut off" in " ".join(answer.json()["caveats"])


RUN_JSON: dict[str, str] = {
    "half": '{"schema": "clipcal.run/1", "name": "sp',
    "empty": "",
    "a list": "[]",
    "a number": "5",
    "no schema": "{}",
    "another schema": '{"schema": "something.else/1"}',
    "no version": '{"schema": "clipcal.run"}',
    "incomplete": '{"schema": "clipcal.run/1", "name": "spec"}',
    "deep": "[" * 100_000,
}


@pytest.mark.parametrize("command", ["recommend", "verify"])
@pytest.mark.parametrize("text", RUN_JSON.values(), ids=RUN_JSON.keys())
def test_a_broken_run_json_is_named_and_the_trace_is_left(
    clipcal: Clipcal, recorded: Path, text: str, command: str
) -> None:
    (recorded / "run.json").write_text(text)
    before = snapshot(recorded)
    clipcal(command, "runs/spec").refused("runs/spec/run.json")
    clipcal("profile", "spec.yaml").refused("runs/spec", "--force")
    assert snapshot(recorded) == before


def test_the_advice_for_a_broken_run_json_works(clipcal: Clipcal, recorded: Path) -> None:
    (recorded / "run.json").write_text("{")
    message = clipcal("recommend", "runs/spec").refused("runs/spec/run.json")
    advised = re.search(r"`clipcal (recommend \S+)`", message)
    assert advised, message
    answer = clipcal(*advised[1].split(), "--json")
    assert answer.code in (0, 3), answer.stderr
    assert answer.json()["steps"] == 70


WRONG_KINDS: list[dict[str, Any]] = [
    {"source": None},
    {"source": {}},
    {"source": {"kind": "spec"}},
    {"seeds": []},
    {"seeds": None},
    {"steps": "many"},
    {"notes": None},
    {"method": 5},
]


@pytest.mark.parametrize("changes", [*WRONG_KINDS, {"status": "unheard of"}, {"norm_type": "two"}], ids=str)
def test_recommend_reads_or_refuses_a_run_json_of_wrong_kinds(
    clipcal: Clipcal, recorded: Path, changes: dict[str, Any]
) -> None:
    path = recorded / "run.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))
    answer = clipcal("recommend", "runs/spec")
    assert answer.code in (0, 2, 3), answer.stderr
    if answer.code == 2:
        answer.refused("run.json")


@pytest.mark.parametrize("changes", WRONG_KINDS[:6], ids=str)
def test_verify_refuses_a_run_json_that_it_cannot_train_from(
    clipcal: Clipcal, recorded: Path, changes: dict[str, Any]
) -> None:
    path = recorded / "run.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))
    clipcal("verify", "runs/spec", "--max-norm", 9, "--seeds", 1).refused()


@pytest.mark.parametrize("command", ["recommend", "verify"])
def test_a_run_of_a_newer_version_is_left_as_it_is(clipcal: Clipcal, recorded: Path, command: str) -> None:
    path = recorded / "run.json"
    path.write_text(path.read_text().replace("clipcal.run/1", "clipcal.run/99"))
    before = snapshot(recorded)
    clipcal(command, "runs/spec").refused("newer clipcal", "99", "pip install -U clipcal")
    assert snapshot(recorded) == before


@pytest.mark.parametrize(
    ("make", "words"),
    [
        pytest.param("folder", ["not a run directory", "run.json", "clipcal profile"], id="a folder that is no run"),
        pytest.param("nothing", ["no such run", "clipcal profile"], id="nothing"),
        pytest.param("text", ["no log that is known", "names no gradient norm", "--pattern"], id="a text file"),
        pytest.param("binary", ["no log that is known", "names no gradient norm"], id="a binary file"),
        pytest.param("empty", ["is empty", "log"], id="an empty file"),
    ],
)
@pytest.mark.parametrize("command", ["recommend", "verify"])
def test_what_is_no_run_is_refused_with_what_was_expected(
    project: Project, clipcal: Clipcal, command: str, make: str, words: list[str]
) -> None:
    path = project.folder / "it"
    contents = {"text": b"a letter\nof two lines\n", "binary": bytes(range(256)) * 9, "empty": b""}
    if make == "folder":
        path.mkdir()
        (path / "letter.txt").write_text("hello\n")
    elif make in contents:
        path.write_bytes(contents[make])
    before = snapshot(project.folder)
    clipcal(command, "it").refused("it", *words)
    assert snapshot(project.folder) == before


@pytest.mark.parametrize("name", ["runs/sepc", "spec", "run/spec"])
@pytest.mark.parametrize("command", ["recommend", "verify", "check"])
def test_a_misspelt_run_is_answered_with_the_one_that_is_there(
    clipcal: Clipcal, recorded: Path, command: str, name: str
) -> None:
    clipcal(command, name).refused(name, "no such run", "Did you mean 'runs/spec'?")


@pytest.mark.parametrize("command", ["recommend", "check"])
def test_what_is_not_there_may_have_been_a_run_or_a_log(project: Project, clipcal: Clipcal, command: str) -> None:
    clipcal(command, "nosuch").refused("nosuch: there is no such run or log", "clipcal profile")
    clipcal(command, "nosuch.log").refused("nosuch.log: there is no such run or log")
    write_trace(project.folder / "logs" / "first.jsonl", STEADY)
    clipcal(command, "logs/frist.jsonl").refused("no such run or log", "Did you mean 'logs/first.jsonl'?")
    assert "Did you mean" not in clipcal(command, "logs/other.jsonl").refused("no such run or log")


@pytest.mark.parametrize("command", ["recommend", "check"])
def test_a_part_of_a_run_is_answered_with_the_run(clipcal: Clipcal, recorded: Path, command: str) -> None:
    flags = ["--max-norm", 2] if command == "check" else []
    clipcal(command, "runs/spec/run.json", *flags).refused(
        "runs/spec/run.json: is the record of a run", "name its directory, runs/spec"
    )
    for name in ("layers.f32", "recommendation.json"):
        clipcal(command, f"runs/spec/{name}", *flags).refused(f"runs/spec/{name}: is a part of a run", "runs/spec")
    assert clipcal(command, "runs/spec/trace.jsonl", *flags).code in (0, 3)


def test_a_run_json_of_somebody_else_is_read_as_a_log(project: Project, clipcal: Clipcal) -> None:
    rows = "".join(json.dumps({"step": i, "grad_norm": n}) + "\n" for i, n in enumerate(STEADY))
    (project.folder / "other").mkdir()
    project.text(rows, "other/run.json")
    assert clipcal("recommend", "other/run.json", "--json").json()["steps"] == 200


def test_an_empty_trace_in_a_run_is_said(clipcal: Clipcal, recorded: Path) -> None:
    (recorded / "trace.jsonl").write_bytes(b"")
    clipcal("recommend", "runs/spec").refused("trace.jsonl", "holds no step")
    (recorded / "trace.jsonl").unlink()
    clipcal("recommend", "runs/spec").refused("runs/spec", "no trace", "clipcal profile")


def test_an_unknown_framework_is_answered_with_the_known_ones(clipcal: Clipcal, project: Project) -> None:
    clipcal("recommend", steady(project), "--for", "lightnin").refused("lightnin", "lightning")


# The answer is no


def test_too_few_steps_are_an_answer_and_not_a_guess(project: Project, clipcal: Clipcal) -> None:
    clipcal("profile", "spec.yaml", "-n", 5).ok()
    answer = clipcal("recommend", "runs/spec", "--json")
    assert answer.code == 3
    assert answer.json()["verdict"] == "insufficient"
    assert answer.json()["max_norm"] is None
    clipcal("recommend", "runs/spec", "--for", "pytorch").saying_no("no threshold", "5")


def test_verify_without_a_threshold_says_so_and_trains_nothing(project: Project, clipcal: Clipcal) -> None:
    clipcal("profile", "spec.yaml", "-n", 5).ok()
    clipcal("verify", "runs/spec").saying_no("nothing to verify", "--max-norm")
    answer = clipcal("verify", "runs/spec", "--json")
    assert answer.code == 3
    assert answer.json()["verdict"] is None
    assert answer.json()["arms"] == []
    assert answer.json()["reasons"]
    assert not (project.run() / "arms").exists()


def test_a_trace_by_itself_cannot_be_verified(project: Project, clipcal: Clipcal) -> None:
    clipcal("verify", steady(project)).refused("steady.jsonl", "cannot be trained again", "run directory")


@pytest.mark.parametrize("value", ["0", "-1", "nan", "inf"])
def test_a_threshold_that_is_none_is_refused(clipcal: Clipcal, recorded: Path, value: str) -> None:
    clipcal("verify", "runs/spec", "--max-norm", value).refused("--max-norm", "greater than 0")


def test_our_own_frames_can_be_told_from_the_users() -> None:
    """The checks above look for this folder; it has to be where clipcal is."""
    assert os.path.isfile(f"{OURS}errors.py")
