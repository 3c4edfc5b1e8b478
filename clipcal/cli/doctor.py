"""``clipcal doctor``: what a bug report needs, and whether clipcal works here."""

from __future__ import annotations

from clipcal.cli.answering import finish, print_json, said_no
from clipcal.cli.options import Display, flags


@flags()
def doctor(display: Display) -> None:
    """Say what a bug report needs: versions, devices, optional parts, and whether attaching to a script works here.

    Exit code 3 where something that is needed does not work. Nothing is told of the environment's variables.
    """
    with said_no(interrupted="stopped"):
        from clipcal.doctor.examining import examine, lines_of

        findings = examine(lambda: display.note("watching a small script, to see whether that works here"))
        if display.json:
            print_json(findings.as_dict())
        else:
            from clipcal.views.terminal import plainview

            plainview.say(lines_of(findings, plain=display.plain))
    finish(yes=not findings.problems)
