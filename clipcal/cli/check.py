"""``clipcal check``: whether a threshold that is in use still fits."""

from __future__ import annotations

from typing import Annotated

import typer

from clipcal.cli import options
from clipcal.cli.answering import finish, print_json, said_no
from clipcal.cli.options import Display
from clipcal.errors import Exit, InputError
from clipcal.streams import reader_gone

InUse = Annotated[float | None, typer.Option("--max-norm", help="The threshold in use.  [default: what the log says]")]
Follow = Annotated[
    bool, typer.Option("--follow", "-f", help="Watch a log that is being written, and judge it again as it grows.")
]
Strict = Annotated[bool, typer.Option("--strict", help="Exit code 3 also where it is borderline.")]


@options.flags("source max_norm strict follow tag run pattern plot plain json quiet")
def check(
    source: options.RunOrLog,
    max_norm: InUse = None,
    strict: Strict = False,
    follow: Follow = False,
    plot: options.Plot = None,
    *,
    within: options.Within,
    display: Display,
) -> None:
    """Say whether a threshold that is in use still fits.

    How often it acts, when and how strongly, and what would be recommended instead. Exit code 3 where it does not fit, or cannot be told.
    """
    with said_no(interrupted="stopped"):
        from clipcal.checking import check as checked
        from clipcal.recommendation.evidence import load

        if follow and display.json:
            raise InputError("--follow watches and --json prints one object: ask for one or the other.")
        if follow and plot is not None:
            raise InputError("--follow watches and --plot draws one picture: ask for one or the other.")
        options.check_plot(plot)
        if follow and str(source) == "-":
            raise InputError("--follow watches a log as it grows and needs a file: standard input is read to its end.")
        if follow:
            from clipcal.views.terminal.console import stdout_console
            from clipcal.views.terminal.following import follow as watch

            gone = reader_gone()
            out = stdout_console(plain=display.plain)
            watch(source, max_norm=max_norm, choice=within, console=out, gone=gone)
            raise typer.Exit(Exit.BROKEN_PIPE)
        evidence = load(source, within)
        answer = checked(evidence, max_norm)
        if plot is not None:
            from clipcal.views.image.pictures import draw_check

            draw_check(evidence, answer, plot)
            display.note(f"wrote {plot}")
        if display.json:
            print_json(answer.as_dict())
        else:
            from clipcal.cli.showing import show_check

            show_check(evidence, answer, display)
    finish(yes=answer.fits is True or (answer.fits == "borderline" and not strict))
