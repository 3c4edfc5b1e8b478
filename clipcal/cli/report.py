"""``clipcal report``: a run or a log -> one HTML page to look at and to send."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from clipcal.cli.answering import print_json, said_no
from clipcal.cli.options import Force, Json, Pattern, Quiet, RunOrLog, Tag, WhichRun
from clipcal.logs.choice import LogChoice

PageFile = Annotated[
    Path | None,
    typer.Option("--out", "-o", help="The file.  [default: RUN/report.html; LOG.report.html]", show_default=False),
]


def report(
    source: RunOrLog,
    out: PageFile = None,
    tag: Tag = None,
    run: WhichRun = None,
    pattern: Pattern = None,
    json: Json = False,
    force: Force = False,
    quiet: Quiet = False,
) -> None:
    """Write one self-contained HTML page: the answer, the snippet, the pictures and the evidence.

    It asks nothing of any network, and can be sent as it is. Prints the file's path.
    """
    with said_no():
        from clipcal.views.html.writing import write_report

        path, view = write_report(source, out, LogChoice(tag=tag, run=run, pattern=pattern), force=force)
        if json:
            r = view.recommendation
            print_json({"schema": "clipcal.report/1", "path": str(path), "verdict": r.verdict, "max_norm": r.max_norm})
        else:
            print(path)
            if not quiet:
                print(f"wrote {path}: {path.stat().st_size / 1e6:.2f} MB, open it in any browser", file=sys.stderr)
