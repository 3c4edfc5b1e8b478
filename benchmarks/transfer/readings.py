"""A training and a seed -> what is read of it at 1, 2, 4 and 8 times its batch, and the probes of the first."""

from __future__ import annotations

import math
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from benchmarks.regret.workloads import WORKLOADS
from clipcal import recommend
from clipcal.recommendation.answer import Recommendation
from clipcal.recommendation.evidence import load
from clipcal.recommendation.scaling.probed import Probed, read_probed
from clipcal.run.trace import Floats
from clipcal.sources.spec import Spec, load_spec
from clipcal.training.probing import probe
from clipcal.training.profiling import num_threads, profile

ROOT = Path(__file__).parents[2]
TIMES = (1, 2, 4, 8)
THREADS = 1
STEPS = 400  # of a workload; a config says its own

CONFIGS = tuple(sorted(p.stem for p in (ROOT / "configs").glob("*.yaml") if p.stem != "vanishing"))
OTHERS = tuple(n for n, w in WORKLOADS.items() if not w.wrong_rate and n not in ("vanishing", "reinforce"))
"""The workloads of benchmarks/regret but those without a threshold."""


@dataclass(frozen=True, kw_only=True)
class Readings:
    """Of one training and seed: ``norms`` at its own batch, and by how many times its batch the recommendations read there, and the probes."""

    norms: Floats
    read: dict[int, Recommendation]
    probes: dict[int, Probed]


def of_config(config: str, seed: int, probes: tuple[int, ...]) -> Readings:
    """By `profile` with and without a probe, as people take them; a larger batch is accumulated."""
    with tempfile.TemporaryDirectory() as folder:
        read, found, norms = {}, {}, np.empty(0)
        for times in TIMES:
            run = profile(_spec(config, seed, times), Path(folder) / str(times), threads=THREADS)
            evidence = load(run.folder)
            read[times] = evidence.recommend()
            if times == 1:
                norms = evidence.norms
                for k in probes:
                    probe(_spec(config, seed, 1), run, times=k, threads=THREADS)
                    found[k] = read_probed(run.scale)
                    run.scale.unlink()
    return Readings(norms=norms, read=read, probes=found)


def _spec(config: str, seed: int, times: int) -> Spec:
    path = ROOT / "configs" / f"{config}.yaml"
    return load_spec(path, seed=seed, accumulate=times * load_spec(path).fields.accumulate)


def of_workload(name: str, seed: int, probes: tuple[int, ...]) -> Readings:
    """By a plain loop, since these are functions and no specs. The training at K times the batch is the probe."""
    with num_threads(THREADS):
        trained = {times: _trained(name, seed, times) for times in TIMES}
    return Readings(
        norms=trained[1].norms,
        read={times: recommend(p.norms, p.loss) for times, p in trained.items()},
        probes={k: trained[k] for k in probes},
    )


def _trained(name: str, seed: int, times: int) -> Probed:
    training = WORKLOADS[name].build(seed)
    params = [p for p in training.model.parameters() if p.requires_grad]
    rates = [group["lr"] for group in training.optimizer.param_groups]
    rows: list[tuple[float, float, list[float]]] = []
    training.model.train()
    for step in range(STEPS):
        for group, rate in zip(training.optimizer.param_groups, rates, strict=True):
            group["lr"] = rate * training.rate(step)
        losses, parts = [], []
        whole: list[Tensor] = [torch.zeros_like(p) for p in params]
        for _ in range(times):
            training.optimizer.zero_grad()
            loss = training.loss(training.model, next(training.batches))
            loss.backward()  # type: ignore[no-untyped-call]
            grads = [torch.zeros_like(p) if p.grad is None else p.grad for p in params]
            losses.append(loss.item())
            parts.append(torch.nn.utils.get_total_norm(grads).item())
            whole = [w + g / times for w, g in zip(whole, grads, strict=True)]
        for p, w in zip(params, whole, strict=True):
            p.grad = w
        norm = torch.nn.utils.get_total_norm(whole).item()
        rows.append((sum(losses) / times, norm, parts))
        if not math.isfinite(norm):
            break
        training.optimizer.step()
    return Probed(
        times=times,
        reduction="mean",
        batch_norm=False,
        step=np.arange(len(rows)),
        loss=np.array([row[0] for row in rows]),
        norms=np.array([row[1] for row in rows]),
        parts=np.array([row[2] for row in rows]),
    )


READERS: dict[str, tuple[tuple[str, ...], Callable[[str, int, tuple[int, ...]], Readings]]] = {
    "configs": (CONFIGS, of_config),
    "workloads": (OTHERS, of_workload),
}
