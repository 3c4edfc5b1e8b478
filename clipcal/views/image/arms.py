"""The arms of a verification -> panels: their losses and norms side by side, and the final loss of each, which is the key to their colours."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from matplotlib.axes import Axes
from matplotlib.ticker import FixedLocator, NullLocator

from clipcal.recommendation.answer import Method
from clipcal.views.figures.arms import Arms
from clipcal.views.figures.limits import Limits
from clipcal.views.figures.outcomes import Side, curves_of, ends, final_limits, losses, middle, norms, place_lost
from clipcal.views.image import style
from clipcal.views.image.labels import write
from clipcal.views.image.scales import fitting_axis
from clipcal.views.image.sheet import Panel
from clipcal.views.image.style import shortened, shown, width_of
from clipcal.views.words import number


class Look(NamedTuple):
    color: str
    dashes: Any


OTHERS = (
    Look(style.ORANGE, (0, (4, 1.2))),
    Look(style.GREEN, (0, (5, 1, 1, 1))),
    Look(style.PURPLE, (0, (2, 1))),
    Look(style.SKY, (0, (7, 1.2))),
    Look(style.VERMILLION, (0, (5, 1, 1, 1, 1, 1))),
    Look(style.GREY, (0, (1, 1))),
)
"""Of the arms besides the unclipped one, black, and the one that is judged, blue."""
INKS = (style.BLACK, style.THRESHOLD, style.VERMILLION)
"""Colours in which thin letters are read well."""
MARKERS = "os^Dv<>p*hX"
GLYPHS = {"o": "●", "s": "■", "^": "▲", "D": "◆", "v": "▼"}
MOST_NAME = 110.0
"""Points of an arm's name."""


def looks(arms: Arms) -> dict[str, Look]:
    """How each arm is drawn, by its name."""
    found: dict[str, Look] = {}
    others = iter(range(len(arms.names)))
    judged = {c.result.name for c in arms.curves if c.result.max_norm == arms.max_norm and "lr=" not in c.result.name}
    for name in arms.names:
        if name == "unclipped":
            found[name] = Look(style.BLACK, "-")
        elif name in judged:
            found[name] = Look(style.THRESHOLD, "-")
        else:
            found[name] = OTHERS[next(others) % len(OTHERS)]
    return found


def curves_row(arms: Arms, method: Method) -> list[Sequence[Panel]]:
    """The losses and the norms, side by side; empty where no arm has a trace."""
    if not arms.curves:
        return []
    threshold = arms.max_norm if method == "norm" else None
    thin = "Loss; thin: each seed, thick: running median of all"
    return [
        [
            _panel(arms, losses(arms), "loss", thin),
            _panel(arms, norms(arms, threshold), "gradient norm", "Norm before clipping", threshold),
        ]
    ]


def _panel(arms: Arms, side: Side, what: str, title: str, threshold: float | None = None) -> Panel:
    def draw(axes: Axes) -> None:
        fitting_axis(axes, "y", side.limits, most=6 if what == "loss" else 7)
        if threshold is not None:
            axes.axhline(threshold, color=style.THRESHOLD, lw=0.8, ls=(0, (4, 2)), zorder=4)
            write(
                axes, f"max_norm {number(threshold)}", (1.0, threshold), (0, 2), xycoords=("axes fraction", "data"), ha="right",
                va="bottom", color=style.THRESHOLD, zorder=6, bbox={"facecolor": "white", "alpha": 0.7, "lw": 0, "pad": 0.6},
            )  # fmt: skip
        values = {id(c): v for c, v in zip(arms.curves, side.values, strict=True)}
        for order, (name, look) in enumerate(looks(arms).items()):
            mine = [(c, values[id(c)]) for c in curves_of(arms, name)]
            thin: dict[str, Any] = {
                "color": look.color,
                "lw": 0.5,
                "alpha": 0.35 if len(mine) > 1 else 1,
                "label": name,
            }
            for c, y in mine:
                axes.plot(c.steps, y, zorder=2, **thin)
            if len(mine) > 1:
                thick: dict[str, Any] = {"color": look.color, "ls": look.dashes, "lw": 1.3, "label": f"{name}, median"}
                axes.plot(*middle([(c.steps, y) for c, y in mine]), zorder=3 + 0.01 * order, **thick)
            for at in (place_lost(c, y, side.limits) for c, y in mine):
                if at is not None:
                    axes.plot(
                        *([v] for v in at), marker="X", ms=6, mew=0.6, mec="white", color=look.color, zorder=7, clip_on=False,
                        ls="none", label="lost",
                    )  # fmt: skip
        axes.set_ylabel(what)

    longest = max(arms.curves, key=lambda c: c.steps[-1] - c.steps[0])
    return Panel(title=title, draw=draw, height=2.3, steps=longest.steps)


def final_panel(arms: Arms) -> Panel:
    """A row per arm, which is also the key to the colours, and a mark per seed."""
    look, found, limits = looks(arms), ends(arms), final_limits(ends(arms))
    any_lost = any(end.lost for end in found)
    marks = {seed: MARKERS[i % len(MARKERS)] for i, seed in enumerate(arms.seeds)}
    room = min(max((width_of(shown(n), style.SMALL) for n in arms.names), default=0.0), MOST_NAME) + 34

    def draw(axes: Axes) -> None:
        _final_axis(axes, limits, any_lost=any_lost, any_ends=any(end.finals for end in found))
        for i, end in enumerate(found):
            color = look[end.name].color
            axes.plot(limits.ends, [i, i], color=style.PALE, lw=0.6, zorder=0)
            if end.median is not None:
                bar: dict[str, Any] = {"lw": 1.4, "zorder": 3, "solid_capstyle": "butt"}
                axes.plot([end.median] * 2, [i - 0.36, i + 0.36], color=color, **bar)
            for seed, loss in end.finals:
                axes.plot(
                    [loss], [i], marker=marks[seed], ms=4.2, mew=0.5, mec="white", ls="none", color=color, zorder=4,
                    label=f"{end.name}, seed {seed}",
                )  # fmt: skip
            _name(axes, i, end.name, look[end.name])
            if end.lost:
                first, last = end.lost[0], end.lost[-1]
                where = f"{first:,}" if first == last else f"{first:,} to {last:,}"
                some = "" if len(end.lost) == end.num_seeds else f"{len(end.lost)} of {end.num_seeds} "
                write(axes, f"× {some}lost at {where}", (limits.ends[1], i), (5, 0), color=style.BLACK)
        axes.set_ylim(len(found) - 0.4, -0.6)
        axes.yaxis.set_major_locator(NullLocator())
        axes.set_xlabel("final loss: median of the last fifth of the steps", labelpad=2)
        axes.spines["left"].set_visible(False)

    key = ", ".join(f"{GLYPHS[marks[s]]} seed {s}" for s in arms.seeds) if 1 < len(arms.seeds) <= len(GLYPHS) else ""
    title = "Final loss of each arm" + (f": {key}; bar: their median" if key else "")
    return Panel(title=title, draw=draw, height=0.19 * max(len(found), 2) + 0.1, right=room / 72)


def _final_axis(axes: Axes, limits: Limits, *, any_lost: bool, any_ends: bool) -> None:
    """With a part at the right, shaded and without ticks, for the arms that are lost."""
    low, high = limits.ends
    end = high
    if any_lost:
        end = high * (high / low) ** 0.45 if limits.is_log else high + 0.45 * (high - low)
    fitting_axis(axes, "x", Limits((low, end), limits.is_log), most=7)
    if any_lost:
        axes.axvspan(high, end, color=style.PALE, lw=0, zorder=0)
        places = [t for t in axes.get_xticks() if low <= t <= high]
        axes.xaxis.set_major_locator(FixedLocator(places if any_ends else []))
        axes.xaxis.set_minor_locator(NullLocator())


def _name(axes: Axes, row: int, name: str, look: Look) -> None:
    at: dict[str, Any] = {"xycoords": ("axes fraction", "data")}
    line = {"arrowstyle": "-", "color": look.color, "lw": 1.5, "ls": look.dashes, "shrinkA": 0, "shrinkB": 6}
    axes.annotate("", (1.0, row), (26, 0), arrowprops=line, textcoords="offset points", **at)
    ink = look.color if look.color in INKS else style.DARK
    write(axes, shortened(name, style.SMALL, MOST_NAME), (1.0, row), (30, 0), color=ink, **at)
