"""The parts of a checked run -> a panel over the steps: how often the threshold in use acts in each."""

from __future__ import annotations

from collections.abc import Sequence

from matplotlib.axes import Axes

from clipcal.checking import Part
from clipcal.views.figures.course import Course
from clipcal.views.image import style
from clipcal.views.image.scales import share_axis, step_axis, step_limits
from clipcal.views.image.sheet import RIGHT, Panel
from clipcal.views.image.style import number, percent


def quarters_panel(course: Course, warm_up: Part | None, quarters: Sequence[Part], name: str, *, last: bool) -> Panel:
    """How often the threshold in use acts in the warm-up and in each quarter of what follows."""

    def draw(axes: Axes) -> None:
        share_axis(axes, every=0.5)
        limits = step_limits(course.steps)
        width = limits[1] - limits[0]
        for part in ([warm_up] if warm_up else []) + list(quarters):
            if part.clipped is None:
                continue
            start, end = part.first_step - 0.5, part.last_step + 0.5
            early = part is warm_up
            axes.bar(
                (start + end) / 2, part.clipped, end - start, color=style.PALE if early else style.IN_USE,
                edgecolor=style.DARK, lw=0.5, hatch="////" if early else None, label="quarter", zorder=2,
            )  # fmt: skip
            if end - start < 0.12 * width:
                continue
            words = percent(part.clipped) + (f", {part.verdict}" if part.verdict else "")
            inside = part.clipped > 0.6
            axes.annotate(
                words, ((start + end) / 2, part.clipped), (0, -7 if inside else 6), textcoords="offset points",
                ha="center", va="center", fontsize=style.SMALL, zorder=3,
            )  # fmt: skip
        scales = [p.mean_scale for p in quarters if p.mean_scale is not None]
        if scales:
            low, high = min(scales), max(scales)
            left = f"{low:.0%}" if f"{low:.0%}" == f"{high:.0%}" else f"{low:.0%} to {high:.0%}"
            labels = [f"leaves {left}", "of the gradient"]
            for i, text in enumerate(labels):
                axes.annotate(
                    text, (1.0, 0.5), (13, 5 - 9 * i), xycoords="axes fraction", textcoords="offset points",
                    va="center", fontsize=style.SMALL, color=style.DARK, annotation_clip=False,
                )  # fmt: skip
        axes.set_ylabel("clipped")
        step_axis(axes, limits, labelled=last)

    in_use = number(course.in_use) if course.in_use is not None else ""
    title = f"Share of the steps that {name} {in_use} clips, by quarter"
    return Panel(title=title, draw=draw, height=0.75, below=0.36 if last else 0.1, right=RIGHT)
