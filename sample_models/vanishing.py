"""A deep sigmoid network on handwritten digits: its gradients vanish, and no clipping threshold can help that.

The slope of a sigmoid is at most 1/4, and torch's usual initialisation shrinks a signal to about 0.6 of its size. So
each layer passes on about a seventh of the gradient, and twelve layers about one part in ten billion. Only the last
layer learns. It gets no signal from the digits, so it can only learn how frequent each of the ten is. That takes a
hundred steps. Then its own gradient vanishes too, and the loss stays at log(10) = 2.303, the loss of a random guess.
"""

from __future__ import annotations

import torch
from sklearn.datasets import load_digits
from torch import Tensor, nn

NUM_PIXELS, NUM_CLASSES = 64, 10


class DeepSigmoid(nn.Module):
    """`num_layers` sigmoid layers of torch's own initialisation, and a linear one for the classes."""

    def __init__(self, num_layers: int = 12, width: int = 64) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for i in range(num_layers):
            layers += [nn.Linear(NUM_PIXELS if i == 0 else width, width), nn.Sigmoid()]
        self.layers = nn.Sequential(*layers, nn.Linear(width, NUM_CLASSES))

    def forward(self, pixels: Tensor) -> Tensor:
        """(batch_size, 64) pixels -> (batch_size, 10) logits."""
        logits: Tensor = self.layers(pixels)
        return logits


def all_digits() -> list[tuple[Tensor, Tensor]]:
    """The 1,797 digits of scikit-learn as one batch: (pixels from 0 to 1, classes).

    One batch and not many: in a small batch the classes are not equally frequent, which gives a gradient that never
    vanishes. That noise would hide that the model gets no gradient from the digits.
    """
    digits = load_digits()
    return [(torch.tensor(digits.data, dtype=torch.float32) / 16, torch.tensor(digits.target, dtype=torch.int64))]
