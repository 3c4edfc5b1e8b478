"""The small real trainings that thresholds are judged on: each a function of a seed, read from top to bottom.

They are ours, and none was adjusted after a rule had been scored on it. All train on one CPU core, most in a few seconds.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from benchmarks.regret.data import (
    STEPS,
    Batch,
    Training,
    classification,
    digit_sets,
    digits,
    draw,
    mean_over,
    regression,
    take,
)
from benchmarks.regret.modern import MODERN
from sample_models import adding_rnn, char_lstm, deep_mlp, outliers, small_gpt
from sample_models.stdlib_text import VOCAB_SIZE, corpus
from sample_models.vanishing import DeepSigmoid


@dataclass(frozen=True, kw_only=True)
class Workload:
    build: Callable[[int], Training]
    what: str
    wrong_rate: bool = False


def adding(seed: int) -> Training:
    """Hochreiter and Schmidhuber's adding problem by a tanh RNN on the edge of explosion; unclipped, most seeds are lost."""
    torch.manual_seed(seed)
    model = adding_rnn.TanhRNN(hidden_size=48, recurrent_gain=1.15)
    batches = adding_rnn.batches(batch_size=32, seq_len=12, seed=seed)
    return Training(
        model=model,
        optimizer=torch.optim.SGD(model.parameters(), lr=0.15),
        batches=batches,
        loss=regression,
        heldout=mean_over(regression, take(adding_rnn.batches(512, 12, seed=9_001), 1)),
        trivial=adding_rnn.TRIVIAL_MSE,
        rate=lambda step: min(1.0, (step + 1) / 100),
    )


class RowRNN(nn.Module):
    """A tanh RNN that reads an 8 x 8 digit two pixels at a time, and answers at the end."""

    def __init__(self, hidden_size: int = 64) -> None:
        super().__init__()
        self.rnn = nn.RNN(2, hidden_size, batch_first=True)
        nn.init.orthogonal_(self.rnn.get_parameter("weight_hh_l0"))
        self.head = nn.Linear(hidden_size, 10)

    def forward(self, pixels: Tensor) -> Tensor:
        hidden, _ = self.rnn(pixels.view(len(pixels), 32, 2))
        logits: Tensor = self.head(hidden[:, -1])
        return logits


def pixel_rnn(seed: int) -> Training:
    """Pixel after pixel through an orthogonal tanh RNN, hot SGD: the classic exploding gradient."""
    torch.manual_seed(seed)
    model = RowRNN()
    return digits(model, torch.optim.SGD(model.parameters(), lr=0.12), seed)


def hot_lstm(seed: int) -> Training:
    """A character LSTM on Python source with hot SGD: restless norms and a few throwbacks."""
    torch.manual_seed(seed)
    model = char_lstm.CharLSTM(hidden_size=80)
    return _text(model, torch.optim.SGD(model.parameters(), lr=14.0), seed, seq_len=40)


def bad_init(seed: int) -> Training:
    """A deep ReLU MLP whose initialisation is too large by a tenth a layer; SGD."""
    torch.manual_seed(seed)
    model = deep_mlp.DeepMLP(num_layers=12, width=48, gain=1.12)
    return digits(model, torch.optim.SGD(model.parameters(), lr=0.06), seed)


def bad_batches(seed: int) -> Training:
    """Regression where one batch in 60 has targets that are far off; SGD."""
    return _outliers(seed, lambda p: torch.optim.SGD(p, lr=0.01), share=1 / 60, offset=12.0)


def bad_batches_adam(seed: int) -> Training:
    """The same disease, more often and worse, under Adam, which remembers a spike for a thousand steps in its second moment."""
    return _outliers(seed, lambda p: torch.optim.Adam(p, lr=5e-3), share=1 / 40, offset=25.0)


def gpt(seed: int) -> Training:
    """A small pre-norm GPT with AdamW and a warm-up: calm."""
    torch.manual_seed(seed)
    model = small_gpt.SmallGPT(num_layers=2, num_heads=2, width=48, seq_len=40)
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3, weight_decay=0.1)
    return _text(model, optimizer, seed, seq_len=40, rate=lambda step: min(1.0, (step + 1) / 60))


def post_norm(seed: int) -> Training:
    """A post-norm transformer encoder as in 2017, without the warm-up that it needs: Adam, norms that jump."""
    torch.manual_seed(seed)
    layer = nn.TransformerEncoderLayer(40, 4, 96, dropout=0.0, batch_first=True)
    model = nn.Sequential(
        nn.Embedding(VOCAB_SIZE, 40),
        nn.TransformerEncoder(layer, 3, enable_nested_tensor=False),
        _Last(),
        nn.Linear(40, VOCAB_SIZE),
    )
    optimizer = torch.optim.Adam(model.parameters(), lr=4e-3)
    return _text(model, optimizer, seed, seq_len=16, last_only=True)


class _Last(nn.Module):
    def forward(self, hidden: Tensor) -> Tensor:
        return hidden[:, -1]


class Forecaster(nn.Module):
    """A GRU that says the next value of a series at every position."""

    def __init__(self, hidden_size: int = 40) -> None:
        super().__init__()
        self.gru = nn.GRU(1, hidden_size, batch_first=True)
        self.head = nn.Linear(hidden_size, 1)

    def forward(self, series: Tensor) -> Tensor:
        hidden, _ = self.gru(series[..., None])
        predicted: Tensor = self.head(hidden)
        return predicted.squeeze(-1)


def forecast(seed: int) -> Training:
    """A GRU with Nesterov momentum forecasts noisy sums of sines: norms fall smoothly, clipping has nothing to do."""
    torch.manual_seed(seed)
    model = Forecaster()
    return Training(
        model=model,
        optimizer=torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9, nesterov=True),
        batches=_sines(24, seed),
        loss=regression,
        heldout=mean_over(regression, take(_sines(256, 9_002), 1)),
        trivial=1.0,
    )


def _sines(batch_size: int, seed: int, length: int = 32) -> Iterator[Batch]:
    generator = torch.Generator().manual_seed(seed)
    t = torch.arange(length + 1)
    while True:
        period, phase = (torch.rand(2, batch_size, 2, 1, generator=generator)).unbind(0)
        series = torch.sin(t * 2 * math.pi / (5 + 20 * period) + 2 * math.pi * phase).sum(1)
        series = series + 0.1 * torch.randn(series.shape, generator=generator)
        yield series[:, :-1], series[:, 1:]


def cnn(seed: int) -> Training:
    """A CNN with batch norm and SGD with momentum, cosine schedule: the commonest training of all."""
    torch.manual_seed(seed)
    model = nn.Sequential(
        nn.Unflatten(1, (1, 8, 8)),
        nn.Conv2d(1, 12, 3, padding=1, bias=False),
        nn.BatchNorm2d(12),
        nn.ReLU(),
        nn.Conv2d(12, 24, 3, stride=2, padding=1, bias=False),
        nn.BatchNorm2d(24),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(24 * 16, 10),
    )
    optimizer = torch.optim.SGD(model.parameters(), lr=0.02, momentum=0.9, weight_decay=5e-4)
    return digits(model, optimizer, seed, rate=lambda step: 0.5 * (1 + math.cos(math.pi * step / STEPS)))


def saddle(seed: int) -> Training:
    """A deep MLP that starts too small: a plateau of tiny norms first, then learning, with norms ten times larger."""
    torch.manual_seed(seed)
    model = deep_mlp.DeepMLP(num_layers=5, width=48, gain=0.62)
    return digits(model, torch.optim.SGD(model.parameters(), lr=0.15), seed)


def heavy_noise(seed: int) -> Training:
    """Regression under Student-t noise with 2.2 degrees of freedom: heavy-tailed gradients, no gap anywhere; SGD."""
    torch.manual_seed(seed)
    model = nn.Sequential(nn.Linear(10, 48), nn.ReLU(), nn.Linear(48, 1), nn.Flatten(0))

    def batches(batch_size: int, seed: int, noise: float) -> Iterator[Batch]:
        generator = torch.Generator().manual_seed(seed)
        while True:
            features = torch.rand(batch_size, 10, generator=generator)
            normal, *squares = torch.randn(3, batch_size, generator=generator)
            t = normal / (sum(s**2 for s in squares) / 2.2).clamp_min(1e-6).sqrt()
            yield features, (outliers.friedman(features) - outliers.MEAN) / outliers.STD + noise * t

    return Training(
        model=model,
        optimizer=torch.optim.SGD(model.parameters(), lr=0.03),
        batches=batches(8, seed, 0.8),
        loss=regression,
        heldout=mean_over(regression, take(batches(1024, 9_003, 0.0), 1)),
        trivial=1.0,
    )


def autoencoder(seed: int) -> Training:
    """A tanh autoencoder of digits with RMSprop: calm, scale-free."""
    torch.manual_seed(seed)
    model = nn.Sequential(
        nn.Linear(64, 40), nn.Tanh(), nn.Linear(40, 10), nn.Tanh(), nn.Linear(10, 40), nn.Tanh(), nn.Linear(40, 64)
    )
    train, heldout = digit_sets()

    def loss(model: nn.Module, batch: Batch) -> Tensor:
        return F.mse_loss(model(batch[0]), batch[0])

    return Training(
        model=model,
        optimizer=torch.optim.RMSprop(model.parameters(), lr=1e-3),
        batches=draw(train, 32, seed),
        loss=loss,
        heldout=mean_over(loss, [heldout]),
        trivial=float(heldout[0].var(dim=0, correction=0).mean()),
    )


class Policy(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.inner = nn.Linear(4, 32)
        self.outer = nn.Linear(32, 2)

    def forward(self, state: Tensor) -> Tensor:
        logits: Tensor = self.outer(torch.tanh(self.inner(state)))
        return logits


HORIZON = 100


def _episodes(policy: Policy, num: int, draw: np.random.Generator) -> tuple[Tensor, Tensor, Tensor]:
    """Barto, Sutton and Anderson's cart and pole (1983).

    States (time, num, 4), actions (time, num) and whether the pole still stood (time, num). Played in numpy, with a copy
    of the policy's weights: a hundred small tensor operations a step would be most of the training time.
    """
    inner, outer = (
        (layer.weight.detach().numpy().T, layer.bias.detach().numpy()) for layer in (policy.inner, policy.outer)
    )
    state = draw.uniform(-0.05, 0.05, (num, 4)).astype(np.float32)
    standing = np.ones(num, dtype=np.float32)
    seen: list[tuple[Any, Any, Any]] = []
    for _ in range(HORIZON):
        logits = np.tanh(state @ inner[0] + inner[1]) @ outer[0] + outer[1]
        with np.errstate(over="ignore"):
            action = draw.random(num) < 1 / (1 + np.exp(logits[:, 0] - logits[:, 1]))
        seen.append((state, action, standing))
        x, v, angle, spin = state.T
        sin, cos = np.sin(angle), np.cos(angle)
        push = (20.0 * action - 10.0 + 0.05 * spin**2 * sin) / 1.1
        angular = (9.8 * sin - cos * push) / (0.5 * (4 / 3 - 0.1 * cos**2 / 1.1))
        moved = np.stack(
            [x + 0.02 * v, v + 0.02 * (push - 0.05 * angular * cos / 1.1), angle + 0.02 * spin, spin + 0.02 * angular],
            1,
        )
        standing = standing * ((np.abs(x) < 2.4) & (np.abs(angle) < 0.2095))
        state = np.where(standing[:, None] > 0, moved, 0.0).astype(np.float32)
    states, actions, alive = (torch.from_numpy(np.stack(column)) for column in zip(*seen, strict=True))
    return states, actions.long(), alive


def reinforce(seed: int) -> Training:
    """REINFORCE on cart and pole, rewards to go less the batch's mean, Adam: noisy norms; the loss says little."""
    torch.manual_seed(seed)
    model = Policy()

    def batches() -> Iterator[Batch]:
        draw = np.random.default_rng(seed)
        while True:
            yield _episodes(model, 4, draw)

    def loss(model: nn.Module, batch: Batch) -> Tensor:
        states, actions, alive = batch
        logs = F.log_softmax(model(states), dim=-1).gather(-1, actions[..., None]).squeeze(-1)
        to_go = alive.flip(0).cumsum(0).flip(0)
        advantage = (to_go - to_go.mean(1, keepdim=True)) / 10
        surrogate: Tensor = -(logs * advantage * alive).sum() / 40
        return surrogate

    def heldout(policy: nn.Module) -> float:
        return 1 - float(_episodes(model, 64, np.random.default_rng(9_004))[2].mean())

    return Training(
        model=model,
        optimizer=torch.optim.Adam(model.parameters(), lr=1e-3),
        batches=batches(),
        loss=loss,
        heldout=heldout,
        trivial=1.0,
    )


def vanishing(seed: int) -> Training:
    """Twelve sigmoid layers on one batch of everything: no gradient arrives, and no threshold can change that."""
    torch.manual_seed(seed)
    model = DeepSigmoid(num_layers=12, width=48)
    train, heldout = digit_sets()
    return Training(
        model=model,
        optimizer=torch.optim.SGD(model.parameters(), lr=0.1),
        batches=itertools.repeat(train),
        loss=classification,
        heldout=mean_over(classification, [heldout]),
        trivial=math.log(10),
    )


def wrong_rate_sgd(seed: int) -> Training:
    """The badly initialised MLP at ten times the learning rate."""
    training = bad_init(seed)
    training.optimizer = torch.optim.SGD(training.model.parameters(), lr=0.6)
    return training


def wrong_rate_adam(seed: int) -> Training:
    """The GPT at twenty times the learning rate."""
    training = gpt(seed)
    training.optimizer = torch.optim.AdamW(training.model.parameters(), lr=6e-2, weight_decay=0.1)
    return training


WORKLOADS: dict[str, Workload] = {
    "adding": Workload(build=adding, what="tanh RNN, SGD, diverges"),
    "pixel_rnn": Workload(build=pixel_rnn, what="tanh RNN, hot SGD, explodes"),
    "hot_lstm": Workload(build=hot_lstm, what="char LSTM, hot SGD, restless"),
    "bad_init": Workload(build=bad_init, what="deep MLP, SGD, bursts"),
    "bad_batches": Workload(build=bad_batches, what="MLP, SGD, outlier batches"),
    "bad_batches_adam": Workload(build=bad_batches_adam, what="MLP, Adam, outlier batches"),
    "gpt": Workload(build=gpt, what="pre-norm GPT, AdamW, calm"),
    "post_norm": Workload(build=post_norm, what="post-norm transformer, Adam, no warm-up"),
    "forecast": Workload(build=forecast, what="GRU, Nesterov, falling norms"),
    "cnn": Workload(build=cnn, what="CNN, momentum, cosine"),
    "saddle": Workload(build=saddle, what="deep MLP, SGD, rising norms"),
    "heavy_noise": Workload(build=heavy_noise, what="MLP, SGD, Student-t noise"),
    "autoencoder": Workload(build=autoencoder, what="autoencoder, RMSprop, calm"),
    "reinforce": Workload(build=reinforce, what="policy gradient, Adam, noisy"),
    "vanishing": Workload(build=vanishing, what="sigmoid MLP, SGD, vanishing"),
    **{name: Workload(build=build, what=what) for name, (build, what) in MODERN.items()},
    "wrong_rate_sgd": Workload(build=wrong_rate_sgd, what="deep MLP, SGD at 10 x", wrong_rate=True),
    "wrong_rate_adam": Workload(build=wrong_rate_adam, what="GPT, AdamW at 20 x", wrong_rate=True),
}


def _text(
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    seed: int,
    *,
    seq_len: int,
    last_only: bool = False,
    rate: Callable[[int], float] = lambda step: 1.0,
) -> Training:
    """Characters of Python source; the last fifth of it is held out. ``trivial`` is the entropy of single characters."""
    text = corpus()
    split = 4 * len(text) // 5
    share = torch.bincount(text, minlength=VOCAB_SIZE).double() / len(text)
    batches = _windows(text[:split], 8 if not last_only else 16, seq_len, seed, last_only)
    heldout = take(_windows(text[split:], 64 if not last_only else 256, seq_len, 9_005, last_only), 1)
    return Training(
        model=model,
        optimizer=optimizer,
        batches=batches,
        loss=classification,
        heldout=mean_over(classification, heldout),
        trivial=float(-(share[share > 0] * share[share > 0].log()).sum()),
        rate=rate,
    )


def _windows(text: Tensor, batch_size: int, seq_len: int, seed: int, last_only: bool) -> Iterator[Batch]:
    generator = torch.Generator().manual_seed(seed)
    while True:
        starts = torch.randint(len(text) - seq_len, (batch_size, 1), generator=generator)
        positions = starts + torch.arange(seq_len)
        yield text[positions], text[positions[:, -1] + 1] if last_only else text[positions + 1]


def _outliers(seed: int, optimizer: Callable[[Any], torch.optim.Optimizer], *, share: float, offset: float) -> Training:
    torch.manual_seed(seed)
    model = outliers.MLP(width=48)
    return Training(
        model=model,
        optimizer=optimizer(model.parameters()),
        batches=outliers.batches(16, share, offset, 0.3, seed),
        loss=regression,
        heldout=mean_over(regression, take(outliers.batches(1024, 0.0, 0.0, 0.0, seed=9_006), 1)),
        trivial=1.0,
    )
