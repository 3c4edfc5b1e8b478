"""Gradients -> norms, and clipping by them. The one place that touches torch.nn.utils."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import utils

from clipcal.errors import InputError
from clipcal.run.records import Method
from clipcal.run.step import TORCH_ADDS


class Norms(NamedTuple):
    """Of one step, on the gradients' device: ``total`` and ``grad_max`` 0-D, ``per_tensor`` 1-D, in the order of the gradients."""

    total: Tensor
    per_tensor: Tensor
    grad_max: Tensor


class Readings(NamedTuple):
    """The same as plain numbers."""

    total: float
    per_tensor: list[float]
    grad_max: float


@dataclass(frozen=True, kw_only=True)
class ClipRule:
    """How an arm clips: ``threshold`` is the max_norm of torch.nn.utils.clip_grad_norm_ (method "norm"), the clip_value of
    clip_grad_value_ ("value"), or the max_norm of each tensor by itself ("per_tensor", Keras' clipnorm)."""

    method: Method = "norm"
    threshold: float
    norm_type: float = 2.0


def measure(grads: Sequence[Tensor], norm_type: float) -> Norms:
    """One pass for the per-tensor norms, the total from those; equal to torch.nn.utils.get_total_norm, without a sync.

    Half-precision gradients are accumulated in fp32: a norm summed in bf16 is off by several per mille. Norms of
    several devices are brought to the first that is not the CPU, which would wait for the others. A tensor without
    elements has norm 0.
    """
    dense = [g.coalesce().values() if g.is_sparse else g.detach() for g in grads]
    device = next((g.device for g in dense if g.device.type != "cpu"), dense[0].device)
    if all(g.dtype == dense[0].dtype and g.device == device and g.numel() for g in dense):
        per_tensor = _norms(dense, norm_type)
        largest = (per_tensor if norm_type == math.inf else _largest(dense)).max()
    else:
        # one by one, so that a model of several dtypes keeps the order of its tensors
        zero = torch.zeros((), device=device)
        per_tensor = torch.stack([_to(device, _norms([g], norm_type)[0]) if g.numel() else zero for g in dense])
        largest = torch.stack([_to(device, _largest([g])[0]) for g in dense if g.numel()] or [zero]).max()
    return Norms(torch.linalg.vector_norm(per_tensor, norm_type), per_tensor, largest)


def is_readable(grads: Sequence[Tensor]) -> bool:
    """Whether ``read`` can be used: dense real gradients on the CPU, none of them empty."""
    return all(
        g.device.type == "cpu" and not g.is_sparse and g.is_floating_point() and g.numel() and type(g) is Tensor
        for g in grads
    )


def read(grads: list[Tensor]) -> Readings:
    """``measure(grads, 2.0)`` in plain numbers, in half of its time, where a number waits for nothing (``is_readable``)."""
    dtype = torch.float32 if grads[0].dtype in (torch.float16, torch.bfloat16) else None
    per_tensor = list(map(_item, torch._foreach_norm(grads, 2.0, dtype)))
    total = math.hypot(*per_tensor)
    if not total < math.inf:
        total = sum(per_tensor)  # of an inf and a NaN, hypot makes an inf
    largest = total
    if total == total:  # a NaN is the largest element, and Python's max would not see it
        largest = 0.0
        for norm, grad in zip(per_tensor, grads, strict=True):
            if norm * _ROUNDED > largest:  # no element is larger than the norm of its tensor
                smallest, highest = _aminmax(grad if grad.is_contiguous() else _in_memory_order(grad))
                low, high = -smallest.item(), highest.item()
                if low > high:
                    high = low
                if high > largest:
                    largest = high
    return Readings(total, per_tensor, largest)


_ROUNDED = 1 + 1e-6
"""More than the rounding of a norm to a float32."""
_item, _aminmax = Tensor.item, torch.aminmax


def _to(device: torch.device, norm: Tensor) -> Tensor:
    return norm.to(device, non_blocking=True)


def _norms(grads: list[Tensor], norm_type: float) -> Tensor:
    dtype = torch.float32 if grads[0].dtype in (torch.float16, torch.bfloat16) else None
    if norm_type == math.inf:
        return _largest(grads).to(dtype)
    return torch.stack(torch._foreach_norm(grads, norm_type, dtype))


def _largest(grads: list[Tensor]) -> Tensor:
    """The largest absolute element of each tensor."""
    if grads[0].device.type != "cpu" or grads[0].is_complex():
        return torch.stack(torch._foreach_norm(grads, math.inf))
    # on the CPU the inf norm takes 15 times as long as the smallest and the largest element do
    extremes = torch.stack([extreme for g in grads for extreme in torch.aminmax(_in_memory_order(g))])
    return extremes.abs().view(-1, 2).amax(1)


def _in_memory_order(grad: Tensor) -> Tensor:
    """aminmax takes 6 times as long where the dimensions are not in the order of memory (channels_last)."""
    if grad.is_contiguous():
        return grad
    return grad.permute(sorted(range(grad.dim()), key=grad.stride, reverse=True))


def clip_(grads: Sequence[Tensor], params: Sequence[Tensor], norms: Norms, rule: ClipRule) -> None:
    """Clip the gradients of ``params`` in place, with torch's own functions, so that an arm trains as the user's run will."""
    if rule.method != "value" and any(hasattr(g, "to_local") for g in grads):
        # shards take a norm that is sharded too, which torch makes itself
        for some in [list(params)] if rule.method == "norm" else [[p] for p in params]:
            utils.clip_grad_norm_(some, rule.threshold, rule.norm_type)
    elif rule.method == "norm":
        utils.clip_grads_with_norm_(params, rule.threshold, norms.total)
    elif rule.method == "value":
        if any(g.is_sparse for g in grads):
            raise InputError(
                "torch.nn.utils.clip_grad_value_ takes no sparse gradients. Build the embedding with sparse=False, or "
                "calibrate `clip: {method: norm}`."
            )
        utils.clip_grad_value_(params, rule.threshold)
    else:
        for p, norm in zip(params, norms.per_tensor.unbind(), strict=True):
            utils.clip_grads_with_norm_(p, rule.threshold, norm)


def clip_factor(norm: Tensor, threshold: float) -> Tensor:
    """What torch's clip_grad_norm_ multiplies gradients of this norm by. 0-D, on the device of the norm."""
    return (threshold / (norm + TORCH_ADDS)).clamp(max=1.0)


def scale_after(
    grads: Sequence[Tensor],
    norms: Norms,
    rule: ClipRule,
    measured: Callable[[Sequence[Tensor], float], Norms] = measure,
) -> Tensor:
    """The factor by which clipping shortened the whole gradient, 1.0 where it did not act. 0-D, on the device."""
    if rule.method == "norm":
        return clip_factor(norms.total, rule.threshold)
    after = measured(grads, rule.norm_type).total
    return torch.where(norms.total > 0, after / norms.total, torch.ones_like(after)).clamp(max=1.0)
