"""A course -> panels over the steps: the norms with what was found in them, the losses, and how often a threshold in use acts."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from matplotlib.axes import Axes

from clipcal.checking import Check
from clipcal.run.trace import Floats
from clipcal.views.figures.course import Course
from clipcal.views.figures.limits import log_limits, loss_limits
from clipcal.views.figures.points import few, outline, positive, sampled
from clipcal.views.image import style
from clipcal.views.image.labels import Label, beside, write, written_beside
from clipcal.views.image.scales import fitting_axis, linear_axis, log_axis, share_axis
from clipcal.views.image.sheet import RIGHT, Panel
from clipcal.views.image.style import percent
from clipcal.views.words import count, number

ROOM = 72 * RIGHT - 18
"""Points for a label beside."""
MOST_LEVELS = 1000
"""Points of the local level, which is smooth."""
FEW = 60
"""Steps: each is drawn as a dot too."""


def norms_panel(course: Course, name: str) -> Panel:
    """``name`` is what the threshold is called."""

    def draw(axes: Axes) -> None:
        _limits(axes, course)
        _grounds(axes, course, named=True)
        usable = positive(course.norms)
        norms = usable if np.isfinite(usable).any() else course.norms
        _line(axes, course.steps, norms, color=style.NORM, lw=0.7, label="norms")
        level = positive(course.level)
        rows = sampled(np.isfinite(level), MOST_LEVELS)
        axes.plot(course.steps[rows], level[rows], color=style.LEVEL, lw=1.1, zorder=3, label="level")
        _marks(axes, course)
        beside(axes, _lines(axes, course, name), width=ROOM)
        axes.set_ylabel(course.unit)

    title = f"{course.unit.capitalize()} over the run"
    return Panel(title=title, draw=draw, height=2.35, right=RIGHT, steps=course.steps)


def losses_panel(course: Course) -> Panel:
    """Of a course that has losses."""

    def draw(axes: Axes) -> None:
        assert course.losses is not None
        steps, losses = course.steps, course.losses
        limits = loss_limits(losses if course.last_healthy is None else losses[steps <= course.last_healthy])
        fitting_axis(axes, "y", limits, most=5)
        over = np.flatnonzero(losses > limits.ends[1])
        _grounds(axes, course, named=False)
        _line(axes, steps, losses, color=style.LOSS, lw=0.8, label="losses")
        broken = np.flatnonzero(np.isnan(losses)) if np.isnan(losses).mean() < 0.5 else over[:0]  # logs leave gaps too
        labels = []
        for rows, mark, sign, color, what in (
            (over, "^", "▲", style.LOSS, "above the axis"),
            (broken, "x", "×", style.BLACK, "not finite"),
        ):
            _on_top(axes, steps[few(rows, steps.size)], mark, color)
            if rows.size:
                labels.append(Label(text=f"{sign} {rows.size:,} {what}", at=None, color=color))
        beside(axes, labels, width=ROOM)
        axes.set_ylabel("loss")

    return Panel(title="Loss", draw=draw, height=1.0, right=RIGHT, steps=course.steps)


def quarters_panel(course: Course, check: Check, name: str) -> Panel:
    """How often the threshold in use acts in the warm-up and in each quarter of what follows."""

    def draw(axes: Axes) -> None:
        share_axis(axes, every=0.5)
        first, last = axes.get_xlim()
        for part in (*([check.warm_up] if check.warm_up else []), *check.quarters):
            if part.clipped is None:
                continue
            start, end = part.first_step - 0.5, part.last_step + 0.5
            color, hatch = (style.PALE, "////") if part is check.warm_up else (style.IN_USE, None)
            axes.bar(
                (start + end) / 2, part.clipped, end - start, color=color, edgecolor=style.DARK, lw=0.5, hatch=hatch,
                label="quarter", zorder=2,
            )  # fmt: skip
            if end - start < 0.12 * (last - first):
                continue
            text = percent(part.clipped) + (f", {part.verdict}" if part.verdict else "")
            shift = -7 if part.clipped > 0.6 else 6
            write(axes, text, ((start + end) / 2, part.clipped), (0, shift), ha="center", zorder=3)
        scales = [p.mean_scale for p in check.quarters if p.mean_scale is not None]
        if scales:
            left = " to ".join(dict.fromkeys((f"{min(scales):.0%}", f"{max(scales):.0%}")))
            for i, text in enumerate((f"leaves {left}", "of the gradient")):
                written_beside(axes, text, 0.5, (13, 5 - 9 * i), color=style.DARK)
        axes.set_ylabel("clipped")

    in_use = number(course.in_use) if course.in_use is not None else ""
    title = f"Share of the steps that {name} {in_use} clips, by quarter"
    return Panel(title=title, draw=draw, height=0.75, right=RIGHT, steps=course.steps)


def _line(axes: Axes, steps: Floats, values: Floats, **looks: Any) -> None:
    dots: dict[str, Any] = {"marker": ".", "markersize": 3.0} if steps.size <= FEW else {}
    axes.plot(*outline(steps, values), zorder=2, **looks, **dots)


def _limits(axes: Axes, course: Course) -> None:
    if course.shown is not None and np.any(positive(course.norms) > 0):
        log_axis(axes, "y", log_limits(course.shown, above=0.14), most=8)
        return
    known = course.norms[np.isfinite(course.norms)]
    linear_axis(axes, "y", (min(0.0, float(known.min(initial=0.0))) - 0.05, 1.0), most=5)


def _grounds(axes: Axes, course: Course, *, named: bool) -> None:
    """Shade what no threshold is read from."""
    first, last = axes.get_xlim()
    parts = []
    if course.first_stable is not None and course.first_stable > course.steps[0]:
        parts.append((first, course.first_stable - 0.5, "warm-up", "left", (2, -2)))
    if course.last_healthy is not None:
        down = -6 if course.nonfinite.size else -2
        parts.append((last, course.last_healthy + 0.5, "runs away", "right", (-2, down)))
    for edge, border, text, side, shift in parts:
        axes.axvspan(*sorted((edge, border)), color=style.PALE, lw=0, zorder=0)
        axes.axvline(border, color=style.DARK, lw=0.5, ls=(0, (1, 2)), zorder=1)
        if named:
            at: dict[str, Any] = {"xycoords": ("data", "axes fraction"), "va": "top", "color": style.DARK}
            write(axes, text, (edge, 1.0), shift, ha=side, **at)


def _lines(axes: Axes, course: Course, name: str) -> list[Label]:
    """Draw the thresholds and what they are read from; what to write beside them."""
    low, high = axes.get_ylim()
    labels = []
    if course.corridor is not None:
        start, end = max(course.corridor[0], low), min(course.corridor[1], high)
        axes.axhspan(start, end, color=style.CORRIDOR, alpha=0.17, lw=0, zorder=0.5, label="corridor")
        middle = math.sqrt(start) * math.sqrt(end) if start > 0 else start
        labels.append(Label(text=f"corridor {_short(course.corridor)}", at=middle, color=style.CORRIDOR_INK))
    if course.interval is not None:
        axes.axhspan(*course.interval, color=style.THRESHOLD, alpha=0.28, lw=0, zorder=0.6, label="interval")
    for value, label, (color, width, dashes, zorder), ink in (
        (course.max_norm, "max_norm", (style.THRESHOLD, 1.3, "-", 4.0), style.THRESHOLD),
        (course.in_use, "in use", (style.IN_USE, 1.5, style.IN_USE_DASHES, 4.1), style.IN_USE_INK),
        (course.guard, "guard", (style.DARK, 0.8, (0, (4, 2)), 3.5), style.DARK),
        (course.median, "median", (style.MEDIAN, 0.8, (0, (1, 1.6)), 3.2), style.MEDIAN),
    ):
        if value is None:
            continue
        axes.axhline(value, color=color, lw=width, ls=dashes, zorder=zorder, label=label)
        ours, bold = label == "max_norm", label in ("max_norm", "in use")
        labels.append(Label(text=f"{name if ours else label} {number(value)}", at=value, color=ink, bold=bold))
        if ours and course.interval is not None:
            labels.append(Label(text=f"interval {_short(course.interval)}", at=course.interval[0], color=ink))
    known = positive(course.level)
    known = known[np.isfinite(known)]
    if known.size:
        labels.append(Label(text="local level", at=float(known[-1]), color=style.LEVEL))
    if course.spikes.size:
        at = float(np.median(np.minimum(course.norms[course.spikes], high)))
        labels.append(Label(text=f"▲ {count(course.spikes.size, 'spike')}", at=at, color=style.SPIKE))
    if course.nonfinite.size:
        labels.append(Label(text=f"× {course.nonfinite.size:,} not finite", at=None, color=style.BLACK))
    return labels


def _short(ends: tuple[float, float]) -> str:
    """0.316–0.354, or from 0.3 where there is no upper end."""
    low, high = ends
    return f"{number(low)}–{number(high)}" if math.isfinite(high) else f"from {number(low)}"


def _marks(axes: Axes, course: Course) -> None:
    if course.spikes.size:
        rows = few(course.spikes, course.norms.size, course.norms)
        heights = np.minimum(course.norms[rows], axes.get_ylim()[1])
        looks: dict[str, Any] = {"marker": "^", "ms": 3.6, "mew": 0, "color": style.SPIKE, "label": "spikes"}
        axes.plot(course.steps[rows], heights, ls="none", zorder=5, clip_on=False, **looks)
    _on_top(axes, course.steps[few(course.nonfinite, course.norms.size)], "x", style.BLACK)


def _on_top(axes: Axes, steps: Floats, mark: str, color: str) -> None:
    if len(steps):
        axes.plot(
            steps, np.ones(len(steps)), ls="none", marker=mark, ms=3.6, mew=0.8 if mark == "x" else 0, color=color,
            transform=axes.get_xaxis_transform(), clip_on=False, zorder=6,
        )  # fmt: skip
