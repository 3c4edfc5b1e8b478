"""Steps as they are recorded -> what stderr shows meanwhile: a live view on a terminal, plain lines elsewhere."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence

import numpy as np
from rich.console import Console
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from clipcal.arms import Arm, OnPlan, OnProgress, Progress
from clipcal.charts import sparkline
from clipcal.console import is_ascii, number
from clipcal.recording import OnSteps
from clipcal.reprofiling import OnGuard
from clipcal.stdio import STOPPING, Interrupt
from clipcal.step import Step

LINES = 10
"""How many plain lines a profile prints where there is no terminal."""


class _Course:
    """What the view says of the steps so far."""

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
    return f"{seconds // 60}:{seconds % 60:02d} min" if seconds >= 60 else f"{seconds} s"


@contextlib.contextmanager
def profile_view(
    console: Console, total: int, *, asked: Interrupt, quiet: bool, plain: bool = False
) -> Iterator[tuple[OnSteps, OnGuard]]:
    """Show a profile of ``total`` steps as it goes; gives the functions to call with each batch of steps, and where it
    begins again under a guard."""
    course, printed = _Course(total), 0
    if quiet:
        yield course.add, lambda guard: None
        return

    def again(guard: float) -> None:
        nonlocal course, printed
        course, printed = _Course(total), 0
        console.print(
            f"lost too early to read a threshold from; profiling again under a temporary guard of {guard:g}",
            soft_wrap=True,
        )

    if plain or not console.is_terminal:

        def line(steps: Sequence[Step]) -> None:
            nonlocal printed
            course.add(steps)
            due = len(course.norms) * LINES // total
            if due > printed:
                printed = due
                console.print("step " + "  ".join(f"{k} {v}".strip() for k, v in course.words()), soft_wrap=True)

        yield line, again
        return
    ascii = is_ascii(console)

    def view() -> Table:
        width = min(console.width, 120)
        words = [(STOPPING, "")] if asked.requested else course.words()
        table = Table.grid()
        table.add_row(ProgressBar(total=total, completed=len(course.norms), width=width))
        table.add_row(Text("  ").join(Text.assemble((k, "dim" if v else ""), f" {v}".rstrip()) for k, v in words))
        table.add_row(sparkline(np.array(course.norms), width, ascii=ascii))
        return table

    asked.shown = True
    with Live(get_renderable=view, console=console, refresh_per_second=4, transient=True):
        yield lambda steps: course.add(steps), again


@contextlib.contextmanager
def arms_view(console: Console, total: int, *, quiet: bool) -> Iterator[tuple[OnPlan, OnProgress]]:
    """Show the arms of a verification as they are trained, ``total`` steps each."""
    state: dict[Arm, Progress] = {}

    def plan(todo: Sequence[Arm], there: Sequence[Arm]) -> None:
        if quiet:
            return
        kept = f"; {len(there)} {'is' if len(there) == 1 else 'are'} there already" if there else ""
        names = ", ".join(dict.fromkeys(a.name for a in todo))
        if todo:
            console.print(f"training {len(todo)} arms ({names}){kept}", soft_wrap=True)

    if quiet:
        yield plan, lambda progress: None
        return
    if not console.is_terminal:

        def line(progress: Progress) -> None:
            if progress.done:
                last = state.get(progress.arm, progress)
                console.print(
                    f"{progress.arm.name} seed {progress.arm.seed}: {last.steps} steps, loss {number(last.loss)}",
                    soft_wrap=True,
                )
            state[progress.arm] = progress

        yield plan, line
        return

    def view() -> Table:
        table = Table.grid(padding=(0, 2))
        for arm, p in state.items():
            table.add_row(
                f"{arm.name} seed {arm.seed}",
                ProgressBar(total=total, completed=p.steps, width=24),
                f"{p.steps}/{total}",
                "" if p.done else f"loss {number(p.loss)}",
            )
        return table

    def update(progress: Progress) -> None:
        state[progress.arm] = progress

    with Live(get_renderable=view, console=console, refresh_per_second=4, transient=True):
        yield plan, update
