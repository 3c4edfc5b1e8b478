"""An order for one arm -> its trace: what a process of a cluster does, on whichever machine it runs."""

from __future__ import annotations

import contextlib
import functools
import importlib
import os
import shutil
import socket
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from clipcal.arms.executors.folders import digest_of, moved, unpack
from clipcal.arms.pool import Arm, OnProgress, Progress, train_in_turn
from clipcal.errors import ClipcalError, InputError, UserCodeError
from clipcal.run.source import Source

_UNPACKED: dict[str, Path] = {}


@dataclass(frozen=True, kw_only=True)
class Order:
    """One arm of the run with this ``source``. ``code`` is the digest of every folder that holds the user's code, where clipcal was
    started, and ``machine`` what that run was trained on."""

    source: Source
    arm: Arm
    steps: int
    device: str
    threads: int
    machine: dict[str, str]
    code: dict[str, str]
    cwd: str


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """The lines of the arm's trace, or what it ended with: an error that trying again would not mend."""

    trace: bytes = b""
    error: ClipcalError | None = None


def arm_task(order: Order, sent: Sequence[Any], number: int, board: Any) -> Outcome:
    """What Ray runs. ``sent`` holds a reference to the code, which is fetched only where it is not there, and ``board`` is told how far
    the arm is, under its ``number``."""
    ray: Any = importlib.import_module("ray")

    def report(progress: Progress) -> None:
        if not progress.done:
            board.put.remote(number, progress.steps, progress.loss)

    node = f"{socket.gethostname()} ({ray.util.get_node_ip_address()})"
    return train_there(order, node, lambda: ray.get(sent[0]) if sent else None, report)


class Board:
    """Where arms write how far they are: an actor, since they cannot reach the process that shows it."""

    def __init__(self) -> None:
        self._latest: dict[int, tuple[int, float]] = {}

    def put(self, number: int, steps: int, loss: float) -> None:
        self._latest[number] = (steps, loss)

    def latest(self) -> dict[int, tuple[int, float]]:
        return self._latest


def train_there(order: Order, node: str, fetch: Callable[[], bytes | None], report: OnProgress) -> Outcome:
    """Train the arm in this process, on ``node``; ``fetch`` gives the code as ``packed`` made it, None where it was not sent."""
    from clipcal.training.building import pick_device
    from clipcal.training.profiling import num_threads

    root: Path | None = None
    try:
        _check_machine(order, node)
        pick_device(order.device)  # a node may have no GPU that torch sees, whatever it says that it has
        if any(digest_of(Path(folder)) != digest for folder, digest in order.code.items()):
            root = _root_of(order, node, fetch)
        source = order.source.changed(folder=_placed(order.source.folder, root), cwd=_placed(order.source.cwd, root))
        here = [_placed(order.cwd, root), source.cwd, "."]
        with (
            # as code that reads a file beside it expects
            contextlib.chdir(next(folder for folder in here if Path(folder).is_dir())),
            num_threads(order.threads),
        ):
            path = _own_folder() / "arm.jsonl"
            train_in_turn(source, [(order.arm, path)], steps=order.steps, device=order.device, report=report)
            return Outcome(trace=path.read_bytes())
    except ClipcalError as e:
        return Outcome(error=_told(e, root, node))


def _placed(folder: str, root: Path | None) -> str:
    return folder if root is None else str(moved(Path(folder), root))


def _check_machine(order: Order, node: str) -> None:
    from clipcal.training.profiling import environment

    here = environment()
    here = here["versions"] | {"platform": here["platform"]}
    other = [f"{k} {here.get(k)} instead of {v}" for k, v in order.machine.items() if k in here and here[k] != v]
    if other:
        raise InputError(
            f"The Ray node {node} is not what the run was profiled on: {', '.join(other)}. Its arms could not stand beside the others. "
            "Give it the same, leave it out of the cluster, or profile again on the cluster."
        )


def _root_of(order: Order, node: str, fetch: Callable[[], bytes | None]) -> Path:
    """Where the code that was sent is unpacked, once in a process: modules stay loaded from there."""
    key = repr(sorted(order.code.items()))
    if key not in _UNPACKED:
        data = fetch()
        if data is None:
            raise InputError(
                f"The Ray node {node} does not have the code in {order.source.folder}, and it is too large to be sent there. Put it on a "
                "disk that all nodes share, or move data out of its folder."
            )
        root = _own_folder() / f"code{len(_UNPACKED)}"
        unpack(data, root)
        _UNPACKED[key] = root
    return _UNPACKED[key]


@functools.cache
def _own_folder() -> Path:
    """A temporary folder of this process. Ray kills it when its work is done, so the next one clears away what it has left."""
    prefix = f"clipcal-ray-{socket.gethostname()}-"  # containers may share a disk and not their numbers of processes
    for path in Path(tempfile.gettempdir()).glob(f"{prefix}*"):
        try:
            os.kill(int(path.name.removeprefix(prefix).split("-")[0]), 0)
        except ProcessLookupError:
            shutil.rmtree(path, ignore_errors=True)
        except (OSError, ValueError):
            pass  # another user's
    return Path(tempfile.mkdtemp(prefix=f"{prefix}{os.getpid()}-"))


def _told(error: ClipcalError, root: Path | None, node: str) -> ClipcalError:
    """An error with the paths that the user knows, and not those of a copy, and with the node where that matters."""
    text, trace = str(error), error.user_traceback if isinstance(error, UserCodeError) else ""
    if root is not None:
        text, trace = text.replace(str(root), ""), trace.replace(str(root), "")
        if "FileNotFoundError" in text or "no module named" in text:
            text += f"{'' if text.endswith('.') else '.'} The Ray node {node} has a copy of the code alone: no data, nothing large."
    if isinstance(error, UserCodeError):
        return UserCodeError(text, trace)
    if type(error) is InputError and node not in text:  # of a disk, a device
        text += f" This was on the Ray node {node}."
    return type(error)(text)
