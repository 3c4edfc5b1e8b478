"""Rules replayed on a trace, and the layers of its spikes -> tables that the terminal shows below the answer."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

from rich.text import Text

from clipcal.recommendation.culprits import power
from clipcal.views import words
from clipcal.views.terminal.console import VERDICT_STYLES, columns, points, table
from clipcal.views.words import LABELS, SCALED, printable, share_of

if TYPE_CHECKING:
    from clipcal.recommendation.answer import Method
    from clipcal.recommendation.attribution import LayerShare
    from clipcal.recommendation.culprits import Culprits
    from clipcal.recommendation.replay import Replayed

_LEFT = (0, 5, 6)  # the columns of the rules that start at one place
_NARROWEST = 20  # columns of a layer's name on a terminal: below that lines break where the terminal breaks them


def comparison(rows: Sequence[Replayed], *, method: Method = "norm", width: int | None, ascii: bool) -> list[Text]:
    """Every rule on one trace, the highest threshold first. ``width`` is that of the terminal, None in a pipe: a line that is too
    long shows the source of a rule in place of what it is, and then neither."""
    first, ordered = rows[0], sorted(rows, key=lambda r: -r.threshold)
    cells: list[tuple[str, ...]] = [
        ("  rule", LABELS[method].split()[0], first.over, "spikes", "mean scale", "verdict")
    ]
    cells += [(f"{'>' if r.chosen else ' '} {r.name}", *words.rule_cells(r)) for r in ordered]
    for last in (
        ["what it is", *(f"{r.label} ({r.source})" for r in ordered)],
        ["source", *(r.source for r in ordered)],
        [""] * len(cells),
    ):
        whole = [(*row, cell) for row, cell in zip(cells, last, strict=True)]
        if width is None or max(map(len, columns(whole, left=_LEFT))) <= width:
            break
    lines = table(whole, left=_LEFT, styles=["", *(VERDICT_STYLES.get(r.verdict, "") for r in ordered)], marked=5)
    for r, line in zip(ordered, lines[1:], strict=True):
        if r.chosen:
            line.stylize("bold green")
    moving = [r.name for r in rows if r.adaptive]
    sentences = [
        f"{first.over}, spikes: the share of these steps that a rule clips. mean scale: the factor that it leaves of the "
        f"{SCALED[method]}, over all {first.over} steps.",
        f"inactive: clips nothing. guard: under 5% of the {first.over} steps. limiter: under half. brake: half or more.",
    ]
    if first.over == "finite":
        sentences.insert(
            0, "No stable steps and no spikes could be told apart here: the shares are of all finite steps."
        )
    if moving:
        sentences.append(
            f"{' and '.join(moving)} move{'s' * (len(moving) == 1)} from step to step: the threshold is the last one, the shares "
            "are a replay of every step."
        )
    sentences.append(
        "These are the norms of this trace: trained under a rule, later ones would differ. `clipcal verify RUN --max-norm X` "
        "trains it."
    )
    return [Text(), Text(words.rules_title(first), "bold"), *lines, Text(), *points(sentences, ascii=ascii)]


def layers(c: Culprits, *, most: int = 10, width: int | None, ascii: bool) -> list[Text]:
    """What makes the spikes: the conclusion, and the ``most`` layers with the largest shares. ``width`` is that of the
    terminal, None in a pipe: a name that is too long for its line goes on in the next."""
    found = c.attribution
    answer = [Text(), Text(words.layers_title(c), "bold"), *points((c.conclusion, *c.notes), ascii=ascii)]
    if not found.layers:
        return answer
    shown, rest = found.layers[:most], found.layers[most:]
    if len(rest) == 1:
        shown, rest = found.layers, ()
    rows: list[tuple[str, ...]] = [("   share", "stable", "usual", "reaches", "layer (its largest tensor)")]
    for layer in shown:
        share, *others = words.layer_cells(layer)
        marked = f"{'>' if layer.name in found.culprits else ' '} {share:>6}"
        rows.append((marked, *others, printable(_name(layer), ascii=ascii)))
    if rest:
        share, stable = (
            share_of(sum(shares)) for shares in zip(*((x.share, x.stable_share) for x in rest), strict=True)
        )
        rows.append((share, stable, "", "", f"{len(rest)} other layers"))
    styles = ["dim", *("bold" if layer.name in found.culprits else "" for layer in shown), "dim"]
    numbers = 2 + sum(max(len(row[i]) for row in rows) + 2 for i in range(4))
    folded = [
        (row[:4] if i == 0 else ("", "", "", ""), part, style)
        for row, style in zip(rows, styles, strict=False)
        for i, part in enumerate(_fold(row[4], None if width is None else max(width - numbers, _NARROWEST)))
    ]
    lines = table([(*cells, part) for cells, part, _ in folded], left=(4,), styles=[style for _, _, style in folded])
    there = "at the spikes" if c.peaks == "spikes" else "in those steps"
    whole = (
        "how often the largest tensor of all is in this layer"
        if c.norm_type == math.inf
        else f"of the {power(c.norm_type)}"
    )
    key = (
        f"share: {whole} {there}, each step counting alike. stable: the same in the others. usual: the median norm in the "
        f"others. reaches: the median norm {there}, as a multiple of the usual."
    )
    return [*answer, Text(), *lines, Text(), *points([key], ascii=ascii)]


def _name(layer: LayerShare) -> str:
    """A layer and, in brackets, the tensor with the largest share in it, where it is not that tensor itself."""
    tensor = layer.tensors[0]
    own = tensor.name.removeprefix(layer.name).removeprefix(".")
    return f"{layer.name} ({own} {tensor.share:.1%})" if own else layer.name


def _fold(text: str, room: int | None) -> list[str]:
    """The text in parts of at most ``room`` characters, the bracket in one of its own if need be."""
    if room is None or len(text) <= room:
        return [text]
    name, bracket, inner = text.partition(" (")
    return [whole[i : i + room] for whole in (name, f"({inner}" if bracket else "") for i in range(0, len(whole), room)]
