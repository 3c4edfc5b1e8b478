"""A log that is being written -> the check of it, drawn again as lines arrive."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from rich.console import Console, Group
from rich.live import Live
from rich.text import Text

from clipcal.checking import Check, check
from clipcal.errors import InputError
from clipcal.logs.choice import NO_CHOICE, LogChoice
from clipcal.recommendation.evidence import Evidence, load
from clipcal.views.figures.course import course
from clipcal.views.terminal import answers
from clipcal.views.terminal.console import folded, is_ascii, is_screen, picture_width
from clipcal.views.words import printable

POLL = 1.0
"""Seconds between two looks at the file."""
SHARE = 0.1
"""Of the time, at most, that reading may take: a log is read whole each time, and a long one less often."""

Show = Callable[[Evidence, Check], None]
Say = Callable[[str], None]


def follow(
    source: Path,
    *,
    max_norm: float | None,
    choice: LogChoice = NO_CHOICE,
    console: Console,
    sleep: Callable[[float], None] = time.sleep,
    gone: Callable[[], bool] = lambda: False,
) -> None:
    """Check ``source`` again whenever it has grown, until interrupted, or until ``gone`` says that nobody reads it any more.

    A log with no gradient norm yet is waited for, once it is there. Raises InputError where it is not, and where the first
    norms show that the question cannot be answered (which of several norms, no threshold given).
    """
    if not source.exists():
        raise InputError(f"{source}: is not there. Name the log that the training writes, once it has begun.")
    seen: tuple[int, int] | None = None
    read = False
    with _view(console) as (show, say):
        while not gone():  # a log that does not grow gives nothing to write, so the pipe has to be asked
            now, began = _signature(source), time.monotonic()
            if now != seen:
                try:
                    evidence = load(source, choice)
                except InputError as e:
                    if read or any(option in str(e) for option in ("--tag", "--run", "--pattern")):
                        raise
                    say(f"waiting for a gradient norm: {e}")
                else:
                    show(evidence, check(evidence, max_norm))
                    read = True
                seen = now
            sleep(max(POLL, (time.monotonic() - began) / SHARE))


def _signature(source: Path) -> tuple[int, int]:
    """What changes where a log grows: its size and time, or those of all files of a folder together."""
    paths = [source]
    if source.is_dir():
        paths = [Path(folder) / name for folder, _, names in os.walk(source) for name in names]
    size = latest = 0
    for path in paths:
        with contextlib.suppress(OSError):
            status = path.stat()
            size, latest = size + status.st_size, max(latest, status.st_mtime_ns)
    return size, latest


@contextlib.contextmanager
def _view(console: Console) -> Iterator[tuple[Show, Say]]:
    if not is_screen(console):
        yield (
            lambda evidence, c: console.print(answers.check_line(c), soft_wrap=True),
            lambda text: console.print(text, soft_wrap=True),
        )
        return
    ascii = is_ascii(console)
    with Live(console=console, auto_refresh=False) as live:

        def show(evidence: Evidence, c: Check) -> None:
            width = picture_width(console)
            drawn = course(c.recommendation, guard=evidence.guard)
            lines = answers.followed(c, drawn, width=width, ascii=ascii)
            live.update(Group(*(part for line in lines for part in folded(line, width))), refresh=True)

        yield show, lambda text: live.update(Text(printable(text, ascii=ascii)), refresh=True)
