"""The arms of a verification -> a panel: the final loss of each arm and seed, which is also the key to their colours."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import FixedLocator, NullLocator

from clipcal.views.figures.arms import ArmCurve, Arms
from clipcal.views.image import style
from clipcal.views.image.arms import Look, looks
from clipcal.views.image.scales import linear_axis, linear_limits, log_axis, log_limits
from clipcal.views.image.sheet import Panel
from clipcal.views.image.style import shortened, shown, width_of

MARKERS = "os^Dv<>p*hX"


def final_panel(arms: Arms) -> Panel:
    """A row per arm, which is also the key to the colours, and a mark per seed."""
    look = looks(arms)
    seeds = sorted({c.result.seed for c in arms.curves})
    marks = {seed: MARKERS[i % len(MARKERS)] for i, seed in enumerate(seeds)}
    names = list(arms.names)
    widest = max((width_of(shown(n), style.SMALL) for n in names), default=0.0)
    room = min(widest, 110.0) + 34
    height = 0.19 * max(len(names), 2) + 0.1

    def draw(axes: Axes) -> None:
        finals = [
            c.result.final_loss
            for c in arms.curves
            if c.result.diverged_at is None and math.isfinite(c.result.final_loss)
        ]
        any_lost = any(_is_lost(c) for c in arms.curves)
        far_apart = bool(finals) and 0 < 20 * min(finals) < max(finals)
        limits = log_limits(finals, below=0.08, above=0.08) if far_apart else linear_limits(finals, room=0.08)
        end = limits[1]
        if any_lost:
            end = end * (end / limits[0]) ** 0.45 if far_apart else end + 0.45 * (end - limits[0])
        (log_axis if far_apart else linear_axis)(axes, "x", (limits[0], end), most=7)
        if any_lost:
            axes.axvspan(limits[1], end, color=style.PALE, lw=0, zorder=0)
            places = [t for t in axes.get_xticks() if limits[0] <= t <= limits[1]]
            axes.xaxis.set_major_locator(FixedLocator(places if finals else []))
            axes.xaxis.set_minor_locator(NullLocator())
        for i, name in enumerate(names):
            mine = [c for c in arms.curves if c.result.name == name]
            ends = [c.result.final_loss for c in mine if not _is_lost(c)]
            axes.plot([limits[0], limits[1]], [i, i], color=style.PALE, lw=0.6, zorder=0)
            if ends:
                axes.plot(
                    [float(np.median(ends))] * 2,
                    [i - 0.36, i + 0.36],
                    color=look[name].color,
                    lw=1.4,
                    zorder=3,
                    solid_capstyle="butt",
                )
            for c in mine:
                if not _is_lost(c):
                    axes.plot(
                        [c.result.final_loss], [i], marker=marks[c.result.seed], ms=4.2, mew=0.5, mec="white", ls="none",
                        color=look[name].color, zorder=4, label=f"{name}, seed {c.result.seed}",
                    )  # fmt: skip
            _name(axes, i, name, look[name])
            lost = sorted(c.result.diverged_at or 0 for c in mine if _is_lost(c))
            if lost:
                where = f"{lost[0]:,}" if lost[0] == lost[-1] else f"{lost[0]:,} to {lost[-1]:,}"
                some = "" if len(lost) == len(mine) else f"{len(lost)} of {len(mine)} "
                axes.annotate(
                    f"× {some}lost at {where}", (limits[1], i), (5, 0), textcoords="offset points", va="center",
                    fontsize=style.SMALL, color=style.BLACK,
                )  # fmt: skip
        axes.set_ylim(len(names) - 0.4, -0.6)
        axes.yaxis.set_major_locator(NullLocator())
        axes.set_xlabel("final loss: median of the last fifth of the steps", labelpad=2)
        axes.spines["left"].set_visible(False)

    glyphs = {"o": "●", "s": "■", "^": "▲", "D": "◆", "v": "▼"}
    key = ", ".join(f"{glyphs[marks[s]]} seed {s}" for s in seeds) if 1 < len(seeds) <= 5 else ""
    title = "Final loss of each arm" + (f": {key}; bar: their median" if key else "")
    return Panel(title=title, draw=draw, height=height, right=room / 72)


def _is_lost(c: ArmCurve) -> bool:
    return c.result.diverged_at is not None or not math.isfinite(c.result.final_loss)


def _name(axes: Axes, row: int, name: str, look: Look) -> None:
    at: dict[str, Any] = {
        "xycoords": ("axes fraction", "data"),
        "textcoords": "offset points",
        "annotation_clip": False,
    }
    axes.annotate(
        "", (1.0, row), (26, 0), arrowprops={"arrowstyle": "-", "color": look.color, "lw": 1.5, "ls": look.dashes,
                                             "shrinkA": 0, "shrinkB": 6}, **at,
    )  # fmt: skip
    axes.annotate(
        shortened(name, style.SMALL, 110.0), (1.0, row), (30, 0), va="center", fontsize=style.SMALL, color=look.color
        if look.color in (style.BLACK, style.THRESHOLD, style.VERMILLION) else style.DARK, **at,
    )  # fmt: skip
