"""A deep sigmoid network on handwritten digits: its gradients vanish, and no clipping threshold can help that."""

from __future__ import annotations

import torch
from sklearn.datasets import load_digits
from torch import Tensor, nn

NUM_PIXELS, NUM_CLASSES = 64, 10


class DeepSigmoid(nn.Module):
    def __init__(self, num_layers: int = 12, width: int = 64) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for i in range(num_layers):
            layers += [nn.Linear(NUM_PIXELS if i == 0 else width, width), nn.Sigmoid()]
        self.layers = nn.Sequential(*layers, nn.Linear(width, NUM_CLASSES))

    def forward(self, pixels: Tensor) -> Tensor:
        logits: Tensor = self.layers(pixels)
        return logits


def all_digits() -> list[tuple[Tensor, Tensor]]:
    digits = load_digits()
    pixels = torch.tensor(digits.data, dtype=torch.float32) / 16
    return [(pixels, torch.tensor(digits.target, dtype=torch.int64))]
