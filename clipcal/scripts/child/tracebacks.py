"""What the script raises -> a traceback without the frames of those who watch it."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from types import TracebackType

_OURS = str(Path(__file__).parents[2])
Hook = Callable[[type[BaseException], BaseException, TracebackType | None], object]


def without_our_frames(before: Hook) -> Hook:
    """An excepthook that leaves them out and calls the one that was there before."""

    def hook(kind: type[BaseException], error: BaseException, traceback: TracebackType | None) -> None:
        part: BaseException | None = error
        while part is not None:
            part.__traceback__ = _trimmed(part.__traceback__)
            part = part.__cause__ or part.__context__
        before(kind, error, error.__traceback__)

    return hook


def install() -> None:
    sys.excepthook = without_our_frames(sys.excepthook)


def _trimmed(traceback: TracebackType | None) -> TracebackType | None:
    frames = []
    while traceback is not None:
        if not traceback.tb_frame.f_code.co_filename.startswith(_OURS):
            frames.append(traceback)
        traceback = traceback.tb_next
    kept: TracebackType | None = None
    for frame in reversed(frames):
        kept = TracebackType(kept, frame.tb_frame, frame.tb_lasti, frame.tb_lineno)
    return kept
