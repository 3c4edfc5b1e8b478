"""``clipcal check``: whether a threshold that is in use still fits."""

from __future__ import annotations

from typing import Annotated

import typer

from clipcal.cli.answering import NO, print_json, said_no
from clipcal.cli.options import Json, Pattern, Plain, Plot, Quiet, RunOrLog, Tag, WhichRun
from clipcal.errors import InputError
from clipcal.logs.choice import LogChoice
from clipcal.streams import BROKEN_PIPE, reader_gone

InUse = Annotated[
    float | None,
    typer.Option("--max-norm", help="The threshold in use.  [default: what the log says]", show_default=False),
]
Follow = Annotated[
    bool, typer.Option("--follow", "-f", help="Watch a log that is being written, and judge it again as it grows.")
]


def check(
    source: RunOrLog,
    max_norm: InUse = None,
    follow: Follow = False,
    tag: Tag = None,
    run: WhichRun = None,
    pattern: Pattern = None,
    plot: Plot = None,
    plain: Plain = False,
    json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Say whether a threshold that is in use still fits.

    How often it acts, when and how strongly, and what would be recommended instead. Exit code 3 where it does not fit.
    """
    with said_no(interrupted="stopped"):
        from clipcal.checking import check as checked
        from clipcal.recommendation.evidence import load

        choice = LogChoice(tag=tag, run=run, pattern=pattern)
        if follow and json:
            raise InputError("--follow watches and --json prints one object: ask for one or the other.")
        if follow and plot is not None:
            raise InputError("--follow watches and --plot draws one picture: ask for one or the other.")
        if plot is not None:
            from clipcal.views.image.saving import check_file

            check_file(plot)
        if follow and str(source) == "-":
            raise InputError("--follow watches a log as it grows and needs a file: standard input is read to its end.")
        if follow:
            from clipcal.views.terminal.console import stdout_console
            from clipcal.views.terminal.following import follow as watch

            gone = reader_gone()
            out = stdout_console(plain=plain)
            watch(source, max_norm=max_norm, choice=choice, console=out, gone=gone)
            raise typer.Exit(BROKEN_PIPE)
        evidence = load(source, choice)
        answer = checked(evidence, max_norm)
        if plot is not None:
            from clipcal.views.image.pictures import draw_check
            from clipcal.views.terminal.console import note

            draw_check(evidence, answer, plot)
            if not quiet:
                note(f"wrote {plot}")
        if json:
            print_json(answer.as_dict())
        elif plain:
            from clipcal.views.terminal import plainview

            plainview.say(plainview.check(answer, evidence.trace, evidence.norms))
        else:
            from clipcal.views.terminal import checkview, console

            out = console.stdout_console()
            width, ascii = console.picture_width(out), console.is_ascii(out)
            console.show(out, checkview.check(answer, evidence.trace, evidence.norms, width=width, ascii=ascii))
    raise typer.Exit(0 if answer.fits else NO)
