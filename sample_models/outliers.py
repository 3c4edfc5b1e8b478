"""Regression from a sensor that is sometimes off: unclipped, a few corrupted batches undo a part of the training.

The targets are right in most batches. In a few batches the sensor had an offset, and all targets are far too large.
The gradient of such a batch is about fifty times longer than usual. One plain SGD step along it makes the model worse
for the next hundred steps.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor, nn

NUM_FEATURES = 10
MEAN, STD = 14.41, 4.87  # of Friedman's function over the unit cube: targets get mean 0 and variance 1


class MLP(nn.Module):
    """Two hidden layers: enough to learn the product and the parabola in the function."""

    def __init__(self, width: int = 64) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Linear(NUM_FEATURES, width), nn.ReLU(), nn.Linear(width, width), nn.ReLU(), nn.Linear(width, 1)
        )

    def forward(self, features: Tensor) -> Tensor:
        """(batch_size, 10) features -> (batch_size,) predictions."""
        predicted: Tensor = self.layers(features)
        return predicted.squeeze(-1)


def friedman(features: Tensor) -> Tensor:
    """Friedman's first function (1991), as in sklearn.datasets.make_friedman1: it uses five of the ten features."""
    x1, x2, x3, x4, x5 = features.unbind(-1)[:5]
    return 10 * torch.sin(torch.pi * x1 * x2) + 20 * (x3 - 0.5) ** 2 + 10 * x4 + 5 * x5


def batches(
    batch_size: int = 16, outlier_share: float = 0.02, offset: float = 15.0, noise: float = 0.3, seed: int = 0
) -> Iterator[tuple[Tensor, Tensor]]:
    """New batches without end: (features in [0, 1), targets).

    In about `outlier_share` of them, `offset` is added to every target. `offset` and `noise` are in standard deviations
    of the function.
    """
    generator = torch.Generator().manual_seed(seed)  # separate: initialising a model must not change the batches
    while True:
        features = torch.rand(batch_size, NUM_FEATURES, generator=generator)
        target = (friedman(features) - MEAN) / STD + noise * torch.randn(batch_size, generator=generator)
        is_outlier = torch.rand((), generator=generator) < outlier_share
        yield features, target + offset if is_outlier else target
