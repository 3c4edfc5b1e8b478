"""Snippets of what trains torch models for you: run by the installed framework, the gradients watched as they arrive."""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml

from clipcal.frameworks.snippets import snippet
from clipcal.recommendation.answer import Method

MAX_NORM = 0.024


class Watched:
    """Two layers, a batch whose gradients are far above MAX_NORM, and the gradients that the optimizer was given."""

    def __init__(self) -> None:
        torch.manual_seed(0)
        self.model = torch.nn.Sequential(torch.nn.Linear(4, 3), torch.nn.Tanh(), torch.nn.Linear(3, 1))
        self.optimizer = torch.optim.SGD(self.model.parameters(), lr=0.0)
        self.optimizer.register_step_post_hook(self._look)  # Lightning makes and clips the gradients within the step
        self.seen: list[list[np.ndarray]] = []

    def _look(self, optimizer: torch.optim.Optimizer, *_: Any) -> None:
        parameters = [p for group in optimizer.param_groups for p in group["params"]]
        self.seen.append([p.grad.double().numpy().copy() for p in parameters if p.grad is not None])

    def loss(self) -> torch.Tensor:
        loss: torch.Tensor = 1000 * self.model(torch.ones(8, 4)).square().mean()
        return loss

    def total(self, norm_type: float = 2.0) -> list[float]:
        return [float(np.linalg.norm(np.concatenate([g.ravel() for g in step]), norm_type)) for step in self.seen]

    def largest(self) -> list[float]:
        return [max(float(np.abs(g).max()) for g in step) for step in self.seen]


@pytest.fixture
def watched() -> Watched:
    return Watched()


def run(text: str, **names: Any) -> dict[str, Any]:
    exec(compile(text, "snippet", "exec"), names)
    return names


def beside(text: str, call: str, arguments: str) -> str:
    """The snippet with a user's own arguments in its call, as its comment says."""
    assert f" {call}(\n" in text
    return text.replace(f" {call}(\n", f" {call}(\n    {arguments},\n")


# ------------------------------------------------------------------------------------------------ Hugging Face


def hugging_face_arguments(name: str, folder: Path) -> Any:
    transformers = pytest.importorskip("transformers")
    text = snippet(name, max_norm=MAX_NORM)
    own = {"output_dir": str(folder), "max_steps": 2, "logging_steps": 1, "use_cpu": True}
    own |= {"report_to": "none", "save_strategy": "no", "disable_tqdm": True, "dataloader_pin_memory": False}
    if name == "huggingface":
        arguments = ", ".join(f"{key}={value!r}" for key, value in own.items())
        return run(beside(text, "TrainingArguments", arguments))["training_args"]
    parser = transformers.HfArgumentParser(transformers.TrainingArguments)
    return parser.parse_dict(yaml.safe_load(text) | own)[0]


@pytest.mark.parametrize("name", ["huggingface", "huggingface-yaml"])
def test_hugging_face_trainer(name: str, watched: Watched, tmp_path: Path) -> None:
    arguments = hugging_face_arguments(name, tmp_path)

    class Model(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = watched.model

        def forward(self, x: torch.Tensor, labels: torch.Tensor) -> dict[str, torch.Tensor]:
            return {"loss": 1000 * (self.inner(x) - labels).square().mean()}

    data = [{"x": torch.ones(4), "labels": torch.zeros(1)}] * 16
    trainer = pytest.importorskip("transformers").Trainer(
        model=Model(), args=arguments, train_dataset=data, optimizers=(watched.optimizer, None)
    )
    trainer.train()
    assert arguments.max_grad_norm == MAX_NORM
    assert watched.total() == pytest.approx([MAX_NORM] * 2, rel=1e-3)
    # What it logs is the norm before clipping.
    assert all(row["grad_norm"] > 1 for row in trainer.state.log_history if "grad_norm" in row)


@pytest.mark.filterwarnings("ignore:.*gradient_checkpointing.*:FutureWarning")
@pytest.mark.parametrize("config", ["SFTConfig", "GRPOConfig", "DPOConfig", "RLOOConfig", "RewardConfig"])
def test_trl(config: str, tmp_path: Path) -> None:
    trl = pytest.importorskip("trl")
    own = f"output_dir={str(tmp_path)!r}, bf16=False, report_to='none'"
    text = beside(snippet("trl", max_norm=MAX_NORM), "SFTConfig", own)
    assert config in text
    arguments = run(text.replace("SFTConfig", config))["training_args"]
    assert arguments.max_grad_norm == MAX_NORM
    defaults = {field.name: field.default for field in dataclasses.fields(getattr(trl, config))}
    assert defaults["max_grad_norm"] == 1.0


@pytest.fixture
def accelerator() -> Iterator[Any]:
    accelerate = pytest.importorskip("accelerate")
    states = accelerate.state.AcceleratorState, accelerate.state.GradientState
    for state in states:  # they are shared by everything in a process
        state._reset_state()
    yield accelerate.Accelerator(cpu=True, gradient_accumulation_steps=2)
    states[0]._reset_state(reset_partial_state=True)
    states[1]._reset_state()


@pytest.mark.parametrize(("method", "norm_type"), [("norm", 2.0), ("norm", float("inf")), ("value", 2.0)])
def test_accelerate(method: Method, norm_type: float, watched: Watched, accelerator: Any) -> None:
    model, optimizer = accelerator.prepare(watched.model, watched.optimizer)
    text = snippet("accelerate", max_norm=MAX_NORM, method=method, norm_type=norm_type)
    for _ in range(4):
        with accelerator.accumulate(model):
            run(text, accelerator=accelerator, model=model, optimizer=optimizer, loss=watched.loss())
    # Two optimizer steps of two micro-batches each.
    held = watched.largest() if method == "value" else watched.total(norm_type)
    assert held == pytest.approx([MAX_NORM] * 2, rel=1e-3)


# ---------------------------------------------------------------------------------------------------- Lightning


def lightning_trainer(name: str, method: Method) -> Any:
    """A Trainer with the snippet's arguments and a short run's own."""
    trainer = pytest.importorskip("lightning.pytorch").Trainer
    own = {"max_steps": 2, "accelerator": "cpu", "logger": False, "enable_checkpointing": False}
    own |= {"enable_progress_bar": False, "enable_model_summary": False}
    text = snippet(name, max_norm=MAX_NORM, method=method)
    if name == "lightning":
        arguments = ", ".join(f"{key}={value!r}" for key, value in own.items())
        return run(beside(text, "Trainer", arguments))["trainer"]
    return trainer(**yaml.safe_load(text)["trainer"], **own)


@pytest.mark.filterwarnings("ignore:.*does not have many workers:UserWarning")
@pytest.mark.filterwarnings("ignore:.*isinstance.treespec, LeafSpec.*:FutureWarning")
@pytest.mark.parametrize("method", ["norm", "value"])
@pytest.mark.parametrize("name", ["lightning", "lightning-yaml"])
def test_lightning(name: str, method: Method, watched: Watched) -> None:
    trainer = lightning_trainer(name, method)
    before: list[float] = []

    class Module(pytest.importorskip("lightning.pytorch").LightningModule):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.inner = watched.model

        def training_step(self, batch: list[torch.Tensor]) -> torch.Tensor:
            return watched.loss()

        def on_before_optimizer_step(self, optimizer: torch.optim.Optimizer) -> None:
            gradients = [p.grad for p in self.parameters() if p.grad is not None]
            before.append(float(torch.nn.utils.get_total_norm(gradients)))

        def configure_optimizers(self) -> torch.optim.Optimizer:
            return watched.optimizer

    trainer.fit(Module(), torch.utils.data.DataLoader(torch.utils.data.TensorDataset(torch.ones(4, 4))))
    assert trainer.gradient_clip_val == MAX_NORM
    held = watched.largest() if method == "value" else watched.total()
    assert held == pytest.approx([MAX_NORM] * 2, rel=1e-3)
    # The place to log norms in: they are not clipped yet.
    assert min(before) > 1


def test_lightning_refuses_norms_under_fsdp() -> None:
    plugins = pytest.importorskip("lightning.pytorch.plugins.precision")
    with pytest.raises(Exception, match="not supported"):
        plugins.FSDPPrecision("32-true").clip_grad_by_norm(None, MAX_NORM)


@pytest.mark.parametrize(("method", "norm_type"), [("norm", 2.0), ("norm", float("inf")), ("value", 2.0)])
def test_fabric(method: Method, norm_type: float, watched: Watched) -> None:
    fabric = pytest.importorskip("lightning.fabric").Fabric(accelerator="cpu", devices=1)
    model, optimizer = fabric.setup(watched.model, watched.optimizer)
    text = snippet("fabric", max_norm=MAX_NORM, method=method, norm_type=norm_type)
    for _ in range(2):
        loss = 1000 * model(torch.ones(8, 4)).square().mean()
        run(text, fabric=fabric, model=model, optimizer=optimizer, loss=loss)
    held = watched.largest() if method == "value" else watched.total(norm_type)
    assert held == pytest.approx([MAX_NORM] * 2, rel=1e-3)


def test_fabric_goes_on_where_its_default_stops(watched: Watched) -> None:
    fabric = pytest.importorskip("lightning.fabric").Fabric(accelerator="cpu", devices=1)
    model, optimizer = fabric.setup(watched.model, watched.optimizer)
    text = snippet("fabric", max_norm=MAX_NORM)
    for given, error in ((text, None), (text.replace(", error_if_nonfinite=False", ""), RuntimeError)):
        loss = model(torch.ones(8, 4)).sum() * float("inf")
        if error is None:
            run(given, fabric=fabric, model=model, optimizer=optimizer, loss=loss)
        else:
            with pytest.raises(error, match="non-finite"):
                run(given, fabric=fabric, model=model, optimizer=optimizer, loss=loss)


# ------------------------------------------------------------------------------------------------ reinforcement


@pytest.mark.parametrize("algorithm", ["PPO", "A2C", "DQN"])
def test_stable_baselines3(algorithm: str, tmp_path: Path) -> None:
    sb3 = pytest.importorskip("stable_baselines3")
    text = snippet("stable-baselines3", max_norm=MAX_NORM)
    own = {"PPO": "n_steps=8, batch_size=8, n_epochs=1", "A2C": "n_steps=8", "DQN": "learning_starts=4, train_freq=4"}
    text = text.replace("env, ", f"env, device='cpu', {own[algorithm]}, ").replace("PPO", algorithm)
    model = run(text, env="CartPole-v1")["model"]
    norms: list[float] = []

    def look(optimizer: torch.optim.Optimizer, *_: Any) -> None:
        gradients = [p.grad for group in optimizer.param_groups for p in group["params"] if p.grad is not None]
        norms.append(float(torch.nn.utils.get_total_norm(gradients)))

    model.policy.optimizer.register_step_pre_hook(look)
    model.learn(8)
    assert norms
    assert norms == pytest.approx([MAX_NORM] * len(norms), rel=1e-3)
    model.save(tmp_path / "model")
    load = getattr(sb3, algorithm).load
    assert load(tmp_path / "model").max_grad_norm == MAX_NORM
    assert load(tmp_path / "model", max_grad_norm=2.4).max_grad_norm == 2.4


def test_stable_baselines3_defaults_and_who_has_none() -> None:
    sb3 = pytest.importorskip("stable_baselines3")
    defaults = {
        name: inspect.signature(getattr(sb3, name).__init__).parameters["max_grad_norm"].default
        for name in ("PPO", "A2C", "DQN")
    }
    assert defaults == {"PPO": 0.5, "A2C": 0.5, "DQN": 10}
    for name in ("SAC", "TD3", "DDPG"):
        assert "max_grad_norm" not in inspect.signature(getattr(sb3, name).__init__).parameters
