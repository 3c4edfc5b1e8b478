"""The parts of one arm -> the same arm over all ranks: DDP or FSDP2 around the model, the batches dealt out in turn."""

from __future__ import annotations

import math
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any, Literal

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.algorithms.ddp_comm_hooks.default_hooks import allreduce_hook
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import FSDPModule, fully_shard
from torch.distributed.tensor import DTensor
from torch.nn.parallel import DistributedDataParallel

from clipcal.training.gradnorm import Norms, measure
from clipcal.training.parallel.group import Group

Kind = Literal["ddp", "fsdp2"]


def spread(model: nn.Module, kind: Kind, device: torch.device) -> nn.Module:
    """The model, its weights equal on all ranks, as the ranks train it. FSDP2 shards each block of its ModuleLists and Sequentials."""
    if kind == "ddp":
        return DistributedDataParallel(
            model,
            device_ids=[device] if device.type == "cuda" else None,
            find_unused_parameters=True,  # what is frozen or not reached would otherwise end the second step
        )
    mesh = init_device_mesh(device.type, (dist.get_world_size(),))
    for blocks in [m for m in model.modules() if isinstance(m, (nn.ModuleList, nn.Sequential)) and m is not model]:
        for block in blocks:
            if any(True for _ in block.parameters()) and not isinstance(block, FSDPModule):
                fully_shard(block, mesh=mesh)
    fully_shard(model, mesh=mesh)
    return model


class Together:
    """What the training loop asks where several ranks train: whether it goes on, and what a step's numbers are of all of them."""

    def __init__(self, group: Group, model: nn.Module) -> None:
        self._group, self._model = group, model
        self.rank, self.world = group.ranks.rank, group.ranks.world
        self._squares: list[Tensor] = []
        if isinstance(model, DistributedDataParallel):
            # torch wants a hook annotated with its own type, or not at all
            model.register_comm_hook(None, lambda state, bucket: self._reduced(bucket))

    def goes_on(self) -> bool:
        return self._group.goes_on()

    def ends(self) -> None:
        """Of rank 0, where it wants no more steps than it has."""
        if self.rank == 0:
            self._group.goes_on(False)

    def look_at(self, error: Exception) -> None:
        self._group.look_at(error)

    def micro_batch(self, *, last: bool) -> AbstractContextManager[Any]:
        """Gradients are shared after the last micro-batch of a step alone."""
        if isinstance(self._model, FSDPModule):
            self._model.set_requires_gradient_sync(last)
        elif isinstance(self._model, DistributedDataParallel) and not last:
            return self._model.no_sync()
        return nullcontext()

    def norms(self, grads: Sequence[Tensor], norm_type: float) -> Norms:
        """The norms of the whole gradient, equal on all ranks."""
        if isinstance(self._model, DistributedDataParallel):
            return measure(grads, norm_type)  # of what the ranks have averaged
        return self._of_shards(grads, norm_type, grads[0].new_zeros(()))[0]

    def measure(self, grads: Sequence[Tensor], norm_type: float, loss: Tensor) -> tuple[Norms, Tensor, Tensor | None]:
        """The norms of the whole gradient and the mean loss, equal on all ranks; and under DDP the L2 norms (ranks,) of what each
        brings into the mean. No collective per parameter."""
        if not isinstance(self._model, DistributedDataParallel):
            return (*self._of_shards(grads, norm_type, loss), None)
        square = torch.stack(self._squares).sum() if self._squares else torch.zeros_like(loss)
        self._squares.clear()
        rows = self._group.gathered(torch.stack([loss.float(), square.float().sqrt()]))
        return measure(grads, norm_type), rows[:, 0].mean(), rows[:, 1]

    def _of_shards(self, grads: Sequence[Tensor], norm_type: float, loss: Tensor) -> tuple[Norms, Tensor]:
        """Two small all-reduces whatever the number of tensors: of 723 of them, a model of 70 billion parameters, 6 KB. In float64,
        since the square of a norm that float32 holds may be none that it holds."""
        own = measure([g.to_local() if isinstance(g, DTensor) else g for g in grads], norm_type)
        loss = (loss.to_local() if isinstance(loss, DTensor) else loss).double()
        if norm_type == math.inf:
            largest = self._group.reduced(own.per_tensor, "max")
            mean = self._group.reduced(loss.reshape(1), "sum")[0] / self.world
            return Norms(largest.max(), largest, largest.max()), mean
        sums = self._group.reduced(torch.cat([loss.reshape(1), own.per_tensor.double() ** norm_type]), "sum")
        whole = sums[1:] ** (1 / norm_type)
        total = torch.linalg.vector_norm(whole, norm_type)
        return Norms(total, whole, self._group.reduced(own.grad_max.reshape(1), "max")[0]), sums[0] / self.world

    def _reduced(self, bucket: Any) -> torch.futures.Future[Tensor]:
        """DDP's own all-reduce, behind a look at what this rank brings into it."""
        self._squares.append(torch.linalg.vector_norm(bucket.buffer().detach(), dtype=torch.float32).square())
        return allreduce_hook(dist.distributed_c10d._get_default_group(), bucket)
