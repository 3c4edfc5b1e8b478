"""A character LSTM under hot SGD."""

from __future__ import annotations

from collections.abc import Iterator

from torch import Tensor, nn

from sample_models.stdlib_text import VOCAB_SIZE, windows


class CharLSTM(nn.Module):
    def __init__(self, hidden_size: int = 128, num_layers: int = 1) -> None:
        super().__init__()
        self.embedding = nn.Embedding(VOCAB_SIZE, hidden_size)
        self.lstm = nn.LSTM(hidden_size, hidden_size, num_layers, batch_first=True)
        self.head = nn.Linear(hidden_size, VOCAB_SIZE)

    def forward(self, characters: Tensor) -> Tensor:
        hidden, _ = self.lstm(self.embedding(characters))
        logits: Tensor = self.head(hidden)
        return logits.transpose(1, 2)


def batches(batch_size: int = 32, seq_len: int = 64, seed: int = 0) -> Iterator[tuple[Tensor, Tensor]]:
    return windows(batch_size, seq_len, seed)
