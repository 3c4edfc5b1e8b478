"""A tanh RNN on the adding problem: its gradients explode and training diverges, unless they are clipped.

Two numbers of a sequence are marked, and the RNN answers with their sum at the end (Hochreiter and Schmidhuber 1997;
with clipping, Pascanu, Mikolov and Bengio 2013). So the recurrence must keep a number over many steps without
shrinking it. A recurrence that does so is close to one whose gradients explode. While the learning rate warms up, one
explosion moves the weights to a place where the next gradient is larger still. With a threshold, the same explosions
are ordinary steps, and the RNN learns.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor, nn

TRIVIAL_MSE = 1 / 6  # of a model that always answers 1: the variance of the sum of two numbers uniform in [0, 1)


class TanhRNN(nn.Module):
    """A plain recurrence of `hidden_size` units that reads (number, mark) pairs, and a linear answer at the end."""

    def __init__(self, hidden_size: int = 64, recurrent_gain: float = 1.2) -> None:
        super().__init__()
        self.rnn = nn.RNN(2, hidden_size, batch_first=True)
        self.head = nn.Linear(hidden_size, 1)
        # Orthogonal: every direction of the state is stretched by the same factor, 1.2; 1 would keep its length. Over
        # 10 steps that makes a gradient up to 1.2 ** 10 = 6 times longer, while the tanh units are not saturated.
        nn.init.orthogonal_(self.rnn.get_parameter("weight_hh_l0"), recurrent_gain)
        nn.init.constant_(self.head.bias, 1.0)  # the mean answer: the first steps need not learn that

    def forward(self, sequences: Tensor) -> Tensor:
        """(batch_size, seq_len, 2) numbers and marks -> (batch_size,) sums."""
        hidden, _ = self.rnn(sequences)
        predicted: Tensor = self.head(hidden[:, -1])
        return predicted.squeeze(-1)


def batches(batch_size: int = 64, seq_len: int = 10, seed: int = 0) -> Iterator[tuple[Tensor, Tensor]]:
    """New sequences without end: (numbers in [0, 1) and marks of 0 or 1, the sum of the two marked numbers).

    One mark is in each half of the sequence, so that the RNN always has to remember.
    """
    generator = torch.Generator().manual_seed(seed)  # separate: initialising a model must not change the batches
    rows = torch.arange(batch_size)
    half = seq_len // 2
    while True:
        numbers = torch.rand(batch_size, seq_len, generator=generator)
        marks = torch.zeros(batch_size, seq_len)
        marks[rows, torch.randint(half, (batch_size,), generator=generator)] = 1
        marks[rows, torch.randint(half, seq_len, (batch_size,), generator=generator)] = 1
        yield torch.stack([numbers, marks], dim=-1), (numbers * marks).sum(dim=1)


def warmup(step: int, num_steps: int) -> float:
    """The factor on the learning rate at a step: it rises in a line over `num_steps`, then it is 1."""
    return min(1.0, (step + 1) / num_steps)
