"""Figures over the norm -> panels: how often each norm occurs, what each threshold would clip, whether large norms do harm."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.markers import TICKDOWN

from clipcal.run.trace import Floats
from clipcal.views.figures.harm import LossAfter
from clipcal.views.figures.limits import change_limits, log_limits, within
from clipcal.views.figures.thresholds import ClippedShare, Distribution, Kind, Mark
from clipcal.views.image import style
from clipcal.views.image.labels import LINE, Flag, Label, along, fly, log_flags, num_rows, write, written_beside
from clipcal.views.image.scales import linear_axis, log_axis, share_axis
from clipcal.views.image.sheet import EDGE, RIGHT, Panel, half, height_of
from clipcal.views.image.style import TINY
from clipcal.views.words import number

LOOKS: dict[Kind, tuple[str, float, Any]] = {
    "chosen": (style.THRESHOLD, 1.4, "-"),
    "in use": (style.IN_USE, 1.5, style.IN_USE_DASHES),
    "candidate": (style.THRESHOLD, 0.8, (0, (4, 2))),
}
"""Of a threshold's line: colour, width, dashes. What others' rules say has none."""
INK: dict[Kind, str] = {"chosen": style.THRESHOLD, "in use": style.IN_USE_INK, "candidate": style.THRESHOLD}
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


def distribution_panel(d: Distribution, unit: str) -> Panel:
    _, width, _ = half(1)
    limits = within(float(d.edges[0]), float(d.edges[-1]))
    room = 72 * (RIGHT - EDGE)
    above = _flags(d.marks, limits, width, room)
    others = [m for m in d.marks if m.kind == "rule"]
    inside = [m for m in others if limits[0] <= m.value <= limits[1]]
    names = [Label(text=SHORT.get(m.key, m.name), at=m.value, color=style.RULE_INK) for m in inside]
    rules = log_flags(names, limits, width, room, size=TINY)

    def draw(axes: Axes) -> None:
        log_axis(axes, "x", limits, most=10)
        edges = np.clip(d.edges, *limits)
        bottom = np.zeros(d.stable.size)
        named = []
        for name, counts, color, hatch in (
            ("stable steps", d.stable, style.STABLE, None),
            ("spikes", d.spikes, style.SPIKE, "xxxx"),
            ("warm-up, end", d.others, style.PALE, "////"),
        ):
            if not counts.any():
                continue
            named.append((name if d.stable.any() or d.spikes.any() else "steps", color, hatch))
            axes.bar(
                edges[:-1], counts, np.diff(edges), bottom=bottom, align="edge", color=color, hatch=hatch,
                edgecolor="white" if hatch is None else style.DARK, lw=0.3, zorder=2, label=name,
            )  # fmt: skip
            bottom += counts
        linear_axis(axes, "y", (0.0, 1.06 * max(float(bottom.max()), 1.0)), most=4)
        _poles(axes, d.marks)
        fly(axes, above)
        for mark in inside:
            axes.plot(
                [mark.value], [0], marker=TICKDOWN, ms=4.5, mew=1.2, color=style.RULE_INK, clip_on=False, zorder=6,
                transform=axes.get_xaxis_transform(), ls="none",
            )  # fmt: skip
        fly(axes, rules, size=TINY, below=TICKS)
        _key(axes, named, d.left_out, [m for m in others if m not in inside])
        axes.set_ylabel("steps")
        written_beside(axes, unit, 0.0, (13, 0), fontsize=style.NORMAL)

    title = "How often each norm occurs" + "; below, where other people's rules lie" * bool(rules)
    below = (TICKS + 6 + num_rows(rules) * LINE * TINY / style.SMALL) / 72
    return Panel(title=title, draw=draw, height=1.25, above=height_of(above), below=below, right=RIGHT)


def share_panel(s: ClippedShare, unit: str, num_panels: int) -> Panel:
    right, width, most = half(num_panels)
    limits = within(float(s.thresholds[0]), float(s.thresholds[-1]))
    above = _flags(s.marks, limits, width)

    def draw(axes: Axes) -> None:
        share_axis(axes)
        log_axis(axes, "x", limits, most=most)
        if s.corridor is not None:
            low, high = max(s.corridor[0], limits[0]), min(s.corridor[1], limits[1])
            axes.axvspan(low, high, color=style.CORRIDOR, alpha=0.17, lw=0, zorder=0)
        thresholds = np.clip(s.thresholds, *limits)
        curves: list[tuple[str, str, Floats | None, Any]] = [
            ("stable steps" if s.is_stable else "steps", style.DARK, s.stable, "-"),
            ("spikes", style.SPIKE, s.spikes, (0, (6, 1.2, 1.2, 1.2))),
            ("gradient left", style.GREEN, s.scale, (0, (3, 1.2))),
        ]
        drawn = [(name, color, values) for name, color, values, _ in curves if values is not None]
        for name, color, values, dashes in curves:
            if values is not None:
                axes.plot(thresholds, values, color=color, ls=dashes, lw=1.3, zorder=3, label=name)
        _poles(axes, s.marks)
        fly(axes, above)
        along(axes, thresholds, drawn, [m.value for m in s.marks if m.kind in LOOKS])
        axes.set_xlabel(f"threshold on the {unit}", labelpad=2)

    title = "Share that a threshold clips; dashed: what it leaves"
    return Panel(title=title, draw=draw, height=1.5, above=height_of(above), right=right)


def loss_after_panel(h: LossAfter, unit: str, name: str, num_panels: int) -> Panel:
    """``name`` is what the threshold is called."""
    right, width, most = half(num_panels)
    marks = ((h.max_norm, name, style.THRESHOLD), (h.threshold, "compared at", style.BLACK))
    labels = [
        Label(text=f"{text} {number(v)}", at=v, color=c, bold=v == h.max_norm) for v, text, c in marks if v is not None
    ]
    ends = [float(h.norms.min()), float(h.norms.max()), *(v for v, _, _ in marks if v is not None)]
    limits = log_limits(ends, below=0.03, above=0.03)
    above = log_flags(labels, limits, width)

    def draw(axes: Axes) -> None:
        linear_axis(axes, "y", change_limits(h.changes, [h.change_above or 0.0, h.change_below or 0.0, 0.0]), most=5)
        log_axis(axes, "x", limits, most=most)
        is_large = h.norms > (np.inf if h.threshold is None else h.threshold)
        for part, color, mark, size in ((~is_large, style.GREY, "o", 2.0), (is_large, style.SPIKE, "^", 2.6)):
            axes.plot(
                h.norms[part], h.changes[part], ls="none", marker=mark, ms=size, mew=0, alpha=0.6, color=color, zorder=2,
                rasterized=h.norms.size > 800, label="steps",
            )  # fmt: skip
        axes.axhline(0.0, color=style.BLACK, lw=0.5, zorder=1)
        if h.threshold is not None and h.change_below is not None and h.change_above is not None:
            axes.axvline(h.threshold, color=style.BLACK, lw=0.6, ls=(0, (1, 1.6)), zorder=3)
            for x, y, side, shift in ((limits[0], h.change_below, "left", 2), (limits[1], h.change_above, "right", -2)):
                axes.plot([x, h.threshold], [y] * 2, color=style.BLACK, lw=1.6, zorder=4)
                write(
                    axes, f"median {y:+.2g}".replace("-", "−"), (x, y), (shift, 2), ha=side, va="bottom", zorder=6,
                    bbox={"facecolor": "white", "alpha": 0.75, "lw": 0, "pad": 0.8},
                )  # fmt: skip
        if h.max_norm is not None:
            axes.axvline(h.max_norm, color=style.THRESHOLD, lw=1.4, zorder=3.5)
        fly(axes, above)
        axes.set_ylabel("log change of the loss" if h.is_relative else "change of the loss, in sd")
        axes.set_xlabel(unit, labelpad=2)

    title = "Change of the loss around a step, by its norm"
    return Panel(title=title, draw=draw, height=1.5, above=height_of(above), right=right)


def _flags(marks: Sequence[Mark], limits: tuple[float, float], width: float, room: float = 0.0) -> list[Flag]:
    """Of the thresholds that have a line."""
    ours = [m for m in marks if m.kind in LOOKS]
    labels = [Label(text=_named(m.name, m), at=m.value, color=INK[m.kind], bold=m.kind != "candidate") for m in ours]
    return log_flags(labels, limits, width, room)


def _named(name: str, mark: Mark) -> str:
    return f"{name} {number(mark.value)}"


def _poles(axes: Axes, marks: Sequence[Mark]) -> None:
    for mark in marks:
        if mark.kind in LOOKS:
            color, width, dashes = LOOKS[mark.kind]
            axes.axvline(mark.value, color=color, lw=width, ls=dashes, zorder=4, label=mark.kind)


def _key(axes: Axes, named: Sequence[tuple[str, str, str | None]], left_out: int, beyond: Sequence[Mark]) -> None:
    """What the bars are, to the right of them, and what has no place on the axis."""
    for i, (name, color, hatch) in enumerate(named):
        y = -5 - 10.5 * i
        box = {"facecolor": color, "hatch": hatch, "edgecolor": style.DARK, "lw": 0.4, "boxstyle": "square,pad=0.35"}
        written_beside(axes, "      ", 1.0, (15, y), fontsize=4, bbox=box)
        written_beside(axes, name, 1.0, (30, y))
    notes = [(f"{left_out:,} zero or not finite", style.DARK)] if left_out else []
    for m in beyond[:4]:
        name = SHORT.get(m.key, m.name)
        side = "◂" if m.value < axes.get_xlim()[0] else "▸"
        notes.append((f"{side} {name if name == '1.0' else _named(name, m)}", style.RULE_INK))
    for i, (text, color) in enumerate(notes):
        shift = (14, -8 - 10.5 * len(named) - 8 * i)
        written_beside(axes, style.shortened(text, TINY, 72 * RIGHT - 21), 1.0, shift, fontsize=TINY, color=color)
