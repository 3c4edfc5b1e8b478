"""Arms -> their traces: trained in processes of their own, side by side, each written whole or not at all.

Every arm has the same number of threads whatever ``jobs`` is, since the last bits of a sum depend on it.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import multiprocessing.connection
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Collection, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from multiprocessing import forkserver, resource_tracker
from multiprocessing.context import BaseContext
from pathlib import Path
from queue import Empty
from typing import TYPE_CHECKING, Any

from clipcal.errors import InputError
from clipcal.run.source import Source

if TYPE_CHECKING:
    from clipcal.run.step import Step
    from clipcal.training.gradnorm import ClipRule
    from clipcal.training.keeping import Growing

LATEST = 10.0  # seconds after its result: what an arm told last is there long before, or its worker is gone
LR_SCALE = 0.1
"""How far the learning rate is lowered to see whether it is the cause: an order of magnitude, the usual next try."""


@dataclass(frozen=True, kw_only=True)
class Arm:
    """One training run under one clipping rule and one seed, ``max_norm`` None for no clipping."""

    name: str
    max_norm: float | None
    seed: int
    lr_scale: float = 1.0


@dataclass(frozen=True, kw_only=True)
class Progress:
    """Said while arms train: this arm has done so many steps; ``done`` when it has ended."""

    arm: Arm
    steps: int
    loss: float
    done: bool = False


OnProgress = Callable[[Progress], None]
OnPlan = Callable[[Sequence[Arm], Sequence[Arm]], None]
"""Told, before arms are trained, which those are and which are there already."""


def arm_name(max_norm: float | None, lr_scale: float = 1.0) -> str:
    """The name of an arm, as in its file: ``unclipped``, ``max_norm=2.4``, ``lr=0.1x``, ``max_norm=2.4+lr=0.1x``."""
    parts = [] if max_norm is None else [f"max_norm={max_norm:.6g}"]
    if lr_scale != 1.0:
        parts.append(f"lr={lr_scale:g}x")
    return "+".join(parts) or "unclipped"


def arm_of(max_norm: float | None, seed: int, lr_scale: float = 1.0) -> Arm:
    """The arm, by its name."""
    return Arm(name=arm_name(max_norm, lr_scale), max_norm=max_norm, seed=seed, lr_scale=lr_scale)


def train_arms(
    source: Source,
    arms: Sequence[tuple[Arm, Path]],
    *,
    steps: int,
    device: str,
    threads: int,
    jobs: int,
    on_progress: OnProgress | None = None,
) -> None:
    """Train every arm from the source of a run and write its trace to its path.

    A path is there only when its arm is finished. Raises what the user's code raised, from whichever arm comes first, and
    InputError where a process died; no process is left behind, also on Ctrl-C.
    """
    if not arms:
        return
    untold = {arm for arm, _ in arms}

    def report(progress: Progress) -> None:
        if progress.done:
            untold.discard(progress.arm)
        if on_progress is not None:
            on_progress(progress)

    context = _start_method(device)
    resource_tracker.ensure_running()  # it sets the signal mask to its own liking, so not while ours is set
    queue = context.Queue()
    pool = ProcessPoolExecutor(
        min(jobs, len(arms)), mp_context=context, initializer=_start_worker, initargs=(queue, threads)
    )
    try:
        with _interrupts_wait():
            waiting = {pool.submit(_train_arm, source, arm, path, steps, device) for arm, path in arms}
        while waiting:
            done, waiting = wait(waiting, timeout=0.1, return_when=FIRST_COMPLETED)
            _drain(queue, report)
            for future in done:
                future.result()
        _hear_out(queue, report, untold)
        pool.shutdown()
    except BrokenProcessPool:
        raise InputError(
            "A process that trained an arm was killed, most likely because the memory was full, or it could not start. Try --jobs 1. "
            "Arms that had finished are kept. A script that calls clipcal.verify does so under `if __name__ == '__main__':`."
        ) from None
    finally:
        pool.shutdown(wait=False, cancel_futures=True)
        for process in multiprocessing.active_children():
            if process.is_alive():
                process.kill()
        queue.close()


_PRELOAD = [
    "torch",
    "torch._dynamo",
    "clipcal.training.recorder",
    "clipcal.training.building",
    "clipcal.training.parallel.leading",
]
"""What every worker needs; torch's optimizers import torch._dynamo when the first one is built, which takes a second."""


def _start_method(device: str) -> BaseContext:
    """Workers on the CPU are forked from a fresh process that has imported torch and run nothing, so that it is imported once.
    A process that may have touched a GPU must not be forked: those start from nothing, as they do where nothing forks."""
    if not device.startswith("cpu") or "forkserver" not in multiprocessing.get_all_start_methods():
        return multiprocessing.get_context("spawn")
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(_PRELOAD)
    return context


def warm_up(device: str) -> None:
    """Let the process that workers are forked from import torch now, while this one is busy with something else."""
    if _start_method(device).get_start_method() == "forkserver":
        resource_tracker.ensure_running()
        with _interrupts_wait():
            forkserver.ensure_running()


@contextlib.contextmanager
def _interrupts_wait() -> Iterator[None]:
    """A Ctrl-C inside the block is raised at its end, and processes started in it never see one.

    A terminal sends it to all. A child that is still starting cannot ignore it yet and would show a traceback, and a parent
    that is interrupted in the middle of starting one does not know it and cannot end it.
    """
    if threading.current_thread() is not threading.main_thread() or not hasattr(signal, "pthread_sigmask"):
        yield
        return
    asked = False

    def remember(number: int, frame: object) -> None:
        nonlocal asked
        asked = True

    before = signal.signal(signal.SIGINT, remember)
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        signal.signal(signal.SIGINT, before)
        if asked:
            raise KeyboardInterrupt


def _drain(queue: Any, report: OnProgress) -> None:
    while True:
        try:
            report(queue.get_nowait())
        except Empty:
            return


def _hear_out(queue: Any, report: OnProgress, untold: Collection[Arm]) -> None:
    """What arms that have ended told last may come after their result did: a thread of the worker sends it."""
    patience = time.monotonic() + LATEST
    while untold and time.monotonic() < patience:
        with contextlib.suppress(Empty):
            report(queue.get(timeout=0.1))


_QUEUE: Any = None


def _start_worker(queue: Any, threads: int) -> None:
    global _QUEUE
    import torch

    _QUEUE = queue
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent decides, and ends its workers
    threading.Thread(target=_end_with_parent, daemon=True).start()
    sys.stdout.flush()
    os.dup2(2, 1)  # stdout carries the answer alone; what the user's code prints goes to stderr
    torch.set_num_threads(threads)


def _end_with_parent() -> None:
    """A parent that is killed cannot end its workers; they would wait for it for ever."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        multiprocessing.connection.wait([parent.sentinel])
        os._exit(1)


def train_in_turn(
    source: Source,
    arms: Sequence[tuple[Arm, Path]],
    *,
    steps: int,
    device: str,
    report: OnProgress,
) -> None:
    """Train arms one after another in this process, which the other ranks of torchrun train with."""
    from clipcal.sources.spec import from_source
    from clipcal.training.gradnorm import ClipRule

    for arm, path in arms:
        spec = from_source(source, seed=arm.seed, steps=steps)
        clip = spec.fields.clip
        rule = None
        if arm.max_norm is not None:
            rule = ClipRule(method=clip.method, threshold=arm.max_norm, norm_type=clip.norm_type)
        train_arm(spec, arm, rule, path, device, report)


def _train_arm(source: Source, arm: Arm, path: Path, steps: int, device: str) -> None:
    train_in_turn(source, [(arm, path)], steps=steps, device=device, report=_QUEUE.put)


def train_arm(
    spec: Any, arm: Arm, rule: ClipRule | None, path: Path, device: str, report: OnProgress = lambda progress: None
) -> None:
    """Train one arm in this process and write its trace to ``path``, whole or not at all."""
    import torch

    from clipcal.sources.targets import importable_from
    from clipcal.training.parallel.leading import parts_for
    from clipcal.training.patience import Patience
    from clipcal.training.recorder import run_arm

    with grown(arm, path, spec.fields.steps, report) as growing, importable_from([spec.folder, spec.cwd]):
        parts = parts_for(spec, seed=arm.seed, device=torch.device(device), rule=rule, lr_scale=arm.lr_scale)
        run_arm(
            parts,
            rule,
            growing.write,
            steps=spec.fields.steps,
            norm_type=spec.fields.clip.norm_type,
            lr_scale=arm.lr_scale,
            patience=Patience(give_up=True),
        )


@contextlib.contextmanager
def grown(arm: Arm, path: Path, steps: int, report: OnProgress) -> Iterator[Growing]:
    """The trace of an arm, whole or not at all, and what is told of it while it grows and when it is there."""
    from clipcal.training.keeping import Growing

    def tell(found: Sequence[Step]) -> None:
        report(Progress(arm=arm, steps=found[-1].step + 1, loss=found[-1].loss))

    with Growing(path, tell) as growing:
        yield growing
    report(Progress(arm=arm, steps=steps, loss=float("nan"), done=True))
