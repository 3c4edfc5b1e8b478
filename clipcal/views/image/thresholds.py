"""Figures over the norm -> panels: how often each norm occurs, what each threshold would clip, where candidates and rules lie."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.markers import TICKDOWN

from clipcal.run.trace import Floats
from clipcal.views.figures.thresholds import ClippedShare, Distribution, Kind, Mark
from clipcal.views.image import style
from clipcal.views.image.labels import LINE, Flag, Label, flags, fly
from clipcal.views.image.naming import along
from clipcal.views.image.scales import linear_axis, log_axis, share_axis, within
from clipcal.views.image.sheet import EDGE, RIGHT, Panel, inner_width
from clipcal.views.image.style import number

LOOKS: dict[Kind, tuple[str, float, Any]] = {
    "chosen": (style.THRESHOLD, 1.4, "-"),
    "in use": (style.IN_USE, 1.5, (0, (5, 1.5, 1, 1.5))),
    "candidate": (style.THRESHOLD, 0.8, (0, (4, 2))),
    "rule": (style.RULE, 0.6, "-"),
}
"""Of a threshold's line: colour, width, dashes."""
INK: dict[Kind, str] = {"chosen": style.THRESHOLD, "in use": "#A86F00", "candidate": style.THRESHOLD, "rule": "#8A4A72"}
"""The colours of their names: darker where thin letters would be hard to read."""
SHORT = {
    "default_1.0": "1.0",
    "median": "median",
    "p90": "p90",
    "autoclip_p10": "AutoClip",
    "zclip": "ZClip",
    "pascanu_mean": "mean",
    "pascanu_0.5x": "½ mean",
    "pascanu_5x": "5 × mean",
    "pascanu_10x": "10 × mean",
    "median_2x": "2 × median",
    "median_3mad": "median + 3 MAD",
    "p95": "p95",
    "p99": "p99",
    "tukey": "Tukey",
    "mean_2.5sd": "mean + 2.5 sd",
}
"""Other people's rules, by their keys: a picture has room for a word or two."""
TICKS = 15.0
"""Points that the numbers take under the axis."""
TINY = 6.2


def distribution_panel(d: Distribution, unit: str) -> Panel:
    width = inner_width(1, RIGHT)
    limits = within(float(d.edges[0]), float(d.edges[-1]))
    edges = np.clip(d.edges, *limits)
    above = _flags([m for m in d.marks if m.kind != "rule"], limits, width, 72 * (RIGHT - EDGE))
    inside = [m for m in d.marks if m.kind == "rule" and limits[0] <= m.value <= limits[1]]
    rules = flags(
        [Label(text=SHORT.get(m.key, m.name), at=m.value, color=INK["rule"]) for m in inside], _places(inside, limits, width), width,
        72 * (RIGHT - EDGE), size=TINY,
    )  # fmt: skip
    beyond = [m for m in d.marks if m.kind == "rule" and m not in inside]

    def draw(axes: Axes) -> None:
        log_axis(axes, "x", limits, most=10)
        kinds = (
            ("stable steps", d.stable, style.STABLE, None),
            ("spikes", d.spikes, style.SPIKE, "xxxx"),
            ("warm-up, end", d.others, style.PALE, "////"),
        )
        bottom = np.zeros(d.stable.size)
        widths = np.diff(edges)
        named = []
        for name, counts, color, hatch in kinds:
            if not counts.any():
                continue
            named.append((name if d.stable.any() or d.spikes.any() else "steps", color, hatch))
            axes.bar(
                edges[:-1], counts, widths, bottom=bottom, align="edge", color=color, hatch=hatch,
                edgecolor="white" if hatch is None else style.DARK, lw=0.3, zorder=2, label=name,
            )  # fmt: skip
            bottom += counts
        linear_axis(axes, "y", (0.0, 1.06 * max(float(bottom.max()), 1.0)), most=4)
        _poles(axes, d.marks)
        fly(axes, above, size=style.SMALL)
        for mark in inside:
            axes.plot(
                [mark.value], [0], marker=TICKDOWN, ms=4.5, mew=1.2, color=INK["rule"], clip_on=False, zorder=6,
                transform=axes.get_xaxis_transform(), ls="none",
            )  # fmt: skip
        fly(axes, rules, size=TINY, below=TICKS)
        _key(axes, named, d.left_out, beyond)
        axes.set_ylabel("steps")
        axes.annotate(unit, (1.0, 0.0), (13, 0), xycoords="axes fraction", textcoords="offset points", va="center",
                      annotation_clip=False)  # fmt: skip

    num_rules = max((f.row for f in rules), default=-1) + 1
    return Panel(
        title="How often each norm occurs; below, where other people's rules lie"
        if rules
        else "How often each norm occurs",
        draw=draw,
        height=1.25,
        above=_height(above) / 72,
        below=(TICKS + 6 + num_rules * LINE * TINY / style.SMALL) / 72,
        right=RIGHT,
    )


def share_panel(s: ClippedShare, unit: str, num_panels: int) -> Panel:
    limits = within(float(s.thresholds[0]), float(s.thresholds[-1]))
    width = inner_width(num_panels, RIGHT if num_panels == 1 else EDGE)
    above = _flags([m for m in s.marks if m.kind != "rule"], limits, width, 0.0)

    def draw(axes: Axes) -> None:
        share_axis(axes)
        log_axis(axes, "x", limits, most=9 if num_panels == 1 else 6)
        if s.corridor is not None:
            low, high = max(s.corridor[0], limits[0]), min(s.corridor[1], limits[1])
            axes.axvspan(low, high, color=style.CORRIDOR, alpha=0.17, lw=0, zorder=0)
        what = "stable steps" if s.is_stable else "steps"
        thresholds = np.clip(s.thresholds, *limits)
        curves: list[tuple[Floats, str, Any, str]] = [
            (s.stable, style.DARK, "-", what),
            (s.scale, style.GREEN, (0, (3, 1.2)), "gradient left"),
        ]
        if s.spikes is not None:
            curves.insert(1, (s.spikes, style.SPIKE, (0, (6, 1.2, 1.2, 1.2)), "spikes"))
        for values, color, dashes, name in curves:
            axes.plot(thresholds, values, color=color, ls=dashes, lw=1.3, zorder=3, label=name)
        _poles(axes, s.marks)
        fly(axes, above, size=style.SMALL)
        along(axes, thresholds, [(c[3], c[1], c[0]) for c in curves], [m.value for m in s.marks if m.kind != "rule"])
        axes.set_xlabel(f"threshold on the {unit}", labelpad=2)

    return Panel(
        title="Share that a threshold clips; dashed: what it leaves", draw=draw, height=1.5, above=_height(above) / 72,
        right=RIGHT if num_panels == 1 else EDGE,
    )  # fmt: skip


def _flags(marks: Sequence[Mark], limits: tuple[float, float], width: float, room: float) -> list[Flag]:
    labels = [
        Label(text=f"{m.name} {number(m.value)}", at=m.value, color=INK[m.kind], bold=m.kind != "candidate")
        for m in marks
    ]
    return flags(labels, _places(marks, limits, width), width, room, size=style.SMALL)


def _places(marks: Sequence[Mark], limits: tuple[float, float], width: float) -> list[float]:
    low, high = math.log10(limits[0]), math.log10(limits[1])
    return [width * min(max((math.log10(m.value) - low) / (high - low), 0.0), 1.0) for m in marks]


def _height(placed: Sequence[Flag]) -> float:
    return LINE * (max((f.row for f in placed), default=-1) + 1) + 2


def _worded(rule: Mark) -> str:
    name = SHORT.get(rule.key, rule.name)
    return name if name == "1.0" else f"{name} {number(rule.value)}"


def _poles(axes: Axes, marks: Sequence[Mark]) -> None:
    for mark in marks:
        if mark.kind != "rule":
            color, width, dashes = LOOKS[mark.kind]
            axes.axvline(mark.value, color=color, lw=width, ls=dashes, zorder=4, label=mark.kind)


def _key(axes: Axes, named: Sequence[tuple[str, str, str | None]], left_out: int, beyond: Sequence[Mark]) -> None:
    """What the bars are, to the right of them, and what has no place on the axis."""
    for i, (name, color, hatch) in enumerate(named):
        y = -5 - 10.5 * i
        axes.annotate(
            "      ", (1.0, 1.0), (15, y), xycoords="axes fraction", textcoords="offset points", fontsize=4,
            va="center", annotation_clip=False,
            bbox={"facecolor": color, "hatch": hatch, "edgecolor": style.DARK, "lw": 0.4, "boxstyle": "square,pad=0.35"},
        )  # fmt: skip
        axes.annotate(
            name, (1.0, 1.0), (30, y), xycoords="axes fraction", textcoords="offset points", fontsize=style.SMALL,
            va="center", annotation_clip=False,
        )  # fmt: skip
    notes = [f"{left_out:,} zero or not finite"] if left_out else []
    notes += [f"{'◂' if m.value < axes.get_xlim()[0] else '▸'} {_worded(m)}" for m in beyond[:4]]
    for i, text in enumerate(notes):
        axes.annotate(
            style.shortened(text, TINY, 72 * RIGHT - 21), (1.0, 1.0), (14, -8 - 10.5 * len(named) - 8 * i), xycoords="axes fraction",
            textcoords="offset points", fontsize=TINY, va="center", color=style.DARK if i < bool(left_out) else INK["rule"],
            annotation_clip=False,
        )  # fmt: skip
