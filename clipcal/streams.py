"""The process' own streams and signals: stdout for the answer alone, a first Ctrl-C that lets the step finish, and a failure to write
that is told apart from every other error.

click and rich turn a broken pipe into exit code 1 before anybody else sees it, and any other failure of stdout looks like one
of the disk.
"""

from __future__ import annotations

import contextlib
import errno
import io
import os
import select
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from types import FrameType
from typing import Any

from clipcal.errors import OutputLost


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
    import ctypes  # every command loads this module, and few train

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


def watch() -> None:
    """From here on what is written to stdout and stderr goes through outlets, where these are the process' own."""
    out, err = sys.stdout, sys.stderr
    if out is not None and out is sys.__stdout__:
        sys.stdout = _through(out, "standard output", keep_quiet=False)
    if err is not None and err is sys.__stderr__:
        sys.stderr = _through(err, "standard error", keep_quiet=True)


def flush() -> None:
    """Write what stdout still holds. Raises OutputLost."""
    if sys.stdout is not None:
        sys.stdout.flush()


def reader_gone() -> Callable[[], bool]:
    """A function that says whether stdout is a pipe whose reader has gone, though nothing is written."""
    try:
        number = sys.stdout.fileno()
        poll = select.poll()  # not on Windows
    except (AttributeError, OSError, ValueError):
        return lambda: False
    poll.register(number, 0)  # errors are always reported
    return lambda: any(events & (select.POLLERR | select.POLLHUP) for _, events in poll.poll(0))


class _Outlet(io.FileIO):
    """A stream that is open already. The first write that fails raises OutputLost, and what comes later is dropped, so that
    what is still in a buffer cannot fail once more. With ``keep_quiet`` only a broken pipe raises: what stderr tells is
    worth no run, and no exit code."""

    def __init__(self, number: int, name: str, *, keep_quiet: bool) -> None:
        super().__init__(number, "w", closefd=False)
        self._name, self._keep_quiet, self._lost = name, keep_quiet, False

    def write(self, data: Any, /) -> int:
        if not self._lost:
            try:
                return super().write(data)
            except BlockingIOError:
                raise
            except OSError as e:
                self._lost = True
                if not self._keep_quiet or e.errno == errno.EPIPE:
                    raise OutputLost(self._name, e) from None
        return len(memoryview(data).cast("B"))


def _through(stream: object, name: str, *, keep_quiet: bool) -> io.TextIOWrapper:
    """A stream with the settings of ``stream``, which is emptied first."""
    assert isinstance(stream, io.TextIOWrapper)
    with contextlib.suppress(OSError):
        stream.flush()
    outlet = _Outlet(stream.fileno(), name, keep_quiet=keep_quiet)
    return io.TextIOWrapper(
        outlet if stream.write_through else io.BufferedWriter(outlet),
        encoding=stream.encoding,
        errors=stream.errors,
        line_buffering=stream.line_buffering,
        write_through=stream.write_through,
    )
