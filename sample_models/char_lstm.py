"""A character LSTM on Python source, for SGD with a high learning rate: its gradient norms spike, and clipping helps.

Now and then a large step moves the recurrence into a region where the gradient through 64 characters explodes.
Unclipped, each such step undoes a part of the training. Clipped, it is a step like any other.
"""

from __future__ import annotations

from collections.abc import Iterator

from torch import Tensor, nn

from sample_models.stdlib_text import VOCAB_SIZE, windows


class CharLSTM(nn.Module):
    """One LSTM layer. With 128 units it learns the words and the indentation of source text in a few hundred steps."""

    def __init__(self, hidden_size: int = 128, num_layers: int = 1) -> None:
        super().__init__()
        self.embedding = nn.Embedding(VOCAB_SIZE, hidden_size)
        self.lstm = nn.LSTM(hidden_size, hidden_size, num_layers, batch_first=True)
        self.head = nn.Linear(hidden_size, VOCAB_SIZE)

    def forward(self, characters: Tensor) -> Tensor:
        """(batch_size, seq_len) characters -> (batch_size, vocabulary, seq_len) logits of the next ones."""
        hidden, _ = self.lstm(self.embedding(characters))  # from a zero state: windows are drawn at random
        logits: Tensor = self.head(hidden)
        return logits.transpose(1, 2)  # CrossEntropyLoss wants the classes second


def batches(batch_size: int = 32, seq_len: int = 64, seed: int = 0) -> Iterator[tuple[Tensor, Tensor]]:
    """Random windows of the text, without end: (characters, the next characters), each (batch_size, seq_len)."""
    return windows(batch_size, seq_len, seed)
