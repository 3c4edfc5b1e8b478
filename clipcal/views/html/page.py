"""A view -> the page: the answer and the snippet on top, then the figures with what they say, then where it all comes from."""

from __future__ import annotations

from collections.abc import Iterable
from importlib import resources
from xml.etree.ElementTree import Element

from clipcal._version import __version__
from clipcal.views import words
from clipcal.views.html import payload, tables
from clipcal.views.html.html import data, h, many, page, trusted
from clipcal.views.html.view import View
from clipcal.views.words import number

GENERATOR = "clipcal report"
POLICY = "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; img-src data:"
"""The page may ask nobody for anything, whatever stands in it."""
SCRIPTS = (
    "page", "axes", "marks", "charts", "course", "distribution", "share", "harm", "heat", "arms", "figures", "snippets",
)  # fmt: skip
"""The parts of the page's own script, each after those it needs."""


def render(v: View) -> str:
    """The whole page, for a file of its own."""
    figures, drawn = _figures(v)
    head = h(
        "head",
        h("meta", charset="utf-8"),
        h("meta", http_equiv="Content-Security-Policy", content=POLICY),
        h("meta", name="viewport", content="width=device-width, initial-scale=1"),
        h("meta", name="generator", content=GENERATOR),
        h("meta", name="color-scheme", content="light dark"),
        h("title", f"{words.threshold(v.recommendation)} · {v.title} · clipcal"),
        trusted("style", _asset("uPlot.min.css") + _asset("report.css")),
    )
    body = h(
        "body",
        many("main", [_header(v), _paste(v), _why(v), *figures, *tables.sections(v), _origin(v)]),
        h("footer", f"clipcal {__version__}. Drawn with uPlot (MIT)."),
        data("data", drawn),
        trusted("script", f"/*\nuPlot: {_asset('uPlot.LICENSE')}*/\n{_asset('uPlot.iife.min.js')}"),
        trusted("script", _script()),
    )
    return page(h("html", head, body, lang="en"))


def _asset(name: str) -> str:
    return resources.files("clipcal.views.html").joinpath("assets", name).read_text(encoding="utf-8")


def _script() -> str:
    """The parts as one script, in a scope of its own: their names are no globals, where uPlot's may be."""
    parts = "\n".join(_asset(f"{name}.js") for name in SCRIPTS)
    return f'(() => {{\n"use strict";\n\n{parts}}})();\n'


def _header(v: View) -> Element:
    head = words.headline(v.recommendation)
    chips = [(words.spaced(head.verdict), head.verdict), *((" ".join(fact), "") for fact in head.facts)]
    if v.arms is not None:
        chips.append((f"trained again: {words.spaced(v.arms.verdict)}", v.arms.verdict))
    return h(
        "header",
        h("p", v.title, class_="name"),
        h("h1", head.answer),
        many("p", (h("span", text, class_=f"chip {kind}".rstrip()) for text, kind in chips), class_="chips"),
        h("p", f"{_capital(head.meaning)}.", class_="meaning"),
    )


def _capital(sentence: str) -> str:
    return sentence[:1].upper() + sentence[1:]


def _paste(v: View) -> Element | None:
    if not v.snippets:
        return None
    options = [h("option", title, value=str(i)) for i, (title, _) in enumerate(v.snippets)]
    texts = [
        h("pre", h("code", text), **({} if i == 0 else {"hidden": ""}), id=f"snippet-{i}")
        for i, (_, text) in enumerate(v.snippets)
    ]
    bar = h(
        "div",
        h("label", "Paste this for ", many("select", options, id="framework"), class_="wide"),
        h("button", "Copy", id="copy", type="button"),
        class_="bar",
    )
    return h("section", bar, *texts, class_="paste", aria_label="Snippet")


def _why(v: View) -> Element:
    r, found = v.recommendation, v.culprits
    parts = (
        ("Why", r.reasons),
        ("Keep in mind", r.caveats),
        ("Which layers", (found.conclusion, *found.notes) if found is not None else ()),
        ("When trained again", v.arms.reasons if v.arms is not None else ()),
    )
    said = (e for title, sentences in parts if sentences or title == "Why" for e in _titled(title, sentences))
    return many("section", said, class_="why")


def _titled(title: str, sentences: Iterable[str]) -> tuple[Element, Element]:
    return h("h2", title), many("ul", (h("li", s) for s in sentences))


def _figures(v: View) -> tuple[list[Element], dict[str, object]]:
    """Each figure's place, and its numbers."""
    f, c = v.figures, v.figures.course
    drawn: dict[str, object] = {"course": payload.course(c), "label": words.LABELS[v.recommendation.method]}
    title = f"{_capital(c.unit)} over the steps" + (", and the loss" if c.losses is not None else "")
    zoom = "Drag to zoom, double-click for the whole."
    places = [_figure("course", title, _said_of_course(v), zoom, wide=True)]
    if f.distribution is not None:
        drawn["distribution"] = payload.distribution(f.distribution)
        said = f"Steps by their {c.unit}."
        if f.distribution.left_out:
            said += f" {f.distribution.left_out:,} steps with a norm of zero, or none that is finite, are not in it."
        if f.distribution.beyond:
            said += f" {f.distribution.beyond:,} lie far beyond its right end."
        places.append(_figure("distribution", "How often each norm occurs", said))
    if f.share is not None:
        drawn["share"] = payload.share(f.share)
        of = "stable steps" if f.share.is_stable else "steps with a finite norm"
        said = f"The share of the {of} that each threshold would have clipped, and what it would have left of the learning rate."
        places.append(_figure("share", "What each threshold would clip", said))
    if f.harm is not None:
        drawn["harm"] = payload.harm(f.harm)
        found = v.recommendation.harm
        said = "The loss of the three steps after each step, against the five before it."
        if found is not None:
            rise = "more" if found.loss_change_above > found.loss_change_below else "no more"
            said += f" Above {number(found.threshold)} ({found.steps_above} steps) it rises {rise} than below."
        else:
            said += " It does not show that large norms do harm."
        # the third of the narrow ones stands alone in its row
        places.append(_figure("harm", "Do large norms do harm?", said, wide=len(places) != 2))
    if f.heat is not None:
        drawn["heat"] = payload.heat(f.heat)
        said = "Each layer's norm as a multiple of its usual one; the percentage is its share of the large steps."
        if f.heat.num_others:
            said += f" {f.heat.num_others} more layers, with less of the norm, are not shown."
        places.append(_figure("heat", "Which layers make the large norms", said, wide=True))
    if v.arms is not None and v.arms.curves:
        drawn["arms"] = payload.arms(v.arms)
        said = (
            f"{len(v.arms.curves)} runs on {words.count(len(v.arms.seeds), 'seed')}, a thin line each. Losses as a running median: a batch's "
            "noise hides the difference."
        )
        places.append(_figure("arms", "Trained side by side", said, wide=True))
    return places, drawn


def _figure(name: str, title: str, said: str, *more: str, wide: bool = False) -> Element:
    return h(
        "figure",
        h("h2", title),
        h("figcaption", said, *(h("span", f" {m}", class_="hint") for m in more)),
        h("div", id=name, class_="plot", role="img", aria_label=f"{title}. {said}"),
        class_="wide" if wide else "",
    )


def _said_of_course(v: View) -> str:
    """What the picture shows, also for people who do not see it."""
    r, c, f = v.recommendation, v.figures.course, v.figures.facts
    parts = [f"{len(c.norms):,} steps"]
    if r.stable is not None:
        parts.append(f"stable median {number(r.stable.median)}, 99% of stable steps below {number(r.stable.p99)}")
    if r.spikes.count:
        parts.append(f"{r.spikes.count:,} spikes from {number(r.spikes.min)} to {number(r.spikes.max)}")
    if r.nonfinite.count:
        parts.append(f"{r.nonfinite.count:,} not finite, the first at step {r.nonfinite.first_step}")
    if f.warm_up_until is not None:
        parts.append(f"warm-up to step {f.warm_up_until:,}")
    if c.last_healthy is not None:
        parts.append(f"runs away after step {c.last_healthy:,}")
    if c.in_use is not None:
        parts.append(f"the run was clipped at {number(c.in_use)}")
    if c.guard is not None:
        parts.append(f"recorded under a guard of {number(c.guard)}")
    if r.drift.ratio is not None and r.drift.direction != "flat":
        goes = "rises and falls" if r.drift.direction == "cycle" else f"goes {r.drift.direction}"
        parts.append(f"the level {goes}, x {number(r.drift.ratio)}")
    return "; ".join(parts) + "."


def _origin(v: View) -> Element:
    parts: list[Element | str | None] = [h("h2", "Where it comes from")]
    parts.append(many("dl", (item for name, value in v.facts for item in (h("dt", name), h("dd", value)))))
    parts += [h("h3", "The same again"), h("pre", h("code", "\n".join(v.commands)))]
    if v.spec is not None:
        parts.append(h("details", h("summary", "The spec"), h("pre", h("code", v.spec))))
    return many("section", parts, class_="origin")
