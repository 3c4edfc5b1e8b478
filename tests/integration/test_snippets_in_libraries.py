"""Snippets of vision libraries and of optimizers outside of torch: run where installed, compared to numpy."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from clipcal.frameworks.snippets import snippet
from clipcal.recommendation.answer import METHODS, Method

MAX_NORM = 0.024


def gradients() -> list[np.ndarray]:
    """A matrix, a vector and a cube: far above MAX_NORM, one tensor well below it."""
    random = np.random.default_rng(0)
    return [(random.normal(size=s) * k).astype(np.float32) for s, k in (((4, 3), 5.0), ((3,), 1e-3), ((2, 2, 2), 1.0))]


def clipped(arrays: list[np.ndarray], method: Method, norm_type: float = 2.0) -> list[np.ndarray]:
    if method == "value":
        return [a.clip(-MAX_NORM, MAX_NORM) for a in arrays]
    norms = [float(np.linalg.norm(a.ravel().astype(np.float64), norm_type)) for a in arrays]
    if method == "per_tensor":
        return [a * min(1.0, MAX_NORM / n) for a, n in zip(arrays, norms, strict=True)]
    return [a * min(1.0, MAX_NORM / float(np.linalg.norm(norms, norm_type))) for a in arrays]


def same(got: list[Any], expected: list[np.ndarray]) -> None:
    for one, other in zip(got, expected, strict=True):
        np.testing.assert_allclose(np.asarray(one), other, rtol=1e-4, atol=1e-9)


def run(text: str, **names: Any) -> dict[str, Any]:
    exec(compile(text, "snippet", "exec"), names)
    return names


def parameters() -> list[torch.nn.Parameter]:
    made = [torch.nn.Parameter(torch.zeros(g.shape)) for g in gradients()]
    for parameter, gradient in zip(made, gradients(), strict=True):
        parameter.grad = torch.from_numpy(gradient)
    return made


@pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept a copy keyword:DeprecationWarning")
@pytest.mark.parametrize("method", METHODS)
def test_keras(method: Method, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KERAS_BACKEND", "torch")
    keras = pytest.importorskip("keras")
    # SGD in Adam's place, as the comment allows: with a rate of 1 the weights move by the clipped gradient.
    text = snippet("keras", max_norm=MAX_NORM, method=method).replace(".Adam(", ".SGD(learning_rate=1.0, ")
    optimizer = run(text)["optimizer"]
    variables = [keras.Variable(np.zeros_like(g)) for g in gradients()]
    optimizer.apply([keras.ops.convert_to_tensor(g) for g in gradients()], variables)
    same([-keras.ops.convert_to_numpy(v) for v in variables], clipped(gradients(), method))


def test_keras_loss_scale_optimizer_takes_no_clipping(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KERAS_BACKEND", "torch")
    keras = pytest.importorskip("keras")
    with pytest.raises(ValueError, match="clipnorm"):
        keras.optimizers.LossScaleOptimizer(keras.optimizers.SGD(), global_clipnorm=MAX_NORM)


@pytest.mark.parametrize("method", METHODS)
def test_optax(method: Method) -> None:
    optax = pytest.importorskip("optax")
    text = snippet("optax", max_norm=MAX_NORM, method=method)
    optimizer = run(text, optimizer=optax.sgd(learning_rate=1.0))["optimizer"]
    weights = [np.zeros_like(g) for g in gradients()]
    updates, _ = optimizer.update(gradients(), optimizer.init(weights), weights)
    same([-np.asarray(u) for u in updates], clipped(gradients(), method))


def test_optax_leaves_a_zero_gradient_alone() -> None:
    optax = pytest.importorskip("optax")
    for method in METHODS:
        text = snippet("optax", max_norm=MAX_NORM, method=method)
        optimizer = run(text, optimizer=optax.identity())["optimizer"]
        zero = [np.zeros((2, 2), dtype=np.float32)]
        updates, _ = optimizer.update(zero, optimizer.init(zero), zero)
        same(updates, zero)


@pytest.mark.filterwarnings("ignore:.*torch.jit.script.*:DeprecationWarning")
@pytest.mark.parametrize(
    ("method", "norm_type"), [("norm", 2.0), ("norm", 1.0), ("norm", float("inf")), ("value", 2.0)]
)
@pytest.mark.parametrize("base", ["", "optim_wrapper = dict(type='OptimWrapper')\n"])
def test_mmengine(base: str, method: Method, norm_type: float, tmp_path: Path) -> None:
    config = pytest.importorskip("mmengine.config").Config
    wrapper = pytest.importorskip("mmengine.optim").OptimWrapper
    (tmp_path / "base.py").write_text(base)
    text = snippet("mmengine", max_norm=MAX_NORM, method=method, norm_type=norm_type)
    (tmp_path / "config.py").write_text(f"_base_ = ['base.py']\n{text}")
    arguments = dict(config.fromfile(tmp_path / "config.py").optim_wrapper)
    arguments.pop("type", None)
    made = parameters()
    wrapped = wrapper(optimizer=torch.optim.SGD(made, lr=1.0), **arguments)
    wrapped.step()
    same([-p.detach().numpy() for p in made], clipped(gradients(), method, norm_type))
    if method == "norm":  # What it logs is the norm before clipping.
        logged = wrapped.message_hub.get_scalar("train/grad_norm").current()
        exact = np.linalg.norm(np.concatenate([g.ravel() for g in gradients()]), norm_type)
        assert logged == pytest.approx(float(exact), rel=1e-4)


@pytest.mark.filterwarnings("ignore:.*torch.jit.script.*:DeprecationWarning")
@pytest.mark.parametrize("base", ["None", "dict(type='value', clip_value=1.0)"])
def test_mmengine_bases_that_clip_otherwise(base: str, tmp_path: Path) -> None:
    config = pytest.importorskip("mmengine.config").Config
    (tmp_path / "base.py").write_text(f"optim_wrapper = dict(clip_grad={base})\n")
    text = f"_base_ = ['base.py']\n{snippet('mmengine', max_norm=MAX_NORM)}"
    (tmp_path / "config.py").write_text(text.replace("max_norm=0.024", "_delete_=True, max_norm=0.024"))
    assert config.fromfile(tmp_path / "config.py").optim_wrapper.clip_grad == {"max_norm": MAX_NORM, "norm_type": 2.0}


@pytest.mark.parametrize("method", ["norm", "value"])
def test_timm(method: Method) -> None:
    dispatch = pytest.importorskip("timm.utils").dispatch_clip_grad
    words = shlex.split(snippet("timm", max_norm=MAX_NORM, method=method), comments=True)
    made = parameters()
    dispatch(made, value=float(words[words.index("--clip-grad") + 1]), mode=words[words.index("--clip-mode") + 1])
    same([p.grad for p in made], clipped(gradients(), method))


@pytest.mark.parametrize("norm_type", [2.0, float("inf")])
def test_fastai(norm_type: float) -> None:
    learner = pytest.importorskip("fastai.learner")
    loaders = pytest.importorskip("fastai.data.core").DataLoaders
    norms: list[float] = []

    class Watch(pytest.importorskip("fastai.callback.core").Callback):  # type: ignore[misc]
        def after_step(self) -> None:
            arrays = [p.grad.numpy().ravel() for p in self.model.parameters()]
            norms.append(float(np.linalg.norm(np.concatenate(arrays), norm_type)))

    data = [(torch.ones(4), torch.zeros(1))] * 8
    learn = learner.Learner(
        loaders.from_dsets(data, data, bs=4, device=torch.device("cpu"), num_workers=0),
        torch.nn.Linear(4, 1),
        loss_func=lambda output, target: 1000 * (output - target).square().mean(),
        cbs=[Watch()],
    )
    run(snippet("fastai", max_norm=MAX_NORM, norm_type=norm_type), learn=learn)
    with learn.no_bar(), learn.no_logging():
        learn.fit(1, lr=0.0)
    assert norms == pytest.approx([MAX_NORM] * 2, rel=1e-3)
