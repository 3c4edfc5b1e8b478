"""A training that is watched is the training itself: the same weights bit for bit, the norms that an instrumented copy sees."""

from __future__ import annotations

import json
import random
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils import clip_grad_norm_ as imported_early
from torch.nn.utils import clip_grad_value_, get_total_norm

import clipcal
from clipcal.recommendation.evidence import load
from clipcal.run.layers import read_layers
from clipcal.watching.watch import Watch

Seen = list[tuple[float, float]]
Loop = Callable[[nn.Module, Seen, Path | None], Watch | None]


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def net() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(8, 16), nn.Tanh(), nn.Linear(16, 1))


def batch() -> tuple[Tensor, Tensor]:
    x = torch.randn(16, 8)
    return x, x.sum(1, keepdim=True)


def loss_of(model: nn.Module) -> Tensor:
    x, y = batch()
    return nn.functional.mse_loss(model(x), y)


def backward(loss: Tensor) -> None:
    loss.backward()  # type: ignore[no-untyped-call]


def total(model: nn.Module) -> float:
    return float(get_total_norm([p.grad for p in model.parameters() if p.grad is not None]))


def watched(folder: Path | None, model: nn.Module, optimizer: torch.optim.Optimizer) -> Watch | None:
    return None if folder is None else clipcal.watch(model, optimizer, folder)


def plain(model: nn.Module, seen: Seen, folder: Path | None) -> Watch | None:
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    watch = watched(folder, model, optimizer)
    for _ in range(20):
        optimizer.zero_grad()
        loss = loss_of(model)
        backward(loss)
        seen.append((loss.item(), total(model)))
        optimizer.step()
    return watch


def clipped(model: nn.Module, seen: Seen, folder: Path | None) -> Watch | None:
    """The clip call comes before the step, by a name that was imported before anybody listened."""
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.01)
    watch = watched(folder, model, optimizer)
    for _ in range(20):
        optimizer.zero_grad()
        loss = loss_of(model)
        backward(loss)
        seen.append((loss.item(), total(model)))
        imported_early((p for p in model.parameters()), 0.5)
        optimizer.step()
    return watch


def by_value(model: nn.Module, seen: Seen, folder: Path | None) -> Watch | None:
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    watch = watched(folder, model, optimizer)
    for _ in range(20):
        optimizer.zero_grad()
        loss = loss_of(model)
        backward(loss)
        seen.append((loss.item(), total(model)))
        clip_grad_value_(model.parameters(), 0.05)
        optimizer.step()
    return watch


def accumulated(model: nn.Module, seen: Seen, folder: Path | None) -> Watch | None:
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    watch = watched(folder, model, optimizer)
    for _ in range(10):
        optimizer.zero_grad()
        losses = [loss_of(model) / 4 for _ in range(4)]
        for loss in losses:
            backward(loss)
        seen.append((sum(x.item() for x in losses), total(model)))
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
    return watch


def scaled(model: nn.Module, seen: Seen, folder: Path | None) -> Watch | None:
    """fp16 with a GradScaler: the loss and the norms are those without its factor."""
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    scaler = torch.amp.GradScaler("cpu", init_scale=1024.0)
    watch = watched(folder, model, optimizer)
    for _ in range(20):
        optimizer.zero_grad()
        with torch.autocast("cpu", dtype=torch.float16):
            x, y = batch()
            output = model(x)
        loss = nn.functional.mse_loss(output.float(), y)
        backward(scaler.scale(loss))
        scaler.unscale_(optimizer)
        seen.append((loss.item(), total(model)))
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        scaler.step(optimizer)
        scaler.update()
    return watch


def closure(model: nn.Module, seen: Seen, folder: Path | None) -> Watch | None:
    """LBFGS looks several times; the first look is at the weights that the step starts from."""
    optimizer = torch.optim.LBFGS(model.parameters(), lr=0.1, max_iter=4)
    watch = watched(folder, model, optimizer)
    for _ in range(8):
        x, y = batch()
        looks: list[tuple[float, float]] = []

        def look(x: Tensor = x, y: Tensor = y, looks: list[tuple[float, float]] = looks) -> Tensor:
            optimizer.zero_grad()
            loss = nn.functional.mse_loss(model(x), y)
            backward(loss)
            looks.append((loss.item(), total(model)))
            return loss

        optimizer.step(look)  # type: ignore[no-untyped-call]
        assert len(looks) > 1
        seen.append(looks[0])
    return watch


def fused(model: nn.Module, seen: Seen, folder: Path | None) -> Watch | None:
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.01, fused=True)
    watch = watched(folder, model, optimizer)
    for _ in range(20):
        optimizer.zero_grad()
        loss = loss_of(model)
        backward(loss)
        seen.append((loss.item(), total(model)))
        optimizer.step()
    return watch


@pytest.mark.parametrize(
    "loop", [plain, clipped, by_value, accumulated, scaled, closure, fused], ids=lambda f: f.__name__
)
def test_the_norms_of_every_step_and_the_weights_of_the_same_training(tmp_path: Path, loop: Loop) -> None:
    alone, seen = net(), list[tuple[float, float]]()
    loop(alone, seen, None)
    model, again = net(), list[tuple[float, float]]()
    watch = loop(model, again, tmp_path / "run")
    assert watch is not None
    watch.close()
    assert again == seen
    for p, q in zip(alone.parameters(), model.parameters(), strict=True):
        assert torch.equal(p, q)
    trace = clipcal.read_trace(tmp_path / "run" / "trace.jsonl")
    assert trace.step.tolist() == list(range(len(seen)))
    np.testing.assert_allclose(trace.loss, [loss for loss, _ in seen], rtol=1e-6)
    np.testing.assert_allclose(trace.grad_norm, [norm for _, norm in seen], rtol=1e-6)
    layers = read_layers(tmp_path / "run" / "layers.f32")
    assert layers.names == tuple(name for name, _ in model.named_parameters())
    np.testing.assert_allclose(np.linalg.norm(layers.norms, axis=1), trace.grad_norm, rtol=1e-5)


def test_what_the_script_does_itself_is_said(tmp_path: Path) -> None:
    watch = clipped(net(), [], tmp_path / "run")
    assert watch is not None
    watch.close()
    assert watch.run is not None
    assert watch.run.info.in_use == 0.5
    (note,) = watch.run.info.notes
    assert note.startswith("The script itself clips at 0.5 (clip_grad_norm_ in test_watching.py:")
    assert "at 20 of 20 steps" in note
    trace = clipcal.read_trace(tmp_path / "run" / "trace.jsonl")
    np.testing.assert_allclose(trace.scale, np.minimum(1.0, 0.5 / (trace.grad_norm + 1e-6)), rtol=1e-5)
    assert load(tmp_path / "run").in_use == 0.5


def test_nothing_is_left_of_it(tmp_path: Path) -> None:
    """Every function that was listened to is the one that it was, and the optimizer has no hook."""
    cells = [nn.utils.clip_grad_norm_, nn.utils.clip_grads_with_norm_, clip_grad_value_]

    optimizers = sys.modules["torch.optim.optimizer"]
    places: list[Any] = [
        torch,
        torch.autograd,
        torch.amp.GradScaler,
        torch.optim.Optimizer,
        torch.optim.SGD,
        nn.Module,
        nn.utils,
    ]
    places += [torch.Tensor, torch.nn.utils.clip_grad, optimizers, sys, random]

    def state() -> dict[Any, Any]:
        held = {("cell", i): c.cell_contents for i, c in enumerate(c for f in cells for c in f.__closure__ or ())}
        hooks = optimizers._global_optimizer_pre_hooks, optimizers._global_optimizer_post_hooks
        found = {(place, name): value for place in places for name, value in vars(place).items() if callable(value)}
        return found | held | {("hooks", i): dict(h) for i, h in enumerate(hooks)}

    torch.optim.SGD(net().parameters(), lr=0.1)  # the first one lets torch wrap its own
    before = state()
    model = net()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with clipcal.watch(model, optimizer, tmp_path / "a"):
        other = torch.optim.SGD(model.parameters(), lr=0.1)
        with clipcal.watch(model, other, tmp_path / "b"):
            assert state() != before
            backward(loss_of(model))
            other.step()
        assert state() != before
        backward(loss_of(model))
        optimizer.step()
    assert state() == before
    assert not optimizer._optimizer_step_pre_hooks
    assert not other._optimizer_step_pre_hooks


def test_two_optimizers_each_see_their_own(tmp_path: Path) -> None:
    """As in a GAN: each has its run, its tensors, and the loss of its own backward pass."""
    one, two = net(), net()
    a, b = torch.optim.SGD(one.parameters(), lr=0.1), torch.optim.SGD(two.parameters(), lr=0.1)
    seen: dict[str, Seen] = {"a": [], "b": []}
    with clipcal.watch(one, a, tmp_path / "a"), clipcal.watch(two, b, tmp_path / "b"):
        for _ in range(5):
            for name, model, optimizer in (("a", one, a), ("b", two, b)):
                optimizer.zero_grad()
                loss = loss_of(model)
                backward(loss)
                seen[name].append((loss.item(), total(model)))
                nn.utils.clip_grad_norm_(model.parameters(), 0.1)
                optimizer.step()
    for name, pairs in seen.items():
        trace = clipcal.read_trace(tmp_path / name / "trace.jsonl")
        np.testing.assert_allclose(trace.grad_norm, [norm for _, norm in pairs], rtol=1e-6)
        np.testing.assert_allclose(trace.loss, [loss for loss, _ in pairs], rtol=1e-6)


def test_an_exception_of_the_script_keeps_the_steps_and_passes(tmp_path: Path) -> None:
    model = net()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)

    def train() -> None:
        with clipcal.watch(model, optimizer, tmp_path / "run"):
            for i in range(9):
                backward(loss_of(model))
                optimizer.step()
                assert 1 / (5 - i)

    with pytest.raises(ZeroDivisionError):
        train()
    run = clipcal.open_run(tmp_path / "run")
    assert (run.info.status, run.info.reason) == ("failed", "ZeroDivisionError: division by zero")
    assert len(clipcal.read_trace(run.trace)) == 6


def test_recording_ends_after_the_steps_that_were_asked_for_and_training_goes_on(tmp_path: Path) -> None:
    model = net()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    watch = clipcal.watch(model, optimizer, tmp_path / "run", steps=4)
    for _ in range(9):
        backward(loss_of(model))
        optimizer.step()
    assert watch.run is not None
    assert watch.run.info.status == "complete"
    assert len(clipcal.read_trace(watch.run.trace)) == 4
    watch.close()


def test_a_run_that_is_there_is_kept(tmp_path: Path) -> None:
    model = net()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with clipcal.watch(model, optimizer, tmp_path / "run"):
        backward(loss_of(model))
        optimizer.step()
    before = (tmp_path / "run" / "trace.jsonl").read_bytes()
    with pytest.raises(clipcal.InputError, match="already holds a run"):
        clipcal.watch(model, optimizer, tmp_path / "run")
    with pytest.raises(clipcal.InputError, match=r"takes a torch.optim.Optimizer, not Linear"):
        clipcal.watch(model, nn.Linear(1, 1), tmp_path / "other")  # type: ignore[arg-type]
    assert (tmp_path / "run" / "trace.jsonl").read_bytes() == before


def test_a_default_folder_is_a_new_one_each_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.argv", ["some/train.py", "--lr", "1"])
    for _ in range(2):
        model = net()
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        with clipcal.watch(model, optimizer):
            backward(loss_of(model))
            optimizer.step()
    runs = sorted((tmp_path / "runs").iterdir())
    assert len(runs) == 2
    assert all(run.name.startswith("train-") for run in runs)
    assert json.loads((runs[0] / "run.json").read_text())["source"]["argv"] == ["--lr", "1"]


def test_what_a_watched_run_answers(tmp_path: Path) -> None:
    model = net()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with clipcal.watch(model, optimizer, tmp_path / "run"):
        for _ in range(80):
            optimizer.zero_grad()
            backward(loss_of(model))
            optimizer.step()
    assert load(tmp_path / "run").recommend().steps == 80
    with pytest.raises(clipcal.InputError, match="spec"):
        clipcal.verify(clipcal.open_run(tmp_path / "run"), max_norm=1.0)


class OwnRate(torch.optim.Optimizer):
    """Picks its rate itself, and has None in its place, as Adafactor does by default."""

    def __init__(self, params: Any) -> None:
        super().__init__(params, {"lr": None})

    def step(self, closure: Any = None) -> None:  # type: ignore[override]
        with torch.no_grad():
            for p in self.param_groups[0]["params"]:
                p.sub_(0.1 * p.grad)


def test_an_optimizer_that_picks_its_own_rate(tmp_path: Path) -> None:
    model = net()
    optimizer = OwnRate(model.parameters())
    with clipcal.watch(model, optimizer, tmp_path / "run"):
        for _ in range(3):
            optimizer.zero_grad()
            backward(loss_of(model))
            optimizer.step()
    trace = clipcal.read_trace(tmp_path / "run" / "trace.jsonl")
    assert len(trace) == 3
    assert np.isnan(trace.lr).all()
