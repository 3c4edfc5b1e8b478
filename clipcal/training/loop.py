"""The one training loop that every arm runs: forward, backward, norm, optional clip, optimizer, scheduler.

What it observes stays on the device: fetching it, in batches, is the recorder's business. With ``clip=None`` the
gradients are read and never touched.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor, nn

from clipcal.errors import InputError, UserCodeError, a_kind
from clipcal.sources.usercode import users_code
from clipcal.training.gradnorm import ClipRule, Norms, Readings, clip_, measure, scale_after

if TYPE_CHECKING:
    from clipcal.training.parallel.spreading import Together


PRECISIONS = {"fp32": None, "bf16": torch.bfloat16, "fp16": torch.float16}


@dataclass(kw_only=True)
class Parts:
    """What a source builds for one arm, owned by that arm. ``batch_loss(model, batch)`` gives a scalar, and ``called`` is what
    errors call it; ``data`` is called for a pass over the batches, again each time a pass ends. ``inner`` is the model without what wraps
    it for several ``ranks``."""

    model: nn.Module
    data: Callable[[], Iterable[Any]]
    batch_loss: Callable[[nn.Module, Any], Any]
    optimizer: torch.optim.Optimizer
    scheduler: Any
    device: torch.device
    precision: str = "fp32"
    accumulate: int = 1
    called: str = "The forward pass"
    notes: list[str] = field(default_factory=list)
    inner: nn.Module | None = None
    ranks: Together | None = None

    def named_tensors(self) -> list[tuple[str, Tensor]]:
        """The optimizer's parameters by the model's names, in the optimizer's order."""
        # no `or`: a compiled model has a __len__ that raises
        model = self.model if self.inner is None else self.inner
        names = {id(p): n.replace("_orig_mod.", "") for n, p in model.named_parameters()}
        return [
            (names.get(id(p), f"optimizer.param_groups[{g}][{i}]"), p)
            for g, group in enumerate(self.optimizer.param_groups)
            for i, p in enumerate(group["params"])
        ]


class Observation(NamedTuple):
    """One step. Its tensors are still on the device; on the CPU they may be plain numbers. ``with_grad`` are the indices of the tensors
    that had a gradient, None where all had one; ``norms.per_tensor`` follows it. ``rank_norms`` (ranks,) are the norms of the ranks' own
    gradients."""

    step: int
    loss: Tensor | float
    norms: Norms | Readings
    with_grad: Sequence[int] | None
    lr: Any
    seconds: float
    scale: Tensor | None
    scaled: bool
    rank_norms: Tensor | None = None


def train(
    parts: Parts, *, steps: int, norm_type: float = 2.0, clip: ClipRule | None = None, lr_scale: float = 1.0
) -> Iterator[Observation]:
    """Train for ``steps`` optimizer steps, yielding after each.

    ``lr_scale`` multiplies the learning rate that the optimizer and its scheduler ask for. Raises UserCodeError where the
    user's code raises, InputError where it gives something that cannot be trained on.
    """
    optimizer = parts.optimizer
    tensors = parts.named_tensors()
    params = [p for _, p in tensors]
    scaler = torch.amp.GradScaler(parts.device.type) if PRECISIONS[parts.precision] is torch.float16 else None
    batches = _batches(parts)
    ranks = parts.ranks
    parts.model.train()
    before = time.perf_counter()
    for step in range(steps):
        if ranks is not None and not ranks.goes_on():
            return
        with users_code("optimizer.zero_grad", step):
            optimizer.zero_grad(set_to_none=True)
        try:
            loss = _forward_and_backward(parts, batches, scaler, params, step)
        except UserCodeError as e:
            if ranks is not None:
                ranks.look_at(e)
            raise
        present = [i for i, p in enumerate(params) if p.grad is not None]
        if not present:
            raise InputError(_no_gradients(parts, tensors))
        if scaler:
            scaler.unscale_(optimizer)
        if step == 0:
            _note_sparse(parts, params)
        norms, loss, rank_norms, scale = _measure_and_clip([params[i] for i in present], norm_type, clip, loss, ranks)
        if scaler and rank_norms is not None:  # they were taken before unscaling; its scale, without waiting for it
            rank_norms = rank_norms / scaler.scale(torch.ones_like(rank_norms))
        rate = optimizer.param_groups[0].get("lr")
        lr = float("nan") if rate is None else rate * lr_scale
        scaling = nullcontext() if lr_scale == 1.0 else scaled_rates(optimizer, lr_scale)
        with scaling, users_code("optimizer.step", step):
            if scaler:
                scaler.step(optimizer)
                scaler.update()
            else:
                optimizer.step()
        if parts.scheduler is not None:
            with users_code("scheduler.step", step):
                if isinstance(parts.scheduler, torch.optim.lr_scheduler.ReduceLROnPlateau):
                    parts.scheduler.step(loss)
                else:
                    parts.scheduler.step()
        after = time.perf_counter()
        observation = Observation(
            step=step,
            loss=loss,
            norms=norms,
            with_grad=None if len(present) == len(params) else present,
            lr=lr,
            seconds=after - before,
            scale=scale,
            scaled=scaler is not None,
            rank_norms=rank_norms,
        )
        try:
            yield observation
        except GeneratorExit:
            if ranks is not None and step + 1 < steps:
                ranks.ends()
            raise
        before = after


# What a step holds, it holds in these two functions: a list of gradients that outlived the step would keep them in memory
# while the next backward pass makes new ones.


def _forward_and_backward(
    parts: Parts, batches: Iterator[Any], scaler: torch.amp.GradScaler | None, params: Sequence[Tensor], step: int
) -> Tensor:
    """The gradients of one optimizer step; gives the mean loss of its micro-batches, detached."""
    dtype = PRECISIONS[parts.precision]
    losses: list[Tensor] = []
    # a second backward pass does not always raise: where it does not, every gradient would be twice what it is
    untouched = step == 0 and all(p.grad is None for p in params)
    for i in range(parts.accumulate):
        batch = next(batches)
        autocast: AbstractContextManager[Any] = (
            torch.autocast(parts.device.type, dtype=dtype) if dtype else nullcontext()
        )
        with nullcontext() if parts.ranks is None else parts.ranks.micro_batch(last=i + 1 == parts.accumulate):
            with users_code(parts.called, step), autocast:
                loss = parts.batch_loss(parts.model, batch)
            if untouched and not losses and any(p.grad is not None for p in params):
                raise InputError(
                    f"{parts.called}: clipcal calls backward itself; return the loss without calling .backward()."
                )
            _check_loss(loss, parts.called, step)
            losses.append(loss.detach().clone())  # CUDA graphs of a compiled step write the next loss to the same place
            part = loss / parts.accumulate if parts.accumulate > 1 else loss
            with users_code("The backward pass", step):
                (scaler.scale(part) if scaler else part).backward()
    return losses[0] if len(losses) == 1 else torch.stack(losses).mean()


def _measure_and_clip(
    params: Sequence[Tensor], norm_type: float, clip: ClipRule | None, loss: Tensor, ranks: Together | None
) -> tuple[Norms, Tensor, Tensor | None, Tensor | None]:
    """The norms before any clipping, the loss of all ranks, their own norms, and the factor that clipping applied, None without it."""
    grads = [p.grad for p in params if p.grad is not None]
    rank_norms = None
    if ranks is None:
        norms = measure(grads, norm_type)
    else:
        norms, loss, rank_norms = ranks.measure(grads, norm_type, loss)
    if clip is None:
        return norms, loss, rank_norms, None
    whole = measure if ranks is None else ranks.norms
    own = norms if clip.norm_type == norm_type else whole(grads, clip.norm_type)
    clip_(grads, params, own, clip)
    return norms, loss, rank_norms, scale_after(grads, own, clip, whole)


def _note_sparse(parts: Parts, params: Sequence[Tensor]) -> None:
    if any(p.grad is not None and p.grad.is_sparse for p in params):
        parts.notes.append(
            "some gradients are sparse, which torch.nn.utils.clip_grad_norm_ refuses (torch 2.13): a threshold can be pasted "
            "only where the embedding is built with sparse=False"
        )


@contextmanager
def scaled_rates(optimizer: torch.optim.Optimizer, factor: float) -> Iterator[None]:
    """The learning rates times a factor, for the length of one step: the scheduler sees the rates that it set itself,
    so that a schedule in absolute values (OneCycleLR) is scaled like one in relative ones."""
    rates = [group.get("lr") for group in optimizer.param_groups]
    _set_rates(optimizer, [None if rate is None else rate * factor for rate in rates])
    try:
        yield
    finally:
        _set_rates(optimizer, rates)


def _set_rates(optimizer: torch.optim.Optimizer, rates: Sequence[Any]) -> None:
    for group, rate in zip(optimizer.param_groups, rates, strict=False):
        if rate is not None:  # an optimizer that picks its own has none, or None (Adafactor)
            group["lr"] = rate


def _batches(parts: Parts) -> Iterator[Any]:
    """The batches of one pass after the other, on the device; where several ranks train, each has every ``world``-th of them."""
    passes = 0
    rank, world = (0, 1) if parts.ranks is None else (parts.ranks.rank, parts.ranks.world)
    dealt = 0
    while True:
        count = 0
        with users_code("Iterating over the data"):
            iterator = iter(parts.data())
        while True:
            with users_code("The data"):
                try:
                    batch = next(iterator)
                except StopIteration:
                    break
                mine = dealt % world == rank
                batch = to_device(batch, parts.device) if mine else None
            count, dealt = count + 1, dealt + 1
            if mine:
                yield batch
        if count == 0:
            raise InputError(
                "The data is empty: it gave no batch at all. Check the dataset's length, and that batch_size with "
                "drop_last=True is not larger than the dataset."
                if passes == 0
                else f"The data ended after {passes} pass{'es' if passes > 1 else ''} and gives nothing when started again. "
                "Use an iterable that starts anew (a DataLoader, a list, an object with __iter__), or fewer steps with --steps."
            )
        passes += 1
        if passes == 1 and count > 1:  # one batch, over and over, is full-batch training and meant
            parts.notes.append(f"the data ended after {count} batches and was started again")


def to_device(batch: Any, device: torch.device) -> Any:
    """Every tensor inside lists, tuples, named tuples and mappings, and everything with a ``to``, moved to ``device``."""
    if isinstance(batch, Tensor):
        return batch.to(device, non_blocking=True)
    if callable(getattr(batch, "to", None)) and not isinstance(batch, type):
        return batch.to(device)  # PackedSequence, BatchEncoding, graphs: they know what stays where
    if isinstance(batch, tuple) and hasattr(batch, "_fields"):
        return type(batch)(*(to_device(b, device) for b in batch))
    if isinstance(batch, (list, tuple)):
        return type(batch)(to_device(b, device) for b in batch)
    if isinstance(batch, Mapping):
        return {k: to_device(v, device) for k, v in batch.items()}
    return batch


def _check_loss(loss: Any, called: str, step: int) -> None:
    if not isinstance(loss, Tensor):
        raise InputError(
            f"{called}: the loss is {a_kind(loss)} at step {step}; expected a scalar tensor. Return the loss itself, as a tensor."
        )
    if loss.numel() != 1:
        raise InputError(
            f"{called}: the loss has shape {tuple(loss.shape)} at step {step}; expected a scalar. Reduce it, with "
            "reduction='mean' or .mean()."
        )
    if not loss.requires_grad:
        raise InputError(
            f"{called}: the loss has no gradient at step {step}: nothing that it was computed from requires one. Look for .detach(), .item(), "
            "torch.no_grad(), an argmax, or a model whose parameters are all frozen."
        )


def _no_gradients(parts: Parts, tensors: Sequence[tuple[str, Tensor]]) -> str:
    elsewhere = [n for n, p in parts.model.named_parameters() if p.grad is not None]
    text = f"None of the optimizer's {len(tensors)} parameter tensors got a gradient."
    if elsewhere:
        return f"{text} Others of the model did ({elsewhere[0]}, ...): was the optimizer built with another model's parameters?"
    return f"{text} The loss does not depend on them; check that it is computed from this model's output."
