"""torch's own functions -> what they are called with, while somebody listens.

Four things that an optimizer's step does not show: the loss (``torch.autograd.backward``), what a GradScaler made of it and whether
it dropped the step, and the clip calls. Every way of calling a clip function ends in one closure cell of
``torch.nn.utils.clip_grad``, so that references that were imported earlier are heard too. Nothing that these functions do is changed,
but that a clip call does not act where a listener says so. When the last listener leaves, all of it is as it was.
"""

from __future__ import annotations

import sys
from collections.abc import Collection
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor
from torch.nn.utils import clip_grad

from clipcal.hooks import insides
from clipcal.hooks.calling import place

MOST_SITES = 20


@dataclass(frozen=True, kw_only=True)
class ClipCall:
    """A clip call that is about to act: ``total_norm`` is None for clipping by value. ``where`` is the user's file and line."""

    parameters: list[Tensor]
    threshold: float
    by: str
    total_norm: Tensor | None
    where: str


@dataclass(kw_only=True)
class ClipSite:
    """A place at which a training clips by itself: on how many ``tensors`` of the optimizer, and in how many calls."""

    where: str
    by: str
    threshold: float
    tensors: int
    calls: int = 0


def site_of(call: ClipCall, sites: list[ClipSite], ours: Collection[int]) -> ClipSite | None:
    """The one of ``sites`` that a call comes from; a new one is added. None where the call clips none of the tensors with the ids
    ``ours``, or where so many are known that the threshold is most likely another one in every step."""
    known = next((s for s in sites if (s.where, s.threshold) == (call.where, call.threshold)), None)
    if known is None and len(sites) < MOST_SITES and (shared := sum(id(p) in ours for p in call.parameters)):
        known = ClipSite(where=call.where, by=call.by, threshold=call.threshold, tensors=shared)
        sites.append(known)
    return known


class Listener(Protocol):
    """What is told. A class that inherits this leaves out what it does not need."""

    def before_backward(self) -> None:
        return

    def forget_losses(self) -> None:
        """The first backward pass after a step: what came before belongs to that step."""
        ...

    def saw_loss(self, loss: Tensor) -> None: ...

    def after_backward(self) -> None:
        return

    def before_clipping(self, call: ClipCall) -> bool:
        """Whether the call may act."""
        ...

    def after_unscaling(self, optimizer: torch.optim.Optimizer) -> None:
        return

    def dropped(self, optimizer: torch.optim.Optimizer) -> None:
        """A GradScaler did not make this step."""
        ...


_listeners: list[Listener] = []
_originals: dict[str, Any] = {}
_taken: list[tuple[Any, str, Any]] = []
_depth = 0
_stepped = False


def stepped() -> None:
    """Some optimizer made its step: the losses so far are those of that step, and of others that come before the next
    backward pass (one loss, two optimizers), but not of what is trained after it (a GAN)."""
    global _stepped
    _stepped = True


def in_backward() -> bool:
    """Whether a backward pass is under way."""
    return _depth > 0


def is_nested() -> bool:
    """Whether ``step`` is called from within another ``step``: a subclass calls ``super().step()``, Lookahead its inner optimizer."""
    frame: Any = sys._getframe(1)
    calls, file = 0, torch.optim.Optimizer.profile_hook_step.__code__.co_filename
    while frame is not None:
        code = frame.f_code
        if code.co_name == "wrapper" and code.co_filename == file:
            calls += 1
            if calls > 1:
                return True
        frame = frame.f_back
    return False


def check() -> None:
    """Raise InputError where nobody could listen to this torch."""
    if not _listeners:  # what is installed looks otherwise than torch's own
        insides.check()


def listen(listener: Listener) -> None:
    """Begin to tell ``listener``. Raises InputError where torch's functions are not as they are known, and leaves them alone."""
    check()
    if not _listeners:
        _install()
    _listeners.append(listener)


def leave(listener: Listener) -> None:
    """Stop telling ``listener``; the last one to leave takes everything back."""
    if listener in _listeners:
        _listeners.remove(listener)
        if not _listeners:
            _restore()


def leave_to_python() -> None:
    """The compiler is about to be used: it is told to leave what listens to Python. Importing it takes seconds, so not before."""
    global _backward, _clip_by_norm, _clip_by_value
    if hasattr(_backward, "_torchdynamo_disable"):
        return
    listening = bool(_listeners)
    if listening:
        _restore()
    _backward, _clip_by_norm, _clip_by_value = map(torch.compiler.disable, (_backward, _clip_by_norm, _clip_by_value))
    if listening:
        _install()


def _places() -> list[tuple[str, Any, str, Any]]:
    """What is put in place of what: a name for the original, who holds it and under which name, and ours."""
    scaler = torch.amp.GradScaler
    by_norm, by_value = insides.cell_of(clip_grad._clip_grads_with_norm_), insides.cell_of(clip_grad.clip_grad_value_)
    return [
        ("backward", torch.autograd, "backward", _backward),
        ("scale", scaler, "scale", _scale),
        ("unscale", scaler, "unscale_", _unscale),
        ("step", scaler, "step", _scaler_step),
        ("by_norm", by_norm, "cell_contents", _clip_by_norm),
        ("by_value", by_value, "cell_contents", _clip_by_value),
    ]


def _install() -> None:
    """All of it, or, where that fails, none."""
    try:
        for name, holder, attribute, ours in _places():
            _originals[name] = getattr(holder, attribute)
            setattr(holder, attribute, ours)
            _taken.append((holder, attribute, _originals[name]))
    except BaseException:
        _restore()
        raise


def _restore() -> None:
    while _taken:
        holder, attribute, original = _taken.pop()
        setattr(holder, attribute, original)
    _originals.clear()


def _backward(tensors: Any, *args: Any, **kwargs: Any) -> Any:
    global _depth, _stepped
    original = _originals["backward"]
    if _depth:  # checkpointing calls it again from within
        return original(tensors, *args, **kwargs)
    listeners = list(_listeners)
    for listener in listeners:
        listener.before_backward()
    roots = [tensors] if isinstance(tensors, Tensor) else list(tensors)
    if _stepped:
        _stepped = False
        for listener in listeners:
            listener.forget_losses()
    for root in roots:
        if isinstance(root, Tensor) and root.numel() == 1:
            loss = getattr(root, "_clipcal_unscaled", root)
            for listener in listeners:
                listener.saw_loss(loss)
    _depth += 1
    try:
        result = original(tensors if isinstance(tensors, Tensor) else roots, *args, **kwargs)
    finally:
        _depth -= 1
    for listener in listeners:
        listener.after_backward()
    return result


def _scale(self: Any, outputs: Any) -> Any:
    scaled = _originals["scale"](self, outputs)
    if isinstance(outputs, Tensor) and isinstance(scaled, Tensor) and scaled is not outputs:
        scaled._clipcal_unscaled = outputs.detach()  # type: ignore[attr-defined]
    return scaled


def _unscale(self: Any, optimizer: torch.optim.Optimizer) -> None:
    _originals["unscale"](self, optimizer)
    for listener in list(_listeners):
        listener.after_unscaling(optimizer)


_made = 0


def made_step() -> None:
    """Told by a listener's step hook, so that a GradScaler's step that called none is known to be dropped."""
    global _made
    _made += 1


def _scaler_step(self: Any, optimizer: torch.optim.Optimizer, *args: Any, **kwargs: Any) -> Any:
    before = _made
    result = _originals["step"](self, optimizer, *args, **kwargs)
    if _made == before:
        for listener in list(_listeners):
            listener.dropped(optimizer)
    return result


def _clip_by_norm(parameters: Any, max_norm: float, total_norm: Tensor, *args: Any, **kwargs: Any) -> Any:
    return _clip("norm", parameters, max_norm, total_norm, total_norm, *args, **kwargs)


def _clip_by_value(parameters: Any, clip_value: float, *args: Any, **kwargs: Any) -> Any:
    return _clip("value", parameters, clip_value, None, *args, **kwargs)


def _clip(by: str, parameters: Any, threshold: float, norm: Tensor | None, *args: Any, **kwargs: Any) -> Any:
    """Call the original function with ``parameters``, ``threshold`` and the rest, where every listener lets it act."""
    original = _originals[f"by_{by}"]
    parameters = parameters if isinstance(parameters, Tensor) else list(parameters)
    listed = [parameters] if isinstance(parameters, Tensor) else parameters
    call = ClipCall(parameters=listed, threshold=float(threshold), by=by, total_norm=norm, where=place())
    answers = [listener.before_clipping(call) for listener in list(_listeners)]
    return original(parameters, threshold, *args, **kwargs) if all(answers) else None
