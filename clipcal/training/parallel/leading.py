"""Spec -> the parts of one arm, on one device or, under torchrun, on all ranks: rank 0 says what is trained, and all build it."""

from __future__ import annotations

import signal
from dataclasses import asdict
from typing import TYPE_CHECKING

import torch

from clipcal.errors import InputError, SpecError
from clipcal.sources.ranks import Ranks, ranks_here
from clipcal.sources.spec import Spec
from clipcal.training.building import build
from clipcal.training.gradnorm import ClipRule
from clipcal.training.loop import Parts

if TYPE_CHECKING:
    from clipcal.training.parallel.group import Group


def parts_for(
    spec: Spec, *, seed: int, device: torch.device, rule: ClipRule | None = None, lr_scale: float = 1.0
) -> Parts:
    """The parts of an arm that is then trained with ``clip=rule`` and ``lr_scale``. Raises SpecError where the spec and the number of
    processes do not fit."""
    kind, ranks = spec.fields.parallel, ranks_here()
    if ranks is None:
        if kind != "none":
            raise SpecError(
                f"{spec.where(('parallel',))}: `parallel: {kind}` trains on several processes, and this is one. Start it with "
                "`torchrun --nproc-per-node 2 -m clipcal ...`, or say `parallel: none`."
            )
        return build(spec, seed=seed, device=device)
    if kind == "none":
        raise SpecError(
            f"{spec.where(('parallel',))}: torchrun has started {ranks.world} processes, and `parallel: none` trains in one. Say "
            "`parallel: ddp` or `parallel: fsdp2`, or leave torchrun out."
        )
    if kind == "fsdp2" and spec.fields.precision == "fp16":
        raise InputError(
            "precision fp16 with parallel: fsdp2 needs a scaler that knows shards, which torch does not have. Use bf16."
        )
    from clipcal.training.parallel.group import group_here  # DDP and FSDP take a while to import

    group = group_here()
    assert group is not None
    group.order(
        source=dict(spec.source().record),
        seed=seed,
        steps=spec.fields.steps,
        device=device.type,
        threads=torch.get_num_threads(),
        rule=None if rule is None else asdict(rule),
        lr_scale=lr_scale,
    )

    def ended(number: int, frame: object) -> None:
        """torchrun ends all ranks when it has lost one."""
        if not group.is_lost:
            raise group.lost()

    signal.signal(signal.SIGTERM, ended)
    return assemble(spec, seed=seed, device=device_of(device, ranks), group=group)


def assemble(spec: Spec, *, seed: int, device: torch.device, group: Group) -> Parts:
    """Called by all ranks at once."""
    from clipcal.training.parallel.spreading import Together, spread

    group.begin(device)
    kind = spec.fields.parallel
    assert kind != "none"
    parts = build(spec, seed=seed, device=device, wrap=lambda model: spread(model, kind, device))
    parts.ranks = Together(group, parts.model)
    return parts


def device_of(device: torch.device, ranks: Ranks) -> torch.device:
    """On a machine with several accelerators, each rank has its own."""
    return torch.device(device.type, ranks.local_rank) if device.type == "cuda" else device
