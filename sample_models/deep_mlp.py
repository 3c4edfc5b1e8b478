"""A deep MLP on handwritten digits, initialised too large: its norms vary strongly, and with clipping it learns faster.

Kaiming's initialisation keeps the size of a signal from layer to layer. A gain of 1.1 makes the signal 1.1 ** 16 = 4.6
times too large after sixteen layers. The first norms are very large. Later, large norms come in bursts: one step moves
the weights so far that the next norm is larger still. Clipping makes the bursts short.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from sklearn.datasets import load_digits
from torch import Tensor, nn

NUM_PIXELS, NUM_CLASSES = 64, 10


class DeepMLP(nn.Module):
    """`num_layers` ReLU layers, their weights `gain` times Kaiming's, and a linear one for the classes."""

    def __init__(self, num_layers: int = 16, width: int = 64, gain: float = 1.1) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for i in range(num_layers):
            linear = nn.Linear(NUM_PIXELS if i == 0 else width, width)
            nn.init.kaiming_normal_(linear.weight, nonlinearity="relu")
            with torch.no_grad():
                linear.weight *= gain
            layers += [linear, nn.ReLU()]
        self.layers = nn.Sequential(*layers, nn.Linear(width, NUM_CLASSES))

    def forward(self, pixels: Tensor) -> Tensor:
        """(batch_size, 64) pixels -> (batch_size, 10) logits."""
        logits: Tensor = self.layers(pixels)
        return logits


def batches(batch_size: int = 64, seed: int = 0) -> Iterator[tuple[Tensor, Tensor]]:
    """Random batches of scikit-learn's 1,797 digits, without end: (pixels from 0 to 1, classes)."""
    digits = load_digits()
    pixels = torch.tensor(digits.data, dtype=torch.float32) / 16
    classes = torch.tensor(digits.target, dtype=torch.int64)
    generator = torch.Generator().manual_seed(seed)  # separate: initialising a model must not change the batches
    while True:
        rows = torch.randint(len(pixels), (batch_size,), generator=generator)
        yield pixels[rows], classes[rows]
