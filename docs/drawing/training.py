"""Trained runs -> what large norms do to the loss, and what clipping them came to."""

from __future__ import annotations

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter

from clipcal.recommendation.evidence import load
from clipcal.run.directory import Run
from clipcal.run.trace import Floats
from clipcal.stats.harm import loss_changes, loss_response
from clipcal.views.figures.arms import Arms, arms
from clipcal.views.figures.limits import log_limits, step_limits
from clipcal.views.image import style
from clipcal.views.image.labels import Label, beside
from clipcal.views.image.scales import linear_axis, log_axis, step_axis
from drawing.norms import BLUE_INK, course
from drawing.runs import BURSTS, CALM, OUTLIERS, Training, made, read, steady
from drawing.sheet import TEXT, place, sheet, title, write

INK = {style.ORANGE: "#A86F00"}
"""Letters in a colour that is too light for them."""


def harm() -> Figure:
    figure = sheet(350)
    for training, left, heading, color, percents in (
        (BURSTS, 84, "After large norms the loss rises: clip", style.SPIKE, (-50, 0, 100, 200)),
        (CALM, 458, "It falls as ever: leave them", style.THRESHOLD, (-20, -10, 0, 10, 20)),
    ):
        title(figure, left - 66, 30, heading, color=color)
        axes = place(figure, left, 50, left + 282, 294)
        _changes(axes, training)
        logs = np.log1p(np.array(percents) / 100)  # which is how a change is measured
        axes.yaxis.set_major_locator(FixedLocator([*logs]))
        axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: _signed(float(np.expm1(value)))))
        if left < 100:
            axes.set_ylabel("change of the loss", labelpad=0)
    return figure


def _changes(axes: Axes, training: Training) -> None:
    evidence, _ = read(training)
    excess, losses = steady(evidence.norms).excess, evidence.trace.loss
    response = loss_response(excess, losses)
    assert response is not None
    found = response.clearest
    assert found is not None
    changes = loss_changes(losses)
    known = np.isfinite(changes) & np.isfinite(excess)
    x, y = excess[known], changes[known]
    is_large = x > found.level
    low, high = np.quantile(y, [0.005, 0.995])
    linear_axis(axes, "y", (1.35 * float(low), 1.35 * float(high)), most=5)
    limits = log_limits(x, below=0.03, above=0.03)
    log_axis(axes, "x", limits, most=6)
    for part, color, mark in ((~is_large, style.GREY, "o"), (is_large, style.SPIKE, "^")):
        axes.plot(
            x[part],
            y[part],
            ls="none",
            marker=mark,
            ms=5 if mark == "^" else 3.5,
            mew=0,
            alpha=0.6,
            color=color,
            zorder=2,
        )
    axes.axhline(0.0, color=style.BLACK, lw=0.8, zorder=1)
    axes.axvline(found.level, color=style.BLACK, lw=1.0, ls=(0, (1, 1.6)), zorder=3)
    for ends, height, side in (
        ((limits[0], found.level), found.change_below, "left"),
        ((found.level, limits[1]), found.change_above, "right"),
    ):
        axes.plot(ends, [height] * 2, color=style.BLACK, lw=2.6, zorder=4)
        at, shift = (ends[0], 4) if side == "left" else (ends[1], -4)
        away, va = (6, "bottom") if height > 0 else (-6, "top")
        words = _signed(float(np.expm1(height)))
        write(axes, words, (at, height), (shift, away), ha=side, va=va, fontweight="bold")
    axes.set_xlabel("norm, times the local median", labelpad=2)


def _signed(share: float) -> str:
    """−8%, +24%, 0%."""
    return f"{share:+.0%}".replace("-", "−") if abs(share) >= 0.005 else "0%"


def race() -> Figure:
    run = made(OUTLIERS)
    found = arms(run)
    assert found is not None
    figure = sheet(360)
    title(figure, 18, 30, "Candidates trained side by side,", more="3 seeds each, and what their losses end at")
    axes = place(figure, 64, 48, 524, 306)
    looks = {
        "unclipped": (style.BLACK, 2.0),
        "snug": (style.GREEN, 2.0),
        "firm": (style.ORANGE, 2.0),
        "gentle": (style.THRESHOLD, 3.2),
    }
    labels, tops = [], []
    for name, arm in _named(run, found).items():
        steps, losses = _middle(found, arm)
        color, width = looks[name]
        axes.plot(steps, losses, color=color, lw=width, zorder=3 + (name == "gentle"))
        final = float(np.mean([c.result.final_loss for c in found.curves if c.result.name == arm]))
        norm = f" {arm.rpartition('=')[2]}" if "=" in arm else ""
        chosen = arm == f"max_norm={found.max_norm:g}"
        labels.append(
            Label(
                text=f"{name}{norm}: {final:.2f}{', chosen' * chosen}",
                at=final,
                color=INK.get(color, color),
                bold=chosen,
            )
        )
        tops.append(float(np.quantile(losses, 0.99)))
    linear_axis(axes, "y", (0.0, max(tops)), most=5)
    step_axis(axes, step_limits(found.curves[0].steps), labelled=True)
    axes.set_ylabel("loss")
    beside(axes, labels, width=215, size=TEXT)
    return figure


def _named(run: Run, found: Arms) -> dict[str, str]:
    """The arms by what they are: unclipped, then from the gentlest to the tightest."""
    candidates = load(run.folder).recommend().candidates
    names = {candidates.gentle: "gentle", candidates.firm: "firm"}
    by_name = {"unclipped": "unclipped"}
    for c in found.curves:
        if c.result.max_norm is not None:
            by_name[names.get(c.result.max_norm, "snug")] = c.result.name
    return by_name


def _middle(found: Arms, name: str) -> tuple[Floats, Floats]:
    """The median over the seeds of an arm's smoothed loss."""
    mine = [c for c in found.curves if c.result.name == name]
    return mine[0].steps, np.median([c.trend for c in mine], axis=0)


def readme() -> Figure:
    run = made(OUTLIERS)
    evidence, found = load(run.folder), arms(run)
    assert found is not None
    norms, stable = evidence.norms, steady(evidence.norms)
    calm = norms[stable.stable_rows]
    figure = sheet(300)
    title(figure, 18, 30, "Gradient norm at each training step")
    axes = place(figure, 52, 46, 394, 248)
    log_axis(axes, "y", log_limits([float(np.quantile(calm, 0.002)), float(norms.max())]), most=4)
    ends = float(np.quantile(calm, 0.01)), float(np.quantile(calm, 0.99))
    course(axes, evidence.trace.step.astype(np.float64), norms, stable.spike_rows, ends, found.max_norm)
    _three_steps(axes, norms.size)
    spikes = norms[stable.spike_rows]
    labels = [
        Label(text=f"{spikes.size} spikes", at=float(np.median(spikes)), color=style.SPIKE, bold=True),
        Label(text=f"clip here: {found.max_norm:g}", at=found.max_norm, color=style.THRESHOLD, bold=True),
        Label(text="stable training", at=float(np.median(calm)), color=BLUE_INK),
    ]
    beside(axes, labels, width=140, size=TEXT)
    title(figure, 556, 30, "Loss, 3 seeds")
    _outcome(place(figure, 584, 46, 732, 248), found, norms.size)
    return figure


def _outcome(axes: Axes, found: Arms, num_steps: int) -> None:
    top = 0.0
    for name, color in (("unclipped", style.DARK), (f"max_norm={found.max_norm:g}", style.THRESHOLD)):
        for c in (c for c in found.curves if c.result.name == name):
            axes.plot(c.steps, c.trend, color=color, lw=1.6, zorder=3 + (name != "unclipped"))
            top = max(top, float(c.trend.max()))
    linear_axis(axes, "y", (0.0, top), most=3)
    _three_steps(axes, num_steps)
    write(axes, "unclipped", (num_steps, 0.83 * top), ha="right", fontweight="bold", color=style.DARK)
    write(axes, "clipped", (0.02 * num_steps, 0.14 * top), fontweight="bold", color=style.THRESHOLD)


def _three_steps(axes: Axes, num_steps: int) -> None:
    step_axis(axes, (-0.01 * num_steps, 1.01 * num_steps), labelled=True)
    axes.xaxis.set_major_locator(FixedLocator([0, num_steps / 2, num_steps]))
    axes.set_xlabel("training step", labelpad=2)
