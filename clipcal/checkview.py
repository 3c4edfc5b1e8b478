"""A check -> the text that a terminal shows: the verdict, the norms with the threshold in them, the quarters, the reasons."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.text import Text

from clipcal.charts import histogram, timeline
from clipcal.console import bullets, columns, number

if TYPE_CHECKING:
    from clipcal.checking import Check
    from clipcal.trace import Floats, Trace

MEANINGS = {
    "inactive": "never acts",
    "guard": "acts on spikes, and leaves stable steps alone",
    "limiter": "acts often",
    "brake": "acts on half of the steps or more",
}
_ANSWERS = {True: ("fits", "green"), False: ("does not fit", "red"), None: ("cannot be told", "yellow")}


def check(c: Check, trace: Trace, norms: Floats, *, width: int, ascii: bool) -> list[Text]:
    """The answer first, then its evidence."""
    r = c.recommendation
    stable, spikes = r.stable, r.spikes
    lines = [*headline(c), Text()]
    if len(norms):
        median = stable.median if stable else None
        lines += histogram(
            norms,
            width=width,
            median=median,
            threshold=c.max_norm,
            spikes_from=spikes.min,
            num_spikes=spikes.count or None,
            ascii=ascii,
        )
        lines.append(Text())
        lines += timeline(
            norms,
            trace.step,
            width=width,
            threshold=c.max_norm,
            median=median,
            spikes=spikes.steps,
            first_step=stable.first_step if stable else None,
            ascii=ascii,
        )
        lines += [Text(), *quarters(c)]
    lines += [Text(), *bullets("Why", c.reasons, ascii=ascii)]
    if r.caveats:
        lines += [Text(), *bullets("Keep in mind", r.caveats, ascii=ascii)]
    return lines


def headline(c: Check) -> list[Text]:
    word, style = _ANSWERS[c.fits]
    line = Text.assemble((f"max_norm {c.max_norm:g} {word}", f"bold {style}"), f"   {c.verdict or 'unknown'}")
    if c.acts.share is not None and c.verdict is not None:
        line.append(f"   acts on {c.acts.share:.1%} of the steps")
    if c.mean_scale is not None and c.acts.rows:
        line.append(f"   leaves {c.mean_scale:.1%} of the learning rate")
    where = "" if c.max_norm_from == "--max-norm" else f"; the threshold is from {c.max_norm_from}"
    return [line, Text(f"{MEANINGS[c.verdict] if c.verdict else 'the norms do not tell how it acts'}{where}", "dim")]


def quarters(c: Check) -> list[Text]:
    rows = [("steps", "median norm", "clipped", "mean scale", "")]
    for q in c.quarters:
        rows.append(
            (
                f"{q.first_step:,} to {q.last_step:,}",
                "-" if q.median is None else number(q.median),
                "-" if q.clipped is None else f"{q.clipped:.1%}",
                "-" if q.mean_scale is None else f"{q.mean_scale:.3f}",
                q.verdict or "-",
            )
        )
    styles = {"limiter": "yellow", "brake": "red"}
    lines = columns(rows, left=(0, 4))
    return [Text(line, "dim" if i == 0 else styles.get(rows[i][4], ""), no_wrap=True) for i, line in enumerate(lines)]


def line(c: Check) -> str:
    """One line, for a log of a live run."""
    last = c.quarters[-1] if c.quarters else None
    clipped = "" if last is None or last.clipped is None else f", {last.clipped:.1%} of the last quarter"
    acts = "" if c.acts.share is None else f"   acts on {c.acts.share:.1%} of {c.steps:,} steps{clipped}"
    return f"step {last.last_step if last else 0:,}   {c.verdict or 'unknown'}   {_ANSWERS[c.fits][0]}{acts}"
