"""``clipcal doctor``: what a bug report needs, and whether clipcal works here."""

from __future__ import annotations

import sys

import typer

from clipcal.cli.answering import NO, print_json, said_no
from clipcal.cli.options import Json, Plain, Quiet


def doctor(plain: Plain = False, json: Json = False, quiet: Quiet = False) -> None:
    """Say what a bug report needs: versions, devices, optional parts, and whether attaching to a script works here.

    Exit code 3 where something that is needed does not work. Nothing is told of the environment's variables.
    """
    with said_no(interrupted="stopped"):
        from clipcal.doctor.examining import examine

        findings = examine(on_test=(lambda: None) if quiet else _tell)
        if json:
            print_json(findings.as_dict())
        else:
            from clipcal.doctor.view import lines_of
            from clipcal.views.terminal import plainview

            plainview.say(lines_of(findings, plain=plain))
    raise typer.Exit(NO if findings.problems else 0)


def _tell() -> None:
    print("watching a small script, to see whether that works here", file=sys.stderr, flush=True)
