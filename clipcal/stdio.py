"""The process' own streams and signals: stdout for the answer alone, a first Ctrl-C that lets the step finish."""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import sys
import threading
from collections.abc import Iterator
from types import FrameType


@contextlib.contextmanager
def prints_to_stderr() -> Iterator[None]:
    """While the block runs, whatever the user's code prints goes to stderr, also from C and from child processes."""
    sys.stdout.flush()
    try:
        saved = os.dup(1)
    except OSError:  # no stdout at all
        saved = -1
    try:
        if saved >= 0:
            os.dup2(2, 1)
        with contextlib.redirect_stdout(sys.stderr):
            yield
    finally:
        _flush_everything()
        if saved >= 0:
            os.dup2(saved, 1)
            os.close(saved)


def _flush_everything() -> None:
    """What is still in a buffer was printed inside the block: by Python to its first stdout, or by C."""
    for stream in (sys.__stdout__, sys.stdout):
        if stream is not None:
            with contextlib.suppress(OSError, ValueError):
                stream.flush()
    with contextlib.suppress(OSError, AttributeError, TypeError):
        ctypes.CDLL(None).fflush(None)


STOPPING = "stopping after this step; press Ctrl-C again to stop at once"


class Interrupt:
    """Whether the user has asked to stop. The first SIGINT or SIGTERM only asks; a second one raises KeyboardInterrupt."""

    requested = False
    shown = False
    """Set by a live view that shows ``requested`` itself: what else is written to the terminal would tear it."""

    def __call__(self) -> bool:
        return self.requested


@contextlib.contextmanager
def interruptible() -> Iterator[Interrupt]:
    """Give the block an ``Interrupt`` to look at between steps. In a thread, where signals cannot be caught, it never asks."""
    asked = Interrupt()
    if threading.current_thread() is not threading.main_thread():
        yield asked
        return

    def on_signal(number: int, frame: FrameType | None) -> None:
        if asked.requested:
            raise KeyboardInterrupt
        asked.requested = True
        if not asked.shown:
            # not print: the signal may have come in the middle of one, and a stream cannot be entered twice
            os.write(2, f"\n{STOPPING}\n".encode())

    before = {s: signal.signal(s, on_signal) for s in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield asked
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
