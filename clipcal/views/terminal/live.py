"""Steps as they are recorded -> what stderr shows meanwhile: a live view on a terminal, plain lines elsewhere."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence

from rich.console import Console
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from clipcal.arms.pool import Arm, OnPlan, OnProgress, Progress
from clipcal.recommendation.guarding import OnGuard
from clipcal.run.recording import OnSteps
from clipcal.run.step import Step
from clipcal.streams import STOPPING, Interrupt
from clipcal.views.figures.meanwhile import Meanwhile
from clipcal.views.terminal.charts import sparkline
from clipcal.views.terminal.console import is_ascii, is_screen, joined
from clipcal.views.words import count, number

LINES = 10
"""How many plain lines a profile prints where there is no terminal."""


def words(m: Meanwhile) -> list[tuple[str, str]]:
    """What each number is, and the number; what says both at once has no number."""
    if m.last is None:
        return [("the first step is under way", "")]
    done, rate, (middle, largest) = len(m.norms), m.rate(), m.middle_and_largest()
    return [
        (f"{done}/{m.total}", ""),
        ("loss", number(m.last.loss)),
        ("norm", number(m.last.grad_norm)),
        ("median", number(middle)),
        ("max", number(largest)),
        (f"{number(rate)} steps/s", ""),
        (f"{_duration((m.total - done) / rate)} left", ""),
    ]


def _duration(seconds: float) -> str:
    seconds = round(seconds)
    if seconds >= 3600:
        return f"{seconds // 3600:,}:{seconds // 60 % 60:02d} h"
    return f"{seconds // 60}:{seconds % 60:02d} min" if seconds >= 60 else f"{seconds} s"


def profile_screen(m: Meanwhile, *, width: int, ascii: bool, stopping: bool) -> Table:
    """The view on a terminal: how far it is, the numbers, the norms so far."""
    said = [(STOPPING, "")] if stopping else words(m)
    fields = [Text.assemble((k, "dim" if v else ""), f" {v}".rstrip()) for k, v in said]
    table = Table.grid()
    table.add_row(_bar(m.total, len(m.norms), width))
    for line in joined(fields, width, gap="  "):
        table.add_row(line)
    table.add_row(sparkline(m.norms, width, ascii=ascii))
    return table


def profile_line(m: Meanwhile, *, spoken: bool) -> str:
    """The same in a line of a log, or, ``spoken``, for a screen reader."""
    done, *rest = (f"{k} {v}".strip() for k, v in words(m))
    line = f"step {done}: {', '.join(rest)}"
    return line.replace("steps/s", "steps a second").replace("/", " of ") if spoken else line


def arms_screen(state: Mapping[Arm, Progress], total: int) -> Table:
    """Where every arm is that has begun."""
    table = Table.grid(padding=(0, 2))
    table.add_column()
    table.add_column()
    table.add_column(justify="right")
    for arm, p in state.items():
        table.add_row(
            f"{arm.name} seed {arm.seed}",
            _bar(total, p.steps, 24),
            f"{p.steps:,}/{total:,}",
            "done" if p.done else Text.assemble(("loss", "dim"), f" {number(p.loss)}"),
        )
    return table


def _bar(total: int, completed: int, width: int) -> ProgressBar:
    """In the terminal's own colours: rich's are chosen for a dark ground."""
    return ProgressBar(
        total=total, completed=completed, width=width, style="dim", complete_style="cyan", finished_style="green"
    )


@contextlib.contextmanager
def profile_view(
    console: Console, total: int, *, asked: Interrupt, quiet: bool, plain: bool = False, spoken: bool = False
) -> Iterator[tuple[OnSteps, OnGuard]]:
    """Show a profile of ``total`` steps as it goes; gives the functions to call with each batch of steps, and where it
    begins again under a guard. ``plain`` is lines alone, ``spoken`` lines that are read out."""
    course, printed = Meanwhile(total), 0
    as_lines = plain or spoken or not is_screen(console)

    def add(steps: Sequence[Step]) -> None:
        nonlocal printed
        course.add(steps)
        due = len(course.norms) * LINES // total
        if as_lines and not quiet and due > printed:
            printed = due
            _say(console, profile_line(course, spoken=spoken))

    def again(guard: float) -> None:
        nonlocal course, printed
        course, printed = Meanwhile(total), 0
        if not quiet:
            todo = f"profiling again under a temporary guard of {guard:g}"
            _say(console, f"lost too early to read a threshold from; {todo}")

    def view() -> Table:
        return profile_screen(course, width=min(console.width, 120), ascii=is_ascii(console), stopping=asked.requested)

    if quiet or as_lines:
        yield add, again
        return
    asked.shown = True
    with _live(console, view):
        yield add, again


@contextlib.contextmanager
def arms_view(console: Console, total: int, *, quiet: bool) -> Iterator[tuple[OnPlan, OnProgress]]:
    """Show the arms of a verification as they are trained, ``total`` steps each."""
    state: dict[Arm, Progress] = {}
    live = _live(console, lambda: arms_screen(state, total)) if is_screen(console) and not quiet else None

    def plan(todo: Sequence[Arm], there: Sequence[Arm]) -> None:
        if quiet or not todo:
            return
        kept = f"; {len(there)} {'is' if len(there) == 1 else 'are'} there already" if there else ""
        names = ", ".join(dict.fromkeys(a.name for a in todo))
        _say(console, f"training {count(len(todo), 'arm')} ({names}){kept}")
        if live is not None:
            live.start()  # not before: where nothing is to be trained there is nothing to show

    def progress(p: Progress) -> None:
        if p.done and live is None and not quiet:
            last = state.get(p.arm, p)
            _say(console, f"{p.arm.name} seed {p.arm.seed}: {count(last.steps, 'step')}, loss {number(last.loss)}")
        state[p.arm] = p

    try:
        yield plan, progress
    finally:
        if live is not None:
            live.stop()


def _live(console: Console, view: Callable[[], Table]) -> Live:
    return Live(get_renderable=view, console=console, refresh_per_second=4, transient=True)


def _say(console: Console, line: str) -> None:
    console.print(line, soft_wrap=True)
