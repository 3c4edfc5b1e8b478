"""A deep MLP with an initialisation that is too large."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from sklearn.datasets import load_digits
from torch import Tensor, nn

NUM_PIXELS, NUM_CLASSES = 64, 10


class DeepMLP(nn.Module):
    def __init__(self, num_layers: int = 8, width: int = 64, gain: float = 2.0, act: str = 'ReLU') -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for i in range(num_layers):
            linear = nn.Linear(NUM_PIXELS if i == 0 else width, width)
            nn.init.kaiming_normal_(linear.weight, nonlinearity="relu")
            with torch.no_grad():
                linear.weight *= gain
            layers += [linear, getattr(nn, act)()]
        self.layers = nn.Sequential(*layers, nn.Linear(width, NUM_CLASSES))

    def forward(self, pixels: Tensor) -> Tensor:
        logits: Tensor = self.layers(pixels)
        return logits


def batches(batch_size: int = 64, seed: int = 0) -> Iterator[tuple[Tensor, Tensor]]:
    digits = load_digits()
    pixels = torch.tensor(digits.data, dtype=torch.float32) / 16
    classes = torch.tensor(digits.target, dtype=torch.int64)
    generator = torch.Generator().manual_seed(seed)
    while True:
        rows = torch.randint(len(pixels), (batch_size,), generator=generator)
        yield pixels[rows], classes[rows]
