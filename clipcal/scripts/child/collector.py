"""A process that trains -> what it did, for a parent that watches it: clipping off or forced, every step told, an end after N.

The hooks stand in front of every optimizer's step. Nothing of ours may raise there, but the exception that ends the training.
"""

from __future__ import annotations

import atexit
import contextlib
import os
import sys
import threading
from collections import deque
from pathlib import Path
from typing import Any

import torch
import torch.optim.optimizer as optimizers
from torch import Tensor

from clipcal.errors import InputError
from clipcal.hooks.listening import ClipCall, Listener, in_backward, is_nested, leave, leave_to_python, listen, site_of
from clipcal.hooks.observing import Hook, kept
from clipcal.scripts.child import compiling, saving, tracebacks
from clipcal.scripts.child.naming import living_modules, names_of
from clipcal.scripts.child.session import ALIVE, STOP, Config, say
from clipcal.scripts.child.stream import Stream
from clipcal.training.loop import scaled_rates

MOST_STREAMS = 32
"""A script that makes an optimizer per task or per layer is not one that has one threshold."""
SETTLED = 2
"""Steps after which every optimizer of the loop has made one, so that the one to record can be picked."""
WAIT = 5
"""Times the steps that were asked for: so long an optimizer that was named is waited for while another one steps."""
RECENT = 64
"""Losses and clip calls that are kept for an optimizer that has not made its first step."""

IN_BACKWARD = (
    "An optimizer steps inside the backward pass, parameter by parameter, so there is no moment at which all gradients are there, and "
    "no total norm to clip. Step after loss.backward() to calibrate."
)
SHARDED_FLAT = (
    "The model is wrapped in FullyShardedDataParallel (FSDP1), whose own clip_grad_norm_ cannot be turned off from outside. Use "
    "fully_shard (FSDP2), or log what model.clip_grad_norm_ returns and give the log to `clipcal recommend`."
)
DEEPSPEED = (
    "DeepSpeed clips inside its engine, which cannot be turned off from outside. Set `gradient_clipping: 0` in its config, log "
    "engine.get_global_grad_norm() at every step, and give the log to `clipcal recommend`."
)


class Stopped(SystemExit):
    """Ends the script when enough steps are recorded. Clean in plain loops, transformers, Lightning and torchrun."""


class Collector(Listener):
    """``session`` is the folder that the parent reads."""

    def __init__(self, session: Path, config: Config) -> None:
        self.session, self.config = session, config
        self.streams: dict[int, Stream] = {}
        self.picked: Stream | None = None
        self._losses: deque[Tensor | float] = deque(maxlen=RECENT)
        self._calls: deque[ClipCall] = deque(maxlen=RECENT)
        self._forcing = False
        self._scaling = contextlib.ExitStack()
        self._asked_to_stop = False
        self._stops = 0
        self._ended = False
        self._left_to_python = False
        self._handles: list[Any] = []

    def attach(self) -> None:
        """Raises InputError where this torch is not as it is known, and leaves it alone."""
        listen(self)
        try:
            self._hook(self.before_step, self.after_step)
        except BaseException:
            self.detach()
            raise

    def detach(self) -> None:
        """Give back what was taken."""
        leave(self)
        for handle in self._handles:
            handle.remove()

    def leave_to_python(self) -> None:
        """The compiler is about to be used, and is not to look into what is ours."""
        if not self._left_to_python:
            self._left_to_python = True
            leave_to_python()
            for handle in self._handles:
                handle.remove()
            disable: Any = torch.compiler.disable
            self._hook(disable(self.before_step), disable(self.after_step))

    def _hook(self, before: Any, after: Any) -> None:
        self._handles = [optimizers.register_optimizer_step_pre_hook(before)]
        self._handles.append(optimizers.register_optimizer_step_post_hook(after))

    # What torch tells

    def before_step(self, optimizer: torch.optim.Optimizer, args: Any, kwargs: Any) -> Hook | None:
        if self._ended:
            self._stop_if_over()
            return None
        if is_nested():
            return None
        if in_backward():
            self._end("refused", IN_BACKWARD)
            return None
        self._stop_if_over()
        stream = self._stream_of(optimizer)
        if stream is None:
            return None
        if self.picked is None and stream.observer.step >= SETTLED:
            self._pick()
        hook = stream.observer.before_step(args, kwargs)
        if self.config.lr_scale != 1.0 and self._is_wanted(stream):
            self._scaling.close()  # of a step that raised
            self._scaling.enter_context(scaled_rates(optimizer, self.config.lr_scale))
        return hook

    def after_step(self, optimizer: torch.optim.Optimizer, args: Any, kwargs: Any) -> None:
        if self.config.lr_scale != 1.0 and not is_nested():
            self._scaling.close()

    def before_backward(self) -> None:
        self._stop_if_over()

    def forget_losses(self) -> None:
        self._losses.clear()
        self._calls.clear()
        for stream in self.streams.values():
            stream.observer.losses.clear()

    def saw_loss(self, loss: Tensor) -> None:
        value = kept(loss)
        for stream in self.streams.values():
            stream.observer.losses.append(value)
        self._losses.append(value)

    def after_backward(self) -> None:
        for stream in self.streams.values():
            stream.observer.safely(stream.changes.look)

    def after_unscaling(self, optimizer: torch.optim.Optimizer) -> None:
        stream = self.streams.get(id(optimizer))
        if stream is not None:
            stream.observer.safely(stream.changes.look)

    def dropped(self, optimizer: torch.optim.Optimizer) -> None:
        stream = None if self._ended else self._stream_of(optimizer)
        if stream is not None:
            stream.observer.dropped()

    def before_clipping(self, call: ClipCall) -> bool:
        if self._forcing or self._ended:
            return True
        self._calls.append(call)
        for stream in self.streams.values():
            site_of(call, stream.clips, stream.ids)
        return False  # none of the script's own acts

    # What becomes of it

    def forked(self) -> None:
        """A child begins with nothing seen; what is not written yet is its parent's."""
        self.streams, self.picked = {}, None
        self._losses.clear()
        self._calls.clear()
        _end_with_parent(self.session)

    def close(self) -> None:
        """The process ends."""
        if not self._ended:
            self._pick()
            self._flush()

    def _stream_of(self, optimizer: torch.optim.Optimizer) -> Stream | None:
        stream = self.streams.get(id(optimizer))
        if stream is not None or len(self.streams) >= MOST_STREAMS:
            return stream
        try:
            return self._open(optimizer)
        except Exception as e:
            self._failed(e)
            return None

    def _open(self, optimizer: torch.optim.Optimizer) -> Stream | None:
        modules = living_modules()
        kinds = {type(m).__name__ for m in modules}
        if kinds & {"FullyShardedDataParallel", "DeepSpeedEngine"}:
            self._end("refused", DEEPSPEED if "DeepSpeedEngine" in kinds else SHARDED_FLAT)
            return None
        stream = Stream(
            self.session,
            optimizer,
            len(self.streams) + 1,
            on_flush=self._flush,
            on_error=self._failed,
            on_gradients=self._clip if self.config.max_norm is not None else None,
        )
        stream.naming = names_of(stream.params, modules)
        stream.observer.losses.extend(self._losses)
        for call in self._calls:
            site_of(call, stream.clips, stream.ids)
        self.streams[id(optimizer)] = stream
        return stream

    def _is_wanted(self, stream: Stream) -> bool:
        wanted = self.config.optimizer
        if isinstance(wanted, str):
            return type(stream.observer.optimizer).__name__.lower() == wanted.lower()
        return wanted is None or stream.number == wanted

    def _pick(self) -> None:
        if self.picked is None:
            wanted = [s for s in self.streams.values() if self._is_wanted(s)]
            self.picked = max(wanted, key=lambda s: (s.num_parameters, -s.number), default=None)
            self._flush()

    def _clip(self, stream: Stream) -> None:
        """Clip with torch's own function, in the order in which the script or its model lists the parameters: the last bits of
        the norm depend on it."""
        max_norm = self.config.max_norm
        if max_norm is None or not self._is_wanted(stream):
            return
        stream.observer.unscale()
        with_grad = {id(p) for p in stream.params if p.grad is not None}
        covering = (c.parameters for c in reversed(self._calls) if with_grad <= {id(p) for p in c.parameters})
        self._forcing = True
        try:
            torch.nn.utils.clip_grad_norm_(next(covering, stream.naming.order), max_norm)
        finally:
            self._forcing = False

    def _flush(self) -> None:
        for stream in self.streams.values():
            stream.flush(picked=stream is self.picked)
        self._asked_to_stop = self._asked_to_stop or (self.session / STOP).exists()

    def _stop_if_over(self) -> None:
        if self.picked is not None:
            steps = self.picked.observer.step
        else:  # one that was asked for by number may begin later than others
            patience = 1 if self.config.optimizer is None else WAIT
            steps = max((s.observer.step for s in self.streams.values()), default=0) // patience
        if not self._asked_to_stop and (self._ended or steps < self.config.steps):
            return
        self._flush()
        self._stops += 1
        if self._stops > 3:  # somebody catches it
            os._exit(0)
        raise Stopped(0)

    def _failed(self, error: Exception) -> None:
        self._end("failed", f"{type(error).__name__}: {error}")

    def _end(self, kind: str, text: str) -> None:
        if self._ended:
            return
        self._ended = self._asked_to_stop = True
        with contextlib.suppress(Exception):
            say(self.session, kind, text)


def attach(session: str) -> None:
    """Called when torch has been imported, before the script goes on. Raises Stopped where it cannot be watched: what it would train
    is trained for nothing."""
    folder = Path(session)
    collector = Collector(folder, Config.read(folder))
    try:
        collector.attach()
    except InputError as e:
        say(folder, "refused", str(e))
        raise Stopped(0) from None
    with contextlib.ExitStack() as undo:
        undo.callback(collector.detach)
        undo.callback(compiling.prepare(collector.leave_to_python))
        saving.keep_what_is_there(folder)
        undo.pop_all()
    tracebacks.install()
    atexit.register(collector.close)
    if hasattr(os, "register_at_fork"):
        os.register_at_fork(after_in_child=collector.forked)
    _end_with_parent(folder)
    say(folder, "torch", "\0".join(sys.argv))


def _end_with_parent(session: Path) -> None:
    """A parent that is killed cannot end the processes that it watches. It holds a lock, and they wait for it."""
    try:
        import fcntl
    except ImportError:
        return

    def wait() -> None:
        with contextlib.suppress(OSError), (session / ALIVE).open() as f:
            fcntl.flock(f, fcntl.LOCK_SH)
            os._exit(1)

    threading.Thread(target=wait, name="clipcal", daemon=True).start()
