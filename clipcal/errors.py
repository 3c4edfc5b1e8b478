"""Everything that clipcal says no with: one small tree of errors, each with its exit code.

    ClipcalError
    ├── InputError        2   bad usage or input: a flag, a file, a run directory
    │   └── SpecError     2   the same, with a place in the spec: file:line:column
    └── UserCodeError     4   the user's own training code raised; carries its traceback without clipcal's frames

Only ``clipcal.cli`` catches them. A message is one short paragraph: what is wrong, where, what was expected, what to try.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class ClipcalError(Exception):
    """The root. ``exit_code`` is what the command line ends with."""

    exit_code = 1


class InputError(ClipcalError):
    """Bad usage or input: the user can put it right by changing a flag, a file or a path."""

    exit_code = 2


class SpecError(InputError):
    """Something in the spec is wrong. The message starts with ``file:line:column``."""


class UserCodeError(ClipcalError):
    """The user's training code raised an exception of its own.

    ``user_traceback`` is its formatted traceback, without clipcal's frames, ready to print.
    """

    exit_code = 4

    def __init__(self, message: str, user_traceback: str = "") -> None:
        super().__init__(message, user_traceback)
        self.message = message
        self.user_traceback = user_traceback

    def __str__(self) -> str:
        return self.message


def nearest(word: str, known: Iterable[str]) -> str:
    """A sentence that names the closest of the known words, or lists them all; empty where there are none."""
    known = sorted(known)
    close = difflib.get_close_matches(word, known, n=1, cutoff=0.6)
    if close:
        return f" Did you mean {close[0]!r}?"
    return f" Known here: {', '.join(known)}." if known else ""
