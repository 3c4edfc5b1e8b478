"""Answers -> stdout, as tall and wide as the terminal allows."""

from __future__ import annotations

from typing import TYPE_CHECKING

from clipcal.cli.answering import NO, stop
from clipcal.errors import InputError

if TYPE_CHECKING:
    from clipcal.recommendation.answer import Recommendation
    from clipcal.recommendation.culprits import Culprits
    from clipcal.recommendation.evidence import Evidence
    from clipcal.recommendation.replay import Replayed
    from clipcal.run.directory import Run
    from clipcal.verification.answer import Verification
    from clipcal.verification.choosing import Outcome

USUAL = ("accelerate", "deepspeed", "huggingface", "keras", "lightning")
"""Frameworks that are named first below a snippet."""


def show_recommendation(evidence: Evidence, recommendation: Recommendation, *, plain: bool = False) -> None:
    from clipcal.views.terminal import console

    if plain:
        from clipcal.views.terminal import plainview

        plainview.say(plainview.recommendation(recommendation, evidence.trace, evidence.norms))
        return
    out = console.stdout_console()
    width, ascii = console.picture_width(out), console.is_ascii(out)
    console.show(out, console.recommendation(recommendation, evidence.trace, evidence.norms, width=width, ascii=ascii))


def compared(
    evidence: Evidence, recommendation: Recommendation, *, compare: bool, layers: bool
) -> tuple[tuple[Replayed, ...], Culprits | None]:
    replayed: tuple[Replayed, ...] = ()
    found = None
    if layers:
        from clipcal.recommendation.culprits import culprits

        found = culprits(evidence, recommendation)
    if compare:
        from clipcal.recommendation.replay import replay

        replayed = replay(evidence.norms, recommendation)
    return replayed, found


def show_tables(
    evidence: Evidence, replayed: tuple[Replayed, ...], culprits: Culprits | None, *, plain: bool = False
) -> None:
    from clipcal.views.terminal import console, tables

    if plain:
        from clipcal.views.terminal import plainview

        plainview.say(plainview.comparison(replayed, method=evidence.method) if replayed else [])
        plainview.say(plainview.layers(culprits) if culprits is not None else [])
        return
    out = console.stdout_console()
    width, ascii = out.width if out.is_terminal else None, console.is_ascii(out)
    if replayed:
        console.show(out, tables.comparison(replayed, method=evidence.method, width=width, ascii=ascii))
    if culprits is not None:
        console.show(out, tables.layers(culprits, width=width, ascii=ascii))


def show_choice(run: Run, outcome: Outcome, *, plain: bool = False) -> None:
    from clipcal.views.terminal import console

    if outcome.race is None:
        return
    if plain:
        from clipcal.views.terminal import plainview

        plainview.say(plainview.choice(outcome.choice, method=run.info.method))
    else:
        out = console.stdout_console()
        console.show(out, console.choice(outcome.choice, method=run.info.method, ascii=console.is_ascii(out)))


def show_verification(run: Run, verification: Verification, *, plain: bool = False) -> None:
    from clipcal.views.terminal import console

    if plain:
        from clipcal.views.terminal import plainview

        plainview.say(plainview.verification(verification, method=run.info.method))
        return
    out = console.stdout_console()
    console.show(out, console.verification(verification, method=run.info.method, ascii=console.is_ascii(out)))


def show_snippet(recommendation: Recommendation, run: Run | None, *, plain: bool = False) -> None:
    from clipcal.frameworks.snippets import framework_of, snippet_of
    from clipcal.frameworks.table import FRAMEWORKS
    from clipcal.views.terminal import console

    out = console.stdout_console()
    name = framework_of(run)
    others = sorted(FRAMEWORKS.keys() - {name}, key=lambda other: (other not in USUAL, other))
    try:
        text = snippet_of(name, recommendation, run)
    except InputError:  # it cannot be said in that framework's words
        name, text = "pytorch", snippet_of("pytorch", recommendation, run)
    title = "PyTorch" if name == "pytorch" else FRAMEWORKS[name].title
    if plain:
        from clipcal.views.terminal import plainview

        plainview.say(plainview.pasted(title, text, others))
    else:
        console.show(out, console.pasted(title, text, others))


def show_one_snippet(framework: str, evidence: Evidence, recommendation: Recommendation) -> None:
    from clipcal.frameworks.snippets import snippet_of
    from clipcal.frameworks.table import resolve

    resolve(framework)
    if recommendation.max_norm is None:
        stop(f"no threshold to paste: {recommendation.reasons[0]}", NO)
    print(snippet_of(framework, recommendation, evidence.run))
