"""What the trainings have in common: their shape, their losses, and the digits."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import cache
from typing import Any, Protocol

import torch
from sklearn.datasets import load_digits
from torch import Tensor, nn
from torch.nn import functional as F

STEPS = 800

Batch = Any


class Optimizer(Protocol):
    """One of torch's, or several that step as one."""

    param_groups: list[dict[str, Any]]

    def zero_grad(self, set_to_none: bool = True) -> None: ...

    def step(self) -> Any: ...


@dataclass(kw_only=True)
class Training:
    """One training, built anew for an arm. ``heldout`` measures what the person is after, lower is better: the loss on
    data that was not trained on, without corruption. ``trivial`` is what a predictor that learned nothing would score."""

    model: nn.Module
    optimizer: Optimizer
    batches: Iterator[Batch]
    loss: Callable[[nn.Module, Batch], Tensor]
    heldout: Callable[[nn.Module], float]
    trivial: float
    rate: Callable[[int], float] = field(default=lambda step: 1.0)


def regression(model: nn.Module, batch: Batch) -> Tensor:
    return F.mse_loss(model(batch[0]), batch[1])


def classification(model: nn.Module, batch: Batch) -> Tensor:
    return F.cross_entropy(model(batch[0]), batch[1])


def take(batches: Iterator[Batch], num: int) -> list[Batch]:
    return [next(batches) for _ in range(num)]


def mean_over(loss: Callable[[nn.Module, Batch], Tensor], batches: list[Batch]) -> Callable[[nn.Module], float]:
    def heldout(model: nn.Module) -> float:
        return sum(float(loss(model, batch)) for batch in batches) / len(batches)

    return heldout


@cache
def digit_sets() -> tuple[Batch, Batch]:
    """scikit-learn's 1,797 digits: 1,400 to train on and the rest."""
    digits = load_digits()
    order = torch.randperm(len(digits.data), generator=torch.Generator().manual_seed(0))
    pixels = torch.tensor(digits.data, dtype=torch.float32)[order] / 16
    classes = torch.tensor(digits.target)[order].long()
    return (pixels[:1400], classes[:1400]), (pixels[1400:], classes[1400:])


def draw(data: Batch, batch_size: int, seed: int) -> Iterator[Batch]:
    generator = torch.Generator().manual_seed(seed)
    while True:
        rows = torch.randint(len(data[0]), (batch_size,), generator=generator)
        yield tuple(column[rows] for column in data)


def digits(
    model: nn.Module, optimizer: torch.optim.Optimizer, seed: int, rate: Callable[[int], float] = lambda step: 1.0
) -> Training:
    train, heldout = digit_sets()
    return Training(
        model=model,
        optimizer=optimizer,
        batches=draw(train, 32, seed),
        loss=classification,
        heldout=mean_over(classification, [heldout]),
        trivial=math.log(10),
        rate=rate,
    )
