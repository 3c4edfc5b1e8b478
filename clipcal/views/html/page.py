"""A view -> the page: the answer and the snippet on top, then the figures with what they say, then where it all comes from."""

from __future__ import annotations

from importlib import resources
from xml.etree.ElementTree import Element

from clipcal._version import __version__
from clipcal.views.html import payload, tables
from clipcal.views.html.html import data, h, many, page, trusted
from clipcal.views.html.view import View
from clipcal.views.terminal.console import label, meaning, number

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
        h("title", f"{_answer(v)} · {v.title} · clipcal"),
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


def _answer(v: View) -> str:
    r = v.recommendation
    return "no threshold" if r.max_norm is None else f"{label(r.method)} {r.max_norm:g}"


def _header(v: View) -> Element:
    r = v.recommendation
    chips = [h("span", r.verdict.replace("_", " "), class_=f"chip {r.verdict}")]
    if r.max_norm is not None:
        chips.append(h("span", f"confidence {r.confidence}", class_="chip"))
    if r.interval is not None:
        chips.append(h("span", f"interval {number(r.interval[0])} to {number(r.interval[1])}", class_="chip"))
    if v.arms is not None:
        trained = f"trained again: {v.arms.verdict.replace('_', ' ')}"
        chips.append(h("span", trained, class_=f"chip {v.arms.verdict}"))
    lines: list[Element | str | None] = [
        h("p", v.title, class_="name"),
        h("h1", _answer(v)),
        many("p", chips, class_="chips"),
        h("p", f"{meaning(r)[:1].upper()}{meaning(r)[1:]}.", class_="meaning"),
    ]
    return many("header", lines)


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
    r = v.recommendation
    parts = [h("h2", "Why"), many("ul", (h("li", s) for s in r.reasons))]
    if r.caveats:
        parts += [h("h2", "Keep in mind"), many("ul", (h("li", s) for s in r.caveats))]
    if v.culprits is not None:
        parts += [h("h2", "Which layers"), many("ul", (h("li", s) for s in (v.culprits.conclusion, *v.culprits.notes)))]
    if v.arms is not None:
        parts += [h("h2", "When trained again"), many("ul", (h("li", s) for s in v.arms.reasons))]
    return many("section", parts, class_="why")


def _figures(v: View) -> tuple[list[Element], dict[str, object]]:
    """Each figure's place, and its numbers."""
    c = v.course
    drawn: dict[str, object] = {"course": payload.course(c), "label": label(v.recommendation.method)}
    places = [
        _figure(
            "course",
            f"{c.unit[:1].upper()}{c.unit[1:]} over the steps" + (", and the loss" if c.losses is not None else ""),
            _said_of_course(v),
            "Drag to zoom, double-click for the whole.",
            wide=True,
        )
    ]
    if v.distribution is not None:
        drawn["distribution"] = payload.distribution(v.distribution)
        left = f" {v.distribution.left_out:,} steps with a norm of zero, or none that is finite, are not in it." * bool(
            v.distribution.left_out
        )
        beyond = f" {v.distribution.beyond:,} lie far beyond its right end." * bool(v.distribution.beyond)
        places.append(_figure("distribution", "How often each norm occurs", f"Steps by their {c.unit}.{left}{beyond}"))
    if v.share is not None:
        drawn["share"] = payload.share(v.share)
        of = "stable steps" if v.share.is_stable else "steps with a finite norm"
        said = f"The share of the {of} that each threshold would have clipped, and what it would have left of the learning rate."
        places.append(_figure("share", "What each threshold would clip", said))
    if v.harm is not None:
        drawn["harm"] = payload.harm(v.harm)
        h_ = v.recommendation.harm
        said = "The loss of the three steps after each step, against the five before it."
        if h_ is not None:
            rise = "more" if h_.loss_change_above > h_.loss_change_below else "no more"
            said += f" Above {number(h_.threshold)} ({h_.steps_above} steps) it rises {rise} than below."
        else:
            said += " It does not show that large norms do harm."
        # the third of the narrow ones stands alone in its row
        places.append(_figure("harm", "Do large norms do harm?", said, wide=len(places) != 2))
    if v.heat is not None:
        drawn["heat"] = payload.heat(v.heat)
        more = f" {v.heat.num_others} more layers, with less of the norm, are not shown." * bool(v.heat.num_others)
        said = (
            "Each layer's norm as a multiple of its usual one; the percentage is its share of the large steps." + more
        )
        places.append(_figure("heat", "Which layers make the large norms", said, wide=True))
    if v.arms is not None and v.arms.curves:
        drawn["arms"] = payload.arms(v.arms)
        seeds = len({c.result.seed for c in v.arms.curves})
        said = (
            f"{len(v.arms.curves)} runs on {seeds} seed{'s' * (seeds != 1)}, a thin line each. Losses as a running median: a batch's noise hides "
            "the difference."
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
    """What is to be seen, for those who do not see it too."""
    r, c = v.recommendation, v.course
    parts = [f"{len(c.norms):,} steps"]
    if r.stable is not None:
        parts.append(f"stable median {number(r.stable.median)}, 99% of stable steps below {number(r.stable.p99)}")
    if r.spikes.count:
        parts.append(f"{r.spikes.count:,} spikes from {number(r.spikes.min)} to {number(r.spikes.max)}")
    if r.nonfinite.count:
        parts.append(f"{r.nonfinite.count:,} not finite, the first at step {r.nonfinite.first_step}")
    if c.first_stable is not None and c.first_stable > c.steps[0]:
        parts.append(f"warm-up to step {c.first_stable - 1:,}")
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
