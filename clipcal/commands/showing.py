"""Answers -> stdout, as tall and wide as the terminal allows."""

from __future__ import annotations

import datetime
from typing import TYPE_CHECKING

from clipcal._version import __version__
from clipcal.commands.answering import NO, stop
from clipcal.errors import InputError

if TYPE_CHECKING:
    from clipcal.choosing import Outcome
    from clipcal.culprits import Culprits
    from clipcal.evidence import Evidence
    from clipcal.recommendation import Recommendation
    from clipcal.replay import Replayed
    from clipcal.rundir import Run
    from clipcal.verification import Verification

USUAL = ("accelerate", "deepspeed", "huggingface", "keras", "lightning")
"""Frameworks that are named first below a snippet."""


def show_recommendation(evidence: Evidence, recommendation: Recommendation) -> None:
    from clipcal import console

    out = console.stdout_console()
    width, ascii = console.picture_width(out), console.is_ascii(out)
    console.show(out, console.recommendation(recommendation, evidence.trace, evidence.norms, width=width, ascii=ascii))


def compared(
    evidence: Evidence, recommendation: Recommendation, *, compare: bool, layers: bool
) -> tuple[tuple[Replayed, ...], Culprits | None]:
    replayed: tuple[Replayed, ...] = ()
    found = None
    if layers:
        from clipcal.culprits import culprits

        found = culprits(evidence, recommendation)
    if compare:
        from clipcal.replay import replay

        replayed = replay(evidence.norms, recommendation)
    return replayed, found


def show_tables(evidence: Evidence, replayed: tuple[Replayed, ...], culprits: Culprits | None) -> None:
    from clipcal import console, tables

    out = console.stdout_console()
    width, ascii = out.width if out.is_terminal else None, console.is_ascii(out)
    if replayed:
        console.show(out, tables.comparison(replayed, method=evidence.method, width=width, ascii=ascii))
    if culprits is not None:
        console.show(out, tables.layers(culprits, width=width, ascii=ascii))


def show_choice(run: Run, outcome: Outcome) -> None:
    from clipcal import console

    if outcome.race is not None:
        out = console.stdout_console()
        console.show(out, console.choice(outcome.choice, method=run.info.method, ascii=console.is_ascii(out)))


def show_verification(run: Run, verification: Verification) -> None:
    from clipcal import console

    out = console.stdout_console()
    console.show(out, console.verification(verification, method=run.info.method, ascii=console.is_ascii(out)))


def show_snippet(recommendation: Recommendation, run: Run | None) -> None:
    from clipcal import console
    from clipcal.snippets import SNIPPETS

    out = console.stdout_console()
    name = _framework_of(run)
    others = sorted(SNIPPETS.keys() - {name}, key=lambda other: (other not in USUAL, other))
    try:
        text = snippet_of(name, recommendation, run)
    except InputError:  # it cannot be said in that framework's words
        name, text = "pytorch", snippet_of("pytorch", recommendation, run)
    console.show(out, console.pasted("PyTorch" if name == "pytorch" else SNIPPETS[name].title, text, others))


def _framework_of(run: Run | None) -> str:
    """The framework that the run's script lets clip, where that was seen."""
    from clipcal.snippets import SNIPPETS

    name = str(run.info.source.get("framework")) if run is not None else ""
    return name if name in SNIPPETS else "pytorch"


def show_one_snippet(framework: str, evidence: Evidence, recommendation: Recommendation) -> None:
    from clipcal.snippets import resolve

    resolve(framework)
    if recommendation.max_norm is None:
        stop(f"no threshold to paste: {recommendation.reasons[0]}", NO)
    print(snippet_of(framework, recommendation, evidence.run))


def snippet_of(framework: str, recommendation: Recommendation, run: Run | None) -> str:
    from clipcal.snippets import snippet

    assert recommendation.max_norm is not None
    return snippet(
        framework,
        max_norm=recommendation.max_norm,
        method=recommendation.method,
        norm_type=recommendation.norm_type,
        provenance=_provenance(recommendation, run),
    )


def _provenance(recommendation: Recommendation, run: Run | None) -> str:
    from clipcal.snippets import provenance

    if run is None:
        return provenance(
            version=__version__,
            source=str(recommendation.source),
            steps=recommendation.steps,
            date=datetime.date.today().isoformat(),
        )
    batch, accumulate = _batch(run)
    return provenance(
        version=__version__,
        source=str(run.info.source.get("path", run.folder)),
        steps=recommendation.steps,
        batch_size=batch,
        accumulate=accumulate,
        num_ranks=run.info.world_size,
        date=run.info.started,
    )


def _batch(run: Run) -> tuple[int | None, int]:
    """The batch size and the accumulated micro-batches that the spec of a run names; a spec that cannot be read names none."""
    import yaml

    try:
        fields = yaml.safe_load(str(run.info.source.get("text", "")))
        size, accumulate = fields["data"].get("batch_size"), fields.get("accumulate", 1)
    except (yaml.YAMLError, KeyError, TypeError, AttributeError, ValueError, RecursionError):
        return None, 1
    whole = [isinstance(n, int) and not isinstance(n, bool) and n > 0 for n in (size, accumulate)]
    return size if whole[0] else None, accumulate if whole[1] else 1
