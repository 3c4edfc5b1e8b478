"""Steps as they are recorded -> what stderr shows meanwhile: a live view on a terminal, plain lines elsewhere."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence

import numpy as np
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
from clipcal.views.terminal.canvas import count
from clipcal.views.terminal.charts import sparkline
from clipcal.views.terminal.console import is_ascii, is_screen, number
from clipcal.views.terminal.folding import joined

LINES = 10
"""How many plain lines a profile prints where there is no terminal."""


class Course:
    """The steps of a profile of ``total`` steps so far -> what the view says of them."""

    def __init__(self, total: int) -> None:
        self.total = total
        self.norms: list[float] = []
        self.last: Step | None = None
        self.seconds: list[float] = []

    def add(self, steps: Sequence[Step]) -> None:
        self.norms += [s.grad_norm for s in steps]
        self.seconds += [s.seconds for s in steps]
        self.last = steps[-1]

    def words(self) -> list[tuple[str, str]]:
        """What each number is, and the number; what says both at once has no number."""
        s = self.last
        if s is None:
            return [("the first step is under way", "")]
        norms = np.array(self.norms)
        finite = norms[np.isfinite(norms)]
        done = len(norms)
        # of the latest steps: the first ones load libraries and fill caches
        rate = 1 / max(float(np.mean(self.seconds[-50:])), 1e-9)
        middle, largest = (
            (float(np.median(finite)), float(finite.max())) if len(finite) else (float("nan"), float("nan"))
        )
        return [
            (f"{done}/{self.total}", ""),
            ("loss", number(s.loss)),
            ("norm", number(s.grad_norm)),
            ("median", number(middle)),
            ("max", number(largest)),
            (f"{number(rate)} steps/s", ""),
            (f"{_duration((self.total - done) / rate)} left", ""),
        ]


def _duration(seconds: float) -> str:
    seconds = round(seconds)
    if seconds >= 3600:
        return f"{seconds // 3600:,}:{seconds // 60 % 60:02d} h"
    return f"{seconds // 60}:{seconds % 60:02d} min" if seconds >= 60 else f"{seconds} s"


def profile_screen(course: Course, *, width: int, ascii: bool, stopping: bool) -> Table:
    """The view on a terminal: how far it is, the numbers, the norms so far."""
    words = [(STOPPING, "")] if stopping else course.words()
    fields = [Text.assemble((k, "dim" if v else ""), f" {v}".rstrip()) for k, v in words]
    table = Table.grid()
    table.add_row(_bar(course.total, len(course.norms), width))
    for line in joined(fields, width, gap="  "):
        table.add_row(line)
    table.add_row(sparkline(np.array(course.norms), width, ascii=ascii))
    return table


def profile_line(course: Course, *, spoken: bool) -> str:
    """The same in a line of a log, or, ``spoken``, for a screen reader."""
    done, *rest = (f"{k} {v}".strip() for k, v in course.words())
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
    course, printed = Course(total), 0
    if quiet:
        yield course.add, lambda guard: None
        return

    def again(guard: float) -> None:
        nonlocal course, printed
        course, printed = Course(total), 0
        console.print(
            f"lost too early to read a threshold from; profiling again under a temporary guard of {guard:g}",
            soft_wrap=True,
        )

    if plain or spoken or not is_screen(console):

        def line(steps: Sequence[Step]) -> None:
            nonlocal printed
            course.add(steps)
            due = len(course.norms) * LINES // total
            if due > printed:
                printed = due
                console.print(profile_line(course, spoken=spoken), soft_wrap=True)

        yield line, again
        return
    ascii = is_ascii(console)

    def view() -> Table:
        return profile_screen(course, width=min(console.width, 120), ascii=ascii, stopping=asked.requested)

    asked.shown = True
    with Live(get_renderable=view, console=console, refresh_per_second=4, transient=True):
        yield lambda steps: course.add(steps), again


@contextlib.contextmanager
def arms_view(console: Console, total: int, *, quiet: bool) -> Iterator[tuple[OnPlan, OnProgress]]:
    """Show the arms of a verification as they are trained, ``total`` steps each."""
    state: dict[Arm, Progress] = {}
    live: Live | None = None

    def plan(todo: Sequence[Arm], there: Sequence[Arm]) -> None:
        if quiet:
            return
        kept = f"; {len(there)} {'is' if len(there) == 1 else 'are'} there already" if there else ""
        names = ", ".join(dict.fromkeys(a.name for a in todo))
        if todo:
            console.print(f"training {count(len(todo), 'arm')} ({names}){kept}", soft_wrap=True)
            if live is not None:
                live.start()  # not before: where nothing is to be trained there is nothing to show

    if quiet:
        yield plan, lambda progress: None
        return
    if not is_screen(console):

        def line(progress: Progress) -> None:
            if progress.done:
                last = state.get(progress.arm, progress)
                console.print(
                    f"{progress.arm.name} seed {progress.arm.seed}: {count(last.steps, 'step')}, loss {number(last.loss)}",
                    soft_wrap=True,
                )
            state[progress.arm] = progress

        yield plan, line
        return

    def update(progress: Progress) -> None:
        state[progress.arm] = progress

    live = Live(get_renderable=lambda: arms_screen(state, total), console=console, refresh_per_second=4, transient=True)
    try:
        yield plan, update
    finally:
        live.stop()
