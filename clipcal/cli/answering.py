"""How a command ends: an answer on stdout, or a paragraph on stderr and an exit code."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator
from typing import Any, NoReturn

import typer

from clipcal.errors import ClipcalError, UserCodeError
from clipcal.streams import OutputLost

NO, INTERRUPTED = 3, 130


@contextlib.contextmanager
def said_no(*, interrupted: str = "interrupted; what was recorded is kept") -> Iterator[None]:
    try:
        yield
    except OutputLost:
        raise  # nothing more can be said here: the process ends
    except UserCodeError as e:
        if e.user_traceback:
            print(e.user_traceback.rstrip() + "\n", file=sys.stderr)
        stop(f"error: {e}", e.exit_code)
    except ClipcalError as e:
        stop(f"error: {e}", e.exit_code)
    except KeyboardInterrupt:
        stop(interrupted, INTERRUPTED)


def stop(message: str, code: int) -> NoReturn:
    # names and lines of a log stand in it, and must not be able to drive the terminal
    print("".join(c if c.isprintable() or c == "\n" else "?" for c in message), file=sys.stderr)
    raise typer.Exit(code)


def print_json(value: Any) -> None:
    from clipcal.run.jsonfile import dumps

    print(dumps(value, indent=1))
