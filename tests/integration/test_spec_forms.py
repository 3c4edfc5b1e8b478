"""Every way to say what to train: each trains, and trains the thing that was said."""

from __future__ import annotations

import json
import math
import re
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import Clipcal, Project, rows_of, snapshot

import clipcal as api
from clipcal.run.layers import read_layers
from clipcal.training.loop import to_device

LOADER: dict[str, Any] = {
    "_target_": "torch.utils.data.DataLoader",
    "dataset": {"_target_": "toy.points", "n": 40},
    "batch_size": 8,
    "shuffle": True,
}
FROZEN: dict[str, Any] = {"_target_": "torch.optim.SGD", "lr": 0.0}
"""With a rate of zero the weights stay, and a step's norm tells which batch it saw."""

CODE = """
class Owner:
    '''A namespace, as a package would have.'''
    class Net(Net):
        pass

class Pixels(nn.Module):
    def __init__(self, activation, layers=()):
        super().__init__()
        self.inner, self.activation = nn.Linear(4, 8), activation()
        self.outer = nn.Sequential(*layers, nn.Linear(8, 1))
    def forward(self, x):
        return self.outer(self.activation(self.inner(x)))

def dicts(seed=0):
    for x, y in batches(seed=seed):
        yield {"x": x, "y": [y]}

def step(model, batch, weight=1.0):
    return weight * nn.functional.mse_loss(model(batch["x"]), batch["y"][0])

class Step:
    def __init__(self, weight):
        self.weight = weight
    def __call__(self, model, batch):
        return step(model, batch, self.weight)

class Fresh:
    '''Starts anew at each pass, as an iterable dataset does.'''
    def __iter__(self):
        return short(3)

def warmup(step):
    return min(1.0, (step + 1) / 5)

def per_layer(model, lr, factor=0.1):
    return torch.optim.SGD([
        {"params": model.inner.parameters(), "lr": lr * factor},
        {"params": model.outer.parameters()},
    ], lr=lr)

def named(named_parameters, lr):
    named_parameters = list(named_parameters)
    decayed = [p for n, p in named_parameters if n.endswith("weight")]
    others = [p for n, p in named_parameters if not n.endswith("weight")]
    return torch.optim.AdamW([{"params": decayed}, {"params": others, "weight_decay": 0.0}], lr=lr)

class Seeded(Net):
    def __init__(self, seed):
        super().__init__()
        with open("seeds", "a") as f:
            f.write(f"{seed} ")

def language_model():
    from transformers import GPT2Config, GPT2LMHeadModel
    return GPT2LMHeadModel(GPT2Config(vocab_size=32, n_positions=16, n_embd=16, n_layer=1, n_head=2))

def classifier():
    from transformers import BertConfig, BertForSequenceClassification
    return BertForSequenceClassification(BertConfig(
        vocab_size=32, hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16, num_labels=3))

def tokens(seed=0):
    g = torch.Generator().manual_seed(seed)
    while True:
        ids = torch.randint(0, 32, (4, 8), generator=g)
        yield {"input_ids": ids, "labels": ids}

def labelled(seed=0):
    from transformers import BatchEncoding
    g = torch.Generator().manual_seed(seed)
    while True:
        ids = torch.randint(0, 32, (4, 8), generator=g)
        yield BatchEncoding({"input_ids": ids, "labels": ids[:, 0] % 3})
"""


@pytest.fixture
def written(project: Project) -> Project:
    project.code(CODE)
    return project


def profiled(
    written: Project, clipcal: Clipcal, *arguments: object, out: str = "out", **changes: Any
) -> list[dict[str, Any]]:
    """The trace of the spec with these changes."""
    written.spec(**changes)
    clipcal("profile", "spec.yaml", "--out", out, *arguments).ok()
    rows = rows_of(written.folder / out / "trace.jsonl")
    assert [r["step"] for r in rows] == list(range(len(rows)))
    taken = [r for r in rows if not r.get("skipped")]
    assert len(taken) > len(rows) / 2
    assert all(math.isfinite(v) and r["grad_norm"] >= r["grad_max"] > 0 for r in taken for v in r.values())
    return rows


@pytest.mark.parametrize(
    "changes",
    [
        pytest.param({"data": LOADER}, id="a module and a loader"),
        pytest.param({}, id="a generator"),
        pytest.param({"data": {"_target_": "toy.Fresh"}}, id="an iterable of a few batches"),
        pytest.param(
            {"data": {"_target_": "toy.dicts"}, "loss": None, "training_step": {"_target_": "toy.step"}},
            id="mappings and a training step",
        ),
        pytest.param(
            {"data": {"_target_": "toy.dicts"}, "loss": None, "training_step": {"_target_": "toy.Step", "weight": 2.0}},
            id="a training step that is an object",
        ),
        pytest.param({"loss": {"_target_": "torch.nn.functional.l1_loss"}}, id="a loss that is a function"),
        pytest.param({"loss": {"_target_": "torch.nn.HuberLoss", "delta": 0.5}}, id="a loss with arguments"),
        pytest.param({"model": {"_target_": "toy:Owner.Net"}}, id="module and attribute apart"),
        pytest.param({"model": {"_target_": "toy.Owner.Net", "width": 3}}, id="a class in a class"),
        pytest.param({"model": {"_target_": "torch.nn.Linear", "_args_": [4, 1]}}, id="positional arguments"),
        pytest.param(
            {"model": {"_target_": "toy.Pixels", "activation": {"_target_": "torch.nn.ELU", "_partial_": True}}},
            id="a partial",
        ),
        pytest.param(
            {
                "model": {
                    "_target_": "toy.Pixels",
                    "activation": {"_target_": "torch.nn.ELU", "_partial_": True, "alpha": 0.5},
                    "layers": [{"_target_": "torch.nn.Linear", "_args_": [8, 8]}, {"_target_": "torch.nn.Tanh"}],
                }
            },
            id="a list of targets",
        ),
        pytest.param({"optimizer": {"_target_": "toy.per_layer", "lr": 0.1}}, id="a rate per layer"),
        pytest.param({"optimizer": {"_target_": "toy.named", "lr": 0.01}}, id="decay by name"),
        pytest.param({"precision": "bf16"}, id="bf16"),
        pytest.param({"precision": "fp16"}, id="fp16"),
        pytest.param({"accumulate": 3, "data": LOADER}, id="accumulated over the end of a pass"),
        pytest.param(
            {
                "model": {"_target_": "toy.language_model"},
                "data": {"_target_": "toy.tokens"},
                "loss": None,
                "optimizer": {"_target_": "torch.optim.AdamW", "lr": 1e-3},
                "steps": 5,
            },
            id="a language model of Hugging Face",
        ),
        pytest.param(
            {
                "model": {"_target_": "toy.classifier"},
                "data": {"_target_": "toy.labelled"},
                "loss": None,
                "optimizer": {"_target_": "torch.optim.AdamW", "lr": 1e-3},
                "steps": 5,
            },
            id="a classifier of Hugging Face",
        ),
    ],
)
def test_it_trains_and_the_same_seed_gives_the_same_trace(
    written: Project, clipcal: Clipcal, changes: dict[str, Any]
) -> None:
    if "toy.tokens" in str(changes) or "toy.labelled" in str(changes):
        pytest.importorskip("transformers")
    first = profiled(written, clipcal, out="first", **changes)
    assert len(first) == changes.get("steps", 20)
    assert profiled(written, clipcal, out="again", **changes) == first
    layers = [(written.folder / out / "layers.f32").read_bytes() for out in ("first", "again")]
    assert layers[0] == layers[1]


def test_another_seed_is_another_run_and_the_flag_is_the_key(written: Project, clipcal: Clipcal) -> None:
    runs = [profiled(written, clipcal, out=f"seed{seed}", data=LOADER, seed=seed) for seed in (0, 1)]
    assert runs[0][0]["grad_norm"] != runs[1][0]["grad_norm"]
    assert profiled(written, clipcal, "--seed", 1, out="flag", data=LOADER) == runs[1]


def test_a_shuffled_loader_is_shuffled_anew_at_each_pass(written: Project, clipcal: Clipcal) -> None:
    rows = profiled(written, clipcal, data=LOADER, optimizer=FROZEN, steps=10)
    norms = [r["grad_norm"] for r in rows]
    assert norms[:5] != norms[5:]


def test_a_generator_that_ends_is_built_again_with_the_same_seed(written: Project, clipcal: Clipcal) -> None:
    rows = profiled(written, clipcal, data={"_target_": "toy.short", "length": 4}, optimizer=FROZEN, steps=8)
    norms = [r["grad_norm"] for r in rows]
    assert norms[:4] == norms[4:]
    assert len(set(norms)) == 4


def test_an_argument_named_seed_gets_the_runs_seed_unless_the_spec_gives_one(
    written: Project, clipcal: Clipcal
) -> None:
    profiled(written, clipcal, model={"_target_": "toy.Seeded"}, seed=5, out="first")
    profiled(written, clipcal, "--seed", 6, model={"_target_": "toy.Seeded"}, out="second")
    profiled(written, clipcal, model={"_target_": "toy.Seeded", "seed": 9}, seed=5, out="third")
    assert (written.folder / "seeds").read_text().split() == ["5", "6", "9"]


@pytest.mark.parametrize(
    ("scheduler", "expected"),
    [
        ({"_target_": "torch.optim.lr_scheduler.ExponentialLR", "gamma": 0.5}, [0.05, 0.025, 0.0125]),
        (
            {"_target_": "torch.optim.lr_scheduler.LambdaLR", "lr_lambda": {"_target_": "toy.warmup"}},
            [0.01, 0.02, 0.03, 0.04, 0.05, 0.05],
        ),
        (
            {"_target_": "torch.optim.lr_scheduler.LambdaLR", "lr_lambda": {"_target_": "toy:warmup"}},
            [0.01, 0.02, 0.03, 0.04, 0.05, 0.05],
        ),
        (
            {"_target_": "torch.optim.lr_scheduler.OneCycleLR", "max_lr": 1e-1, "total_steps": 20, "div_factor": 10},
            [0.01],
        ),
        ({"_target_": "torch.optim.lr_scheduler.ReduceLROnPlateau", "patience": 100}, [0.05, 0.05]),
    ],
    ids=["decay", "a function", "a function after a colon", "one cycle", "plateau"],
)
def test_the_trace_holds_the_rate_that_each_step_was_taken_with(
    written: Project, clipcal: Clipcal, scheduler: dict[str, Any], expected: list[float]
) -> None:
    rows = profiled(written, clipcal, scheduler=scheduler)
    assert [r["lr"] for r in rows][: len(expected)] == pytest.approx(expected)


def test_a_rate_without_a_dot_is_a_number(written: Project, clipcal: Clipcal) -> None:
    text = written.spec().read_text()
    for rate in ("5e-2", "5E-2", "+5e-2", "0.05"):
        written.text(re.sub(r"lr: \S+", f"lr: {rate}", text))
        clipcal("profile", "spec.yaml", "--force").ok()
        assert rows_of(written.run() / "trace.jsonl")[0]["lr"] == 0.05


def test_layers_have_their_own_rates(written: Project, clipcal: Clipcal) -> None:
    per_layer = profiled(written, clipcal, out="a", optimizer={"_target_": "toy.per_layer", "lr": 0.05, "factor": 1.0})
    plain = profiled(written, clipcal, out="b")
    slower = profiled(written, clipcal, out="c", optimizer={"_target_": "toy.per_layer", "lr": 0.05, "factor": 0.0})
    assert [r["grad_norm"] for r in per_layer] == [r["grad_norm"] for r in plain]
    assert [r["grad_norm"] for r in slower] != [r["grad_norm"] for r in plain]


def test_accumulating_gives_one_line_per_optimizer_step_with_the_norm_of_the_joined_batch(
    written: Project, clipcal: Clipcal
) -> None:
    ordered = LOADER | {"shuffle": False, "dataset": {"_target_": "toy.points", "n": 48}}
    parted = profiled(written, clipcal, out="parted", data=ordered, accumulate=3, steps=6)
    joined = profiled(written, clipcal, out="joined", data=ordered | {"batch_size": 24}, steps=6)
    for key in ("loss", "grad_norm", "grad_max"):
        assert [r[key] for r in parted] == pytest.approx([r[key] for r in joined], rel=1e-5)


def test_fp16_norms_are_those_of_the_unscaled_gradients(written: Project, clipcal: Clipcal) -> None:
    """A GradScaler starts with a factor of 65,536: norms that were not unscaled are that much too large."""
    half = profiled(written, clipcal, out="half", precision="fp16", optimizer=FROZEN)
    full = profiled(written, clipcal, out="full", optimizer=FROZEN)
    pairs = [(h["grad_norm"], f["grad_norm"]) for h, f in zip(half, full, strict=True) if not h.get("skipped")]
    assert [h for h, _ in pairs] == pytest.approx([f for _, f in pairs], rel=0.02)


def test_steps_that_a_grad_scaler_drops_are_marked_and_are_no_divergence(written: Project, clipcal: Clipcal) -> None:
    written.code(CODE + "class Loud(Net):\n    def forward(self, x):\n        return 40 * super().forward(x)\n")
    optimizer = {"_target_": "torch.optim.SGD", "lr": 1e-6}
    rows = profiled(written, clipcal, model={"_target_": "toy.Loud"}, optimizer=optimizer, precision="fp16", steps=100)
    dropped = [r for r in rows if r["grad_norm"] in ("NaN", "Infinity")]
    assert len(dropped) >= 3
    assert all(("skipped" in r) == (r in dropped) for r in rows)
    answer = clipcal("recommend", "out", "--json").ok().json()
    assert answer["nonfinite"]["count"] == 0
    assert f"dropped {len(dropped)} steps" in " ".join(answer["caveats"])


@pytest.mark.parametrize("method", ["norm", "value", "per_tensor"])
def test_the_recommendation_is_for_the_method_of_the_spec(written: Project, clipcal: Clipcal, method: str) -> None:
    profiled(written, clipcal, clip={"method": method}, steps=200)
    answer = clipcal("recommend", "out", "--json").ok().json()
    assert answer["method"] == method


def test_modules_are_found_next_to_the_spec_wherever_the_command_is_given(
    written: Project, clipcal: Clipcal, monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory
) -> None:
    expected = profiled(written, clipcal, out="near", steps=60)
    away = tmp_path_factory.mktemp("away")
    monkeypatch.chdir(away)
    clipcal("profile", written.folder / "spec.yaml", "--out", "far", "-n", 60).ok()
    assert rows_of(away / "far" / "trace.jsonl") == expected


def test_modules_are_found_in_the_working_directory_too(written: Project, clipcal: Clipcal) -> None:
    """`clipcal profile configs/spec.yaml` in a repository whose code lies at its root."""
    text = written.spec().read_text()
    (written.folder / "configs").mkdir()
    written.text(text, "configs/spec.yaml")
    clipcal("profile", "configs/spec.yaml").ok()
    assert len(rows_of(written.run() / "trace.jsonl")) == 20


def test_packages_next_to_the_spec_are_found_and_a_module_there_goes_before_one_in_the_working_directory(
    written: Project, clipcal: Clipcal
) -> None:
    (written.folder / "sub").mkdir()
    written.code("from .parts import Net\n", "sub/mine/models.py")
    written.code("", "sub/mine/__init__.py")
    written.code("from toy import Net\nNet.chosen = 'near'\n", "sub/mine/parts.py")
    written.code("raise RuntimeError('the wrong one')\n", "mine.py")
    written.spec("sub/spec.yaml", model={"_target_": "mine.models.Net"})
    clipcal("profile", "sub/spec.yaml").ok()


def test_verify_trains_the_same_run_from_another_working_directory_without_the_spec_file(
    written: Project, clipcal: Clipcal, monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Everything comes from run.json, and an arm that never clips is the profile bit for bit, in another process."""
    recorded = profiled(
        written, clipcal, "--seed", 4, data=LOADER, model={"_target_": "toy.Net", "dropout": 0.2}, steps=60
    )
    (written.folder / "spec.yaml").unlink()
    away = tmp_path_factory.mktemp("away")
    monkeypatch.chdir(away)
    before = snapshot(written.folder / "out")
    answer = clipcal("verify", written.folder / "out", "--max-norm", 1e6, "--seeds", 1, "--json")
    assert answer.code in (0, 3), answer.stderr
    arm = rows_of(written.folder / "out" / "arms" / "max_norm=1e+06-seed4.jsonl")
    assert [row.pop("scale") for row in arm] == [1.0] * 60
    assert arm == recorded
    after = snapshot(written.folder / "out")
    assert {k: after[k] for k in ("trace.jsonl", "layers.f32", "run.json")} == {
        k: before[k] for k in ("trace.jsonl", "layers.f32", "run.json")
    }
    assert snapshot(away) == {}


def test_verify_never_compares_arms_of_two_versions_of_the_code(written: Project, clipcal: Clipcal) -> None:
    """The first gradient of a seed is the same under every rule; where it is not, the arms are not one experiment."""
    profiled(written, clipcal, steps=60)
    written.code(CODE.replace("class Owner", "Net.forward = lambda self, x: self.outer(self.inner(x))\n\nclass Owner"))
    answer = clipcal("verify", "out", "--max-norm", 1e6, "--seeds", 1, "--jobs", 1, "--json")
    if answer.code == 2:
        answer.refused("--force")
        return
    arms = {a["name"]: a["final_loss"] for a in answer.json()["arms"]}
    assert arms["unclipped"] == arms["max_norm=1e+06"], "an arm that never clips is the unclipped one"


def test_a_packed_sequence_is_moved_as_torch_moves_it() -> None:
    """Its batch sizes stay on the CPU wherever the rest goes; the meta device stands for an accelerator."""
    packed = torch.nn.utils.rnn.pack_sequence([torch.ones(3), torch.ones(2)])
    moved = to_device({"x": [packed]}, torch.device("meta"))["x"][0]
    assert moved.data.device.type == "meta"
    assert moved.batch_sizes.device.type == "cpu"


def test_the_run_says_what_was_run(written: Project, clipcal: Clipcal) -> None:
    profiled(written, clipcal, "-n", 7, "--seed", 2, name="my-net")
    info = json.loads((written.folder / "out" / "run.json").read_text())
    assert info["schema"] == "clipcal.run/1"
    assert (info["name"], info["steps"], info["seeds"], info["device"]) == ("my-net", 7, [2], "cpu")
    assert info["source"]["text"] == (written.folder / "spec.yaml").read_text()
    assert info["versions"]["torch"] == torch.__version__
    assert (info["status"], info["num_parameters"]) == ("complete", 4 * 8 + 8 + 8 + 1)


@pytest.mark.parametrize(("name", "folder"), [(None, "runs/my-spec"), ("net.v2", "runs/net.v2")])
def test_the_name_names_the_run_directory(written: Project, clipcal: Clipcal, name: str | None, folder: str) -> None:
    written.spec("my spec.yaml", name=name)
    clipcal("profile", "my spec.yaml").ok()
    assert (Path(folder) / "run.json").is_file()


def test_profiles_in_one_process_have_the_same_threads_and_leave_torchs_number_alone(
    written: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    before = torch.get_num_threads()
    torch.set_num_threads(8)
    try:
        spec = api.load_spec(written.spec(steps=3))
        runs = [api.profile(spec, written.folder / name) for name in ("one", "two")]
        assert [run.info.threads for run in runs] == [4, 4]
        assert torch.get_num_threads() == 8
    finally:
        torch.set_num_threads(before)


def test_an_optimizer_that_picks_its_own_rate_has_none_in_the_trace(written: Project, clipcal: Clipcal) -> None:
    """Adafactor's groups have None for a rate."""
    written.code(
        f"{CODE}\n\n"
        "class OwnRate(torch.optim.SGD):\n"
        "    def step(self, closure=None):\n"
        "        for group in self.param_groups:\n"
        "            group['lr'] = 0.1\n"
        "        super().step(closure)\n"
        "        for group in self.param_groups:\n"
        "            group['lr'] = None\n"
    )
    written.spec(optimizer={"_target_": "toy.OwnRate"}, steps=5)
    clipcal("profile", "spec.yaml").ok()
    rows = rows_of(written.run() / "trace.jsonl")
    assert len(rows) == 5
    assert [row["lr"] for row in rows[1:]] == ["NaN"] * 4


def test_a_compiled_model_is_the_model(written: Project, clipcal: Clipcal) -> None:
    """It answers no ``len()``, and puts a word before the names of its tensors."""
    written.code(f"{CODE}\n\ndef compiled():\n    return torch.compile(Net(), backend='eager')\n")
    for name, model in (("plain", "toy.Net"), ("compiled", "toy.compiled")):
        written.spec(model={"_target_": model})
        clipcal("profile", "spec.yaml", "--out", name).ok()
    plain, compiled = (rows_of(written.folder / name / "trace.jsonl") for name in ("plain", "compiled"))
    assert plain == compiled
    layers = [read_layers(written.folder / name / "layers.f32").names for name in ("plain", "compiled")]
    assert layers[0] == layers[1]
