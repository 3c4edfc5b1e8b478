"""The way that everything takes on an accelerator, on a device that computes on the CPU: the same numbers, and who waits when.

The functions with a ``device`` run in a process of their own, which has it (``pretended_device``).
"""

from __future__ import annotations

import math
import os
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pretended_device
import pytest
import torch
from pretended_device import waits
from torch import Tensor, nn
from torch.optim.optimizer import register_optimizer_step_pre_hook

import clipcal
from clipcal.run.step import Step
from clipcal.scripts.child.collector import Collector
from clipcal.scripts.child.growing import COUNT
from clipcal.scripts.child.session import STREAMS, Config
from clipcal.scripts.child.stream import BATCH, EARLY, SECONDS
from clipcal.training.gradnorm import ClipRule, measure
from clipcal.training.loop import Parts, train
from clipcal.training.recorder import Recorder
from clipcal.watching.watch import Watch

STEPS = 70
"""More than one batch of them."""
CPU = torch.device("cpu")
Optimizer = Callable[[Any], torch.optim.Optimizer]

OPTIMIZERS: dict[str, Callable[[torch.device], Optimizer]] = {
    "SGD": lambda device: lambda p: torch.optim.SGD(p, lr=0.05, momentum=0.9),
    "AdamW": lambda device: lambda p: torch.optim.AdamW(p, lr=0.01),
    "rate on the device": lambda device: (
        lambda p: torch.optim.AdamW(
            p, lr=torch.tensor(0.01).to(device), capturable=device != CPU, foreach=device != CPU
        )
    ),
}
CASES: dict[str, dict[str, Any]] = {
    **{name: {"optimizer": name} for name in OPTIMIZERS},
    "accumulated": {"accumulate": 3},
    "a layer without gradient": {"unused": True},
    "bf16": {"precision": "bf16"},
    "fp16": {"precision": "fp16"},
    "fp16, one step overflows": {"precision": "fp16", "bad": 30},
    "L1": {"norm_type": 1.0},
    "Linf": {"norm_type": math.inf},
    "clipped by norm": {"clip": ClipRule(threshold=0.5)},
    "clipped by another norm": {"clip": ClipRule(threshold=0.5, norm_type=1.0)},
    "clipped by value": {"clip": ClipRule(method="value", threshold=0.05)},
    "clipped per tensor": {"clip": ClipRule(method="per_tensor", threshold=0.2)},
    "logged": {"logged": True},
}


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.inner, self.norm, self.outer = nn.Linear(4, 8), nn.LayerNorm(8), nn.Linear(8, 1)
        self.unused = nn.Linear(2, 2)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.outer(torch.tanh(self.norm(self.inner(x))))
        return out


def net(device: torch.device) -> Net:
    torch.manual_seed(0)
    return Net().to(device)


def batches(bad: int | None = None, first: int = 0) -> Iterator[tuple[Tensor, Tensor]]:
    g = torch.Generator().manual_seed(0)
    for i in range(10**6):
        x = torch.randn(8, 4, generator=g)
        if i >= first:
            yield x * (1e30 if i == bad else 1.0), x.sum(1, keepdim=True)


def loss_of(model: nn.Module, batch: Any) -> Tensor:
    return nn.functional.mse_loss(model(batch[0]).float(), batch[1])


def logged_loss_of(model: nn.Module, batch: Any) -> Tensor:
    loss = loss_of(model, batch)
    loss.item()
    return loss


def trained(
    device: torch.device,
    *,
    optimizer: str = "SGD",
    norm_type: float = 2.0,
    clip: ClipRule | None = None,
    unused: bool = False,
    bad: int | None = None,
    first: int = 0,
    logged: bool = False,
    **fields: Any,
) -> dict[str, Any]:
    """What is recorded of a training, and who waited, in its steps and between them."""
    model = net(device)
    params = [p for n, p in model.named_parameters() if unused or not n.startswith("unused")]
    parts = Parts(
        model=model,
        data=lambda: batches(bad, first),
        batch_loss=logged_loss_of if logged else loss_of,
        optimizer=OPTIMIZERS[optimizer](device)(params),
        scheduler=None,
        device=device,
        **fields,
    )
    steps: list[Any] = []
    rows: list[Any] = []

    def sink(some: Sequence[Step], norms: Any) -> None:
        steps.extend(some)
        rows.extend(norms.tolist())

    recorder = Recorder(num_tensors=len(params), sink=sink, seconds=math.inf)
    waits.clear()
    in_steps: Counter[str] = Counter()
    fetches: list[Counter[str]] = []
    for observation in train(parts, steps=STEPS, norm_type=norm_type, clip=clip):
        in_steps += Counter(waits)
        waits.clear()
        recorder.add(observation)
        fetches.append(Counter(waits))
        waits.clear()
    recorder.flush()
    fetches.append(Counter(waits))
    keys = ("loss", "grad_norm", "grad_max", "lr", "scale", "skipped")
    return {
        "in steps": in_steps,
        "fetches": [f for f in fetches if f],
        **{key: [getattr(s, key) for s in steps] for key in keys},
        "rows": rows,
    }


def every_training(device: torch.device) -> dict[str, Any]:
    return {name: trained(device, **case) for name, case in CASES.items()}


@pytest.fixture(scope="module")
def trainings() -> Any:
    return pretended_device.run(Path(__file__), "every_training")


@pytest.mark.parametrize("name", CASES)
def test_the_numbers_are_those_of_the_cpu(name: str, trainings: Any) -> None:
    case = CASES[name]
    there = trainings[name]
    assert len(there["loss"]) == STEPS
    if (
        case.get("precision") == "fp16"
    ):  # where the first steps overflow, the first that does not is at the first weights
        first = there["skipped"].index(False)
        here = trained(CPU, precision="fp32", first=first)
        assert there["grad_norm"][first] == pytest.approx(here["grad_norm"][0], rel=0.02)
        return
    here = trained(CPU, **case)
    # capturable optimizers divide in another order
    tolerance = 1e-2 if case.get("precision") == "bf16" else 1e-4 if name == "rate on the device" else 1e-6
    for key in ("loss", "grad_norm", "grad_max", "lr", "rows"):
        np.testing.assert_allclose(there[key], here[key], rtol=tolerance, atol=tolerance, err_msg=key)
    assert there["skipped"] == here["skipped"]
    if "clip" in case:
        np.testing.assert_allclose(there["scale"], here["scale"], rtol=1e-6)
        assert min(there["scale"]) < 1


@pytest.mark.parametrize("name", [n for n in CASES if n != "logged"])
def test_no_step_waits_and_a_fetch_waits_twice(name: str, trainings: Any) -> None:
    """A GradScaler asks by itself whether it may step, once a step."""
    found = trainings[name]
    scaler = {"_local_scalar_dense in grad_scaler": STEPS} if CASES[name].get("precision") == "fp16" else {}
    assert found["in steps"] == scaler
    assert len(found["fetches"]) == 2, "after 64 steps, and at the end"
    for fetch in found["fetches"]:
        assert sum(fetch.values()) == 2, f"numbers, and norms of tensors: {fetch}"


def test_a_loss_that_is_logged_is_seen(trainings: Any) -> None:
    assert sum(trainings["logged"]["in steps"].values()) == STEPS


def test_a_step_that_the_scaler_drops_is_marked(trainings: Any) -> None:
    skipped = trainings["fp16, one step overflows"]["skipped"]
    usual = trainings["fp16"]["skipped"]
    assert skipped[30]
    assert not usual[30]
    assert sum(skipped[20:]) == 1


# A script of somebody's


def loop(model: nn.Module, device: torch.device) -> Iterator[float]:
    """Nothing in it waits. The losses come at the end."""
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.01)
    kept = []
    for _, (x, y) in zip(range(STEPS), batches(), strict=False):
        optimizer.zero_grad()
        loss = loss_of(model, (x.to(device, non_blocking=True), y.to(device, non_blocking=True)))
        torch.autograd.backward(loss)
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        kept.append(loss.detach())
        yield math.nan
    yield from torch.stack(kept).cpu().tolist()


def followed(model: nn.Module, device: torch.device) -> tuple[list[Counter[str]], list[float]]:
    """Who waited in each step of the loop, and the losses."""
    by_step: list[Counter[str]] = []
    losses: list[float] = []
    waits.clear()
    for value in loop(model, device):
        if math.isnan(value):
            by_step.append(Counter(waits))
            waits.clear()
        else:
            losses.append(value)
    return by_step, losses


def watched(device: torch.device) -> dict[str, Any]:
    """The loop alone, with a line of ours, and attached to from outside."""
    alone = followed(net(device), device)
    with tempfile.TemporaryDirectory() as folder:
        model = net(device)
        opened: list[Watch] = []

        def open_it(optimizer: torch.optim.Optimizer, args: Any, kwargs: Any) -> None:
            if not opened:  # the loop makes the optimizer itself
                opened.append(clipcal.watch(model, optimizer, Path(folder) / "run"))

        handle = register_optimizer_step_pre_hook(open_it)
        with_a_line = followed(model, device)
        handle.remove()
        opened[0].close()
        norms = clipcal.read_trace(Path(folder) / "run" / "trace.jsonl").grad_norm.tolist()
    with tempfile.TemporaryDirectory() as folder:
        os.mkdir(f"{folder}/{STREAMS}")
        collector = Collector(Path(folder), Config(steps=10**9, max_norm=1.0))
        collector.attach()
        attached = followed(net(device), device)
        collector.close()
        collector.detach()
        (file,) = Path(folder).glob(f"{STREAMS}/*/steps")
        counted = COUNT.unpack_from(file.read_bytes())[0]
    return {
        "alone": alone,
        "watched": with_a_line,
        "norms": norms,
        "attached": attached,
        "attached steps": counted,
    }


@pytest.fixture(scope="module")
def scripts() -> Any:
    return pretended_device.run(Path(__file__), "watched")


def test_a_script_is_the_same_with_us(scripts: Any) -> None:
    assert scripts["watched"][1] == scripts["alone"][1]
    assert scripts["attached"][1] == scripts["alone"][1]
    assert len(scripts["norms"]) == STEPS
    assert scripts["attached steps"] == STEPS


@pytest.mark.parametrize("how", ["watched", "attached"])
def test_a_watched_step_waits_only_where_it_fetches(how: str, scripts: Any) -> None:
    assert not any(scripts["alone"][0])
    by_step = scripts[how][0]
    assert len(by_step) == STEPS
    fetching = [i for i, found in enumerate(by_step) if found]
    for i in fetching:
        assert sum(by_step[i].values()) <= 3, f"numbers, norms of tensors, and changes by hand: {by_step[i]}"
    late = [i for i in fetching if i >= EARLY]
    assert len(late) <= 1 + STEPS // BATCH + 2.0 / SECONDS, f"in batches, or after {SECONDS} s: {late}"


# Gradients on two devices


def mixed(device: torch.device) -> list[Any]:
    values = [torch.arange(1.0, 4.0), torch.arange(4.0)]
    found = []
    for first in (0, 1):
        grads = [v.to(device, non_blocking=True) if i != first else v for i, v in enumerate(values)]
        waits.clear()
        norms = measure(grads, 2.0)
        found.append([norms.total.device.type, len(waits), norms.total.item(), norms.per_tensor.tolist()])
    return found


def test_norms_of_two_devices_meet_on_the_accelerator() -> None:
    expected = [pretended_device.NAME, 0, pytest.approx(28**0.5), pytest.approx([14**0.5, 14**0.5])]
    assert pretended_device.run(Path(__file__), "mixed") == [expected, expected]
