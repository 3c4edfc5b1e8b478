"""``clipcal recommend``: a trace or a log -> a threshold."""

from __future__ import annotations

from typing import Any

import typer

from clipcal.cli.answering import NO, print_json, said_no
from clipcal.cli.options import (
    Compare,
    For,
    Json,
    LayersToo,
    Pattern,
    Plain,
    Plot,
    Quiet,
    RunOrLog,
    ScaleTo,
    Tag,
    WhichRun,
)
from clipcal.cli.scaling import moved_to, moving_to, show_moved
from clipcal.cli.showing import compared, show_one_snippet, show_recommendation, show_snippet, show_tables
from clipcal.cli.steps import read, save
from clipcal.errors import InputError
from clipcal.logs.choice import LogChoice


def recommend(
    source: RunOrLog,
    framework: For = None,
    compare: Compare = False,
    layers: LayersToo = False,
    tag: Tag = None,
    run: WhichRun = None,
    pattern: Pattern = None,
    scale: ScaleTo = None,
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
        times = None if scale is None else moving_to(scale, {"--compare": compare, "--layers": layers, "--plot": plot})
        if plot is not None:
            from clipcal.views.image.saving import check_file

            check_file(plot)
        evidence, recommendation = read(source, LogChoice(tag=tag, run=run, pattern=pattern))
        moved = None
        if times is not None:
            evidence, recommendation, moved = moved_to(evidence, recommendation, times)
        replayed, culprits = compared(evidence, recommendation, compare=compare, layers=layers)
        if evidence.run is not None and times is None:
            save(evidence.run, recommendation, quiet=quiet)
        if plot is not None:
            from clipcal.views.image.pictures import draw_recommendation
            from clipcal.views.terminal.console import note

            draw_recommendation(evidence, recommendation, plot)
            if not quiet:
                note(f"wrote {plot}")
        if json:
            asked: dict[str, Any] = {"comparison": replayed} if replayed else {}
            asked |= {"transfer": moved} if times is not None else {}
            print_json(recommendation.as_dict() | asked | ({"layers": culprits.as_dict()} if culprits else {}))
        elif framework is not None:
            show_one_snippet(framework, evidence, recommendation)
        else:
            show = show_recommendation if moved is None else show_moved
            show(evidence, recommendation, plain=plain)
            if recommendation.max_norm is not None:
                show_snippet(recommendation, evidence.run, plain=plain)
            show_tables(evidence, replayed, culprits, plain=plain)
    raise typer.Exit(0 if recommendation.max_norm is not None else NO)
