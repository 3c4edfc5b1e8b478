"""An answer, with the norms that it is about -> the text that a terminal shows: the answer, its pictures, its tables, the reasons."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from rich.text import Text

from clipcal.views import words
from clipcal.views.figures.course import Course
from clipcal.views.figures.facts import FEWEST_DRAWN
from clipcal.views.terminal.charts import histogram
from clipcal.views.terminal.console import FIELD, VERDICT_STYLES, bullets, table
from clipcal.views.terminal.timeline import timeline
from clipcal.views.words import LABELS, number

if TYPE_CHECKING:
    from clipcal.checking import Check
    from clipcal.recommendation.answer import Method, Recommendation
    from clipcal.verification.answer import ArmResult, Comparison, Verification

_JUDGED = {"holds": "green", "no_difference": "cyan", "undecided": "yellow", "costs": "yellow", "fails": "red"}
_FITS = {True: "green", False: "red", "borderline": "yellow", None: "yellow"}


def recommendation(r: Recommendation, drawn: Course | None, *, width: int, ascii: bool) -> list[Text]:
    """The answer, its pictures where the steps are to be ``drawn``, and the reasons."""
    shown = [*recommendation_head(r), *_pictures(drawn, threshold=r.max_norm, width=width, ascii=ascii)]
    return shown + _why(r.reasons, r.caveats, ascii=ascii)


def check(c: Check, drawn: Course, *, width: int, ascii: bool) -> list[Text]:
    """The answer, its pictures with the threshold in them, the quarters, and the reasons."""
    pictures = _pictures(drawn, threshold=c.max_norm, width=width, ascii=ascii)
    parts = [Text(), *quarters(c)] if pictures else []
    return [*check_head(c), *pictures, *parts, *_why(c.reasons, c.recommendation.caveats, ascii=ascii)]


def followed(c: Check, drawn: Course, *, width: int, ascii: bool) -> list[Text]:
    """A check in what fits on one screen: the answer, the norms over the steps, the quarters, the reasons."""
    over_steps = timeline(drawn, threshold=c.max_norm, width=width, ascii=ascii)
    return [*check_head(c), Text(), *over_steps, Text(), *quarters(c), *_why(c.reasons, ascii=ascii)]


def recommendation_head(r: Recommendation) -> list[Text]:
    """The answer in one line, and what its verdict means in another."""
    head = words.headline(r)
    return [_head(head, "red" if r.max_norm is None else "green"), Text(head.below, "dim")]


def check_head(c: Check) -> list[Text]:
    """The answer in one line, and what the threshold is to this training in another."""
    head = words.check_headline(c)
    return [_head(head, _FITS[c.fits]), Text(head.below, "dim")]


def _head(head: words.Headline, color: str) -> Text:
    return Text.assemble((head.answer, f"bold {color}"), *(f"{FIELD}{field}" for field in head.fields))


def _pictures(c: Course | None, *, threshold: float | None, width: int, ascii: bool) -> list[Text]:
    """How often each norm occurs, and the norms over the steps, each below an empty line; nothing of very few steps."""
    if c is None or c.norms.size < FEWEST_DRAWN:
        return []
    both = (draw(c, threshold=threshold, width=width, ascii=ascii) for draw in (histogram, timeline))
    return [line for picture in both for line in (Text(), *picture)]


def _why(reasons: Sequence[str], caveats: Sequence[str] = (), *, ascii: bool) -> list[Text]:
    parts = (("Why", reasons), *([("Keep in mind", caveats)] if caveats else []))
    return [line for title, said in parts for line in (Text(), *bullets(title, said, ascii=ascii))]


def quarters(c: Check) -> list[Text]:
    """The quarters of the run as a table, below the warm-up that belongs to none of them."""
    parts = (*([c.warm_up] if c.warm_up else []), *c.quarters)
    rows = [("steps", "median norm", "clipped", "mean scale", ""), *(words.quarter_cells(c, q) for q in parts)]
    return table(rows, left=(0, 4), styles=[VERDICT_STYLES.get(row[4], "") for row in rows], marked=4)


def check_line(c: Check) -> str:
    """One line, for a log of a live run."""
    last = c.quarters[-1] if c.quarters else None
    clipped = "" if last is None or last.clipped is None else f", {last.clipped:.1%} of the last quarter"
    acts = "" if c.acts.share is None else f"   acts on {c.acts.share:.1%} of {c.steps:,} steps{clipped}"
    return f"step {last.last_step if last else 0:,}   {c.verdict or 'unknown'}   {words.ANSWERS[c.fits]}{acts}"


def pasted(title: str, text: str, others: Sequence[str]) -> list[Text]:
    """A snippet under its title, and how to get another framework's."""
    code = [Text(f"  {line}") for line in text.splitlines()]
    return [Text(), Text(f"Paste this ({title})", "bold"), *code, Text(words.other_frameworks(others), "dim")]


def verification(v: Verification, *, method: Method = "norm", ascii: bool) -> list[Text]:
    """The verdict in one line, the arms as a table, the reasons."""
    compared = _difference(v.comparison, ascii=ascii) or words.lost_runs(v)
    answer = f"{LABELS[method]} {v.max_norm:g}: {words.spaced(v.verdict)}"
    head = Text.assemble((answer, f"bold {_JUDGED[v.verdict]}"), f"{FIELD}{compared}")
    return [head, Text(), *_arms(v.arms), *_why(v.reasons, ascii=ascii)]


def _difference(c: Comparison, *, ascii: bool) -> str:
    if c.loss_difference is None:
        return ""
    give_or_take = ""
    if c.interval is not None:
        give_or_take = f" {'+/-' if ascii else '±'} {number((c.interval[1] - c.interval[0]) / 2)}"
    return f"final loss {c.loss_difference:+.3g}{give_or_take} against unclipped, {words.count(c.seeds, 'seed')}"


def _arms(arms: Sequence[ArmResult]) -> list[Text]:
    """Plain columns that a pipe keeps."""
    rows = [words.ARMS_HEAD, *map(words.arm_cells, arms)]
    return table(rows, left=(0,), styles=["", *("red" if row[2] == "lost" else "" for row in rows[1:])], marked=2)
