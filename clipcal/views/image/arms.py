"""The arms of a verification -> panels: their losses and norms side by side, and where each of them ends."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.axes import Axes

from clipcal.recommendation.answer import Method
from clipcal.run.directory import Run
from clipcal.run.trace import Floats
from clipcal.views.figures.arms import ArmCurve, Arms
from clipcal.views.image import style
from clipcal.views.image.scales import log_axis, log_limits, loss_axis, positive, step_axis, step_limits
from clipcal.views.image.sheet import Headline, Panel
from clipcal.views.image.style import number
from clipcal.views.terminal import console

OTHERS: tuple[tuple[str, Any], ...] = (
    (style.ORANGE, (0, (4, 1.2))),
    (style.GREEN, (0, (5, 1, 1, 1))),
    (style.PURPLE, (0, (2, 1))),
    (style.SKY, (0, (7, 1.2))),
    (style.VERMILLION, (0, (5, 1, 1, 1, 1, 1))),
    (style.GREY, (0, (1, 1))),
)
"""Colour and dashes of the arms besides the unclipped one, black, and the one that is judged, blue."""
NUM_PIECES = 60
"""Of a running median: so few that dashes can be told apart."""


@dataclass(frozen=True, kw_only=True)
class Look:
    color: str
    dashes: Any


def headline(arms: Arms, run: Run) -> Headline:
    answer = f"{console.label(run.info.method)} {arms.max_norm:g}: {arms.verdict.replace('_', ' ')}"
    said = ""
    seeds = {c.result.seed for c in arms.curves}
    if arms.comparison is not None:
        difference, interval = arms.comparison
        said = f"final loss {difference:+.3g}" + (
            f" (90%: {interval[0]:+.3g} to {interval[1]:+.3g})" if interval else ""
        )
        said += " against unclipped, "
    said += f"{len(seeds)} seed{'s' * (len(seeds) != 1)}"
    reason = arms.reasons[0] if arms.reasons else ""
    return Headline(answer=answer, said=said.replace("-", "−"), source=str(run.folder), more=reason)


def looks(arms: Arms) -> dict[str, Look]:
    """How each arm is drawn, by its name."""
    found: dict[str, Look] = {}
    others = iter(range(len(arms.names)))
    judged = {c.result.name for c in arms.curves if c.result.max_norm == arms.max_norm and "lr=" not in c.result.name}
    for name in arms.names:
        if name == "unclipped":
            found[name] = Look(color=style.BLACK, dashes="-")
        elif name in judged:
            found[name] = Look(color=style.THRESHOLD, dashes="-")
        else:
            color, dashes = OTHERS[next(others) % len(OTHERS)]
            found[name] = Look(color=color, dashes=dashes)
    return found


def curves_row(arms: Arms, method: Method) -> list[Sequence[Panel]]:
    """The losses and the norms, side by side; empty where no arm has a trace."""
    if not arms.curves:
        return []
    row = [_panel(arms, "loss", None), _panel(arms, "gradient norm", arms.max_norm if method == "norm" else None)]
    return [row]


def _panel(arms: Arms, what: str, threshold: float | None) -> Panel:
    is_loss = what == "loss"

    def draw(axes: Axes) -> None:
        values = {id(c): c.losses if is_loss else positive(c.norms) for c in arms.curves}
        before = [
            v[c.steps < (math.inf if c.result.diverged_at is None else c.result.diverged_at)]
            for c in arms.curves
            for v in [values[id(c)]]
        ]
        known = np.concatenate(before)
        if is_loss:
            loss_axis(axes, known, most=6, usual=0.97, room=0.5)
        else:
            finite = known[np.isfinite(known)]
            far = finite if finite.size else np.concatenate([*values.values()])
            far = far[np.isfinite(far)]
            ends = []
            if far.size:
                low, high = (float(q) for q in np.quantile(far, [0.01, 0.9]))
                ends = [max(float(far.min()), low / 30), min(float(far.max()), 100 * high)]
            log_axis(axes, "y", log_limits([*ends, *([threshold] if threshold else [])]), most=7)
        if threshold is not None:
            axes.axhline(threshold, color=style.THRESHOLD, lw=0.8, ls=(0, (4, 2)), zorder=4)
            axes.annotate(
                f"max_norm {number(threshold)}", (1.0, threshold), (0, 2), xycoords=("axes fraction", "data"), ha="right",
                textcoords="offset points", va="bottom", fontsize=style.SMALL, color=style.THRESHOLD, zorder=6,
                bbox={"facecolor": "white", "alpha": 0.7, "lw": 0, "pad": 0.6},
            )  # fmt: skip
        for order, (name, look) in enumerate(looks(arms).items()):
            mine = [c for c in arms.curves if c.result.name == name]
            for c in mine:
                axes.plot(
                    c.steps,
                    values[id(c)],
                    color=look.color,
                    lw=0.5,
                    alpha=0.35 if len(mine) > 1 else 1,
                    zorder=2,
                    label=name,
                )
            if len(mine) > 1:
                steps, middle = _middle([(c.steps, values[id(c)]) for c in mine])
                axes.plot(
                    steps,
                    middle,
                    color=look.color,
                    ls=look.dashes,
                    lw=1.3,
                    zorder=3 + 0.01 * order,
                    label=f"{name}, median",
                )
            _lost(axes, mine, [values[id(c)] for c in mine], look)
        longest = max(arms.curves, key=lambda c: c.steps[-1] - c.steps[0])
        step_axis(axes, step_limits(longest.steps), labelled=True)
        axes.set_ylabel(what)

    title = "Loss; thin: each seed, thick: running median of all" if is_loss else "Norm before clipping"
    return Panel(title=title, draw=draw, height=2.3)


def _lost(axes: Axes, curves: Sequence[ArmCurve], values: Sequence[Floats], look: Look) -> None:
    low, high = axes.get_ylim()
    for c, y in zip(curves, values, strict=True):
        if c.result.diverged_at is not None:
            row = int(np.clip(np.searchsorted(c.steps, c.result.diverged_at), 0, y.size - 1))
            height = float(np.clip(y[row], low, high)) if np.isfinite(y[row]) else high
            axes.plot(
                [c.steps[row]], [height], marker="X", ms=6, mew=0.6, mec="white", color=look.color, zorder=7, clip_on=False,
                ls="none", label="lost",
            )  # fmt: skip


def _middle(curves: Sequence[tuple[Floats, Floats]]) -> tuple[Floats, Floats]:
    """The median over the seeds that have a value and over some steps, at the steps of the longest curve."""
    grid = max((steps for steps, _ in curves), key=lambda s: (s[-1], s.size))
    rows = np.array([np.interp(grid, steps, y, right=np.nan) for steps, y in curves])
    pieces = [p for p in np.array_split(np.arange(grid.size), min(grid.size, NUM_PIECES)) if p.size]
    values = [rows[:, p][np.isfinite(rows[:, p])] for p in pieces]
    return np.array([grid[p].mean() for p in pieces]), np.array([np.median(v) if v.size else np.nan for v in values])
