"""What was found -> rows, read by processes of this machine. One that is killed takes no more than the file that it was reading."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
import sys
import threading
import warnings
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess

from clipcal.errors import InputError
from clipcal.surveying.finding import Found
from clipcal.surveying.reading import name_of, row_of
from clipcal.surveying.row import Row

TRIES = 2
"""How often a file is read whose process was killed: memory that is full now need not be full a moment later."""


def read_here(found: Sequence[Found], jobs: int) -> Iterator[tuple[int, Row | None]]:
    """The number and the row of everything that was found, as they are ready, from ``jobs`` processes.

    Raises InputError where no process can be started. No process is left behind, also on Ctrl-C.
    """
    todo = deque((n, 1) for n in range(len(found)))
    crew = _Crew(found)
    try:
        crew.start(min(jobs, len(found)))
        while todo or crew.busy:
            crew.hand_out(todo)
            for n, tries, row in crew.ended():
                if row is not _LOST:
                    yield n, row
                elif tries < TRIES:
                    todo.append((n, tries + 1))
                else:
                    yield n, lost(found[n], f"the process that read it was killed {TRIES} times")
            if todo and not crew.workers:
                crew.start(1)
    finally:
        crew.end()


def lost(found: Found, how: str) -> Row:
    """The row of a file that could not be read to its end."""
    text = (
        f"{found.path}: {how}, most likely because the memory was full. Try it alone: `clipcal recommend {found.path}`."
    )
    return Row(path=str(found.path), name=name_of(found), problem=text)


_LOST = Row(path="", problem="its process was killed")


@dataclass(eq=False)
class _Worker:
    """A process, and the number of what it reads, with the count of its tries; None while it waits."""

    process: BaseProcess
    line: Connection
    at: tuple[int, int] | None = None


def may_fork() -> bool:
    """Whether processes are forked, which have all that they need at once. Threads, and libraries elsewhere than on Linux, do not bear it."""
    return sys.platform == "linux" and threading.active_count() == 1


class _Crew:
    def __init__(self, found: Sequence[Found]) -> None:
        self._found = found
        self._forks = may_fork()
        self._context = multiprocessing.get_context("fork") if self._forks else multiprocessing.get_context("spawn")
        self.workers: list[_Worker] = []

    @property
    def busy(self) -> list[_Worker]:
        return [worker for worker in self.workers if worker.at is not None]

    def start(self, jobs: int) -> None:
        """Start ``jobs`` processes, or as many as the system gives."""
        with _interrupts_wait(), warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # numpy's threads are at rest, and it knows of forks
            for _ in range(jobs):
                try:
                    self.workers.append(self._started())
                except OSError as e:
                    if not self.workers:
                        raise InputError(
                            f"No process can be started to read logs ({e.strerror}). Try again later."
                        ) from None
                    return

    def _started(self) -> _Worker:
        ours, theirs = self._context.Pipe()
        held = [ours, *(worker.line for worker in self.workers)] if self._forks else []
        process = self._context.Process(target=_serve, args=(theirs, held), daemon=True)
        process.start()
        theirs.close()
        return _Worker(process=process, line=ours)

    def hand_out(self, todo: deque[tuple[int, int]]) -> None:
        for worker in self.workers:
            if todo and worker.at is None:
                worker.at = todo.popleft()
                with contextlib.suppress(OSError):  # it was killed meanwhile: its end is seen below
                    worker.line.send(self._found[worker.at[0]])

    def ended(self) -> Iterator[tuple[int, int, Row | None]]:
        """The numbers, tries and rows of what has been read since, ``_LOST`` where its process is gone; waits for one."""
        for line in wait([worker.line for worker in self.busy]):
            worker = next(w for w in self.workers if w.line is line)
            assert worker.at is not None
            n, tries = worker.at
            try:
                row = worker.line.recv()
            except (EOFError, OSError):
                self._replace(worker)
                row = _LOST
            worker.at = None
            yield n, tries, row

    def _replace(self, worker: _Worker) -> None:
        self.workers.remove(worker)
        worker.line.close()
        worker.process.join()
        with contextlib.suppress(InputError):  # the others go on
            self.start(1)

    def end(self) -> None:
        for worker in self.workers:
            worker.process.kill()
        for worker in self.workers:
            worker.process.join()
            worker.line.close()


def _serve(line: Connection, held: Sequence[Connection]) -> None:
    """What a worker does until its parent is gone."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent decides, and ends its workers
    for other in held:  # with a copy of the parent's end it would never see that the parent is gone
        other.close()
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, 1)  # stdout carries the answer alone
    with contextlib.suppress(EOFError, OSError):
        while True:
            line.send(row_of(line.recv()))
    os._exit(0)  # what the parent left in its buffers is the parent's to write


@contextlib.contextmanager
def _interrupts_wait() -> Iterator[None]:
    """A Ctrl-C inside the block comes at its end, and processes that were started in it never see one: a terminal sends it to all."""
    if threading.current_thread() is not threading.main_thread() or not hasattr(signal, "pthread_sigmask"):
        yield
        return
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
