"""How a command ends: an answer on stdout, or a paragraph on stderr and an exit code."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator
from typing import Any, NoReturn

import typer

from clipcal.errors import ClipcalError, Exit, OutputLost, UserCodeError

HOLDS = ("holds", "no_difference")
"""The verdicts of a verification that are a yes."""


@contextlib.contextmanager
def said_no(*, interrupted: str = "interrupted; what was recorded is kept") -> Iterator[None]:
    try:
        yield
    except OutputLost:
        raise  # nothing more can be said here: the process ends
    except ClipcalError as e:
        if isinstance(e, UserCodeError) and e.user_traceback:
            print(e.user_traceback.rstrip() + "\n", file=sys.stderr)
        stop(f"error: {e}", e.exit_code)
    except KeyboardInterrupt:
        stop(interrupted, Exit.INTERRUPTED)


def stop(message: str, code: Exit) -> NoReturn:
    # names and lines of a log stand in it, and must not be able to drive the terminal
    print("".join(c if c.isprintable() or c == "\n" else "?" for c in message), file=sys.stderr)
    raise typer.Exit(code)


def finish(*, yes: bool) -> NoReturn:
    """End after an answer was printed: with Exit.NO where it is no."""
    raise typer.Exit(Exit.YES if yes else Exit.NO)


def print_json(value: Any) -> None:
    from clipcal.run.jsonfile import dumps

    # a folder's name may hold bytes that are no text, and nothing could be printed with them
    print(dumps(value, indent=1).encode("utf-8", "replace").decode())
