"""Spec -> the parts of one arm: model, data, loss, optimizer and scheduler, built anew from the arm's seed."""

from __future__ import annotations

import inspect
import random
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import numpy as np
import torch
from torch import nn

from clipcal.errors import InputError, SpecError, a_kind
from clipcal.sources.spec import Spec
from clipcal.sources.targets import Builder
from clipcal.sources.usercode import users_code
from clipcal.training.loop import Parts


def seed_everything(seed: int) -> None:
    """Seed the generators that a hand-written script would: Python's, numpy's and torch's, on every device."""
    random.seed(seed)
    np.random.seed(seed % 2**32)  # noqa: NPY002  users' data code draws from the global generator
    torch.manual_seed(seed)


def pick_device(wanted: str) -> torch.device:
    """The device of a spec; "auto" takes CUDA, then MPS, then the CPU. Raises InputError where it is not there."""
    if wanted == "auto":
        wanted = "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
    kind, _, index = wanted.partition(":")
    count = {"cpu": 1, "cuda": torch.cuda.device_count(), "mps": int(torch.backends.mps.is_available())}[kind]
    if int(index or 0) >= count:
        there = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
        have = [d for d in there if d != kind and there[d]]
        raise InputError(
            f"device {wanted!r}: this machine has {'no such device' if not count else f'{count} of kind {kind}'}, as torch "
            f"{torch.__version__} sees it. Use --device {' or '.join(['cpu', *have])}."
        )
    return torch.device(wanted)


def build(
    spec: Spec, *, seed: int, device: torch.device, wrap: Callable[[nn.Module], nn.Module] = lambda model: model
) -> Parts:
    """Seed everything, then build in the order in which a script would: model, data, loss, optimizer, scheduler. ``wrap`` makes of the
    model what is trained on several ranks, with the same parameters, or in their place.

    Nothing is drawn from torch's generator besides what the user's code draws, so a script that seeds and builds in this
    order trains the same run, bit for bit. Raises SpecError for what the spec got wrong.
    """
    fields = spec.fields
    seed_everything(seed)
    builder = Builder(spec.where, seed)
    model = builder.build(fields.model, ("model",))
    if not isinstance(model, nn.Module):
        raise SpecError(_wrong_type(spec, "model", model, "a torch.nn.Module"))
    with users_code("Moving the model to its device"):
        model.to(device)
    data = _data(spec, builder)
    batch_loss = _batch_loss(spec, builder, device)
    trained_as = wrap(model)
    optimizer = builder.build(
        fields.optimizer,
        ("optimizer",),
        model.parameters(),
        offers={"model": model, "named_parameters": list(model.named_parameters())},
    )
    if not isinstance(optimizer, torch.optim.Optimizer):
        raise SpecError(_wrong_type(spec, "optimizer", optimizer, "a torch.optim.Optimizer"))
    if _needs_closure(optimizer):
        raise SpecError(
            f"{spec.where(('optimizer',))}: {type(optimizer).__name__} calls the loss several times a step, through a closure, "
            "which a spec does not give it. Its steps have no single gradient to clip; use another optimizer."
        )
    scheduler = builder.build(fields.scheduler, ("scheduler",), optimizer) if fields.scheduler else None
    if scheduler is not None and not callable(getattr(scheduler, "step", None)):
        raise SpecError(_wrong_type(spec, "scheduler", scheduler, "a scheduler with a step()"))
    if fields.precision == "fp16" and device.type == "mps":
        raise InputError("precision fp16 needs a GradScaler, which torch does not have for MPS. Use bf16 or fp32.")
    parts = Parts(
        model=trained_as,
        inner=model,
        data=data,
        batch_loss=batch_loss,
        optimizer=optimizer,
        scheduler=scheduler,
        device=device,
        precision=fields.precision,
        accumulate=fields.accumulate,
        called=_called(spec),
    )
    trained = {id(p) for _, p in parts.named_tensors()}
    left = [n for n, p in model.named_parameters() if p.requires_grad and id(p) not in trained]
    if left:
        parts.notes.append(
            f"{len(left)} parameter tensors of the model are not in the optimizer ({left[0]}, ...) and are not counted"
        )
    return parts


def _data(spec: Spec, builder: Builder) -> Callable[[], Iterable[Any]]:
    """A function that starts a pass over the data. A one-shot iterator is built again when it has run out."""
    first = builder.build(spec.fields.data, ("data",))
    if isinstance(first, Mapping) or not (hasattr(first, "__iter__") or hasattr(first, "__getitem__")):
        raise SpecError(_wrong_type(spec, "data", first, "an iterable of batches, such as a DataLoader or a generator"))
    if hasattr(first, "__next__"):
        unused = [first]
        return lambda: unused.pop() if unused else builder.build(spec.fields.data, ("data",))
    again: Iterable[Any] = first
    return lambda: again


def _batch_loss(spec: Spec, builder: Builder, device: torch.device) -> Callable[[nn.Module, Any], Any]:
    fields = spec.fields
    if fields.training_step is not None:
        return builder.build_callable(fields.training_step, ("training_step",))
    if fields.loss is not None:
        loss = builder.build_callable(fields.loss, ("loss",))
        if isinstance(loss, nn.Module):
            loss.to(device)  # class weights

        def of_pair(model: nn.Module, batch: Any) -> Any:
            if not isinstance(batch, (tuple, list)) or len(batch) != 2:
                raise InputError(
                    f"{spec.where(('loss',))}: `loss` needs batches of (inputs, target), and the data gave {_described(batch)}. "
                    "Give a `training_step` instead, or drop `loss` where model(**batch).loss is meant."
                )
            inputs, target = batch
            return loss(model(inputs), target)

        return of_pair

    def of_mapping(model: nn.Module, batch: Any) -> Any:
        if not isinstance(batch, Mapping):
            raise InputError(
                f"{spec.file}: with neither `loss` nor `training_step`, the model is called as model(**batch).loss, and the data "
                f"gave {_described(batch)}. Add `loss: {{_target_: torch.nn.CrossEntropyLoss}}`, or a `training_step`."
            )
        output = model(**batch)
        loss = output.get("loss") if isinstance(output, Mapping) else getattr(output, "loss", None)
        if loss is None:
            raise InputError(
                f"{spec.file}: model(**batch) gave {a_kind(output)} without a loss. Hugging Face models need `labels` in "
                f"the batch (it has {', '.join(map(str, batch))}); for other models give `loss` or `training_step`."
            )
        return loss

    return of_mapping


def _called(spec: Spec) -> str:
    """What is called for the loss of a batch, by the names and with the place that it has in the spec."""
    fields = spec.fields
    if fields.training_step is not None:
        return f"{spec.where(('training_step', '_target_'))}: training_step `{fields.training_step['_target_']}`"
    names = [f"`{part['_target_']}`" for part in (fields.model, fields.loss) if part is not None]
    return f"{spec.where(('model', '_target_'))}: the forward pass of {' and '.join(names)}"


def _described(batch: Any) -> str:
    if isinstance(batch, (tuple, list)):
        return f"{a_kind(batch)} of {len(batch)}"
    if isinstance(batch, Mapping):
        return f"a mapping with {', '.join(map(str, batch))}"
    return a_kind(batch)


def _wrong_type(spec: Spec, key: str, value: Any, expected: str) -> str:
    target = getattr(spec.fields, key)["_target_"]
    return f"{spec.where((key, '_target_'))}: `{key}` must be {expected}; `{target}` gave {a_kind(value)}."


def _needs_closure(optimizer: torch.optim.Optimizer) -> bool:
    closure = inspect.signature(type(optimizer).step).parameters.get("closure")
    return closure is not None and closure.default is closure.empty
