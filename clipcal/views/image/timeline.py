"""A course -> panels over the steps: the norms with what was found in them, and the losses."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from matplotlib.axes import Axes

from clipcal.run.trace import Floats
from clipcal.stats import Rows
from clipcal.views.figures.course import Course
from clipcal.views.image import style
from clipcal.views.image.labels import Label, beside
from clipcal.views.image.scales import (
    linear_axis,
    log_axis,
    log_limits,
    loss_axis,
    outline,
    positive,
    step_axis,
    step_limits,
)
from clipcal.views.image.sheet import RIGHT, Panel
from clipcal.views.image.style import number

ROOM = 72 * RIGHT - 18
"""Points for a label beside."""
MOST_MARKS = 300
FEW = 60
"""Steps: each is drawn as a dot too."""


def norms_panel(course: Course, name: str, *, last: bool) -> Panel:
    """``name`` is what the threshold is called, ``last`` whether the steps are written under it."""

    def draw(axes: Axes) -> None:
        _limits(axes, course)
        _grounds(axes, course)
        usable = positive(course.norms)
        x, y = outline(course.steps, usable if np.isfinite(usable).any() else course.norms)
        dots: dict[str, Any] = {"marker": ".", "markersize": 3.0} if course.norms.size <= FEW else {}
        axes.plot(x, y, color=style.NORM, lw=0.7, zorder=2, label="norms", **dots)
        level_x, level_y = _thinned(course.steps, positive(course.level))
        axes.plot(level_x, level_y, color=style.LEVEL, lw=1.1, zorder=3, label="level")
        _marks(axes, course)
        labels = _lines(axes, course, name)
        beside(axes, labels, width=ROOM)
        axes.set_ylabel(course.unit)
        step_axis(axes, step_limits(course.steps), labelled=last)

    return Panel(
        title=f"{course.unit.capitalize()} over the run",
        draw=draw,
        height=2.35,
        below=0.36 if last else 0.1,
        right=RIGHT,
    )


def losses_panel(course: Course, *, last: bool) -> Panel:
    """Of a course that has losses."""

    def draw(axes: Axes) -> None:
        assert course.losses is not None
        steps, losses = course.steps, course.losses
        loss_axis(axes, losses[course.healthy])
        with np.errstate(invalid="ignore"):
            over = np.flatnonzero(losses > axes.get_ylim()[1])
        _grounds(axes, course, named=False)
        x, y = outline(steps, losses)
        dots: dict[str, Any] = {"marker": ".", "markersize": 3.0} if steps.size <= FEW else {}
        axes.plot(x, y, color=style.LOSS, lw=0.8, zorder=2, label="losses", **dots)
        _on_top(axes, steps[_few(over, steps.size)], "^", style.LOSS)
        broken = np.flatnonzero(np.isnan(losses)) if np.isnan(losses).mean() < 0.5 else over[:0]  # logs leave gaps too
        _on_top(axes, steps[_few(broken, steps.size)], "x", style.BLACK)
        labels = [Label(text=f"▲ {over.size:,} above the axis", at=None, color=style.LOSS)] if over.size else []
        labels += [Label(text=f"× {broken.size:,} not finite", at=None, color=style.BLACK)] if broken.size else []
        beside(axes, labels, width=ROOM)
        axes.set_ylabel("loss")
        step_axis(axes, step_limits(steps), labelled=last)

    return Panel(title="Loss", draw=draw, height=1.0, below=0.36 if last else 0.1, right=RIGHT)


def _limits(axes: Axes, course: Course) -> None:
    if course.shown is not None and np.any(positive(course.norms) > 0):
        log_axis(axes, "y", log_limits(course.shown, above=0.14), most=8)
        return
    known = course.norms[np.isfinite(course.norms)]
    linear_axis(axes, "y", (min(0.0, float(known.min(initial=0.0))) - 0.05, 1.0), most=5)


def _grounds(axes: Axes, course: Course, *, named: bool = True) -> None:
    """Shade what no threshold is read from."""
    first, last = step_limits(course.steps)
    write: dict[str, Any] = {"xycoords": ("data", "axes fraction"), "textcoords": "offset points", "va": "top",
             "fontsize": style.SMALL, "color": style.DARK}  # fmt: skip
    if course.first_stable is not None and course.first_stable > course.steps[0]:
        axes.axvspan(first, course.first_stable - 0.5, color=style.PALE, lw=0, zorder=0)
        axes.axvline(course.first_stable - 0.5, color=style.DARK, lw=0.5, ls=(0, (1, 2)), zorder=1)
        if named:
            axes.annotate("warm-up", (first, 1.0), (2, -2), ha="left", **write)
    if course.last_healthy is not None:
        axes.axvspan(course.last_healthy + 0.5, last, color=style.PALE, lw=0, zorder=0)
        axes.axvline(course.last_healthy + 0.5, color=style.DARK, lw=0.5, ls=(0, (1, 2)), zorder=1)
        if named:
            axes.annotate("runs away", (last, 1.0), (-2, -6 if course.nonfinite.size else -2), ha="right", **write)


def _lines(axes: Axes, course: Course, name: str) -> list[Label]:
    """Draw the thresholds and what they are read from; what to write beside them."""
    low, high = axes.get_ylim()
    labels = []
    if course.corridor is not None:
        start, end = max(course.corridor[0], low), min(course.corridor[1], high)
        axes.axhspan(start, end, color=style.CORRIDOR, alpha=0.17, lw=0, zorder=0.5, label="corridor")
        middle = math.sqrt(start) * math.sqrt(end) if start > 0 else start
        labels.append(Label(text=f"corridor {_corridor(course)}", at=middle, color="#2B7BAD"))
    if course.interval is not None:
        axes.axhspan(*course.interval, color=style.THRESHOLD, alpha=0.28, lw=0, zorder=0.6, label="interval")
    if course.max_norm is not None:
        axes.axhline(course.max_norm, color=style.THRESHOLD, lw=1.3, zorder=4, label="max_norm")
        labels.append(
            Label(text=f"{name} {number(course.max_norm)}", at=course.max_norm, color=style.THRESHOLD, bold=True)
        )
        if course.interval is not None:
            labels.append(
                Label(text=f"interval {_short(course.interval)}", at=course.interval[0], color=style.THRESHOLD)
            )
    if course.in_use is not None:
        axes.axhline(course.in_use, color=style.IN_USE, lw=1.5, ls=(0, (5, 1.5, 1, 1.5)), zorder=4.1, label="in use")
        labels.append(Label(text=f"in use {number(course.in_use)}", at=course.in_use, color="#A86F00", bold=True))
    if course.guard is not None:
        axes.axhline(course.guard, color=style.DARK, lw=0.8, ls=(0, (4, 2)), zorder=3.5, label="guard")
        labels.append(Label(text=f"guard {number(course.guard)}", at=course.guard, color=style.DARK))
    if course.median is not None:
        axes.axhline(course.median, color=style.MEDIAN, lw=0.8, ls=(0, (1, 1.6)), zorder=3.2, label="median")
        labels.append(Label(text=f"median {number(course.median)}", at=course.median, color=style.MEDIAN))
    known = positive(course.level)
    known = known[np.isfinite(known)]
    if known.size:
        labels.append(Label(text="local level", at=float(known[-1]), color=style.LEVEL))
    if course.spikes.size:
        at = float(np.median(np.minimum(course.norms[course.spikes], high)))
        text = f"▲ {course.spikes.size:,} spike{'s' * (course.spikes.size != 1)}"
        labels.append(Label(text=text, at=at, color=style.SPIKE))
    if course.nonfinite.size:
        labels.append(Label(text=f"× {course.nonfinite.size:,} not finite", at=None, color=style.BLACK))
    return labels


def _corridor(course: Course) -> str:
    assert course.corridor is not None
    return _short(course.corridor)


def _short(ends: tuple[float, float]) -> str:
    """0.316–0.354, or from 0.3 where there is no upper end."""
    low, high = ends
    return f"{number(low)}–{number(high)}" if math.isfinite(high) else f"from {number(low)}"


def _marks(axes: Axes, course: Course) -> None:
    if course.spikes.size:
        rows = course.spikes
        if rows.size > MOST_MARKS:
            rows = _few(rows, course.norms.size, course.norms)
        high = axes.get_ylim()[1]
        axes.plot(
            course.steps[rows], np.minimum(course.norms[rows], high), ls="none", marker="^", ms=3.6, mew=0,
            color=style.SPIKE, zorder=5, label="spikes", clip_on=False,
        )  # fmt: skip
    _on_top(axes, course.steps[_few(course.nonfinite, course.norms.size)], "x", style.BLACK)


def _on_top(axes: Axes, steps: Floats, mark: str, color: str) -> None:
    if len(steps):
        axes.plot(
            steps, np.ones(len(steps)), ls="none", marker=mark, ms=3.6, mew=0.8 if mark == "x" else 0, color=color,
            transform=axes.get_xaxis_transform(), clip_on=False, zorder=6,
        )  # fmt: skip


def _few(rows: Rows, size: int, heights: Floats | None = None) -> Rows:
    """At most one row of each of 300 pieces of a trace of ``size``: the highest, or the first."""
    if rows.size <= MOST_MARKS:
        return rows
    piece = rows * MOST_MARKS // size
    order = np.lexsort((-heights[rows], piece)) if heights is not None else np.argsort(piece, kind="stable")
    _, first = np.unique(piece[order], return_index=True)
    return np.sort(rows[order[first]])


def _thinned(x: Floats, y: Floats) -> tuple[Floats, Floats]:
    """A smooth line: some of its points are enough."""
    known = np.flatnonzero(np.isfinite(y))
    if known.size > 1000:
        known = known[np.linspace(0, known.size - 1, 1000).astype(np.intp)]
    return x[known], y[known]
