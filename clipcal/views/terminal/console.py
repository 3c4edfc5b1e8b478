"""Answers -> the text that a terminal shows. Functions that return ``rich.text.Text``; only ``show`` prints."""

from __future__ import annotations

import math
import sys
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from rich.console import Console
from rich.text import Text

from clipcal.recommendation.answer import Choice, Recommendation
from clipcal.recommendation.reasons import percent
from clipcal.views.terminal.folding import folded
from clipcal.views.terminal.pictures import pictures

if TYPE_CHECKING:
    from clipcal.run.trace import Floats, Trace
    from clipcal.verification.answer import ArmResult, Comparison, Verification

PIPE_WIDTH = 100
"""Columns of the pictures where stdout is no terminal; sentences are not wrapped there."""

FEWEST_DRAWN = 10
"""Steps: fewer are no picture, and the sentences below name them."""

OTHERS = 5
"""Frameworks that are named below a snippet; `--for` with a name that is none lists them all."""

_VERDICTS = {
    "spikes": "spikes stand clear of stable training; the threshold separates them",
    "stable": "no spikes were seen; the threshold is a safety net above all stable steps",
    "heavy_tail": "large norms without a gap; the threshold is a compromise",
    "diverging": "the run diverges; the threshold is read from the healthy part before",
    "vanishing": "the gradients vanish; clipping cannot help",
    "clipped": "the norms were recorded after clipping, so none can be read from them",
    "insufficient": "too few usable steps",
}
_JUDGEMENTS = {
    "holds": ("holds", "green"),
    "no_difference": ("no difference", "cyan"),
    "costs": ("costs", "yellow"),
    "fails": ("fails", "red"),
}
VERDICT_STYLES = {"inactive": "dim", "limiter": "yellow", "brake": "red", "warm-up": "dim"}
"""What a threshold is to a part of the steps, besides the word for it."""

_LABELS = {"norm": "max_norm", "value": "clip_value", "per_tensor": "max_norm per tensor"}


def label(method: str) -> str:
    """What the threshold of a method is called: ``max_norm``, ``clip_value``."""
    return _LABELS[method]


def number(value: float | None) -> str:
    """Three significant digits, for reading: 2.4, 0.000123, 1.2e-09."""
    if value is None:
        return "none"
    return f"{value:.3g}" if math.isfinite(value) else str(value)


def headline(r: Recommendation) -> list[Text]:
    """The answer in one line, and what its verdict means in another."""
    below = Text(meaning(r), "dim")
    if r.max_norm is None:
        return [Text.assemble(("no threshold", "bold red"), f"   {r.verdict}"), below]
    line = Text.assemble((f"{label(r.method)} {r.max_norm:g}", "bold green"), f"   {r.verdict}")
    line.append(f"   confidence {r.confidence}")
    if r.interval:
        line.append(f"   interval {number(r.interval[0])} to {number(r.interval[1])}")
    return [line, below]


def meaning(r: Recommendation) -> str:
    """What the verdict means, in words."""
    if r.verdict == "stable" and r.clipped.stable:  # chosen by training, or an answer whose net is narrow
        return f"no spikes were seen; the threshold acts on {percent(r.clipped.stable)} of the stable steps"
    return _VERDICTS[r.verdict]


def recommendation(r: Recommendation, trace: Trace, norms: Floats, *, width: int, ascii: bool) -> list[Text]:
    """The answer, its pictures, and the reasons."""
    lines = headline(r)
    if len(norms) >= FEWEST_DRAWN:
        lines += pictures(r, trace, norms, threshold=r.max_norm, last_step=r.last_healthy, width=width, ascii=ascii)
    lines += [Text(), *bullets("Why", r.reasons, ascii=ascii)]
    if r.caveats:
        lines += [Text(), *bullets("Keep in mind", r.caveats, ascii=ascii)]
    return lines


def bullets(title: str, sentences: Iterable[str], *, ascii: bool) -> list[Text]:
    return [Text(title, "bold"), *points(sentences, ascii=ascii)]


def points(sentences: Iterable[str], *, ascii: bool) -> list[Text]:
    mark = "-" if ascii else "•"
    return [Text(f"  {mark} {printable(s, ascii=ascii)}") for s in sentences]


def printable(text: str, *, ascii: bool = False) -> str:
    """Without control characters: a name in a log must not be able to drive the terminal. ``ascii``: without any other
    character that a terminal of ASCII cannot show."""
    return "".join(c if c.isprintable() and (c.isascii() or not ascii) else "?" for c in text)


def pasted(title: str, text: str, others: Sequence[str]) -> list[Text]:
    """A snippet under its title, and how to get another framework's."""
    code = [Text(f"  {line}") for line in text.splitlines()]
    return [Text(), Text(f"Paste this ({title})", "bold"), *code, Text(other_frameworks(others), "dim")]


def other_frameworks(names: Sequence[str]) -> str:
    """Which other frameworks' snippets there are, the first ones by name."""
    few, more = ", ".join(names[:OTHERS]), len(names) - OTHERS
    return f"others: --for {few}{f' and {more} more' * (more > 0)}"


def choice(c: Choice, *, method: str, ascii: bool) -> list[Text]:
    """What training chose among the candidates, and why."""
    head = Text.assemble((f"{label(method)} {c.max_norm:g}", "bold green"), f"   {c.name}, chosen by training")
    return [head, *points([c.reason], ascii=ascii), Text()]


def verification(v: Verification, *, method: str = "norm", ascii: bool) -> list[Text]:
    """The verdict in one line, the arms as a table, the reasons."""
    compared = _difference(v.comparison, ascii=ascii) or where_lost(v.arms)
    style = f"bold {_JUDGEMENTS[v.verdict][1]}"
    head = Text.assemble((f"{label(method)} {v.max_norm:g}: {judgement(v)}", style), f"   {compared}")
    return [head, Text(), *arms_table(v.arms), Text(), *bullets("Why", v.reasons, ascii=ascii)]


def judgement(v: Verification) -> str:
    """The verdict in words."""
    return _JUDGEMENTS[v.verdict][0]


def _difference(c: Comparison, *, ascii: bool) -> str:
    if c.loss_difference is None:
        return ""
    give_or_take = ""
    if c.interval is not None:
        give_or_take = f" {'+/-' if ascii else '±'} {number((c.interval[1] - c.interval[0]) / 2)}"
    return f"final loss {c.loss_difference:+.3g}{give_or_take} against unclipped, {c.seeds} seed{'s' * (c.seeds != 1)}"


def where_lost(arms: Sequence[ArmResult]) -> str:
    """Where there is no final loss to compare: what is trained to find out why may live on beside them."""
    lost = sorted(a.diverged_at for a in arms if a.diverged_at is not None)
    which = "every arm is lost" if len(lost) == len(arms) else "lost unclipped and clipped"
    if lost[0] == lost[-1]:
        return f"{which} at step {lost[0]}"
    return f"{which}, the first at step {lost[0]}, the last at step {lost[-1]}"


def arms_table(arms: Sequence[ArmResult]) -> list[Text]:
    """Plain columns that a pipe keeps."""
    rows = arms_rows(arms)
    return table(rows, left=(0,), styles=["", *("red" if row[2] == "lost" else "" for row in rows[1:])], marked=2)


def arms_rows(arms: Sequence[ArmResult]) -> list[tuple[str, ...]]:
    """The head, and one row an arm."""
    rows: list[tuple[str, ...]] = [("arm", "seed", "final loss", "lost at", "loss spikes", "clipped", "mean scale")]
    for a in arms:
        rows.append(
            (
                a.name,
                str(a.seed),
                "lost" if a.diverged_at is not None else f"{a.final_loss:.4g}",
                "-" if a.diverged_at is None else f"step {a.diverged_at}",
                str(a.loss_spikes),
                "-" if a.max_norm is None else f"{a.clip_fraction:.1%}",
                "-" if a.max_norm is None else f"{a.mean_scale:.3f}",
            )
        )
    return rows


def table(
    rows: Sequence[Sequence[str]], *, left: Sequence[int], styles: Sequence[str], marked: int | None = None
) -> list[Text]:
    """Rows, of which the first is the head, as ``columns``. The style of a row is that of its cell in the column ``marked``
    alone, where it says what the cell says; None for the whole row."""
    answer = []
    for i, (line, row) in enumerate(zip(columns(rows, left=left), rows, strict=True)):
        if i == 0 or marked is None:
            answer.append(Text(line, styles[i] if i else "dim", no_wrap=True))
            continue
        answer.append(Text(line, no_wrap=True))
        start = 2 + sum(max(len(r[k]) for r in rows) + 2 for k in range(marked))
        if styles[i]:
            at = line.index(row[marked], start)
            answer[-1].stylize(styles[i], at, at + len(row[marked]))
    return answer


def columns(rows: Sequence[Sequence[str]], *, left: Sequence[int]) -> list[str]:
    """Rows of one length as lines, each column as wide as its widest cell; the columns in ``left`` start at one place, the
    others end at one."""
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    cells = [
        [c.ljust(w) if k in left else c.rjust(w) for k, (c, w) in enumerate(zip(r, widths, strict=True))] for r in rows
    ]
    return [("  " + "  ".join(row)).rstrip() for row in cells]


def stdout_console(*, plain: bool = False) -> Console:
    return _console(stderr=False, plain=plain)


def stderr_console(*, plain: bool = False) -> Console:
    return _console(stderr=True, plain=plain)


def _console(*, stderr: bool, plain: bool) -> Console:
    """A stream to write to, coloured by rich's own rules: on a terminal that is not dumb, without NO_COLOR, and where
    FORCE_COLOR asks for it. ``plain`` is none of it: no colour, and lines that nothing here wraps."""
    return Console(stderr=stderr, highlight=False, emoji=False, markup=False, force_terminal=False if plain else None)


def is_screen(console: Console) -> bool:
    """Whether lines can be drawn over: not on a dumb terminal, nor in a log that FORCE_COLOR colours."""
    return console.is_interactive and console.file.isatty()


def picture_width(console: Console) -> int:
    return min(console.width, 120) if console.is_terminal else PIPE_WIDTH


def is_ascii(console: Console) -> bool:
    return not (console.encoding or "").lower().replace("-", "").startswith("utf")


def show(console: Console, lines: Iterable[Text]) -> None:
    """Print; on a terminal what is too long goes on under its own start, in a pipe no line is cut or wrapped. Sentences
    are no wider than the pictures beside them."""
    width = picture_width(console)
    for line in lines:
        for part in folded(line, width) if console.is_terminal else [line]:
            console.print(part, soft_wrap=True)


def note(text: str) -> None:
    """A line for stderr."""
    print(text, file=sys.stderr, flush=True)
