"""Whose code raised? -> tracebacks without clipcal's frames, and errors that carry them."""

from __future__ import annotations

import functools
import os
import sysconfig
import traceback
from pathlib import Path
from types import TracebackType

from clipcal.errors import ClipcalError, UserCodeError

_OURS = str(Path(__file__).parents[1]) + os.sep
_STANDARD = (sysconfig.get_path("stdlib"), sysconfig.get_path("platstdlib"))


def is_users(tb: TracebackType | None) -> bool:
    """Whether any frame belongs to neither clipcal, the standard library nor an installed package."""
    files = (frame.filename for frame in traceback.extract_tb(tb))
    return any(not (package_of(file) or file.startswith((_OURS, *_STANDARD, "<frozen"))) for file in files)


@functools.cache
def package_of(file: str) -> str:
    """``transformers`` of .../site-packages/transformers/trainer.py, in whichever environment that lies; empty for any other file."""
    for folder in ("site-packages", "dist-packages"):
        _, found, rest = file.rpartition(f"{os.sep}{folder}{os.sep}")
        if found:
            return rest.split(os.sep)[0].removesuffix(".py")
    return ""


def trimmed_traceback(error: BaseException) -> str:
    """The traceback as Python prints it, without clipcal's frames and the import machinery's."""
    whole = traceback.TracebackException.from_exception(error)
    part: traceback.TracebackException | None = whole
    while part is not None:
        kept = [
            f
            for f in part.stack
            if not f.filename.startswith((_OURS, "<frozen importlib")) and "importlib/__init__" not in f.filename
        ]
        part.stack = traceback.StackSummary.from_list(kept)
        part = part.__cause__ or (None if part.__suppress_context__ else part.__context__)
    return "".join(whole.format())


class users_code:
    """A block of the user's code: an exception in it becomes a UserCodeError that says during ``what``, and at which ``step``,
    it was raised.

    A class, since a training step enters several of them, and one made by ``contextmanager`` takes four times as long.
    """

    __slots__ = ("_step", "_what")

    def __init__(self, what: str, step: int | None = None) -> None:
        self._what = what
        self._step = step

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: object, e: BaseException | None, tb: object) -> None:
        if isinstance(e, (Exception, SystemExit)) and not isinstance(e, ClipcalError):
            when = "" if self._step is None else f" at step {self._step}"
            text = f"{self._what} raised {type(e).__name__}{when}: {first_line(e)}{_hint(e)}"
            raise UserCodeError(text, trimmed_traceback(e)) from None


def first_line(error: BaseException) -> str:
    """The line of an error's message that says what happened."""
    lines = str(error).strip().splitlines() or ["(no message)"]
    # what a DataLoader's worker raised arrives as text, the worker's whole traceback, its message last
    return lines[-1] if lines[0].startswith("Caught ") else lines[0]


def _hint(error: BaseException) -> str:
    text = str(error)
    if "same device" in text or "Cannot copy out of meta" in text:
        return (
            " The model and each batch are moved to the spec's `device`; tensors that the code makes for itself must be "
            "made there too (device=x.device)."
        )
    if "out of memory" in text.lower():
        return " Lower the batch size, or raise `accumulate` by the same factor."
    if "backward through the graph a second time" in text:
        return (
            " clipcal calls backward itself: return the loss without calling .backward(), and .detach() what is carried from "
            "one step to the next, such as a hidden state."
        )
    return ""
