"""The models that are timed: each as a spec for clipcal, and as the loop that a person would write by hand.

Both sides build the same parts from the same seed, so their losses are equal bit for bit: only recording differs.
Imports nothing of clipcal: the bare arm must not carry its memory.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

Batches = list[tuple[Tensor, Tensor]]

SEED = 0
NUM_BATCHES = 8  # re-used in turn, so that no arm is charged for drawing its data
VOCAB_SIZE = 256  # bytes


class Block(nn.Module):
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


class GPT(nn.Module):
    """10.9 million parameters in 77 tensors: the size of nanoGPT's character model (6 layers, 6 heads, 384 wide)."""

    def __init__(self, num_layers: int = 6, num_heads: int = 6, width: int = 384, seq_len: int = 64) -> None:
        super().__init__()
        self.token = nn.Embedding(VOCAB_SIZE, width)
        self.position = nn.Embedding(seq_len, width)
        self.blocks = nn.Sequential(*(Block(width, num_heads) for _ in range(num_layers)))
        self.norm = nn.LayerNorm(width)
        self.head = nn.Linear(width, VOCAB_SIZE, bias=False)

    def forward(self, tokens: Tensor) -> Tensor:
        x = self.token(tokens) + self.position(torch.arange(tokens.shape[1], device=tokens.device))
        logits: Tensor = self.head(self.norm(self.blocks(x)))
        return logits.transpose(1, 2)


def gpt_batches() -> Batches:
    """6 sequences of 64, half of what nanoGPT recommends on a CPU: the shorter the step, the more recording weighs."""
    return _texts(batch_size=6, seq_len=64)


class LSTM(nn.Module):
    def __init__(self, width: int = 160, num_layers: int = 2) -> None:
        super().__init__()
        self.token = nn.Embedding(VOCAB_SIZE, width)
        self.lstm = nn.LSTM(width, width, num_layers, batch_first=True)
        self.head = nn.Linear(width, VOCAB_SIZE)

    def forward(self, tokens: Tensor) -> Tensor:
        hidden, _ = self.lstm(self.token(tokens))
        logits: Tensor = self.head(hidden)
        return logits.transpose(1, 2)


def lstm_batches() -> Batches:
    return _texts(batch_size=24, seq_len=64)


class MLP(nn.Module):
    """A step of about a millisecond, where every microsecond of recording shows."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Linear(64, 256),
            nn.ReLU(),
            nn.Linear(256, 256),
            nn.ReLU(),
            nn.Linear(256, 256),
            nn.ReLU(),
            nn.Linear(256, 10),
        )

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.layers(x)
        return logits


def mlp_batches() -> Batches:
    generator = torch.Generator().manual_seed(SEED)
    return [
        (torch.randn(32, 64, generator=generator), torch.randint(10, (32,), generator=generator))
        for _ in range(NUM_BATCHES)
    ]


def _texts(batch_size: int, seq_len: int) -> Batches:
    generator = torch.Generator().manual_seed(SEED)
    texts = [torch.randint(VOCAB_SIZE, (batch_size, seq_len + 1), generator=generator) for _ in range(NUM_BATCHES)]
    return [(text[:, :-1].contiguous(), text[:, 1:].contiguous()) for text in texts]


@dataclass(frozen=True, kw_only=True)
class Workload:
    """``block`` steps of one arm are run before the next arm's turn: enough that a turn is longer than what a switch of
    arms costs, and few enough that all arms meet the same neighbours on the machine."""

    title: str
    model: Callable[[], nn.Module]
    batches: Callable[[], Batches]
    lr: float
    block: int
    rounds: int
    quick_rounds: int
    memory_steps: int

    def spec(self, name: str, steps: int) -> str:
        return (
            f"name: {name}\n"
            f"model: {{_target_: benchmarks.workloads.{self.model.__name__}}}\n"
            f"data: {{_target_: benchmarks.workloads.{self.batches.__name__}}}\n"
            "loss: {_target_: torch.nn.CrossEntropyLoss}\n"
            f"optimizer: {{_target_: torch.optim.AdamW, lr: {self.lr}}}\n"
            f"steps: {steps}\nseed: {SEED}\ndevice: cpu\n"
        )


WORKLOADS = {
    "transformer": Workload(
        title="transformer",
        model=GPT,
        batches=gpt_batches,
        lr=3e-4,
        block=1,
        rounds=26,
        quick_rounds=6,
        memory_steps=5,
    ),
    "lstm": Workload(
        title="LSTM", model=LSTM, batches=lstm_batches, lr=1e-3, block=4, rounds=60, quick_rounds=12, memory_steps=30
    ),
    "mlp": Workload(
        title="tiny MLP",
        model=MLP,
        batches=mlp_batches,
        lr=1e-3,
        block=64,
        rounds=60,
        quick_rounds=12,
        memory_steps=0,
    ),
}


class HandWritten:
    """The loop without clipcal. With ``observe``, it logs what people log today: the norm by clip_grad_norm_ with an
    infinite threshold, and the loss, each fetched at once."""

    def __init__(self, workload: Workload, *, observe: bool = False) -> None:
        torch.manual_seed(SEED)
        self.model = workload.model()
        self.batches = itertools.cycle(workload.batches())
        self.loss = nn.CrossEntropyLoss()
        self.params = list(self.model.parameters())
        self.optimizer = torch.optim.AdamW(self.params, lr=workload.lr)
        self.observe = observe
        self.log: list[tuple[float, float]] = []
        self.model.train()

    def step(self) -> Tensor:
        inputs, target = next(self.batches)
        self.optimizer.zero_grad(set_to_none=True)
        loss = self.loss(self.model(inputs), target)
        loss.backward()
        if self.observe:
            self.log.append((torch.nn.utils.clip_grad_norm_(self.params, float("inf")).item(), loss.item()))
        self.optimizer.step()
        value: Tensor = loss.detach()
        return value
