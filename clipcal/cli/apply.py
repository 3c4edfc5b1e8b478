"""``clipcal apply``: the threshold -> a config file that is there already."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from clipcal.cli import options
from clipcal.cli.answering import finish, print_json, said_no, stop
from clipcal.cli.options import Display
from clipcal.errors import Exit

if TYPE_CHECKING:
    from rich.text import Text

    from clipcal.frameworks.applying.planning import Plan
    from clipcal.recommendation.answer import Recommendation

SCHEMA = "clipcal.apply/1"

Config = Annotated[Path, typer.Argument(metavar="CONFIG", help="The YAML, JSON or TOML file to change.")]
Key = Annotated[str | None, typer.Option("--key", help="Where the threshold goes, such as trainer.gradient_clip_val.")]
Framework = Annotated[
    str | None, typer.Option("--for", help="The framework that the file is for, where it does not show.")
]
Yes = Annotated[bool, typer.Option("--yes", "-y", help="Write it. Without, the change is only shown.")]


@options.flags()
def apply(
    source: options.RunOrLog,
    config: Config,
    key: Key = None,
    framework: Framework = None,
    yes: Yes = False,
    *,
    within: options.Within,
    display: Display,
) -> None:
    """Write the threshold into a config file.

    Shows the change as a diff, and makes it with --yes; comments and order stay as they are.
    """
    with said_no():
        from clipcal.frameworks.applying import planning
        from clipcal.recommendation.evidence import load

        recommendation = load(source, within).recommend()
        if recommendation.max_norm is None:
            if display.json:
                print_json(_as_dict(config, None, recommendation, written=False))
                finish(yes=False)
            stop(f"no threshold to write: {recommendation.reasons[0]}", Exit.NO)
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
        if display.json:
            print_json(_as_dict(config, plan, recommendation, written=yes and not plan.unchanged))
            return
        from clipcal.cli.showing import present
        from clipcal.views.terminal import plainview
        from clipcal.views.terminal.console import note
        from clipcal.views.words import printable

        for warning in plan.warnings:
            note(f"warning: {printable(warning)}")
        present(
            display, lambda: plainview.changes(plan), lambda paper: map(_coloured, planning.diff(plan).splitlines())
        )
        if plan.unchanged:
            note(f"{config} says {plan.changes[0].key}: {plan.changes[0].after} already; nothing to write")
        elif yes:
            display.note(f"wrote {config}")
        else:
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
