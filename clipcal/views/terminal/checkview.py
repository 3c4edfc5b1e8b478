"""A check -> the text that a terminal shows: the verdict, the norms with the threshold in them, the quarters, the reasons."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.text import Text

from clipcal.checking.fitting import in_warm_up_alone
from clipcal.recommendation.reasons import percent
from clipcal.views.terminal.console import FEWEST_DRAWN, VERDICT_STYLES, bullets, label, number, table
from clipcal.views.terminal.pictures import pictures

if TYPE_CHECKING:
    from clipcal.checking import Check
    from clipcal.run.trace import Floats, Trace

_ANSWERS = {True: ("fits", "green"), False: ("does not fit", "red"), None: ("cannot be told", "yellow")}


def check(c: Check, trace: Trace, norms: Floats, *, width: int, ascii: bool) -> list[Text]:
    """The answer first, then its evidence."""
    r = c.recommendation
    lines = headline(c)
    if len(norms) >= FEWEST_DRAWN:
        lines += pictures(r, trace, norms, threshold=c.max_norm, width=width, ascii=ascii)
        lines += [Text(), *quarters(c)]
    lines += [Text(), *bullets("Why", c.reasons, ascii=ascii)]
    if r.caveats:
        lines += [Text(), *bullets("Keep in mind", r.caveats, ascii=ascii)]
    return lines


def headline(c: Check) -> list[Text]:
    """The answer in one line, and what the threshold is to this training in another. Both speak of the steps that it is judged
    by: the warm-up is over."""
    word, style = _ANSWERS[c.fits]
    line = Text.assemble(
        (f"{label(c.recommendation.method)} {c.max_norm:g} {word}", f"bold {style}"), f"   {c.verdict or 'unknown'}"
    )
    share, over, scale = c.acts.stable, "stable steps", c.acts.stable_scale
    if share is None:
        share, over, scale = c.acts.share, "steps", c.mean_scale
    if share is not None and c.verdict is not None:
        line.append(f"   acts on {percent(share)} of the {over}")
    if scale is not None and share:
        line.append(f"   leaves {scale:.1%} of the learning rate")
    where = "" if c.max_norm_from == "--max-norm" else f"; the threshold is from {c.max_norm_from}"
    return [line, Text(f"{meaning(c)}{where}", "dim")]


def meaning(c: Check) -> str:
    """What the threshold is to this training, in words."""
    acts = c.acts
    over = "steps" if acts.stable is None else "stable steps"
    if c.verdict is None:
        return "the norms do not tell how it acts"
    if c.verdict != "guard":
        return {
            "inactive": "never acts",
            "limiter": "acts often",
            "brake": f"acts on half of the {over} or more",
        }[c.verdict]
    if acts.spikes:
        return f"acts on spikes, and {'on few of the stable steps' if acts.stable else 'leaves stable steps alone'}"
    if acts.stable is None or acts.stable > 0:
        return f"acts on few of the {over}"
    return (
        "acts in the warm-up alone"
        if in_warm_up_alone(acts, c.recommendation)
        else "acts outside stable training alone"
    )


def quarters(c: Check) -> list[Text]:
    """The quarters of the run as a table, below the warm-up that belongs to none of them. Where the norms do not tell how
    the threshold acts, those of a quarter do not tell either."""
    rows = [("steps", "median norm", "clipped", "mean scale", "")]
    for q in (*([c.warm_up] if c.warm_up else []), *c.quarters):
        rows.append(
            (
                f"{q.first_step:,} to {q.last_step:,}",
                "-" if q.median is None else number(q.median),
                "-" if q.clipped is None or c.verdict is None else f"{q.clipped:.1%}",
                "-" if q.mean_scale is None else f"{q.mean_scale:.3f}",
                "warm-up" if q is c.warm_up else (c.verdict and q.verdict) or "-",
            )
        )
    return table(rows, left=(0, 4), styles=[VERDICT_STYLES.get(row[4], "") for row in rows], marked=4)


def line(c: Check) -> str:
    """One line, for a log of a live run."""
    last = c.quarters[-1] if c.quarters else None
    clipped = "" if last is None or last.clipped is None else f", {last.clipped:.1%} of the last quarter"
    acts = "" if c.acts.share is None else f"   acts on {c.acts.share:.1%} of {c.steps:,} steps{clipped}"
    return f"step {last.last_step if last else 0:,}   {c.verdict or 'unknown'}   {_ANSWERS[c.fits][0]}{acts}"
