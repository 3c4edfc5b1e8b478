"""Answers -> the text that a terminal shows. Functions that return ``rich.text.Text``; only ``show`` prints."""

from __future__ import annotations

import math
import sys
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from rich.console import Console
from rich.text import Text

from clipcal.charts import histogram, timeline
from clipcal.reasons import percent
from clipcal.recommendation import Choice, Recommendation

if TYPE_CHECKING:
    from clipcal.trace import Floats, Trace
    from clipcal.verification import ArmResult, Comparison, Verification

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
    meaning = Text(_meaning(r), "dim")
    if r.max_norm is None:
        return [Text.assemble(("no threshold", "bold red"), f"   {r.verdict}"), meaning]
    line = Text.assemble((f"{label(r.method)} {r.max_norm:g}", "bold green"), f"   {r.verdict}")
    line.append(f"   confidence {r.confidence}")
    if r.interval:
        line.append(f"   interval {number(r.interval[0])} to {number(r.interval[1])}")
    return [line, meaning]


def _meaning(r: Recommendation) -> str:
    if r.verdict == "stable" and r.clipped.stable:  # chosen by training, or an answer whose net is narrow
        return f"no spikes were seen; the threshold acts on {percent(r.clipped.stable)} of the stable steps"
    return _VERDICTS[r.verdict]


def recommendation(r: Recommendation, trace: Trace, norms: Floats, *, width: int, ascii: bool) -> list[Text]:
    """The answer, its pictures, and the reasons."""
    lines = headline(r)
    if len(norms) >= FEWEST_DRAWN:
        healthy = _last_stable(r, trace)
        lines.append(Text())
        lines += histogram(
            norms,
            width=width,
            median=r.stable.median if r.stable else None,
            threshold=r.max_norm,
            spikes_from=r.spikes.min,
            num_spikes=r.spikes.count or None,
            ascii=ascii,
        )
        lines.append(Text())
        lines += timeline(
            norms,
            trace.step,
            width=width,
            threshold=r.max_norm,
            median=r.stable.median if r.stable else None,
            spikes=r.spikes.steps,
            first_step=r.stable.first_step if r.stable else None,
            last_step=healthy,
            ascii=ascii,
        )
    lines += [Text(), *bullets("Why", r.reasons, ascii=ascii)]
    if r.caveats:
        lines += [Text(), *bullets("Keep in mind", r.caveats, ascii=ascii)]
    return lines


def _last_stable(r: Recommendation, trace: Trace) -> int | None:
    """The last step of the healthy part of a diverging run, as far as the answer tells it."""
    if r.verdict != "diverging" or r.stable is None:
        return None
    after = trace.step[trace.step >= r.stable.first_step]
    index = min(r.stable.steps + r.spikes.count, len(after)) - 1
    return int(after[index]) if index >= 0 else None


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
    few, more = ", ".join(others[:OTHERS]), len(others) - OTHERS
    head = Text.assemble(
        (f"Paste this ({title})", "bold"), (f"   others: --for {few}{f' and {more} more' * (more > 0)}", "dim")
    )
    return [Text(), head, *(Text(f"  {line}") for line in text.splitlines())]


def choice(c: Choice, *, method: str, ascii: bool) -> list[Text]:
    """What training chose among the candidates, and why."""
    head = Text.assemble((f"{label(method)} {c.max_norm:g}", "bold green"), f"   {c.name}, chosen by training")
    return [head, *points([c.reason], ascii=ascii), Text()]


def verification(v: Verification, *, method: str = "norm", ascii: bool) -> list[Text]:
    """The verdict in one line, the arms as a table, the reasons."""
    word, style = _JUDGEMENTS[v.verdict]
    compared = _difference(v.comparison, ascii=ascii) or _where_lost(v.arms)
    head = Text.assemble((f"{label(method)} {v.max_norm:g}: {word}", f"bold {style}"), f"   {compared}")
    return [head, Text(), *arms_table(v.arms), Text(), *bullets("Why", v.reasons, ascii=ascii)]


def _difference(c: Comparison, *, ascii: bool) -> str:
    if c.loss_difference is None:
        return ""
    give_or_take = ""
    if c.interval is not None:
        give_or_take = f" {'+/-' if ascii else '±'} {number((c.interval[1] - c.interval[0]) / 2)}"
    return f"final loss {c.loss_difference:+.3g}{give_or_take} against unclipped, {c.seeds} seed{'s' * (c.seeds != 1)}"


def _where_lost(arms: Sequence[ArmResult]) -> str:
    """Where there is no final loss to compare: what is trained to find out why may live on beside them."""
    lost = sorted(a.diverged_at for a in arms if a.diverged_at is not None)
    which = "every arm is lost" if len(lost) == len(arms) else "lost unclipped and clipped"
    if lost[0] == lost[-1]:
        return f"{which} at step {lost[0]}"
    return f"{which}, the first at step {lost[0]}, the last at step {lost[-1]}"


def arms_table(arms: Sequence[ArmResult]) -> list[Text]:
    """One row an arm, plain columns that a pipe keeps."""
    rows = [("arm", "seed", "final loss", "lost at", "loss spikes", "clipped", "mean scale")]
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
    lines = columns(rows, left=(0,))
    return [Text(line, "dim" if i == 0 else "red" if rows[i][2] == "lost" else "") for i, line in enumerate(lines)]


def columns(rows: Sequence[Sequence[str]], *, left: Sequence[int]) -> list[str]:
    """Rows of one length as lines, each column as wide as its widest cell; the columns in ``left`` start at one place, the
    others end at one."""
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    cells = [
        [c.ljust(w) if k in left else c.rjust(w) for k, (c, w) in enumerate(zip(r, widths, strict=True))] for r in rows
    ]
    return [("  " + "  ".join(row)).rstrip() for row in cells]


def stdout_console() -> Console:
    return Console(highlight=False, emoji=False, markup=False)


def stderr_console() -> Console:
    return Console(stderr=True, highlight=False, emoji=False, markup=False)


def picture_width(console: Console) -> int:
    return min(console.width, 120) if console.is_terminal else PIPE_WIDTH


def is_ascii(console: Console) -> bool:
    return not (console.encoding or "").lower().replace("-", "").startswith("utf")


def show(console: Console, lines: Iterable[Text]) -> None:
    """Print; on a terminal sentences wrap under their own start, in a pipe no line is cut or wrapped."""
    for line in lines:
        if console.is_terminal and line.plain.startswith(("  • ", "  - ")):
            for i, part in enumerate(line[4:].wrap(console, console.width - 4)):
                console.print(Text(line.plain[:4] if i == 0 else "    ") + part, soft_wrap=True)
        elif console.is_terminal and not line.no_wrap:
            console.print(line)
        else:
            console.print(line, soft_wrap=True)


def note(text: str) -> None:
    """A line for stderr."""
    print(text, file=sys.stderr, flush=True)
