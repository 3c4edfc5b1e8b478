"""Everything that clipcal says no with, and every exit code that it ends with.

    exit code             who ends with it
      0  YES              a command that did what was asked, and whose answer is not no
      1  OUR_BUG          Python, at an exception that is not in the tree below
      2  BAD_INPUT        InputError, OutputLost where the disk is full; typer, at a flag that it does not know
      3  NO               recommend without a threshold, verify and calibrate that do not hold, check that does not fit, apply without a
                          threshold, doctor with a problem: all through ``cli.answering``'s ``finish`` or ``stop``
      4  USER_CODE        UserCodeError
    130  INTERRUPTED      Ctrl-C, or SIGTERM
    141  BROKEN_PIPE      OutputLost where nobody reads stdout any more

    ClipcalError
    ├── InputError          bad usage or input: a flag, a file, a run directory
    │   ├── SpecError       the same, with a place in the spec: file:line:column
    │   └── MissingPackage  what was asked for needs a package that is not installed; an ImportError too
    ├── UserCodeError       the user's own training code raised; carries its traceback without clipcal's frames
    │   └── RankLost        another process of the training is gone
    └── OutputLost          the answer could not be written

Only ``clipcal.cli.main`` and ``clipcal.cli.answering`` turn them into exit codes. A message is one short paragraph: what is wrong, where,
what was expected, what to try.
"""

from __future__ import annotations

import difflib
import errno
import importlib.util
import sys
from collections.abc import Iterable
from enum import IntEnum
from pathlib import Path


class Exit(IntEnum):
    """The exit codes; the table at the top of this file says who ends with which."""

    YES = 0
    OUR_BUG = 1
    BAD_INPUT = 2
    NO = 3
    USER_CODE = 4
    INTERRUPTED = 130
    BROKEN_PIPE = 141  # what a shell gives a program that SIGPIPE ended


class ClipcalError(Exception):
    """The root. ``exit_code`` is what the command line ends with."""

    exit_code = Exit.OUR_BUG


class InputError(ClipcalError):
    """Bad usage or input: the user can put it right by changing a flag, a file or a path."""

    exit_code = Exit.BAD_INPUT


class SpecError(InputError):
    """Something in the spec is wrong. The message starts with ``file:line:column``."""


class MissingPackage(InputError, ImportError):
    """What was asked for needs a package that is not installed. ``name`` is its import name.

    It is an ImportError too, since it is also what ``from clipcal import watch`` raises.
    """


class UserCodeError(ClipcalError):
    """The user's training code raised an exception of its own.

    ``user_traceback`` is its formatted traceback, without clipcal's frames, ready to print.
    """

    exit_code = Exit.USER_CODE

    def __init__(self, message: str, user_traceback: str = "") -> None:
        super().__init__(message, user_traceback)
        self.message = message
        self.user_traceback = user_traceback

    def __str__(self) -> str:
        return self.message


class RankLost(UserCodeError):
    """One of several ranks is gone, and with it the training of all."""


class OutputLost(ClipcalError):
    """The answer could not be written; ``reason`` is the operating system's, None where nobody reads it any more."""

    def __init__(self, name: str, error: OSError) -> None:
        gone = error.errno == errno.EPIPE
        self.reason = None if gone else error.strerror or str(error)
        self.exit_code = Exit.BROKEN_PIPE if gone else Exit.BAD_INPUT
        super().__init__(f"{name}: cannot be written ({error.strerror or error}).")


def nearest(word: str, known: Iterable[str]) -> str:
    """A sentence that names the closest of the known words, or lists them all; empty where there are none."""
    known = sorted(known)
    close = difflib.get_close_matches(word, known, n=1, cutoff=0.6)
    if close:
        return f" Did you mean {close[0]!r}?"
    return f" Known here: {', '.join(known)}." if known else ""


def nearest_path(path: Path, there: Iterable[Path], *, listed: int = 5) -> str:
    """A sentence that gives the whole path of the one that a missing file or folder is a slip of, or else the first ones.

    Names are compared without their endings, which files of one kind share.
    """
    there = sorted(there)
    ranked = [(_alike(path.stem, p.stem), _alike(path.name, p.name), p) for p in there]
    close = max(ranked, default=None)
    if close and close[0] >= 0.6:
        return f" Did you mean {str(close[2])!r}?"
    if not (there and listed):
        return ""
    more = f" and {len(there) - listed} more" if len(there) > listed else ""
    return f" Known here: {', '.join(map(str, there[:listed]))}{more}."


def _alike(a: str, b: str) -> float:
    return difflib.SequenceMatcher(None, a, b).ratio()


def a_kind(value: object) -> str:
    """What a value is, with its article: ``None``, ``an int``, ``a Tensor``, ``an LSTM``."""
    if value is None:
        return "None"
    name = type(value).__name__
    spelled_out = name[:2].isupper()  # MLP, UNet: the letter's own name is heard, M is "em" and U is "you"
    return f"{'an' if name[0] in ('AEFHILMNORSX' if spelled_out else 'AEIOaeiou') else 'a'} {name}"


def is_full(error: OSError) -> bool:
    """Whether a write failed for want of space: of the disk, of a quota, or below a limit of the process."""
    return error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


def cannot_write(path: Path, error: OSError, kept: str = "") -> InputError:
    """What to say where a file of a run cannot be written; ``kept`` is a sentence on what stays.

    It names no flag: verify, recommend and check write too, and have no --out.
    """
    if is_full(error):
        todo = "Free some space, and try again."
    elif error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
        todo = "Copy the run to where you may write, and name the copy."
    else:
        todo = "See what is in its way there, and try again."
    return InputError(f"{path}: cannot be written ({error.strerror or error}). {kept and kept + ' '}{todo}")


GET_TORCH = "pip install torch"


def has_torch() -> bool:
    """Whether this Python finds torch. A folder of that name without code, which an uninstall may leave, is none."""
    try:
        spec = importlib.util.find_spec("torch")
    except ImportError:  # somebody's finder raises where it should say None
        return False
    except ValueError:  # it is loaded by other means than a finder
        return "torch" in sys.modules
    return spec is not None and spec.origin is not None


def need_torch(what: str) -> None:
    """Raise MissingPackage where ``what`` would find no torch. ``what`` begins the sentence: "`clipcal verify`"."""
    if not has_torch():
        raise without_torch(what)


def without_torch(what: str) -> MissingPackage:
    return MissingPackage(
        f"{what} needs torch, which is not installed for {sys.executable}. Install the build for your machine ({GET_TORCH}), then try again; "
        "recommend, check, apply and report work without it.",
        name="torch",
    )
