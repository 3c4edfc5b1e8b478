"""``clipcal apply``: the threshold -> a config file that is there already."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from clipcal.cli.answering import NO, print_json, said_no, stop
from clipcal.cli.options import Json, Pattern, Plain, Quiet, RunOrLog, Tag, WhichRun
from clipcal.cli.steps import read

if TYPE_CHECKING:
    from rich.text import Text

    from clipcal.frameworks.applying.planning import Plan
    from clipcal.recommendation.answer import Recommendation

SCHEMA = "clipcal.apply/1"

Config = Annotated[
    Path, typer.Argument(metavar="CONFIG", help="The YAML, JSON or TOML file to change.", show_default=False)
]
Key = Annotated[
    str | None,
    typer.Option("--key", help="Where the threshold goes, such as trainer.gradient_clip_val.", show_default=False),
]
Framework = Annotated[
    str | None,
    typer.Option("--for", help="The framework that the file is for, where it does not show.", show_default=False),
]
Yes = Annotated[bool, typer.Option("--yes", "-y", help="Write it. Without, the change is only shown.")]


def apply(
    source: RunOrLog,
    config: Config,
    key: Key = None,
    framework: Framework = None,
    yes: Yes = False,
    tag: Tag = None,
    run: WhichRun = None,
    pattern: Pattern = None,
    plain: Plain = False,
    json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Write the threshold into a config file.

    Shows the change as a diff, and makes it with --yes; comments and order stay as they are.
    """
    with said_no():
        from clipcal.frameworks.applying import planning
        from clipcal.views.terminal.console import note, printable, show, stdout_console

        _, recommendation = read(source, tag=tag, run=run, pattern=pattern)
        if recommendation.max_norm is None:
            if json:
                print_json(_as_dict(config, None, recommendation, written=False))
                raise typer.Exit(NO)
            stop(f"no threshold to write: {recommendation.reasons[0]}", NO)
        plan = planning.plan(
            config,
            max_norm=recommendation.max_norm,
            method=recommendation.method,
            norm_type=recommendation.norm_type,
            key=key,
            framework=framework,
        )
        if yes:
            planning.write(plan)
        if json:
            print_json(_as_dict(config, plan, recommendation, written=yes and not plan.unchanged))
            return
        for warning in plan.warnings:
            note(f"warning: {printable(warning)}")
        if plain:
            from clipcal.views.terminal import plainview

            plainview.say(plainview.changes(plan))
        else:
            show(stdout_console(), map(_coloured, planning.diff(plan).splitlines()))
        if plan.unchanged:
            note(f"{config} says {plan.changes[0].key}: {plan.changes[0].after} already; nothing to write")
        elif yes and not quiet:
            note(f"wrote {config}")
        elif not yes:
            note("nothing was written; write it with --yes")


def _coloured(line: str) -> Text:
    from rich.text import Text

    bold = line.startswith(("--- ", "+++ "))
    return Text(line, "bold" if bold else {"-": "red", "+": "green", "@": "cyan"}.get(line[:1], ""), no_wrap=True)


def _as_dict(config: Path, plan: Plan | None, recommendation: Recommendation, *, written: bool) -> dict[str, object]:
    """The object that ``--json`` prints; without a ``plan``, where there is no threshold, ``reasons`` say why."""
    from clipcal.frameworks.applying.planning import diff

    return {
        "schema": SCHEMA,
        "config": str(config),
        "framework": plan.framework if plan else None,
        "max_norm": recommendation.max_norm,
        "method": recommendation.method,
        "changes": list(plan.changes) if plan else [],
        "written": written,
        "warnings": list(plan.warnings) if plan else [],
        "diff": diff(plan) if plan else "",
        "reasons": list(recommendation.reasons),
    }
