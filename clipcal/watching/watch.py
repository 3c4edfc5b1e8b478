"""A training that is under way -> a run directory: the norm before clipping, the loss and the rate of every optimizer step."""

from __future__ import annotations

import atexit
import datetime
import hashlib
import sys
import warnings
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

import torch
from torch import Tensor, nn

from clipcal.errors import ClipcalError, InputError
from clipcal.hooks.listening import ClipCall, check, is_nested, leave, listen
from clipcal.hooks.observing import Observer, kept
from clipcal.run.directory import Run, RunInfo, Status, now, refuse_to_replace
from clipcal.run.recording import Recording
from clipcal.training.gradnorm import clip_factor
from clipcal.training.loop import Observation
from clipcal.training.patience import why_gone
from clipcal.training.profiling import environment
from clipcal.training.recorder import Recorder


@dataclass(kw_only=True)
class _Clips:
    """What the script's own clip calls did."""

    where: str
    by: str
    threshold: float
    calls: int = 0


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
        check()
        optimizer = _innermost(optimizer)
        self._limit, self._clips = steps, list[_Clips]()
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
        self._observer = Observer(optimizer, sink=self._record, on_error=self._failed)
        self._notes: list[str] = []
        self._hook = optimizer.register_step_pre_hook(self._before_step)
        try:
            listen(self)
        except BaseException:
            self._hook.remove()
            raise
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

    def before_backward(self) -> None:
        pass

    def forget_losses(self) -> None:
        self._observer.losses.clear()

    def saw_loss(self, loss: Tensor) -> None:
        self._observer.safely(lambda: self._observer.losses.append(kept(loss)))

    def after_backward(self) -> None:
        pass

    def before_clipping(self, call: ClipCall) -> bool:
        self._observer.safely(lambda: self._note_clipping(call))
        return True

    def after_unscaling(self, optimizer: torch.optim.Optimizer) -> None:
        pass

    def dropped(self, optimizer: torch.optim.Optimizer) -> None:
        if optimizer is self._observer.optimizer:
            self._observer.dropped()

    def _before_step(self, optimizer: Any, args: Any, kwargs: Any) -> Any:
        return None if is_nested() else self._observer.before_step(args, kwargs)

    # What becomes of it

    def _note_clipping(self, call: ClipCall) -> None:
        ours = {id(p) for p in self._observer.params}
        if not any(id(p) in ours for p in call.parameters):
            return
        by_norm = call.by == "norm" and call.total_norm is not None
        self._observer.note_before_clipping(
            clip_factor(call.total_norm.detach(), call.threshold) if by_norm and call.total_norm is not None else None
        )
        known = next((c for c in self._clips if (c.where, c.threshold) == (call.where, call.threshold)), None)
        if known is None and len(self._clips) < 20:
            known = _Clips(where=call.where, by=call.by, threshold=call.threshold)
            self._clips.append(known)
        if known is not None:
            known.calls += 1

    def _record(self, observation: Observation) -> None:
        self._recorder.add(observation)
        if self._recorder.gone_at is not None or self._observer.step == self._limit:
            self.close()

    def _failed(self, error: Exception) -> None:
        """Whatever goes wrong here must not end a training."""
        if not self._open:
            return
        steps = self._observer.step
        self._notes.append(f"watching ended after {steps} steps: {type(error).__name__}: {error}")
        warnings.warn(f"clipcal stops watching after {steps} steps: {error}", RuntimeWarning, stacklevel=5)
        try:
            self._end("failed", f"{type(error).__name__}: {error}".splitlines()[0][:200])
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
                reason = why_gone(self._recorder.gone_at)
            self._recording.close(status, reason, [*self._notes, *self._own_clipping()])
            run = self._recording.run
            if run is not None:
                in_use = self._clips[0].threshold if self._clips and self._clips[0].by == "norm" else None
                self.run = run.save(steps=max(self._observer.step, 1), in_use=in_use)

    def _own_clipping(self) -> list[str]:
        functions = {"norm": "clip_grad_norm_", "value": "clip_grad_value_"}
        return [
            f"The script itself clips at {c.threshold:g} ({functions[c.by]} in {c.where}, at {c.calls} of {self._observer.step} steps); "
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
