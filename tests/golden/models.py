"""What the golden runs train: a copy of this file stands beside each spec and script."""

import os
import signal
import time
from collections.abc import Iterator

import torch
from torch import Tensor, nn

Pair = tuple[Tensor, Tensor]


class Net(nn.Module):
    def __init__(self, width: int = 8) -> None:
        super().__init__()
        self.inner = nn.Linear(4, width)
        self.outer = nn.Linear(width, 1)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.outer(torch.tanh(self.inner(x)))
        return y


class Line(nn.Module):
    """Nothing holds it back when the learning rate is too high."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Linear(4, 1)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.weight(x)
        return y


def batches(batch_size: int = 8, outliers: float = 0.0, height: float = 30.0, seed: int = 0) -> Iterator[Pair]:
    """Endless pairs; a share of the batches are ``outliers``, with targets ``height`` times as large."""
    g = torch.Generator().manual_seed(seed)
    while True:
        x = torch.randn(batch_size, 4, generator=g)
        y = x.sum(1, keepdim=True) + 0.1 * torch.randn(batch_size, 1, generator=g)
        yield x, y * (height if torch.rand((), generator=g) < outliers else 1)


def deadly(length: int, seed: int = 0) -> Iterator[Pair]:
    """The process dies before batch ``length``, after what it reported is on disk."""
    for i, batch in enumerate(batches(seed=seed)):
        time.sleep(0.05)
        if i == length:
            os.kill(os.getpid(), signal.SIGKILL)
        yield batch


def interrupting(length: int, seed: int = 0) -> Iterator[Pair]:
    for i, batch in enumerate(batches(seed=seed)):
        if i == length:
            os.kill(os.getpid(), signal.SIGINT)
        yield batch


def raised(step: int) -> float:
    """A factor of the learning rate."""
    return 1.0 if step < 45 else 2000.0
