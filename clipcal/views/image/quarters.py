"""The parts of a checked run -> a panel over the steps: how often the threshold in use acts in each."""

from __future__ import annotations

from matplotlib.axes import Axes

from clipcal.checking import Check
from clipcal.views.figures.course import Course
from clipcal.views.image import style
from clipcal.views.image.labels import write, written_beside
from clipcal.views.image.scales import share_axis
from clipcal.views.image.sheet import RIGHT, Panel
from clipcal.views.image.style import percent
from clipcal.views.words import number


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
