"""A tanh RNN on the adding problem: it explodes unclipped, and learns with a threshold."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor, nn


class TanhRNN(nn.Module):
    def __init__(self, hidden_size: int = 64, recurrent_gain: float = 1.0) -> None:
        super().__init__()
        self.rnn = nn.RNN(2, hidden_size, batch_first=True)
        self.head = nn.Linear(hidden_size, 1)
        nn.init.orthogonal_(self.rnn.weight_hh_l0, recurrent_gain)

    def forward(self, sequences: Tensor) -> Tensor:
        hidden, _ = self.rnn(sequences)
        predicted: Tensor = self.head(hidden[:, -1])
        return predicted.squeeze(-1)


def batches(batch_size: int = 32, seq_len: int = 20, seed: int = 0) -> Iterator[tuple[Tensor, Tensor]]:
    generator = torch.Generator().manual_seed(seed)
    rows = torch.arange(batch_size)
    half = seq_len // 2
    while True:
        values = torch.rand(batch_size, seq_len, generator=generator)
        marks = torch.zeros(batch_size, seq_len)
        marks[rows, torch.randint(half, (batch_size,), generator=generator)] = 1
        marks[rows, torch.randint(half, seq_len, (batch_size,), generator=generator)] = 1
        yield torch.stack([values, marks], dim=-1), (values * marks).sum(dim=1)


def warmup(step: int, num_steps: int) -> float:
    """The factor on the learning rate at a step: up in a line over `num_steps`, then 1."""
    return min(1.0, (step + 1) / num_steps)
