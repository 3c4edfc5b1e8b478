"""One optimizer's losses, gradients and steps -> Observations, with the norms as they were before any clipping.

It reads and changes nothing, but that it calls ``on_gradients`` when a step's gradients are there and measured, where they may
be clipped. Whatever goes wrong in it goes to ``on_error``: it must not end a training.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from clipcal.hooks.listening import made_step, stepped
from clipcal.training.gradnorm import Norms, Readings, is_readable, measure, read
from clipcal.training.loop import Observation

Hook = tuple[tuple[Any, ...], dict[str, Any]]
"""What a step hook may return: the arguments that ``step`` is called with."""


class Observer:
    """``sink`` is given every step; ``params`` are the optimizer's, in its order, and those that are added later."""

    def __init__(
        self,
        optimizer: torch.optim.Optimizer,
        *,
        sink: Callable[[Observation], None],
        on_error: Callable[[Exception], None],
        on_gradients: Callable[[], None] | None = None,
    ) -> None:
        self.optimizer = optimizer
        self.params = _params_of(optimizer)
        self.step = 0
        self._sink, self._on_error, self._on_gradients = sink, on_error, on_gradients
        self.losses: list[Tensor | float] = []
        self._num_groups = len(optimizer.param_groups)
        self._readable: tuple[int, bool] = (0, False)
        self._noted: tuple[Norms | Readings, list[int] | None] | None = None
        self._scale: Tensor | None = None
        self._before = time.perf_counter()

    def note_before_clipping(self, scale: Tensor | None) -> None:
        """Gradients are about to be clipped, by ``scale`` where it is known: measure them now."""
        self._noted, self._scale = self.measure(), scale

    def before_step(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Hook | None:
        """The optimizer is about to step. Where it is given a closure, the backward pass is in there: gives the arguments with
        another closure, that observes too."""
        made_step()
        closure, inner = _closure_of(args, kwargs)
        if closure is None:
            self.safely(self._observe)
            return None
        seen = False

        def watched(*a: Any, **k: Any) -> Any:
            """Where an optimizer calls it several times, the first is at the weights of the step."""
            nonlocal seen
            outside, self.losses = self.losses, []
            result = closure(*a, **k)
            self.losses = self.losses or outside  # a backward pass of its own counts, one before it where it has none
            if not seen:
                seen = True
                self.safely(self._observe)
            else:
                self._noted = None
                if self._on_gradients is not None:
                    self.safely(self._on_gradients)
            return result

        hook: Hook = inner(watched)
        return hook

    def dropped(self) -> None:
        """A GradScaler left this step out: its gradients are not finite."""
        self._noted = self._scale = None
        self.safely(lambda: self._observe(scaled=True, clip=False))

    def safely(self, act: Callable[[], None]) -> None:
        try:
            act()
        except Exception as e:
            self._on_error(e)

    def measure(self) -> tuple[Norms | Readings, list[int] | None] | None:
        """The norms, unscaled, with the indices of the tensors that have a gradient (None: all); None where none has."""
        if len(self.optimizer.param_groups) != self._num_groups:
            self._num_groups = len(self.optimizer.param_groups)
            known = {id(p) for p in self.params}
            self.params += [p for p in _params_of(self.optimizer) if id(p) not in known]
        grads = [g for p in self.params if (g := p.grad) is not None]
        if not grads:
            return None
        norms = self._norms_of(grads)
        present = (
            None if len(grads) == len(self.params) else [i for i, p in enumerate(self.params) if p.grad is not None]
        )
        return norms, present

    def unscale(self) -> None:
        """Unscale what a fused optimizer would unscale by itself, as ``GradScaler.unscale_`` does."""
        factor = getattr(self.optimizer, "grad_scale", None)
        if isinstance(factor, Tensor):
            inverse = factor.double().reciprocal().float()
            with torch.no_grad():
                torch._foreach_mul_([p.grad for p in self.params if p.grad is not None], inverse)
            self.optimizer.grad_scale = None  # type: ignore[attr-defined]

    def _norms_of(self, grads: list[Tensor]) -> Norms | Readings:
        factor = getattr(self.optimizer, "grad_scale", None)  # a fused optimizer unscales by itself
        if self._readable[0] != len(grads):
            self._readable = len(grads), is_readable(grads)
        if self._readable[1]:
            readings = read(grads)
            if not isinstance(factor, Tensor):
                return readings
            by = 1.0 / factor.item()
            return Readings(readings.total * by, [n * by for n in readings.per_tensor], readings.grad_max * by)
        if hasattr(grads[0], "to_local"):  # DTensor: the shard of this rank
            grads = [g.to_local() if hasattr(g, "to_local") else g for g in grads]
        with torch.no_grad():
            norms = measure(grads, 2.0)
            if isinstance(factor, Tensor):
                inverse = 1.0 / factor.to(norms.total.device)
                norms = Norms(norms.total * inverse, norms.per_tensor * inverse, norms.grad_max * inverse)
            return norms

    def _observe(self, *, scaled: bool = False, clip: bool = True) -> None:
        found, scale, losses = self._noted or self.measure(), self._scale, self.losses
        self._noted, self._scale, self.losses = None, None, []
        stepped()
        if found is None:
            return
        norms, present = found
        if clip and self._on_gradients is not None:
            self._on_gradients()
        after = time.perf_counter()
        rate = self.optimizer.param_groups[0].get("lr")
        observation = Observation(
            self.step,
            _sum(losses),
            norms,
            present,
            rate.detach().clone() if isinstance(rate, Tensor) else float("nan") if rate is None else rate,
            after - self._before,
            scale,
            scaled or hasattr(self.optimizer, "found_inf"),
        )
        self._before = after
        self.step += 1
        self._sink(observation)


def _params_of(optimizer: torch.optim.Optimizer) -> list[Tensor]:
    """Each of them once, in the order of the optimizer."""
    return list({id(p): p for group in optimizer.param_groups for p in group["params"]}.values())


def rank_and_world() -> tuple[int, int]:
    """Of this process in torch's process group, where there is one."""
    distributed = torch.distributed
    if distributed.is_available() and distributed.is_initialized():
        return distributed.get_rank(), distributed.get_world_size()
    return 0, 1


def kept(loss: Tensor) -> Tensor | float:
    """A loss as it is now: later it may be changed in place (summed over ranks, divided) for a log."""
    return loss.item() if loss.is_cpu else loss.detach().reshape(()).clone()


def _sum(losses: list[Tensor | float]) -> Tensor | float:
    if not losses:
        return float("nan")
    total = losses[0]
    for loss in losses[1:]:
        total = total + loss
    return total


def _closure_of(args: Any, kwargs: Any) -> tuple[Any, Any]:
    """The closure that ``step`` was called with, and how to call it with another; None where there is none."""
    if kwargs.get("closure") is not None:
        return kwargs["closure"], lambda other: (args, kwargs | {"closure": other})
    # the hook's arguments begin with the optimizer itself
    if len(args) < 2:
        return None, None
    at = next((i for i, a in enumerate(args) if callable(a) and not isinstance(a, torch.optim.Optimizer)), None)
    if at is None:
        return None, None
    return args[at], lambda other: ((*args[:at], other, *args[at + 1 :]), kwargs)
