"""A training that is under way -> a run directory: the norm before clipping, the loss and the rate of every optimizer step."""

from __future__ import annotations

import atexit
import datetime
import hashlib
import sys
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any

import torch
from torch import Tensor, nn

from clipcal.errors import ClipcalError, InputError
from clipcal.gradnorm import Norms, measure
from clipcal.profiling import environment
from clipcal.recorder import PATIENCE, Recorder
from clipcal.recording import Recording
from clipcal.rundir import Run, RunInfo, Status, now, refuse_to_replace
from clipcal.training import Observation
from clipcal.watching.listening import ClipCall, is_nested, leave, listen, stepped


@dataclass(kw_only=True)
class _Clips:
    """What the script's own clip calls did."""

    where: str
    by: str
    threshold: float
    calls: int = 0


@dataclass(kw_only=True)
class _Pending:
    """What is known of the step to come: the losses since the last, and, where a clip call came, the norms before it."""

    losses: list[Tensor] = field(default_factory=list)
    norms: Norms | None = None
    present: list[int] = field(default_factory=list)
    scale: Tensor | None = None


class Watch:
    """Records the steps of one optimizer until ``close``, the end of the ``with`` block, or of the process.

    Training is not changed: gradients are read, and torch's functions are given back when the last watch is closed. A step
    that a GradScaler drops is not seen. Under ``torch.distributed`` only rank 0 records.
    """

    def __init__(
        self,
        model: nn.Module,
        optimizer: torch.optim.Optimizer,
        folder: Path | str | None = None,
        *,
        steps: int | None = None,
        force: bool = False,
    ) -> None:
        self.folder = Path(folder) if folder is not None else _new_folder()
        self.run: Run | None = None
        self._open = False
        if _rank() != 0:
            return
        refuse_to_replace(self.folder, force=force)
        optimizer = _innermost(optimizer)
        self._optimizer, self._limit, self._clips = optimizer, steps, list[_Clips]()
        named = _named(model, optimizer)
        self._params = [p for _, p in named]
        if not named:
            raise InputError("The optimizer has no parameters, so there is nothing to watch.")
        if any(hasattr(p, "full_tensor") for p in self._params):
            raise InputError(
                "The parameters are sharded (DTensor): this version watches one device, and DDP. Log what "
                "torch.nn.utils.clip_grad_norm_ returns, and give the log to `clipcal recommend`."
            )
        self._names = [name for name, _ in named]
        self._recording = Recording(
            self.folder, self._info(steps), self._names, resume=False, force=force, on_steps=None
        )
        self._recorder = Recorder(num_tensors=len(named), sink=self._recording.write)
        self._pending = _Pending()
        self._step = 0
        self._before = time.perf_counter()
        self._notes: list[str] = []
        self._hook = optimizer.register_step_pre_hook(self._before_step)
        listen(self)
        self._open = True
        atexit.register(self.close)

    def __enter__(self) -> Watch:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if kind is None:
            self.close()
        elif issubclass(kind, KeyboardInterrupt):
            self._end("interrupted", "interrupted")
        else:
            self._end("failed", f"{kind.__name__}: {error}".splitlines()[0][:200])

    def close(self) -> None:
        """Write what is left and stop watching. Does nothing the second time. Raises InputError where nothing was trained, or
        the disk is full: what was recorded before is kept."""
        self._end("complete", None)

    # What torch tells

    def forget_losses(self) -> None:
        self._pending.losses.clear()

    def before_backward(self, loss: Tensor) -> None:
        self._guarded(lambda: self._pending.losses.append(loss.detach().reshape(()).clone()))

    def before_clipping(self, call: ClipCall) -> None:
        self._guarded(lambda: self._note_clipping(call))

    def _before_step(self, optimizer: Any, args: Any, kwargs: Any) -> Any:
        if is_nested(self._optimizer):
            return None
        closure, inner = _closure_of(args, kwargs)
        if closure is None:
            self._guarded(self._observe)
            return None
        seen = False

        def watched(*a: Any, **k: Any) -> Any:
            """The backward pass is in the closure. Where an optimizer calls it several times, the first is at the weights of
            the step."""
            nonlocal seen
            result = closure(*a, **k)
            if not seen:
                self._guarded(self._observe)
                seen = True
            self._pending = _Pending()
            return result

        return inner(watched)

    # What becomes of it

    def _note_clipping(self, call: ClipCall) -> None:
        ours = {id(p) for p in self._params}
        if not any(id(p) in ours for p in call.parameters):
            return
        self._pending.norms, self._pending.present = self._measure()
        if call.by == "norm" and call.total_norm is not None:
            self._pending.scale = (call.threshold / (call.total_norm.detach() + 1e-6)).clamp(max=1.0)
        known = next((c for c in self._clips if (c.where, c.threshold) == (call.where, call.threshold)), None)
        if known is None and len(self._clips) < 20:
            known = _Clips(where=call.where, by=call.by, threshold=call.threshold)
            self._clips.append(known)
        if known is not None:
            known.calls += 1

    def _measure(self) -> tuple[Norms | None, list[int]]:
        grads = [(i, p.grad) for i, p in enumerate(self._params) if p.grad is not None]
        if not grads:
            return None, []
        norms = measure([g for _, g in grads], 2.0)
        factor = getattr(self._optimizer, "grad_scale", None)  # a fused optimizer unscales by itself
        if isinstance(factor, Tensor):
            inverse = 1.0 / factor.to(norms.total.device)
            norms = Norms(norms.total * inverse, norms.per_tensor * inverse, norms.grad_max * inverse)
        return norms, [i for i, _ in grads]

    def _observe(self) -> None:
        pending, self._pending = self._pending, _Pending()
        stepped()
        norms, present = pending.norms, pending.present
        if norms is None:
            norms, present = self._measure()
        if norms is None:
            return
        after = time.perf_counter()
        device = norms.total.device
        loss = (
            torch.stack([x.to(device, torch.float32) for x in pending.losses]).sum()
            if pending.losses
            else torch.full((), float("nan"), device=device)
        )
        rate = self._optimizer.param_groups[0].get("lr", float("nan"))
        self._recorder.add(
            Observation(
                step=self._step,
                loss=loss,
                norms=norms,
                with_grad=None if len(present) == len(self._params) else present,
                lr=float(rate) if not isinstance(rate, Tensor) else rate.detach().clone(),
                seconds=after - self._before,
                scale=pending.scale,
                scaled=hasattr(self._optimizer, "found_inf"),
            )
        )
        self._before = after
        self._step += 1
        if self._recorder.gone_at is not None or self._step == self._limit:
            self.close()

    def _guarded(self, act: Callable[[], None]) -> None:
        """Whatever goes wrong here must not end a training."""
        if not self._open:
            return
        try:
            with torch.no_grad():
                act()
        except Exception as e:
            self._notes.append(f"watching ended after {self._step} steps: {type(e).__name__}: {e}")
            warnings.warn(f"clipcal stops watching after {self._step} steps: {e}", RuntimeWarning, stacklevel=4)
            try:
                self._end("failed", f"{type(e).__name__}: {e}".splitlines()[0][:200])
            except ClipcalError:
                self._open = False

    def _end(self, status: Status, reason: str | None) -> None:
        if not self._open:
            return
        self._open = False
        self._hook.remove()
        leave(self)
        atexit.unregister(self.close)
        try:
            self._recorder.flush()
        finally:
            if self._recorder.gone_at is not None and status == "complete":
                status = "stopped"
                reason = (
                    f"the loss or the gradients were not finite for {PATIENCE} steps from step {self._recorder.gone_at}"
                )
            self._recording.close(status, reason, [*self._notes, *self._own_clipping()])
            run = self._recording.run
            if run is not None:
                in_use = self._clips[0].threshold if self._clips and self._clips[0].by == "norm" else None
                self.run = run.save(steps=max(self._step, 1), in_use=in_use)

    def _own_clipping(self) -> list[str]:
        functions = {"norm": "clip_grad_norm_", "value": "clip_grad_value_"}
        return [
            f"The script itself clips at {c.threshold:g} ({functions[c.by]} in {c.where}, at {c.calls} of {self._step} steps); "
            "the norms were taken before"
            for c in self._clips
        ]

    def _info(self, steps: int | None) -> RunInfo:
        script = Path(sys.argv[0]).name if sys.argv and sys.argv[0] else "python"
        shapes = [(name, tuple(p.shape)) for name, p in zip(self._names, self._params, strict=True)]
        return RunInfo(
            name=self.folder.name,
            source={"kind": "watch", "path": script, "argv": [str(a) for a in sys.argv[1:]]},
            fingerprint=hashlib.sha256(repr(shapes).encode()).hexdigest()[:16],
            steps=steps or 0,
            seeds=[0],
            device=str(self._params[0].device),
            threads=torch.get_num_threads(),
            world_size=torch.distributed.get_world_size() if _is_distributed() else 1,
            num_parameters=sum(p.numel() for p in self._params),
            command=list(sys.argv),
            started=now(),
            **environment(),
        )


def watch(
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    folder: Path | str | None = None,
    *,
    steps: int | None = None,
    force: bool = False,
) -> Watch:
    """Record the gradient norms of a training as it is, from now on, into ``folder``.

    The norm of a step is that of all gradients of ``optimizer``'s parameters (L2), before the script's own clipping; ``model``
    gives the tensors their names. ``folder``: a run directory, by default a new one below ``runs/``; one that holds a run is
    replaced only with ``force``. ``steps``: stop recording after so many; None records all. Close it, or use it in a ``with``
    statement. Raises InputError.
    """
    return Watch(model, optimizer, folder, steps=steps, force=force)


def _new_folder() -> Path:
    script = Path(sys.argv[0]).stem if sys.argv and sys.argv[0] else "python"
    moment = datetime.datetime.now().strftime("%Y%m%d-%H%M%S")
    folder = Path("runs") / f"{script or 'python'}-{moment}"
    number = 1
    while folder.exists():
        number += 1
        folder = folder.with_name(f"{script}-{moment}-{number}")
    return folder


def _is_distributed() -> bool:
    return torch.distributed.is_available() and torch.distributed.is_initialized()


def _rank() -> int:
    return torch.distributed.get_rank() if _is_distributed() else 0


def _innermost(optimizer: Any) -> torch.optim.Optimizer:
    """The optimizer that steps: Accelerate and Lightning wrap the user's."""
    for _ in range(5):
        inner = getattr(optimizer, "optimizer", None)
        if not isinstance(inner, torch.optim.Optimizer):
            break
        optimizer = inner
    if not isinstance(optimizer, torch.optim.Optimizer):
        raise InputError(f"watch() takes a torch.optim.Optimizer, not {type(optimizer).__name__}.")
    return optimizer


def _named(model: nn.Module, optimizer: torch.optim.Optimizer) -> list[tuple[str, Tensor]]:
    names = {id(p): name for name, p in model.named_parameters()}
    found: dict[int, tuple[str, Tensor]] = {}
    for group in optimizer.param_groups:
        for p in group["params"]:
            found.setdefault(id(p), (names.get(id(p), f"parameter {len(found)}"), p))
    return list(found.values())


def _closure_of(args: Any, kwargs: Any) -> tuple[Any, Any]:
    """The closure that ``step`` was called with, and how to call it with another; None where there is none."""
    if kwargs.get("closure") is not None:
        return kwargs["closure"], lambda other: (args, kwargs | {"closure": other})
    # the hook's arguments begin with the optimizer itself
    at = next((i for i, a in enumerate(args) if callable(a) and not isinstance(a, torch.optim.Optimizer)), None)
    if at is None:
        return None, None
    return args[at], lambda other: ((*args[:at], other, *args[at + 1 :]), kwargs)
