"""Steps as they come -> the files of an arm, whole or not at all; and how a profile ended, as its run.json says it."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from clipcal.errors import ClipcalError
from clipcal.run.directory import Run, Status
from clipcal.run.layers import RowsFile, rank_names
from clipcal.run.recording import OnSteps, rank_rows
from clipcal.run.step import Step
from clipcal.run.trace import AppendOnly, lines_of
from clipcal.training.patience import Patience

if TYPE_CHECKING:
    from clipcal.recommendation.guarding import OnGuard

Sink = Callable[[Sequence[Step], NDArray[np.float32]], None]
"""Is given steps, and an array (steps, tensors) of their per-tensor norms."""


@dataclass(frozen=True, kw_only=True)
class Profiling:
    """How a source is profiled. ``on_steps`` is called with steps after they are on disk, ``on_guard`` with the temporary guard of a run
    that was lost too early, before it is trained once more. ``command`` are the words of the command line."""

    force: bool = False
    resume: bool = False
    on_steps: OnSteps | None = None
    on_guard: OnGuard | None = None
    should_stop: Callable[[], bool] = lambda: False
    command: Sequence[str] = ()


@dataclass(kw_only=True)
class End:
    """How a profile ended. While it is under way, what would be said of it if the process were gone."""

    status: Status = "failed"
    reason: str | None = "the process ended in the middle of training"


@contextlib.contextmanager
def ending(patience: Patience, close: Callable[[End], None]) -> Iterator[End]:
    """Call ``close`` with how the block ended, whatever ended it. A training that was lost was stopped, and needs no other reason."""
    end = End()
    try:
        yield end
    except ClipcalError as e:
        end.reason = str(e).splitlines()[0]
        raise
    except KeyboardInterrupt:
        end.status, end.reason = "interrupted", "interrupted"
        raise
    finally:
        # after an error the first one counts, not what a full disk says to its record
        with contextlib.suppress(ClipcalError) if end.status == "failed" else contextlib.nullcontext():
            if patience.gone_at is not None:
                end.status, end.reason = "stopped", patience.reason
            close(end)


class Growing:
    """The files of one arm. They grow under other names, have their own at the end of the ``with`` block, the trace last, and are gone
    where the block raises. ``names`` are those of the tensors, for ``layers``; ``ranks`` is written where the steps have norms of ranks.
    ``on_steps`` is called with steps after they are on disk; ``last`` is the last of them."""

    def __init__(
        self,
        trace: Path,
        on_steps: OnSteps | None,
        *,
        layers: Path | None = None,
        ranks: Path | None = None,
        norm_type: float = 2.0,
    ) -> None:
        self.names: Sequence[str] = ()
        self.last: Step | None = None
        self._on_steps = on_steps or (lambda steps: None)
        self._trace, self._layers, self._ranks, self._norm_type = trace, layers, ranks, norm_type
        self._files: tuple[RowsFile | None, RowsFile | None, AppendOnly] | None = None

    def __enter__(self) -> Growing:
        self._trace.parent.mkdir(parents=True, exist_ok=True)
        self._remove()  # of a process that was killed
        return self

    def write(self, steps: Sequence[Step], rows: NDArray[np.float32]) -> None:
        layers, ranks, trace = self._files or self._open(steps[0].rank_norms)
        if layers is not None:
            layers.append(rows)
        if ranks is not None:
            ranks.append(rank_rows(steps))
        trace.append(lines_of(steps))
        self.last = steps[-1]
        self._on_steps(steps)

    def _open(self, of_ranks: Sequence[float] | None) -> tuple[RowsFile | None, RowsFile | None, AppendOnly]:
        layers = ranks = None
        if self._layers is not None:
            layers = RowsFile(_growing(self._layers), self.names, self._norm_type, known=0)
        if self._ranks is not None and of_ranks is not None:
            ranks = RowsFile(_growing(self._ranks), rank_names(len(of_ranks)), 2.0, known=0)
        self._files = layers, ranks, AppendOnly(_growing(self._trace))
        return self._files

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        for file in self._files or ():
            if file is not None:
                file.close()
        if kind is not None:
            self._remove()
            return
        for path in self._paths():
            if _growing(path).exists():
                os.replace(_growing(path), path)

    def _remove(self) -> None:
        for path in self._paths():
            _growing(path).unlink(missing_ok=True)

    def _paths(self) -> list[Path]:
        return [path for path in (self._layers, self._ranks, self._trace) if path is not None]


def _growing(path: Path) -> Path:
    return path.with_name(path.name + ".partial")


def with_guard(
    run: Run, on_guard: OnGuard | None, on_steps: OnSteps | None, train: Callable[[float, Growing], None]
) -> Run:
    """A run that was lost too early to read a threshold from, trained once more: ``train`` is given the temporary guard to clip at, and
    the files for it. Any other run as it is. Raises what ``train`` raises; the unclipped trace is kept, and the guarded one is not."""
    from clipcal.recommendation.evidence import guard_for  # arms are trained without

    guard = guard_for(run)
    if guard is None:
        return run
    if on_guard:
        on_guard(guard)
    info = run.info
    with Growing(
        run.guarded, on_steps, layers=run.guarded_layers, ranks=run.guarded_ranks, norm_type=info.norm_type
    ) as growing:
        train(guard, growing)
    return run.save(guard=guard)
