"""A small GPT with AdamW and a warm-up: its gradient norms are steady, and clipping makes no difference.

Layer norms, a small initialisation and a warm-up prevent large norms here. Adam also divides by the size of the recent
gradients, so their length hardly matters.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sample_models.stdlib_text import VOCAB_SIZE, windows


class Block(nn.Module):
    """Pre-norm, as in GPT-2: there is no layer norm on the residual path, so that deep models can be trained."""

    def __init__(self, width: int, num_heads: int) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.norm_attention = nn.LayerNorm(width)
        self.qkv = nn.Linear(width, 3 * width)
        self.project = nn.Linear(width, width)
        self.norm_mlp = nn.LayerNorm(width)
        self.mlp = nn.Sequential(nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width))

    def forward(self, x: Tensor) -> Tensor:
        batch_size, seq_len, width = x.shape
        heads = self.qkv(self.norm_attention(x)).view(batch_size, seq_len, 3, self.num_heads, -1)
        query, key, value = heads.permute(2, 0, 3, 1, 4)
        attended = F.scaled_dot_product_attention(query, key, value, is_causal=True)
        x = x + self.project(attended.transpose(1, 2).reshape(batch_size, seq_len, width))
        out: Tensor = x + self.mlp(self.norm_mlp(x))
        return out


class SmallGPT(nn.Module):
    """A small GPT-2, with its initialisation and without its dropout: no model overfits in 300 steps."""

    def __init__(self, num_layers: int = 2, num_heads: int = 4, width: int = 64, seq_len: int = 64) -> None:
        super().__init__()
        self.token = nn.Embedding(VOCAB_SIZE, width)
        self.position = nn.Embedding(seq_len, width)
        self.blocks = nn.Sequential(*(Block(width, num_heads) for _ in range(num_layers)))
        self.norm = nn.LayerNorm(width)
        self.head = nn.Linear(width, VOCAB_SIZE, bias=False)
        for name, parameter in self.named_parameters():
            if name.endswith("bias"):
                nn.init.zeros_(parameter)
            elif "norm" not in name:
                # GPT-2's 0.02; for layers that add to the residual path, divided by the root of their number
                writes = name.endswith(("project.weight", "mlp.2.weight"))
                nn.init.normal_(parameter, std=0.02 / (2 * num_layers) ** 0.5 if writes else 0.02)

    def forward(self, characters: Tensor) -> Tensor:
        """(batch_size, seq_len) characters -> (batch_size, vocabulary, seq_len) logits of the next ones."""
        positions = torch.arange(characters.shape[1], device=characters.device)
        x = self.blocks(self.token(characters) + self.position(positions))
        logits: Tensor = self.head(self.norm(x))
        return logits.transpose(1, 2)  # CrossEntropyLoss wants the classes second


def batches(batch_size: int = 16, seq_len: int = 64, seed: int = 0) -> Iterator[tuple[Tensor, Tensor]]:
    """Random windows of the text, without end: (characters, the next characters), each (batch_size, seq_len)."""
    return windows(batch_size, seq_len, seed)


def warmup(step: int, num_steps: int) -> float:
    """The factor on the learning rate at a step: it rises in a line over `num_steps`, then it is 1."""
    return min(1.0, (step + 1) / num_steps)
