"""The results of the benchmarks -> how wide an interval is and whether it holds, and what each rule costs."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

from clipcal.views.image import style
from clipcal.views.image.scales import linear_axis, log_axis
from drawing.runs import ROOT
from drawing.sheet import TICKS, place, sheet, title, write

STEPS = (50, 200, 1000, 5000)
PROMISED = 90.0
OURS = ("clipcal calibrate", "clipcal recommend")
NAMES = {
    "pascanu_mean": "mean of the norms",
    "median": "median",
    "package zclip": "zclip, as shipped",
    "default_1.0": "1.0",
    "pascanu_0.5x": "half the mean",
    "median_2x": "2 × median",
    "p90": "90% point",
    "zclip": "ZClip's, after the profile",
    "package autoclip": "autoclip, as shipped",
    "p95": "95% point",
    "autoclip_p10": "AutoClip's, after the profile",
    "package zclip alone": "zclip, without its cap",
    "package autoclip p10": "autoclip, 10% point",
    "tukey": "Tukey's fence",
    "median_3mad": "median + 3 MAD",
    "mean_2.5sd": "mean + 2.5 sd",
    "pascanu_5x": "5 × mean",
    "p99": "99% point",
    "pascanu_10x": "10 × mean",
}
"""Rules of the benchmark, by their keys there; one that is missing keeps its key."""
MARKED = ("default_1.0", "unclipped")
"""What most people do."""
ROW = 22.0
"""Pixels from one rule to the next."""


def results(name: str) -> Any:
    return json.loads((ROOT / "benchmarks" / "results" / f"{name}.json").read_text(encoding="utf-8"))["results"]


def interval() -> Figure:
    rows = results("coverage")["coverage"]
    figure = sheet(340)
    title(figure, 18, 30, "How wide the interval is")
    wide = _over_steps(figure, 62)
    title(figure, 396, 30, f"How often it holds: {PROMISED:.0f}% are promised")
    held = _over_steps(figure, 450)
    for process in sorted({key.rpartition(", ")[0] for key in rows if key.endswith(" steps")}):
        found = [rows[f"{process}, {n} steps"] for n in STEPS]
        is_all = process == "all"
        looks: dict[str, Any] = {"color": style.THRESHOLD, "lw": 2.6, "marker": "o", "ms": 7, "mec": "white", "zorder": 4} if is_all else {
            "color": style.GREY, "lw": 0.9, "alpha": 0.8, "zorder": 2}  # fmt: skip
        widths = [float(np.exp(f["width"])) for f in found]
        wide.plot(STEPS, widths, **looks)
        held.plot(STEPS, [f["covered"] for f in found], **looks)
        if is_all:
            for n, width, f in zip(STEPS, widths, found, strict=True):
                text: dict[str, Any] = {"ha": "center", "color": style.THRESHOLD, "fontweight": "bold"}
                write(wide, f"{width:.2f}".rstrip("0"), (n, width), (0, 9), **text)
                write(held, f"{f['covered']:.1f}%", (n, f["covered"]), (0, -22), **text)
    log_axis(wide, "y", (1.0, 2.8), most=6)
    wide.set_ylabel("upper end ÷ lower end", labelpad=2)
    linear_axis(held, "y", (65.0, 101.0), most=4)
    held.axhline(PROMISED, color=style.BLACK, lw=1.2, ls=(0, (4, 2)), zorder=3)
    held.set_ylabel("% of traces", labelpad=2)
    write(held, "grey: one process each", (5000, 66.5), ha="right", color=style.DARK)
    return figure


def _over_steps(figure: Figure, left: float) -> Axes:
    axes = place(figure, left, 50, left + 288, 286)
    log_axis(axes, "x", (28, 9500), most=4)
    axes.xaxis.set_major_locator(FixedLocator([*STEPS]))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}"))
    axes.set_xlabel("steps in the trace", labelpad=2)
    return axes


def regret() -> Figure:
    rows = sorted(results("regret")["rules"], key=lambda r: float(r["mean"]))
    end = 70 + ROW * len(rows)
    figure = sheet(end + 64)
    title(
        figure,
        18,
        30,
        "What a rule's threshold costs,",
        more="25 trainings (Optuna: 15); 0 is the best of all, 1 has learned nothing",
    )
    axes = place(figure, 306, 66, 736, end)
    log_axis(axes, "x", (0.009, 1.25), most=8)
    axes.set_ylim(len(rows) - 0.4, -0.8)
    axes.yaxis.set_major_locator(NullLocator())
    axes.spines["left"].set_visible(False)
    axes.set_xlabel("regret, lower is better", labelpad=2)
    for i, row in enumerate(rows):
        name, mean, worst = str(row["rule"]), float(row["mean"]), float(row["worst"])
        color = style.THRESHOLD if name in OURS else style.SPIKE if name in MARKED else style.DARK
        bold = "bold" if name in OURS or name in MARKED else "normal"
        axes.plot([mean, worst], [i, i], color=color, lw=1.4, alpha=0.6, zorder=2)
        axes.plot([mean], [i], marker="o", ms=8, mew=0, color=color, zorder=3)
        axes.plot([worst], [i], marker="|", ms=10, mew=2.2, color=color, zorder=3)
        axes.annotate(
            _named(row), (0.0, i), (-10, 0), xycoords=("axes fraction", "data"), textcoords="offset points", ha="right",
            va="center", color=color, fontweight=bold, annotation_clip=False,
        )  # fmt: skip
    first = rows[0]
    for x, words in ((first["mean"], "mean"), (first["worst"], "worst training")):
        write(axes, words, (float(x), 0), (0, 8), ha="center", va="bottom", fontsize=TICKS, color=style.DARK)
    return figure


def _named(row: Any) -> str:
    """A rule that trains says how many steps it takes."""
    name = str(row["rule"])
    return f"{name}: {row['steps']:,.0f} steps" if name in OURS or "Optuna" in name else NAMES.get(name, name)
