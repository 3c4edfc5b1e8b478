"""``clipcal recommend``: a trace or a log -> a threshold."""

from __future__ import annotations

import typer

from clipcal.commands.answering import NO, print_json, said_no
from clipcal.commands.options import Compare, For, Json, LayersToo, Pattern, Plain, Plot, Quiet, RunOrLog, Tag, WhichRun
from clipcal.commands.showing import compared, show_one_snippet, show_recommendation, show_snippet, show_tables
from clipcal.commands.steps import read, save
from clipcal.errors import InputError


def recommend(
    source: RunOrLog,
    framework: For = None,
    compare: Compare = False,
    layers: LayersToo = False,
    tag: Tag = None,
    run: WhichRun = None,
    pattern: Pattern = None,
    plot: Plot = None,
    plain: Plain = False,
    json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Read a threshold from a run or any training log, with reasons."""
    with said_no():
        if framework is not None and (compare or layers):
            given = " and ".join(["--compare"] * compare + ["--layers"] * layers)
            raise InputError(
                f"--for prints the snippet alone, so there is no place for {given}. Ask for one or the other."
            )
        if plot is not None:
            from clipcal.plotting.saving import check_file

            check_file(plot)
        evidence, recommendation = read(source, tag=tag, run=run, pattern=pattern)
        replayed, culprits = compared(evidence, recommendation, compare=compare, layers=layers)
        if evidence.run is not None:
            save(evidence.run, recommendation, quiet=quiet)
        if plot is not None:
            from clipcal.console import note
            from clipcal.plotting.pictures import draw_recommendation

            draw_recommendation(evidence, recommendation, plot)
            if not quiet:
                note(f"wrote {plot}")
        if json:
            asked = {"comparison": replayed} if replayed else {}
            print_json(recommendation.as_dict() | asked | ({"layers": culprits.as_dict()} if culprits else {}))
        elif framework is not None:
            show_one_snippet(framework, evidence, recommendation)
        else:
            show_recommendation(evidence, recommendation, plain=plain)
            if recommendation.max_norm is not None:
                show_snippet(recommendation, evidence.run, plain=plain)
            show_tables(evidence, replayed, culprits, plain=plain)
    raise typer.Exit(0 if recommendation.max_norm is not None else NO)
