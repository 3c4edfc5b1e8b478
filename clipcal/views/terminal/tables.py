"""Rules replayed on a trace, and the layers of its spikes -> tables that the terminal shows below the answer."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

from rich.text import Text

from clipcal.recommendation.culprits import power, times
from clipcal.views.terminal.canvas import count
from clipcal.views.terminal.console import VERDICT_STYLES, columns, label, number, points, printable, table

if TYPE_CHECKING:
    from clipcal.recommendation.answer import Method
    from clipcal.recommendation.attribution import LayerShare
    from clipcal.recommendation.culprits import Culprits
    from clipcal.recommendation.peaks import Peaks
    from clipcal.recommendation.replay import Replayed

_SCALED = {"norm": "gradient", "value": "largest element", "per_tensor": "largest tensor"}
_LEFT = (0, 5, 6)  # the columns of the rules that start at one place
_NARROWEST = 20  # columns of a layer's name on a terminal: below that lines break where the terminal breaks them


def comparison(rows: Sequence[Replayed], *, method: Method = "norm", width: int | None, ascii: bool) -> list[Text]:
    """Every rule on one trace, the highest threshold first. ``width`` is that of the terminal, None in a pipe: where the line
    is too short, what a rule is gives way to whose it is, and then to nothing."""
    first, ordered = rows[0], sorted(rows, key=lambda r: -r.threshold)
    cells: list[tuple[str, ...]] = [("  rule", label(method).split()[0], first.over, "spikes", "mean scale", "verdict")]
    for r in ordered:
        name = f"{'>' if r.chosen else ' '} {r.name}"
        cells.append((name, number(r.threshold), _share(r.clipped), _share(r.clipped_spikes), _scale(r), r.verdict))
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
        f"{scaled_by(method)}, over all {first.over} steps.",
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
    return [
        Text(),
        Text(rules_title(first), "bold"),
        *lines,
        Text(),
        *points(sentences, ascii=ascii),
    ]


def rules_title(first: Replayed) -> str:
    """What the rules are judged by."""
    if first.over == "finite":
        return f"Compared on {count(first.num_steps, 'step')} with a finite norm"
    spikes = f"and {count(first.num_spikes, 'spike')}" if first.num_spikes else "(there are no spikes)"
    return f"Compared on {count(first.num_steps, 'stable step')} {spikes}"


def scaled_by(method: Method) -> str:
    """What the factor of a clipping method is on."""
    return _SCALED[method]


def _share(share: float | None) -> str:
    return "-" if share is None else f"{share:.1%}"


def _scale(r: Replayed) -> str:
    return "-" if r.mean_scale is None else f"{r.mean_scale:.3f}"


def layers(c: Culprits, *, most: int = 10, width: int | None, ascii: bool) -> list[Text]:
    """What makes the spikes: the conclusion, and the ``most`` layers with the largest shares. ``width`` is that of the
    terminal, None in a pipe: a name that is too long for its line goes on in the next."""
    found = c.attribution
    answer = [Text(), Text(layers_title(c), "bold"), *points((c.conclusion, *c.notes), ascii=ascii)]
    if not found.layers:
        return answer
    shown, rest = found.layers[:most], found.layers[most:]
    if len(rest) == 1:
        shown, rest = found.layers, ()
    rows = [("   share", "stable", "usual", "reaches", "layer (its largest tensor)")]
    for layer in shown:
        share = f"{'>' if layer.name in found.culprits else ' '} {_share(layer.share):>6}"
        rows.append(
            (
                share,
                _share(layer.stable_share),
                number(layer.usual),
                times(layer.rise),
                printable(_name(layer), ascii=ascii),
            )
        )
    if rest:
        share, stable = (_share(sum(shares)) for shares in zip(*((x.share, x.stable_share) for x in rest), strict=True))
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
    return [
        *answer,
        Text(),
        *lines,
        Text(),
        *points(
            [
                f"share: {whole} {there}, each step counting alike. stable: the same in the others. usual: the median norm in the "
                f"others. reaches: the median norm {there}, as a multiple of the usual."
            ],
            ascii=ascii,
        ),
    ]


def layers_title(c: Culprits) -> str:
    """Which steps are looked at, and against which."""
    titles: dict[Peaks, str] = {
        "spikes": f"Layers at the {count(c.num_peaks, 'spike')}, against {count(c.num_stable, 'stable step')}",
        "tail": f"Layers at the {count(c.num_peaks, 'step')} far above the rest, against the other {c.num_stable:,}",
        "runaway": f"Layers in the {count(c.num_peaks, 'finite step')} of the divergence, against {count(c.num_stable, 'stable step')}",
        "largest": f"No spikes: layers at the largest 1% of the steps ({c.num_peaks:,}), against the other {c.num_stable:,}",
    }
    return titles[c.peaks]


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
