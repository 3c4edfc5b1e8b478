"""A view -> the page's tables: the arms, the rules that others use, the layers."""

from __future__ import annotations

from collections.abc import Sequence
from xml.etree.ElementTree import Element

from clipcal.views import words
from clipcal.views.html.html import h, many
from clipcal.views.html.view import View

MOST_LAYERS = 20


def sections(v: View) -> list[Element | None]:
    return [_arms(v), _rules(v), _layers(v)]


def _arms(v: View) -> Element | None:
    if v.arms is None:
        return None
    return _section("The arms", "", words.ARMS_HEAD, [words.arm_cells(curve.result) for curve in v.arms.curves])


def _rules(v: View) -> Element | None:
    if not v.rules:
        return None
    over = v.rules[0].over
    name = words.LABELS[v.recommendation.method]
    head = ("rule", name, f"clips of {over} steps", "of spikes", "mean scale", "verdict", "what it is")
    rows, classes = [], []
    for r in sorted(v.rules, key=lambda r: -r.threshold):
        what = r.label if r.source == "clipcal" else f"{r.label} ({r.source})"
        rows.append((r.name, *words.rule_cells(r), what))
        classes.append("chosen" if r.chosen else "")
    said = (
        f"What each rule would have done on this run. mean scale: the factor that it leaves of the {over} steps. inactive: clips nothing. "
        "guard: under 5% of them. limiter: under half. brake: half or more."
    )
    return _section("Against the rules that others use", said, head, rows, classes, texts=(0, 5, 6))


def _layers(v: View) -> Element | None:
    if v.culprits is None or not v.culprits.attribution.layers:
        return None
    found = v.culprits.attribution
    head = ("layer", "share", "in stable steps", "usual norm", "reaches")
    listed = found.layers[:MOST_LAYERS]
    rows = [(layer.name, *words.layer_cells(layer)) for layer in listed]
    classes = ["chosen" if layer.name in found.culprits else "" for layer in listed]
    rest = len(found.layers) - len(rows)
    said = "Shares of the norm at the large steps, and in stable ones." + (
        f" {rest} more are not listed." if rest > 0 else ""
    )
    return _section("Layers", said, head, rows, classes)


def _section(
    title: str,
    said: str,
    head: Sequence[str],
    rows: Sequence[Sequence[str]],
    classes: Sequence[str] = (),
    *,
    texts: Sequence[int] = (0,),
) -> Element:
    """``texts``: the columns that are read rather than compared."""

    def cells(tag: str, row: Sequence[str]) -> list[Element]:
        return [h(tag, cell, class_="text" if i in texts else "number") for i, cell in enumerate(row)]

    body = [many("tr", cells("td", row), class_=classes[i] if i < len(classes) else "") for i, row in enumerate(rows)]
    table = h("table", h("thead", many("tr", cells("th", head))), many("tbody", body))
    return h("section", h("h2", title), h("p", said) if said else None, h("div", table, class_="scroll"))
