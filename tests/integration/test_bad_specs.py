"""What is wrong with a spec, a flag or a file's name: one paragraph on stderr, with its place and a near miss."""

from __future__ import annotations

import math
import re
from typing import Any

import pytest
from conftest import Clipcal, Project

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
