"""The ``clipcal`` command: the table of its commands, and the one place where it ends."""

from __future__ import annotations

import os
import sys
from typing import Annotated

import typer

from clipcal import streams
from clipcal._version import __version__
from clipcal.cli.apply import apply
from clipcal.cli.calibrate import calibrate
from clipcal.cli.check import check
from clipcal.cli.doctor import doctor
from clipcal.cli.init import init
from clipcal.cli.log import log
from clipcal.cli.profile import profile
from clipcal.cli.recommend import recommend
from clipcal.cli.report import report
from clipcal.cli.runs import runs
from clipcal.cli.sources import SourceCommand
from clipcal.cli.survey import survey
from clipcal.cli.verify import verify
from clipcal.errors import OutputLost, has_torch
from clipcal.sources.ranks import ranks_here

app = typer.Typer(
    name="clipcal",
    help="Calibrates the gradient-clipping threshold of a PyTorch training run from the run's own gradient norms.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,  # with rich, `--help` alone takes 1.8 times as long as importing typer and rich
    context_settings={"help_option_names": ["-h", "--help"]},
)
TRAINING = ("calibrate", "profile", "verify")
for training in (calibrate, profile):
    app.command(cls=SourceCommand)(training)
for command in (recommend, verify, check, log, survey, apply, report, runs, init, doctor):
    app.command()(command)


def main() -> None:
    """The console script. Everything that clipcal says no with ends here, as a paragraph and an exit code."""
    ranks = ranks_here()
    trains = set(sys.argv[1:2]) & set(TRAINING)
    if ranks is None or not trains or not has_torch():  # what trains nothing is each process' own
        _run()
        return
    os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "ERROR")  # DDP warns of what was chosen for it
    from clipcal.training.parallel.ending import end_with

    if ranks.rank > 0:
        from clipcal.training.parallel.following import follow

        end_with(follow)
    end_with(_run)


def _run() -> None:
    streams.watch()
    try:
        try:
            app()
        finally:
            streams.flush()
    except OutputLost as e:
        if e.reason is not None:  # `clipcal recommend RUN | head -1` is no error to speak of
            print(f"error: {e}", file=sys.stderr)
        sys.exit(e.exit_code)


def _version(asked: bool) -> None:
    if asked:
        print(f"clipcal {__version__}")
        raise typer.Exit


@app.callback()
def options(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Options before the command."""
