"""Small real trainings of the kinds that people ask about today, as functions of a seed; see workloads.py for the others.

None was adjusted after a rule had been scored on it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from functools import cache
from itertools import chain
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from benchmarks.regret.data import Batch, Training, classification, digit_sets, digits, draw, mean_over, take
from sample_models import small_gpt
from sample_models.stdlib_text import VOCAB_SIZE, corpus


def bandit_policy(seed: int) -> Training:
    """REINFORCE without a baseline on a bandit whose returns are heavy-tailed: norms spread over three decades; SGD."""
    torch.manual_seed(seed)
    model = nn.Sequential(nn.Linear(6, 32), nn.Tanh(), nn.Linear(32, 5))
    best = torch.randn(6, 5, generator=torch.Generator().manual_seed(77))

    def batches(batch_size: int, seed: int) -> Iterator[Batch]:
        generator = torch.Generator().manual_seed(seed)
        while True:
            contexts = torch.randn(batch_size, 6, generator=generator)
            noise, *squares = torch.randn(3, batch_size, generator=generator)
            heavy = noise / (sum(s**2 for s in squares) / 2.0).clamp_min(1e-6).sqrt()
            yield contexts, torch.rand(batch_size, generator=generator), heavy

    def loss(model: nn.Module, batch: Batch) -> Tensor:
        contexts, uniform, heavy = batch
        logs = F.log_softmax(model(contexts), dim=-1)
        with torch.no_grad():
            actions = (logs.exp().cumsum(-1) < uniform[:, None]).sum(-1).clamp_max(4)
            returns = (contexts @ best).gather(1, actions[:, None]).squeeze(1) + 2 * heavy
        surrogate: Tensor = -(logs.gather(1, actions[:, None]).squeeze(1) * returns).mean()
        return surrogate

    held = take(batches(2048, 9_101), 1)[0][0]
    top = float((held @ best).max(1).values.mean())

    def heldout(model: nn.Module) -> float:
        chances = torch.softmax(model(held), dim=-1)
        return top - float((chances * (held @ best)).sum(1).mean())

    return Training(
        model=model,
        optimizer=torch.optim.SGD(model.parameters(), lr=0.05),
        batches=batches(16, seed),
        loss=loss,
        heldout=heldout,
        trivial=top,
    )


def diffusion(seed: int) -> Training:
    """A denoiser of digits (Ho, Jain and Abbeel, 2020): the noise of a random level is predicted; Adam."""
    torch.manual_seed(seed)
    model = nn.Sequential(nn.Linear(64 + 16, 128), nn.SiLU(), nn.Linear(128, 128), nn.SiLU(), nn.Linear(128, 64))
    train, held = digit_sets()
    kept = torch.cos(torch.linspace(0.02, 0.98, 100) * math.pi / 2) ** 2
    waves = torch.exp(torch.linspace(0, 4, 8))

    def loss(model: nn.Module, batch: Batch) -> Tensor:
        pixels, level, noise = batch
        share = kept[level][:, None]
        angle = level[:, None] / 100 * waves
        noisy = share.sqrt() * (2 * pixels - 1) + (1 - share).sqrt() * noise
        predicted = model(torch.cat([noisy, angle.sin(), angle.cos()], dim=1))
        return F.mse_loss(predicted, noise)

    def batches(pixels: Tensor, batch_size: int, seed: int) -> Iterator[Batch]:
        generator = torch.Generator().manual_seed(seed)
        while True:
            rows = torch.randint(len(pixels), (batch_size,), generator=generator)
            level = torch.randint(100, (batch_size,), generator=generator)
            yield pixels[rows], level, torch.randn(batch_size, 64, generator=generator)

    return Training(
        model=model,
        optimizer=torch.optim.Adam(model.parameters(), lr=2e-3),
        batches=batches(train[0], 32, seed),
        loss=loss,
        heldout=mean_over(loss, take(batches(held[0], 1024, 9_102), 1)),
        trivial=1.0,
    )


def contrastive(seed: int) -> Training:
    """Two noisy views of a digit are to find each other in the batch (InfoNCE; van den Oord, 2018), temperature 0.05; momentum."""
    torch.manual_seed(seed)
    model = nn.Sequential(nn.Linear(64, 96), nn.ReLU(), nn.Linear(96, 32))
    train, held = digit_sets()

    def batches(pixels: Tensor, batch_size: int, seed: int) -> Iterator[Batch]:
        generator = torch.Generator().manual_seed(seed)
        while True:
            rows = torch.randint(len(pixels), (batch_size,), generator=generator)
            drop = (torch.rand(2, batch_size, 64, generator=generator) > 0.3).float()
            yield pixels[rows] * drop[0], pixels[rows] * drop[1]

    def loss(model: nn.Module, batch: Batch) -> Tensor:
        one, other = (F.normalize(model(view), dim=1) for view in batch)
        return F.cross_entropy(one @ other.T / 0.05, torch.arange(len(one)))

    return Training(
        model=model,
        optimizer=torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9),
        batches=batches(train[0], 64, seed),
        loss=loss,
        heldout=mean_over(loss, take(batches(held[0], 64, 9_103), 4)),
        trivial=math.log(64),
    )


@cache
def _graph() -> tuple[Tensor, Tensor, Tensor]:
    """600 nodes of four communities: the normalised adjacency, noisy features, classes."""
    generator = torch.Generator().manual_seed(5)
    classes = torch.arange(600) % 4
    same = classes[:, None] == classes[None, :]
    edges = (torch.rand(600, 600, generator=generator) < torch.where(same, 0.03, 0.006)).float().triu(1)
    adjacency = edges + edges.T + torch.eye(600)
    root = adjacency.sum(1).rsqrt()
    features = torch.randn(600, 24, generator=generator) + 0.5 * F.one_hot(classes, 24)
    return root[:, None] * adjacency * root, features, classes


class GCN(nn.Module):
    """Three graph convolutions (Kipf and Welling, 2017)."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.ModuleList([nn.Linear(24, 48), nn.Linear(48, 48), nn.Linear(48, 4)])

    def forward(self, features: Tensor) -> Tensor:
        hidden = features
        for i, layer in enumerate(self.layers):
            hidden = _graph()[0] @ layer(hidden)
            if i < 2:
                hidden = F.relu(hidden)
        return hidden


def graph(seed: int) -> Training:
    """A graph network classifies nodes, a random tenth of the training nodes a step; AdamW."""
    torch.manual_seed(seed)
    model = GCN()
    _, features, classes = _graph()
    nodes = torch.randperm(600, generator=torch.Generator().manual_seed(6))

    def loss(model: nn.Module, batch: Batch) -> Tensor:
        return F.cross_entropy(model(features)[batch], classes[batch])

    def batches() -> Iterator[Batch]:
        generator = torch.Generator().manual_seed(seed)
        while True:
            yield nodes[:450][torch.randint(450, (45,), generator=generator)]

    return Training(
        model=model,
        optimizer=torch.optim.AdamW(model.parameters(), lr=5e-3),
        batches=batches(),
        loss=loss,
        heldout=mean_over(loss, [nodes[450:]]),
        trivial=math.log(4),
    )


class Seq2Seq(nn.Module):
    """A GRU reads, another one writes, and looks back by attention (Bahdanau, Cho and Bengio, 2015)."""

    def __init__(self, width: int = 48) -> None:
        super().__init__()
        self.embed = nn.Embedding(13, width)
        self.reader = nn.GRU(width, width, batch_first=True)
        self.writer = nn.GRU(width, width, batch_first=True)
        self.head = nn.Linear(2 * width, 13)

    def forward(self, batch: Batch) -> Tensor:
        source, target = batch
        read, last = self.reader(self.embed(source))
        start = torch.full_like(target[:, :1], 12)
        written, _ = self.writer(self.embed(torch.cat([start, target[:, :-1]], dim=1)), last)
        weights = torch.softmax(written @ read.transpose(1, 2) / 7, dim=-1)
        logits: Tensor = self.head(torch.cat([written, weights @ read], dim=-1))
        return logits


def seq2seq(seed: int) -> Training:
    """Sequences of twelve symbols are written backwards by an encoder and a decoder with attention; hot SGD."""
    torch.manual_seed(seed)
    model = Seq2Seq()

    def batches(batch_size: int, seed: int) -> Iterator[Batch]:
        generator = torch.Generator().manual_seed(seed)
        while True:
            source = torch.randint(12, (batch_size, 12), generator=generator)
            yield source, source.flip(1)

    def loss(model: nn.Module, batch: Batch) -> Tensor:
        return F.cross_entropy(model(batch).flatten(0, 1), batch[1].flatten())

    return Training(
        model=model,
        optimizer=torch.optim.SGD(model.parameters(), lr=1.0, momentum=0.9),
        batches=batches(24, seed),
        loss=loss,
        heldout=mean_over(loss, take(batches(256, 9_105), 1)),
        trivial=math.log(12),
    )


class Adapter(nn.Module):
    """A linear layer as it was, and a product of two thin matrices on top (Hu et al., 2022)."""

    def __init__(self, base: nn.Linear, rank: int = 4) -> None:
        super().__init__()
        self.base = base.requires_grad_(False)
        self.down = nn.Parameter(torch.randn(rank, base.in_features) / math.sqrt(base.in_features))
        self.up = nn.Parameter(torch.zeros(base.out_features, rank))

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.base(x) + 4 * (x @ self.down.T @ self.up.T)
        return out


@cache
def _pretrained() -> dict[str, Tensor]:
    """A small GPT after 150 steps on the first half of the text."""
    torch.manual_seed(99)
    model = small_gpt.SmallGPT(num_layers=2, num_heads=2, width=48, seq_len=32)
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    text = corpus()
    for x, y in take(_text(text[: len(text) // 2], 16, 32, 99), 150):
        optimizer.zero_grad()
        torch.autograd.backward(classification(model, (x, y)))
        optimizer.step()
    return {name: value.clone() for name, value in model.state_dict().items()}


def _text(text: Tensor, batch_size: int, seq_len: int, seed: int) -> Iterator[Batch]:
    generator = torch.Generator().manual_seed(seed)
    while True:
        starts = torch.randint(len(text) - seq_len - 1, (batch_size, 1), generator=generator)
        positions = starts + torch.arange(seq_len)
        yield text[positions], text[positions + 1]


def lora(seed: int) -> Training:
    """Low-rank adapters on a pretrained GPT, on text that is reversed in case: AdamW, norms that begin at half of nothing."""
    pretrained = _pretrained()
    torch.manual_seed(seed)
    model = small_gpt.SmallGPT(num_layers=2, num_heads=2, width=48, seq_len=32)
    model.load_state_dict(pretrained)
    model.requires_grad_(False)
    for parent in list(model.modules()):
        for name, child in list(parent.named_children()):
            if isinstance(child, nn.Linear) and not isinstance(parent, Adapter):
                setattr(parent, name, Adapter(child))
    other = torch.randperm(VOCAB_SIZE, generator=torch.Generator().manual_seed(8))
    text = other[corpus()]
    split = 4 * len(text) // 5
    share = torch.bincount(text, minlength=VOCAB_SIZE).double() / len(text)
    return Training(
        model=model,
        optimizer=torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=5e-3),
        batches=_text(text[:split], 8, 32, seed),
        loss=classification,
        heldout=mean_over(classification, take(_text(text[split:], 64, 32, 9_106), 1)),
        trivial=float(-(share[share > 0] * share[share > 0].log()).sum()),
    )


def label_noise(seed: int) -> Training:
    """Digits, a third of which have a wrong class: the largest gradients are lies; momentum."""
    torch.manual_seed(seed)
    model = nn.Sequential(nn.Linear(64, 96), nn.ReLU(), nn.Linear(96, 96), nn.ReLU(), nn.Linear(96, 10))
    training = digits(model, torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9), seed)
    train, _ = digit_sets()
    generator = torch.Generator().manual_seed(44)
    wrong = torch.rand(len(train[1]), generator=generator) < 1 / 3
    lies = torch.where(wrong, torch.randint(10, train[1].shape, generator=generator), train[1])
    training.batches = draw((train[0], lies), 32, seed)
    return training


class Together:
    """Two optimizers that step as one."""

    def __init__(self, *optimizers: torch.optim.Optimizer) -> None:
        self.optimizers = optimizers
        self.param_groups: list[dict[str, Any]] = list(chain.from_iterable(o.param_groups for o in optimizers))

    def zero_grad(self, set_to_none: bool = True) -> None:
        for optimizer in self.optimizers:
            optimizer.zero_grad(set_to_none)

    def step(self) -> None:
        for optimizer in self.optimizers:
            optimizer.step()


def muon(seed: int) -> Training:
    """The small GPT with Muon for its matrices and AdamW for the rest, as people train it in 2026."""
    torch.manual_seed(seed)
    model = small_gpt.SmallGPT(num_layers=2, num_heads=2, width=48, seq_len=32)
    named = dict(model.named_parameters())
    hidden = [p for name, p in named.items() if p.ndim == 2 and "emb" not in name and "head" not in name]
    rest = [p for p in named.values() if all(p is not h for h in hidden)]
    text = corpus()
    split = 4 * len(text) // 5
    share = torch.bincount(text, minlength=VOCAB_SIZE).double() / len(text)
    return Training(
        model=model,
        optimizer=Together(torch.optim.Muon(hidden, lr=0.02), torch.optim.AdamW(rest, lr=3e-3)),
        batches=_text(text[:split], 8, 32, seed),
        loss=classification,
        heldout=mean_over(classification, take(_text(text[split:], 64, 32, 9_107), 1)),
        trivial=float(-(share[share > 0] * share[share > 0].log()).sum()),
        rate=lambda step: min(1.0, (step + 1) / 40),
    )


class VAE(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.encoder = nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 16))
        self.decoder = nn.Sequential(nn.Linear(8, 64), nn.ReLU(), nn.Linear(64, 64))

    def forward(self, pixels: Tensor, noise: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        mean, log_variance = self.encoder(pixels).chunk(2, dim=1)
        return self.decoder(mean + noise * torch.exp(0.5 * log_variance)), mean, log_variance


def vae(seed: int) -> Training:
    """A variational autoencoder of digits (Kingma and Welling, 2014), Gaussian of a small variance, SGD: steep at first."""
    torch.manual_seed(seed)
    train, held = digit_sets()

    def batches(pixels: Tensor, batch_size: int, seed: int) -> Iterator[Batch]:
        generator = torch.Generator().manual_seed(seed)
        while True:
            rows = torch.randint(len(pixels), (batch_size,), generator=generator)
            yield pixels[rows], torch.randn(batch_size, 8, generator=generator)

    def loss(model: nn.Module, batch: Batch) -> Tensor:
        pixels, noise = batch
        out, mean, log_variance = model(pixels, noise)
        misfit = ((out - pixels) ** 2).sum(1) / (2 * 0.05)
        divergence = 0.5 * (mean**2 + log_variance.exp() - 1 - log_variance).sum(1)
        total: Tensor = (misfit + divergence).mean()
        return total

    centre = train[0].mean(0)
    return Training(
        model=(model := VAE()),
        optimizer=torch.optim.SGD(model.parameters(), lr=2e-3, momentum=0.9),
        batches=batches(train[0], 32, seed),
        loss=loss,
        heldout=mean_over(loss, take(batches(held[0], 397, 9_108), 1)),
        trivial=float((((held[0] - centre) ** 2).sum(1) / (2 * 0.05)).mean()),
    )


def q_learning(seed: int) -> Training:
    """Q-learning from replayed transitions of a noisy chain with a target network (Mnih et al., 2015), squared error; Adam."""
    torch.manual_seed(seed)
    model = nn.Sequential(nn.Linear(10, 48), nn.ReLU(), nn.Linear(48, 2))
    target = nn.Sequential(nn.Linear(10, 48), nn.ReLU(), nn.Linear(48, 2))
    target.load_state_dict(model.state_dict())
    states = torch.eye(10)
    moves = torch.stack([(torch.arange(10) - 1).clamp_min(0), (torch.arange(10) + 1) % 10])
    gains = torch.zeros(2, 10)
    gains[1, 9], gains[0, 0] = 20.0, 0.5

    @cache
    def truth() -> Tensor:
        q = torch.zeros(2, 10)
        for _ in range(400):
            best = q.max(0).values
            q = gains + 0.9 * (0.9 * best[moves] + 0.1 * best[moves.flip(0)])
        return q.T

    def batches(seed: int) -> Iterator[Batch]:
        generator = np.random.default_rng(seed)
        for step in range(10**9):
            if step % 50 == 0:
                target.load_state_dict(model.state_dict())
            at, action = generator.integers(10, size=24), generator.integers(2, size=24)
            taken = np.where(generator.random(24) < 0.1, 1 - action, action)
            reward = gains[action, at] + torch.from_numpy(generator.normal(0, 1, 24)).float()
            yield torch.from_numpy(at), torch.from_numpy(action), reward, moves[taken, at]

    def loss(model: nn.Module, batch: Batch) -> Tensor:
        at, action, reward, after = batch
        with torch.no_grad():
            goal = reward + 0.9 * target(states[after]).max(1).values
        return F.mse_loss(model(states[at]).gather(1, action[:, None]).squeeze(1), goal)

    def heldout(model: nn.Module) -> float:
        return float(((model(states) - truth()) ** 2).mean())

    return Training(
        model=model,
        optimizer=torch.optim.Adam(model.parameters(), lr=5e-3),
        batches=batches(seed),
        loss=loss,
        heldout=heldout,
        trivial=float(truth().var(correction=0)),
    )


MODERN: dict[str, tuple[Callable[[int], Training], str]] = {
    "bandit_policy": (bandit_policy, "policy gradient, SGD, large variance"),
    "diffusion": (diffusion, "denoiser, Adam"),
    "contrastive": (contrastive, "InfoNCE, momentum"),
    "graph": (graph, "graph network, AdamW"),
    "seq2seq": (seq2seq, "GRU with attention, hot momentum"),
    "lora": (lora, "LoRA on a GPT, AdamW"),
    "label_noise": (label_noise, "MLP, momentum, a third of the labels wrong"),
    "muon": (muon, "GPT, Muon with AdamW"),
    "vae": (vae, "variational autoencoder, momentum"),
    "q_learning": (q_learning, "Q-learning, Adam"),
}
