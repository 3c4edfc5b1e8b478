"""An optimizer's parameters -> their names in the model that they belong to, and the order in which that model lists them.

A script that is watched from outside hands over no model, so it is looked for among the living objects, once.
"""

from __future__ import annotations

import gc
import re
from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor, nn

_WRAPPER = re.compile(r"(^|\.)(module|_orig_mod|_fsdp_wrapped_module|_forward_module|_checkpoint_wrapped_module)(?=\.)")
"""What DistributedDataParallel, torch.compile, FSDP, Fabric and checkpointing put into the names."""


@dataclass(frozen=True, kw_only=True)
class Naming:
    """``names`` follow the optimizer's order; ``order`` are the same parameters as ``model.parameters()`` has them."""

    names: list[str]
    order: list[Tensor]


def living_modules() -> list[nn.Module]:
    return [o for o in gc.get_objects() if issubclass(type(o), nn.Module)]


def names_of(params: Sequence[Tensor], modules: Sequence[nn.Module]) -> Naming:
    """Names from the module that has most of ``params``, and from others for the rest."""
    ours = {id(p): i for i, p in enumerate(params)}
    inner = {id(child) for m in modules for child in m._modules.values()}
    found: list[list[tuple[str, Tensor]]] = []
    for root in modules:
        if id(root) not in inner:
            named: list[tuple[str, Tensor]] = list(root.named_parameters())
            if any(id(p) in ours for _, p in named):
                found.append(named)
    found.sort(key=lambda named: (-sum(id(p) in ours for _, p in named), len(named)))
    names: dict[int, str] = {}
    order: list[Tensor] = []
    for named in found:
        for name, p in named:
            if id(p) in ours and id(p) not in names:
                names[id(p)] = _WRAPPER.sub("", name).lstrip(".")
                order.append(p)
    for p in params:
        if id(p) not in names:
            names[id(p)] = f"parameter {ours[id(p)]}"
            order.append(p)
    return Naming(names=[names[id(p)] for p in params], order=order)
