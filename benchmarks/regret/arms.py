"""A workload, a seed and a rule -> what came of it. Every arm that was ever trained is kept in a file, so that a rule is
scored again in seconds, and only thresholds that nobody has tried are trained."""

from __future__ import annotations

import gzip
import json
import math
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import torch
from torch import nn

from benchmarks.regret.data import STEPS
from benchmarks.regret.workloads import WORKLOADS

FILE = Path(__file__).with_name("arms.jsonl.gz")
CHECKPOINTS = 8  # over the last fifth of the steps
PATIENCE = 10  # non-finite losses in a row
PROFILE = 200  # steps whose norms and losses are kept of the arms that are profiled


@dataclass(frozen=True, kw_only=True, order=True)
class Key:
    """``rule`` is "unclipped", "max_norm=0.5", or a package's name. ``lr_scale`` multiplies the learning rate.
    ``traced``: the arm is a short one whose norms and losses are kept, and nothing is held out."""

    workload: str
    seed: int
    rule: str
    steps: int = STEPS
    lr_scale: float = 1.0
    traced: bool = False


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """``start`` and ``final`` are held-out losses, ``final`` the mean over checkpoints in the last fifth, infinite where
    training was lost. ``norms`` (before clipping) and ``losses`` are one a step to four digits, for traced arms."""

    start: float
    trivial: float
    final: float
    norms: Sequence[float] = ()
    losses: Sequence[float] = ()


Clip = Callable[[nn.Module], float]


def unclipped(model: nn.Module) -> float:
    return float(torch.nn.utils.get_total_norm([p.grad for p in model.parameters() if p.grad is not None]))


def _max_norm(value: float) -> Clip:
    def clip(model: nn.Module) -> float:
        return float(torch.nn.utils.clip_grad_norm_(model.parameters(), value))

    return clip


def _autoclip(model: nn.Module, **settings: Any) -> Clip:
    from autoclip.torch import QuantileClip

    clipper = QuantileClip(model.parameters(), **settings)

    def clip(model: nn.Module) -> float:
        norm = unclipped(model)
        clipper.step()
        return norm

    return clip


def _zclip(model: nn.Module, **settings: Any) -> Clip:
    from zclip import ZClip

    clipper = ZClip(**settings)

    def clip(model: nn.Module) -> float:
        norm = unclipped(model)
        clipper.step(model)
        return norm

    return clip


PACKAGES: dict[str, Callable[[nn.Module], Clip]] = {
    # the package's own defaults are the 90% point, tensor by tensor; the paper's are the 10% point of the total norm
    "autoclip": lambda model: _autoclip(model),
    "autoclip p10": lambda model: _autoclip(model, quantile=0.1, global_threshold=True, history_length=100_000),
    # the default also clips at 1.0 whatever the norms; without it, the paper's rule is alone
    "zclip": lambda model: _zclip(model),
    "zclip alone": lambda model: _zclip(model, max_grad_norm=None),
}


def rule_of(max_norm: float | None) -> str:
    return "unclipped" if max_norm is None else f"max_norm={max_norm:.6g}"


def _clip_of(rule: str, model: nn.Module) -> Clip:
    if rule == "unclipped":
        return unclipped
    name, _, value = rule.partition("=")
    return _max_norm(float(value)) if name == "max_norm" else PACKAGES[name](model)


def train(key: Key) -> Outcome:
    """Train one arm in this process."""
    torch.set_num_threads(1)
    training = WORKLOADS[key.workload].build(key.seed)
    model, optimizer = training.model, training.optimizer
    clip = _clip_of(key.rule, model)
    base = [group["lr"] for group in optimizer.param_groups]

    def held_out() -> float:
        model.eval()
        with torch.no_grad():
            value = training.heldout(model)
        model.train()
        return value

    start = held_out()
    checks = {key.steps - 1 - round(k * key.steps / 5 / CHECKPOINTS) for k in range(CHECKPOINTS)}
    finals: list[float] = []
    norms: list[float] = []
    losses: list[float] = []
    bad = 0
    for step in range(key.steps):
        for group, lr in zip(optimizer.param_groups, base, strict=True):
            group["lr"] = lr * key.lr_scale * training.rate(step)
        optimizer.zero_grad(set_to_none=True)
        loss = training.loss(model, next(training.batches))
        torch.autograd.backward(loss)
        norm = clip(model)
        optimizer.step()
        losses.append(loss.item())
        norms.append(norm)
        bad = 0 if math.isfinite(losses[-1]) and math.isfinite(norm) else bad + 1
        if bad >= PATIENCE:
            break
        if not key.traced and step in checks:
            finals.append(held_out())
    worst = min(start, training.trivial)
    lost = bad >= PATIENCE or not all(math.isfinite(f) for f in finals)
    # A checkpoint far above the start says no more than that training was lost there.
    final = math.inf if lost or not finals else sum(min(f, 10 * worst) for f in finals) / len(finals)
    return Outcome(
        start=start,
        trivial=training.trivial,
        final=final,
        norms=[float(f"{v:.4g}") for v in norms] if key.traced else (),
        losses=[float(f"{v:.4g}") for v in losses] if key.traced else (),
    )


class Arms:
    """The arms that were trained, by key; more are trained on demand, side by side, and added to the file."""

    def __init__(self, path: Path = FILE, *, jobs: int = 1, frozen: bool = False) -> None:
        self.path, self.jobs, self.frozen = path, jobs, frozen
        self.known: dict[Key, Outcome] = dict(_read(path)) if path.exists() else {}
        self.used: set[Key] = set()

    def __getitem__(self, key: Key) -> Outcome:
        if key not in self.known:
            self.train([key])
        self.used.add(key)
        return self.known[key]

    def train(self, keys: Sequence[Key]) -> None:
        """Train those that are missing."""
        todo = [key for key in dict.fromkeys(keys) if key not in self.known]
        if not todo:
            return
        if self.frozen:
            raise SystemExit(f"{len(todo)} arms are not in {self.path}, {todo[0]} first: train them without --frozen.")
        if self.jobs == 1 or len(todo) == 1:
            self._add(zip(todo, map(train, todo), strict=True))
            return
        with ProcessPoolExecutor(self.jobs, mp_context=get_context("spawn")) as pool:
            self._add(zip(todo, pool.map(train, todo), strict=True))

    def _add(self, trained: Iterator[tuple[Key, Outcome]]) -> None:
        for key, outcome in trained:
            self.known[key] = outcome
            # gzip members one after another are one file, and a killed run loses no more than its last arm
            with gzip.open(self.path, "at", encoding="utf-8") as f:
                f.write(json.dumps(asdict(key) | asdict(outcome)) + "\n")

    def pack(self) -> None:
        """Write the file anew with the arms that were used, sorted, as one member."""
        lines = [json.dumps(asdict(key) | asdict(self.known[key])) for key in sorted(self.used)]
        partial = self.path.with_suffix(".partial")
        with partial.open("wb") as raw, gzip.GzipFile(filename="", mode="wb", fileobj=raw, mtime=0) as f:
            f.write(("\n".join(lines) + "\n").encode())
        partial.replace(self.path)


def _read(path: Path) -> Iterator[tuple[Key, Outcome]]:
    names = Key.__dataclass_fields__
    with gzip.open(path, "rt", encoding="utf-8") as f:
        for line in f:
            row = json.loads(line)
            key = Key(**{k: v for k, v in row.items() if k in names})
            yield key, Outcome(**{k: v for k, v in row.items() if k not in names})
