"""Answers -> plain words, line by line, for screen readers and logs: what the pictures and tables show, said.

One thing a line, as ``what: which`` or a sentence. No pictures, columns, colours, bullets, or signs that are not read out: a
difference is "lower by", not a minus.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

import numpy as np
from rich.text import Text

from clipcal.recommendation.headline import percent
from clipcal.views import words
from clipcal.views.figures.facts import FEWEST_DRAWN, Facts, Places, facts
from clipcal.views.terminal import console
from clipcal.views.words import LABELS, SCALED, count, number, share_of

if TYPE_CHECKING:
    from clipcal.checking import Check
    from clipcal.checking.answer import Part
    from clipcal.frameworks.applying.planning import Plan
    from clipcal.recommendation.answer import Method, Recommendation
    from clipcal.recommendation.culprits import Culprits
    from clipcal.recommendation.replay import Replayed
    from clipcal.run.trace import Floats, Trace
    from clipcal.verification.answer import ArmResult, Verification

NAMED = 10
"""Spikes that have a line of their own: more are no longer listened to."""


def say(sentences: Iterable[str]) -> None:
    """Print to stdout, no line cut or wrapped."""
    out = console.stdout_console(plain=True)
    ascii = console.is_ascii(out)
    console.show(out, (Text(words.printable(s, ascii=ascii)) for s in sentences))


def recommendation(r: Recommendation, trace: Trace, norms: Floats) -> list[str]:
    """The answer, what its pictures show, and the reasons."""
    head = words.headline(r)
    lines = [
        f"{LABELS[r.method]}: {'none' if r.max_norm is None else f'{r.max_norm:g}'}",
        f"verdict: {head.verdict}, {head.meaning}",
        *map(": ".join, head.facts),
    ]
    lines += course(r, trace, norms)
    if r.max_norm is not None and r.clipped.stable is not None:
        lines.append(f"the threshold acts on: {_acts(r.clipped.stable, r.clipped.spikes)}")
    return lines + _why(r.reasons, r.caveats)


def course(r: Recommendation, trace: Trace, norms: Floats) -> list[str]:
    """What the histogram and the timeline show."""
    f = facts(r, trace, norms, last_stable=r.last_healthy)
    if f.steps is None:
        return ["steps: none"]
    lines = [f"steps: {f.steps.num:,}, from step {f.steps.first:,} to step {f.steps.last:,}"]
    if r.stable is not None:
        s = r.stable
        lines.append(f"warm-up: {'none' if f.warm_up_until is None else f'until step {f.warm_up_until:,}'}")
        if f.lost_from is not None:
            lines.append(f"diverging: from step {f.lost_from:,}")
        lines.append(
            f"stable steps: {s.steps:,}, median norm {_quantiles(s.median, s.p95, s.p99)}, largest {number(s.max)}"
        )
    elif f.finite is not None:
        num, *quantiles = f.finite
        lines.append(f"finite norms: {num:,}, median {_quantiles(*quantiles)}")
    if f.largest is not None:
        lines.append(f"largest norm: {number(f.largest[0])} at step {f.largest[1]:,}")
    lines += _spikes(r, f)
    lines.append(f"non-finite norms: {_places(f.nonfinite)}")
    if f.zeros is not None:
        lines.append(f"zero norms: {_places(f.zeros)}")
    if r.drift.ratio is not None:
        lines.append(f"drift: {r.drift.direction}, the late level is {number(r.drift.ratio)} times the early one")
    return lines


def _quantiles(median: float, p95: float, p99: float) -> str:
    return f"{number(median)}, 95th percentile {number(p95)}, 99th percentile {number(p99)}"


def _spikes(r: Recommendation, f: Facts) -> list[str]:
    if not r.spikes.count:
        return ["spikes: none"]
    lines = [f"spikes: {r.spikes.count:,}, from {number(r.spikes.min)} to {number(r.spikes.max)}"]
    lines += [f"spike at step {step:,}: norm {number(norm)}" for step, norm in f.spikes[:NAMED]]
    if len(f.spikes) > NAMED:
        lines.append(f"and {len(f.spikes) - NAMED:,} more, the last at step {f.spikes[-1][0]:,}")
    return lines


def _places(found: Places | None) -> str:
    if found is None:
        return "none"
    if found.num == 1:
        return f"1, at step {found.first:,}"
    return f"{found.num:,}, the first at step {found.first:,}, the last at step {found.last:,}"


def _acts(stable: float | None, spikes: float | None) -> str:
    return f"{percent(stable)} of the stable steps" + ("" if spikes is None else f", {percent(spikes)} of the spikes")


def _why(reasons: Iterable[str], caveats: Iterable[str] = ()) -> list[str]:
    return [*(f"why: {spoken(s)}" for s in reasons), *(f"keep in mind: {spoken(s)}" for s in caveats)]


def spoken(sentence: str) -> str:
    """With words for the signs that are passed over when it is read out: -0.5% would be heard as a rise."""
    return re.sub(r"(?<=\d) x\b", " times", re.sub(r"(?<![\w.-])-(?=\d)", "minus ", sentence))


def verification(v: Verification, *, method: Method) -> list[str]:
    """The verdict, every arm, the reasons."""
    lines = [f"{LABELS[method]}: {v.max_norm:g}", f"verdict: {words.spaced(v.verdict)}", f"compared: {_compared(v)}"]
    return [*lines, *map(arm, v.arms), *_why(v.reasons)]


def _compared(v: Verification) -> str:
    c = v.comparison
    if c.loss_difference is None:
        return words.lost_runs(v)
    way = f"{'lower' if c.loss_difference < 0 else 'higher'} by {number(abs(c.loss_difference))}"
    spread = "" if c.interval is None else f", give or take {number((c.interval[1] - c.interval[0]) / 2)}"
    return f"final loss {way} than unclipped{spread}, {count(c.seeds, 'seed')}"


def arm(a: ArmResult) -> str:
    """A row of the arms' table."""
    ended = "lost" if a.diverged_at is not None else f"final loss {a.final_loss:.4g}, not lost"
    if a.diverged_at is not None:
        ended += f" at step {a.diverged_at:,}"
    clipped = (
        "" if a.max_norm is None else f", {a.clip_fraction:.1%} of the steps clipped, mean scale {a.mean_scale:.3f}"
    )
    return f"arm {a.name}, seed {a.seed}: {ended}, {count(a.loss_spikes, 'loss spike')}{clipped}"


def pasted(title: str, text: str, others: Sequence[str]) -> list[str]:
    """A snippet, as it is to be pasted."""
    return ["", f"paste this ({title}):", *text.splitlines(), "", words.other_frameworks(others)]


_FITS = {True: "yes", False: "no", "borderline": "borderline", None: "cannot be told"}


def check(c: Check, trace: Trace, norms: Floats) -> list[str]:
    """The answer of a check, what its pictures show, its quarters and the reasons."""
    r, head = c.recommendation, words.check_headline(c)
    lines = [
        f"{LABELS[r.method]}: {c.max_norm:g}{head.source and f', from {head.source}'}",
        f"fits: {_FITS[c.fits]}",
        f"verdict: {head.verdict}, {head.meaning}",
    ]
    in_full = {} if c.acts.stable is None else {"acts on": _acts(c.acts.stable, c.acts.spikes)}
    lines += [f"{what}: {in_full.get(what, which)}" for what, which in head.facts]
    lines += course(r, trace, norms)
    if c.warm_up is not None:
        lines.append(_part("warm-up", c.warm_up, known=c.verdict is not None))
    if len(norms) >= FEWEST_DRAWN:
        for i, q in enumerate(c.quarters, start=1):
            said = _part(f"quarter {i}", q, known=c.verdict is not None)
            lines.append(f"{said}, {(c.verdict and q.verdict) or 'unknown'}")
    return lines + _why(c.reasons, r.caveats)


def _part(name: str, p: Part, *, known: bool) -> str:
    said = [f"{name}, steps {p.first_step:,} to {p.last_step:,}: median norm {number(p.median)}"]
    if p.clipped is not None and known:
        said.append(f"{p.clipped:.1%} clipped")
    if p.mean_scale is not None:
        said.append(f"mean scale {p.mean_scale:.3f}")
    return ", ".join(said)


def comparison(rows: Sequence[Replayed], *, method: Method) -> list[str]:
    """Every rule on one trace, the highest threshold first."""
    lines = ["", f"{words.rules_title(rows[0]).lower()}; mean scale is the factor left of the {SCALED[method]}"]
    for r in sorted(rows, key=lambda r: -r.threshold):
        clips = "nothing to clip" if r.clipped is None else f"clips {share_of(r.clipped)} of the {r.over} steps"
        if r.clipped_spikes is not None:
            clips += f" and {r.clipped_spikes:.1%} of the spikes"
        scale = "" if r.mean_scale is None else f", mean scale {r.mean_scale:.3f}"
        chosen = ", recommended" if r.chosen else ""
        moving = ", moves from step to step, this is its last" if r.adaptive else ""
        lines.append(
            f"rule {r.name}{chosen}: threshold {number(r.threshold)}{moving}, {clips}{scale}, {r.verdict}; "
            f"{spoken(r.label)}, {r.source}"
        )
    return lines


def layers(c: Culprits, *, most: int = 10) -> list[str]:
    """What makes the spikes: the conclusion, and the ``most`` layers with the largest shares."""
    lines = ["", words.layers_title(c).lower(), spoken(c.conclusion), *map(spoken, c.notes)]
    found = c.attribution
    for layer in found.layers[:most]:
        makes = ", makes the spikes" if layer.name in found.culprits else ""
        rise = "" if layer.rise is None else f", reaches {number(layer.rise)} times its usual norm"
        if layer.rise == np.inf:
            rise = ", usually zero"
        lines.append(
            f"layer {layer.name}{makes}: {layer.share:.1%} there, {layer.stable_share:.1%} otherwise, "
            f"usual norm {number(layer.usual)}{rise}; its largest tensor is {layer.tensors[0].name}"
        )
    rest = found.layers[most:]
    if rest:
        lines.append(f"{count(len(rest), 'other layer')}: {sum(x.share for x in rest):.1%} there together")
    return lines


def changes(plan: Plan) -> list[str]:
    """What ``apply`` changes in a config file, key by key, in place of the diff."""
    return [
        f"{plan.path}: {c.key} {f'is new, {c.after}' if c.before is None else f'changes from {c.before} to {c.after}'}"
        for c in plan.changes
        if not plan.unchanged
    ]
