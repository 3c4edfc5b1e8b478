"""Snippets of torch loops, and of what is not installed here: executed, on stand-ins where there is no other way."""

from __future__ import annotations

import sys
import types
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest
import torch

from clipcal.frameworks.snippets import snippet
from clipcal.frameworks.table import FRAMEWORKS
from clipcal.recommendation.answer import METHODS, Method

CASES = [
    (name, method, norm_type)
    for name in ("pytorch", "fsdp2", "detectron2")
    for method in METHODS
    for norm_type in ((2.0,) if method == "value" else (1.0, 2.0, 3.5, float("inf")))
]


def arrived(gradients: list[Any], method: Method, norm_type: float) -> float:
    """What the method holds at its threshold, of the gradients that reached the optimizer, by numpy."""
    arrays = [np.asarray(g, dtype=np.float64).ravel() for g in gradients]
    if method == "value":
        return float(max(np.abs(a).max() for a in arrays))
    if method == "per_tensor":
        return float(max(np.linalg.norm(a, norm_type) for a in arrays))
    return float(np.linalg.norm(np.concatenate(arrays), norm_type))


class Watching(torch.optim.SGD):
    """Keeps the gradients that each step is given."""

    def __init__(self, parameters: Any) -> None:
        super().__init__(parameters, lr=0.0)
        self.seen: list[list[torch.Tensor]] = []

    def step(self, closure: Any = None) -> None:  # type: ignore[override]
        gradients = [p.grad for group in self.param_groups for p in group["params"] if p.grad is not None]
        self.seen.append([g.clone() for g in gradients])
        super().step(closure)


def loop(text: str, names: dict[str, Any]) -> None:
    exec(compile(text, "snippet", "exec"), {"torch": torch} | names)


@pytest.mark.parametrize(("name", "method", "norm_type"), CASES)
def test_really_clips(name: str, method: Method, norm_type: float, monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    body = torch.nn.Sequential(torch.nn.Linear(4, 3), torch.nn.Tanh(), torch.nn.Linear(3, 1))
    # A layer that gets no gradient has to be stepped over.
    model = torch.nn.ModuleDict({"body": body, "unused": torch.nn.Linear(2, 2)})
    text = snippet(name, max_norm=0.024, method=method, norm_type=norm_type)
    optimizer = Watching(model.parameters())
    if name == "detectron2":
        built = detectron2_trainer(text, monkeypatch).build_optimizer(None, model)
        assert isinstance(built, Watching)
        optimizer, text = built, "loss.backward()\noptimizer.step()\noptimizer.zero_grad()"
    for _ in range(2):
        loop(text, {"model": model, "optimizer": optimizer, "loss": 1000 * body(torch.ones(8, 4)).square().mean()})
    # Both steps are clipped, so both end at the threshold; clip_grad_norm_ keeps it from below, to a rounding error.
    seen = [arrived(gradients, method, norm_type) for gradients in optimizer.seen]
    assert seen == pytest.approx([0.024, 0.024], rel=1e-3)
    assert max(seen) <= 0.024 * (1 + 1e-6)


def detectron2_trainer(text: str, monkeypatch: pytest.MonkeyPatch) -> Any:
    """The snippet's Trainer, on a DefaultTrainer that has no more than detectron2's interface."""

    class DefaultTrainer:
        @classmethod
        def build_optimizer(cls, cfg: Any, model: torch.nn.Module) -> torch.optim.Optimizer:
            return Watching([{"params": [p]} for p in model.parameters()])

    engine = types.ModuleType("detectron2.engine")
    engine.DefaultTrainer = DefaultTrainer  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "detectron2", types.ModuleType("detectron2"))
    monkeypatch.setitem(sys.modules, "detectron2.engine", engine)
    names: dict[str, Any] = {}
    exec(compile(text, "snippet", "exec"), names)
    return names["Trainer"]


def test_a_threshold_above_the_norm_changes_nothing() -> None:
    model = torch.nn.Linear(2, 1)
    optimizer = Watching(model.parameters())
    loss = model(torch.ones(3, 2)).square().mean()
    exact = torch.autograd.grad(loss, list(model.parameters()), retain_graph=True)
    loop(snippet("pytorch", max_norm=1e6), {"model": model, "optimizer": optimizer, "loss": loss})
    assert all(torch.equal(a, b) for a, b in zip(optimizer.seen[0], exact, strict=True))


@pytest.mark.parametrize("where", ["optim", "training"])
def test_torchtitan_sets_the_place_that_the_version_has(where: str) -> None:
    @dataclass
    class Section:
        max_norm: float = 1.0

    @dataclass
    class Training:
        max_norm: float = 1.0

    @dataclass
    class Older:
        training: Training = field(default_factory=Training)

    @dataclass
    class Newer:
        optim: Section = field(default_factory=Section)
        training: None = None

    names: dict[str, Any] = {}
    exec(snippet("torchtitan-python", max_norm=2.4), names)
    config = names["clipped"](Newer() if where == "optim" else Older())
    assert getattr(config, where).max_norm == 2.4


@pytest.mark.parametrize("max_norm", [3.0, 0.00012, 1e-5])
def test_nanogpt_takes_the_number(max_norm: float) -> None:
    # Its configurator runs the file over train.py's globals, and asserts that the type of grad_clip = 1.0 is kept.
    names: dict[str, Any] = {"grad_clip": 1.0}
    exec(snippet("nanogpt", max_norm=max_norm), names)
    assert names["grad_clip"] == max_norm
    assert type(names["grad_clip"]) is float


def test_every_python_snippet_compiles() -> None:
    for name, entry in FRAMEWORKS.items():
        if entry.language == "python":
            for method in entry.methods:
                compile(snippet(name, max_norm=2.4, method=method), name, "exec")
