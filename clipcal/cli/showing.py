"""Answers -> stdout: in words, or drawn as tall and wide as the terminal allows."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from rich.text import Text

from clipcal.cli.options import Display
from clipcal.errors import InputError
from clipcal.recommendation.answer import Recommendation
from clipcal.recommendation.evidence import Evidence
from clipcal.run.directory import Run
from clipcal.verification.answer import Verification
from clipcal.views.figures.course import course
from clipcal.views.terminal import answers, console, plainview, tables

if TYPE_CHECKING:
    from clipcal.checking.answer import Check
    from clipcal.recommendation.culprits import Culprits
    from clipcal.recommendation.replay import Replayed

USUAL = ("accelerate", "deepspeed", "huggingface", "keras", "lightning")
"""Frameworks that are named first below a snippet."""


@dataclass(frozen=True, kw_only=True)
class Paper:
    """What is drawn on. ``table_width`` is None in a pipe, where no line is cut."""

    width: int
    table_width: int | None
    ascii: bool


def present(display: Display, spoken: Callable[[], Iterable[str]], drawn: Callable[[Paper], Iterable[Text]]) -> None:
    """Print the sentences of ``spoken`` or the lines of ``drawn``."""
    if display.plain:
        plainview.say(spoken())
        return
    out = console.stdout_console()
    table_width = out.width if out.is_terminal else None
    paper = Paper(width=console.picture_width(out), table_width=table_width, ascii=console.is_ascii(out))
    console.show(out, drawn(paper))


def show_recommendation(evidence: Evidence, r: Recommendation, display: Display, *, moved: bool = False) -> None:
    """``moved``: to another batch, whose steps were not seen, so there are no pictures of them."""
    trace, norms = evidence.trace, evidence.norms[:0] if moved else evidence.norms

    def spoken() -> list[str]:
        left_out = plainview.course(r, trace, norms)[:1] if moved else []
        return [line for line in plainview.recommendation(r, trace, norms) if line not in left_out]

    def drawn(paper: Paper) -> list[Text]:
        steps = None if moved else course(r, guard=evidence.guard)
        return answers.recommendation(r, steps, width=paper.width, ascii=paper.ascii)

    present(display, spoken, drawn)


def show_headline(r: Recommendation, v: Verification, display: Display) -> None:
    """The one answer, first: what to paste, what it does, and what training showed."""
    text = f"{r.headline.rstrip('.')}; {v.outcome}."
    present(display, lambda: [text, ""], lambda paper: [Text(text, "bold"), Text()])


def show_tables(
    evidence: Evidence, replayed: tuple[Replayed, ...], culprits: Culprits | None, display: Display
) -> None:
    if replayed:
        present(
            display,
            lambda: plainview.comparison(replayed, method=evidence.method),
            lambda paper: tables.comparison(
                replayed, method=evidence.method, width=paper.table_width, ascii=paper.ascii
            ),
        )
    if culprits is not None:
        present(
            display,
            lambda: plainview.layers(culprits),
            lambda paper: tables.layers(culprits, width=paper.table_width, ascii=paper.ascii),
        )


def show_verification(run: Run, verification: Verification, display: Display) -> None:
    present(
        display,
        lambda: plainview.verification(verification, method=run.info.method),
        lambda paper: answers.verification(verification, method=run.info.method, ascii=paper.ascii),
    )


def show_check(evidence: Evidence, answer: Check, display: Display) -> None:
    trace, norms = evidence.trace, evidence.norms
    present(
        display,
        lambda: plainview.check(answer, trace, norms),
        lambda paper: answers.check(
            answer, course(answer.recommendation, guard=evidence.guard), width=paper.width, ascii=paper.ascii
        ),
    )


def show_snippet(recommendation: Recommendation, evidence: Evidence, display: Display) -> None:
    from clipcal.frameworks.snippets import known, snippet_of
    from clipcal.frameworks.table import FRAMEWORKS

    name, run = known(evidence.framework), evidence.run
    others = sorted(FRAMEWORKS.keys() - {name}, key=lambda other: (other not in USUAL, other))
    try:
        text = snippet_of(name, recommendation, run)
    except InputError:  # it cannot be said in that framework's words
        name, text = "pytorch", snippet_of("pytorch", recommendation, run)
    title = "PyTorch" if name == "pytorch" else FRAMEWORKS[name].title
    present(display, lambda: plainview.pasted(title, text, others), lambda paper: answers.pasted(title, text, others))
