"""Regression with a few corrupted batches under plain SGD."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor, nn

NUM_FEATURES = 10
MEAN, STD = 14.41, 4.87  # of Friedman's function, so that targets come out with mean 0 and variance 1


class MLP(nn.Module):
    def __init__(self, width: int = 64) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Linear(NUM_FEATURES, width), nn.ReLU(), nn.Linear(width, width), nn.ReLU(), nn.Linear(width, 1)
        )

    def forward(self, features: Tensor) -> Tensor:
        predicted: Tensor = self.layers(features)
        return predicted.squeeze(-1)


def friedman(features: Tensor) -> Tensor:
    x1, x2, x3, x4, x5 = features.unbind(-1)[:5]
    return 10 * torch.sin(torch.pi * x1 * x2) + 20 * (x3 - 0.5) ** 2 + 10 * x4 + 5 * x5


def batches(
    batch_size: int = 64, outlier_share: float = 0.03, outlier_factor: float = 30.0, noise: float = 0.1, seed: int = 0, mode: str = "factor",
) -> Iterator[tuple[Tensor, Tensor]]:
    generator = torch.Generator().manual_seed(seed)
    while True:
        features = torch.rand(batch_size, NUM_FEATURES, generator=generator)
        target = (friedman(features) - MEAN) / STD + noise * torch.randn(batch_size, generator=generator)
        corrupted = torch.rand((), generator=generator) < outlier_share
        if corrupted:
            if mode == "factor":
                target = outlier_factor * target
            elif mode == "noise":
                target = target + outlier_factor * torch.randn(batch_size, generator=generator)
            elif mode == "perm":
                target = outlier_factor * target[torch.randperm(batch_size, generator=generator)]
            elif mode == "shift":
                target = target + outlier_factor
        yield features, target
