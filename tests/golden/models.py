"""What the golden runs train: a copy of this file stands beside each spec and script."""

import os
import signal
import time

import torch
from torch import nn


class Net(nn.Module):
    def __init__(self, width=8):
        super().__init__()
        self.inner = nn.Linear(4, width)
        self.outer = nn.Linear(width, 1)

    def forward(self, x):
        return self.outer(torch.tanh(self.inner(x)))


class Line(nn.Module):
    """Nothing holds it back when the learning rate is too high."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Linear(4, 1)

    def forward(self, x):
        return self.weight(x)


def batches(batch_size=8, outliers=0.0, height=30.0, seed=0):
    """Endless pairs; a share of the batches are ``outliers``, with targets ``height`` times as large."""
    g = torch.Generator().manual_seed(seed)
    while True:
        x = torch.randn(batch_size, 4, generator=g)
        y = x.sum(1, keepdim=True) + 0.1 * torch.randn(batch_size, 1, generator=g)
        yield x, y * (height if torch.rand((), generator=g) < outliers else 1)


def deadly(length, seed=0):
    """The process dies before batch ``length``, after what it reported is on disk."""
    for i, batch in enumerate(batches(seed=seed)):
        time.sleep(0.05)
        if i == length:
            os.kill(os.getpid(), signal.SIGKILL)
        yield batch


def interrupting(length, seed=0):
    for i, batch in enumerate(batches(seed=seed)):
        if i == length:
            os.kill(os.getpid(), signal.SIGINT)
        yield batch


def raised(step):
    """A factor of the learning rate."""
    return 1.0 if step < 45 else 2000.0
